"""Commands about one volume: delete, describe, resize, wipe."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import dump_xml, row, xpath_options
from guesthouse.cli.virsh.pool_list import pretty
from guesthouse.cli.virsh.shell import Shell
from guesthouse.cli.virsh.volume_args import IN_POOL, KEY, VOLUME, size, volume
from guesthouse.cli.virsh.volume_list import TYPES

_WITH_SNAPSHOTS = 2  # VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS
_PHYSICAL = 1  # VIR_STORAGE_VOL_GET_PHYSICAL
_RESIZE_FLAGS = {"allocate": 1, "delta": 2, "shrink": 4}
_DELTA = 2
# in the order of virStorageVolWipeAlgorithm
_ALGORITHMS = ("zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim")


@command(
    "volume",
    "vol-delete",
    "delete a volume",
    VOLUME,
    IN_POOL,
    flag("delete-snapshots", "delete its snapshots too, where the storage can"),
    description="Delete a volume; its content is gone for good.",
)
def delete(shell: Shell, given: Given) -> None:
    vol, name = volume(shell, given)
    with shell.explain(f"Failed to delete vol {name}"):
        vol.delete(_WITH_SNAPSHOTS if given.has("delete-snapshots") else 0)
    shell.extra(f"Vol {name} deleted\n")


@command(
    "volume",
    "vol-dumpxml",
    "show a volume's XML",
    VOLUME,
    IN_POOL,
    *xpath_options(),
    description="Print the XML that describes a volume.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given)
    dump_xml(shell, given, vol.get_xml_desc())


@command(
    "volume",
    "vol-info",
    "show what a volume is and how large it is",
    VOLUME,
    IN_POOL,
    flag("bytes", "sizes in bytes"),
    flag("physical", "show the size of the file or device instead of what is allocated"),
    description="Print a volume's name, type, and sizes.",
)
def info(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given)
    shell.out(row("Name:", vol.name))
    physical = given.has("physical")
    found = vol.get_info_flags(_PHYSICAL) if physical else vol.get_info()
    shell.out(row("Type:", TYPES.get(found.type, "unknown")))
    for label, count in (
        ("Capacity:", found.capacity),
        ("Physical:" if physical else "Allocation:", found.allocation),
    ):
        shell.out(row(label, f"{count} bytes" if given.has("bytes") else pretty(count)))


@command(
    "volume",
    "vol-resize",
    "change the size of a volume",
    VOLUME,
    data("capacity", "its new size, such as 20G; in bytes without a unit"),
    IN_POOL,
    flag("allocate", "take the new space from the pool at once"),
    flag("delta", "add this much to its size instead"),
    flag("shrink", "let it become smaller; what is beyond its new end is gone"),
    description="Change a volume's size while no running guest uses it. (See blockresize for one that a guest uses.)",
)
def resize(shell: Shell, given: Given) -> None:
    flags = given.flags(_RESIZE_FLAGS)
    vol, _ = volume(shell, given)
    capacity = given.need("capacity").lstrip()
    if capacity.startswith("-"):
        # the daemon takes positive sizes alone: a negative one is how much is taken off
        if not given.has("shrink"):
            raise Failed("negative size requires --shrink")
        capacity = capacity[1:]
        flags |= _DELTA
    count = size(capacity)
    how = "by" if flags & _DELTA else "to"
    with shell.explain(f"Failed to change size of volume '{vol.name}' {how} {capacity}"):
        vol.resize(count, flags)
    shell.extra(f"Size of volume '{vol.name}' successfully changed {how} {capacity}\n")


@command(
    "volume",
    "vol-wipe",
    "overwrite a volume",
    VOLUME,
    IN_POOL,
    string("algorithm", f"how: {', '.join(_ALGORITHMS)}", " ".join(_ALGORITHMS)),
    description="Overwrite a volume, so that what was on it can not be read again.",
)
def wipe(shell: Shell, given: Given) -> None:
    vol, name = volume(shell, given)
    algorithm = given.text("algorithm")
    if algorithm is not None and algorithm not in _ALGORITHMS:
        raise Failed(f"Unsupported algorithm '{algorithm}'")
    with shell.explain(f"Failed to wipe vol {name}"):
        if algorithm is None:
            vol.wipe()
        else:
            vol.wipe_pattern(_ALGORITHMS.index(algorithm))
    shell.extra(f"Vol {name} wiped\n")


@command(
    "volume",
    "vol-key",
    "show the key of a volume",
    data("vol", "name or path of the volume", "volume"),
    IN_POOL,
)
def show_key(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given)
    shell.out(f"{vol.key}\n")


@command("volume", "vol-name", "show the name of a volume", data("vol", "key or path of the volume", "file"))
def show_name(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given, None, KEY)
    shell.out(f"{vol.name}\n")


@command(
    "volume",
    "vol-path",
    "show the path of a volume",
    data("vol", "name or key of the volume", "volume"),
    IN_POOL,
)
def show_path(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given)
    shell.out(f"{vol.get_path()}\n")


@command(
    "volume",
    "vol-pool",
    "show the pool of a volume",
    data("vol", "key or path of the volume", "file"),
    flag("uuid", "show the pool's UUID instead of its name"),
)
def show_pool(shell: Shell, given: Given) -> None:
    vol, _ = volume(shell, given, None, KEY)
    with shell.explain("failed to get parent pool"):
        storage = vol.pool_lookup_by_volume()
    shell.out(f"{storage.uuid if given.has('uuid') else storage.name}\n")
