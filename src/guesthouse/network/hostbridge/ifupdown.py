"""Debian's /etc/network/interfaces: see interfaces(5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from guesthouse.network.hostbridge.systems import Files, Wish, Written, keeps_cloud_init_off
from guesthouse.network.netlink import Link

_STARTS = ("iface", "mapping", "auto", "source", "source-directory", "rename", "no-auto-down", "no-scripts")


def _starts(line: str) -> bool:
    word = line.split()[0] if line.split() else ""
    return word in _STARTS or word.startswith("allow-")


def _files(root: Path) -> Iterator[Path]:
    """interfaces, and what it sources."""
    main = root / "etc/network/interfaces"
    if not main.is_file():
        return
    yield main
    for line in main.read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in ("source", "source-directory"):
            pattern = words[1] if words[1].startswith("/") else f"/etc/network/{words[1]}"
            pattern += "/*" if words[0] == "source-directory" else ""
            yield from sorted(found for found in root.glob(pattern.lstrip("/")) if found.is_file())


def rules(root: Path, port: Link) -> bool:
    """Whether a stanza "iface PORT" is there."""
    return _home(root, port.name) is not None


def _home(root: Path, name: str) -> Path | None:
    for file in _files(root):
        for line in file.read_text().splitlines():
            if line.split()[:2] == ["iface", name]:
                return file
    return None


def write(root: Path, bridge: str, port: Link, wish: Wish, stp: bool) -> Written:
    """The port's stanzas become the bridge's; the port itself is brought up without an address."""
    files: Files = {}
    for file in _files(root):
        text = file.read_text()
        changed = _changed(root, text, bridge, port, wish, stp)
        if changed != text:
            files[file] = changed
    extra, notes = keeps_cloud_init_off(root, files)
    commands = dhcp_moves(root, port.name, bridge, again=wish.dhcp or wish.keep)
    return Written(files | extra, commands, notes)


def dhcp_moves(root: Path, source: str, target: str, *, again: bool = True) -> list[list[str]]:
    """The commands that end the DHCP client of ``source``, which would look for its lease where none comes any more, and
    start one for ``target`` where it is wanted ``again``; none where no client runs."""
    pidfile = root / f"run/dhclient.{source}.pid"
    if not pidfile.exists():
        return []
    ending = ["dhclient", "-x", "-pf", str(pidfile), source]
    lease = f"/var/lib/dhcp/dhclient.{target}.leases"
    begun = ["dhclient", "-nw", "-pf", str(root / f"run/dhclient.{target}.pid"), "-lf", lease, target]
    return [ending, begun] if again else [ending]


def _changed(root: Path, text: str, bridge: str, port: Link, wish: Wish, stp: bool) -> str:
    out: list[str] = []
    first, inside, manual = True, False, False
    for line in text.splitlines():
        words = line.split()
        if _starts(line):
            inside = words[0] == "iface" and words[1:2] == [port.name]
            if words[0] == "auto" or words[0].startswith("allow-"):
                # hot-plugged or not, a bridge is there from the start
                names = [name for name in words[1:] if name != port.name]
                if len(names) != len(words) - 1:
                    line = f"auto {bridge}" + (f"\n{words[0]} {' '.join(names)}" if names else "")
            elif inside:
                if not manual:
                    out.append(f"iface {port.name} inet manual\n")
                    manual = True
                if wish.keep:
                    out.append(f"iface {bridge} {' '.join(words[2:])}")
                    out += _ports(root, bridge, port, stp) if first else []
                elif first:
                    out += _stanzas(root, bridge, port, wish, stp)
                first = False
                continue
        elif inside and not wish.keep and words and not line.startswith("#"):
            continue
        out.append(line)
    return "\n".join(out) + "\n"


def _ports(root: Path, bridge: str, port: Link, stp: bool) -> list[str]:
    """The options that make it a bridge: bridge-utils' own where it is installed, iproute2's commands elsewhere."""
    if (root / "lib/bridge-utils").is_dir() or (root / "usr/lib/bridge-utils").is_dir():
        lines = [f"bridge_ports {port.name}", f"bridge_stp {'on' if stp else 'off'}", f"bridge_hw {port.mac}"]
        return [f"    {line}" for line in [*lines, *([] if stp else ["bridge_fd 0"])]]
    delay, on = (1500, 1) if stp else (0, 0)
    made = f"link add name {bridge} address {port.mac} type bridge stp_state {on} forward_delay {delay}"
    return [
        f"    pre-up ip link show {bridge} >/dev/null 2>&1 || ip {made}",
        f"    pre-up ip link set {port.name} up master {bridge}",
        f"    post-down ip link del {bridge}",
    ]


def _stanzas(root: Path, bridge: str, port: Link, wish: Wish, stp: bool) -> list[str]:
    """Stanzas of the bridge for addresses that are not the port's."""
    if wish.dhcp:
        return [f"iface {bridge} inet dhcp", *_ports(root, bridge, port, stp), ""]
    out: list[str] = []
    gateways = {ipaddress.ip_address(text).version: text for text in wish.gateways}
    for text in wish.addresses:
        version = ipaddress.ip_interface(text).version
        out += [f"iface {bridge} {'inet' if version == 4 else 'inet6'} static"]
        if len(out) == 1:
            out += _ports(root, bridge, port, stp)
            out += [f"    dns-nameservers {' '.join(wish.dns)}"] if wish.dns else []
        out += [f"    address {text}"]
        if gateway := gateways.pop(version, None):
            out += [f"    gateway {gateway}"]
        out += [""]
    return out
