"""NetworkManager's keyfiles: see nm-settings-keyfile(5)."""

from __future__ import annotations

import configparser
import io
import ipaddress
import uuid
from pathlib import Path

from guesthouse.network.hostbridge.systems import Wish, Written
from guesthouse.network.netlink import Link

_FOLDERS = ("etc/NetworkManager/system-connections", "run/NetworkManager/system-connections")


def _read(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return parsed


def _text(parsed: configparser.ConfigParser) -> str:
    out = io.StringIO()
    parsed.write(out, space_around_delimiters=False)
    return out.getvalue().rstrip("\n") + "\n"


def _manages(root: Path, port: Link) -> bool:
    """NetworkManager's own note about the device, which is there while it runs."""
    note = root / f"run/NetworkManager/devices/{port.index}"
    if not note.is_file():
        return False
    return _read(note.read_text()).get("device", "managed", fallback="false") in ("true", "1")


def _home(root: Path, port: Link) -> Path | None:
    """The connection that the device uses: the one that NetworkManager says, else one that names the device."""
    note = root / f"run/NetworkManager/devices/{port.index}"
    used = _read(note.read_text()).get("device", "connection-uuid", fallback="") if note.is_file() else ""
    found = [file for folder in _FOLDERS for file in sorted((root / folder).glob("*.nmconnection"))]
    for file in found:
        if used and _read(file.read_text()).get("connection", "uuid", fallback="") == used:
            return file
    for file in found:
        if _read(file.read_text()).get("connection", "interface-name", fallback="") == port.name:
            return file
    return None


def rules(root: Path, port: Link) -> bool:
    """Whether NetworkManager runs and manages the port by a connection that is a file."""
    return _manages(root, port) and _home(root, port) is not None


def write(root: Path, bridge: str, port: Link, wish: Wish, stp: bool) -> Written:
    """A connection for the bridge and one for the port; the port's own is not started by itself any more."""
    home = _home(root, port)
    assert home is not None
    old = _read(home.read_text())
    made = _read("")
    made["connection"] = {
        "id": bridge,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{bridge}.{port.mac}.guesthouse")),
        "type": "bridge",
        "interface-name": bridge,
        "autoconnect": "true",
    }
    made["bridge"] = {"mac-address": port.mac, "stp": "true" if stp else "false"}
    if not stp:
        made["bridge"]["forward-delay"] = "0"
    for family in (4, 6):
        section = f"ipv{family}"
        made[section] = dict(old[section]) if wish.keep and section in old else _addresses(family, wish)
    enslaved = _read("")
    enslaved["connection"] = {
        "id": f"{bridge}-{port.name}",
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{bridge}.{port.name}.{port.mac}.guesthouse")),
        "type": old.get("connection", "type", fallback="ethernet"),
        "interface-name": port.name,
        "master": bridge,
        "slave-type": "bridge",
        "autoconnect": "true",
    }
    if "ethernet" in old:
        enslaved["ethernet"] = dict(old["ethernet"])
    old["connection"]["autoconnect"] = "false"
    folder = root / _FOLDERS[0]
    files: dict[Path, str | None] = {
        folder / f"{bridge}.nmconnection": _text(made),
        folder / f"{bridge}-{port.name}.nmconnection": _text(enslaved),
        folder / home.name: _text(old),
    }
    up = [["nmcli", "connection", "up", "id", name] for name in (bridge, f"{bridge}-{port.name}")]
    return Written(files, [["nmcli", "connection", "reload"], *up])


def _addresses(family: int, wish: Wish) -> dict[str, str]:
    if wish.keep or wish.dhcp:
        return {"method": "auto"}
    mine = [text for text in wish.addresses if ipaddress.ip_interface(text).version == family]
    if not mine:
        return {"method": "disabled" if family == 4 else "auto"}
    found = {"method": "manual"} | {f"address{number}": text for number, text in enumerate(mine, 1)}
    for text in wish.gateways:
        if ipaddress.ip_address(text).version == family:
            found["gateway"] = text
    dns = [text for text in wish.dns if ipaddress.ip_address(text).version == family]
    return found | ({"dns": "".join(f"{text};" for text in dns)} if dns else {})
