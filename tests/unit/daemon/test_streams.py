"""Streams through the daemon's door: every order of ends, more data than anybody takes, clients that vanish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.services.streams import Hole
from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from support.door import Door, FakeStream, Raw

VOLUME = {"pool": "p", "name": "v", "key": "k"}
Where = tuple[int, int, int]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path) as opened:
        yield opened


def opened(client: Raw, way: str) -> Where:
    where = client.request(f"storage_vol_{way}", vol=VOLUME, offset=0, length=0, flags=0)
    head, _ = client.message()
    assert head[3:] == (where[1], wire.REPLY, where[2], wire.OK)
    return where


def ahead(door: Door, chunks: list[bytes], **kw: bool) -> FakeStream:
    """The stream that the next opening gets."""

    def make() -> FakeStream:
        door.stream = FakeStream(door, chunks, **kw)
        return door.stream

    stream: FakeStream = door.call(make)
    return stream


def packet(client: Raw, where: Where) -> tuple[int, bytes]:
    """The status and data of the next message, which belongs to the stream ``where``."""
    head, payload = client.message()
    assert (head[1], head[3], head[4], head[5]) == (*where[:2], wire.STREAM, where[2])
    return head[6], payload


def alive(client: Raw) -> None:
    assert client.call("connect_get_type").type == "QEMU"


def test_download_to_its_end_and_finish(door: Door) -> None:
    stream = ahead(door, [b"abc", b"x" * 600_000])
    with Raw(door.path) as client:
        where = opened(client, "download")
        data = b""
        while chunk := packet(client, where)[1]:
            assert len(chunk) <= wire.STREAM_DATA_MAX
            data += chunk
        assert data == b"abc" + b"x" * 600_000
        client.send(wire.stream_finish(where))
        assert packet(client, where) == (wire.OK, b"")
        alive(client)
    assert stream.ends == ["finish"]


@pytest.mark.parametrize(("end", "how"), [(wire.stream_finish, "finish"), (wire.stream_abort, "abort")])
def test_download_given_up_in_the_middle(door: Door, end: Any, how: str) -> None:
    stream = ahead(door, [b"abc"], endless=True)
    with Raw(door.path) as client:
        where = opened(client, "download")
        assert packet(client, where) == (wire.CONTINUE, b"abc")
        client.send(end(where))
        assert packet(client, where) == (wire.OK, b"")
        alive(client)
    assert stream.ends == [how]


@pytest.mark.parametrize(
    ("sent", "ends"),
    [
        ("finish", ["finish"]),
        ("abort", ["abort"]),
        ("finish abort", ["finish"]),
        ("abort finish", ["abort"]),
        ("finish finish", ["finish"]),
        ("abort abort", ["abort"]),
        ("finish data abort data", ["finish"]),
        ("abort data", ["abort"]),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_every_order_of_ends(door: Door, sent: str, ends: list[str], at_once: bool) -> None:
    stream = door.stream
    with Raw(door.path) as client:
        where = opened(client, "upload")
        packets = {
            "finish": wire.stream_finish(where),
            "abort": wire.stream_abort(where),
            "data": wire.stream_data(where, b"late")[0],
        }
        client.send(wire.stream_data(where, b"hello")[0])
        whole = [packets[word] for word in sent.split()]
        for piece in [b"".join(whole)] if at_once else whole:
            client.send(piece)
            time.sleep(0.005)
        assert packet(client, where) == (wire.OK, b"")  # one answer, to the first end
        alive(client)
    assert stream.ends == ends
    assert stream.written == [b"hello"]


def test_holes_and_data_in_order(door: Door) -> None:
    with Raw(door.path) as client:
        where = opened(client, "upload")
        client.send(
            wire.stream_data(where, b"a")[0] + wire.stream_hole(where, 1 << 40) + wire.stream_data(where, b"b")[0]
        )
        client.send(wire.stream_finish(where))
        assert packet(client, where) == (wire.OK, b"")
    assert door.stream.written == [b"a", Hole(1 << 40), b"b"]


@pytest.mark.parametrize("when", ["write", "finish"])
def test_service_that_fails(door: Door, when: str) -> None:
    setattr(door.stream, f"fail_{when}", True)
    with Raw(door.path) as client:
        where = opened(client, "upload")
        client.send(wire.stream_data(where, b"hello")[0])
        if when == "finish":
            client.send(wire.stream_finish(where))
        status, payload = packet(client, where)
        assert status == wire.ERROR
        assert xdr.decode("error", payload).code == 9
        client.send(wire.stream_data(where, b"more")[0] + wire.stream_finish(where))  # late, as it may well be
        alive(client)
    assert door.stream.ends == ["abort" if when == "write" else "finish"]


def test_more_data_than_anybody_takes(door: Door) -> None:
    stream = door.stream
    door.call(stream.gate.clear)
    chunk = bytes(200_000)
    with Raw(door.path) as client:
        where = opened(client, "upload")
        client.sock.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 500:
                client.send(wire.stream_data(where, chunk)[0])
                sent += 1
        assert sent < 40  # 4 MiB wait, no more
        assert stream.written == []
    door.until(lambda: stream.ends)
    assert stream.ends == ["abort"]


def test_slow_upload_arrives_whole(door: Door) -> None:
    stream = door.stream
    content = [bytes([i]) * 150_000 for i in range(100)]
    door.call(stream.gate.clear)
    with Raw(door.path) as client:
        where = opened(client, "upload")
        door._loop.call_soon_threadsafe(door._loop.call_later, 0.2, stream.gate.set)
        for chunk in content:
            client.send(wire.stream_data(where, chunk)[0])
        client.send(wire.stream_finish(where))
        assert packet(client, where) == (wire.OK, b"")
    assert stream.written == content


def test_empty_packets_do_not_pile_up(door: Door) -> None:
    stream = door.stream
    door.call(stream.gate.clear)
    with Raw(door.path) as client:
        where = opened(client, "upload")
        client.send(wire.stream_data(where, b"x")[0])
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                client.send(1000 * wire.stream_data(where, b"")[0])
        door.call(stream.gate.set)


def test_reader_that_does_not_read(door: Door) -> None:
    stream = ahead(door, [bytes(200_000) for _ in range(200)])
    with Raw(door.path) as client:
        where = opened(client, "download")
        time.sleep(0.2)
        assert stream.reads < 20
        total = 0
        while chunk := packet(client, where)[1]:
            total += len(chunk)
        assert total == 200 * 200_000


@pytest.mark.parametrize("way", ["upload", "download"])
@pytest.mark.parametrize("stuck", [True, False])
def test_client_vanishes_in_the_middle(door: Door, way: str, stuck: bool) -> None:
    stream = ahead(door, [bytes(200_000) for _ in range(100)], endless=True)
    if stuck:
        door.call(stream.gate.clear)
    with Raw(door.path) as client:
        where = opened(client, way)
        client.send(wire.stream_data(where, b"hello")[0])
        time.sleep(0.02)
    door.until(lambda: stream.ends and door.server.client_count == 0)
    assert stream.ends == ["abort"]


def test_client_vanishes_while_its_stream_is_being_opened(door: Door) -> None:
    door.call(door.open_gate.clear)
    with Raw(door.path) as client:
        client.request("storage_vol_upload", vol=VOLUME, offset=0, length=0, flags=0)
        time.sleep(0.05)
    door.until(lambda: door.server.client_count == 0)
    door.call(door.open_gate.set)
    door.until(lambda: door.stream.ends)
    assert door.stream.ends == ["abort"]


def test_packets_of_no_stream_are_dropped(door: Door) -> None:
    with Raw(door.path) as client:
        for where in ((0x20008086, 208, 7), (0x20008086, 3, 7), (12345, 1, 7)):
            client.send(wire.stream_data(where, b"abc")[0] + wire.stream_finish(where) + wire.stream_abort(where))
        alive(client)


def test_server_closes_while_streams_run(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        stream = ahead(door, [bytes(200_000) for _ in range(100)], endless=True)
        client = Raw(door.path)
        opened(client, "download")
    with client:
        assert client.closed()
    assert stream.ends == ["abort"]
