"""What a network's document may say that this host would not do: refused at start, by name (it stays in the document)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, Domain
from guesthouse.model.fields import Element
from guesthouse.model.network import DNSMASQ_OPTIONS, Network

# asks nothing of the host
_HARMLESS = {DNSMASQ_OPTIONS}


def check(network: Network) -> None:
    """Raises ConfigUnsupported for the first thing that the network would not have."""
    name, bridge = network.name, network.bridge
    if unknown := _unknown(network, network.TAG, _HARMLESS):
        raise _refused(f"{unknown} of network '{name}' is not supported")
    if bridge is not None and bridge.zone:
        raise _refused(f"zone {bridge.zone} requested for network {name} but firewalld is not active")


def _refused(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=Domain.NETWORK)


def _unknown(element: Element, tag: str, known: set[str] | frozenset[str] = frozenset()) -> str | None:
    """The first thing in an element that the vocabulary has no name for."""
    for node in element.extra_nodes:
        if node.tag not in known:
            return f"<{node.tag}>"
    for attribute in element.extra_attributes:
        return f"attribute '{attribute}' of <{tag}>"
    for spec in element.SPECS:
        value = getattr(element, spec.name)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, Element) and (found := _unknown(child, spec.tag)):
                return found
    return None
