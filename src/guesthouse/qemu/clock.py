"""<clock> as QEMU's -rtc and what belongs to it."""

from __future__ import annotations

import time

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.domain import Domain


def clock_arguments(domain: Domain) -> list[str]:
    clock = domain.clock
    base, track, drift = "utc", "", ""
    out: list[str] = []
    if clock is not None:
        if clock.offset == "localtime":
            base = "localtime"
        elif clock.offset == "absolute":
            base = _moment(clock.start or 0)
        elif clock.offset == "variable":
            local = clock.basis == "localtime"
            base = _moment(time.time() + int(clock.adjustment or 0) + (time.localtime().tm_gmtoff if local else 0))
        elif clock.offset not in (None, "utc"):
            raise ConfigUnsupported(f"clock offset '{clock.offset}' is not supported yet")
        for timer in clock.timers:
            if timer.name == "rtc" and timer.track in ("guest", "wall"):
                track = ",clock=vm" if timer.track == "guest" else ",clock=host"
            if timer.name == "rtc" and timer.tickpolicy == "catchup":
                drift = ",driftfix=slew"
            elif timer.name == "pit" and timer.tickpolicy == "delay":
                out += ["-global", "kvm-pit.lost_tick_policy=delay"]
            elif timer.name == "tsc" and timer.present is not None:
                raise ConfigUnsupported(f"timer '{timer.name}' is not supported yet")
    return ["-rtc", f"base={base}{track}{drift}", *out]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
