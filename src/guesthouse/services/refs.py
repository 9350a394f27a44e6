"""Handles of a host's objects, as clients hold them. UUIDs are canonical strings."""

from __future__ import annotations

from typing import NamedTuple


class DomainRef(NamedTuple):
    """A guest; ``id`` is -1 while it does not run. The UUID alone finds it, name and id may be stale."""

    name: str
    uuid: str
    id: int


class NetworkRef(NamedTuple):
    """A virtual network, found by UUID."""

    name: str
    uuid: str


class NetworkPortRef(NamedTuple):
    """A port of a network, found by UUID. On its way in ``net`` is any record with the network's name and UUID."""

    net: NetworkRef
    uuid: str


class PoolRef(NamedTuple):
    """A storage pool, found by UUID."""

    name: str
    uuid: str


class VolumeRef(NamedTuple):
    """A volume: its pool's name, its own name, its key (the path)."""

    pool: str
    name: str
    key: str


class SecretRef(NamedTuple):
    """A secret, found by UUID; ``usageType`` is libvirt's number, ``usageID`` what it is for ("" for nothing)."""

    uuid: str
    usageType: int
    usageID: str


class NWFilterRef(NamedTuple):
    """A network filter, found by UUID."""

    name: str
    uuid: str


class NWFilterBindingRef(NamedTuple):
    """That the device ``portdev`` has a filter; found by the device."""

    portdev: str
    filtername: str


class NodeDeviceRef(NamedTuple):
    """A device of the host."""

    name: str


class InterfaceRef(NamedTuple):
    """A network interface of the host, found by name; ``mac`` may be stale, "" where it has none."""

    name: str
    mac: str
