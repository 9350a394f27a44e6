"""The client library: a connection to a daemon (ours or libvirtd), blocking, without an event loop.

conn = client.connect("qemu:///system")
for domain in conn.list_all_domains():
    print(domain.name, domain.get_state())
"""

from guesthouse.client.connect import Connect, connect
from guesthouse.client.link import ConnectionLost, Stream
from guesthouse.client.objects import (
    Domain,
    Interface,
    Network,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)

__all__ = [
    "Connect",
    "ConnectionLost",
    "Domain",
    "Interface",
    "NWFilter",
    "NWFilterBinding",
    "Network",
    "NodeDevice",
    "Secret",
    "StoragePool",
    "StorageVol",
    "Stream",
    "connect",
]
