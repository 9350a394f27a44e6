"""What on a host lets guests run, and what keeps them from it: the findings of ``guest doctor``.

Each check is a function of a :class:`Host`, which shows it a machine: files below a root folder, and a few questions
that no file answers. Tests show it machines that do not exist.
"""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guesthouse.host import kvm
from guesthouse.host.cgroups import Hierarchies

OK, WARN, FAIL = "ok", "warn", "fail"

#: QEMU takes devices as JSON, which is how guests are described to it, since this version.
OLDEST_QEMU = (6, 2)
IMAGES = Path("/var/lib/guesthouse/images")
SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/guesthouse/libvirt-sock"))
_LIMITS = {"cpu": "processor time", "memory": "memory", "blkio": "disk rates", "cpuset": "NUMA nodes"}
_GIB = 1 << 30
_PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "usr/libexec")
_TCP_LISTEN, _UDP_OPEN = "0A", "07"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``mark``: OK, WARN (guests run, with a loss that ``text`` names) or FAIL (guests,
    or networks that they need, cannot run). ``remedy``: a command or an advice, "" where nothing is to be mended."""

    topic: str
    mark: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Host:
    """A machine as the user ``user`` sees it. ``groups`` are the group ids of the process; ``run`` gives what a command
    prints, None where it fails; ``listener`` the pid of who accepts connections on a Unix socket, 0 where nobody does,
    None where the user may not connect; ``free`` the bytes that a folder's file system has left."""

    root: Path
    user: str
    uid: int
    groups: frozenset[int]
    machine: str
    run: Callable[[Sequence[str]], str | None]
    kvm: Callable[[], kvm.KvmStatus]
    listener: Callable[[Path], int | None]
    free: Callable[[Path], int]

    @classmethod
    def here(cls) -> Host:
        """This machine, and the user of this process."""
        uid = os.geteuid()
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
        groups = frozenset({*os.getgroups(), os.getegid()})
        return cls(Path("/"), user, uid, groups, platform.machine(), _run, kvm.usable, _listener, _free)

    def at(self, path: str | Path) -> Path:
        return self.root / str(path).lstrip("/")

    def read(self, path: str | Path) -> str:
        """A file's text; "" where it is not there or may not be read."""
        try:
            return self.at(path).read_text(errors="replace")
        except OSError:
            return ""

    def exists(self, path: str | Path) -> bool:
        try:
            return self.at(path).exists()
        except OSError:
            return False

    def program(self, name: str) -> Path | None:
        """Where a program is, as seen from the root. Administrators' folders count, whatever the user's PATH."""
        for folder in _PROGRAM_FOLDERS:
            if os.access(self.root / folder / name, os.X_OK):
                return Path("/") / folder / name
        return None

    def group(self, name: str) -> tuple[int, list[str]] | None:
        """A group's number and who is named as a member; None where there is no such group."""
        entry = re.search(rf"^{name}:[^:]*:(\d+):(.*)$", self.read("/etc/group"), re.MULTILINE)
        return (int(entry[1]), [user for user in entry[2].strip().split(",") if user]) if entry else None

    def emulator(self) -> tuple[str, Path | None, str]:
        """QEMU for this machine's own processor: its name, where it is (None: not installed), Debian's package."""
        arch = {"i686": "i386", "arm64": "aarch64", "ppc64le": "ppc64"}.get(self.machine, self.machine)
        family = {"x86_64": "x86", "i386": "x86", "aarch64": "arm", "ppc64": "ppc"}.get(arch, "misc")
        name = f"qemu-system-{arch}"
        return name, self.program(name) or self.program("qemu-kvm"), f"qemu-system-{family}"

    def install(self, debian: str, fedora: str) -> str:
        """The command that installs a package here."""
        if self.program("apt-get"):
            return f"sudo apt-get install {debian}"
        if self.program("dnf"):
            return f"sudo dnf install {fedora}"
        return f"install the package {debian} (or {fedora})"


def findings(host: Host) -> Iterator[Finding]:
    """What all checks find, in the order in which one would mend it."""
    for check in CHECKS:
        yield from check(host)


# -- QEMU and the processor


def check_qemu(host: Host) -> Iterator[Finding]:
    name, program, package = host.emulator()
    remedy = host.install(package, "qemu-kvm")
    if program is None:
        yield Finding("QEMU", FAIL, f"{name} is not installed: no guest can run", remedy)
        return
    words = host.run([str(program), "--version"]) or ""
    match = re.search(r"version (\d+)\.(\d+)(\.\d+)?", words)
    if match is None:
        yield Finding("QEMU", FAIL, f"{program} does not start", f"{program} --version shows why; {remedy}")
        return
    version = f"{match[1]}.{match[2]}{match[3] or ''}"
    if (int(match[1]), int(match[2])) < OLDEST_QEMU:
        oldest = ".".join(map(str, OLDEST_QEMU))
        yield Finding("QEMU", FAIL, f"{program} is version {version}; {oldest} or newer is needed", remedy)
    else:
        yield Finding("QEMU", OK, f"version {version} ({program})")


def check_qemu_img(host: Host) -> Iterator[Finding]:
    if program := host.program("qemu-img"):
        yield Finding("qemu-img", OK, f"{program}")
    else:
        yield Finding(
            "qemu-img",
            FAIL,
            "qemu-img is not installed: no disk image can be made",
            host.install("qemu-utils", "qemu-img"),
        )


def check_cpu(host: Host) -> Iterator[Finding]:
    flags = re.search(r"^flags\s*:(.*)$", host.read("/proc/cpuinfo"), re.MULTILINE)
    if flags is None:
        return  # not an x86 processor: /dev/kvm alone tells
    words = flags[1].split()
    kind, module = ("VT-x", "kvm_intel") if "vmx" in words else ("AMD-V", "kvm_amd") if "svm" in words else ("", "")
    if not kind and "hypervisor" in words:
        yield Finding(
            "processor",
            WARN,
            "this machine is a guest itself, and its host gives it no virtualization",
            "switch on nested virtualization at its host, and give it the CPU mode host-passthrough",
        )
    elif not kind:
        yield Finding(
            "processor",
            WARN,
            "the processor shows neither VT-x nor AMD-V",
            "switch on virtualization (VT-x, AMD-V or SVM) in the firmware's setup",
        )
    elif not host.exists(f"/sys/module/{module}") and not host.exists("/dev/kvm"):
        yield Finding(
            "processor", WARN, f"it has {kind}, but the module {module} is not loaded", f"sudo modprobe {module}"
        )
    else:
        yield Finding("processor", OK, f"it has {kind}")


def check_kvm(host: Host) -> Iterator[Finding]:
    status = host.kvm()
    if status.usable:
        yield Finding("KVM", OK, status.reason)
    else:
        text = f"{status.reason}; guests run on QEMU's emulator, many times slower"
        yield Finding("KVM", WARN, text, status.remedy)


def check_nested(host: Host) -> Iterator[Finding]:
    for module in ("kvm_intel", "kvm_amd"):
        value = host.read(f"/sys/module/{module}/parameters/nested").strip()
        if value in ("Y", "1"):
            yield Finding("nested guests", OK, f"{module} lets guests run guests of their own")
        elif value:
            yield Finding(
                "nested guests",
                OK,
                f"{module} does not let guests run guests of their own (few need it)",
                f"echo 'options {module} nested=1' | sudo tee /etc/modprobe.d/nested.conf, then load {module} again",
            )


# -- the user


def check_kvm_group(host: Host) -> Iterator[Finding]:
    yield from _check_group(host, "kvm", "/dev/kvm cannot be used in qemu:///session")


def check_libvirt_group(host: Host) -> Iterator[Finding]:
    yield from _check_group(host, "libvirt", "qemu:///system can be used by root alone")


def _check_group(host: Host, name: str, loss: str) -> Iterator[Finding]:
    topic = f"group {name}"
    entry = host.group(name)
    if host.uid == 0:
        if entry:
            yield Finding(topic, OK, "it exists; you are root and need not be in it")
        else:
            yield Finding(topic, WARN, "there is no such group", f"groupadd --system {name}")
    elif entry is None:
        make = f"sudo groupadd --system {name} && sudo usermod -aG {name} {host.user}, then log in again"
        yield Finding(topic, WARN, f"there is no such group: {loss}", make)
    elif entry[0] in host.groups:
        yield Finding(topic, OK, f"{host.user} is in it")
    elif host.user in entry[1]:
        yield Finding(
            topic,
            WARN,
            f"{host.user} is in it, but not since this login: {loss}",
            f"log in again (or newgrp {name})",
        )
    else:
        yield Finding(
            topic,
            WARN,
            f"{host.user} is not in it: {loss}",
            f"sudo usermod -aG {name} {host.user}, then log in again",
        )


# -- the daemon


def check_daemon(host: Host) -> Iterator[Finding]:
    found = False
    for path in SOCKETS:
        pid = host.listener(path)
        if pid is None:
            found = True
            yield Finding(
                "daemon",
                WARN,
                f"{path} is not open to {host.user}",
                f"sudo usermod -aG libvirt {host.user}, then log in again; or use qemu:///session",
            )
        elif pid:
            found = True
            yield Finding("daemon", OK, f"{_program(host, pid)} (pid {pid}, {_manager(host, pid)}) answers on {path}")
    if not found and host.uid == 0:
        yield Finding("daemon", OK, "none runs for qemu:///system; the first command starts guesthoused")
    elif not found:
        yield Finding(
            "daemon",
            WARN,
            "none runs for qemu:///system",
            "start guesthoused as root, or use qemu:///session, whose daemon starts by itself",
        )


def _program(host: Host, pid: int) -> str:
    words = host.read(f"/proc/{pid}/cmdline").split("\0")
    names = [word.rpartition("/")[2] for word in words[:2]]
    for name in ("guesthoused", "libvirtd", "virtqemud", "virtproxyd"):
        if name in names:
            return name
    return host.read(f"/proc/{pid}/comm").strip() or "a process"


def _manager(host: Host, pid: int) -> str:
    unit = re.search(r"([^/\s]+\.service)\s*$", host.read(f"/proc/{pid}/cgroup"), re.MULTILINE)
    if pid == 1:
        return "systemd, which starts the daemon when somebody connects"
    return f"managed by systemd as {unit[1]}" if unit else "started by hand or by a client"


# -- networks


def check_tun(host: Host) -> Iterator[Finding]:
    if host.exists("/dev/net/tun"):
        yield Finding("tun", OK, "/dev/net/tun is there")
    else:
        yield Finding(
            "tun",
            FAIL,
            "/dev/net/tun is missing: no guest can be plugged into a network or a bridge",
            "sudo modprobe tun (a container needs --device /dev/net/tun)",
        )


def check_dnsmasq(host: Host) -> Iterator[Finding]:
    if program := host.program("dnsmasq"):
        yield Finding("dnsmasq", OK, f"{program}")
    else:
        yield Finding(
            "dnsmasq",
            FAIL,
            "dnsmasq is not installed: virtual networks have neither DHCP nor DNS and do not start",
            host.install("dnsmasq-base", "dnsmasq"),
        )


def check_port_53(host: Host) -> Iterator[Finding]:
    """Who holds port 53 on every address keeps each network's dnsmasq from its own; 127.0.0.53 and the like do not."""
    for table, state in (("udp", _UDP_OPEN), ("tcp", _TCP_LISTEN), ("udp6", _UDP_OPEN), ("tcp6", _TCP_LISTEN)):
        for line in host.read(f"/proc/net/{table}").splitlines()[1:]:
            words = line.split()
            if len(words) < 10 or words[3] != state:
                continue
            address, _, port = words[1].partition(":")
            if port == "0035" and not address.strip("0"):
                owner = _socket_owner(host, words[9])
                yield Finding(
                    "port 53",
                    FAIL,
                    f"{owner or 'another program'} serves DNS on every address ({table}), so that networks do not start",
                    "let it keep to its own addresses: bind-dynamic (dnsmasq), listen-on (named), interface (unbound)",
                )
                return
    yield Finding("port 53", OK, "free for the networks' DNS")


def _socket_owner(host: Host, inode: str) -> str:
    for folder in host.at("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) == f"socket:[{inode}]" for fd in (folder / "fd").iterdir()):
                return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
    return ""


def check_nft(host: Host) -> Iterator[Finding]:
    if program := host.program("nft"):
        yield Finding("nftables", OK, f"{program}")
    else:
        yield Finding(
            "nftables", FAIL, "nft is not installed: NAT networks do not start", host.install("nftables", "nftables")
        )


def check_forwarding(host: Host) -> Iterator[Finding]:
    if host.read("/proc/sys/net/ipv4/ip_forward").strip() == "1":
        yield Finding("IP forwarding", OK, "on")
    elif _is_readonly(host, "/proc/sys"):
        yield Finding(
            "IP forwarding",
            FAIL,
            "off, and /proc/sys is read-only here (a container?): NAT networks do not start",
            "sysctl -w net.ipv4.ip_forward=1 where this container was started",
        )
    else:
        yield Finding("IP forwarding", OK, "off; the daemon switches it on with the first NAT network")


def _is_readonly(host: Host, path: str) -> bool:
    """Whether ``path`` lies on a file system that is mounted read-only."""
    best, readonly = "", False
    for line in host.read("/proc/mounts").splitlines():
        words = line.split()
        if len(words) < 4 or len(words[1]) < len(best):
            continue
        if path == words[1] or path.startswith(words[1].rstrip("/") + "/"):
            best, readonly = words[1], "ro" in words[3].split(",")
    return readonly


def check_forward_policy(host: Host) -> Iterator[Finding]:
    """Docker and some firewalls drop what is forwarded, which no other table's rule can make up for; br_netfilter
    sends the frames of host bridges through the same rules."""
    rules, command = _forward_rules(host)
    bridged = host.read("/proc/sys/net/bridge/bridge-nf-call-iptables").strip() == "1"
    docker = host.exists("/sys/class/net/docker0")
    drops = re.search(r"policy drop|-P FORWARD DROP", rules) is not None
    if rules and (not drops or "virbr" in rules):
        yield Finding("firewall", OK, "it lets guests' packets through")
    elif not rules and not docker:
        yield Finding("firewall", OK, "nothing seems to drop forwarded packets" + _unless_root(host))
    else:
        who = " (Docker sets this)" if docker else ""
        what = f"it drops forwarded packets{who}" if rules else "Docker is here, which drops forwarded packets"
        lost = "guests on NAT networks reach nothing outside"
        if bridged:
            lost += ", and those on host bridges neither (br_netfilter is on)"
            command += "; sudo sysctl -w net.bridge.bridge-nf-call-iptables=0"
        yield Finding("firewall", WARN, f"{what}: {lost}", command)
    yield from _other_chains(host)


def _other_chains(host: Host) -> Iterator[Finding]:
    """What drops forwarded packets beside iptables' chain: a drop of any table's is the last word."""
    program = host.program("nft")
    for family, table, chain, policy in _forward_chains(
        host.run([str(program), "list", "chains"]) if program else None
    ):
        where = f"{family} {table} {chain}"
        if where == "ip filter FORWARD" or table == "guesthouse":
            continue
        rules = host.run([str(program), "list", "chain", family, table, chain]) or ""
        if table == "firewalld":
            if "reject" in rules and "virbr" not in (host.run([str(program), "list", "table", family, table]) or ""):
                yield Finding(
                    "firewall",
                    WARN,
                    "firewalld rejects forwarded packets: guests on NAT networks reach nothing outside",
                    "sudo firewall-cmd --permanent --zone=trusted --add-interface=virbr0; sudo firewall-cmd --reload",
                )
        elif policy == "drop" and "virbr" not in rules:
            yield Finding(
                "firewall",
                WARN,
                f"the chain '{where}' drops forwarded packets: guests on NAT networks reach nothing outside",
                f"for way in iifname oifname; do sudo nft insert rule {where} $way 'virbr*' accept; done",
            )


def _forward_chains(text: str | None) -> Iterator[tuple[str, str, str, str]]:
    """Family, table, name and policy of the chains that forwarded packets go through, from nft's list of chains."""
    family = table = chain = ""
    for line in (text or "").splitlines():
        words = line.split()
        if words[:1] == ["table"] and len(words) > 2:
            family, table = words[1:3]
        elif words[:1] == ["chain"] and len(words) > 1:
            chain = words[1]
        elif " hook forward " in line and family in ("ip", "ip6", "inet"):
            yield family, table, chain, "drop" if "policy drop" in line else "accept"


def _forward_rules(host: Host) -> tuple[str, str]:
    """The rules for what is forwarded, "" where there are none or one may not look; and what lets guests' through."""
    if "filter" in host.read("/proc/net/ip_tables_names").split() and (program := host.program("iptables-legacy")):
        command = "for way in -i -o; do sudo iptables-legacy -I FORWARD $way virbr+ -j ACCEPT; done"
        return host.run([str(program), "-S", "FORWARD"]) or "", command
    # not iptables' other kind, which makes the tables that it is asked for
    program = host.program("nft")
    rules = host.run([str(program), "list", "chain", "ip", "filter", "FORWARD"]) if program else None
    command = "for way in iifname oifname; do sudo nft insert rule ip filter FORWARD $way 'virbr*' accept; done"
    return rules or "", command


def _unless_root(host: Host) -> str:
    return "" if host.uid == 0 else " (as root one could look at the rules)"


# -- the rest


def check_space(host: Host) -> Iterator[Finding]:
    folder = host.at(IMAGES)
    while not host.exists(folder.relative_to(host.root)):
        folder = folder.parent
    free = host.free(folder)
    text = f"{free / _GIB:.1f} GiB free for {IMAGES}"
    remedy = f"make room there, or mount another disk on {IMAGES}"
    if free < _GIB:
        yield Finding("disk space", FAIL, text, remedy)
    elif free < 10 * _GIB:
        yield Finding("disk space", WARN, f"{text}, which few guests fit in", remedy)
    else:
        yield Finding("disk space", OK, text)


def check_osinfo(host: Host) -> Iterator[Finding]:
    for folder in ("/usr/share/osinfo/os", "/usr/local/share/osinfo/os", "/etc/osinfo/os"):
        if host.exists(folder):
            yield Finding("osinfo-db", OK, folder)
            return
    yield Finding(
        "osinfo-db",
        WARN,
        "not installed: virt-install knows no operating systems (--os-variant)",
        host.install("osinfo-db", "osinfo-db"),
    )


def check_cgroups(host: Host) -> Iterator[Finding]:
    """Guests run without groups; what is asked of those is refused when a guest starts."""
    found = Hierarchies.find(str(host.root).rstrip("/"), anybody=True)
    lost = [what for name, what in _LIMITS.items() if name not in found.controllers]
    versions = " and ".join(f"version {number}" for number in sorted({tree.version for tree in found.groups}))
    if not lost:
        yield Finding(
            "cgroups", OK, f"{versions}: guests are held to processor time, memory, disk rates and NUMA nodes"
        )
        return
    text = f"{versions or 'none that the daemon may use'}: guests cannot be held to {', '.join(lost)}"
    remedy = "boot without cgroup_disable; in a container, hand the controllers down to it"
    if (host.run(["systemctl", "is-active", "guesthouse-machines.service"]) or "").strip() == "active":
        remedy = "boot with cgroup_no_v1=all: other tools hold the controllers in hierarchies of version 1"
    elif not found.groups and host.exists("/run/systemd/system"):
        remedy = "sudo systemctl enable --now guesthouse-machines.service"
    elif not found.groups:
        remedy = "sudo mount -t cgroup2 none /sys/fs/cgroup"
    yield Finding("cgroups", WARN, text, remedy)


CHECKS: tuple[Callable[[Host], Iterator[Finding]], ...] = (
    check_qemu,
    check_qemu_img,
    check_cpu,
    check_kvm,
    check_nested,
    check_kvm_group,
    check_libvirt_group,
    check_daemon,
    check_tun,
    check_dnsmasq,
    check_port_53,
    check_nft,
    check_forwarding,
    check_forward_policy,
    check_space,
    check_osinfo,
    check_cgroups,
)


# -- how this machine answers


def _run(argv: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=10, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _listener(path: Path) -> int | None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except PermissionError:
            return None
        except OSError:
            return 0
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0]) or 1


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
