"""What people and programs note about a network: title, description, and XML of their own, as libvirt 9.7 has it.

The XML under guesthouse's own namespace counts at once: it says which ports of the host's lead to guests.
"""

from __future__ import annotations

from guesthouse.errors import Domain, InvalidArg, OperationInvalid, UnknownError, check_flags
from guesthouse.model import metadata as extra_xml
from guesthouse.model import port_forward
from guesthouse.model.network import Network
from guesthouse.services.networks import Networks
from guesthouse.services.refs import NetworkRef

_LIVE, _CONFIG = 1, 2
_DESCRIPTION, _TITLE, _ELEMENT = range(3)
_NO_METADATA = 111  # libvirt's error


class NetworkMetadata:
    """libvirt's procedures of networks' metadata."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def get_metadata(self, net: NetworkRef, type: int, uri: str | None, flags: int) -> str:
        """Of the live document or the definition; without flags, of the one that counts now."""
        check_flags(flags, _LIVE | _CONFIG, "networkGetMetadata", Domain.NETWORK)
        entry = self._networks.entry(net)
        if flags & _LIVE:
            entry.active()
        network = entry.definition if flags & _CONFIG else entry.current
        if network is None:
            raise _transient()
        if type == _DESCRIPTION:
            text = network.description
        elif type == _TITLE:
            text = network.title
        elif type == _ELEMENT:
            text = extra_xml.text_of(network.metadata, uri)
        else:
            raise InvalidArg(f"unknown metadata type {type}", domain=Domain.NETWORK)
        if text is None:
            text = "Requested metadata element is not present"
            raise UnknownError(text, number=_NO_METADATA, domain=Domain.NETWORK)
        return text

    async def set_metadata(
        self, net: NetworkRef, type: int, metadata: str | None, key: str | None, uri: str | None, flags: int
    ) -> None:
        """Change the live document, the definition or both; on failure neither is changed."""
        check_flags(flags, _LIVE | _CONFIG, "networkSetMetadata", Domain.NETWORK)

        def change(network: Network) -> Network:
            changed = network.copy()
            _set(changed, type, metadata, key, uri)
            port_forward.of(changed)
            return changed

        await self._networks.change(self._networks.entry(net), flags, change)


def _transient() -> OperationInvalid:
    return OperationInvalid("cannot change persistent config of a transient network", domain=Domain.NETWORK)


def _set(network: Network, kind: int, text: str | None, key: str | None, uri: str | None) -> None:
    if kind == _DESCRIPTION:
        network.description = text or None
    elif kind == _TITLE:
        if text and "\n" in text:
            raise InvalidArg("metadata title can't contain newlines", domain=Domain.NETWORK)
        network.title = text or None
    elif kind == _ELEMENT:
        network.metadata = extra_xml.replaced(network.metadata, text, key, uri)
    else:
        raise InvalidArg(f"unknown metadata type {kind}", domain=Domain.NETWORK)
