"""Host ends of character devices as QMP has them, from what the command line says."""

from __future__ import annotations

from typing import Any

import pytest

from guesthouse.qemu.hotplug import backend

INET = {"type": "inet", "data": {"host": "h", "port": "1"}}


@pytest.mark.parametrize(
    ("kind", "options", "data"),
    [
        ("null", {}, {}),
        ("pty", {}, {}),
        ("file", {"path": "/a", "append": "on"}, {"out": "/a", "append": True}),
        ("serial", {"path": "/dev/ttyS0"}, {"device": "/dev/ttyS0"}),
        ("socket", {"path": "/s"}, {"addr": {"type": "unix", "data": {"path": "/s"}}}),
        (
            "socket",
            {"fd": "charx", "server": "on", "wait": "off"},
            {"addr": {"type": "fd", "data": {"str": "charx"}}, "server": True, "wait": False},
        ),
        ("socket", {"host": "h", "port": "1", "telnet": "on"}, {"addr": INET, "telnet": True}),
        ("socket", {"host": "h", "port": "1", "reconnect": "3"}, {"addr": INET, "reconnect": 3}),
        ("udp", {"host": "h", "port": "1"}, {"remote": INET}),
        ("spicevmc", {"name": "vdagent"}, {"name": "vdagent"}),
        ("pty", {"logfile": "/dev/fdset/2", "logappend": "on"}, {"logfile": "/dev/fdset/2", "logappend": True}),
    ],
)
def test_backend(kind: str, options: dict[str, str], data: dict[str, Any]) -> None:
    if kind == "spicevmc":
        data = {"type": data["name"]}  # QMP's word for it
    assert backend(kind, options) == {"type": kind, "data": data}
