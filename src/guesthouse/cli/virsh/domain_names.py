"""Commands that turn a guest's name, id and UUID into one another, or change the name."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import ID, NAME, UUID, domain
from guesthouse.cli.virsh.shell import Shell


@command("domain", "domid", "show a guest's id", data("domain", "name or UUID of the guest", "domain"))
def show_id(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given, UUID | NAME)
    shell.out(f"{'-' if guest.id == -1 else guest.id}\n")


@command("domain", "domname", "show a guest's name", data("domain", "id or UUID of the guest", "domain"))
def show_name(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given, ID | UUID)
    shell.out(f"{guest.name}\n")


@command("domain", "domuuid", "show a guest's UUID", data("domain", "id or name of the guest", "domain"))
def show_uuid(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given, ID | NAME)
    shell.out(f"{guest.uuid}\n")


@command(
    "domain",
    "domrename",
    "rename a guest",
    data("domain", "name or UUID of the guest", "domain"),
    data("new-name", "the name it gets"),
    description="Rename a guest that does not run.",
)
def rename(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    guest.rename(given.need("new-name"))
    shell.extra("Domain successfully renamed\n")
