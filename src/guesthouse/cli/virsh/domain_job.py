"""The command that shows how far a guest's job is, or was."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.units import pretty_size

_TYPES = ("None", "Bounded", "Unbounded", "Completed", "Failed", "Cancelled")
_BOUNDED, _COMPLETED = 1, 3
_TOLD = (_BOUNDED, 2, _COMPLETED)
_OPERATIONS = (
    *("Unknown", "Start", "Save", "Restore", "Incoming migration", "Outgoing migration", "Snapshot"),
    *("Snapshot revert", "Dump", "Backup", "Snapshot delete"),
)
# name of a statistic, label, how it is written: bytes, bytes a second, or a number with a word behind it
_LINES = (
    ("data_processed", "Data processed:", "B"),
    ("data_remaining", "Data remaining:", "B"),
    ("data_total", "Data total:", "B"),
    ("memory_processed", "Memory processed:", "B"),
    ("memory_remaining", "Memory remaining:", "B"),
    ("memory_total", "Memory total:", "B"),
    ("memory_bps", "Memory bandwidth:", "B/s"),
    ("memory_dirty_rate", "Dirty rate:", "pages/s"),
    ("memory_page_size", "Page size:", "bytes"),
    ("memory_iteration", "Iteration:", ""),
    ("memory_postcopy_requests", "Postcopy requests:", ""),
    ("disk_processed", "File processed:", "B"),
    ("disk_remaining", "File remaining:", "B"),
    ("disk_total", "File total:", "B"),
    ("disk_bps", "File bandwidth:", "B/s"),
    ("memory_constant", "Constant pages:", ""),
    ("memory_normal", "Normal pages:", ""),
    ("memory_normal_bytes", "Normal data:", "B"),
    ("downtime", "Expected downtime:", "ms"),
    ("setup_time", "Setup time:", "ms"),
)


@command(
    "domain",
    "domjobinfo",
    "show how far a guest's job is",
    DOMAIN,
    flag("completed", "of the last job that was completed"),
    flag("keep-completed", "and remember them"),
    flag("anystats", "whatever became of the job"),
    flag("rawstats", "all that the daemon says, as it says it"),
    description="Show what is known of a job that runs on a guest, such as a save.",
)
def show_job(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    flags = given.flags({"completed": 1, "keep-completed": 3})
    job = guest.call("get_job_stats", flags=flags)
    stats = {param.field: param.value for param in job.params}
    if given.has("rawstats"):
        shell.out(f"Job type: {job.type}\n\n")
        for name, value in stats.items():
            shell.out(f"{name}: {value}\n")
        return
    shell.out(f"{'Job type:':<17} {_word(_TYPES, job.type):<12}\n")
    if job.type not in _TOLD and not (given.has("anystats") and stats):
        return
    shell.out(f"{'Operation:':<17} {_word(_OPERATIONS, stats.get('operation', 0)):<12}\n")
    shell.out(f"{'Time elapsed:':<17} {stats.get('time_elapsed', 0):<12} ms\n")
    if job.type == _BOUNDED:
        shell.out(f"{'Time remaining:':<17} {stats.get('time_remaining', 0):<12} ms\n")
    empty = [kind for kind in ("data", "memory", "disk") if not _amounts(stats, kind)]
    for name, label, unit in _LINES:
        if name not in stats or (name.partition("_")[0] in empty and name.endswith(("_total", "ed", "_remaining"))):
            continue
        if name == "downtime" and job.type == _COMPLETED:
            label = "Total downtime:"
        shell.out(f"{label:<17} {_value(stats[name], unit)}\n")


def _amounts(stats: dict[str, int], kind: str) -> bool:
    return any(stats.get(f"{kind}_{what}") for what in ("total", "processed", "remaining"))


def _value(value: int, unit: str) -> str:
    if unit in ("B", "B/s"):
        number, word = pretty_size(value)
        return f"{number:.3f} {word}{unit[1:]}"
    return f"{value:<12}{unit and ' ' + unit}"


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else "unknown"
