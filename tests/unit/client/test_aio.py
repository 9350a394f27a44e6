"""The asyncio client against the daemon's door: cancellation, order, back-pressure, ends, without any guest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from guesthouse import client, errors
from guesthouse.client import aio, transport, uri
from guesthouse.daemon.server import Limits
from support.door import Door, FakeStream


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path) as opened:
        yield opened


def where(door: Door) -> str:
    return f"qemu+unix:///system?socket={door.path}"


FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_chosen: list[str] = []


@pytest.fixture(autouse=True, params=FACTORIES)
def loop_kind(request: pytest.FixtureRequest) -> None:
    _chosen[:] = [request.param]


def run(work: Callable[[], Awaitable[None]], timeout: float = 20) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work(), timeout)

    with asyncio.Runner(loop_factory=FACTORIES[_chosen[0]]) as runner:
        runner.run(limited())


class Ref:
    """What a handle needs to be made of."""

    name, uuid, id, pool, key = "v", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", -1, "p", "k"


def fresh(door: Door, chunks: list[bytes], *, endless: bool = False) -> FakeStream:
    def make() -> FakeStream:
        door.stream = FakeStream(door, chunks, endless=endless)
        return door.stream

    stream: FakeStream = door.call(make)
    return stream


def test_answers_come_in_any_order(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            slow = asyncio.create_task(conn.lookup_by_name("slow"))
            assert await conn.get_type() == "QEMU"
            with pytest.raises(errors.NoDomain):
                await conn.lookup_by_name("other")
            assert not slow.done()
            door.call(door.gate.set)
            assert (await slow).name == "slow"

    run(work)


def test_many_more_calls_than_the_daemon_takes_at_once(door: Door) -> None:
    door.call(door.gate.set)

    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            found = await asyncio.gather(*(conn.lookup_by_name("slow") for _ in range(500)))
            assert len(found) == 500

    run(work)
    assert door.most <= Limits().client_requests


def test_cancelled_opening_of_a_stream_leaves_none(door: Door) -> None:
    stream = door.stream
    door.call(door.open_gate.clear)

    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            volume = aio.StorageVol(conn, Ref)
            opening = asyncio.create_task(volume.upload(0, 0))
            await conn.get_type()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            door.call(door.open_gate.set)
            await asyncio.to_thread(door.until, lambda: stream.ends)
            assert await conn.get_type() == "QEMU"

    run(work)
    assert stream.ends == ["abort"]


def test_stream_as_context_manager(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            volume = aio.StorageVol(conn, Ref)
            first = fresh(door, [])
            async with await volume.upload(0, 0) as stream:
                await stream.send(b"")  # no end of file
                await stream.send(b"abc")
                await stream.send_hole(7)
            assert first.ends == ["finish"]
            assert first.written[0] == b"abc" and first.written[1].length == 7
            second = fresh(door, [])
            with pytest.raises(ZeroDivisionError):
                async with await volume.upload(0, 0) as stream:
                    await stream.send(b"abc")
                    raise ZeroDivisionError
            await asyncio.to_thread(door.until, lambda: second.ends)
            assert second.ends == ["abort"]
            with pytest.raises(errors.InternalError, match="stream is not open"):
                await stream.send(b"x")

    run(work)


def test_upload_waits_for_the_daemon(door: Door) -> None:
    stream = door.stream
    door.call(stream.gate.clear)

    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            upload = await aio.StorageVol(conn, Ref).upload(0, 0)
            sent = 0

            async def push() -> None:
                nonlocal sent
                while sent < 300:
                    await upload.send(bytes(200_000))
                    sent += 1

            task = asyncio.create_task(push())
            await asyncio.sleep(0.3)
            assert sent < 60  # what the daemon, the kernel and we hold for it
            door.call(stream.gate.set)
            await task
            await upload.finish()
            assert await conn.get_type() == "QEMU"

    run(work)
    assert len(stream.written) >= 300 and sum(map(len, stream.written)) == 300 * 200_000


def test_download_waits_for_its_reader_and_calls_pass(door: Door) -> None:
    stream = fresh(door, [bytes(200_000) for _ in range(200)])

    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            download = await aio.StorageVol(conn, Ref).download(0, 0)
            await asyncio.sleep(0.3)
            assert download.unread < 6 << 20
            assert stream.reads < 60
            assert await conn.get_type() == "QEMU"  # its answer comes behind the stream's data
            total = 0
            while chunk := await download.recv(1 << 20):
                total += len(chunk)
            assert total == 200 * 200_000
            await download.finish()

    run(work)


def test_keepalive_holds_while_a_reader_is_slow(tmp_path: Path) -> None:
    limits = Limits(keepalive_interval=0.1, keepalive_count=2)
    with Door(tmp_path, limits) as door:
        fresh(door, [bytes(200_000) for _ in range(100)])

        async def work() -> None:
            async with aio.connect(where(door), keepalive_interval=0.1, keepalive_count=2) as conn:
                async with await aio.StorageVol(conn, Ref).download(0, 0) as download:
                    await asyncio.sleep(1)
                    assert sum([len(chunk) async for chunk in download]) == 20_000_000
                await asyncio.sleep(0.5)
                assert await conn.get_type() == "QEMU"

        run(work)


def test_service_error_ends_a_stream(door: Door) -> None:
    door.stream.fail_write = True

    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            stream = await aio.StorageVol(conn, Ref).upload(0, 0)
            with pytest.raises(errors.OperationFailed, match="the disk is full"):
                while True:
                    await stream.send(bytes(100_000))
            with pytest.raises(errors.OperationFailed, match="the disk is full"):
                await stream.finish()
            await stream.abort()
            assert await conn.get_type() == "QEMU"

    run(work)
    assert door.stream.ends == ["abort"]


def test_equal_registrations_share_one(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            seen: list[str] = []
            one, two = await asyncio.gather(
                conn.domain_event_register_any(None, 0, lambda e: seen.append("one")),
                conn.domain_event_register_any(None, 0, lambda e: seen.append("two")),
            )
            assert one != two
            assert len(door.call(lambda: [c.session._registrations for c in door.server._clients])[0]) == 1
            door.emit(1)
            await conn.get_type()
            assert seen == ["one", "two"]
            await conn.event_deregister_any(one)
            door.emit(1)
            await conn.get_type()
            assert seen == ["one", "two", "two"]
            await conn.event_deregister_any(two)
            door.emit(1)
            await conn.get_type()
            assert len(seen) == 3
            with pytest.raises(errors.InternalError, match="unsupported event ID 77"):
                await conn.domain_event_register_any(None, 77, print)

    run(work)


def test_same_for_the_blocking_client(door: Door) -> None:
    with client.connect(where(door)) as conn:
        seen: list[str] = []
        one = conn.domain_event_register_any(None, 0, lambda e: seen.append("one"))
        two = conn.domain_event_register_any(None, 0, lambda e: seen.append("two"))
        door.emit(1)
        assert conn.dispatch_events(5) == 2
        conn.event_deregister_any(one)
        door.emit(1)
        assert conn.dispatch_events(5) == 1
        conn.event_deregister_any(two)
        assert seen == ["one", "two", "two"]


def test_event_right_behind_its_registration(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            for _ in range(50):
                async with conn.events("domain", 0) as events:
                    door.emit(1)
                    assert (await asyncio.wait_for(anext(events), 2)).msg.dom.name == "guest"

    run(work)


def test_events_nobody_takes_are_bounded(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn, conn.events("domain", 0, limit=5) as events:
            door.emit(8)
            await conn.get_type()
            for _ in range(5):
                await anext(events)
            with pytest.raises(errors.OperationFailed, match="more than 5 events waited"):
                await anext(events)

    run(work)


def test_callback_that_fails_harms_no_other(door: Door) -> None:
    async def work() -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        async with aio.connect(where(door)) as conn:
            seen: list[int] = []
            await conn.domain_event_register_any(None, 0, lambda e: 1 // 0)
            await conn.domain_event_register_any(None, 0, lambda e: seen.append(1))
            door.emit(2)
            await conn.get_type()
            assert seen == [1, 1]
        assert told == ["the callback of domain_event_callback_lifecycle failed"] * 2

    run(work)


def test_daemon_goes_away(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(where(door)) as conn:
            fresh(door, [b"abc"], endless=True)
            stream = await aio.StorageVol(conn, Ref).download(0, 0)
            assert await stream.recv(10) == b"abc"
            waiting = [
                asyncio.create_task(work_)
                for work_ in (conn.lookup_by_name("slow"), stream.recv(1), conn.lookup_by_name("slow"))
            ]
            await conn.get_type()
            door.call(lambda: [peer.close() for peer in list(door.server._clients)])
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(answer) for answer in answers] == [aio.ConnectionLost] * 3
            assert {str(answer) for answer in answers} == {"internal error: client socket is closed"}
            assert conn.lost
            await stream.abort()

    run(work)


def test_protocol_violation_by_the_daemon(tmp_path: Path) -> None:
    async def work() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(speak, tmp_path / "sock")
        async with server:
            with pytest.raises(aio.ConnectionLost, match="packet of 1213486160 bytes received"):
                await aio.connect(f"qemu+unix:///system?socket={tmp_path}/sock")

    run(work)


def test_over_tcp_and_idle_at_no_cost(door: Door) -> None:
    async def work() -> None:
        async with aio.connect(f"qemu+tcp://127.0.0.1:{door.port}/system", keepalive_interval=0.1) as conn:
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.1
            assert await conn.get_type() == "QEMU"

    run(work)


def test_cancelled_connecting_leaves_no_socket(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    real = transport.connect

    def slow(target: uri.Target, readonly: bool = False) -> object:
        time.sleep(0.2)
        return real(target, readonly)

    monkeypatch.setattr(transport, "connect", slow)

    async def work() -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.connect(where(door))._open(), 0.05)
        await asyncio.sleep(0.4)
        assert door.server.client_count == 0
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208

    run(work)


def test_blocking_calls_over_tcp_have_no_time_limit(door: Door) -> None:
    with client.connect(f"qemu+tcp://127.0.0.1:{door.port}/system") as conn:
        assert conn._link._sock.gettimeout() is None
        assert conn.get_type() == "QEMU"
