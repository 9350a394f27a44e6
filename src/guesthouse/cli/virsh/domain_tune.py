"""Commands about what a guest takes of the host, and what share it is to have."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag, number, rest, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.domain_stats import param_text
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NANO = 1_000_000_000
_UNLIMITED = 9007199254740991
_MOST = 16
_NUMA = ("strict", "preferred", "interleave", "restrictive")
_ERRORS = ("none", "unspecified error", "no space")
_MEMORY = ("hard-limit", "soft-limit", "swap-hard-limit", "min-guarantee")
_DEVICES = ("device-weights", *(f"device-{way}-{what}-sec" for what in ("iops", "bytes") for way in ("read", "write")))
_LIVE, _CONFIG, _CURRENT = affected()
_AFFECT = (_CONFIG, _LIVE, _CURRENT)


def _show(shell: Shell, name: str, text: str) -> None:
    shell.out(f"{name:<15}: {text}\n")


def _all(shell: Shell, guest: Any, method: str, kind: str, flags: int) -> Any:
    """The parameters of a kind, asked for as the protocol wants it: how many first, then all of them."""
    # numatune's are called as memtune's
    with shell.explain(f"Unable to get number of {'memory' if kind == 'numa' else kind} parameters"):
        count = guest.call(method, nparams=0, flags=flags).nparams
    with shell.explain(f"Unable to get {kind} parameters"):
        return guest.call(method, nparams=count, flags=flags).params if count else ()


@command(
    "monitor",
    "domblkerror",
    "show which of a guest's disks have failed",
    DOMAIN,
    description="Show the errors for which a guest's disks are stopped.",
)
def disk_errors(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    count = guest.call("get_disk_errors", maxerrors=0, flags=0).nerrors
    found = guest.call("get_disk_errors", maxerrors=count, flags=0).errors if count else ()
    if not found:
        shell.out("No errors found\n")
    for item in found:
        shell.out(f"{item.disk}: {_ERRORS[item.error] if 0 <= item.error < len(_ERRORS) else 'unspecified error'}\n")


@command(
    "domain",
    "cpu-stats",
    "show how much of the host's CPUs a guest has used",
    DOMAIN,
    flag("total", "of all CPUs together"),
    number("start", "from this CPU on"),
    number("count", "of so many CPUs"),
    description="Show the time that a guest has used, CPU by CPU and in sum.",
)
def cpu_stats(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    start, count = given.integer("start"), given.integer("count")
    if start is not None and start < 0:
        raise Failed("Invalid value for start CPU")
    if count is not None and count < 0:
        raise Failed("Invalid value for number of CPUs to show")
    by_cpu = start is not None or count is not None
    with shell.explain(f"Failed to retrieve CPU statistics for domain '{guest.name}'"):
        most = guest.call("get_cpu_stats", nparams=0, start_cpu=0, ncpus=0, flags=0).nparams if by_cpu else 0
    if start is not None and start >= most:
        raise Failed(f"Start CPU {start} is out of range (min: 0, max: {most - 1})")
    with shell.explain(f"Failed to retrieve CPU statistics for domain '{guest.name}'"):
        if by_cpu or not given.has("total"):
            _cpu_by_cpu(shell, guest, start or 0, count)
        if given.has("total") or not by_cpu:
            _cpu_total(shell, guest)


def _cpu_by_cpu(shell: Shell, guest: Any, start: int, count: int | None) -> None:
    most = guest.call("get_cpu_stats", nparams=0, start_cpu=0, ncpus=0, flags=0).nparams
    if count is not None and count > most:
        shell.out(f"Only {most} CPUs available to show\n")
    last = most if count is None or count > most else start + count
    per_cpu = guest.call("get_cpu_stats", nparams=0, start_cpu=0, ncpus=1, flags=0).nparams
    for cpu in range(start, last):
        params = guest.call("get_cpu_stats", nparams=per_cpu, start_cpu=cpu, ncpus=1, flags=0).params
        if params:
            shell.out(f"CPU{cpu}:\n")
        for param in params:
            shell.out(f"\t{param.field:<12} {param.value // _NANO:9}.{param.value % _NANO:09} seconds\n")


def _cpu_total(shell: Shell, guest: Any) -> None:
    count = guest.call("get_cpu_stats", nparams=0, start_cpu=-1, ncpus=1, flags=0).nparams
    shell.out("Total:\n")
    for param in guest.call("get_cpu_stats", nparams=count, start_cpu=-1, ncpus=1, flags=0).params:
        shell.out(f"\t{param.field:<12} {param.value // _NANO:9}.{param.value % _NANO:09} seconds\n")


@command(
    "domain",
    "schedinfo",
    "show or set a guest's share of the host's CPUs",
    DOMAIN,
    number("weight", "of Xen's credit scheduler", named=True),
    number("cap", "of Xen's credit scheduler", named=True),
    _CURRENT,
    _CONFIG,
    _LIVE,
    rest("set", "name=value"),
    description="Show the parameters of the scheduler, or set some.",
)
def scheduler(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    kind = guest.call("get_scheduler_type")
    _show(shell, "Scheduler", "posix" if kind.type == "posix" else kind.type)
    # one cannot ask of both; when they are set, both say the same
    asked = 0 if given.has("live") and given.has("config") else flags
    known = (
        guest.call("get_scheduler_parameters_flags", nparams=kind.nparams, flags=asked).params if kind.nparams else ()
    )
    kinds = {param.field: param.kind for param in known}
    changes: dict[str, tuple[str, int]] = {}
    for word in given.rest():
        name, equals, value = word.partition("=")
        if not equals:
            raise Failed("Invalid syntax for --set, expecting name=value")
        if name not in kinds:
            raise Failed(f"invalid scheduler option: {name}")
        figure = parse_number(value)
        if figure is None:
            raise Failed(f"Invalid value for field '{name}': {value}")
        changes[name] = (kinds[name], figure)
    if changes:
        guest.call("set_scheduler_parameters_flags", params=changes, flags=flags)
        known = guest.call("get_scheduler_parameters_flags", nparams=kind.nparams, flags=asked).params
    elif asked != flags:
        raise Failed("cannot query both live and config at once")
    for param in known:
        _show(shell, param.field, param_text(param))


@command(
    "domain",
    "memtune",
    "show or set limits of a guest's memory",
    DOMAIN,
    *(number(name, "a size; a bare number is KiB, -1 no limit") for name in _MEMORY),
    *_AFFECT,
    description="Show how much of the host's memory a guest may take, or limit it.",
)
def memory_limits(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    changes = {}
    for name in _MEMORY:
        if given.has(name):
            size = _UNLIMITED if given.raw(name) == "-1" else (given.scaled(name, 1024) or 0) // 1024
            changes[name.replace("-", "_")] = ("ullong", size)
    if changes:
        with shell.explain("Unable to change memory parameters"):
            guest.call("set_memory_parameters", params=changes, flags=flags)
        return
    params = _all(shell, guest, "get_memory_parameters", "memory", flags)
    for param in params:
        unlimited = param.kind == "ullong" and param.value == _UNLIMITED
        _show(shell, param.field, "unlimited" if unlimited else param_text(param))


@command(
    "domain",
    "blkiotune",
    "show or set a guest's share of the host's disks",
    DOMAIN,
    number("weight", "its weight among the guests"),
    *(string(name, "DEVICE,VALUE,...") for name in _DEVICES),
    *_AFFECT,
    description="Show what share of the host's disks a guest gets, or set it.",
)
def block_limits(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    changes: dict[str, tuple[str, Any]] = {}
    weight = given.integer("weight")
    if weight is not None:
        if weight < 0:
            raise Failed(f"Invalid value of {weight} for I/O weight")
        changes["weight"] = ("uint", weight)
    for name in _DEVICES:
        if (text := given.text(name)) is not None:
            field = name.replace("-", "_").replace("weights", "weight")
            changes[field] = ("string", text)
    if changes:
        with shell.explain("Unable to change blkio parameters"):
            guest.call("set_blkio_parameters", params=changes, flags=flags)
        return
    params = _all(shell, guest, "get_blkio_parameters", "blkio", flags | 4)
    for param in params:
        _show(shell, param.field, param_text(param))


@command(
    "domain",
    "numatune",
    "show or set which of the host's NUMA nodes a guest's memory is on",
    DOMAIN,
    string("mode", "how strictly: strict, preferred, interleave or restrictive", " ".join(_NUMA)),
    string("nodeset", "the nodes", empty=True),
    *_AFFECT,
    description="Show where a guest's memory is to be, or say it.",
)
def numa(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    changes: dict[str, tuple[str, Any]] = {}
    if (nodes := given.text("nodeset")) is not None:
        changes["numa_nodeset"] = ("string", nodes)
    if (mode := given.text("mode")) is not None:
        value = parse_number(mode)
        if value is None and mode not in _NUMA:
            raise Failed(f"Invalid mode: {mode}")
        changes["numa_mode"] = ("int", _NUMA.index(mode) if value is None else value)
    if changes:
        with shell.explain("Unable to change numa parameters"):
            guest.call("set_numa_parameters", params=changes, flags=flags)
        return
    params = _all(shell, guest, "get_numa_parameters", "numa", flags | 4)
    for param in params:
        text = param_text(param)
        if param.field == "numa_mode" and 0 <= param.value < len(_NUMA):
            text = _NUMA[param.value]
        _show(shell, param.field, text)


@command(
    "domain",
    "perf",
    "show or choose what of a guest the processor counts",
    DOMAIN,
    string("enable", "events to count, with commas between"),
    string("disable", "events not to count"),
    *_AFFECT,
    description="Show which performance events are counted for a guest, or choose them.",
)
def perf(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    wanted = [(name, on) for option, on in (("enable", 1), ("disable", 0)) for name in _names(given.text(option))]
    if wanted:
        with shell.explain("Unable to enable/disable perf events"):
            guest.call("set_perf_events", params={name: ("boolean", on) for name, on in wanted}, flags=flags)
        states = wanted
    else:
        with shell.explain("Unable to get perf events"):
            states = [(param.field, param.value) for param in guest.call("get_perf_events", flags=flags).params]
    for name, on in states:
        shell.extra(f"{name:<15}: {'enabled' if on else 'disabled'}\n")


def _names(text: str | None) -> list[str]:
    return [word for word in (text or "").replace("|", ",").split(",") if word]
