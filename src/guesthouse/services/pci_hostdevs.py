"""PCI devices of the host's in guests' hands: checked, taken from their drivers, and given back.

A runtime row (kind "pci", by the device's name as the kernel writes it) is written before one is touched: ``guest`` is
the guest's name, ``path`` the device's place in sysfs, ``taken`` whether its driver was made to let go of it, ``node``
VFIO's file with ``uid`` and ``gid`` that it had, and for a network card ``card``, ``function``, ``mac`` and ``vlan``, as
they were. Mediated devices have their node labelled in the same way.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, OperationInvalid, SystemFailure
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host import passthrough
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.network.netlink import Netlink
from guesthouse.qemu.process import User
from guesthouse.services.network_runtime import in_thread
from guesthouse.services.store import Store

_log = logging.getLogger(__name__)
_KIND = "pci"
_DEVICES, _MEDIATED = "/bus/pci/devices", "/bus/mdev/devices"
_HEADER_TYPE, _ENDPOINT = 0x0E, 0
_VFIO = "vfio-pci"
# what emulated devices map besides the guest's memory
_RESERVE = 1 << 30

Row = dict[str, Any]


class PciHostdevs:
    """Takes devices for guests, and gives them back, for this daemon's guests and those of one before it."""

    def __init__(self, store: Store, user: User, sysfs: Sysfs) -> None:
        self._store = store
        self._user = user
        self._sysfs = sysfs

    async def take(self, live: Domain, guest: str) -> None:
        """Take what ``live`` has of the host's PCI devices for the guest of that name. On failure all are where they
        were. Raises libvirt's errors for what is not there, not a guest's to have, or another's."""
        rows = {name: self._plan(name, managed, card, guest) for name, managed, card in _wanted(live)}
        try:
            for name, row in rows.items():
                self._store.put_runtime(_KIND, name, row)
                if row["taken"]:
                    await in_thread(passthrough.detach, self._sysfs, row["path"])
            for name, _, card in _wanted(live):
                self._label(name, rows[name])
                if card is not None:
                    await in_thread(_set_function, rows[name], card.mac_address, _tag(card))
        except BaseException:
            for name in rows:
                await self._give(name)
            raise

    async def give_back(self, live: Domain) -> None:
        """Give back what ``live`` has. What hinders is logged: the guest is gone all the same."""
        for name, _, _ in _wanted(live):
            await self._give(name)

    def user_of(self, name: str) -> str | None:
        """The guest that has the PCI device called ``name``."""
        row = self._store.get_runtime(_KIND, name)
        return None if row is None else str(row["guest"])

    async def sweep(self, lives: list[Domain]) -> None:
        """Give back what a daemon that was killed left taken, for guests that are not among ``lives``."""
        used = {name for live in lives for name, _, _ in _wanted(live)}
        for name in self._store.all_runtime(_KIND):
            if name not in used:
                await self._give(name)

    def _plan(self, name: str, managed: bool | None, card: Interface | None, guest: str) -> Row:
        if managed is None:
            return self._plan_mediated(name, guest)
        config = f"{_DEVICES}/{name}/config"
        path = self._sysfs.real(f"{_DEVICES}/{name}")
        if path is None or not self._sysfs.exists(config):
            text = f"Device {name} not found: could not access /sys{config}"
            raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), text)
        head = self._sysfs.raw(config)
        if len(head) > _HEADER_TYPE and head[_HEADER_TYPE] & 0x7F != _ENDPOINT:
            text = "Non-endpoint PCI devices cannot be assigned to guests"
            raise InternalError(text, domain=ErrorDomain.NONE)
        node = self._node(path, name)
        for other in {name, *self._sysfs.names(f"{path}/iommu_group/devices")}:
            row = self._store.get_runtime(_KIND, other)
            if row is not None and (row["guest"] != guest or other == name):
                text = f"PCI device {other} is in use by driver QEMU, domain {row['guest']}"
                raise OperationInvalid(text, domain=ErrorDomain.NONE)
        driver = (self._sysfs.target(f"{path}/driver") or "").rpartition("/")[2]
        if not managed and driver != _VFIO:
            text = f"Unmanaged PCI device {name} must be manually detached from the host"
            raise OperationInvalid(text, domain=ErrorDomain.NONE)
        row = {"guest": guest, "path": path, "taken": managed and driver != _VFIO, "node": node}
        return row | (self._function(path, card) if card is not None else {})

    def _plan_mediated(self, uuid: str, guest: str) -> Row:
        """A part of a device, that a driver has made."""
        row = self._store.get_runtime(_KIND, uuid)
        if row is not None:
            text = f"mediated device {uuid} is in use by driver QEMU, domain {row['guest']}"
            raise OperationInvalid(text, domain=ErrorDomain.NONE)
        path = self._sysfs.real(f"{_MEDIATED}/{uuid}") or ""
        return {"guest": guest, "path": path, "taken": False, "node": self._node(path, uuid)}

    def _node(self, path: str, name: str) -> str:
        """VFIO's file for the device: for all that one IOMMU cannot tell apart."""
        group = (self._sysfs.target(f"{path}/iommu_group") or "").rpartition("/")[2]
        if not group:
            raise InternalError(f"IOMMU group of the device '{name}' is not known", domain=ErrorDomain.NONE)
        return f"/dev/vfio/{group}"

    def _function(self, path: str, card: Interface) -> Row:
        """Of a network card that is a virtual function: the card that it is part of, and its settings."""
        names = self._sysfs.names(f"{path}/physfn/net")
        if not names:
            text = "Interface type hostdev is currently supported on SR-IOV Virtual Functions only"
            raise ConfigUnsupported(text, domain=ErrorDomain.NONE)
        whole = self._sysfs.real(f"{path}/physfn") or ""
        virtual = [file for file in self._sysfs.names(whole) if file.startswith("virtfn")]
        number = next(int(file[6:]) for file in virtual if self._sysfs.real(f"{whole}/{file}") == path)
        with Netlink() as netlink:
            link = netlink.link(names[0])
            try:
                if link is None:
                    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                mac, vlan = netlink.function(link.index, number)
            except OSError as error:
                text = f"error dumping {names[0]} ({number})"
                raise SystemFailure.from_os(error, text) from None
        return {"card": names[0], "function": number, "mac": mac, "vlan": vlan}

    def _label(self, name: str, row: Row) -> None:
        """VFIO's file is the guest's user's."""
        node = f"{self._sysfs.root}{row['node']}"
        try:
            info = os.stat(node)  # noqa: PTH116
            row |= {"uid": info.st_uid, "gid": info.st_gid}
            self._store.put_runtime(_KIND, name, row)
            if not self._user.same:
                os.chown(node, self._user.uid, self._user.gid)
        except OSError as error:
            raise SystemFailure.from_os(error, f"unable to set user and group on '{row['node']}'") from None

    async def _give(self, name: str) -> None:
        row = self._store.get_runtime(_KIND, name)
        if row is None:
            return
        try:
            if "card" in row:
                await in_thread(_set_function, row, row["mac"], row["vlan"])
            shared = [other for other in self._store.all_runtime(_KIND).values() if other["node"] == row["node"]]
            if "uid" in row and len(shared) == 1:
                os.chown(f"{self._sysfs.root}{row['node']}", row["uid"], row["gid"])
            if row["taken"]:
                await in_thread(passthrough.reattach, self._sysfs, row["path"])
        except (GuesthouseError, OSError) as error:
            _log.warning("the PCI device %s of %s, which is gone: %s", name, row["guest"], error)
        self._store.delete_runtime(_KIND, name)


def _wanted(live: Domain) -> Iterator[tuple[str, bool | None, Interface | None]]:
    """Name of each PCI device that the document has of the host, whether its driver is to be made to let go of it, and
    the network card that it is; of mediated devices the UUID, and None."""
    for device in live.dev.hostdevs:
        if device.type == "pci":
            yield device.place.pci, bool(device.managed), None
        elif device.type == "mdev":
            yield device.place.uuid or "", None, None
    for nic in live.dev.interfaces:
        place = nic.source.place if nic.source is not None else None
        if nic.type == "hostdev" and place is not None:
            name = f"{place.domain or 0:04x}:{place.bus or 0:02x}:{place.slot or 0:02x}.{place.function or 0:x}"
            yield name, bool(nic.managed), nic


def _tag(card: Interface) -> int:
    """The VLAN that a virtual function is in, 0 for none. Raises ConfigUnsupported for several."""
    node: Any = card.vlan
    if node is None:
        return 0
    tags = node.findall("tag")
    if len(tags) != 1 or node.get("trunk") == "yes":
        text = "vlan trunking is not supported by SR-IOV network devices"
        raise ConfigUnsupported(text, domain=ErrorDomain.NONE)
    return int(tags[0].get("id"))


def _set_function(row: Row, mac: str, vlan: int) -> None:
    with Netlink() as netlink:
        link = netlink.link(row["card"])
        try:
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            netlink.set_function(link.index, row["function"], mac, vlan)
        except OSError as error:
            text = f"Cannot set interface MAC/vlanid to {mac}/{vlan} for ifname {row['card']} vf {row['function']}"
            raise SystemFailure.from_os(error, text) from None


def locked_bytes(live: Domain) -> int | None:
    """How much memory the guest's process must be able to lock, so that devices can reach it; None: as it is. The sizes
    are libvirt 9.0's (qemuDomainGetMemLockLimitBytes)."""
    if live.memory_backing is not None and live.memory_backing.locked:
        return resource.RLIM_INFINITY
    cards = sum(nic.type == "hostdev" for nic in live.dev.interfaces)
    assigned = cards + sum(device.type in ("pci", "mdev") for device in live.dev.hostdevs)
    factor = sum(nic.type == "vdpa" for nic in live.dev.interfaces)
    if assigned:
        # behind an IOMMU of the guest's, each device maps all memory by itself
        factor += assigned if live.dev.iommus else 1
    return factor * (live.memory or 0) * 1024 + _RESERVE if factor else None


@contextmanager
def may_lock(live: Domain) -> Iterator[None]:
    """A process that is started within may lock what ``live`` needs. Raises SystemFailure where we may not allow it."""
    wanted = locked_bytes(live)
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if wanted is None or before[0] in (wanted, resource.RLIM_INFINITY):
        yield
        return
    _limit(0, wanted)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def raise_lock(live: Domain, pid: int) -> None:
    """Let a process that runs lock what ``live`` needs by now; it may go on to lock what it could. Raises
    SystemFailure."""
    wanted = locked_bytes(live)
    if wanted is None:
        return
    try:
        now = resource.prlimit(pid, resource.RLIMIT_MEMLOCK)[0]
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot get locked memory limit of process {pid}") from None
    if now != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or now < wanted):
        _limit(pid, wanted)


def _limit(pid: int, limit: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (limit, limit))
    except (OSError, ValueError) as error:
        number = (error.errno if isinstance(error, OSError) else None) or errno.EPERM
        failure = OSError(number, os.strerror(number))
        raise SystemFailure.from_os(failure, f"cannot limit locked memory to {limit}") from None
