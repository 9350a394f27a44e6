"""The asyncio client against C libvirtd and against guesthoused: the same tests for both."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse import client, errors
from guesthouse.client import aio
from support import namespaces, tour
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

VOLUME = "<volume><name>v</name><capacity>4000000</capacity><target><format type='raw'/></target></volume>"


@pytest.fixture(params=["c_libvirtd", "guesthoused"])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).uri)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work(), 60)

    asyncio.run(limited())


async def defined(conn: aio.Connect, name: str) -> aio.Domain:
    return await conn.define_xml(tour.PLAIN.replace("<name>plain</name>", f"<name>{name}</name>"))


def test_many_calls_at_once(uri: str) -> None:
    async def work() -> None:
        async with aio.connect(uri) as conn:
            assert await conn.get_type() == "QEMU"
            domain = await defined(conn, "many")
            try:
                found = await asyncio.gather(*(conn.lookup_by_name("many") for _ in range(200)))
                assert {(d.name, d.uuid) for d in found} == {("many", domain.uuid)}
                answers = await asyncio.gather(
                    *(conn.lookup_by_name(f"absent{i}" if i % 2 else "many") for i in range(100)),
                    return_exceptions=True,
                )
                assert [isinstance(a, errors.NoDomain) for a in answers] == [bool(i % 2) for i in range(100)]
                assert str(answers[7]) == "Domain not found: no domain with matching name 'absent7'"
            finally:
                await domain.undefine()

    run(work)


def test_events_while_calls_run(uri: str) -> None:
    async def work() -> None:
        async with aio.connect(uri) as conn:
            seen: list[tuple[str, int]] = []
            number = await conn.domain_event_register_any(None, 0, lambda e: seen.append((e.msg.dom.name, e.msg.event)))
            async with conn.events("domain", 0) as events:
                for i in range(5):
                    domain, *_ = await asyncio.gather(
                        defined(conn, f"ev{i}"), *(conn.list_all_domains() for _ in range(20))
                    )
                    await domain.undefine()
                told = [(e.msg.dom.name, e.msg.event) async for e, _ in _zip(events, 10)]
            assert told == seen == [(f"ev{i}", event) for i in range(5) for event in (0, 1)]
            await conn.event_deregister_any(number)
            await (await defined(conn, "quiet")).undefine()
            await conn.get_hostname()
            assert len(seen) == 10

    run(work)


async def _zip(events: aio.Events, count: int) -> Any:
    for i in range(count):
        yield await asyncio.wait_for(anext(events), 10), i


def test_volume_content(uri: str, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    async def work() -> None:
        async with aio.connect(uri) as conn:
            xml = f"<pool type='dir'><name>aio</name><target><path>{tmp_path}/pool</path></target></pool>"
            pool = await conn.storage_pool_create_xml(xml)
            try:
                volume = await pool.vol_create_xml(VOLUME)
                content = os.urandom(3_000_000)
                async with await volume.upload(0, len(content)) as stream:
                    for at in range(0, len(content), 700_000):
                        await stream.send(content[at : at + 700_000])
                        assert (await volume.get_info()).capacity == 4_000_000  # calls go on beside it
                async with await volume.download(1, 2_900_000) as stream:
                    back = b"".join([chunk async for chunk in stream])
                assert back == content[1:2_900_001]

                # two streams and calls beside each other
                async def read() -> bytes:
                    async with await volume.download(0, 3_000_000) as stream:
                        return b"".join([chunk async for chunk in stream])

                one, two, *_ = await asyncio.gather(read(), read(), *(pool.num_of_volumes() for _ in range(50)))
                assert one == two == content

                # the daemon's word ends a stream that takes no more
                with pytest.raises(errors.GuesthouseError):
                    stream = await volume.upload(0, 1_000)
                    for _ in range(300):
                        await stream.send(bytes(20_000))
                    await stream.finish()

                # given up in the middle
                stream = await volume.download(0, 0)
                assert len(await stream.recv(10)) == 10
                await stream.abort()
                stream = await volume.upload(0, 0)
                await stream.send(bytes(100_000))
                await stream.abort()
                assert await pool.num_of_volumes() == 1
            finally:
                await pool.destroy()

    run(work)


def test_cancelled_calls_leave_the_connection_usable(uri: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with aio.connect(uri) as conn:
            for _ in range(20):
                tasks = [asyncio.create_task(conn.get_capabilities()) for _ in range(10)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                assert [isinstance(a, asyncio.CancelledError) for a in answers] == [True, False] * 5
                assert all("<capabilities>" in a for a in answers if isinstance(a, str))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.get_capabilities(), 0)
            assert await conn.get_type() == "QEMU"

    run(work)


def test_readonly_and_absent(uri: str) -> None:
    async def work() -> None:
        async with aio.connect(uri, readonly=True) as conn:
            with pytest.raises(errors.OperationDenied):
                await conn.define_xml(tour.PLAIN)
        with pytest.raises(errors.SystemFailure, match="No such file or directory"):
            await aio.connect("qemu+unix:///system?socket=/nonexistent/sock")
        conn = await aio.connect(uri)
        await conn.close()
        await conn.close()
        assert conn.lost
        with pytest.raises(aio.ConnectionLost, match="client socket is closed"):
            await conn.get_type()

    run(work)


@pytest.fixture(params=[Libvirtd, Guesthoused])
def mortal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    daemon = request.param(namespaces.reachable(tmp_path_factory.mktemp("mortal")))
    yield daemon
    daemon.close()


def test_daemon_killed_under_it(mortal: Any) -> None:
    async def work() -> None:
        async with aio.connect(mortal.uri) as conn:
            await conn.get_type()
            async with conn.events("domain", 0) as events:
                event = asyncio.ensure_future(anext(events))
                os.kill(mortal.pid, signal.SIGSTOP)
                calls = [asyncio.create_task(conn.lookup_by_name("x")) for _ in range(50)]
                await asyncio.sleep(0.05)
                namespaces.end(mortal.pid, signal.SIGKILL)
                answers = await asyncio.gather(event, *calls, return_exceptions=True)
            assert [type(a) for a in answers] == [aio.ConnectionLost] * 51
            with pytest.raises(aio.ConnectionLost):
                await conn.get_type()

    run(work)


def test_keepalive_notices_a_daemon_that_hangs(mortal: Any) -> None:
    async def work() -> None:
        async with aio.connect(mortal.uri, keepalive_interval=0.1, keepalive_count=3) as conn:
            await conn.get_type()
            await asyncio.sleep(0.8)
            assert await conn.get_type() == "QEMU"
            os.kill(mortal.pid, signal.SIGSTOP)
            try:
                with pytest.raises(aio.ConnectionLost, match="connection closed due to keepalive timeout"):
                    await asyncio.wait_for(conn.get_type(), 5)
            finally:
                os.kill(mortal.pid, signal.SIGCONT)

    run(work)
    with client.connect(mortal.uri) as blocking:
        blocking.set_keep_alive(1, 1)
        os.kill(mortal.pid, signal.SIGSTOP)
        try:
            for _ in range(2):  # the connection stays dead
                with pytest.raises(errors.InternalError, match="connection closed due to keepalive timeout"):
                    blocking.get_type()
        finally:
            os.kill(mortal.pid, signal.SIGCONT)
