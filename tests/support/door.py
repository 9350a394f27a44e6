"""The daemon's door without the daemon: a real Server on real sockets, with services that a test can hold up."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import uvloop

from guesthouse.daemon.server import Entrance, Limits, Server
from guesthouse.errors import NoDomain, OperationFailed
from guesthouse.services.events import Event, EventBus
from guesthouse.services.refs import DomainRef
from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import BY_NAME

UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


class FakeStream:
    """Notes what it gets; gives ``chunks``, then the end (or blocks for ever where ``endless``)."""

    def __init__(self, door: Door, chunks: list[bytes], *, endless: bool = False) -> None:
        self.door = door
        self.chunks = chunks
        self.endless = endless
        self.written: list[Any] = []
        self.reads = 0
        self.ends: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail_write = self.fail_finish = False
        self._ended = asyncio.Event()

    async def read(self, limit: int) -> bytes:
        self.reads += 1
        if self.chunks:
            return self.chunks.pop(0)
        if self.endless:
            await self._ended.wait()
        return b""

    async def write(self, data: Any) -> None:
        await self.gate.wait()
        if self.fail_write:
            raise OperationFailed("the disk is full")
        self.written.append(data)

    async def finish(self) -> None:
        self._end("finish")
        if self.fail_finish:
            raise OperationFailed("it was not written after all")

    async def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        self.ends.append(how)
        self._ended.set()
        self.gate.set()


class FakeDomains:
    def __init__(self, door: Door) -> None:
        self.door = door

    async def lookup_by_name(self, name: str) -> DomainRef:
        if name != "slow":
            if name == "broken":
                raise ZeroDivisionError("of all things")
            raise NoDomain(f"no domain with matching name '{name}'")
        self.door.running += 1
        self.door.most = max(self.door.most, self.door.running)
        try:
            await self.door.gate.wait()
        finally:
            self.door.running -= 1
            self.door.done += 1
        return DomainRef("slow", UUID, -1)

    def get_xml_desc(self, dom: DomainRef, flags: int) -> str:
        return "x" * flags

    def destroy(self, dom: DomainRef) -> None:
        self.door.done += 1


class FakeHost:
    def get_type(self) -> str:
        return "QEMU"


class FakeVolumes:
    def __init__(self, door: Door) -> None:
        self.door = door

    async def upload(self, vol: Any, offset: int, length: int, flags: int) -> FakeStream:
        return await self._open()

    async def download(self, vol: Any, offset: int, length: int, flags: int) -> FakeStream:
        return await self._open()

    async def _open(self) -> FakeStream:
        await self.door.open_gate.wait()
        return self.door.stream


class Door:
    """Serves in a thread of its own until the ``with`` ends."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.path = folder / "sock"
        self.readonly_path = folder / "sock-ro"
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()  # the daemon's
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.running = self.most = self.done = 0
        self.complaints: list[Any] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._start)
        return self

    def _start(self) -> None:
        self.gate, self.open_gate = asyncio.Event(), asyncio.Event()
        self.open_gate.set()
        self.stream = FakeStream(self, [])
        self.host = FakeHost()
        self.domains = FakeDomains(self)
        self.volumes = FakeVolumes(self)
        self.bus = EventBus()
        self.server = Server(self, limits=self._limits, subscribe=self.bus.subscribe)
        self.server.listen_unix(self.path, mode=0o700)
        self.server.listen_unix(self.readonly_path, mode=0o700, entrance=Entrance(readonly=True))
        self.port = self.server.listen_tcp("127.0.0.1", 0, auth="none")

    def __exit__(self, *_: object) -> None:
        async def stop() -> list[Any]:
            self.gate.set()
            self.open_gate.set()
            await self.server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return list((await asyncio.wait(others, timeout=5))[1]) if others else []

        try:
            left = asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        assert not left and not self.complaints, (left, self.complaints)

    def call(self, work: Callable[[], Any]) -> Any:
        """``work()`` in the server's thread; its result."""

        async def inside() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(10)

    def until(self, condition: Callable[[], Any], timeout: float = 10) -> None:
        """Wait until ``condition`` holds, which is asked in the server's thread."""

        async def inside() -> None:
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(inside(), timeout), self._loop).result(timeout + 1)

    def emit(self, count: int, size: int = 0) -> None:
        """``count`` lifecycle events of a guest whose name has ``size`` more letters."""
        ref = DomainRef("guest" + "x" * size, UUID, -1)
        self.call(lambda: [self.bus.emit(Event("domain", 0, ref, {"event": 0, "detail": 0})) for _ in range(count)])


class Raw:
    """A client that knows no manners: sends any bytes; decodes what comes back."""

    def __init__(self, where: str | Path | int, *, opened: bool = True) -> None:
        if isinstance(where, int):
            self.sock = socket.create_connection(("127.0.0.1", where))
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(where))
        self.sock.settimeout(10)
        self.buffer = b""
        self.serial = 100
        if opened:
            self.call("auth_list")
            self.call("connect_open", name="qemu:///system", flags=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, procedure: str, /, **args: Any) -> tuple[int, int, int]:
        """Send a call; returns where a stream that it opens is."""
        row = BY_NAME[procedure]
        self.serial += 1
        payload = xdr.encode(row.args, args) if row.args else b""
        self.send(wire.frame(row.program, row.number, wire.CALL, self.serial, wire.OK, payload))
        return row.program, row.number, self.serial

    def call(self, procedure: str, /, **args: Any) -> Any:
        """Call and wait: the result, or the error record."""
        serial = self.request(procedure, **args)[2]
        while True:
            head, payload = self.message()
            if head[4] == wire.REPLY and head[5] == serial:
                return self.result(head, payload)

    def message(self) -> tuple[tuple[int, ...], bytes]:
        """The next message: its header (size, program, version, number, type, serial, status) and payload. Raises
        EOFError where the daemon has closed."""
        head = struct.unpack(">IIIiIIi", self._take(28))
        return head, self._take(head[0] - 28)

    def result(self, head: tuple[int, ...], payload: bytes) -> Any:
        if head[6] == wire.ERROR:
            return xdr.decode("error", payload)
        row = next(row for row in BY_NAME.values() if (row.program, row.number) == (head[1], head[3]))
        return xdr.decode(row.ret, payload) if row.ret else None

    def closed(self) -> bool:
        """Whether the daemon closes now; what it says before is thrown away."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def silent(self, seconds: float = 0.1) -> bool:
        """Whether nothing comes for ``seconds``, and the connection lives."""
        self.sock.settimeout(seconds)
        try:
            self.buffer += self.sock.recv(1 << 20)
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            more = self.sock.recv(1 << 20)
            if not more:
                raise EOFError
            self.buffer += more
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data
