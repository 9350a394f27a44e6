"""Ways into a running guest that a client gets to itself: its screens, its channels."""

from __future__ import annotations

import os
import socket
from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, OperationFailed, SystemFailure, check_flags
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Domain
from guesthouse.qemu.machine import Machine
from guesthouse.services.console import DescriptorStream
from guesthouse.services.documents import running
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef

_SKIP_AUTH = 1
_CHANNEL_FORCE = 1
# type of <graphics> -> what QEMU calls its protocol
_PROTOCOLS = {"vnc": "vnc", "spice": "spice", "dbus": "@dbus-display"}
_FD_NAME = "graphicsfd"


class DomainOpen:
    def __init__(self, guests: Guests, jobs: Jobs) -> None:
        self._guests = guests
        self._jobs = jobs
        # channels that a client is at, by the path of their socket
        self._channels: dict[str, DescriptorStream] = {}

    # -- screens

    async def open_graphics(self, dom: DomainRef, idx: int, flags: int, files: list[int]) -> None:
        """Take the socket among ``files`` for a client of the screen with the number ``idx``, as if it had connected;
        with the flag it needs no password."""
        check_flags(flags, _SKIP_AUTH, "qemuDomainOpenGraphics")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "open-graphics"):
            machine = running(guest)
            protocol = _protocol(guest.current, idx)
            if not files:
                raise InternalError("No FD available at slot 0", domain=ErrorDomain.RPC)
            await _take(machine, protocol, files[0], flags)

    async def open_graphics_fd(self, dom: DomainRef, idx: int, flags: int) -> int:
        """A socket that is connected to the screen with the number ``idx``; it is the caller's to close."""
        check_flags(flags, _SKIP_AUTH, "qemuDomainOpenGraphicsFD")
        guest = self._guests.find(dom)
        running(guest)
        protocol = _protocol(guest.current, idx)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with self._jobs.changing(guest.uuid, "open-graphics"):
                await _take(running(guest), protocol, theirs.fileno(), flags)
            return ours.detach()

    # -- channels

    async def open_channel(self, dom: DomainRef, name: str | None, flags: int) -> DescriptorStream:
        """What the guest and QEMU's side of a channel say to each other; ``name`` is its target's or its alias, without
        one it is the first. One client at a time; the flag puts the other out."""
        check_flags(flags, _CHANNEL_FORCE, "qemuDomainOpenChannel")
        guest = self._guests.find(dom)
        running(guest)
        path = _channel(guest, name)
        if path in self._channels:
            if not flags & _CHANNEL_FORCE:
                raise OperationFailed("Active channel stream exists for this domain", domain=ErrorDomain.QEMU)
            self._channels[path].end()
        self._channels[path] = stream = DescriptorStream(_connect(path), lambda: self._left(path, stream))
        return stream

    def _left(self, path: str, stream: DescriptorStream) -> None:
        if self._channels.get(path) is stream:
            del self._channels[path]


def _protocol(live: Domain, idx: int) -> str:
    if idx >= len(live.dev.graphics):
        raise InternalError(f"No graphics backend with index {idx}")
    kind = live.dev.graphics[idx].type
    if kind not in _PROTOCOLS:
        raise ConfigUnsupported(f"Can only open VNC, SPICE or D-Bus p2p graphics backends, not {kind}")
    return _PROTOCOLS[kind]


async def _take(machine: Machine, protocol: str, fd: int, flags: int) -> None:
    await machine.give_fd(_FD_NAME, fd)
    arguments = {"protocol": protocol, "fdname": _FD_NAME, "skipauth": bool(flags & _SKIP_AUTH)}
    try:
        await machine.execute("add_client", arguments)
    except InternalError:
        await _forget(machine)
        raise


async def _forget(machine: Machine) -> None:
    try:
        await machine.execute("closefd", {"fdname": _FD_NAME})
    except InternalError:  # it has been used up, or the guest has gone
        pass


def _channel(guest: Guest, name: str | None) -> str:
    channels = guest.current.dev.channels
    if name is not None:
        channels = [channel for channel in channels if name in _names(channel)]
    if not channels:
        raise InternalError(f"cannot find channel {name if name is not None else '<null>'}")
    channel = channels[-1] if name is not None else channels[0]
    if channel.type != "unix" or channel.source is None or not channel.source.path:
        raise InternalError(f"channel {name or (channel.alias and channel.alias.name)} is not using a UNIX socket")
    return str(channel.source.path)


def _names(channel: Any) -> tuple[str | None, ...]:
    target = channel.target.name if channel.target is not None and channel.target.type == "virtio" else None
    return (channel.alias and channel.alias.name, target)


def _connect(path: str) -> int:
    """A socket that is connected to ``path``, however long that is."""
    folder, _, name = path.rpartition("/")
    try:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                sock.connect(f"/proc/self/fd/{place}/{name}")
                return sock.detach()
        finally:
            os.close(place)
    except OSError as error:
        raise SystemFailure.from_os(error, "Unable to connect stream to UNIX domain socket") from None
