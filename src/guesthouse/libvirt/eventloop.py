"""The event loop that a program brings or takes from here, and its timers and handles."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from guesthouse.libvirt.errors import libvirtError, virResetLastError

READABLE, WRITABLE, ERROR, HANGUP = 1, 2, 4, 8
_POLL = ((READABLE, select.POLLIN), (WRITABLE, select.POLLOUT), (ERROR, select.POLLERR), (HANGUP, select.POLLHUP))

HandleCallback = Callable[[int, int, int, Any], None]
TimerCallback = Callable[[int, Any], None]
_EventCB, _TimerCB = HandleCallback, TimerCallback  # what libvirt-python's own libvirtaio knows them by


class _Handle:
    __slots__ = ("callback", "events", "fd", "opaque")

    def __init__(self, fd: int, events: int, callback: HandleCallback, opaque: Any) -> None:
        self.fd, self.events, self.callback, self.opaque = fd, events, callback, opaque


class _Timer:
    __slots__ = ("callback", "due", "opaque", "period")

    def __init__(self, callback: TimerCallback, opaque: Any) -> None:
        self.callback, self.opaque = callback, opaque
        self.period = -1
        self.due = 0.0


class DefaultLoop:
    """A loop over poll(); anything may be added, changed and removed by any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collected session removes its timer wherever the collector runs
        self._last = 0
        self._handles: dict[int, _Handle] = {}
        self._timers: dict[int, _Timer] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _changed(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes, too
            os.write(self._wake_write, b"\0")

    def add_handle(self, fd: int, events: int, callback: HandleCallback, opaque: Any) -> int:
        with self._lock:
            watch = self._number()
            self._handles[watch] = _Handle(fd, events, callback, opaque)
        self._changed()
        return watch

    def update_handle(self, watch: int, events: int) -> None:
        with self._lock:
            if watch in self._handles:
                self._handles[watch].events = events
        self._changed()

    def remove_handle(self, watch: int) -> int:
        with self._lock:
            found = self._handles.pop(watch, None)
        self._changed()
        return -1 if found is None else 0

    def add_timer(self, period: int, callback: TimerCallback, opaque: Any) -> int:
        with self._lock:
            number = self._number()
            self._timers[number] = _Timer(callback, opaque)
        self.update_timer(number, period)
        return number

    def update_timer(self, number: int, period: int) -> None:
        with self._lock:
            timer = self._timers.get(number)
            if timer is not None:
                timer.period = period
                timer.due = time.monotonic() + period / 1000
        self._changed()

    def remove_timer(self, number: int) -> int:
        with self._lock:
            found = self._timers.pop(number, None)
        self._changed()
        return -1 if found is None else 0

    def run_once(self) -> None:
        """Wait for something to happen and call whoever wanted to know."""
        with self._lock:
            poller = select.poll()
            poller.register(self._wake_read, select.POLLIN)
            wanted: dict[int, int] = {}
            for handle in list(self._handles.values()):
                wanted[handle.fd] = wanted.get(handle.fd, 0) | handle.events
            for fd, events in wanted.items():
                if events:
                    poller.register(fd, sum(bit for ours, bit in _POLL if events & ours))
            dues = [timer.due for timer in list(self._timers.values()) if timer.period >= 0]
        timeout = max(0.0, min(dues) - time.monotonic()) * 1000 if dues else None
        self._dispatch(dict(poller.poll(timeout)))

    def _dispatch(self, ready: dict[int, int]) -> None:
        if ready.pop(self._wake_read, 0):
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake_read, 4096):
                    pass
        now = time.monotonic()
        for number, timer in list(self._timers.items()):
            if timer.period >= 0 and timer.due <= now and number in self._timers:
                timer.due = now + timer.period / 1000
                timer.callback(number, timer.opaque)
        for watch, handle in list(self._handles.items()):
            bits = ready.get(handle.fd, 0)
            events = sum(
                ours for ours, bit in _POLL if bits & bit and (handle.events & ours or ours in (ERROR, HANGUP))
            )
            if bits & select.POLLNVAL:
                events |= ERROR
            if events and watch in self._handles:
                handle.callback(watch, handle.fd, events, handle.opaque)


class _ProgramsLoop:
    """The six functions of a loop that the program has."""

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._add_handle, self.update_handle, self._remove_handle = functions[:3]
        self._add_timer, self.update_timer, self._remove_timer = functions[3:]

    def add_handle(self, fd: int, events: int, callback: HandleCallback, opaque: Any) -> int:
        return int(self._add_handle(fd, events, _eventInvokeHandleCallback, (callback, opaque)))

    def remove_handle(self, watch: int) -> int:
        self._remove_handle(watch)
        return 0

    def add_timer(self, period: int, callback: TimerCallback, opaque: Any) -> int:
        return int(self._add_timer(period, _eventInvokeTimeoutCallback, (callback, opaque)))

    def remove_timer(self, number: int) -> int:
        self._remove_timer(number)
        return 0


_loop: DefaultLoop | _ProgramsLoop | None = None


def current() -> DefaultLoop | _ProgramsLoop | None:
    """The loop that is registered; None where the program has none."""
    return _loop


def virEventRegisterDefaultImpl() -> int:
    """Have events through :func:`virEventRunDefaultImpl`; before a connection is opened."""
    global _loop
    if _loop is None:
        _loop = DefaultLoop()
    return 0


def virEventRunDefaultImpl() -> int:
    """One round of the default loop: waits until there is something to do."""
    if not isinstance(_loop, DefaultLoop):
        raise libvirtError("virEventRunDefaultImpl() failed")
    _loop.run_once()
    return 0


def virEventRegisterImpl(
    addHandle: Callable[..., Any],
    updateHandle: Callable[..., Any],
    removeHandle: Callable[..., Any],
    addTimeout: Callable[..., Any],
    updateTimeout: Callable[..., Any],
    removeTimeout: Callable[..., Any],
) -> Any:
    """Have events through the program's own loop; before a connection is opened. The first that is registered stays."""
    global _loop
    if _loop is None:
        _loop = _ProgramsLoop(addHandle, updateHandle, removeHandle, addTimeout, updateTimeout, removeTimeout)


def virEventAddHandle(fd: int, events: int, cb: Callable[..., Any], opaque: Any) -> int:
    """``cb(watch, fd, events, opaque)`` when ``fd`` is ready; returns the watch."""
    virResetLastError()
    if _loop is None:
        raise libvirtError("virEventAddHandle() failed")
    return _loop.add_handle(fd, events, cb, opaque)


def virEventUpdateHandle(watch: int, events: int) -> Any:
    if _loop is not None:
        _loop.update_handle(watch, events)


def virEventRemoveHandle(watch: int) -> int:
    virResetLastError()
    if _loop is None or _loop.remove_handle(watch) < 0:
        raise libvirtError("virEventRemoveHandle() failed")
    return 0


def virEventAddTimeout(timeout: int, cb: Callable[..., Any], opaque: Any) -> int:
    """``cb(timer, opaque)`` each ``timeout`` ms (-1: not now); returns the timer."""
    virResetLastError()
    if _loop is None:
        raise libvirtError("virEventAddTimeout() failed")
    return _loop.add_timer(timeout, cb, opaque)


def virEventUpdateTimeout(timer: int, timeout: int) -> Any:
    if _loop is not None:
        _loop.update_timer(timer, timeout)


def virEventRemoveTimeout(timer: int) -> int:
    virResetLastError()
    if _loop is None or _loop.remove_timer(timer) < 0:
        raise libvirtError("virEventRemoveTimeout() failed")
    return 0


# what a program's own loop gets as its callback and calls with what it was given beside


def _eventInvokeHandleCallback(watch: int, fd: int, event: int, opaque: Any, opaquecompat: Any = None) -> None:
    callback, own = opaque
    callback(watch, fd, event, own)


def _eventInvokeTimeoutCallback(timer: int, opaque: Any, opaquecompat: Any = None) -> None:
    callback, own = opaque
    callback(timer, own)


def virEventInvokeFreeCallback(opaque: Any) -> None:
    """A program's loop calls this with what belonged to a handle or timer that it has removed."""
