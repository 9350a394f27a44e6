"""What a host has of a project already, as values that a plan can be made from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from guesthouse.client import Connect, Domain
from guesthouse.errors import GuesthouseError, NoStoragePool, NoStorageVol, OperationFailed
from guesthouse.model import domain as model
from guesthouse.model import port_forward
from guesthouse.model.devices.interface import Interface
from guesthouse.model.network import Network
from guesthouse.model.port_forward import PortForward
from guesthouse.provision import quick
from guesthouse.provision.compose.definition import Project, uuid_of
from guesthouse.provision.host import Host
from guesthouse.provision.images.store import POOL
from guesthouse.provision.storage import Planner

_INACTIVE_DOMAIN, _INACTIVE_NETWORK = 2, 1


@dataclass
class GuestThere:
    """A guest of the project. ``made`` is what it was made from, ``live`` is None where it does not run, ``disk`` is its
    disk's capacity in bytes, None where that is gone."""

    name: str
    key: str
    file: str
    made: dict[str, str]
    config: model.Domain
    live: model.Domain | None = None
    autostart: bool = False
    disk: int | None = None


@dataclass
class NetworkThere:
    """A network of the host, the project's ``own`` or another; ``live`` is None where it does not run."""

    name: str
    own: bool
    config: Network
    live: Network | None = None
    autostart: bool = False


@dataclass
class There:
    """``others`` are the names of guests that are not the project's; ``volumes`` are capacities in bytes by pool and
    name, ``pools`` the folders of the pools, ``images`` the names of those that the host has; ``plugged`` are the names
    of guests by the network that they have a card on."""

    host: str
    guests: dict[str, GuestThere] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    networks: dict[str, NetworkThere] = field(default_factory=dict)
    volumes: dict[tuple[str, str], int] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    plugged: dict[str, list[str]] = field(default_factory=dict)

    def path(self, pool: str, volume: str) -> str:
        """Where a volume is, or will be."""
        return f"{self.pools.get(pool, '')}/{volume}"


def look(conn: Connect, project: Project) -> There:
    """What there is; nothing is changed. Raises the daemon's errors."""
    there = There(conn.get_hostname())
    planner = Planner(Host(conn, conn.get_uri()), dry=True)
    for name in ("default", *(volume.pool for volume in project.volumes.values())):
        if name not in there.pools:
            view = planner.pool(name)
            if view.handle is not None:
                if not view.handle.is_active():  # what is in it cannot be seen, and would be taken for gone
                    raise OperationFailed(f"the storage pool '{name}' does not run: virsh pool-start {name}")
                view.handle.refresh()
            there.pools[name] = view.path.rstrip("/")
    for volume in project.volumes.values():
        _volume(conn, there, volume.pool, volume.name)
    for guest in project.guests.values():
        _volume(conn, there, "default", f"{guest.name}.qcow2")
    for handle in conn.list_all_domains():
        labels = quick.labels(handle)
        config = model.Domain.from_xml(_config(handle))
        for nic in config.dev.interfaces:
            there.plugged.setdefault(place(nic), []).append(handle.name)
        if labels.get("project") == project.name:
            _volume(conn, there, "default", f"{handle.name}.qcow2")
            there.guests[handle.name] = _guest(there, handle, labels, config)
        else:
            there.others.append(handle.name)
    for net in conn.list_all_networks():
        active = net.is_active()
        live = Network.from_xml(net.get_xml_desc()) if active else None
        config_text = net.get_xml_desc(_INACTIVE_NETWORK) if net.is_persistent() else net.get_xml_desc()
        own = net.uuid == uuid_of(there.host, project.name, "network", net.name)
        found = NetworkThere(net.name, own, Network.from_xml(config_text), live)
        found.autostart = net.is_persistent() and net.get_autostart()
        there.networks[net.name] = found
    there.images = _images(conn)
    return there


def _config(guest: Domain) -> str:
    return guest.get_xml_desc(_INACTIVE_DOMAIN if guest.is_persistent() else 0)


def _guest(there: There, handle: Domain, labels: dict[str, str], config: model.Domain) -> GuestThere:
    try:
        made: Any = json.loads(labels.get("made", "{}"))
    except ValueError:
        made = {}
    found = GuestThere(handle.name, labels.get("guest", ""), labels.get("file", ""), made, config)
    if handle.is_active():
        found.live = model.Domain.from_xml(handle.get_xml_desc())
    found.autostart = handle.get_autostart()
    found.disk = there.volumes.get(("default", f"{handle.name}.qcow2"))
    return found


def _volume(conn: Connect, there: There, pool: str, name: str) -> None:
    try:
        volume = conn.storage_pool_lookup_by_name(pool).vol_lookup_by_name(name)
        there.volumes[pool, name] = volume.get_info().capacity
    except (NoStoragePool, NoStorageVol):
        pass


def _images(conn: Connect) -> list[str]:
    """Their names, without making the pool that they are in."""
    try:
        pool = conn.storage_pool_lookup_by_name(POOL)
        if not pool.is_active():
            return []
    except NoStoragePool:
        return []
    names = [volume.name for volume in pool.list_all_volumes()]
    return [name.removesuffix(".json").rpartition(".")[0] for name in names if name.endswith(".json")]


def place(nic: Interface) -> str:
    """Where a card is plugged in, as a file has it: "network=NAME", "bridge=NAME", "user", or another type."""
    source = nic.source
    if nic.type == "network" and source is not None:
        return f"network={source.network}"
    if nic.type == "bridge" and source is not None:
        return f"bridge={source.bridge}"
    return nic.type or ""


def forwards(network: Network, guest: str) -> list[PortForward]:
    """The ports that lead to the guest called ``guest`` by ``network``."""
    try:
        return [each for each in port_forward.of(network) if each.guest == guest]
    except GuesthouseError:
        return []
