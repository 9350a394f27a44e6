"""Which documents of a guest a change is for, live or persistent, and keeping them once they are changed."""

from __future__ import annotations

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import InvalidArg, OperationInvalid, from_wire
from guesthouse.model.domain import Domain
from guesthouse.qemu.machine import Machine
from guesthouse.services.context import Context
from guesthouse.services.guests import KIND, Guest

# virDomainModificationImpact
LIVE, CONFIG = 1, 2


def running(guest: Guest) -> Machine:
    """The machine of a guest that runs. Raises OperationInvalid where it does not."""
    if guest.machine is None or not guest.active or guest.stopping:
        raise OperationInvalid("domain is not running")
    return guest.machine


def impact(guest: Guest, flags: int) -> tuple[bool, bool]:
    """Whether ``flags`` mean the live guest, and the definition; without any it is what there is, the live one first.

    Raises OperationInvalid where there is none of what was asked for.
    """
    live, config = bool(flags & LIVE), bool(flags & CONFIG)
    if not live and not config:
        live, config = guest.active, not guest.active
    if live:
        running(guest)
    if config and guest.definition is None:
        raise OperationInvalid("transient domains do not have any persistent config")
    return live, config


def looked_at(guest: Guest, flags: int) -> Domain:
    """The one document that a query with ``flags`` is about. Raises as :func:`impact`, and InvalidArg for both."""
    if flags & LIVE and flags & CONFIG:
        text = "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive"
        raise from_wire(InvalidArg.code, ErrorDomain.DOMAIN, text)
    live, _ = impact(guest, flags)
    document = guest.live if live else guest.definition
    assert document is not None
    return document


def keep(ctx: Context, guest: Guest, definition: Domain) -> None:
    """Make ``definition`` the guest's persistent document, on the disk first."""
    ctx.store.put(KIND, guest.uuid, guest.name, definition.to_xml(secrets=True), guest.autostart)
    guest.definition = definition


def keep_live(ctx: Context, guest: Guest) -> None:
    """Write down the live document as it is now, for a daemon that takes the guest up later."""
    row = ctx.store.get_runtime(KIND, guest.uuid)
    if row is not None and guest.live is not None:
        ctx.store.put_runtime(KIND, guest.uuid, {**row, "xml": guest.live.to_xml(secrets=True)})
