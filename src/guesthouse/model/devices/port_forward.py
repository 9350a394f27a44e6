"""<portForward>: ports of the host's that lead to a guest on a user network."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Children, Choice, Element, Int


class PortRange(Element, tag="range"):
    """From ``start`` to ``end``, in the guest from ``to`` on; or just these not."""

    start: int | None = Attr("start", Int(0, 65535))
    end: int | None = Attr("end", Int(0, 65535))
    to: int | None = Attr("to", Int(0, 65535))
    exclude: bool | None = Attr("exclude", Bool)


class PortForward(Element, tag="portForward"):
    """All ports, where it has no ranges; of ``address`` and the card ``dev`` alone, where it names them."""

    proto: str | None = Attr("proto", Choice("tcp", "udp"), required=True)
    address: str | None = Attr("address")
    dev: str | None = Attr("dev")
    ranges: list[PortRange] = Children(PortRange)
