"""What must be done so that a host has what a project's file says: a pure function of the file and of what is there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from guesthouse.errors import OperationFailed
from guesthouse.model.network import Bridge, Dhcp, DhcpHost, DhcpRange, DnsDomain, Forward, Ip, IPInterface, Network
from guesthouse.provision.compose.definition import (
    GuestWish,
    NetworkWish,
    Project,
    VolumeWish,
    mac_of,
    port_text,
    uuid_of,
)
from guesthouse.provision.compose.presence import GuestThere, NetworkThere, There, forwards, place
from guesthouse.units import GIB, pretty_size

_SIGNS = {"create": "+", "recreate": "!", "remove": "-"}
_CHOSEN = range(130, 255)  # 192.168.N.0/24, where a file names no subnet


@dataclass(frozen=True)
class Change:
    """One thing of a guest or network that changes: ``aspect`` says which, ``text`` tells people."""

    aspect: str
    text: str


@dataclass
class Step:
    """One thing to do: "create", "recreate", "change", "start", "restart" or "remove" a "network", "volume" or "guest".
    ``key`` is its key in the file ("" where that has it no more)."""

    do: str
    kind: str
    name: str
    key: str = ""
    texts: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    pool: str = "default"

    def __str__(self) -> str:
        what = [*self.texts, *(change.text for change in self.changes)]
        word = {"recreate": "made anew", "start": "started", "restart": "restarted"}.get(self.do)
        shown = "; ".join(([word] if word else []) + what)
        return f"{_SIGNS.get(self.do, '~')} {self.kind:7} {self.name}" + (f"  {shown}" if shown else "")


@dataclass
class Plan:
    """``steps`` in their order; ``notes`` are what is not done, and why."""

    project: Project
    there: There
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """ "2 to create, 1 to change"."""
        counts: dict[str, int] = {}
        for step in self.steps:
            word = {"start": "change"}.get(step.do, step.do)
            counts[word] = counts.get(word, 0) + 1
        words = {"recreate": "make anew"}
        return ", ".join(f"{count} to {words.get(word, word)}" for word, count in counts.items())


def up(project: Project, there: There, *, only: list[str], recreate: bool = False, restart: bool = False) -> Plan:
    """The plan for having all of ``project``, or the guests ``only`` with what they need.

    Guests whose image or first boot is another now are made anew with ``recreate`` alone, and restarted for what waits
    for that with ``restart`` alone. Raises OperationFailed where a name is somebody else's.
    """
    return _Up(project, there, only, recreate, restart).plan()


class _Up:
    def __init__(self, project: Project, there: There, only: list[str], recreate: bool, restart: bool) -> None:
        self._project, self._there = project, there
        self._whole, self._recreate, self._restart = not only, recreate, restart
        self._guests = [project.guests[key] for key in (project.with_needed(only) if only else project.guests)]
        self._plan = Plan(project, there)

    def plan(self) -> Plan:
        plan, project = self._plan, self._project
        used = {card.network for guest in self._guests for card in guest.cards}
        kept = {volume for guest in self._guests for volume in guest.volumes}
        orphans = self._orphans() if self._whole else []
        # those that go first: their ports and addresses may be for the others
        plan.steps += orphans
        for network in project.networks.values():
            if self._whole or network.key in used:
                self._network(network)
        for volume in project.volumes.values():
            if self._whole or volume.key in kept:
                self._volume(volume)
        for guest in self._guests:
            self._guest(guest)
        if self._whole:
            gone = {step.name for step in orphans}
            plan.steps += _networks_gone(self._there, {net.name for net in project.networks.values()}, gone, plan.notes)
        return plan

    def _orphans(self) -> list[Step]:
        names = {guest.name for guest in self._project.guests.values()}
        steps = []
        for guest in self._there.guests.values():
            if guest.name not in names:
                step = Step("remove", "guest", guest.name, texts=["it is not in the file; its disk is kept"])
                if guest.file and guest.file != self._project.file:
                    step.texts.append(f"it was made from {guest.file}")
                steps.append(step)
        return steps

    # -- networks

    def _network(self, wish: NetworkWish) -> None:
        found = self._there.networks.get(wish.name)
        if wish.external:
            if found is None:
                raise OperationFailed(f"there is no network '{wish.name}', which '{wish.key}' is said to be (external)")
            if found.live is None:
                self._plan.steps.append(Step("start", "network", wish.name, wish.key))
            return
        if found is None:
            self._plan.steps.append(Step("create", "network", wish.name, wish.key, [_network_text(wish)]))
            return
        if not found.own:
            raise OperationFailed(
                f"there is a network '{wish.name}', which project '{self._project.name}' has not made: "
                f"'external: true' uses it as it is, 'name:' calls the project's another"
            )
        changes = network_changes(self._project, wish, found, self._there)
        if changes or not found.autostart:
            busy = found.live is not None and bool(found.live.connections)
            if busy and any(change.aspect == "network" for change in changes):
                changes.append(Change("later", "when it starts next: guests are on it"))
            elif not found.autostart:
                changes.append(Change("autostart", "starts with the host"))
            self._plan.steps.append(Step("change", "network", wish.name, wish.key, changes=changes))
        elif found.live is None:
            self._plan.steps.append(Step("start", "network", wish.name, wish.key))
        elif _facts(found.live, wish) != _facts(found.config, wish):
            self._plan.notes.append(f"network {wish.name} is what the file says when it starts next: guests are on it")

    # -- volumes

    def _volume(self, wish: VolumeWish) -> None:
        there = self._there.volumes.get((wish.pool, wish.name))
        name = f"{wish.pool}/{wish.name}"
        if there is None:
            if wish.external:
                raise OperationFailed(f"there is no volume '{name}', which '{wish.key}' is said to be (external)")
            step = Step("create", "volume", name, wish.key, [f"{wish.size / GIB:g} GiB, {wish.format}"], pool=wish.pool)
            self._plan.steps.append(step)
        elif not wish.external and there < wish.size:
            change = Change("size", f"{_size(there)} -> {_size(wish.size)}")
            self._plan.steps.append(Step("change", "volume", name, wish.key, changes=[change], pool=wish.pool))
        elif not wish.external and there > wish.size:
            self._plan.notes.append(f"volume {name} has {_size(there)}, and is not made smaller ({_size(wish.size)})")

    # -- guests

    def _guest(self, wish: GuestWish) -> None:
        there, plan = self._there, self._plan
        found = there.guests.get(wish.name)
        if found is None:
            if wish.name in there.others:
                raise OperationFailed(
                    f"there is a guest '{wish.name}', which project '{self._project.name}' has not made: "
                    f"'name:' calls the project's another"
                )
            step = Step("create", "guest", wish.name, wish.key, [self._guest_text(wish)])
            if ("default", f"{wish.name}.qcow2") in there.volumes:
                step.texts.append("its disk is there from before")
            plan.steps.append(step)
            return
        why = _made_from_others(wish, found)
        lost = found.disk is not None
        if why and self._recreate:
            text = ", ".join(why) + ("; what is on its disk is lost" if lost else "")
            plan.steps.append(Step("recreate", "guest", wish.name, wish.key, [text]))
            return
        if why:
            text = "--recreate makes it anew" + (", and its disk is lost" if lost else "")
            plan.notes.append(f"guest {wish.name}: {', '.join(why)}: {text}")
        changes = self._changes(wish, found)
        waits = _waits_for_restart(wish, found)
        if changes:
            plan.steps.append(Step("change", "guest", wish.name, wish.key, changes=changes))
        if found.live is None:
            if found.disk is not None:
                plan.steps.append(Step("start", "guest", wish.name, wish.key))
        elif waits and self._restart:
            plan.steps.append(Step("restart", "guest", wish.name, wish.key, [f"for {' and '.join(waits)}"]))
        elif waits:
            plan.notes.append(f"guest {wish.name}: {' and '.join(waits)} at its next start, or --restart")

    def _guest_text(self, wish: GuestWish) -> str:
        image = wish.image + ("" if wish.image in self._there.images else " (which is fetched)")
        cpus = "1 processor" if wish.cpus == 1 else f"{wish.cpus} processors"
        parts = [image, cpus, _size(wish.memory << 20)]
        if wish.disk is not None:
            parts.append(f"a disk of {wish.disk:g} GiB")
        if places := [card.network or card.where for card in wish.cards]:
            parts.append("on " + ", ".join(places))
        if wish.publish:
            parts.append("port " + ", ".join(port_text(each) for each in wish.publish))
        return ", ".join(parts)

    def _changes(self, wish: GuestWish, found: GuestThere) -> list[Change]:
        changes, config, live = [], found.config, found.live
        later = "" if live is None else " (at its next start)"
        memory = config.memory or 0
        wanted = wish.memory << 10
        if (memory, config.current_memory or memory) != (wanted, wanted):
            now = live is None or wanted <= (live.memory or 0)
            text = f"memory {_size(memory << 10)} -> {_size(wanted << 10)}{'' if now else later}"
            changes.append(Change("memory", text))
        if (cpus := config.vcpu.value if config.vcpu is not None else 1) != wish.cpus:
            changes.append(Change("cpus", f"processors {cpus} -> {wish.cpus}{later}"))
        if wish.disk is not None and found.disk is not None and found.disk < int(wish.disk * GIB):
            changes.append(Change("disk", f"disk {_size(found.disk)} -> {wish.disk:g} GiB"))
        if found.autostart != wish.autostart:
            changes.append(
                Change("autostart", "starts with the host" if wish.autostart else "does not start with the host")
            )
        if (config.on_crash or "destroy") != wish.crash_action:
            changes.append(Change("crash", f"after a crash: {wish.crash_action}"))
        changes += self._cards(wish, found)
        changes += self._disks(wish, found)
        if ports := self._ports(wish):
            changes.append(ports)
        return changes

    def _cards(self, wish: GuestWish, found: GuestThere) -> list[Change]:
        wanted = {with_kind(card.where): card for card in wish.cards}
        there = {place(nic): nic.mac_address for nic in found.config.dev.interfaces}
        other = {name for name, card in wanted.items() if card.mac and name in there and there[name] != card.mac}
        gone = [Change(f"unplug {name}", f"off {name}") for name in there if name not in wanted or name in other]
        new = [Change(f"plug {name}", f"on {name}") for name in wanted if name not in there or name in other]
        return gone + new

    def _disks(self, wish: GuestWish, found: GuestThere) -> list[Change]:
        ours = {self._path(volume): volume.key for volume in self._project.volumes.values()}
        there = [disk.path for disk in found.config.dev.disks]
        wanted = {self._path(self._project.volumes[key]): key for key in wish.volumes}
        gone = [
            Change(f"detach {ours[path]}", f"without volume {ours[path]}")
            for path in there
            if path in ours and path not in wanted
        ]
        return gone + [
            Change(f"attach {key}", f"with volume {key}") for path, key in wanted.items() if path not in there
        ]

    def _path(self, volume: VolumeWish) -> str:
        return self._there.path(volume.pool, volume.name)

    def _ports(self, wish: GuestWish) -> Change | None:
        home = home_network(wish)
        wanted = sorted(port_text(each) for each in wish.publish)
        right = True
        for network in self._there.networks.values():
            expected = wanted if network.name == home else []
            for document in (network.config, network.live):
                if document is not None:
                    right = right and sorted(port_text(each) for each in forwards(document, wish.name)) == expected
        if right and (home in self._there.networks or not wanted):
            return None
        return Change("publish", f"port {', '.join(wanted)} on {home}" if wanted else "no ports")


def _made_from_others(wish: GuestWish, found: GuestThere) -> list[str]:
    """What a guest cannot be given any more."""
    made = wish.made_from()
    why = [f"{name} differs" for name in sorted({*made, *found.made}) if made.get(name) != found.made.get(name)]
    if "image differs" in why:
        why[why.index("image differs")] = f"image {found.made.get('image')} -> {wish.image}"
    if found.disk is None:
        why.append("its disk is gone")
    elif wish.disk is not None and found.disk > int(wish.disk * GIB):
        why.append(f"its disk of {_size(found.disk)} is larger than {wish.disk:g} GiB")
    return why


def _waits_for_restart(wish: GuestWish, found: GuestThere) -> list[str]:
    """What a running guest has from its next start on alone."""
    if found.live is None:
        return []
    waits = []
    if (found.live.memory or 0) < wish.memory << 10:
        waits.append(f"memory {_size(wish.memory << 20)}")
    cpus = found.live.vcpu.value if found.live.vcpu is not None else 1
    if cpus != wish.cpus:
        waits.append("1 processor" if wish.cpus == 1 else f"{wish.cpus} processors")
    return waits


def with_kind(text: str) -> str:
    """A place as :func:`presence.place` says it."""
    return "network=default" if text == "default" else text


def home_network(wish: GuestWish) -> str | None:
    """The network by which a guest's ports are published: the first virtual one that it is on."""
    places = [with_kind(card.where) for card in wish.cards]
    return next((text.removeprefix("network=") for text in places if text.startswith("network=")), None)


def _size(count: int) -> str:
    value, unit = pretty_size(count)
    return f"{value:.3g} {unit}"


# -- networks as documents


def network_document(project: Project, wish: NetworkWish, there: There) -> Network:
    """The network as it is defined; what an earlier definition has and the file does not speak of stays."""
    found = there.networks.get(wish.name)
    uuid = uuid_of(there.host, project.name, "network", wish.name)
    network = found.config.copy() if found is not None else Network(name=wish.name, uuid=uuid)
    network.connections = None
    if wish.mode != network.mode or found is None:
        network.forward = None if wish.mode == "isolated" else Forward(mode=wish.mode)
    if wish.bridge is not None:
        network.bridge = Bridge(name=wish.bridge)
    if wish.mode == "bridge":
        network.ips, network.domain = [], None
        return network
    network.domain = DnsDomain(name=wish.domain) if wish.domain else None
    subnets = wish.subnets
    if not subnets:
        subnets = [ip.interface for ip in network.ips] or [_free_subnet(there)]
    network.ips = [_ip(subnet, wish.dhcp) for subnet in subnets]
    for host in _hosts(project, wish, there):
        _home(network, host.ip or "").hosts.append(host)
    return network


def _ip(subnet: IPInterface, dhcp: bool) -> Ip:
    family = "ipv6" if subnet.version == 6 else None
    ip = Ip(family=family, address=str(subnet.ip), prefix=subnet.network.prefixlen)
    if dhcp and subnet.version == 4:  # by IPv6 guests choose their addresses themselves
        places = _range(subnet)
        ip.dhcp = Dhcp(ranges=[DhcpRange(start=places[0], end=places[1])])
    return ip


def _range(subnet: IPInterface) -> tuple[str, str]:
    """The larger part of a subnet, before or behind the host's own address."""
    first, last, own = (
        int(subnet.network.network_address) + 1,
        int(subnet.network.broadcast_address) - 1,
        int(subnet.ip),
    )
    low, high = (own + 1, last) if last - own >= own - first else (first, own - 1)
    return str(ipaddress.ip_address(low)), str(ipaddress.ip_address(high))


def _free_subnet(there: There) -> IPInterface:
    taken = [ip.interface.network for net in there.networks.values() for ip in net.config.ips if ip.address]
    for number in _CHOSEN:
        found = ipaddress.ip_interface(f"192.168.{number}.1/24")
        if not any(found.network.overlaps(other) for other in taken if other.version == 4):
            return found
    raise OperationFailed("all of 192.168.130.0/24 to 192.168.254.0/24 are taken: give the network a 'subnet:'")


def _hosts(project: Project, wish: NetworkWish, there: There) -> list[DhcpHost]:
    found = []
    for guest in project.guests.values():
        for card in guest.cards:
            if card.network == wish.key and card.address is not None:
                mac = mac_of(there.host, project.name, guest, card)
                name = guest.hostname if card.address.version == 4 else None
                known = {"mac": mac, "name": name} if card.address.version == 4 else {"name": guest.hostname}
                found.append(DhcpHost(**known, ip=str(card.address)))
    return found


def _home(network: Network, address: str) -> Dhcp:
    """The DHCP of the subnet that ``address`` is in."""
    for ip in network.ips:
        if ip.address and ipaddress.ip_address(address) in ip.interface.network:
            if ip.dhcp is None:
                ip.dhcp = Dhcp()
            return ip.dhcp
    raise OperationFailed(f"the address {address} is in no subnet of network '{network.name}'")


def _facts(network: Network, wish: NetworkWish) -> dict[str, str]:
    """What a file says of a network, of one that is there."""
    facts = {"mode": network.mode or "isolated"}
    if wish.bridge is not None or wish.mode == "bridge":
        facts["bridge"] = network.bridge_name or ""
    if wish.mode != "bridge":
        if wish.subnets:
            facts["subnet"] = ", ".join(str(ip.interface) for ip in network.ips)
        facts["dhcp"] = "on" if any(ip.dhcp is not None and ip.dhcp.ranges for ip in network.ips) else "off"
        facts["domain"] = (network.domain.name if network.domain is not None else None) or "none"
    return facts


def dhcp_hosts(network: Network) -> list[tuple[str, str, str]]:
    """MAC, name and address of each guest that has a fixed one."""
    return [(h.mac or "", h.name or "", h.ip or "") for ip in network.ips if ip.dhcp for h in ip.dhcp.hosts]


def network_changes(project: Project, wish: NetworkWish, found: NetworkThere, there: There) -> list[Change]:
    """What of a network is to be another."""
    wanted = network_document(project, wish, there)
    before, after = _facts(found.config, wish), _facts(wanted, wish)
    changes = [
        Change("network", f"{name} {before[name]} -> {after[name]}") for name in after if before[name] != after[name]
    ]
    old, new = dhcp_hosts(found.config), dhcp_hosts(wanted)
    changes += [Change("hosts", f"{host[2]} is {host[1]}'s") for host in new if host not in old]
    changes += [
        Change("hosts", f"{host[2]} is nobody's")
        for host in old
        if host not in new and host[2] not in {h[2] for h in new}
    ]
    return changes


def _network_text(wish: NetworkWish) -> str:
    if wish.mode == "bridge":
        return f"the host's bridge {wish.bridge}"
    return f"{wish.mode}, " + (", ".join(str(net.network) for net in wish.subnets) or "a free subnet")


def _networks_gone(there: There, kept: set[str], gone: set[str], notes: list[str]) -> list[Step]:
    """The project's networks that are not ``kept``; those that guests which stay are on are not removed."""
    steps = []
    for network in there.networks.values():
        if network.own and network.name not in kept:
            users = [
                name for name in there.plugged.get(f"network={network.name}", []) if name not in {*gone, *there.guests}
            ]
            if users:
                notes.append(f"network {network.name} is kept: {', '.join(users)} has a card on it")
            else:
                steps.append(Step("remove", "network", network.name))
    return steps


def down(project: Project, there: There, *, volumes: bool = False) -> Plan:
    """The plan for removing all that the project has made; disks and volumes with ``volumes`` alone."""
    plan = Plan(project, there)
    order = [guest.name for guest in project.guests.values()]
    found = sorted(there.guests, key=lambda name: order.index(name) if name in order else len(order), reverse=True)
    for name in found:
        what = "with its disk" if volumes else "its disk is kept"
        plan.steps.append(Step("remove", "guest", name, texts=[what]))
    plan.steps += _networks_gone(there, set(), set(found), plan.notes)
    if volumes:
        disks = [("default", f"{name}.qcow2") for name in order if name not in there.guests]
        own = [(wish.pool, wish.name) for wish in project.volumes.values() if not wish.external]
        for pool, name in (*disks, *own):
            if (pool, name) in there.volumes:
                plan.steps.append(Step("remove", "volume", f"{pool}/{name}", pool=pool))
    else:
        kept = [f"{guest.name}.qcow2" for guest in there.guests.values() if guest.disk is not None]
        kept += [
            f"{w.pool}/{w.name}"
            for w in project.volumes.values()
            if not w.external and (w.pool, w.name) in there.volumes
        ]
        if kept:
            plan.notes.append(f"kept: {', '.join(kept)} (--volumes removes them, too)")
    return plan
