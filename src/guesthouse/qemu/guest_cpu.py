"""What a running guest's processor is, asked of QEMU."""

from __future__ import annotations

import asyncio

from guesthouse.host import x86
from guesthouse.host.guest_cpu import PV_UNHALT
from guesthouse.host.x86 import Register
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.qemu.processors import from_qemu

# the processor that every machine has from its beginning; the others are like it
_FIRST = "/machine/unattached/device[0]"
_KVM, _UNHALT = Register(0x40000001, 0, "eax"), 7


async def given(machine: Machine) -> tuple[set[str], set[str]]:
    """What QEMU made of the processor of an x86 guest: the features that it has, and those that were asked for and could
    not be given; in libvirt's words."""
    words, missing = await asyncio.gather(
        machine.execute("qom-get", {"path": _FIRST, "property": "feature-words"}),
        machine.execute("qom-get", {"path": _FIRST, "property": "unavailable-features"}),
    )
    values = {
        Register(word["cpuid-input-eax"], word.get("cpuid-input-ecx", 0), word["cpuid-register"].lower()): word[
            "features"
        ]
        for word in words
    }
    enabled = x86.in_registers(values)
    if values.get(_KVM, 0) >> _UNHALT & 1:
        enabled.add(PV_UNHALT)
    if enabled & x86.MSR_SHOWN_BY:  # the words leave out what is not in CPUID
        told = [name for name, (register, _) in x86.FEATURES.items() if register.leaf == "msr"]
        values_of = await asyncio.gather(*(_is_on(machine, name) for name in told))
        enabled |= {name for name, on in zip(told, values_of, strict=True) if on}
    return enabled, {from_qemu(name) for name in missing}


async def _is_on(machine: Machine, feature: str) -> bool:
    try:
        return bool(await machine.execute("qom-get", {"path": _FIRST, "property": feature}))
    except MonitorError:  # this QEMU has not heard of it
        return False
