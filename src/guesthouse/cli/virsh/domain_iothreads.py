"""Commands about a guest's threads for disks."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, number
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.domain_pins import host_cpus, read_map, wanted_cpus
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.units import format_cpus

_LIVE, _CONFIG, _CURRENT = affected()
_AFFECT = (_CONFIG, _LIVE, _CURRENT)
_ID = number("id", "the thread's number", required=True)


@command(
    "domain",
    "iothreadinfo",
    "show a guest's threads for disks",
    DOMAIN,
    *_AFFECT,
    description="Show the threads that serve disks alone, and which of the host's CPUs they run on.",
)
def show_iothreads(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    with shell.explain("Unable to get domain IOThreads information"):
        found = guest.call("get_iothread_info", flags=flags).info
    if not found:
        shell.extra("No IOThreads found for the domain")
        return
    rows = [[str(item.iothread_id), format_cpus(read_map(item.cpumap))] for item in found]
    shell.out(format_table(["IOThread ID", "CPU Affinity"], rows, header=not shell.quiet))


@command(
    "domain",
    "iothreadpin",
    "say which of the host's CPUs a thread for disks runs on",
    DOMAIN,
    number("iothread", "the thread's number", required=True),
    data("cpulist", "the host's CPUs"),
    *_AFFECT,
    description="Bind one of a guest's threads for disks to some of the host's CPUs.",
)
def pin_iothread(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    thread = given.unsigned("iothread")
    cpumap = wanted_cpus(given.need("cpulist"), host_cpus(shell))
    guest.call("pin_iothread", iothreads_id=thread, cpumap=cpumap, flags=flags)


@command(
    "domain",
    "iothreadadd",
    "give a guest a thread for disks",
    DOMAIN,
    _ID,
    *_AFFECT,
    description="Add a thread that disks and controllers can be served by, also while the guest runs.",
)
def add_iothread(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    guest.call("add_iothread", iothread_id=_thread(given), flags=flags)


@command(
    "domain",
    "iothreaddel",
    "take a thread for disks from a guest",
    DOMAIN,
    _ID,
    *_AFFECT,
    description="Remove a thread that serves neither a disk nor a controller.",
)
def delete_iothread(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    guest.call("del_iothread", iothread_id=_thread(given), flags=flags)


@command(
    "domain",
    "iothreadset",
    "change how a guest's thread for disks works",
    DOMAIN,
    _ID,
    number("poll-max-ns", "nanoseconds at most that it looks for work before it sleeps"),
    number("poll-grow", "by what that time is multiplied when it was too short"),
    number("poll-shrink", "by what that time is divided when it was too long"),
    number("thread-pool-min", "workers at least"),
    number("thread-pool-max", "workers at most"),
    *_AFFECT,
    description="Change how a thread waits for work (of a running guest alone), and how many workers it has.",
)
def set_iothread(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    thread = _thread(given)
    wishes = (
        ("poll_max_ns", "ullong", given.unsigned_long("poll-max-ns")),
        ("poll_grow", "uint", given.unsigned("poll-grow")),
        ("poll_shrink", "uint", given.unsigned("poll-shrink")),
        ("thread_pool_min", "int", given.integer("thread-pool-min")),
        ("thread_pool_max", "int", given.integer("thread-pool-max")),
    )
    params = {name: (kind, value) for name, kind, value in wishes if value is not None}
    if not params:
        raise Failed("Not enough arguments passed, nothing to set")
    guest.call("set_iothread_params", iothread_id=thread, params=params, flags=flags)


def _thread(given: Given) -> int:
    number_ = given.integer("id") or 0
    if number_ <= 0:
        raise Failed(f"Invalid IOThread id value: '{number_}'")
    return number_
