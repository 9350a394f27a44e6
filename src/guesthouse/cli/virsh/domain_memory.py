"""Commands that say how much memory a guest has."""

from __future__ import annotations

from guesthouse.cli.virsh.command import Option, alias, command, number
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell

_LIVE_BIT, _MAXIMUM = 1, 4
_LIVE, _CONFIG, _CURRENT = affected()


def _options(what: str) -> tuple[Option, ...]:
    return DOMAIN, alias("kilobytes", "size"), number("size", what, required=True), _CONFIG, _LIVE, _CURRENT


def _kib(given: Given) -> int:
    """The size in whole KiB, rounded up."""
    return -(-(given.scaled("size", 1024) or 0) // 1024)


@command(
    "domain",
    "setmem",
    "say how much memory a guest uses",
    *_options("the size; a bare number is KiB"),
    description="Have a guest's balloon take memory from it or give it back, up to what the guest has at most.",
)
def set_memory(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    size = _kib(given)
    flags = flags if flags or given.has("current") else _LIVE_BIT
    guest.call("set_memory_flags", memory=size, flags=flags)


@command(
    "domain",
    "setmaxmem",
    "say how much memory a guest can have",
    *_options("the size; a bare number is KiB"),
    description="Change how much memory a guest has at most, from its next start on.",
)
def set_max_memory(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    size = _kib(given)
    with shell.explain("Unable to change MaxMemorySize"):
        if flags or given.has("current"):
            guest.call("set_memory_flags", memory=size, flags=flags | _MAXIMUM)
        else:
            guest.call("set_max_memory", memory=size)
