"""Networks that several tests here use. STP is off: with it a port forwards only after four seconds."""

from __future__ import annotations

from guesthouse.model.network import Network
from guesthouse.model.network_rules import complete, parse

BASE = """
<network>
  <name>{name}</name>
  {forward}
  <bridge name='{bridge}' stp='off' delay='0'/>
  <mac address='52:54:00:0a:0b:0c'/>
  <domain name='guests.test'/>
  <dns><host ip='192.0.2.77'><hostname>elsewhere.test</hostname></host></dns>
  <ip address='{address}' netmask='255.255.255.0'>
    <dhcp>
      <range start='{prefix}.100' end='{prefix}.109'/>
      <host mac='52:54:00:00:00:07' name='seven' ip='{prefix}.7'/>
    </dhcp>
  </ip>
</network>
"""


def network(forward: str = "", *, name: str = "net", bridge: str = "gh0", address: str = "10.20.30.1") -> Network:
    text = BASE.format(name=name, forward=forward, bridge=bridge, address=address, prefix=address.rpartition(".")[0])
    made = parse(text)
    complete(made, lambda _name: False, frozenset())
    return made


def document(*parts: str) -> Network:
    """A network of any elements."""
    made = parse(f"<network><name>net</name>{''.join(parts)}</network>")
    complete(made, lambda _name: False, frozenset())
    return made
