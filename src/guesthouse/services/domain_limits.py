"""How fast a guest's network cards may be: asked, and changed while it runs."""

from __future__ import annotations

from typing import Any

from guesthouse.errors import ConfigUnsupported, InvalidArg, check_flags
from guesthouse.model.bandwidth import Bandwidth, Inbound, Outbound
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.services.context import Context
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at
from guesthouse.services.domain_stats import Params
from guesthouse.services.guests import Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.network_ports import NetworkPorts
from guesthouse.services.refs import DomainRef

_INBOUND = ("average", "peak", "burst", "floor")
_OUTBOUND = ("average", "peak", "burst")
_NAMES = {f"{way}.{name}" for way, names in (("inbound", _INBOUND), ("outbound", _OUTBOUND)) for name in names}
_TYPES = ("network", "bridge")


class DomainLimits:
    """The limits of guests' interfaces, in the live document, the definition or both."""

    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, ports: NetworkPorts) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._ports = ports

    def get_interface_parameters(self, dom: DomainRef, device: str, flags: int) -> Params:
        """Every rate, 0 for no limit. ``device`` is a MAC address or the host's end."""
        check_flags(flags, LIVE | CONFIG | 4, "qemuDomainGetInterfaceParameters")
        bandwidth = _interface(looked_at(self._guests.find(dom), flags & ~4), device).bandwidth or Bandwidth()
        rates = (("inbound", bandwidth.inbound, _INBOUND), ("outbound", bandwidth.outbound, _OUTBOUND))
        return {
            f"{way}.{name}": ("uint", (getattr(rate, name) if rate else None) or 0)
            for way, rate, names in rates
            for name in names
        }

    async def set_interface_parameters(self, dom: DomainRef, device: str, params: list[Any], flags: int) -> None:
        """Set the limit of a direction that is named, in place of the one that it had; an average of 0 lifts it. A
        running guest's holds at once. On failure nothing is changed."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetInterfaceParameters")
        given: dict[str, int] = {}
        for param in params:
            if param.field not in _NAMES:
                raise InvalidArg(f"parameter '{param.field}' not supported")
            if param.kind != "uint":
                text = f"invalid type '{param.kind}' for parameter '{param.field}', expected 'uint'"
                raise InvalidArg(text)
            given[param.field] = param.value
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-interface-parameters"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            plugged = _limited(guest.live, device) if live and guest.live else None
            if changed is not None:
                kept = _limited(changed, device)
                kept.bandwidth = _merged(kept.bandwidth, given)
            if plugged is not None:
                bandwidth = _merged(plugged.bandwidth, given)
                await self._ports.limit(plugged, bandwidth)
                plugged.bandwidth = bandwidth
                keep_live(self._ctx, guest)
            if changed is not None:
                keep(self._ctx, guest, changed)


def _interface(document: Domain, device: str) -> Interface:
    for nic in document.dev.interfaces:
        if nic.mac_address == device.lower() or (nic.target is not None and nic.target.dev == device):
            return nic
    raise InvalidArg(f"'{device}' is not a known interface")


def _limited(document: Domain, device: str) -> Interface:
    nic = _interface(document, device)
    if nic.type not in _TYPES:
        raise ConfigUnsupported(f"setting bandwidth on interfaces of type '{nic.type}' is not implemented yet")
    return nic


def _merged(had: Bandwidth | None, given: dict[str, int]) -> Bandwidth | None:
    had = had.copy() if had else Bandwidth()
    rates = {name.partition(".")[2]: value or None for name, value in given.items() if name.startswith("inbound.")}
    if rates:
        had.inbound = Inbound(**rates) if rates.get("average") or rates.get("floor") else None
    rates = {name.partition(".")[2]: value or None for name, value in given.items() if name.startswith("outbound.")}
    if rates:
        had.outbound = Outbound(**rates) if rates.get("average") else None
    return had if had.inbound or had.outbound else None
