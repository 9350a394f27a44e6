"""What libvirt refuses of a document's <cpu> when it is defined. Pure; the rules are libvirt 9.0's (cpu_conf.c,
qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Cpu, Domain

_VENDOR_LENGTH = 12
_OF_THE_HOST = ("host-passthrough", "maximum")


def read(domain: Domain) -> None:
    """What a <cpu> says of itself, before anything is added to it."""
    cpu = domain.cpu
    if cpu is None:
        return
    model = cpu.model.name if cpu.model is not None else None
    if cpu.migratable is not None and cpu.mode not in _OF_THE_HOST:
        text = "Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode"
        raise ConfigUnsupported(text, domain=ErrorDomain.CPU)
    if cpu.model is not None and cpu.mode not in _OF_THE_HOST and cpu.model.vendor_id is not None:
        if len(cpu.model.vendor_id) != _VENDOR_LENGTH:
            text = f"vendor_id must be exactly {_VENDOR_LENGTH} characters long"
            raise XMLError(text, domain=ErrorDomain.CPU)
        if "," in cpu.model.vendor_id:
            raise XMLError("vendor id is invalid", domain=ErrorDomain.CPU)
    if cpu.vendor is not None and model is None:
        raise XMLError("CPU vendor specified without CPU model", domain=ErrorDomain.CPU)
    if cpu.topology is not None:
        for needed in ("sockets", "cores", "threads"):
            if getattr(cpu.topology, needed) is None:
                raise XMLError(f"Missing required attribute '{needed}' in element 'topology'")
    if cpu.features and model is None and cpu.mode in (None, "custom"):
        raise XMLError("Non-empty feature list specified without CPU model", domain=ErrorDomain.CPU)
    names = [feature.name for feature in cpu.features]
    for name in names:
        if not name:
            raise XMLError("Invalid CPU feature name", domain=ErrorDomain.CPU)
        if names.count(name) > 1:
            raise XMLError(f"CPU feature '{name}' specified more than once", domain=ErrorDomain.CPU)
    if cpu.cache is not None and cpu.cache.mode is None:
        raise XMLError("Missing required attribute 'mode' in element 'cache'")
    if cpu.maxphysaddr is not None:
        cpu.maxphysaddr.limit = None


def check(cpu: Cpu) -> None:
    """What QEMU could not do."""
    bits = cpu.maxphysaddr
    if bits is not None and bits.mode == "passthrough" and bits.bits is not None:
        raise ConfigUnsupported(
            "CPU maximum physical address bits number specification cannot be used with mode='passthrough'"
        )
    if bits is not None and bits.mode == "emulate" and bits.bits is None:
        text = "if using CPU maximum physical address mode='emulate', bits= must be specified too"
        raise ConfigUnsupported(text)
    cache = cpu.cache
    if cache is None:
        return
    if cache.mode == "emulate" and cache.level != 3:
        raise ConfigUnsupported("CPU cache mode 'emulate' can only be used with level='3'")
    if cache.mode == "passthrough" and cpu.mode not in _OF_THE_HOST:
        raise ConfigUnsupported(
            "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs"
        )
    if cache.mode != "emulate" and cache.level is not None:
        raise ConfigUnsupported(f"unsupported CPU cache level for mode '{cache.mode}'")
