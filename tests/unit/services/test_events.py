"""The event bus."""

from __future__ import annotations

import logging

import pytest

from guesthouse.services.events import Event, EventBus

STARTED = Event("domain", 0, "ref", {"event": 2, "detail": 0})
STOPPED = Event("domain", 0, "ref", {"event": 5, "detail": 1})


def test_each_listener_gets_each_event_in_order() -> None:
    bus = EventBus()
    seen: list[tuple[str, Event]] = []
    bus.subscribe(lambda event: seen.append(("a", event)))
    bus.subscribe(lambda event: seen.append(("b", event)))
    bus.emit(STARTED)
    bus.emit(STOPPED)
    assert seen == [("a", STARTED), ("b", STARTED), ("a", STOPPED), ("b", STOPPED)]


def test_who_unsubscribes_gets_none_and_may_do_so_twice_or_while_listening() -> None:
    bus = EventBus()
    seen: list[Event] = []

    def once(event: Event) -> None:
        seen.append(event)
        stop()

    stop = bus.subscribe(once)
    others: list[Event] = []
    bus.subscribe(others.append)
    bus.emit(STARTED)
    bus.emit(STOPPED)
    stop()
    assert seen == [STARTED] and others == [STARTED, STOPPED]


def test_a_listener_that_raises_is_logged_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    seen: list[Event] = []
    bus.subscribe(lambda event: 1 / 0)  # type: ignore[arg-type, return-value]
    bus.subscribe(seen.append)
    with caplog.at_level(logging.ERROR):
        bus.emit(STARTED)
    assert seen == [STARTED]
    assert "an event listener failed" in caplog.text and "ZeroDivisionError" in caplog.text


def test_who_subscribes_during_an_event_gets_the_next() -> None:
    bus = EventBus()
    late: list[Event] = []

    def first(event: Event) -> None:
        if event is STARTED:
            bus.subscribe(late.append)

    bus.subscribe(first)
    bus.emit(STARTED)
    bus.emit(STOPPED)
    assert late == [STOPPED]
