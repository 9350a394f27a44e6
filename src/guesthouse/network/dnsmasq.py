"""DHCP and DNS for a virtual network: one dnsmasq for each, which outlives the daemon.

The configuration is what libvirt 9.0 gives its dnsmasq, but for the leases, which dnsmasq keeps in its own file here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, Domain, InternalError, SystemFailure
from guesthouse.model.network import Dhcp, DhcpHost, Dns, DnsSrv, Ip, Lease, Network

_END_TIMEOUT = 5.0


@dataclass(frozen=True)
class Files:
    """Where the files of one network's dnsmasq are."""

    conf: Path
    hosts: Path
    names: Path
    leases: Path
    pid: Path

    @classmethod
    def of(cls, state: Path, run: Path, network: Network) -> Files:
        """Below the folders ``state`` (kept) and ``run`` (gone at the host's boot)."""
        name = network.name
        return cls(
            conf=state / f"{name}.conf",
            hosts=state / f"{name}.hostsfile",
            names=state / f"{name}.addnhosts",
            leases=state / f"{name}.leases",
            pid=run / f"{name}.pid",
        )

    def remove(self, *, leases: bool) -> None:
        """Remove what there is; ``leases`` also forgets who had which address."""
        for path in (self.conf, self.hosts, self.names, self.pid, *([self.leases] if leases else [])):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class LeaseEntry:
    """One DHCP lease: ``expiry`` in seconds since 1970, 0 for ever; ``mac`` is None where unknown (DHCPv6)."""

    expiry: int
    mac: str | None
    iaid: str | None
    address: str
    hostname: str | None
    client_id: str | None


def _lease_time(lease: Lease | None) -> str:
    if lease is None or lease.expiry is None:
        return ""
    return ",infinite" if not lease.expiry else f",{lease.expiry}{(lease.unit or 'minutes')[0]}"


def _forwarders(dns: Dns) -> list[str]:
    lines, resolves_all = [], False
    for forwarder in dns.forwarders:
        scope = f"/{forwarder.domain}/" if forwarder.domain else ""
        lines.append(f"server={scope}{forwarder.addr or '#'}")
        resolves_all |= bool(forwarder.addr and not forwarder.domain)
    return [*lines, "no-resolv"] if resolves_all else lines


def _local_pointers(network: Network) -> list[str]:
    lines = []
    for ip in network.ips:
        if ip.local_ptr is not True:
            continue
        subnet = ip.interface.network
        step = 8 if ip.version == 4 else 4
        if subnet.prefixlen % step or not subnet.prefixlen or subnet.prefixlen == subnet.max_prefixlen:
            raise ConfigUnsupported(
                f"PTR domain for IPv{ip.version} network with prefix {subnet.prefixlen} "
                "cannot be automatically created",
                domain=Domain.NETWORK,
            )
        labels = subnet.network_address.reverse_pointer.split(".")
        lines.append(f"local=/{'.'.join(labels[(subnet.max_prefixlen - subnet.prefixlen) // step :])}/")
    return lines


def _service(record: DnsSrv) -> str:
    line = f"srv-host=_{record.service}._{record.protocol}"
    if record.domain:
        line += f".{record.domain}"
    if record.target and record.target != ".":
        fields = [record.target]
        if record.port or record.priority or record.weight:
            fields.append(str(record.port or 1))
        if record.priority or record.weight:
            fields.append(str(record.priority or 0))
        if record.weight:
            fields.append(str(record.weight))
        line += "," + ",".join(fields)
    return line


def _range_size(start: str, end: str) -> int:
    return int(ipaddress.ip_address(end)) - int(ipaddress.ip_address(start)) + 1


def _dhcp(ip: Ip, dhcp: Dhcp) -> tuple[list[str], int]:
    lines, leases = [], 0
    subnet = ip.interface.network
    size = str(subnet.netmask) if ip.version == 4 else str(subnet.prefixlen)
    for span in dhcp.ranges:
        lines.append(f"dhcp-range={span.start},{span.end},{size}{_lease_time(span.lease)}")
        leases += _range_size(span.start or "", span.end or "")
    if not dhcp.ranges and dhcp.hosts:
        lines.append(f"dhcp-range={ip.address},static" + ("" if ip.version == 4 else f",{size}"))
    if ip.version == 4:
        lines += ["dhcp-no-override", "dhcp-authoritative"]
        if dhcp.bootp and dhcp.bootp.file:
            server = f",,{dhcp.bootp.server}" if dhcp.bootp.server else ""
            lines.append(f"dhcp-boot={dhcp.bootp.file}{server}")
    return lines, leases


def configuration(network: Network, files: Files) -> str:
    """The configuration file. Raises ConfigUnsupported for a reverse domain that cannot be made."""
    dns = network.dns or Dns()
    lines = [
        f"# Made by guesthouse for the network '{network.name}' whenever it starts; change it by: "
        f"virsh net-edit {network.name}",
        "strict-order",
    ]
    if not network.dns_enabled:
        lines.append("port=0")
    else:
        lines += _forwarders(dns)
    if network.domain and network.domain.name:
        if network.domain.local_only:
            lines.append(f"local=/{network.domain.name}/")
        lines += [f"domain={network.domain.name}", "expand-hosts"]
    if network.dns_enabled:
        lines += _local_pointers(network)
        if dns.forward_plain_names is False:
            lines += ["domain-needed", "local=//"]
    lines += [f"pid-file={files.pid}", "except-interface=lo", "bind-dynamic", f"interface={network.bridge_name}"]
    if network.mode == "":
        # no default route that leads nowhere, and no way out through the host's resolver
        lines += ["dhcp-option=3", "no-resolv", "ra-param=*,0,0"]
    if network.dns_enabled:
        lines += [f"txt-record={record.name},{record.value}" for record in dns.txts]
        lines += [_service(record) for record in dns.srvs]
    lines += _addresses(network, files)
    lines += network.dnsmasq_options
    return "\n".join(lines) + "\n"


def _addresses(network: Network, files: Files) -> list[str]:
    roots = [ip.tftp.root for ip in network.ips_of(4) if ip.tftp and ip.tftp.root]
    lines = ["enable-tftp"] if roots else []
    lines += [f"tftp-root={root}" for root in roots]
    leases, families = 0, set()
    for ip in [*network.ips_of(4), *network.ips_of(6)]:
        if ip.dhcp is not None and ip.serves_dhcp:
            more, count = _dhcp(ip, ip.dhcp)
            lines += more
            leases += count
            families.add(ip.version)
    if leases:
        lines.append(f"dhcp-lease-max={leases}")
    if families:
        lines += [f"dhcp-hostsfile={files.hosts}", f"dhcp-leasefile={files.leases}"]
    if network.dns_enabled:
        lines.append(f"addn-hosts={files.names}")
    if network.mtu and network.mtu.size:
        lines.append(f"dhcp-option=option:mtu,{network.mtu.size}")
    if 6 in families:
        lines.append("enable-ra")
    else:
        lines += [f"dhcp-range={ip.address},ra-only" for ip in network.ips_of(6)]
    return lines


def _fixed_address(host: DhcpHost, version: int) -> str:
    if version == 6:
        who = ",".join(part for part in (f"id:{host.id}" if host.id else "", host.name or "") if part)
        return f"{who},[{host.ip}]{_lease_time(host.lease)}"
    parts = [host.mac, host.ip, host.name] if host.mac else [host.name, host.ip]
    return ",".join(part for part in parts if part) + _lease_time(host.lease)


def hosts_file(network: Network) -> str:
    """Fixed addresses, a line a host."""
    lines = [
        _fixed_address(host, ip.version)
        for ip in [*network.ips_of(4), *network.ips_of(6)]
        for host in (ip.dhcp.hosts if ip.dhcp else [])
    ]
    return "".join(f"{line}\n" for line in lines)


def names_file(network: Network) -> str:
    """Further DNS names, as in /etc/hosts. Names that share an address share its line."""
    by_address: dict[str, list[str]] = {}
    for host in network.dns.hosts if network.dns else []:
        by_address.setdefault(host.ip or "", []).extend(h.name for h in host.hostnames if h.name)
    return "".join(
        f"{address}\t" + "".join(f"{name}\t" for name in names) + "\n" for address, names in by_address.items()
    )


def write_files(network: Network, files: Files) -> None:
    """Write configuration and host files. Raises SystemFailure."""
    for path, text in (
        (files.conf, configuration(network, files)),
        (files.hosts, hosts_file(network)),
        (files.names, names_file(network)),
    ):
        try:
            # dnsmasq rereads the host files after it gave its rights up
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
        except OSError as error:
            raise SystemFailure.from_os(error, f"couldn't write dnsmasq config file '{path}'") from error


def start(network: Network, files: Files) -> tuple[int, int]:
    """Start dnsmasq as a daemon of its own; returns its pid and start time (see :func:`start_time`).

    dnsmasq binds its ports as root and goes on as an unprivileged user. Raises InternalError with its last words;
    then none runs.
    """
    write_files(network, files)
    files.pid.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    argv = ["dnsmasq", f"--conf-file={files.conf}"]
    try:
        # files, not pipes: the daemon would hold a pipe open and this would wait for ever
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        text = "Cannot find 'dnsmasq' in path: install the package dnsmasq-base"
        raise InternalError(text, domain=Domain.NETWORK) from error
    if done.returncode:
        words = done.stderr.strip()
        if "Address already in use" in words:
            words += (
                "; another DNS or DHCP server of this host listens on all addresses: give it 'bind-dynamic' (dnsmasq) "
                "or keep it off the bridge; 'guest doctor' names it"
            )
        text = f"Child process ({' '.join(argv)}) unexpected exit status {done.returncode}: {words}"
        raise InternalError(text, domain=Domain.NETWORK)
    pid = running_pid(files)
    began = start_time(pid) if pid else None
    if pid is None or began is None:
        raise InternalError(f"dnsmasq of network '{network.name}' ended at once", domain=Domain.NETWORK)
    return pid, began


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since the host's boot; with the pid it names a process for good.
    None where there is none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def running_pid(files: Files) -> int | None:
    """The pid of the dnsmasq that runs with this configuration file, or None. A pid file left behind does not fool
    it: the process must have the file on its command line."""
    try:
        pid = int(files.pid.read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--conf-file={files.conf}".encode() in argv else None


def is_running(pid: int, began: int) -> bool:
    return start_time(pid) == began


def stop(pid: int, began: int) -> None:
    """End that very process and wait until it is gone; one that has gone is fine."""
    deadline = time.monotonic() + _END_TIMEOUT
    sig = signal.SIGTERM
    while is_running(pid, began):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)
        if time.monotonic() > deadline:
            sig = signal.SIGKILL
        time.sleep(0.005)


def reload(pid: int, began: int) -> None:
    """Have dnsmasq read the host files again."""
    if is_running(pid, began):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


def read_leases(path: Path) -> list[LeaseEntry]:
    """The leases in dnsmasq's file, expired ones left out. No file, no leases. Raises SystemFailure where it cannot
    be read."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to read leases file: {path}") from error
    now, found = time.time(), []
    for line in text.splitlines():
        fields = line.split()
        # "duid ..." is the server's own identifier
        if len(fields) < 5 or not fields[0].isdigit():
            continue
        expiry, who, address, hostname, client = int(fields[0]), *fields[1:5]
        if expiry and expiry < now:
            continue
        v6 = ":" in address
        # a hardware type other than Ethernet stands before the address: 06-aa:bb:...
        mac = None if v6 else who.rpartition("-")[2]
        found.append(
            LeaseEntry(
                expiry=expiry,
                mac=mac,
                iaid=who.lstrip("T") if v6 else None,
                address=address,
                hostname=None if hostname == "*" else hostname,
                client_id=None if client == "*" else client,
            )
        )
    return found
