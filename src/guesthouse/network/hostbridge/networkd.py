"""systemd-networkd: see systemd.network(5). The port's own file stays as it is; ours are read before it."""

from __future__ import annotations

from pathlib import Path

from guesthouse.network.hostbridge.systems import Wish, Written, matches
from guesthouse.network.netlink import Link

_FOLDERS = ("etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network", "lib/systemd/network")
_FIRST = "05-guesthouse"
# what gives addresses and routes, and so is replaced where others are wished for
_SECTIONS = ("Address", "Route", "DHCPv4", "DHCPv6", "IPv6AcceptRA")
_KEYS = ("Address", "Gateway", "DHCP", "DNS")

# (section, lines)
Sections = list[tuple[str, list[str]]]


def _sections(text: str) -> Sections:
    found: Sections = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            found.append((stripped[1:-1], []))
        elif stripped and not stripped.startswith(("#", ";")) and found:
            found[-1][1].append(stripped)
    return found


def _value(sections: Sections, section: str, key: str) -> str:
    values = [line.partition("=") for name, lines in sections if name == section for line in lines]
    return " ".join(value.strip() for name, _, value in values if name.strip() == key)


def _home(root: Path, port: Link) -> Sections | None:
    """The first .network file, by its name, that matches the port."""
    files: dict[str, Path] = {}
    for folder in _FOLDERS:
        for file in (root / folder).glob("*.network"):
            files.setdefault(file.name, file)
    for name in sorted(files):
        sections = _sections(files[name].read_text())
        macs = _value(sections, "Match", "MACAddress").lower().split()
        names = _value(sections, "Match", "Name")
        if (names and matches(names, port.name)) or port.mac in macs:
            return sections
    return None


def _runs(root: Path) -> bool:
    return (root / "run/systemd/netif").is_dir() or (
        root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    ).exists()


def rules(root: Path, port: Link) -> bool:
    """Whether networkd is in use and one of its files is for the port."""
    return _runs(root) and _home(root, port) is not None


def write(root: Path, bridge: str, port: Link, wish: Wish, stp: bool) -> Written:
    folder = root / "etc/systemd/network"
    device = ["[NetDev]", f"Name={bridge}", "Kind=bridge", f"MACAddress={port.mac}", "", "[Bridge]"]
    device += [f"STP={'yes' if stp else 'no'}", *([] if stp else ["ForwardDelaySec=0"])]
    owned = [(name, lines) for name, lines in _home(root, port) or [] if name not in ("Match", "Link")]
    if not wish.keep:
        owned = [(name, lines) for name, lines in owned if name not in _SECTIONS]
        owned = [
            (name, [line for line in lines if line.partition("=")[0].strip() not in _KEYS]) for name, lines in owned
        ]
        lines = ["DHCP=yes"] if wish.dhcp else [f"Address={text}" for text in wish.addresses]
        lines += [f"Gateway={text}" for text in wish.gateways] + [f"DNS={text}" for text in wish.dns]
        owned.append(("Network", lines))
    network = ["[Match]", f"Name={bridge}"]
    for name, lines in owned:
        network += ["", f"[{name}]", *lines]
    enslaved = ["[Match]", f"Name={port.name}", "", "[Network]", f"Bridge={bridge}", "LinkLocalAddressing=no"]
    files: dict[Path, str | None] = {
        folder / f"{_FIRST}-{bridge}.netdev": "\n".join(device) + "\n",
        folder / f"{_FIRST}-{bridge}.network": "\n".join(network) + "\n",
        folder / f"{_FIRST}-{bridge}-{port.name}.network": "\n".join(enslaved) + "\n",
    }
    return Written(files, [["networkctl", "reload"]])
