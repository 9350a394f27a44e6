"""The list of volumes."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import POOL, pool
from guesthouse.cli.virsh.pool_list import pretty
from guesthouse.cli.virsh.shell import Shell

# virStorageVolType
TYPES = dict(enumerate(("file", "block", "dir", "network", "netdir", "ploop")))


@command(
    "volume",
    "vol-list",
    "list the volumes of a pool",
    POOL,
    flag("details", "show their types and sizes too"),
    description="List the volumes of an active pool.",
)
def show_list(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    with shell.explain("Failed to list volumes"):
        volumes = storage.list_all_volumes()
    volumes.sort(key=lambda vol: vol.name.lower())
    details = given.has("details")
    rows = []
    for vol in volumes:
        cells = [vol.name, vol.get_path()]
        if details:
            info = vol.get_info()
            cells += [TYPES.get(info.type, "unknown"), pretty(info.capacity), pretty(info.allocation)]
        rows.append(cells)
    head = ["Name", "Path", "Type", "Capacity", "Allocation"] if details else ["Name", "Path"]
    shell.out(format_table(head, rows, header=not shell.quiet))
