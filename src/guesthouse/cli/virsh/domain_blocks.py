"""Commands about a guest's disks while it runs: limits, sizes, a watch on how full they get."""

from __future__ import annotations

from guesthouse.cli.virsh.command import Option, alias, command, data, number, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.params import show
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_LIVE, _CONFIG, _CURRENT = affected()
_RESIZE_BYTES = 1
# who, what, an ending, what it means: in the order of the command's options
_WHO = ("total", "read", "write")
_BYTES = ("bytes-sec", "iops-sec")
_HELP = {
    "": {"bytes-sec": "bytes a second", "iops-sec": "operations a second"},
    "-max": {"bytes-sec": "bytes a second in a burst", "iops-sec": "operations a second in a burst"},
    "-max-length": {"bytes-sec": "seconds that a burst of bytes may last", "iops-sec": "seconds that a burst may last"},
}


def _limits(end: str) -> Iterator[Option]:
    for what in _BYTES:
        for who in _WHO:
            name = f"{who}-{what}{end}"
            yield alias(name.replace("-", "_"), name)
            yield number(name, f"{_HELP[end][what]}: {who}")


@command(
    "domain",
    "blkdeviotune",
    "show or set the limits of a guest's disk",
    DOMAIN,
    data("device", "the disk: its target or source", "disk"),
    *_limits(""),
    *_limits("-max"),
    alias("size_iops_sec", "size-iops-sec"),
    number("size-iops-sec", "bytes that count as one operation"),
    alias("group_name", "group-name"),
    string("group-name", "disks of one name share their limits"),
    *_limits("-max-length"),
    _CONFIG,
    _LIVE,
    _CURRENT,
    description="Show how fast a guest's disk may be, or set it; 0 lifts a limit.",
)
def disk_limits(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    device = given.need("device")
    changes: dict[str, tuple[str, Any]] = {}
    try:
        for name in _in_order():
            value = given.scaled(name) if _is_size(name) else given.unsigned_long(name)
            if value is not None:
                changes[name.replace("-", "_")] = ("ullong", value)
    except Failed as error:
        raise Failed(f"{error}\nerror: Unable to parse integer parameter") from error.__cause__
    if (group := given.text("group-name")) is not None:
        changes["group_name"] = ("string", group)
    if changes:
        with shell.explain("Unable to change block I/O throttle"):
            guest.call("set_block_io_tune", disk=device, params=changes, flags=flags)
        return
    with shell.explain("Unable to get number of block I/O throttle parameters"):
        count = guest.call("get_block_io_tune", disk=None, nparams=0, flags=flags | 4).nparams
    with shell.explain("Unable to get block I/O throttle parameters"):
        params = guest.call("get_block_io_tune", disk=device, nparams=count, flags=flags | 4).params
    show(shell, params, 15)


def _in_order() -> Iterator[str]:
    for end in ("", "-max"):
        yield from (f"{who}-bytes-sec{end}" for who in _WHO)
    for end in ("", "-max"):
        yield from (f"{who}-iops-sec{end}" for who in _WHO)
    yield "size-iops-sec"
    yield from (f"{who}-{what}-max-length" for what in _BYTES for who in _WHO)


def _is_size(name: str) -> bool:
    return "-bytes-" in name and not name.endswith("-length")


@command(
    "domain",
    "blockresize",
    "change the size of a running guest's disk",
    DOMAIN,
    data("path", "the disk: its target or source", "disk"),
    number("size", "the new size; a bare number is KiB", required=True),
    description="Make a disk larger or smaller while the guest runs; the guest is told.",
)
def resize(shell: Shell, given: Given) -> None:
    path = given.need("path")
    size, flags = given.scaled("size", 1024) or 0, 0
    if size % 1024:
        flags = _RESIZE_BYTES
    else:
        size //= 1024
    guest, _ = domain(shell, given)
    with shell.explain(f"Failed to resize block device '{path}'"):
        guest.call("block_resize", disk=path, size=size, flags=flags)
    shell.extra(f"Block device '{path}' is resized")


@command(
    "domain",
    "domblkthreshold",
    "have it told when a guest's image grows beyond a size",
    DOMAIN,
    data("dev", "the disk's target, with [NUMBER] for another image of its chain", "disk"),
    number("threshold", "bytes", required=True),
    description="Send the event block-threshold once, when the guest writes beyond so many bytes of an image's file.",
)
def threshold(shell: Shell, given: Given) -> None:
    device = given.need("dev")
    size = given.scaled("threshold") or 0
    guest, _ = domain(shell, given)
    guest.call("set_block_threshold", dev=device, threshold=size, flags=0)
