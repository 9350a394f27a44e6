"""A card's network by passt, a process beside QEMU."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import Parts


def connect(parts: Parts, domain: Domain, paths: dict[str, str]) -> None:
    """Give the cards that ask for passt its network in place of QEMU's own; ``paths`` are the sockets by alias.
    Raises ConfigUnsupported for one that has none: the guest runs already."""
    for nic in domain.dev.interfaces:
        if nic.type != "user" or nic.backend is None or nic.backend.type != "passt":
            continue
        alias = (nic.alias and nic.alias.name) or ""
        if alias not in paths:
            raise ConfigUnsupported("an interface with passt cannot come to a running guest yet")
        address = {"type": "unix", "path": paths[alias]}
        for number, netdev in enumerate(parts.netdevs):
            if netdev["id"] == f"host{alias}":
                parts.netdevs[number] = {"type": "stream", "addr": address, "server": False, "id": f"host{alias}"}
