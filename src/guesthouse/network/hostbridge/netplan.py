"""netplan's YAML: see netplan's reference. The port's settings move to a bridge; comments and order stay."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from guesthouse.errors import OperationFailed
from guesthouse.network.hostbridge.systems import Files, Wish, Written, keeps_cloud_init_off, matches
from guesthouse.network.netlink import Link

_FOLDERS = ("etc/netplan", "run/netplan", "lib/netplan", "usr/lib/netplan")
# what describes the card itself, and stays with it
_OF_THE_CARD = {
    *("match", "set-name", "wakeonlan", "mtu", "emit-lldp", "optional", "receive-checksum-offload"),
    *("transmit-checksum-offload", "tcp-segmentation-offload", "tcp6-segmentation-offload"),
}
_ADDRESSING = {
    *("dhcp4", "dhcp6", "addresses", "gateway4", "gateway6", "routes", "nameservers", "dhcp4-overrides"),
    *("dhcp6-overrides", "accept-ra", "dhcp-identifier"),
}


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    return yaml


def _load(file: Path) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml().load(file.read_text()) or {}
    except YAMLError as error:
        raise OperationFailed(f"{file} is no YAML: {error}") from error


def _entry(document: Any, port: Link) -> str | None:
    """The key under ethernets (or bonds, vlans) that the port is configured by."""
    network = document.get("network") or {}
    for kind in ("ethernets", "bonds", "vlans"):
        for name, entry in (network.get(kind) or {}).items():
            match = (entry or {}).get("match")
            if match is None and name == port.name:
                return f"{kind} {name}"
            if match is not None:
                by_mac = str(match.get("macaddress", "")).lower() == port.mac
                if by_mac or (match.get("name") and matches(str(match["name"]), port.name)):
                    return f"{kind} {name}"
    return None


def _home(root: Path, port: Link) -> tuple[Path, str] | None:
    """The last file that has the port (later ones win), and its key there."""
    files: dict[str, Path] = {}
    for folder in reversed(_FOLDERS):
        files |= {file.name: file for file in (root / folder).glob("*.yaml")}
    for name in sorted(files, reverse=True):
        if (key := _entry(_load(files[name]), port)) is not None:
            return files[name], key
    return None


def rules(root: Path, port: Link) -> bool:
    """Whether a file of netplan's has the port."""
    return _home(root, port) is not None


def write(root: Path, bridge: str, port: Link, wish: Wish, stp: bool) -> Written:
    home = _home(root, port)
    assert home is not None
    file, key = home
    kind, name = key.split()
    document = _load(file)
    network = document["network"]
    entry = network[kind][name] or {}
    made: dict[str, Any] = {"interfaces": [name], "macaddress": port.mac}
    for word in [word for word in entry if word not in _OF_THE_CARD]:
        value = entry.pop(word)
        if wish.keep or word not in _ADDRESSING:
            made[word] = value
    if not wish.keep:
        made |= _addresses(wish)
    made["parameters"] = {"stp": stp} | ({} if stp else {"forward-delay": 0})
    # an entry without a word would be none
    if not entry:
        entry["dhcp4"] = False
    network[kind][name] = entry
    network.setdefault("bridges", {})[bridge] = made
    out = io.StringIO()
    _yaml().dump(document, out)
    files: Files = {root / "etc/netplan" / file.name: out.getvalue()}
    extra, notes = keeps_cloud_init_off(root, files)
    reload = "nmcli connection reload" if network.get("renderer") == "NetworkManager" else "networkctl reload"
    return Written(files | extra, [["netplan", "generate"], reload.split()], notes)


def _addresses(wish: Wish) -> dict[str, Any]:
    if wish.dhcp:
        return {"dhcp4": True}
    found: dict[str, Any] = {"addresses": list(wish.addresses)}
    if wish.gateways:
        found["routes"] = [{"to": "default", "via": text} for text in wish.gateways]
    if wish.dns:
        found["nameservers"] = {"addresses": list(wish.dns)}
    return found
