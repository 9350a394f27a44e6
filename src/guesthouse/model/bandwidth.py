"""<bandwidth>: how much traffic may go to (inbound) and come from (outbound) a guest; of networks, their port groups,
interfaces and network ports."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, Domain, XMLDetail
from guesthouse.model.fields import Attr, Child, Element, UInt


class Inbound(Element, tag="inbound"):
    """``average``, ``peak`` and ``floor`` in units of 1000 bytes a second, ``burst`` in KiB. ``floor`` is what a guest
    gets even where its network is full."""

    average: int | None = Attr("average", UInt)
    peak: int | None = Attr("peak", UInt)
    floor: int | None = Attr("floor", UInt)
    burst: int | None = Attr("burst", UInt)


class Outbound(Element, tag="outbound"):
    """Likewise, without a floor."""

    average: int | None = Attr("average", UInt)
    peak: int | None = Attr("peak", UInt)
    burst: int | None = Attr("burst", UInt)


class Bandwidth(Element, tag="bandwidth", paired=True):
    inbound: Inbound | None = Child(Inbound)
    outbound: Outbound | None = Child(Outbound)


def check(bandwidth: Bandwidth | None, *, floor: bool = False) -> Bandwidth | None:
    """What libvirt 9.0 keeps of the element: None where it limits nothing.

    Raises XMLDetail for a rate without an average, ConfigUnsupported for a ``floor`` where none may be.
    """
    if bandwidth is None:
        return None
    inbound, outbound = bandwidth.inbound, bandwidth.outbound
    if outbound and "floor" in outbound.extra_attributes:
        raise ConfigUnsupported("'floor' attribute allowed only in <inbound> element", domain=Domain.NONE)
    if (inbound and inbound.average is None and inbound.floor is None) or (outbound and outbound.average is None):
        raise XMLDetail("Missing mandatory average or floor attributes", domain=Domain.NONE)
    if inbound and inbound.floor is not None and not floor:
        raise ConfigUnsupported("floor attribute is not supported for this config", domain=Domain.NONE)
    if inbound and not (inbound.average or inbound.floor):
        bandwidth.inbound = None
    if outbound and not outbound.average:
        bandwidth.outbound = None
    unknown = bandwidth.extra_nodes or bandwidth.extra_attributes
    return bandwidth if bandwidth.inbound or bandwidth.outbound or unknown else None
