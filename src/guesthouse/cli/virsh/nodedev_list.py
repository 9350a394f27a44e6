"""The list of the host's devices, flat or as a tree."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# libvirt's types of devices, a bit each from bit 0
_TYPES = (
    *("system", "pci", "usb_device", "usb", "net", "scsi_host", "scsi_target", "scsi", "storage", "fc_host", "vports"),
    *("scsi_generic", "drm", "mdev_types", "mdev", "ccw", "css", "vdpa", "ap_card", "ap_queue", "ap_matrix", "vpd"),
)
_INACTIVE, _ACTIVE = 1 << 30, 1 << 31


@command(
    "nodedev",
    "nodedev-list",
    "list the host's devices",
    flag("tree", "as a tree: each below its parent"),
    string("cap", "devices of these types, with commas between them", " ".join(_TYPES)),
    flag("inactive", "devices that are defined, but not there"),
    flag("all", "devices that are there, and those that are only defined"),
)
def show_list(shell: Shell, given: Given) -> None:
    cap = given.text("cap")
    tree, inactive, everything = (given.has(name) for name in ("tree", "inactive", "all"))
    if everything and inactive:
        raise Failed("Option --all is incompatible with --inactive")
    if tree and (cap is not None or inactive):
        raise Failed("Option --tree is incompatible with --cap and --inactive")
    flags = _type_flags(cap)
    if inactive or everything:
        flags |= _INACTIVE
    if not inactive:
        flags |= _ACTIVE
    with shell.explain("Failed to list node devices"):
        devices = shell.conn.list_all_devices(flags)
    devices.sort(key=lambda device: device.name)
    if not tree:
        for device in devices:
            shell.out(f"{device.name}\n")
        return
    children: dict[str | None, list[str]] = {}
    for device in devices:
        children.setdefault(device.get_parent(), []).append(device.name)
    for root in children.get(None, ()):
        shell.out(f"{root}\n")
        for line in _branch(root, children, "", last=True):
            shell.out(f"{line}\n")


def _type_flags(cap: str | None) -> int:
    flags = 0
    for word in cap.split(",") if cap else ():
        if word not in _TYPES:
            raise Failed("Invalid capability type")
        flags |= 1 << _TYPES.index(word)
    return flags


def _branch(name: str, children: dict[str | None, list[str]], indent: str, *, last: bool) -> Iterator[str]:
    """The lines below a device; behind the last one of a branch comes a line that is blank but for the branches'."""
    below = children.get(name, [])
    if below:
        yield f"{indent}  |"
    elif last:
        yield indent
    for child in below:
        end = child is below[-1]
        yield f"{indent}  +- {child}"
        yield from _branch(child, children, f"{indent}  {' ' if end else '|'} ", last=end)
