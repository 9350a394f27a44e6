"""Commands of a pool's life: define, create, build, start, stop, delete, edit, describe."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import (
    NAME,
    POOL,
    UUID,
    dump_xml,
    pool,
    read_file,
    row,
    xpath_options,
    yes_no,
)
from guesthouse.cli.virsh.pool_list import ACTIVE_STATES, STATES, pretty
from guesthouse.cli.virsh.shell import Shell

_FILE = data("file", "a file with the pool's XML", "file")
_INACTIVE = 1  # VIR_STORAGE_XML_INACTIVE
_BUILD_FLAGS = {"no-overwrite": 4, "overwrite": 8}
_CREATE_FLAGS = {"build": 1, "overwrite": 2, "no-overwrite": 4}
BUILD_OPTIONS = (
    flag("build", "make what holds the pool first, such as its folder"),
    flag("no-overwrite", "do not make it where there is something already"),
    flag("overwrite", "make it anew whatever is there"),
)


def create_flags(given: Given) -> int:
    """What :data:`BUILD_OPTIONS` ask for. Raises Failed where they contradict each other."""
    given.exclusive("overwrite", "no-overwrite")
    return given.flags(_CREATE_FLAGS)


@command(
    "pool",
    "pool-define",
    "define a pool from an XML file, without starting it",
    _FILE,
    flag("validate", "check the XML against its schema"),
    description="Make a pool known to the daemon, or change the configuration of one that is.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define pool from {path}"):
        storage = shell.conn.storage_pool_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Pool {storage.name} defined from {path}\n")


@command(
    "pool",
    "pool-create",
    "start a pool from an XML file",
    _FILE,
    *BUILD_OPTIONS,
    description="Start a pool that is known only until it stops, unless it is defined too.",
)
def create(shell: Shell, given: Given) -> None:
    path = given.need("file")
    flags = create_flags(given)
    xml = read_file(path)
    with shell.explain(f"Failed to create pool from {path}"):
        storage = shell.conn.storage_pool_create_xml(xml, flags)
    shell.extra(f"Pool {storage.name} created from {path}\n")


@command(
    "pool",
    "pool-build",
    "make what holds a pool",
    POOL,
    *BUILD_OPTIONS[1:],
    description="Make what holds a pool that is not active: its folder, its file system, its volume group.",
)
def build(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    with shell.explain(f"Failed to build pool {name}"):
        storage.build(given.flags(_BUILD_FLAGS))
    shell.extra(f"Pool {name} built\n")


@command("pool", "pool-start", "start a pool that is defined", POOL, *BUILD_OPTIONS, description="Start a pool.")
def start(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    flags = create_flags(given)
    with shell.explain(f"Failed to start pool {name}"):
        storage.create(flags)
    shell.extra(f"Pool {name} started\n")


@command(
    "pool",
    "pool-destroy",
    "stop a pool",
    POOL,
    description="Stop a pool; what it holds stays as it is, and so does its definition.",
)
def destroy(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    with shell.explain(f"Failed to destroy pool {name}"):
        storage.destroy()
    shell.extra(f"Pool {name} destroyed\n")


@command(
    "pool",
    "pool-delete",
    "remove what holds a pool",
    POOL,
    description="Remove what holds a pool that is not active, such as its empty folder. Its definition stays.",
)
def delete(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    with shell.explain(f"Failed to delete pool {name}"):
        storage.delete()
    shell.extra(f"Pool {name} deleted\n")


@command(
    "pool",
    "pool-undefine",
    "remove a pool's definition",
    POOL,
    description="Forget a pool that is not active; what it holds stays.",
)
def undefine(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    with shell.explain(f"Failed to undefine pool {name}"):
        storage.undefine()
    shell.extra(f"Pool {name} has been undefined\n")


@command(
    "pool",
    "pool-refresh",
    "look again for a pool's volumes",
    POOL,
    description="Take in what changed in a pool behind the daemon's back.",
)
def refresh(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    with shell.explain(f"Failed to refresh pool {name}"):
        storage.refresh()
    shell.extra(f"Pool {name} refreshed\n")


@command(
    "pool",
    "pool-autostart",
    "start a pool whenever the host starts",
    POOL,
    flag("disable", "do not"),
    description="Say whether a pool is started together with the daemon when the host boots.",
)
def autostart(shell: Shell, given: Given) -> None:
    storage, name = pool(shell, given)
    mark = "unmark" if given.has("disable") else "mark"
    with shell.explain(f"failed to {mark} pool {name} as autostarted"):
        storage.set_autostart(not given.has("disable"))
    shell.extra(f"Pool {name} {mark}ed as autostarted\n")


@command(
    "pool",
    "pool-dumpxml",
    "show a pool's XML",
    POOL,
    flag("inactive", "the definition, even while the pool is active"),
    *xpath_options(),
    description="Print the XML that describes a pool.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    dump_xml(shell, given, storage.get_xml_desc(_INACTIVE if given.has("inactive") else 0))


@command(
    "pool",
    "pool-edit",
    "change a pool's definition in an editor",
    POOL,
    description="Open the pool's XML in an editor and define what comes back; an active pool changes when it is "
    "started anew.",
)
def edit_pool(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.editing import edit

    storage, _ = pool(shell, given)
    edited = edit(shell, lambda: storage.get_xml_desc(_INACTIVE), shell.conn.storage_pool_define_xml)
    if edited is None:
        shell.extra(f"Pool {storage.name} XML configuration not changed.\n")
    else:
        shell.extra(f"Pool {edited.name} XML configuration edited.\n")


@command(
    "pool",
    "pool-info",
    "show what a pool is and how full it is",
    POOL,
    flag("bytes", "sizes in bytes"),
    description="Print a pool's name, UUID and state, and while it is active its sizes.",
)
def info(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    shell.out(row("Name:", storage.name))
    shell.out(row("UUID:", storage.uuid))
    with shell.explain("Could not retrieve pool information"):
        found = storage.get_info()
    shell.out(row("State:", STATES.get(found.state, "unknown")))
    shell.out(row("Persistent:", yes_no(storage.is_persistent())))
    shell.out(row("Autostart:", yes_no(storage.get_autostart())))
    if found.state in ACTIVE_STATES:
        for label, size in (
            ("Capacity:", found.capacity),
            ("Allocation:", found.allocation),
            ("Available:", found.available),
        ):
            shell.out(row(label, size if given.has("bytes") else pretty(size)))


@command("pool", "pool-name", "show the name that belongs to a UUID", POOL)
def show_name(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given, by=UUID)
    shell.out(f"{storage.name}\n")


@command("pool", "pool-uuid", "show the UUID that belongs to a name", POOL)
def show_uuid(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given, by=NAME)
    shell.out(f"{storage.uuid}\n")
