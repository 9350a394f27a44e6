"""Devices of a running guest, over QMP: the parts that would be on its command line are put in one by one, and taken out
again.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import OperationFailed
from guesthouse.qemu.machine import Happening, Machine
from guesthouse.qemu.monitor import MonitorClosed, MonitorError
from guesthouse.qemu.parts import Chardev, Parts, Props

#: How long a guest gets to let go of a device before it is no longer waited for (seconds); libvirt's.
UNPLUG_WAIT = 5.0
_SWITCH = {"on": True, "off": False}
_NUMBERS = ("reconnect",)


async def plug(machine: Machine, parts: Parts) -> None:
    """Give a guest what ``parts`` has, what is referred to first. On failure nothing of it is left. Raises MonitorError,
    OperationTimeout or MonitorClosed."""
    async with AsyncExitStack() as undo:
        for props in parts.objects:
            await machine.execute("object-add", props)
            undo.push_async_callback(_try, machine, "object-del", {"id": props["id"]})
        for chardev in parts.chardevs:
            await _add_chardev(machine, chardev, undo)
        for props in parts.late_objects:
            await machine.execute("object-add", props)
            undo.push_async_callback(_try, machine, "object-del", {"id": props["id"]})
        for props in parts.blockdevs:
            await machine.execute("blockdev-add", props)
            undo.push_async_callback(_try, machine, "blockdev-del", {"node-name": props["node-name"]})
        for props in parts.netdevs:
            await machine.execute("netdev_add", await _with_descriptors(machine, props))
            undo.push_async_callback(_try, machine, "netdev_del", {"id": props["id"]})
        for props in parts.devices:
            await machine.execute("device_add", props)
            if "id" in props:
                undo.push_async_callback(_try, machine, "device_del", {"id": props["id"]})
        undo.pop_all()


async def take_device(machine: Machine, alias: str) -> None:
    """Ask the guest to let go of a device that has just come. Only a lost guest is an error."""
    await _try(machine, "device_del", {"id": alias})


async def take_backends(machine: Machine, parts: Parts) -> None:
    """Take away what a device had that is gone: as much of ``parts`` as there is. Only a lost guest is an error."""
    for props in reversed(parts.netdevs):
        await _try(machine, "netdev_del", {"id": props["id"]})
    for props in reversed(parts.blockdevs):
        await _try(machine, "blockdev-del", {"node-name": props["node-name"]})
    for props in reversed(parts.late_objects):
        await _try(machine, "object-del", {"id": props["id"]})
    for chardev in reversed(parts.chardevs):
        await _try(machine, "chardev-remove", {"id": chardev.id})
        await remove_descriptors(machine, chardev.id)
    for props in reversed(parts.objects):
        await _try(machine, "object-del", {"id": props["id"]})


async def unplug(machine: Machine, alias: str, *, wait: float = UNPLUG_WAIT) -> bool:
    """Ask the guest to let go of a device; whether it is gone. False: the guest has not answered in time, and may yet.

    Raises OperationFailed where the guest refuses, MonitorError where QEMU does.
    """
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(what: Happening) -> None:
        if ended.done():
            return
        if what.name == "DIED" or (what.data.get("device") == alias and what.name in _ENDS):
            ended.set_result(what.name)

    with machine.watched(heard):
        try:
            await machine.execute("device_del", {"id": alias})
        except MonitorError as error:
            if error.reason == "DeviceNotFound":
                return True
            if not (ended.done() and ended.result() == "DEVICE_DELETED"):
                raise
        if wait:
            await asyncio.wait([ended], timeout=wait)
    if not ended.done():
        return False
    if ended.result() == "DIED":
        raise MonitorClosed()
    if ended.result() != "DEVICE_DELETED":
        raise OperationFailed("unplug of device was rejected by the guest", domain=ErrorDomain.QEMU)
    return True


_ENDS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")


async def aliases(machine: Machine) -> set[str]:
    """The ids of all devices that the guest has."""
    found = await machine.execute("qom-list", {"path": "/machine/peripheral"})
    return {item["name"] for item in found if item["type"].startswith("child<")}


async def _try(machine: Machine, command: str, arguments: dict[str, Any]) -> None:
    try:
        await machine.execute(command, arguments)
    except MonitorError:
        pass  # it is not there


async def remove_descriptors(machine: Machine, what: str) -> None:
    """Take back the files that were given for ``what``."""
    try:
        sets = await machine.execute("query-fdsets")
    except MonitorError:
        return
    for each in sets:
        if any(fd.get("opaque") == what for fd in each["fds"]):
            await _try(machine, "remove-fd", {"fdset-id": each["fdset-id"]})


# -- descriptors


async def _with_descriptors(machine: Machine, props: Props) -> Props:
    """A network backend with the descriptors that it names given to QEMU."""
    out = dict(props)
    for name in ("fd", "fds", "vhostfd", "vhostfds"):
        if name in props:
            names = []
            for number, fd in enumerate(str(props[name]).split(":")):
                names.append(f"{name}-{props['id']}-{number}")
                await machine.give_fd(names[-1], int(fd))
            out[name] = ":".join(names)
    return out


async def _add_chardev(machine: Machine, chardev: Chardev, undo: AsyncExitStack) -> None:
    places: dict[str, str] = {}
    for number, fd, _ in chardev.files:
        places[f"/dev/fdset/{number}"] = f"/dev/fdset/{await machine.add_fd(fd, chardev.id)}"
    if chardev.files:
        undo.push_async_callback(remove_descriptors, machine, chardev.id)
    options = {name: places.get(value, value) for name, value in chardev.options.items()}
    if "fd" in options:
        name = f"fd-{chardev.id}"
        await machine.give_fd(name, int(options["fd"]))
        options["fd"] = name
    await machine.execute("chardev-add", {"id": chardev.id, "backend": backend(chardev.backend, options)})
    undo.push_async_callback(_try, machine, "chardev-remove", {"id": chardev.id})


def backend(kind: str, options: dict[str, str]) -> Props:
    """A character device's host end as QMP has it, from what the command line says."""
    data: Props = {}
    left = dict(options)
    if kind == "socket":
        data["addr"] = _address(left)
    elif kind == "udp":
        data["remote"] = _inet(left.pop("host", ""), left.pop("port", "0"))
        if "localaddr" in left or "localport" in left:
            data["local"] = _inet(left.pop("localaddr", ""), left.pop("localport", "0"))
    elif kind in ("file", "pipe", "serial", "parallel") and "path" in left:
        data["out" if kind == "file" else "device"] = left.pop("path")
    elif kind == "spicevmc":
        data["type"] = left.pop("name", "")  # QMP's word for it
    for name, value in left.items():
        data[name] = int(value) if name in _NUMBERS else _SWITCH.get(value, value)
        if name in ("name", "type", "fqdn"):
            data[name] = value
        elif name == "path":
            data["in" if kind == "file" else name] = value
    return {"type": kind, "data": data}


def _address(options: dict[str, str]) -> Props:
    if "fd" in options:
        return {"type": "fd", "data": {"str": options.pop("fd")}}
    if "path" in options:
        return {"type": "unix", "data": {"path": options.pop("path")}}
    return _inet(options.pop("host", ""), options.pop("port", "0"))


def _inet(host: str, port: str) -> Props:
    return {"type": "inet", "data": {"host": host, "port": port}}
