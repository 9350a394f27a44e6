"""libvirt's procedures that change a guest's devices, in the live guest, its definition or both.

All parts are checked before anything is done; the live guest is changed first, and the definition is written once that
has worked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import InternalError, check_flags
from guesthouse.model import device_match
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain as Definition
from guesthouse.services.context import Context
from guesthouse.services.device_plug import DevicePlug
from guesthouse.services.device_update import DeviceUpdate
from guesthouse.services.documents import CONFIG, LIVE, impact, keep
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef

_FORCE = 4


class Devices:
    """Devices of guests, as clients change them. ``defaults`` completes what they send."""

    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, plug: DevicePlug, changes: DeviceUpdate) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._live = plug
        self._changes = changes
        self.defaults = GuestDefaults()

    @asynccontextmanager
    async def _changing(
        self, dom: DomainRef, flags: int, job: str
    ) -> AsyncIterator[tuple[Guest, bool, Definition | None]]:
        """A guest whose job is held: whether it is changed as it runs, and a copy of its definition where that is changed,
        which is written down once all went well."""
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, job):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            yield guest, live, changed
            if changed is not None:
                keep(self._ctx, guest, changed)

    async def attach_device(self, dom: DomainRef, xml: str) -> None:
        await self.attach_device_flags(dom, xml, LIVE)

    async def attach_device_flags(self, dom: DomainRef, xml: str, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainAttachDeviceLiveAndConfig")
        async with self._changing(dom, flags, "attach-device") as (guest, live, changed):
            device = device_match.parse(xml)
            self._live.admit(guest, device)
            if changed is not None:
                kept = device.copy()
                device_match.attach(changed, kept)
                prepare(changed, self.defaults)
                if isinstance(device.element, Interface):  # one card has one address
                    device.element.mac = kept.element.mac.copy()
            if live:
                await self._live.attach(guest, device)

    async def detach_device(self, dom: DomainRef, xml: str) -> None:
        await self.detach_device_flags(dom, xml, LIVE)

    async def detach_device_flags(self, dom: DomainRef, xml: str, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainDetachDeviceLiveAndConfig")
        async with self._changing(dom, flags, "detach-device") as (guest, live, changed):
            device = device_match.parse(xml)
            if changed is not None:
                device_match.detach(changed, device)
                prepare(changed, self.defaults)
            if live:
                await self._live.detach(guest, device)

    async def detach_device_alias(self, dom: DomainRef, alias: str, flags: int) -> None:
        """Ask for a device to leave, and do not wait: its event tells when it has."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainDetachDeviceAliasLiveAndConfig")
        async with self._changing(dom, flags, "detach-device") as (guest, live, changed):
            if changed is not None:
                device = device_match.by_alias(changed, alias)
                if device is None:
                    raise InternalError(f"no device found with alias {alias}", domain=ErrorDomain.DOMAIN)
                device_match.detach(changed, device)
                prepare(changed, self.defaults)
            if live:
                await self._live.detach_alias(guest, alias)

    async def update_device_flags(self, dom: DomainRef, xml: str, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG | _FORCE, "qemuDomainUpdateDeviceFlags")
        async with self._changing(dom, flags & ~_FORCE, "update-device") as (guest, live, changed):
            device = device_match.parse(xml)
            self._live.admit(guest, device)
            if changed is not None:
                device_match.update(changed, device.copy())
                prepare(changed, self.defaults)
            if live:
                await self._changes.update(guest, device, force=bool(flags & _FORCE))
