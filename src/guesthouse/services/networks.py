"""The virtual networks of this host: libvirt's network procedures, and the plugs that guests' interfaces get."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from guesthouse.errors import (
    ConfigUnsupported,
    Domain,
    GuesthouseError,
    InternalError,
    NoNetwork,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    UnknownError,
    XMLError,
    check_flags,
)
from guesthouse.model import network_update
from guesthouse.model.devices.interface import TAPPED, Interface
from guesthouse.model.network import Network, PortOptions
from guesthouse.model.network_port import NetworkPort, PortMac, PortOwner, RxFilters, settle
from guesthouse.model.network_rules import complete, parse
from guesthouse.network import bridges, dnsmasq, shaping, subnets, taps
from guesthouse.network.netlink import IPNetwork
from guesthouse.services import host_cards, network_pools
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.events import Event
from guesthouse.services.network_runtime import NetworkRuntime, Port, Running, in_thread
from guesthouse.services.nwfilter_bindings import NWFilterBindings
from guesthouse.services.refs import DomainRef, NetworkRef
from guesthouse.units import new_uuid, parse_mac

_log = logging.getLogger(__name__)
_KIND = "network"
_DEFINED, _UNDEFINED, _STARTED, _STOPPED = range(4)
_XML_INACTIVE = 1
_VALIDATE = 1
_LIVE, _CONFIG = 1, 2
# virConnectListAllNetworksFlags, in pairs: yes and no
_ACTIVE, _INACTIVE, _PERSISTENT, _TRANSIENT, _AUTOSTART, _NO_AUTOSTART = 2, 1, 4, 8, 16, 32

_DEFAULT = """\
<network>
  <name>default</name>
  <forward mode='nat'/>
  <ip address='{gateway}' netmask='{netmask}'>
    <dhcp>
      <range start='{first}' end='{last}'/>
    </dhcp>
  </ip>
</network>
"""


class DhcpLease(NamedTuple):
    """A lease as the wire has it: ``type`` 0 is IPv4, 1 IPv6; ``expirytime`` in seconds since 1970, 0 for ever."""

    iface: str
    expirytime: int
    type: int
    mac: str | None
    iaid: str | None
    ipaddr: str
    prefix: int
    hostname: str | None
    clientid: str | None


@dataclass
class Plug:
    """What a guest's interface is connected to.

    ``fds`` are the tap's descriptors, one a queue, for QEMU; the caller closes them with :meth:`close` once QEMU has
    them (the tap vanishes with the last one). All is empty for type "user". ``actual`` is the interface that was
    given, completed with tap name, and bridge and port of its network.
    """

    actual: Interface
    tap: str | None = None
    bridge: str | None = None
    network: str | None = None
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@dataclass
class Entry:
    """One known network. ``definition`` is None for a transient one, ``running`` for one that is not active."""

    name: str
    uuid: str
    definition: Network | None = None
    running: Running | None = None
    autostart: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ref(self) -> NetworkRef:
        return NetworkRef(self.name, self.uuid)

    @property
    def current(self) -> Network:
        """The live document, or the definition of one that is not active."""
        network = self.running.network if self.running else self.definition
        assert network is not None
        return network

    def active(self) -> Running:
        """Raises OperationInvalid where the network is not active."""
        if self.running is None:
            raise OperationInvalid(f"network '{self.name}' is not active", domain=Domain.NETWORK)
        return self.running

    def bridge_names(self) -> set[str]:
        networks = [self.definition, self.running.network if self.running else None]
        return {n.bridge_name for n in networks if n is not None and n.bridge_name}


class Networks:
    """libvirt's network procedures over the store and the host. All raise libvirt's errors.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.runtime = NetworkRuntime(ctx.store, ctx.paths.state / "dnsmasq", ctx.paths.run / "network")
        self._entries: dict[str, Entry] = {}
        #: the host's ends of interfaces that are in no network
        self.cards = host_cards.HostCards(ctx.store)
        #: what gives interfaces their filters
        self.filters: NWFilterBindings | None = None
        # whether a guest of an earlier daemon's may have ended without it
        self._unswept = bool(ctx.store.all_runtime("domain"))
        for row in ctx.store.all(_KIND):
            network = Network.from_xml(row.xml)
            self._entries[row.uuid] = Entry(row.name, row.uuid, network, autostart=row.autostart)

    # What the daemon calls

    async def reattach(self) -> None:
        """Take up the networks that a former daemon left running, and clean up after those it left half-made."""
        for uuid, doc in self._ctx.store.all_runtime(_KIND).items():
            running = await self.runtime.adopt(uuid, doc)
            if running is None:
                continue
            entry = self._entries.setdefault(uuid, Entry(running.network.name or "", uuid))
            entry.running = running

    def ensure_default(self) -> None:
        """Define the NAT network "default", to start with the daemon, if this never happened before on this host.

        Its subnet is the first free one from 192.168.122.0/24. What hinders is logged, never raised.
        """
        marker = self._ctx.paths.state / "dnsmasq" / "default-made"
        if self._ctx.mode != "system" or marker.exists():
            return
        try:
            if not any(entry.name == "default" for entry in self._entries.values()):
                subnet = subnets.pick_default(self._taken_subnets())
                hosts = subnet.network_address
                xml = _DEFAULT.format(
                    gateway=hosts + 1, netmask=subnet.netmask, first=hosts + 2, last=subnet.broadcast_address - 1
                )
                self.set_autostart(net=self.define_xml(xml=xml), autostart=1)
            marker.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            marker.touch()
        except (GuesthouseError, OSError) as error:
            _log.warning("the network 'default' could not be defined: %s", error)

    def _taken_subnets(self) -> builtins.list[IPNetwork]:
        taken = [network for network, _device in subnets.in_use()]
        return taken + [ip.interface.network for entry in self._entries.values() for ip in entry.current.ips]

    async def start_all_autostart(self) -> None:
        """Start the networks that shall run whenever the host does; one that cannot is logged and left."""
        for entry in sorted(self._entries.values(), key=lambda e: e.name):
            if entry.autostart and entry.running is None:
                try:
                    await self.create(net=entry.ref)
                except GuesthouseError as error:
                    _log.error("network '%s' does not start: %s", entry.name, error)

    # Finding and listing

    def entry(self, net: NetworkRef) -> Entry:
        entry = self._entries.get(net.uuid)
        if entry is None:
            raise NoNetwork(f"no network with matching uuid '{net.uuid}' ({net.name})")
        return entry

    def by_name(self, name: str) -> Entry:
        for entry in self._entries.values():
            if entry.name == name:
                return entry
        raise NoNetwork(f"no network with matching name '{name}'")

    def lookup_by_name(self, name: str) -> NetworkRef:
        return self.by_name(name).ref

    def lookup_by_uuid(self, uuid: str) -> NetworkRef:
        entry = self._entries.get(uuid)
        if entry is None:
            raise NoNetwork(f"no network with matching uuid '{uuid}'")
        return entry.ref

    def list_all(self, flags: int = 0) -> builtins.list[NetworkRef]:
        """The networks that fit ``flags``: of each pair (active or not, ...) one, both or none may be set."""
        check_flags(flags, 63, "virConnectListAllNetworks", Domain.NETWORK)
        found = []
        for entry in sorted(self._entries.values(), key=lambda e: e.name):
            facts = (
                (entry.running is not None, _ACTIVE, _INACTIVE),
                (entry.definition is not None, _PERSISTENT, _TRANSIENT),
                (entry.autostart, _AUTOSTART, _NO_AUTOSTART),
            )
            if all(not flags & (yes | no) or flags & (yes if fact else no) for fact, yes, no in facts):
                found.append(entry.ref)
        return found

    def num_of(self) -> int:
        return len(self.list_all(_ACTIVE))

    def num_of_defined(self) -> int:
        return len(self.list_all(_INACTIVE))

    def list_defined(self, maxnames: int) -> builtins.list[str]:
        return [ref.name for ref in self.list_all(_INACTIVE)][:maxnames]

    def list(self, maxnames: int) -> builtins.list[str]:
        return [ref.name for ref in self.list_all(_ACTIVE)][:maxnames]

    # Defining

    def define_xml(self, xml: str) -> NetworkRef:
        return self.define_xml_flags(xml=xml, flags=0)

    def define_xml_flags(self, xml: str, flags: int) -> NetworkRef:
        """Keep a definition. That of a network that is active counts from its next start."""
        check_flags(flags, _VALIDATE, "networkDefineXMLFlags", Domain.NETWORK)
        network = self._checked(xml)
        admit(Named("network", network.name or "", network.uuid or ""))
        entry = self._match(network)
        is_new = entry is None
        entry = entry or Entry(network.name or "", network.uuid or "")
        self._ctx.store.put(_KIND, entry.uuid, entry.name, network.format(inactive=True), entry.autostart)
        entry.definition = network
        if is_new:
            self._entries[entry.uuid] = entry
        self._emit(entry, _DEFINED)
        return entry.ref

    def _checked(self, xml: str) -> Network:
        network = parse(xml)
        others: set[str] = set()
        for entry in self._entries.values():
            if entry.name != network.name:
                others |= entry.bridge_names()
        complete(network, bridges.exists, frozenset(others))
        return network

    def _match(self, network: Network) -> Entry | None:
        """The known network that this document is about. Raises OperationFailed where name or UUID is another's."""
        entry = self._entries.get(network.uuid or "")
        if entry is not None:
            if entry.name != network.name:
                text = f"network '{entry.name}' is already defined with uuid {entry.uuid}"
                raise OperationFailed(text, domain=Domain.NETWORK)
            return entry
        for other in self._entries.values():
            if other.name == network.name:
                text = f"network '{network.name}' already exists with uuid {other.uuid}"
                raise OperationFailed(text, domain=Domain.NETWORK)
        return None

    def undefine(self, net: NetworkRef) -> None:
        """Forget the definition; an active network goes on as a transient one."""
        entry = self.entry(net)
        if entry.definition is None:
            raise OperationInvalid("can't undefine transient network", domain=Domain.NETWORK)
        self._ctx.store.delete(_KIND, entry.uuid)
        definition, entry.definition, entry.autostart = entry.definition, None, False
        if entry.running is None:
            self._forget(entry, definition)
        self._emit(entry, _UNDEFINED)

    def _forget(self, entry: Entry, network: Network) -> None:
        self._entries.pop(entry.uuid, None)
        self.runtime.files(network).remove(leases=True)

    async def update(self, net: NetworkRef, command: int, section: int, parentIndex: int, xml: str, flags: int) -> None:
        """Change one element of the live network, its definition or both; without flags of the one that counts now.
        On failure neither is changed."""
        check_flags(flags, _LIVE | _CONFIG, "networkUpdate", Domain.NETWORK)

        def change(network: Network) -> Network:
            return network_update.apply(network, command, section, parentIndex, xml)

        await self.change(self.entry(net), flags, change)

    async def change(self, entry: Entry, flags: int, change: Callable[[Network], Network]) -> None:
        """Put what ``change`` makes of the live document, the definition or both in its place; without flags, of the one
        that counts now. On failure neither is changed."""
        async with entry.lock:
            running, definition = entry.running, entry.definition
            flags = flags or (_LIVE if running else _CONFIG)
            if flags & _LIVE and running is None:
                raise OperationInvalid("network is not running", domain=Domain.NETWORK)
            if flags & _CONFIG and definition is None:
                text = "cannot change persistent config of a transient network"
                raise OperationInvalid(text, domain=Domain.NETWORK)
            changed = live = None
            if flags & _CONFIG and definition is not None:
                changed = change(definition)
            if flags & _LIVE and running is not None:
                live = change(running.network)
            if live is not None and running is not None:
                await self.runtime.change(running, live)
            if changed is not None:
                self._ctx.store.put(_KIND, entry.uuid, entry.name, changed.format(inactive=True), entry.autostart)
                entry.definition = changed

    # Starting and stopping

    async def create_xml(self, xml: str) -> NetworkRef:
        return await self.create_xml_flags(xml=xml, flags=0)

    async def create_xml_flags(self, xml: str, flags: int) -> NetworkRef:
        """Start a network that is forgotten when it stops; or a defined one with another document."""
        check_flags(flags, _VALIDATE, "networkCreateXMLFlags", Domain.NETWORK)
        network = self._checked(xml)
        admit(Named("network", network.name or "", network.uuid or ""))
        entry = self._match(network)
        if entry is not None and entry.running is not None:
            raise OperationInvalid(f"network is already active as '{entry.name}'", domain=Domain.NETWORK)
        is_new = entry is None
        entry = entry or Entry(network.name or "", network.uuid or "")
        if is_new:
            # its name is taken from now on, though nothing runs yet
            entry.definition = network
            self._entries[entry.uuid] = entry
        try:
            await self._start(entry, network)
        except BaseException:
            if is_new:
                self._forget(entry, network)
            raise
        finally:
            if is_new:
                entry.definition = None
        return entry.ref

    async def create(self, net: NetworkRef) -> None:
        entry = self.entry(net)
        await self._start(entry, entry.current)

    async def _start(self, entry: Entry, network: Network) -> None:
        async with entry.lock:
            if entry.running is not None:
                raise OperationInvalid("network is already active", domain=Domain.NETWORK)
            if self._entries.get(entry.uuid) is not entry:
                raise NoNetwork(f"no network with matching uuid '{entry.uuid}' ({entry.name})")
            entry.running = await self.runtime.start(network)
        self._emit(entry, _STARTED)

    async def destroy(self, net: NetworkRef) -> None:
        entry = self.entry(net)
        async with entry.lock:
            running = entry.active()
            try:
                await self.runtime.stop(running)
            finally:
                entry.running = None
                if entry.definition is None:
                    self._forget(entry, running.network)
        self._emit(entry, _STOPPED)

    async def restore_rules(self) -> None:
        """Put the rules and limits of all active networks and their guests in place again: somebody took them away.
        What hinders is logged."""
        for entry in list(self._entries.values()):
            async with entry.lock:
                if entry.running is None:
                    continue
                try:
                    await self.runtime.restore(entry.running)
                except GuesthouseError as error:
                    _log.error("the rules of network '%s' cannot be put back: %s", entry.name, error)

    def _emit(self, entry: Entry, what: int) -> None:
        self._ctx.events.emit(Event("network", 0, entry.ref, {"event": what, "detail": 0}))

    # Asking

    def get_xml_desc(self, net: NetworkRef, flags: int) -> str:
        check_flags(flags, _XML_INACTIVE, "networkGetXMLDesc", Domain.NETWORK)
        entry = self.entry(net)
        if flags & _XML_INACTIVE:
            return (entry.definition or entry.current).format(inactive=True)
        shown = entry.current.copy()
        if entry.running:
            shown.connections = len(entry.running.ports)
            used = network_pools.connections(port.element for port in entry.running.ports.values())
            for interface in shown.forward.interfaces if shown.forward else ():
                interface.connections = used[interface.dev or ""] or None
        return shown.format()

    def get_bridge_name(self, net: NetworkRef) -> str:
        entry = self.entry(net)
        name = entry.current.bridge_name
        if not name:
            raise InternalError(f"network '{entry.name}' does not have a bridge name.", domain=Domain.NETWORK)
        return name

    def get_autostart(self, net: NetworkRef) -> int:
        return int(self.entry(net).autostart)

    def set_autostart(self, net: NetworkRef, autostart: int) -> None:
        entry = self.entry(net)
        if entry.definition is None:
            raise OperationInvalid("cannot set autostart for transient network", domain=Domain.NETWORK)
        self._ctx.store.set_autostart(_KIND, entry.uuid, bool(autostart))
        entry.autostart = bool(autostart)

    def is_active(self, net: NetworkRef) -> int:
        return int(self.entry(net).running is not None)

    def is_persistent(self, net: NetworkRef) -> int:
        return int(self.entry(net).definition is not None)

    def get_dhcp_leases(self, net: NetworkRef, mac: str | None, flags: int) -> builtins.list[DhcpLease]:
        """The leases that have not expired, of one MAC where given."""
        check_flags(flags, 0, "networkGetDHCPLeases", Domain.NETWORK)
        if mac is not None:
            try:
                mac = parse_mac(mac)
            except XMLError as error:
                text = f"invalid MAC address: {mac}"
                raise UnknownError(text, number=33, domain=Domain.NETWORK) from error
        network = self.entry(net).current
        entries = dnsmasq.read_leases(self.runtime.files(network).leases)
        return [_lease(network, lease) for lease in entries if mac is None or lease.mac == mac]

    # What guests' interfaces get

    async def plug(self, iface: Interface, owner: DomainRef) -> Plug:
        """Connect a guest's interface: make its tap on the bridge that it names, or that its network has.

        Completes ``iface`` (a live copy). A network that is not active is an error: nothing is started silently. On
        failure nothing is left.
        """
        if iface.type in host_cards.TYPES:
            return await self._plug_card(iface, owner)
        if iface.type not in TAPPED or iface.source is None:
            return Plug(iface)
        entry, port = None, None
        bridge = iface.source.bridge
        if iface.type == "network":
            entry = self.by_name(iface.source.network or "")
            port = self._port(entry, iface, owner)
            if port.plug is not None and port.plug.type == "direct":
                return await self._plug_pooled(entry, port, iface, owner)
            bridge = port.plug.bridge if port.plug else None
            iface.bandwidth = port.bandwidth
        if iface.virtualport is not None:
            raise ConfigUnsupported(f"virtualport type '{iface.virtualport.type}' of a bridge is not supported yet")
        if iface.vlan is not None:
            raise _no_vlan(iface)
        mac = iface.mac.address if iface.mac else None
        if not bridge or not mac:
            raise InternalError("interface without a bridge or a MAC address")
        wanted = iface.target.dev if iface.target else None
        if wanted and wanted.startswith("vnet"):
            # a name that was made up for a former run
            wanted = None
        await self._sweep()
        options = port.port if port else iface.port
        tap = taps.create_tap(
            bridge,
            mac,
            name=wanted,
            queues=(iface.driver.queues if iface.driver else None) or 1,
            mtu=(iface.mtu.size if iface.mtu else None),
            isolated=bool(options and options.isolated),
            fixed=bool(port and port.plug and port.plug.mac_table_manager == "libvirt"),
            up=iface.link is None or iface.link.state != "down",
        )
        try:
            if iface.bandwidth is not None:
                await in_thread(shaping.limit, tap.name, iface.bandwidth)
            iface.set_tap(tap.name)
            _coalesce(iface)
            if self.filters is not None:
                await self.filters.plug(iface, owner, tap.name)
            if entry and entry.running and port:
                iface.source.bridge = bridge
                iface.source.portid = port.uuid
                entry.running.ports[port.uuid or ""] = Port(port, tap.name)
                self.runtime.save(entry.running)
        except BaseException:
            tap.close()
            if self.filters is not None:
                await self.filters.unplug(tap.name)
            if iface.bandwidth is not None:
                await in_thread(shaping.clear, tap.name)
            raise
        return Plug(iface, tap.name, bridge, entry.name if entry else None, tap.fds)

    async def _plug_card(self, iface: Interface, owner: DomainRef) -> Plug:
        """Make the host's end of an interface that no network or bridge has, with its limits and its filter."""
        plug = Plug(iface, fds=await self.cards.plug(iface))
        plug.tap = iface.target.dev if iface.target and iface.type != "vdpa" else None
        try:
            if iface.bandwidth is not None and plug.tap:
                await self._sweep()
                limits = shaping.turned(iface.bandwidth) if iface.type == "direct" else iface.bandwidth
                await in_thread(shaping.limit, plug.tap, limits)
            if self.filters is not None and plug.tap:
                await self.filters.plug(iface, owner, plug.tap)
        except BaseException:
            plug.close()
            await self.unplug(iface)
            raise
        return plug

    async def _plug_pooled(self, entry: Entry, port: NetworkPort, iface: Interface, owner: DomainRef) -> Plug:
        """Make the host's end on the device that the network gave the port; the live interface is a direct one."""
        assert iface.source is not None and port.plug is not None
        running = entry.active()
        iface.type, iface.vlan, iface.virtualport = "direct", port.vlan, port.virtualport
        iface.bandwidth = port.bandwidth
        iface.source.dev, iface.source.mode, iface.source.portid = port.plug.dev, port.plug.mode, port.uuid
        running.ports[port.uuid or ""] = Port(port, None)  # its device is taken from now on
        try:
            plug = await self._plug_card(iface, owner)
        except BaseException:
            del running.ports[port.uuid or ""]
            raise
        running.ports[port.uuid or ""] = Port(port, plug.tap)
        self.runtime.save(running)
        plug.network = entry.name
        return plug

    async def replug(self, old: Interface, new: Interface, owner: DomainRef) -> None:
        """Move a guest's plugged interface to the bridge or network that ``new`` names, with the limits that it gets
        there; completes ``new`` (a live copy). On failure it is where it was."""
        if new.source is None or old.target is None or not old.target.dev:
            raise InternalError("an interface without a host's end cannot be moved")
        entry, port = None, None
        bridge = new.source.bridge
        if new.type == "network":
            entry = self.by_name(new.source.network or "")
            port = self._port(entry, new, owner)
            bridge = port.plug.bridge if port.plug else None
            new.bandwidth = port.bandwidth
        if port is not None and port.plug is not None and port.plug.type == "direct":
            raise OperationUnsupported("unable to change config on 'direct' network type", domain=Domain.QEMU)
        tap = old.target.dev
        await in_thread(taps.move, tap, bridge or "")
        try:
            await in_thread(shaping.limit, tap, new.bandwidth)
        except BaseException:
            if old.source is not None and old.source.bridge:
                await in_thread(taps.move, tap, old.source.bridge)
            raise
        self._count_out(tap)
        if entry is not None and entry.running and port:
            new.source.bridge, new.source.portid = bridge, port.uuid
            entry.running.ports[port.uuid or ""] = Port(port, tap)
            self.runtime.save(entry.running)

    async def refilter(self, iface: Interface, owner: DomainRef) -> None:
        """Give a guest's plugged interface the filter that ``iface`` names, or none. On failure it has what it had."""
        tap = iface.target.dev if iface.target else None
        if self.filters is not None and tap:
            await self.filters.change(iface, owner, tap)

    async def _sweep(self) -> None:
        """Once, before the first tap: a new one must not get the limit that a killed daemon left for its name."""
        if self._unswept:
            self._unswept = False
            try:
                await in_thread(shaping.sweep)
            except GuesthouseError as error:
                _log.warning("limits of interfaces that are gone: %s", error)

    def _port(self, entry: Entry, iface: Interface, owner: DomainRef) -> NetworkPort:
        """The port that an interface gets: its own settings, then its group's and the network's."""
        running = entry.active()
        network = running.network
        trust, options = iface.trust_guest_rx_filters, iface.port
        port = NetworkPort(
            uuid=new_uuid(),
            owner=PortOwner(name=owner.name, uuid=owner.uuid),
            group=iface.source.portgroup if iface.source else None,
            mac=PortMac(address=iface.mac_address),
            virtualport=iface.virtualport,
            bandwidth=iface.bandwidth,
            rxfilters=None if trust is None else RxFilters(trust_guest=trust),
            port=PortOptions(isolated=options.isolated) if options and options.isolated is not None else None,
        )
        settle(port, network)
        network_pools.assign(port, network, [other.element for other in running.ports.values()])
        if port.vlan is not None and port.plug is not None and port.plug.type != "direct":
            raise _no_vlan(iface)
        return port

    async def unplug(self, iface: Interface) -> None:
        """The guest's interface is gone: count it out of its network. A tap vanished with QEMU, others are removed."""
        tap = iface.target.dev if iface.target else None
        if not tap:
            return
        if self.filters is not None:
            await self.filters.unplug(tap)
        if self._count_out(tap) or iface.bandwidth is not None:
            await in_thread(shaping.clear, tap)
        await self.cards.unplug(iface)

    def _count_out(self, tap: str) -> bool:
        """The tap is in no network any more; whether it had limits in one."""
        limited = False
        for entry in self._entries.values():
            running = entry.running
            for uuid in [u for u, p in running.ports.items() if p.tap == tap] if running else ():
                assert running is not None
                limited |= running.ports.pop(uuid).element.bandwidth is not None
                self.runtime.save(running)
        return limited


def _coalesce(iface: Interface) -> None:
    """Have the tap gather frames as the interface wishes; what it does is noted. Raises SystemFailure."""
    frames = iface.coalesce.rx.frames if iface.coalesce is not None and iface.coalesce.rx is not None else None
    if frames is not None and frames.max is not None and iface.target is not None:
        frames.max = taps.coalesce(iface.target.dev or "", frames.max)


def _no_vlan(iface: Interface) -> ConfigUnsupported:
    text = f"interface {iface.mac_address} - vlan tag not supported for this connection type"
    return ConfigUnsupported(text, domain=Domain.DOMAIN)


def _lease(network: Network, lease: dnsmasq.LeaseEntry) -> DhcpLease:
    version = 6 if ":" in lease.address else 4
    ips = network.ips_of(version)
    prefix = 0
    if ips:
        prefix = ips[0].interface.network.prefixlen if version == 4 else ips[0].prefix or 0
    return DhcpLease(
        iface=network.bridge_name or "",
        expirytime=lease.expiry,
        type=int(version == 6),
        mac=lease.mac,
        iaid=lease.iaid,
        ipaddr=lease.address,
        prefix=prefix,
        hostname=lease.hostname,
        clientid=lease.client_id,
    )
