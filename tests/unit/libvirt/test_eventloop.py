"""The default event loop, and one that a program brings."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from guesthouse import libvirt
from guesthouse.libvirt import eventloop
from guesthouse.libvirt.eventloop import HANGUP, READABLE, WRITABLE, DefaultLoop


def test_timers_come_when_they_are_due() -> None:
    loop, calls = DefaultLoop(), []
    timer = loop.add_timer(-1, lambda number, opaque: calls.append((number, opaque)), "x")
    loop.update_timer(timer, 10)
    begin = time.monotonic()
    while not calls:
        loop.run_once()
    assert time.monotonic() - begin >= 0.01
    assert calls == [(timer, "x")]
    assert (loop.remove_timer(timer), loop.remove_timer(timer)) == (0, -1)


def test_handles_hear_of_what_they_asked_for() -> None:
    loop, calls = DefaultLoop(), []
    reader, writer = os.pipe()
    watch = loop.add_handle(reader, READABLE, lambda *words: calls.append(words), "x")
    other = loop.add_handle(writer, WRITABLE, lambda *words: calls.append(words), "y")
    loop.run_once()  # awake, as something was added
    loop.run_once()
    assert set(calls) == {(other, writer, WRITABLE, "y")}
    calls.clear()
    loop.remove_handle(other)
    os.close(writer)
    while not calls:
        loop.run_once()
    assert calls == [(watch, reader, HANGUP, "x")]
    os.close(reader)


def test_another_thread_wakes_it() -> None:
    loop = DefaultLoop()
    calls: list[int] = []
    timer = loop.add_timer(-1, lambda *_: calls.append(1), None)

    def run() -> None:
        while not calls:
            loop.run_once()

    thread = threading.Thread(target=run)
    thread.start()
    loop.update_timer(timer, 0)
    thread.join(5)
    assert not thread.is_alive()
    assert calls


def test_a_callback_may_remove_others() -> None:
    loop = DefaultLoop()
    calls: list[int] = []
    timers: list[int] = []

    def first(number: int, _: object) -> None:
        calls.append(number)
        for timer in timers:
            loop.remove_timer(timer)

    timers.append(loop.add_timer(0, first, None))
    timers.append(loop.add_timer(0, lambda number, _: calls.append(number), None))
    loop.run_once()
    assert calls == timers[:1]


def test_a_programs_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a callback to call with what it was given beside."""
    monkeypatch.setattr(eventloop, "_loop", None)
    asked: list[Any] = []
    names = ("add_handle", "update_handle", "remove_handle", "add_timeout", "update_timeout", "remove_timeout")

    def function(name: str) -> Callable[..., int]:
        def call(*args: object) -> int:
            asked.append((name, *args))
            return 7

        return call

    functions = [function(name) for name in names]
    libvirt.virEventRegisterImpl(*functions)
    heard: list[Any] = []
    assert libvirt.virEventAddHandle(3, READABLE, lambda *words: heard.append(words), "mine") == 7
    assert libvirt.virEventAddTimeout(50, lambda *words: heard.append(words), "yours") == 7
    (_, fd, events, callback, opaque), (_, period, timed, beside) = asked
    assert (fd, events, period) == (3, READABLE, 50)
    callback(7, 3, READABLE, opaque)
    timed(7, beside)
    assert heard == [(7, 3, READABLE, "mine"), (7, "yours")]
    libvirt.virEventUpdateHandle(7, 0)
    libvirt.virEventUpdateTimeout(7, -1)
    assert (libvirt.virEventRemoveHandle(7), libvirt.virEventRemoveTimeout(7)) == (0, 0)
    assert [name for name, *_ in asked] == [names[0], names[3], names[1], names[4], names[2], names[5]]


def test_without_a_loop_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventloop, "_loop", None)
    calls: tuple[Callable[[], object], ...] = (
        lambda: libvirt.virEventAddHandle(0, 1, print, None),
        lambda: libvirt.virEventAddTimeout(0, print, None),
        libvirt.virEventRunDefaultImpl,
    )
    for call in calls:
        with pytest.raises(libvirt.libvirtError):
            call()
