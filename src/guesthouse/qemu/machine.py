"""One running guest: its process and its monitor, in phases, so that the caller can write down each before the next."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from guesthouse.errors import InternalError
from guesthouse.qemu import process
from guesthouse.qemu.command import Command
from guesthouse.qemu.monitor import Monitor, MonitorClosed, MonitorError
from guesthouse.qemu.process import Process, User

_log = logging.getLogger(__name__)

#: How long a guest gets to end by itself when it is destroyed gently, before it is killed (seconds).
_GRACE = 10.0
_KILL_WAIT = 30.0


@dataclass(frozen=True)
class Happening:
    """Something the guest did: QEMU's event name and data, or "DIED" with the exit ``status`` (None: unknown).
    ``seconds`` since 1970 is QEMU's time of it."""

    name: str
    data: dict[str, Any]
    seconds: float = 0.0


class CharacterEnd(NamedTuple):
    """``pty`` is the terminal that QEMU opened ("" where the device is none), ``open`` whether the guest listens."""

    pty: str
    open: bool


Listener = Callable[[Happening], None]


class Machine:
    """A guest's QEMU. ``folder`` is its own runtime folder (monitor socket, screenshots), ``log`` takes its output.

    Phases: :meth:`prepare`, :meth:`spawn`, :meth:`handshake`, :meth:`cont`; or :meth:`adopt` with an earlier
    :meth:`record`. Whatever fails raises and leaves :meth:`destroy` and :meth:`clean` to be called.
    """

    def __init__(self, folder: Path, log: Path, user: User, listener: Listener) -> None:
        self.folder = folder
        self.log = log
        self._user = user
        self._listener = listener
        self._watchers: list[Listener] = []
        self._listening: socket.socket | None = None
        self._process: Process | None = None
        self._monitor: Monitor | None = None
        self._over = False

    @property
    def pid(self) -> int:
        """The process id, 0 before there is one."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and not self._over and self._process.alive

    # -- phases

    def prepare(self) -> int:
        """Make the folder and the listening monitor socket; returns its descriptor, for the command line."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if not self._user.same:
            os.chown(self.folder, self._user.uid, self._user.gid)
        self._listening = process.listen_unix(self.folder / "monitor.sock")
        return self._listening.fileno()

    def spawn(self, command: Command, note: str = "") -> dict[str, Any]:
        """Start the process, its CPUs stopped; returns the record to be written down at once."""
        self._process = process.spawn(
            command.argv,
            fds=command.fds,
            user=self._user,
            log=self.log,
            marker=str(self.folder),
            note=note,
            environment=command.environment,
        )
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        return self.record()

    async def handshake(self) -> None:
        """Connect the monitor. Raises InternalError with QEMU's own last words where it ended instead."""
        await self._connect()

    def record(self) -> dict[str, Any]:
        """What another daemon needs to adopt this machine."""
        assert self._process is not None
        return {"pid": self._process.pid, "start_time": self._process.start_time}

    async def adopt(self, record: dict[str, Any]) -> bool:
        """Take over the process of ``record``, if it still runs; whether it does."""
        found = process.adopt(record["pid"], record["start_time"])
        if found is None:
            return False
        self._process = found
        await self._connect()
        return True

    async def _connect(self) -> None:
        assert self._process is not None
        monitor = Monitor(self._event)
        self._process.watch(self._died)
        try:
            await monitor.connect(self.folder / "monitor.sock")
        except MonitorClosed:
            await monitor.close()
            await self._process.wait(2)
            raise self._early_end() from None
        except BaseException:
            await monitor.close()
            raise
        self._monitor = monitor

    def _early_end(self) -> InternalError:
        words = process.last_words(self.log)
        if words:
            return InternalError(f"process exited while connecting to monitor: {words}")
        return InternalError("process exited while connecting to monitor; it said nothing")

    @contextmanager
    def watched(self, watcher: Listener) -> Iterator[None]:
        """Have ``watcher`` called with what happens while the body runs, before the listener is."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def _event(self, name: str, data: dict[str, Any], seconds: float) -> None:
        self._tell(Happening(name, data, seconds))

    def _tell(self, what: Happening) -> None:
        for watcher in tuple(self._watchers):
            watcher(what)
        self._listener(what)

    def _died(self, status: int | None) -> None:
        if not self._over:
            self._over = True
            self._tell(Happening("DIED", {"status": status}))

    # -- commands

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Any QMP command. Raises MonitorError, MonitorClosed, OperationTimeout."""
        if self._monitor is None:
            raise MonitorClosed()
        return await self._monitor.execute(command, arguments)

    async def cont(self) -> None:
        await self.execute("cont")

    async def stop(self) -> None:
        await self.execute("stop")

    async def powerdown(self) -> None:
        """Press the power button."""
        await self.execute("system_powerdown")

    async def reset(self) -> None:
        await self.execute("system_reset")

    async def status(self) -> str:
        """QEMU's run state: "running", "paused", "shutdown", ..."""
        return str((await self.execute("query-status"))["status"])

    async def characters(self) -> dict[str, CharacterEnd]:
        """Alias of a character device -> what QEMU has made of it."""
        found = {}
        for item in await self.execute("query-chardev"):
            if item["label"].startswith("char"):
                kind, _, pty = item["filename"].partition(":")
                alias = item["label"].removeprefix("char")
                found[alias] = CharacterEnd(pty if kind == "pty" else "", bool(item["frontend-open"]))
        return found

    async def set_password(
        self, protocol: str, password: str, connected: str | None = None, valid_to: str | None = None
    ) -> None:
        """Set the password of "vnc" or "spice"; ``connected`` says what becomes of who is connected ("keep", "fail",
        "disconnect"), ``valid_to`` when it ends to hold (UTC, "2026-12-31T23:59:59"). Raises ValueError for another
        form of time."""
        arguments = {"protocol": protocol, "password": password}
        if connected is not None:
            arguments["connected"] = connected
        await self.execute("set_password", arguments)
        if valid_to is not None:
            moment = datetime.fromisoformat(valid_to).replace(tzinfo=UTC)
            await self.execute("expire_password", {"protocol": protocol, "time": str(int(moment.timestamp()))})

    async def screendump(self, head: int = 0) -> tuple[str, bytes]:
        """MIME type and content of a picture of the screen: PNG where QEMU makes that, else PPM."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="screen-") as name:
            folder = Path(name)
            if not self._user.same:
                os.chown(folder, self._user.uid, self._user.gid)
            path = folder / "picture"
            arguments: dict[str, Any] = {"filename": str(path), "format": "png"}
            if head:
                arguments |= {"device": f"video{head}", "head": 0}
            mime = "image/png"
            try:
                await self.execute("screendump", arguments)
            except MonitorError as error:
                if "format" not in error.detail:
                    raise
                del arguments["format"]
                mime = "image/x-portable-pixmap"
                await self.execute("screendump", arguments)
            return mime, await asyncio.to_thread(path.read_bytes)

    async def memory(self, offset: int, size: int, *, physical: bool) -> bytes:
        """``size`` bytes of the guest's memory, by physical address, or by virtual address of its first processor."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="memory-") as name:
            folder = Path(name)
            if not self._user.same:
                os.chown(folder, self._user.uid, self._user.gid)
            path = folder / "content"
            await self.execute(
                "pmemsave" if physical else "memsave", {"val": offset, "size": size, "filename": str(path)}
            )
            return await asyncio.to_thread(path.read_bytes)

    async def give_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of the descriptor, to be named in a command as ``name``. Raises MonitorError."""
        if self._monitor is None:
            raise MonitorClosed()
        await self._monitor.give_fd(name, fd)

    async def add_fd(self, fd: int, note: str) -> int:
        """Give QEMU a copy of the descriptor for "/dev/fdset/N"; returns N. Raises MonitorError."""
        if self._monitor is None:
            raise MonitorClosed()
        return await self._monitor.add_fd(fd, note)

    async def send_fd(self, fd: int) -> None:
        """Send a copy of the descriptor ahead of the command that takes it. Raises MonitorClosed."""
        if self._monitor is None:
            raise MonitorClosed()
        self._monitor.send_fd(fd)

    async def raw(self, text: str, fd: int | None = None) -> dict[str, Any]:
        """Send a whole QMP message as a client wrote it, and a copy of ``fd`` along; returns QEMU's answer, be it a
        result or an error."""
        if self._monitor is None:
            raise MonitorClosed()
        return await self._monitor.raw(text, fd)

    # -- the end

    async def destroy(self, *, gracefully: bool = False) -> None:
        """End the process: a SIGTERM, and SIGKILL where it does not end in time (unless ``gracefully``: then it is an
        InternalError and the guest goes on)."""
        found = self._process
        if found is None:
            return
        self._over = True
        found.unwatch()
        found.kill(signal.SIGTERM)
        if not await found.wait(_GRACE):
            if gracefully:
                self._over = False
                found.watch(self._died)
                raise InternalError(f"Failed to terminate process {found.pid} with SIGTERM: Device or resource busy")
            found.kill(signal.SIGKILL)
            if not await found.wait(_KILL_WAIT):
                raise InternalError(f"Failed to kill process {found.pid}: it is stuck in the kernel")
        found._reap()

    async def release(self) -> None:
        """Let go of the monitor and the process, which goes on if it runs."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._monitor is not None:
            await self._monitor.close()
            self._monitor = None
        if self._process is not None:
            self._process.close()

    def clean(self) -> None:
        """Remove the runtime folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
