"""Every event that there is, in every spelling of its numbers, as C virsh prints it and as ours does.

No daemon can be made to send them all, so a small server speaks the protocol and sends them to both.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import NoSupport
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import EVENT_BY_ID
from support.guesthoused import BIN

PROGRAMS = {"c-virsh": "/usr/bin/virsh", "our-virsh": str(BIN / "virsh")}
DOM = {"name": "the guest", "uuid": "6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef001", "id": 7}
NET = {"name": "the net", "uuid": DOM["uuid"]}
POOL = {"name": "the pool", "uuid": DOM["uuid"]}
SECRET = {"uuid": DOM["uuid"], "usageType": 2, "usageID": "client.admin"}
DEVICE = {"name": "net_eth0"}
PARAMS = [
    ("cputune.vcpupin0", "string", "0-1"),
    ("int", "int", -1),
    ("uint", "uint", 1),
    ("long", "llong", -(2**40)),
    ("ulong", "ullong", 2**63),
    ("double", "double", 1.25),
    ("yes", "boolean", True),
    ("no", "boolean", False),
]


def _address(family: int) -> dict[str, Any]:
    return {"family": family, "node": "127.0.0.1", "service": "5900"}


def _domain_events() -> Iterator[tuple[int, dict[str, Any]]]:
    """Event ids and their messages without callback and guest; numbers go one beyond what has a word."""
    for event, detail in itertools.product(range(10), range(10)):
        yield 0, {"event": event, "detail": detail}
    yield 1, {}
    yield 2, {"offset": -3600}
    for action in range(8):
        yield 3, {"action": action}
    for action in range(4):
        yield 4, {"srcPath": "/a/b", "devAlias": "virtio-disk0", "action": action}
        yield 6, {"srcPath": "/a/b", "devAlias": "virtio-disk0", "action": action, "reason": "enospc"}
    for number in range(4):
        subject = [{"type": "x509dname", "name": "CN=me"}, {"type": "saslUsername", "name": "me"}][:number]
        yield (
            5,
            {
                "phase": number,
                "local": _address(number),
                "remote": _address(3 - number),
                "authScheme": "vnc",
                "subject": subject,
            },
        )
    yield 7, {}
    for kind, status in itertools.product(range(7), range(5)):
        yield 8, {"path": "/a/b", "type": kind, "status": status}
        yield 16, {"dst": "vda", "type": kind, "status": status}
    for reason in range(3):
        yield 9, {"oldSrcPath": "/a", "newSrcPath": None, "devAlias": "ide0-0-0", "reason": reason}
        yield 10, {"devAlias": "ide0-0-0", "reason": reason}
    for event in (11, 12, 14):
        yield event, {}
    yield 13, {"actual": 2**40}
    for event in (15, 19, 22):
        yield event, {"devAlias": "net0"}
    yield 17, {"params": PARAMS}
    for state, reason in itertools.product(range(1, 4), range(4)):
        yield 18, {"state": state, "reason": reason}
    yield 20, {"iteration": 3}
    yield 21, {"params": PARAMS}
    for kind in range(4):
        yield 23, {"type": kind, "nsuri": "http://a/b" if kind == 2 else None}
    yield 24, {"dev": "vda", "path": None, "threshold": 2**33, "excess": 5}
    yield 24, {"dev": "vda[1]", "path": "/a/b", "threshold": 1, "excess": 0}
    for recipient, action, flags in itertools.product(range(3), range(5), range(4)):
        yield 25, {"recipient": recipient, "action": action, "flags": flags}
    yield 26, {"alias": "virtiomem0", "size": 2**35}


def _events() -> list[tuple[str, int, dict[str, Any]]]:
    found = [("domain", event, {"dom": DOM, **message}) for event, message in _domain_events()]
    found += [("network", 0, {"net": NET, "event": number, "detail": 0}) for number in range(5)]
    found += [("storage_pool", 0, {"pool": POOL, "event": number, "detail": 0}) for number in range(7)]
    found += [("secret", 0, {"secret": SECRET, "event": number, "detail": 0}) for number in range(3)]
    found += [("node_device", 0, {"dev": DEVICE, "event": number, "detail": 0}) for number in range(5)]
    found += [("secret", 1, {"secret": SECRET}), ("node_device", 1, {"dev": DEVICE})]
    return [*found, ("storage_pool", 1, {"pool": POOL})]


EVENTS = _events()


def _packet(scope: str, event: int, message: dict[str, Any]) -> bytes:
    """The event as it travels to the registration whose id is the event's."""
    name = EVENT_BY_ID[scope, event].procedure
    if scope == "domain" and event < 16:  # the older ones are wrapped
        value: dict[str, Any] = {"callbackID": event, "msg": message}
        if event in (11, 12, 14):
            value["reason"] = 0
        return wire.event_message(name, value)
    return wire.event_message(name, {"callbackID": event, **message})


class Server:
    """Lets one client in, takes all registrations, and sends the events of ``scope`` after the last of them."""

    def __init__(self, path: Path, scope: str, events: set[int]) -> None:
        self._scope = scope
        self._missing = set(events)
        self._events = set(events)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(20)
        self._door.close()

    def _serve(self) -> None:
        client, _ = self._door.accept()
        machine = wire.Connection()
        with client:
            while data := client.recv(65536):
                for event in machine.feed(data):
                    if isinstance(event, wire.KeepAlive) and event.ping:
                        client.sendall(wire.pong())
                    elif isinstance(event, wire.Call):
                        client.sendall(self._answer(event))
                        if not self._missing:
                            self._missing.add(-1)
                            time.sleep(0.5)  # C virsh drops what comes before it has seen the reply
                            client.sendall(self._packets())

    def _packets(self) -> bytes:
        return b"".join(_packet(*event) for event in EVENTS if event[0] == self._scope and event[1] in self._events)

    def _answer(self, call: wire.Call) -> bytes:
        assert call.row is not None
        name, args = call.row.name, call.args()
        if name == "auth_list":
            return wire.reply(call, {"types": [0]})
        if name == "connect_supports_feature":
            return wire.reply(call, {"supported": 1})
        if name == "connect_get_uri":
            return wire.reply(call, {"uri": "qemu:///system"})
        if name.endswith(("event_register_any", "callback_register_any")):
            assert args is not None
            self._missing.discard(args.eventID)
            return wire.reply(call, {"callbackID": args.eventID})
        if call.row.ret is None:
            return wire.reply(call)
        return wire.reply_error(call, NoSupport())


def _run(program: str, path: Path, scope: str, events: set[int], *words: str) -> subprocess.CompletedProcess[str]:
    path.unlink(missing_ok=True)
    server = Server(path, scope, events)
    try:
        argv = [program, "-c", f"qemu+unix:///system?socket={path}", *words, "--loop", "--timeout", "2"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("scope", "events", "words"),
    [
        ("domain", set(range(27)), ["event", "--all"]),
        ("network", {0}, ["net-event", "--event", "lifecycle"]),
        ("storage_pool", {0}, ["pool-event", "--event", "lifecycle"]),
        ("storage_pool", {1}, ["pool-event", "--event", "refresh"]),
        ("secret", {0}, ["secret-event", "--event", "lifecycle"]),
        ("secret", {1}, ["secret-event", "--event", "value-changed"]),
        ("node_device", {0}, ["nodedev-event", "--event", "lifecycle"]),
        ("node_device", {1}, ["nodedev-event", "--event", "update"]),
    ],
    ids=["domain", "network", "pool", "pool-refresh", "secret", "secret-value", "device", "device-update"],
)
def test_lines_are_the_same(tmp_path: Path, scope: str, events: set[int], words: list[str]) -> None:
    runs = {name: _run(program, tmp_path / "sock", scope, events, *words) for name, program in PROGRAMS.items()}
    want, have = runs["c-virsh"], runs["our-virsh"]
    count = sum(1 for event in EVENTS if event[0] == scope and event[1] in events)
    assert want.stdout.splitlines()[-3:-1] == ["event loop timed out", f"events received: {count}"]
    assert have.stdout.splitlines() == want.stdout.splitlines()
    assert (have.returncode, have.stderr) == (want.returncode, want.stderr) == (0, "")
