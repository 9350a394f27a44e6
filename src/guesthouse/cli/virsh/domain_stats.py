"""Commands that show what a guest's devices have done so far."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number, rest, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, find_domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import NoSupport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.client import Domain

# name of the daemon's parameter -> the word that scripts know, and words for people
_BLOCK = {
    "rd_operations": ("rd_req", "number of read operations:"),
    "rd_bytes": ("rd_bytes", "number of bytes read:"),
    "wr_operations": ("wr_req", "number of write operations:"),
    "wr_bytes": ("wr_bytes", "number of bytes written:"),
    "errs": ("errs", "error count:"),
    "flush_operations": ("flush_operations", "number of flush operations:"),
    "rd_total_times": ("rd_total_times", "total duration of reads (ns):"),
    "wr_total_times": ("wr_total_times", "total duration of writes (ns):"),
    "flush_total_times": ("flush_total_times", "total duration of flushes (ns):"),
}
_BLOCK_MAX = 16
_HUMAN_WIDTH = 31
# in the order of virDomainMemoryStatTags
_MEMORY = (
    *("swap_in", "swap_out", "major_fault", "minor_fault", "unused", "available", "actual", "rss", "usable"),
    *("last_update", "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail"),
)
_STATS = (
    *("state", "cpu-total", "balloon", "vcpu", "interface", "block", "perf", "iothread", "memory", "dirtyrate", "vm"),
)
_STATS_HELP = (
    "the guest's state",
    "processor time",
    "the memory balloon",
    "virtual processors",
    "network interfaces",
    "disks",
    "performance counters",
    "threads for disks",
    "memory bandwidth",
    "how fast memory changes",
    "what the hypervisor counts",
)
_LIVE, _CONFIG, _CURRENT = affected()
_LISTS = ("active", "inactive", "persistent", "transient", "running", "paused", "shutoff", "other")
_OPTIONS = {"nowait": 1 << 29, "backing": 1 << 30, "enforce": 1 << 31}


@command(
    "monitor",
    "domblkstat",
    "show what a guest's disk has done",
    DOMAIN,
    string("device", "the disk: its target or source; without it, all of them together", "disk", empty=True),
    flag("human", "in words for people"),
    description="Show how much a running guest has read from a disk and written to it. Times are in nanoseconds.",
)
def block_stats(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    device = given.raw("device") or ""
    human = given.has("human")
    figures = _block_figures(shell, guest, name, device)
    if human:
        shell.out(f"Device: {device}\n")
    for key, (word, label) in _BLOCK.items():
        value = figures.pop(key, -1)
        if value != -1:
            shell.out(f" {label:<{_HUMAN_WIDTH}} {value}\n" if human else f"{device} {word} {value}\n")
    for key, value in figures.items():
        shell.out(f"{'' if human else device} {key} {value}\n")


def _block_figures(shell: Shell, guest: Domain, name: str, device: str) -> dict[str, Any]:
    """What the daemon counts, in its order; -1 is what it does not know."""
    try:
        params = guest.call("block_stats_flags", path=device, nparams=_BLOCK_MAX, flags=0).params
        return {param.field: param.value for param in params}
    except NoSupport:
        pass  # a daemon that has the old figures alone
    with shell.explain(f"Failed to get block stats {name} {device}"):
        old = guest.call("block_stats", path=device)
    return {
        "rd_operations": old.rd_req,
        "rd_bytes": old.rd_bytes,
        "wr_operations": old.wr_req,
        "wr_bytes": old.wr_bytes,
        "errs": old.errs,
    }


@command(
    "monitor",
    "domifstat",
    "show what a guest's network interface has done",
    DOMAIN,
    data("interface", "the interface: its device or MAC address", "card"),
    description="Show how much a running guest has received and sent through an interface.",
)
def interface_stats(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    device = given.need("interface")
    with shell.explain(f"Failed to get interface stats {name} {device}"):
        figures = guest.call("interface_stats", device=device)
    for key, value in figures.asdict().items():
        if value != -1:
            shell.out(f"{device} {key} {value}\n")


@command(
    "monitor",
    "dommemstat",
    "show how a guest uses its memory",
    DOMAIN,
    number("period", "let the guest report every so many seconds; 0 ends it", named=True),
    _CONFIG,
    _LIVE,
    _CURRENT,
    description="Show a running guest's memory in KiB as its balloon reports it, or say how often it reports.",
)
def memory_stats(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, name = domain(shell, given)
    period = given.integer("period")
    if period is not None:
        if period < 0:
            raise Failed(f"Invalid collection period value '{period}'")
        with shell.explain("Unable to change balloon collection period."):
            guest.call("set_memory_stats_period", period=period, flags=flags)
        return
    with shell.explain(f"Failed to get memory statistics for domain {name}"):
        figures = guest.call("memory_stats", maxStats=len(_MEMORY), flags=0).stats
    for figure in figures:
        if 0 <= figure.tag < len(_MEMORY):
            shell.out(f"{_MEMORY[figure.tag]} {figure.val}\n")


@command(
    "monitor",
    "domstats",
    "show all that is counted of guests",
    *(flag(name, help) for name, help in zip(_STATS, _STATS_HELP, strict=True)),
    *(flag(f"list-{name}", f"only of guests that are {name}") for name in _LISTS[:-1]),
    flag("list-other", "only of guests in any other state"),
    flag("raw", "with values as they come"),
    flag("enforce", "fail where the daemon cannot count what was asked for"),
    flag("backing", "of disks, with the images that they build on"),
    flag("nowait", "leave out what would have to be waited for"),
    rest("domain", "the guests; without it, all of them"),
    description="Show what is counted of one guest, of several or of all: everything, or what the options choose.",
)
def all_stats(shell: Shell, given: Given) -> None:
    stats = given.flags({name: 1 << bit for bit, name in enumerate(_STATS)})
    flags = given.flags({f"list-{name}": 1 << bit for bit, name in enumerate(_LISTS)} | _OPTIONS)
    guests = [find_domain(shell, name) for name in given.rest()]
    for index, record in enumerate(shell.conn.get_all_domain_stats(stats, flags, guests)):
        shell.out("\n" if index else "")
        shell.out(f"Domain: '{record.dom.name}'\n")
        for param in record.params:
            shell.out(f"  {param.field}={param_text(param)}\n")


def param_text(param: Any) -> str:
    """The value of a typed parameter as virsh prints it."""
    if param.kind == "boolean":
        return "yes" if param.value else "no"
    return f"{param.value:f}" if param.kind == "double" else str(param.value)
