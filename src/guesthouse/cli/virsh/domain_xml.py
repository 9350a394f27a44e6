"""Commands that show or change a guest's XML."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, dump_xml, xpath_options
from guesthouse.cli.virsh.shell import Shell

_SECURE, _INACTIVE = 1, 2
_FLAGS = {"inactive": _INACTIVE, "security-info": _SECURE, "update-cpu": 4, "migratable": 8}
_VALIDATE = 1


@command(
    "domain",
    "dumpxml",
    "print a guest's XML",
    DOMAIN,
    flag("inactive", "as defined, rather than as it runs"),
    flag("security-info", "with passwords and the like"),
    flag("update-cpu", "with the CPU as this host makes it"),
    flag("migratable", "as another host takes it for a migration"),
    *xpath_options(),
    description="Print the XML that describes a guest.",
)
def show_xml(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    dump_xml(shell, given, guest.get_xml_desc(given.flags(_FLAGS)))


@command(
    "domain",
    "edit",
    "change a guest's definition in an editor",
    DOMAIN,
    flag("skip-validate", "define it without checking it against the schema"),
    description="Open a guest's XML in an editor and define what comes back; a guest that runs changes when it is "
    "started anew.",
)
def edit_domain(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.editing import edit

    guest, _ = domain(shell, given)
    relaxed = shell.conn.define_xml
    edited = edit(
        shell,
        lambda: guest.get_xml_desc(_SECURE | _INACTIVE),
        relaxed if given.has("skip-validate") else lambda xml: shell.conn.define_xml(xml, _VALIDATE),
        None if given.has("skip-validate") else relaxed,
    )
    if edited is None:
        shell.extra(f"Domain '{guest.name}' XML configuration not changed.\n")
    else:
        shell.extra(f"Domain '{edited.name}' XML configuration edited.\n")
