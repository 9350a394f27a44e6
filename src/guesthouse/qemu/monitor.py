"""QMP, QEMU's control channel, over QEMU's own library."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError
from qemu.qmp.message import Message
from qemu.qmp.protocol import ConnectError, StateError

from guesthouse.errors import InternalError, OperationTimeout

# the library tells of each lost connection on its own; the machine does so in words that users know
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

_TIMEOUT = 30.0

EventCallback = Callable[[str, dict[str, Any], float], None]


class MonitorError(InternalError):
    """QEMU refused a command; ``reason`` is its error class."""

    def __init__(self, command: str, description: str, reason: str = "GenericError") -> None:
        super().__init__(f"unable to execute QEMU command '{command}': {description}")
        self.reason = reason


class MonitorClosed(InternalError):
    """The connection is gone: the guest's process ended, or is about to."""

    def __init__(self) -> None:
        super().__init__("qemu unexpectedly closed the monitor")


class _Client(QMPClient):
    """One that does not write every message out for a log that nobody keeps."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class Monitor:
    """A connection to one QEMU. Events go to ``on_event(name, data, seconds)``, in order."""

    def __init__(self, on_event: EventCallback) -> None:
        self._client = _Client("guest")
        self._on_event = on_event
        self._pump: asyncio.Task[None] | None = None
        self._closed = False
        self._asked = 0

    async def connect(self, path: Path, timeout: float = _TIMEOUT) -> None:
        """Connect and negotiate. Raises MonitorClosed where QEMU ends meanwhile, OperationTimeout where it is silent."""
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await asyncio.wait_for(self._client.connect(f"/proc/self/fd/{folder}/{path.name}"), timeout)
        except TimeoutError:
            raise OperationTimeout("QEMU does not answer on its monitor") from None
        except (ConnectError, QMPError, OSError, EOFError):
            raise MonitorClosed() from None
        finally:
            os.close(folder)
        self._pump = asyncio.ensure_future(self._deliver())

    async def _deliver(self) -> None:
        async for message in self._client.events:
            fields: dict[str, Any] = dict(message)
            stamp = fields["timestamp"]
            seconds = stamp["seconds"] + stamp["microseconds"] / 1e6
            try:
                self._on_event(fields["event"], fields.get("data") or {}, seconds)
            except Exception:
                logging.getLogger(__name__).exception("an event of the guest could not be handled")

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, timeout: float = _TIMEOUT) -> Any:
        """Run a command; returns its result. Raises MonitorError, MonitorClosed or OperationTimeout."""
        if self._closed:
            raise MonitorClosed()
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise MonitorError(command, str(error), error.error_class) from None
        except TimeoutError:
            raise OperationTimeout(f"QEMU does not answer '{command}'") from None
        except (QMPError, StateError, EOFError, ConnectionError):
            raise MonitorClosed() from None

    async def give_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of a descriptor, under ``name`` for the one command that takes it. Raises as
        :meth:`execute` does."""
        self.send_fd(fd)
        await self.execute("getfd", {"fdname": name})

    async def add_fd(self, fd: int, note: str) -> int:
        """Give QEMU a copy of a descriptor as a set of its own; returns the set's number, for "/dev/fdset/N". Raises as
        :meth:`execute` does."""
        self.send_fd(fd)
        return int((await self.execute("add-fd", {"opaque": note}))["fdset-id"])

    def send_fd(self, fd: int) -> None:
        """Send a copy of the descriptor ahead of the command that takes it. Raises MonitorClosed."""
        # the library's own way of sending one wants asyncio's sockets, and this loop may be uvloop's
        writer = self._client._writer
        if self._closed or writer is None:
            raise MonitorClosed()
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
            try:
                socket.send_fds(sock, [b" "], [fd])
            except OSError:
                raise MonitorClosed() from None

    async def raw(self, text: str, fd: int | None = None) -> dict[str, Any]:
        """Send a whole message as ``text`` has it, and ``fd`` along; returns the answer, be it a result or an error,
        with an id as libvirt numbers them. Raises InternalError for what is no JSON object, MonitorClosed."""
        try:
            message = json.loads(text)
            if not isinstance(message, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            raise InternalError(f"cannot parse json {text}: parse error: {error}", domain=0) from None
        if self._closed:
            raise MonitorClosed()
        self._asked += 1
        if fd is not None:
            self.send_fd(fd)
        try:
            answer = dict(await self._client._raw(message))
        except (QMPError, StateError, EOFError, ConnectionError):
            raise MonitorClosed() from None
        if "execute" not in message:
            answer.pop("id", None)  # as libvirt, which numbers commands alone
        elif "id" in answer:
            answer["id"] = message.get("id", f"libvirt-{self._asked}")
        return answer

    async def close(self) -> None:
        """Let go of the connection."""
        if self._closed:
            return
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
        try:
            await self._client.disconnect()
        except (Exception, asyncio.CancelledError):
            pass  # it was lost before
