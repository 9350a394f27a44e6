"""Commands about a guest's virtual processors."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InvalidArg

_LIVE, _CONFIG, _MAXIMUM, _GUEST = 1, 2, 4, 8


@command(
    "domain",
    "vcpucount",
    "show how many virtual processors a guest has",
    DOMAIN,
    flag("maximum", "how many it can have"),
    flag("active", "how many it has"),
    flag("live", "of the guest as it runs"),
    flag("config", "of the guest as it is defined"),
    flag("current", "of the guest as it is now"),
    flag("guest", "as the guest's agent tells"),
    description="Show a number of virtual processors; without options, all four that there are.",
)
def count(shell: Shell, given: Given) -> None:
    given.exclusive("live", "config")
    given.exclusive("active", "maximum")
    given.exclusive("guest", "config")
    guest, _ = domain(shell, given)
    flags = given.flags({"live": _LIVE, "config": _CONFIG, "maximum": _MAXIMUM, "guest": _GUEST})
    if flags & _GUEST:
        try:
            shell.out(f"{guest.get_vcpus_flags(flags)}\n")
        except InvalidArg as error:
            raise Failed("Failed to retrieve vCPU count from the guest") from error
    elif flags or given.has("active") or given.has("current"):
        shell.out(f"{guest.get_vcpus_flags(flags)}\n")
    else:
        for name, bit in (("maximum", _MAXIMUM), ("current", 0)):
            for place, of in (("config", _CONFIG), ("live", _LIVE)):
                try:
                    shell.out(f"{name:<12} {place:<12} {guest.get_vcpus_flags(bit | of):>3}\n")
                except GuesthouseError:
                    pass  # a guest that does not run, or is not defined
