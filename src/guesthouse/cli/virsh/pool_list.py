"""The list of pools."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, flag, string
from guesthouse.cli.virsh.given import Failed, Given, split_commas
from guesthouse.cli.virsh.objects import yes_no
from guesthouse.cli.virsh.shell import Shell
from guesthouse.units import pretty_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import StoragePool

# virStoragePoolState
STATES = dict(enumerate(("inactive", "building", "running", "degraded", "inaccessible")))
ACTIVE_STATES = (2, 3)
_INACTIVE, _ACTIVE = 1, 2
_FILTERS = {"persistent": 4, "transient": 8, "autostart": 16, "no-autostart": 32}
# the bits of virConnectListAllStoragePoolsFlags that choose a type, which have an order of their own
_TYPE_BITS = {
    name: 1 << bit
    for bit, name in enumerate(
        (
            *("dir", "fs", "netfs", "logical", "disk", "iscsi", "scsi", "mpath", "rbd", "sheepdog", "gluster", "zfs"),
            *("vstorage", "iscsi-direct"),
        ),
        6,
    )
}


def pretty(size: int) -> str:
    """A size in bytes as the info commands show it: "1.50 GiB"."""
    value, unit = pretty_size(size)
    return f"{value:.2f} {unit}"


@command(
    "pool",
    "pool-list",
    "list pools",
    flag("inactive", "pools that are not active"),
    flag("all", "pools that are active, and those that are not"),
    flag("transient", "pools without a definition"),
    flag("persistent", "pools with a definition"),
    flag("autostart", "pools that start with the host"),
    flag("no-autostart", "pools that do not start with the host"),
    string("type", "pools of this type; several with commas", " ".join(_TYPE_BITS)),
    flag("details", "show whether each is persistent, and its sizes"),
    flag("uuid", "show UUIDs alone"),
    flag("name", "show names alone"),
    description="List the pools that are active, or those that the options choose.",
)
def show_list(shell: Shell, given: Given) -> None:
    flags = _INACTIVE if given.has("inactive") else _ACTIVE
    if given.has("all"):
        flags = _ACTIVE | _INACTIVE
    flags |= given.flags(_FILTERS)
    kinds = given.text("type")
    for kind in split_commas(kinds) if kinds else ():
        if kind not in _TYPE_BITS:
            raise Failed(f"Invalid pool type '{kind}'")
        flags |= _TYPE_BITS[kind]
    given.exclusive("details", "uuid")
    given.exclusive("details", "name")
    with shell.explain("Failed to list pools"):
        pools = shell.conn.list_all_storage_pools(flags)
    pools.sort(key=lambda pool: pool.name.lower())
    if given.has("uuid") or given.has("name"):
        for pool in pools:
            shell.out(_line(pool, given))
        return
    if given.has("details"):
        head = ["Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available"]
        rows = [_details(pool) for pool in pools]
    else:
        head = ["Name", "State", "Autostart"]
        rows = [
            [pool.name, "active" if pool.is_active() else "inactive", yes_no(pool.get_autostart())] for pool in pools
        ]
    shell.out(format_table(head, rows, header=not shell.quiet))


def _line(pool: StoragePool, given: Given) -> str:
    words = [pool.uuid] if given.has("uuid") else []
    if given.has("name"):
        words.append(f"{pool.name:<20}")
    return " ".join(words) + "\n"


def _details(pool: StoragePool) -> list[str]:
    info = pool.get_info()
    sizes = ["-", "-", "-"]
    if info.state in ACTIVE_STATES:
        sizes = [pretty(size) for size in (info.capacity, info.allocation, info.available)]
    state = STATES.get(info.state, "unknown")
    return [pool.name, state, yes_no(pool.get_autostart()), yes_no(pool.is_persistent()), *sizes]
