"""Whether a saved state fits a changed document: what the guest sees must be the same. Pure.

Where its data is may differ: paths, networks, displays, descriptions.
"""

from __future__ import annotations

from typing import Any

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import Address
from guesthouse.model.domain import Domain, Features

# families by what libvirt's messages call them
_FAMILIES = (
    *(("disks", "disk"), ("controllers", "controller"), ("interfaces", "network card"), ("inputs", "input device")),
    *(("sounds", "sound card"), ("videos", "video card"), ("serials", "serial port"), ("parallels", "parallel port")),
    *(("channels", "channel"), ("consoles", "console"), ("watchdogs", "watchdog"), ("rngs", "RNG device")),
    *(("hubs", "hub device"),),
)


def check(source: Domain, target: Domain) -> None:
    """Raises ConfigUnsupported, in libvirt's words, where ``target`` is another machine than ``source``."""
    _same("domain virt type", target.type, source.type)
    _same("domain uuid", target.uuid, source.uuid, quote=False)
    _same("domain name", target.name, source.name)
    _same("domain max memory", target.memory, source.memory, quote=False)
    _same("domain current memory", target.current_memory, source.current_memory, quote=False)
    _same("domain vCPU max", target.cpu_count, source.cpu_count, quote=False)
    _same("domain arch", target.arch, source.arch, quote=False)
    _same("domain machine type", target.machine, source.machine, quote=False)
    _features(source, target)
    _cpu(source, target)
    for name, words in _FAMILIES:
        ours, theirs = _family(source, name), _family(target, name)
        _same(f"domain {words} count", len(theirs), len(ours), quote=False)
        for before, after in zip(ours, theirs, strict=True):
            _device(words, before, after)
    before, after = source.dev.memballoon, target.dev.memballoon
    if before is not None and after is not None:
        _same("balloon model", after.model, before.model, quote=False)
        _address(before.address, after.address)


def _family(domain: Domain, name: str) -> list[Any]:
    devices: list[Any] = getattr(domain.dev, name)
    if name == "controllers":  # told apart by their numbers, not by their places
        return sorted(devices, key=lambda bus: (bus.type, bus.index or 0))
    if name == "disks":
        return sorted(devices, key=lambda disk: str(disk.dev))
    return devices


def _features(source: Domain, target: Domain) -> None:
    if source.features == target.features:
        return
    for spec in Features.SPECS:
        before, after = (getattr(domain.features, spec.name, None) or None for domain in (source, target))
        if before != after:
            words = ["default" if value is None else "on" for value in (before, after)]
            raise _differs(f"State of feature '{spec.tag}' differs: source: '{words[0]}', destination: '{words[1]}'")


def _cpu(source: Domain, target: Domain) -> None:
    names = [domain.cpu.model.name if domain.cpu and domain.cpu.model else "" for domain in (target, source)]
    if names[0] != names[1]:
        raise ConfigUnsupported(f"Target CPU model {names[0]} does not match source {names[1]}", domain=ErrorDomain.CPU)

    def facts(domain: Domain) -> tuple[Any, ...]:
        cpu = domain.cpu
        if cpu is None:
            return ()
        features = sorted((f.name or "", f.policy or "") for f in cpu.features)
        return cpu.mode, features, cpu.topology

    if facts(source) != facts(target):
        raise ConfigUnsupported("Target CPU does not match source", domain=ErrorDomain.CPU)


def _device(words: str, before: Any, after: Any) -> None:
    _same(f"{words} type", _kind(after), _kind(before))
    if words == "disk":
        _same("disk device", after.device, before.device)
        _same("disk bus", after.bus, before.bus, quote=False)
        _same("disk", after.dev, before.dev, quote=False)
        _same("disk serial", after.serial or "", before.serial or "")
    elif words == "network card":
        _same("network card mac", after.mac_address, before.mac_address, quote=False)
        _same("network card model", after.model and after.model.type, before.model and before.model.type, quote=False)
    _address(before.address, after.address)


def _kind(device: Any) -> str | None:
    """What the guest sees of a device's kind, not how it is connected to the host."""
    if device.TAG in ("controller", "input"):
        return str(device.type)
    if device.TAG == "video":
        return str(device.model.type) if device.model is not None else None
    model = getattr(device, "model", None)
    return model if isinstance(model, str) else None


def _address(before: Address | None, after: Address | None) -> None:
    if (before is None or before.type is None) and (after is None or after.type is None):
        return
    if before == after:
        return
    if before is not None and after is not None and before.type == after.type == "pci":
        raise _differs(f"Target device PCI address {_pci(after)} does not match source {_pci(before)}")
    texts = [address.to_xml().strip() if address is not None else "none" for address in (after, before)]
    raise _differs(f"Target device address {texts[0]} does not match source {texts[1]}")


def _pci(address: Address) -> str:
    return f"{address.domain or 0:04x}:{address.bus or 0:02x}:{address.slot or 0:02x}.{address.function or 0}"


def _same(what: str, target: object, source: object, *, quote: bool = True) -> None:
    if target != source:
        marks = "'" if quote else ""
        raise _differs(f"Target {what} {marks}{target}{marks} does not match source {marks}{source}{marks}")


def _differs(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
