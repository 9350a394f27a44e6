"""Commands about the host's pages of memory, and what few hosts have."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number
from guesthouse.cli.virsh.domain_stats import param_text
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ADD = 1
_TARGETS = ("mem", "disk", "hybrid")
_CELL = number("cellno", "only of this NUMA cell")
_SHARED = ("shm-pages-to-scan", "shm-sleep-millisecs", "shm-merge-across-nodes")


def _capabilities(shell: Shell) -> Element:
    from xml.etree.ElementTree import fromstring

    with shell.explain("unable to get node capabilities"):
        return fromstring(shell.conn.get_capabilities())


def _cells(root: Element) -> list[int]:
    return [int(cell.get("id", "0")) for cell in root.iterfind("host/topology/cells/cell")]


def _page_size(given: Given) -> int | None:
    """KiB."""
    size = given.scaled("pagesize", 1024)
    return None if size is None else -(-size // 1024)


@command(
    "host",
    "freepages",
    "show the host's free pages of memory",
    _CELL,
    number("pagesize", "only of this size; a bare number is KiB"),
    flag("all", "of each NUMA cell"),
    description="Show how many pages of each size are free.",
)
def free_pages(shell: Shell, given: Given) -> None:
    given.exclusive("all", "cellno")
    size = _page_size(given)
    if given.has("all"):
        root = _capabilities(shell)
        sizes = (
            [size] if size is not None else sorted({int(p.get("size", "0")) for p in root.iterfind("host/cpu/pages")})
        )
        for cell in _cells(root):
            counts = _free(shell, sizes, cell)
            shell.out(f"Node {cell}:\n")
            for one, count in zip(sizes, counts, strict=True):
                shell.out(f"{one}KiB: {count}\n")
            shell.out("\n")
        return
    if not given.has("cellno"):
        raise Failed("missing cellno argument")
    cell = given.integer("cellno") or 0
    if cell < -1:
        raise Failed("cell number must be non-negative integer or -1")
    if size is None:
        raise Failed("missing pagesize argument")
    shell.out(f"{size}KiB: {_free(shell, [size], cell)[0]}\n")


def _free(shell: Shell, sizes: list[int], cell: int) -> list[int]:
    return list(shell.conn.call("node_get_free_pages", pages=sizes, startCell=cell, cellCount=1, flags=0).counts)


@command(
    "host",
    "allocpages",
    "set how many huge pages of memory the host has",
    number("pagesize", "their size; a bare number is KiB", required=True),
    number("pagecount", "how many", required=True),
    _CELL,
    flag("add", "so many more"),
    flag("all", "in each NUMA cell"),
    description="Reserve huge pages for guests, or give them back.",
)
def set_pages(shell: Shell, given: Given) -> None:
    given.exclusive("all", "cellno")
    cell = given.integer("cellno")
    size, count = _page_size(given), given.unsigned_long("pagecount")
    cells = _cells(_capabilities(shell)) if given.has("all") else [-1 if cell is None else cell]
    for one in cells:
        shell.conn.call(
            "node_alloc_pages",
            pageSizes=[size],
            pageCounts=[count],
            startCell=one,
            cellCount=1,
            flags=given.flags({"add": _ADD}),
        )


@command(
    "host",
    "node-memory-tune",
    "show or set how the host merges equal pages of memory",
    number("shm-pages-to-scan", "pages that are looked at before a pause"),
    number("shm-sleep-millisecs", "how long the pause is"),
    number("shm-merge-across-nodes", "1: pages of different NUMA cells are merged too"),
    description="Show what the kernel's merging of equal pages (KSM) is set to and has found, or set it.",
)
def memory_tune(shell: Shell, given: Given) -> None:
    wishes = {name.replace("-", "_"): given.unsigned(name) for name in _SHARED}
    changes = {name: ("uint", value) for name, value in wishes.items() if value is not None}
    if changes:
        with shell.explain("Unable to change memory parameters"):
            shell.conn.call("node_set_memory_parameters", params=changes, flags=0)
        return
    with shell.explain("Unable to get number of memory parameters"):
        count = shell.conn.call("node_get_memory_parameters", nparams=0, flags=0).nparams
    if not count:
        return
    with shell.explain("Unable to get memory parameters"):
        params = shell.conn.call("node_get_memory_parameters", nparams=count, flags=0).params
    shell.out("Shared memory:\n")
    for param in params:
        shell.out(f"\t{param.field:<15} {param_text(param)}\n")


@command(
    "host",
    "nodesuspend",
    "put the host to sleep for a while",
    data("target", "to memory (mem), to disk (disk) or both (hybrid)", " ".join(_TARGETS)),
    number("duration", "seconds, 60 at least", required=True),
    description="Put the host to sleep, and have it wake up after some time.",
)
def suspend(shell: Shell, given: Given) -> None:
    target = given.need("target")
    duration = given.integer("duration") or 0
    if target not in _TARGETS:
        raise Failed("Invalid target")
    if duration < 0:
        raise Failed("Invalid duration")
    with shell.explain("The host was not suspended"):
        shell.conn.call("node_suspend_for_duration", target=_TARGETS.index(target), duration=duration, flags=0)


@command(
    "host",
    "nodesevinfo",
    "show how the host encrypts guests' memory",
    description="Show what AMD's encryption of guests (SEV) is set to, where the host has it.",
)
def sev_info(shell: Shell, given: Given) -> None:
    with shell.explain("Unable to get host SEV information"):
        count = shell.conn.call("node_get_sev_info", nparams=0, flags=0).nparams
        params = shell.conn.call("node_get_sev_info", nparams=count, flags=0).params
    for param in params:
        shell.out(f"{param.field:<18}: {param_text(param)}\n")
