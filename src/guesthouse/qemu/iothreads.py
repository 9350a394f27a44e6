"""QEMU's threads that serve disks alone, while the guest runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from guesthouse.qemu.machine import Machine

_START = "iothread"


class IoThread(NamedTuple):
    """``thread`` is the host's thread; the rest is how it waits for work: nanoseconds at most, and how that time
    changes (0: as QEMU likes)."""

    number: int
    thread: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int


async def threads(machine: Machine) -> list[IoThread]:
    """Those that have a number, in QEMU's order."""
    found = []
    for item in await machine.execute("query-iothreads"):
        number = item["id"].removeprefix(_START)
        if number.isdecimal():
            polls = item.get("poll-max-ns", 0), item.get("poll-grow", 0), item.get("poll-shrink", 0)
            found.append(IoThread(int(number), item["thread-id"], *polls))
    return found


async def add(machine: Machine, number: int) -> None:
    await machine.execute("object-add", {"qom-type": "iothread", "id": f"{_START}{number}"})


async def remove(machine: Machine, number: int) -> None:
    await machine.execute("object-del", {"id": f"{_START}{number}"})


async def change(machine: Machine, number: int, wishes: dict[str, Any]) -> None:
    """Set properties by QEMU's names. Where the bounds of the pool of workers both move, the one that keeps them in
    order goes first."""
    path = f"/objects/{_START}{number}"
    lower, upper = wishes.get("thread-pool-min"), wishes.get("thread-pool-max")
    names = list(wishes)
    if lower is not None and upper is not None:
        most = await machine.execute("qom-get", {"path": path, "property": "thread-pool-max"})
        names = [*(n for n in wishes if not n.startswith("thread-pool")), *_in_order(lower <= most)]
    for name in names:
        await machine.execute("qom-set", {"path": path, "property": name, "value": wishes[name]})


def _in_order(lower_first: bool) -> tuple[str, str]:
    return ("thread-pool-min", "thread-pool-max") if lower_first else ("thread-pool-max", "thread-pool-min")
