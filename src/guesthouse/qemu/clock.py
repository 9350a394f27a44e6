"""<clock> as QEMU's -rtc and what belongs to it."""

from __future__ import annotations

import time

from guesthouse.model.domain import Domain

_TRACKS = {"guest": "vm", "wall": "host", "realtime": "rt"}


def clock_arguments(domain: Domain) -> list[str]:
    clock = domain.clock
    base, track, drift = "utc", "", ""
    out: list[str] = []
    if clock is not None:
        if clock.offset in ("localtime", "timezone"):
            base = "localtime"
        elif clock.offset == "absolute":
            base = _moment(clock.start or 0)
        elif clock.offset == "variable":
            local = clock.basis == "localtime"
            base = _moment(time.time() + int(clock.adjustment or 0) + (time.localtime().tm_gmtoff if local else 0))
        for timer in clock.timers:
            if timer.name == "rtc":
                track = f",clock={_TRACKS[timer.track]}" if timer.track in _TRACKS else ""
                drift = ",driftfix=slew" if timer.tickpolicy == "catchup" else ""
            elif timer.name == "pit" and timer.tickpolicy in (None, "delay", "discard"):
                out += ["-global", f"kvm-pit.lost_tick_policy={timer.tickpolicy or 'delay'}"]
    return ["-rtc", f"base={base}{track}{drift}", *out]


def environment(domain: Domain) -> dict[str, str]:
    """The time zone that QEMU takes for the local one."""
    clock = domain.clock
    if clock is not None and clock.offset == "timezone" and clock.timezone:
        return {"TZ": clock.timezone}
    return {}


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
