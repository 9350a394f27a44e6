"""What a guest agent answers, in libvirt's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.services.domain_stats import Params

_IPV4, _IPV6 = 0, 1


def filesystems(document: Domain, answer: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Mount point, device, type and disks of each mounted file system."""
    out = []
    for item in answer:
        targets = [target for disk in item.get("disk", ()) if (target := target_of(document, disk)) is not None]
        out.append((item["mountpoint"], item["name"], item["type"], targets))
    return out


def target_of(document: Domain, address: dict[str, Any]) -> str | None:
    """The target ("vda") of the disk that the guest sees at ``address``, None where the definition has none there."""
    pci = address.get("pci-controller") or {}
    for disk in document.dev.disks:
        if disk.bus == "virtio":
            if _same_pci(disk.address, pci):
                return disk.dev
        elif _on_controller(document, disk, pci) and _same_drive(disk, address):
            return disk.dev
    return None


def _same_pci(address: Any, pci: dict[str, Any]) -> bool:
    if address is None or address.type != "pci":
        return False
    numbers = (address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0)
    return numbers == tuple(pci.get(name, -1) for name in ("domain", "bus", "slot", "function"))


def _on_controller(document: Domain, disk: Disk, pci: dict[str, Any]) -> bool:
    index = (disk.address and disk.address.controller) or 0
    return any(
        bus.type == disk.bus and (bus.index or 0) == index and _same_pci(bus.address, pci)
        for bus in document.dev.controllers
    )


def _same_drive(disk: Disk, address: dict[str, Any]) -> bool:
    place = disk.address
    if place is None:
        return False
    own = (place.bus or 0, place.target or 0, place.unit or 0)
    return own == tuple(address.get(name, -1) for name in ("bus", "target", "unit"))


def interfaces(answer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Interfaces with their addresses; the aliases of one ("eth0:1") are the one's."""
    found: dict[str, dict[str, Any]] = {}
    for item in answer:
        name = item["name"].partition(":")[0]
        entry = found.setdefault(name, {"name": name, "hwaddr": item.get("hardware-address"), "addrs": []})
        for address in item.get("ip-addresses", ()):
            kind = _IPV4 if address["ip-address-type"] == "ipv4" else _IPV6
            entry["addrs"].append((kind, address["ip-address"], address["prefix"]))
    return list(found.values())


def neighbours(document: Domain, table: str) -> list[dict[str, Any]]:
    """The guest's interfaces whose address the host has talked to."""
    rows = [line.split() for line in table.splitlines()[1:]]
    out = []
    for nic in document.dev.interfaces:
        addrs = [(_IPV4, row[0], 0) for row in rows if row[3] == nic.mac_address and row[2] != "0x0"]
        if addrs:
            out.append({"name": (nic.target and nic.target.dev) or "", "hwaddr": nic.mac_address, "addrs": addrs})
    return out


# -- the groups of guest info


def _users(out: Params, answer: list[dict[str, Any]], document: Domain) -> None:
    out["user.count"] = ("uint", len(answer))
    for index, user in enumerate(answer):
        out[f"user.{index}.name"] = ("string", user["user"])
        if "domain" in user:
            out[f"user.{index}.domain"] = ("string", user["domain"])
        out[f"user.{index}.login-time"] = ("ullong", int(user["login-time"] * 1000))


def _os(out: Params, answer: dict[str, Any], document: Domain) -> None:
    names = ("id", "name", "pretty-name", "version", "version-id", "machine", "variant", "variant-id")
    for name in (*names, "kernel-release", "kernel-version"):
        if name in answer:
            out[f"os.{name}"] = ("string", answer[name])


def _timezone(out: Params, answer: dict[str, Any], document: Domain) -> None:
    if "zone" in answer:
        out["timezone.name"] = ("string", answer["zone"])
    out["timezone.offset"] = ("int", answer["offset"])


def _hostname(out: Params, answer: dict[str, Any], document: Domain) -> None:
    out["hostname"] = ("string", answer["host-name"])


def _filesystems(out: Params, answer: list[dict[str, Any]], document: Domain) -> None:
    out["fs.count"] = ("uint", len(answer))
    for index, item in enumerate(answer):
        start = f"fs.{index}"
        out[f"{start}.name"] = ("string", item["name"])
        out[f"{start}.mountpoint"] = ("string", item["mountpoint"])
        out[f"{start}.fstype"] = ("string", item["type"])
        for size in ("total-bytes", "used-bytes"):
            if size in item:
                out[f"{start}.{size}"] = ("ullong", item[size])
        out[f"{start}.disk.count"] = ("uint", len(item.get("disk", ())))
        for number, disk in enumerate(item.get("disk", ())):
            target = target_of(document, disk)
            if target is not None:
                out[f"{start}.disk.{number}.alias"] = ("string", target)
            for field, name in (("serial", "serial"), ("device", "dev")):
                if name in disk:
                    out[f"{start}.disk.{number}.{field}"] = ("string", disk[name])


def _disks(out: Params, answer: list[dict[str, Any]], document: Domain) -> None:
    out["disk.count"] = ("uint", len(answer))
    for index, item in enumerate(answer):
        start = f"disk.{index}"
        out[f"{start}.name"] = ("string", item["name"])
        out[f"{start}.partition"] = ("boolean", int(item["partition"]))
        if "dependencies" in item:
            out[f"{start}.dependency.count"] = ("uint", len(item["dependencies"]))
            for number, name in enumerate(item["dependencies"]):
                out[f"{start}.dependency.{number}.name"] = ("string", name)
        address = item.get("address")
        if address is not None:
            if "serial" in address:
                out[f"{start}.serial"] = ("string", address["serial"])
            target = target_of(document, address)
            if target is not None:
                out[f"{start}.alias"] = ("string", target)
        if "alias" in item:
            out[f"{start}.guest_alias"] = ("string", item["alias"])


def _interfaces(out: Params, answer: list[dict[str, Any]], document: Domain) -> None:
    found = interfaces(answer)
    out["if.count"] = ("uint", len(found))
    for index, item in enumerate(found):
        start = f"if.{index}"
        out[f"{start}.name"] = ("string", item["name"])
        if item["hwaddr"]:
            out[f"{start}.hwaddr"] = ("string", item["hwaddr"])
        out[f"{start}.addr.count"] = ("uint", len(item["addrs"]))
        for number, (kind, address, prefix) in enumerate(item["addrs"]):
            out[f"{start}.addr.{number}.type"] = ("string", "ipv4" if kind == _IPV4 else "ipv6")
            out[f"{start}.addr.{number}.addr"] = ("string", address)
            out[f"{start}.addr.{number}.prefix"] = ("uint", prefix)


_Add = Callable[[Params, Any, Domain], None]
#: By bit of virDomainGuestInfoTypes: the agent's command, and how its answer is put down.
GROUPS: tuple[tuple[str, _Add], ...] = (
    ("guest-get-users", _users),
    ("guest-get-osinfo", _os),
    ("guest-get-timezone", _timezone),
    ("guest-get-host-name", _hostname),
    ("guest-get-fsinfo", _filesystems),
    ("guest-get-disks", _disks),
    ("guest-network-get-interfaces", _interfaces),
)
