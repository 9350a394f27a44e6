"""What making or removing a host bridge comes to, worked out and checked before anything is touched."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg, OperationFailed
from guesthouse.network.hostbridge import ifupdown, kernel
from guesthouse.network.hostbridge.kernel import Belongings
from guesthouse.network.hostbridge.systems import Files, Wish, Written, ruling

_NAME_MAX = 15


@dataclass
class Plan:
    """One change: ``kind`` is "create" or "delete".

    ``had`` is what the port has (create) or had (delete), ``has`` what the bridge gets or has; ``system`` is the one
    whose ``files`` (path -> [old text, new text], None where there is none) and ``commands`` make it last, '' for none.
    """

    kind: str
    bridge: str
    port: str
    mac: str
    stp: bool
    had: Belongings
    has: Belongings
    system: str = ""
    files: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        owned = {name: Belongings(**data[name]) for name in ("had", "has")}
        files = {path: (old, new) for path, (old, new) in data["files"].items()}
        return cls(**(data | owned | {"files": files}))

    def steps(self) -> list[str]:
        """What is done, a line each."""
        texts = ", ".join(self.has.texts()) or "no address"
        if self.kind == "create":
            done = [f"make bridge {self.bridge} ({self.mac}, STP {'on' if self.stp else 'off'})"]
            done += [f"make {self.port} a port of it", f"{texts}: to {self.bridge}"]
        else:
            texts = ", ".join(self.had.texts()) or "no address"
            done = [f"{texts}: to {self.port}", f"remove bridge {self.bridge}"]
        owner = self.has if self.kind == "create" else self.had
        done += [f"default route through {gateway}" for gateway in owner.gateways()]
        return done + [
            f"write {path}" if new is not None else f"remove {path}" for path, (_, new) in self.files.items()
        ]

    def diff(self) -> Iterator[str]:
        """The change of the files, as a unified diff."""
        for path, (old, new) in self.files.items():
            before, after = (old or "").splitlines(True), (new or "").splitlines(True)
            names = ("/dev/null" if old is None else path, "/dev/null" if new is None else path)
            yield from difflib.unified_diff(before, after, *names)


def _files(found: Files) -> dict[str, tuple[str | None, str | None]]:
    return {str(path): (path.read_text() if path.exists() else None, new) for path, new in found.items()}


def creation(name: str, port_name: str, wish: Wish, *, stp: bool, lasting: bool, root: Path = Path("/")) -> Plan:
    """How ``port_name`` becomes a port of the new bridge ``name``.

    Raises InvalidArg for names and addresses that are none, OperationFailed where it would not work, with the way out.
    """
    if (
        not name
        or len(name.encode()) > _NAME_MAX
        or "/" in name
        or any(c.isspace() for c in name)
        or name in (".", "..")
    ):
        raise InvalidArg(f"'{name}' cannot be the name of a bridge: 1 to {_NAME_MAX} characters, no '/' and no spaces")
    for text in wish.addresses:
        _check(text, ipaddress.ip_interface, "an address with its prefix length, such as 192.0.2.5/24")
        if "/" not in text:
            raise InvalidArg(f"'{text}' lacks its prefix length, such as {text}/24")
    for text in (*wish.gateways, *wish.dns):
        _check(text, ipaddress.ip_address, "an address")
    port = kernel.find(port_name)
    if port is None:
        others = ", ".join(link.name for link in kernel.links() if link.kind != "bridge" and link.name != "lo")
        raise OperationFailed(f"there is no network device {port_name}; there are: {others or 'none'}")
    if kernel.find(name) is not None:
        raise OperationFailed(f"a network device {name} exists already")
    if port.kind == "bridge" or port.name == "lo" or not port.mac:
        raise OperationFailed(f"{port.name} cannot be a port of a bridge")
    if port.master:
        masters = {link.index: link.name for link in kernel.links()}
        raise OperationFailed(f"{port.name} is a port of {masters.get(port.master, 'another device')} already")
    if any((Path("/sys/class/net") / port.name / what).exists() for what in ("wireless", "phy80211")):
        raise OperationFailed(
            f"{port.name} is a wireless card: access points drop frames of other senders, so guests behind it would not "
            f"be heard; use the network 'default' (NAT) for guests"
        )
    had = kernel.belongings(port)
    has = kernel.static(list(wish.addresses), list(wish.gateways)) if wish.addresses else had
    if not lasting:
        return Plan("create", name, port.name, port.mac, stp, had, has)
    system = ruling(root, port)
    written: Written = system.write(root, name, port, wish, stp)
    files = _files(written.files)
    return Plan("create", name, port.name, port.mac, stp, had, has, system.name, files, written.commands, written.notes)


def removal(created: Plan, *, force: bool) -> Plan:
    """How the bridge of ``created`` goes away and the port gets back what the bridge has.

    Raises OperationFailed where guests are plugged into it (unless ``force``), or where a file was changed since.
    """
    bridge, port = kernel.find(created.bridge), kernel.find(created.port)
    if bridge is None or port is None:
        raise OperationFailed(
            f"there is no network device {created.bridge if bridge is None else created.port} any more"
        )
    others = [name for name in kernel.ports(bridge) if name != created.port]
    if others and not force:
        raise OperationFailed(
            f"{', '.join(others)} would lose the network: shut these guests down first, or use --force"
        )
    files = {}
    for path, (old, new) in created.files.items():
        here = Path(path).read_text() if Path(path).exists() else None
        if here != new:
            raise OperationFailed(
                f"{path} was changed since it was written for {created.bridge}: take the bridge out of it by hand, and "
                f"use 'guest host bridge forget {created.bridge}'"
            )
        files[path] = (new, old)
    # an address that the host was given meanwhile moves too; one wish for the bridge alone does not
    has = kernel.belongings(bridge)
    had = has if created.had == created.has else created.had
    reload = [words for words in created.commands if "up" not in words and words[0] != "dhclient"]
    reload += ifupdown.dhcp_moves(Path("/"), bridge.name, port.name) if created.system == "ifupdown" else []
    return Plan("delete", bridge.name, port.name, created.mac, created.stp, had, has, created.system, files, reload)


def _check(text: str, parse: Any, what: str) -> None:
    try:
        parse(text)
    except ValueError:
        raise InvalidArg(f"'{text}' is not {what}") from None
