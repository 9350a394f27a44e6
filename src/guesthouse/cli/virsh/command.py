"""How a virsh command is declared: one decorated function, from which grammar, help and completion derive.

::

    @command("domain", "reset", "reset a domain", DOMAIN, description="Pull the reset line of a guest.")
    def reset(shell: Shell, given: Given) -> None: ...

The kinds of options, and what follows from them for the grammar, are virsh's: data options are required and may be
given by place or by name, strings are optional and may be given by place too unless they are ``named``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from guesthouse.cli.virsh.given import Given
    from guesthouse.cli.virsh.shell import Shell

    Action = Callable[[Shell, Given], None]

FLAG, STRING, NUMBER, DATA, REST, ALIAS = "flag", "string", "number", "data", "rest", "alias"


class Option:
    """An option of a command.

    ``named``: only as ``--name``, never by place. ``empty``: an empty value is allowed. ``target``: of an alias the
    option it stands for, with ``=value`` where the alias also gives its value. ``complete``: what values there are:
    "domain", "network", "pool", "volume", "secret", "device", "interface", "file", or words separated by blanks.
    """

    __slots__ = ("complete", "empty", "help", "kind", "name", "named", "required", "target")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str = "",
        *,
        required: bool = False,
        named: bool = False,
        empty: bool = False,
        target: str = "",
        complete: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.required = required
        self.named = named
        self.empty = empty
        self.target = target
        self.complete = complete


def flag(name: str, help: str) -> Option:
    """An option without a value."""
    return Option(name, FLAG, help)


def data(name: str, help: str, complete: str = "") -> Option:
    """A required value, by place or by name."""
    return Option(name, DATA, help, required=True, complete=complete)


def string(name: str, help: str, complete: str = "", *, named: bool = False, empty: bool = False) -> Option:
    """An optional value."""
    return Option(name, STRING, help, named=named, empty=empty, complete=complete)


def number(name: str, help: str, *, required: bool = False, named: bool = False) -> Option:
    """A number; what range it may have, the command says when it reads it."""
    return Option(name, NUMBER, help, required=required, named=named)


def rest(name: str, help: str, *, required: bool = False, empty: bool = False) -> Option:
    """All values that are left; must be the last option."""
    return Option(name, REST, help, required=required, empty=empty)


def alias(name: str, target: str) -> Option:
    """Another name for a later option (``"config"``), or for one with a value (``"mode=acpi"``). Not in the help."""
    return Option(name, ALIAS, target=target)


class Command:
    """A declared command. ``connect``: it needs a connection. ``hidden``: it is not listed."""

    __slots__ = ("action", "connect", "description", "group", "help", "hidden", "name", "options")

    def __init__(
        self,
        group: str,
        name: str,
        help: str,
        options: tuple[Option, ...],
        action: Action,
        *,
        description: str = "",
        connect: bool = True,
        hidden: bool = False,
    ) -> None:
        self.group = group
        self.name = name
        self.help = help
        self.options = options
        self.action = action
        self.description = description
        self.connect = connect
        self.hidden = hidden


REGISTRY: dict[str, Command] = {}


def command(
    group: str,
    name: str,
    help: str,
    *options: Option,
    description: str = "",
    connect: bool = True,
    hidden: bool = False,
) -> Callable[[Action], Action]:
    """Declare the decorated function as the command ``name`` of ``group`` (a keyword of :data:`index.GROUPS`).

    The function does its work and prints; it raises Failed for an error of virsh's own, or lets the daemon's through.
    """

    def declare(action: Action) -> Action:
        REGISTRY[name] = Command(
            group, name, help, options, action, description=description, connect=connect, hidden=hidden
        )
        return action

    return declare
