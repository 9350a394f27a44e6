"""Commands for what people and programs note about a guest: title, description, XML of their own."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, rest, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, NoSupport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from guesthouse.cli.virsh.command import Option
    from guesthouse.client import Domain, Network

_DESCRIPTION, _TITLE, _ELEMENT = range(3)  # of networks likewise
_LIVE, _CONFIG = 1, 2
_XML_INACTIVE = 2
_NO_METADATA = 80  # virErrorNumber VIR_ERR_NO_DOMAIN_METADATA


def affected() -> tuple[Option, Option, Option]:
    """The three options with which one chooses between the guest as it runs and as it is defined."""
    return (
        flag("live", "of the guest as it runs"),
        flag("config", "of the guest as it is defined"),
        flag("current", "of the guest as it is now; the default"),
    )


def affect_flags(given: Given) -> int:
    """virDomainModificationImpact as the three options say. Raises Failed where they exclude each other."""
    given.exclusive("current", "live")
    given.exclusive("current", "config")
    return given.flags({"live": _LIVE, "config": _CONFIG})


def read_text(shell: Shell, guest: Domain, *, title: bool, flags: int = 0) -> str:
    """The guest's title or description, empty where it has none; from its XML where the daemon tells it in no other
    way. Raises the daemon's error."""
    try:
        return guest.get_metadata(_TITLE if title else _DESCRIPTION, None, flags)
    except GuesthouseError as error:
        if error.number == _NO_METADATA:
            return ""
        if not isinstance(error, NoSupport):
            raise
    from guesthouse.cli.virsh.devices import guest_xml

    root = guest_xml(shell, guest, _XML_INACTIVE if flags & _CONFIG else 0)
    return root.findtext("title" if title else "description") or ""


@command(
    "domain",
    "desc",
    "show or change a guest's description or title",
    DOMAIN,
    *affected(),
    flag("title", "the title, rather than the description"),
    flag("edit", "change it in an editor"),
    rest("new-desc", "the new text", empty=True),
    description="Show what is written about a guest, or write something new.",
)
def describe(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    title = given.has("title")
    what = "title" if title else "description"
    words = given.rest()
    text = " ".join(words)
    if not words and not given.has("edit"):
        text = read_text(shell, guest, title=title, flags=flags & _CONFIG)
        shell.out(text or f"No {what} for domain: {guest.name}")
        return
    if given.has("edit"):
        from guesthouse.cli.virsh.editing import edit_text

        before = read_text(shell, guest, title=title, flags=flags & _CONFIG)
        text = edit_text(shell, text if words else before)
        if title:
            text = text.removesuffix("\n")  # editors end each line, a title has none
        if text == before:
            shell.extra(f"Domain {what} not changed\n")
            return
    with shell.explain(f"Failed to set new domain {what}"):
        guest.set_metadata(_TITLE if title else _DESCRIPTION, text, None, None, flags)
    shell.extra(f"Domain {what} updated successfully")


@command(
    "domain",
    "metadata",
    "show or change XML that programs keep with a guest",
    DOMAIN,
    data("uri", "the namespace that the XML is under"),
    *affected(),
    flag("edit", "change it in an editor"),
    string("key", "the prefix that stands for the namespace"),
    string("set", "the new XML"),
    flag("remove", "remove the XML"),
    description="Show, change or remove the XML that a guest carries for others under a namespace.",
)
def show_metadata(shell: Shell, given: Given) -> None:
    own_xml(shell, given, lambda: domain(shell, given)[0], _NO_METADATA)


def own_xml(shell: Shell, given: Given, find: Callable[[], Domain | Network], missing: int) -> None:
    """Show, change or remove the XML under a namespace of what ``find`` finds, once the options make sense together;
    ``missing`` is the error's number where there is none."""
    given.exclusive("edit", "set")
    given.exclusive("remove", "set")
    given.exclusive("remove", "edit")
    flags = affect_flags(given)
    holder = find()
    uri, key = given.need("uri"), given.text("key")
    new = given.text("set")
    if (given.has("edit") or new) and not key:
        raise Failed("namespace key is required when modifying metadata")
    if new or given.has("remove"):
        holder.set_metadata(_ELEMENT, new, key, uri, flags)
        shell.extra("Metadata modified\n" if new else "Metadata removed\n")
    elif given.has("edit"):
        from guesthouse.cli.virsh.editing import edit

        def read() -> str:
            try:
                return holder.get_metadata(_ELEMENT, uri, flags)
            except GuesthouseError as error:
                if error.number != missing:
                    raise
                return "\n"  # for an editor to start from

        def define(xml: str) -> Domain | Network:
            holder.set_metadata(_ELEMENT, xml, key, uri, flags)
            return holder

        done = edit(shell, read, define)
        shell.extra("Metadata not changed" if done is None else "Metadata modified\n")
    else:
        shell.out(f"{holder.get_metadata(_ELEMENT, uri, flags)}\n")
