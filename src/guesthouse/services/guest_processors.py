"""What becomes of a guest's <cpu>: settled before it starts, compared with what QEMU gave once it is there."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable

from guesthouse.host import guest_cpu
from guesthouse.host.cpu import Hypervisor
from guesthouse.model.domain import Cpu, Domain
from guesthouse.qemu.guest_cpu import given
from guesthouse.qemu.machine import Machine

#: Emulator and kind of guest -> what processors can be there. Raises where that cannot be found out.
Ask = Callable[[str, str], Awaitable[Hypervisor]]


class GuestProcessors:
    """``ask`` is set once there is somebody to ask. Of architectures other than x86 nothing is known: their documents
    are left as they are."""

    ask: Ask

    async def settle(self, live: Domain) -> None:
        """Make of the <cpu> what QEMU is started with. Raises as :func:`guest_cpu.settle`, and what ``ask`` raises."""
        if live.cpu is not None and live.arch in guest_cpu.X86:
            found = await self._hypervisor(live)
            kind, arch = live.type or "", live.arch
            guest_cpu.settle(live.cpu, found, kind=kind, arch=arch, host_arch=platform.machine())

    async def confirm(self, live: Domain, machine: Machine) -> Cpu | None:
        """Write into the <cpu> what QEMU made of it; returns what was asked for where that is another. Raises as
        :func:`guest_cpu.verify` and :func:`guest_cpu.confirm`."""
        if live.arch not in guest_cpu.X86:
            return None
        enabled, disabled = await given(machine)
        features = live.features
        spinlocks = features is not None and features.pvspinlock is not None and bool(features.pvspinlock.state)
        guest_cpu.verify(live.cpu, enabled, spinlocks=spinlocks)
        asked = live.cpu.copy() if live.cpu is not None else None
        return asked if guest_cpu.confirm(live.cpu, enabled, disabled) else None

    async def updated(self, document: Domain) -> Domain:
        """``document`` with the <cpu> that a guest would get if it was started now."""
        if document.cpu is None or document.cpu.is_default or document.arch not in guest_cpu.X86:
            return document
        out = document.copy()
        assert out.cpu is not None
        guest_cpu.update(out.cpu, (await self._hypervisor(out)).migratable)
        return out

    async def _hypervisor(self, domain: Domain) -> Hypervisor:
        return await self.ask(domain.dev.emulator or "", domain.type or "")
