"""The network interfaces of this host: libvirt's interface procedures that look.

None changes anything: how a host sets up its interfaces is its distribution's affair (libvirt's own daemon, built with
udev as it is nearly everywhere, leaves it at that, too). Those procedures have no handler.
"""

from __future__ import annotations

from guesthouse.errors import Domain, MultipleInterfaces, NoInterface, check_flags
from guesthouse.host.interfaces import Interfaces as HostInterfaces
from guesthouse.network.netlink import Netlink
from guesthouse.services.refs import InterfaceRef

_INACTIVE, _ACTIVE = 1, 2
_XML_INACTIVE = 1


class Interfaces:
    """libvirt's interface procedures. All raise libvirt's errors.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, host: HostInterfaces | None = None) -> None:
        self._host = host or HostInterfaces()

    # Finding and listing

    def _in_state(self, state: str) -> list[str]:
        return [name for name in self._host.names() if self._host.state(name) == state]

    def num_of(self) -> int:
        return len(self._in_state("up"))

    def list_names(self, maxnames: int) -> list[str]:
        return self._in_state("up")[:maxnames]

    def num_of_defined(self) -> int:
        return len(self._in_state("down"))

    def list_defined(self, maxnames: int) -> list[str]:
        return self._in_state("down")[:maxnames]

    def list_all(self, flags: int) -> list[InterfaceRef]:
        check_flags(flags, _ACTIVE | _INACTIVE, "udevConnectListAllInterfaces", Domain.INTERFACE)
        wanted = flags or _ACTIVE | _INACTIVE
        return [
            self._ref(name) for name in self._host.names() if wanted & (_ACTIVE if self._active(name) else _INACTIVE)
        ]

    def _ref(self, name: str) -> InterfaceRef:
        return InterfaceRef(name, self._host.mac(name))

    def _active(self, name: str) -> bool:
        return self._host.state(name) == "up"

    def _check(self, name: str) -> None:
        if not self._host.exists(name):
            raise NoInterface(f"couldn't find interface named '{name}'")

    def lookup_by_name(self, name: str) -> InterfaceRef:
        self._check(name)
        return self._ref(name)

    def lookup_by_mac_string(self, mac: str) -> InterfaceRef:
        found = [name for name in self._host.names() if self._host.mac(name) == mac]
        if not found:
            raise NoInterface(f"couldn't find interface with MAC address '{mac}'")
        if len(found) > 1:
            raise MultipleInterfaces(f"the MAC address '{mac}' matches multiple interfaces")
        return self._ref(found[0])

    # Asking

    def is_active(self, iface: InterfaceRef) -> int:
        self._check(iface.name)
        return int(self._active(iface.name))

    def get_xml_desc(self, iface: InterfaceRef, flags: int) -> str:
        """The document, with the addresses that the interface has now, unless its definition is asked for."""
        check_flags(flags, _XML_INACTIVE, "udevInterfaceGetXMLDesc", Domain.INTERFACE)
        self._check(iface.name)
        addresses = {} if flags & _XML_INACTIVE else _addresses(iface.name)
        return self._host.document(iface.name, addresses).to_xml()


def _addresses(name: str) -> dict[str, list[tuple[str, int]]]:
    """Those of an interface, by family."""
    found: dict[str, list[tuple[str, int]]] = {}
    with Netlink() as netlink:
        link = netlink.link(name)
        for index, address in netlink.addresses() if link else ():
            if link and index == link.index:
                own = found.setdefault(f"ipv{address.version}", [])
                own.append((str(address.ip), address.network.prefixlen))
    return found
