"""The daemon's door against those who do not know the protocol, or do not keep to it. The answers are libvirtd's."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import random
import resource
import socket
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.daemon.auth import Rules
from guesthouse.daemon.server import Limits
from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import ADMIN, BY_NAME, KEEPALIVE, QEMU, REMOTE
from support.door import UUID, Door, Raw

GET_TYPE = BY_NAME["connect_get_type"].number
LOOKUP = BY_NAME["domain_lookup_by_name"].number
DOMAIN = {"name": "d", "uuid": UUID, "id": -1}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path) as opened:
        yield opened


def frame(number: int, kind: int = wire.CALL, payload: bytes = b"", *, program: int = REMOTE, **kw: int) -> bytes:
    return wire.frame(program, number, kind, 5, kw.pop("status", 0), payload, **kw)


# -- what cannot be read


VIOLATIONS = {
    "length 0": b"\0\0\0\0",
    "length 27": struct.pack(">I", 27) + bytes(40),
    "oversized": struct.pack(">I", wire.MESSAGE_MAX + 5),
    "all ones": b"\xff" * 64,
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + bytes(200),
    "type 9": frame(GET_TYPE, 9),
    "a reply": frame(GET_TYPE, wire.REPLY),
    "an event": frame(BY_NAME["domain_event_lifecycle"].number, wire.MESSAGE),
    "33 descriptors": frame(GET_TYPE, wire.CALL_WITH_FDS, struct.pack(">I", 33)),
    "descriptors without": frame(GET_TYPE, wire.CALL_WITH_FDS, struct.pack(">I", 1)) + b"\0",
    "no count": frame(GET_TYPE, wire.CALL_WITH_FDS),
    "bad hole": frame(BY_NAME["storage_vol_upload"].number, wire.STREAM_HOLE, b"abc", status=2),
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_violation_ends_that_connection_alone(door: Door, data: bytes) -> None:
    with Raw(door.path) as other, Raw(door.path) as client:
        client.send(data)
        assert client.closed()
        assert other.call("connect_get_type").type == "QEMU"


def test_random_bytes(door: Door) -> None:
    dice = random.Random(4711)
    for i in range(100):
        with Raw(door.path, opened=bool(i % 2)) as client:
            try:
                client.send(dice.randbytes(dice.choice((3, 28, 100, 5000))))
            except ConnectionError:
                pass
    with Raw(door.path) as client:
        assert client.call("connect_get_type").type == "QEMU"
    door.until(lambda: door.server.client_count == 0)


def test_every_cut_of_a_call(door: Door) -> None:
    whole = frame(LOOKUP, payload=xdr.encode("domain_lookup_by_name_args", {"name": "nobody"}))
    for cut in range(1, len(whole)):
        with Raw(door.path) as client:
            client.send(whole[:cut])
            client.sock.shutdown(socket.SHUT_WR)
            assert client.closed()
    with Raw(door.path) as client:
        for i in range(len(whole)):
            client.send(whole[i : i + 1])
        assert client.message()[0][5:] == (5, wire.ERROR)


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0",
        struct.pack(">I", 100) + b"abc\0",
        struct.pack(">I", 5 << 20) + bytes(5 << 20),  # a string over its limit
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 1) + b"x\0\0\0junk",
    ],
)
def test_arguments_that_do_not_decode_are_an_answer(door: Door, payload: bytes) -> None:
    with Raw(door.path) as client:
        client.send(frame(LOOKUP, payload=payload))
        head, answer = client.message()
        error = client.result(head, answer)
        assert head[1:] == (REMOTE, 1, LOOKUP, wire.REPLY, 5, wire.ERROR)
        assert (error.code, error.domain, error.level) == (39, 7, 2)
        assert error.message.startswith("Unable to decode message payload")
        assert client.call("connect_get_type").type == "QEMU"


def test_list_over_its_limit(door: Door) -> None:
    row = BY_NAME["connect_get_all_domain_stats"]
    with Raw(door.path) as client:
        client.send(frame(row.number, payload=struct.pack(">I", 17000) + bytes(17000 * 28) + bytes(8)))
        error = client.result(*client.message())
        assert (error.code, error.message) == (
            39,
            "Unable to decode message payload: 17000 items, at most 16384 are allowed",
        )
        assert client.call("connect_get_type").type == "QEMU"


# -- what is not there, or not allowed


@pytest.mark.parametrize(
    ("number", "program", "version", "message"),
    [
        (9999, REMOTE, 1, "unknown procedure: 9999"),
        (0, REMOTE, 1, "unknown procedure: 0"),
        (BY_NAME["domain_event_lifecycle"].number, REMOTE, 1, "unknown procedure: 107"),
        (77, QEMU, 1, "unknown procedure: 77"),
        (1, 12345, 1, "Cannot find program 12345 version 1"),
        (GET_TYPE, REMOTE, 7, f"Cannot find program {REMOTE} version 7"),
        (1, KEEPALIVE, 1, f"Cannot find program {KEEPALIVE} version 1"),
    ],
)
def test_unknown_calls(door: Door, number: int, program: int, version: int, message: str) -> None:
    with Raw(door.path) as client:
        client.send(frame(number, program=program, version=version))
        head, payload = client.message()
        error = xdr.decode("error", payload)
        assert head[1:] == (program, version, number, wire.REPLY, 5, wire.ERROR)
        assert (error.code, error.domain, error.level, error.message) == (39, 7, 2, message)
        assert client.call("connect_get_type").type == "QEMU"


def test_calls_before_open_and_second_open(door: Door) -> None:
    with Raw(door.path, opened=False) as client:
        error = client.call("connect_get_type")
        assert (error.code, error.domain, error.message) == (1, 7, "internal error: hypervisor connection not open")
        assert client.call("connect_supports_feature", feature=14).supported == 1
        error = client.call("connect_open", name="test:///default", flags=0)
        assert (error.code, error.domain, error.message) == (
            5,
            0,
            "no connection driver available for test:///default",
        )
        error = client.call("connect_open", name="qemu:///elsewhere", flags=0)
        assert (error.code, error.message) == (
            1,
            "internal error: unexpected qemu URI path '/elsewhere', try qemu:///system",
        )
        assert client.call("connect_open", name=None, flags=64) is None
        error = client.call("connect_open", name="qemu:///system", flags=0)
        assert (error.code, error.domain, error.message) == (1, 7, "internal error: connection already open")
        assert client.call("connect_get_type").type == "QEMU"


def test_no_support_and_faults_of_our_own(door: Door) -> None:
    with Raw(door.path) as client:
        unserved = client.call("connect_domain_xml_from_native", nativeFormat="xen-xm", nativeConfig="", flags=0)
        assert unserved.code == 3
        error = client.call("domain_lookup_by_name", name="broken")
        assert error.code == 1 and "ZeroDivisionError" in error.message


@pytest.mark.parametrize("how", ["socket", "flag"])
def test_readonly_connections_change_nothing(door: Door, how: str) -> None:
    with Raw(door.readonly_path if how == "socket" else door.path, opened=False) as client:
        client.call("connect_open", name="qemu:///system", flags=int(how == "flag"))
        assert client.call("domain_get_xml_desc", dom=DOMAIN, flags=3).xml == "xxx"
        error = client.call("domain_destroy", dom=DOMAIN)
        assert (error.code, error.message) == (
            29,
            "operation forbidden: read only access prevents virDomainDestroy",
        )
        assert door.done == 0
        for name, row in BY_NAME.items():
            if row.access == "write" and row.program != ADMIN:
                client.send(frame(row.number, program=row.program))
                assert xdr.decode("error", client.message()[1]).code == 29, name


# -- how much of it


def test_calls_under_way_are_limited_and_wake_what_waits(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(client_requests=3)) as door, Raw(door.path) as client:
        for _ in range(8):
            client.request("domain_lookup_by_name", name="slow")
        door.until(lambda: door.running == 3)
        assert client.silent()
        client.send(wire.ping())  # answered at once, ahead of what waits
        assert client.message()[0][1:5] == (KEEPALIVE, 1, wire.pong()[15], wire.MESSAGE)
        door.call(door.gate.set)
        assert sorted(client.message()[0][5] for _ in range(8)) == list(range(103, 111))
        assert (door.most, door.done) == (3, 8)


def test_waiting_calls_cost_no_time(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(client_requests=1)) as door, Raw(door.path) as client:
        for _ in range(3):
            client.request("domain_lookup_by_name", name="slow")
        door.until(lambda: door.running == 1)
        before, started = time.process_time(), time.monotonic()
        time.sleep(0.5)
        used = (time.process_time() - before) / (time.monotonic() - started)
        assert used < 0.05
        door.call(door.gate.set)
        for _ in range(3):
            client.message()


def test_client_that_sends_without_end_is_not_read_without_end(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(client_requests=1)) as door, Raw(door.path) as client:
        row = BY_NAME["domain_lookup_by_name"]
        call = frame(row.number, payload=xdr.encode(row.args or "", {"name": "slow" + "x" * 100_000}))
        client.request("domain_lookup_by_name", name="slow")
        client.sock.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 50:
                client.send(call)
                sent += 1
        assert sent < 20  # a million bytes, and what the kernel takes
        door.call(door.gate.set)
        client.sock.settimeout(10)
        assert client.message()[0][6] == wire.OK


def test_client_that_does_not_read_gets_no_more_answers(door: Door) -> None:
    with Raw(door.path) as client:
        row = BY_NAME["domain_get_xml_desc"]
        client.send(200 * frame(row.number, payload=xdr.encode(row.args or "", {"dom": DOMAIN, "flags": 2_000_000})))
        time.sleep(0.3)
        (waiting,) = door.call(lambda: [c.backlog for c in door.server._clients])
        assert waiting < 24 << 20
        assert sum(client.message()[0][0] for _ in range(200)) > 400_000_000
        assert client.call("connect_get_type").type == "QEMU"


def test_events_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(event_backlog=1 << 20)) as door, Raw(door.path) as lazy, Raw(door.path) as awake:
        for client in (lazy, awake):
            client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        for _ in range(40):
            door.emit(10, 10_000)
            for _ in range(10):
                head, _ = awake.message()
                assert head[4] == wire.MESSAGE
        door.until(lambda: door.server.client_count == 1)
        assert awake.call("connect_get_type").type == "QEMU"
        assert lazy.closed()


def test_a_large_answer_is_no_reason_to_drop(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(event_backlog=100_000)) as door, Raw(door.path) as client:
        client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        client.request("domain_get_xml_desc", dom=DOMAIN, flags=4_000_000)
        door.until(lambda: [c for c in door.server._clients if c.backlog])
        door.emit(3)
        assert client.message()[0][4] == wire.REPLY
        assert [client.message()[0][4] for _ in range(3)] == [wire.MESSAGE] * 3


def test_max_clients(tmp_path: Path) -> None:
    with Door(tmp_path, Limits(max_clients=2)) as door, Raw(door.path) as one, Raw(door.path):
        with Raw(door.path, opened=False) as third:
            assert third.closed()
            third.sock.sendall(b"late")  # it has read why, and is not killed by what it had to say
        one.sock.close()
        door.until(lambda: door.server.client_count == 1)
        with Raw(door.path) as again:
            assert again.call("connect_get_type").type == "QEMU"


def test_out_of_descriptors_it_waits_and_goes_on(door: Door) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(client.fileno() for client in clients) + 8, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                fillers.append(os.dup(0))
        for client in clients:
            client.connect(str(door.path))
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
        assert door.server.client_count == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
    door.until(lambda: door.server.client_count == 4)
    for client in clients:
        client.close()


# -- dead peers


def test_keepalive_drops_a_dead_peer_but_none_that_answers(tmp_path: Path) -> None:
    with (
        Door(tmp_path, Limits(keepalive_interval=0.1, keepalive_count=3)) as door,
        Raw(door.path) as silent,
        Raw(door.path) as dead,
        Raw(door.path) as alive,
    ):
        for client in (dead, alive):
            assert client.call("connect_supports_feature", feature=10).supported == 1
        started = time.monotonic()
        while time.monotonic() - started < 1.0:
            head, _ = alive.message()
            assert head[1:5] == (KEEPALIVE, 1, 1, wire.MESSAGE)
            alive.send(wire.pong())
        assert door.server.client_count == 2
        assert dead.closed()
        assert silent.call("connect_get_type").type == "QEMU"  # never asked for it, never pinged
        assert alive.call("connect_get_type").type == "QEMU"


def test_busy_client_is_not_taken_for_dead(tmp_path: Path) -> None:
    limits = Limits(client_requests=1, keepalive_interval=0.1, keepalive_count=2)
    with Door(tmp_path, limits) as door, Raw(door.path) as client:
        client.call("connect_supports_feature", feature=10)
        for _ in range(4):
            client.request("domain_lookup_by_name", name="slow")
        started = time.monotonic()
        while time.monotonic() - started < 0.8:
            head, _ = client.message()
            assert head[1] == KEEPALIVE
            client.send(wire.pong())
        door.call(door.gate.set)
        heads = [client.message()[0] for _ in range(4)]
        assert len([head for head in heads if head[4] == wire.REPLY]) >= 3


def test_client_vanishes_in_the_middle_of_a_call(door: Door) -> None:
    with Raw(door.path) as client:
        client.request("domain_lookup_by_name", name="slow")
        door.until(lambda: door.running == 1)
    door.until(lambda: door.server.client_count == 0)
    door.call(door.gate.set)
    door.until(lambda: door.done == 1)  # a call that has begun runs to its end


def test_half_closed_socket_is_closed(door: Door) -> None:
    with Raw(door.path) as client:
        assert client.call("connect_get_type").type == "QEMU"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
    with Raw(door.path) as client:
        client.sock.shutdown(socket.SHUT_RD)
        client.request("connect_get_type")
        door.until(lambda: door.server.client_count == 0)


def test_leave_is_answered_and_then_nothing_more_is_done(door: Door) -> None:
    with Raw(door.path) as client:
        close = frame(BY_NAME["connect_close"].number)
        destroy = frame(BY_NAME["domain_destroy"].number, payload=xdr.encode("domain_destroy_args", {"dom": DOMAIN}))
        client.send(close + destroy)
        assert client.message()[0][3:] == (2, wire.REPLY, 5, wire.OK)
        assert client.closed()
    assert door.done == 0


def test_over_tcp(door: Door) -> None:
    with Raw(door.port) as client:
        assert client.call("connect_get_type").type == "QEMU"
        (peer,) = door.call(lambda: list(door.server._clients))
        assert (peer.identity.uid, peer.identity.gid, peer.identity.pid) == (-1, -1, -1)
        assert peer._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- descriptors


def send_fds(client: Raw, data: bytes, count: int) -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        client.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    finally:
        for fd in fds:
            os.close(fd)


def nulls() -> int:
    """How many of this process's descriptors are /dev/null opened for reading alone."""
    gc.collect()
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/null":  # noqa: PTH115
                count += 1
        except OSError:
            pass
    return count


def test_descriptors_are_closed_whatever_they_came_with(door: Door) -> None:
    before = nulls()
    with_one = frame(GET_TYPE, wire.CALL_WITH_FDS, struct.pack(">I", 1))
    with Raw(door.path) as client:
        for _ in range(40):
            client.send(with_one)
            send_fds(client, b"\0", 1)
            assert client.message()[0][6] == wire.OK
        assert nulls() == before
    for data, count in (
        (frame(GET_TYPE), 1),  # nothing announces it
        (frame(GET_TYPE)[:20], 3),  # part of a message
        (with_one, 5),  # more than announced
        (with_one + frame(GET_TYPE, 9), 1),  # a violation right behind
    ):
        with Raw(door.path) as client:
            send_fds(client, data, count)
            time.sleep(0.02)
        door.until(lambda: door.server.client_count == 0)
        assert nulls() == before, data


def test_stray_descriptors_do_not_pile_up(door: Door) -> None:
    before = nulls()
    with Raw(door.path) as client:
        try:
            for at in range(20):
                send_fds(client, frame(GET_TYPE, payload=b"")[at : at + 1], 30)
        except ConnectionError:
            pass
        assert client.closed()
        assert nulls() == before


def test_waiting_calls_with_descriptors(tmp_path: Path) -> None:
    before = nulls()
    with Door(tmp_path, Limits(client_requests=1)) as door:
        with Raw(door.path) as client:
            client.request("domain_lookup_by_name", name="slow")
            for _ in range(3):
                client.send(frame(GET_TYPE, wire.CALL_WITH_FDS, struct.pack(">I", 1)))
                send_fds(client, b"\0", 1)
            door.until(lambda: nulls() == before + 3)
        door.until(lambda: door.server.client_count == 0)
        assert nulls() == before
        door.call(door.gate.set)


def test_descriptors_of_calls_that_take_their_time(tmp_path: Path) -> None:
    """They live as long as the call; and a client cannot use up the daemon's by calls that wait."""
    before = nulls()
    slow = xdr.encode("domain_lookup_by_name_args", {"name": "slow"})
    call = frame(LOOKUP, wire.CALL_WITH_FDS, struct.pack(">I", 1) + slow)
    with Door(tmp_path, Limits(client_requests=1)) as door, Raw(door.path) as client:
        client.send(call)
        send_fds(client, b"\0", 1)
        door.until(lambda: door.running == 1)
        assert nulls() == before + 1
        client.sock.settimeout(0.3)
        sent = 1
        try:
            for sent in range(2, 1000):  # noqa: B007
                client.send(frame(GET_TYPE, wire.CALL_WITH_FDS, struct.pack(">I", 30)))
                send_fds(client, b"\0" * 30, 30)
        except TimeoutError:  # the daemon has stopped reading, and the socket is full
            pass
        assert sent < 990
        assert nulls() - before < 200
        door.call(door.gate.set)
        door.until(lambda: nulls() - before < 64 or not door.server.client_count)
    assert nulls() == before


def test_a_forwarded_identity_is_held_to_its_rules(door: Door) -> None:
    rules = [{"who": "user:4711", "may": ["connect:*"]}, {"who": "sasl:bob", "may": ["connect:getattr"]}]
    door.call(lambda: door.server.set_rules(Rules(rules)))

    def said(**names: object) -> dict[str, object]:
        kinds = {int: "ullong", str: "string"}
        params = {name.replace("_", "-"): (kinds[type(value)], value) for name, value in names.items()}
        return {"params": params, "flags": 0}

    with Raw(door.path) as client:
        assert client.call("connect_set_identity", **said(nonsense=1)).message.endswith("'nonsense' not supported")
        assert client.call("domain_lookup_by_name", name="nobody").code == 42
        assert client.call("connect_set_identity", **said(unix_user_id=4711, unix_group_id=4711)) is None
        (known,) = door.server.clients
        assert (known.identity.uid, known.identity.groups, known.identity.pid) == (4711, frozenset({4711}), -1)
        assert client.call("connect_get_type").type == "QEMU"
        assert client.call("domain_lookup_by_name", name="nobody").code == 88
        # who may do everything with connections may still not become root by saying so
        assert client.call("connect_set_identity", **said(unix_user_id=0)).code == 88
        assert known.identity.uid == 4711
    with Raw(door.path) as client:
        assert client.call("connect_set_identity", **said(sasl_user_name="bob")) is None
        assert client.call("connect_get_type").type == "QEMU"
        assert client.call("node_get_free_memory").code == 88


# -- places, and what a client costs


def test_what_another_daemon_has_put_in_its_place_stays(tmp_path: Path) -> None:
    with contextlib.ExitStack() as later:
        with Door(tmp_path):
            newer = later.enter_context(Door(tmp_path))
        with Raw(newer.path) as client, Raw(newer.readonly_path):
            assert client.call("connect_get_type").type == "QEMU"
    assert not newer.path.exists()
    assert not newer.readonly_path.exists()


def test_a_client_costs_less_memory_than_in_libvirtd(door: Door) -> None:
    with contextlib.ExitStack() as clients:
        clients.enter_context(Raw(door.path))
        tracemalloc.start()
        clients.callback(tracemalloc.stop)
        few = [clients.enter_context(Raw(door.path)) for _ in range(100)]
        ours = tracemalloc.Filter(True, "*/tests/*")
        here = sum(stat.size for stat in tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename"))
        assert (tracemalloc.get_traced_memory()[0] - here) / len(few) < 3 * 1024
