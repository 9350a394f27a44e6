"""Commands about secrets and their values."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import dump_xml, read_file, xpath_options
from guesthouse.cli.virsh.shell import DEBUG, Shell
from guesthouse.errors import Domain, GuesthouseError, XMLError, from_wire
from guesthouse.units import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.client import Secret

_SECRET = data("secret", "UUID of the secret", "secret")
_USAGES = ("none", "volume", "ceph", "iscsi", "tls", "vtpm")
_FILTERS = {"ephemeral": 1, "no-ephemeral": 2, "private": 4, "no-private": 8}
_FILE_LIMIT = 1024  # virsh's; the protocol takes 64 KiB
_INVALID_ARG = 8
_LIFECYCLE = ("Defined", "Undefined")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def _secret(shell: Shell, given: Given) -> Secret:
    name = given.need("secret")
    shell.debug(DEBUG, f"{given.command.name}: found option <secret>: {name}")
    return _find(shell, name)


def _find(shell: Shell, name: str) -> Secret:
    """The secret with the UUID ``name``. Raises Failed."""
    try:
        return shell.conn.secret_lookup_by_uuid(_checked(name))
    except GuesthouseError as error:
        raise Failed(f"failed to get secret '{name}'") from error


def _checked(name: str) -> str:
    try:
        return parse_uuid(name)
    except XMLError:
        raise _argument("uuidstr in virSecretLookupByUUIDString must be a valid UUID") from None


def _argument(text: str) -> GuesthouseError:
    """The error of an argument that no daemon is asked about; libvirt prints it without its usual beginning."""
    return from_wire(_INVALID_ARG, Domain.SECRET, text)


@command(
    "secret",
    "secret-define",
    "make a secret known, or change it, from an XML file",
    data("file", "a file with the secret's XML", "file"),
    flag("validate", "check the XML against its schema"),
    description="Make a secret known to the daemon, or change one that is; its value is set apart.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to set attributes from {path}"):
        secret = shell.conn.secret_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Secret {secret.uuid} created\n")


@command(
    "secret",
    "secret-dumpxml",
    "show a secret's XML",
    _SECRET,
    *xpath_options(),
    description="Print the XML that describes a secret; its value is not in it.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    dump_xml(shell, given, _secret(shell, given).get_xml_desc())


@command(
    "secret",
    "secret-set-value",
    "set a secret's value",
    _SECRET,
    string("file", "read the value from this file", "file", named=True),
    flag("plain", "the file holds the value itself, not base64"),
    flag("interactive", "ask for the value on the terminal"),
    string("base64", "the value in base64; others can see it in the list of processes"),
    description="Give a secret its value: from a file, from the terminal, or as an argument.",
)
def set_value(shell: Shell, given: Given) -> None:
    given.exclusive("file", "base64")
    given.exclusive("plain", "base64")
    given.exclusive("interactive", "base64")
    given.exclusive("interactive", "plain")
    given.exclusive("interactive", "file")
    secret = _secret(shell, given)
    path, text = given.text("file"), given.text("base64")
    if text is not None:
        shell.error("Passing secret value as command-line argument is insecure!")
        value = _decode(text.encode("utf-8", "surrogateescape"))
    elif path is not None:
        value = _read_value(path)
        if not given.has("plain"):
            value = _decode(value)
    elif given.has("interactive"):
        value = _ask(shell, "Enter new value for secret:")
    else:
        raise Failed("Input secret value is missing")
    with shell.explain("Failed to set secret value"):
        if not value:
            raise _argument("value in virSecretSetValue must not be NULL")
        secret.set_value(value)
    shell.extra("Secret value set\n")


def _decode(text: bytes) -> bytes:
    """base64 as libvirt reads it: what does not belong there is passed over, and so is a group that is not whole."""
    from binascii import a2b_base64

    digits = bytes(byte for byte in text if byte in _ALPHABET)
    out = b""
    for start in range(0, len(digits) - 3, 4):
        group = digits[start : start + 4]
        raw = a2b_base64(group.replace(b"=", b"A"))
        out += raw[:1] + (raw[1:2] if group[2:3] != b"=" else b"") + (raw[2:] if group[3:] != b"=" else b"")
    return out


def _read_value(path: str) -> bytes:
    """The bytes of a file. Raises Failed with the system's reason, and for files over 1 KiB."""
    import errno
    import os

    try:
        with open(path, "rb") as file:
            value = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        what = "read" if isinstance(error, IsADirectoryError) else "open"
        raise Failed(f"Failed to {what} file '{path}': {error.strerror}") from None
    if len(value) > _FILE_LIMIT:
        raise Failed(f"Failed to read file '{path}': {os.strerror(errno.EOVERFLOW)}")
    return value


def _ask(shell: Shell, prompt: str) -> bytes:
    """A line from the terminal, unseen; from standard input where there is no terminal."""
    import os
    import sys
    import termios

    shell.out(prompt)
    shell.flush()
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return sys.stdin.buffer.readline().rstrip(b"\n")
    with open(descriptor, "r+b", buffering=0) as terminal:
        saved = termios.tcgetattr(terminal)
        unseen = [*saved]
        unseen[3] &= ~(termios.ECHO | termios.ISIG)
        termios.tcsetattr(terminal, termios.TCSAFLUSH, unseen)
        try:
            line = terminal.readline()
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, saved)
        terminal.write(b"\n")
    return line.rstrip(b"\n")


@command(
    "secret",
    "secret-get-value",
    "show a secret's value",
    _SECRET,
    flag("plain", "as it is, not in base64"),
    description="Print the value of a secret that is not private.",
)
def get_value(shell: Shell, given: Given) -> None:
    value = _secret(shell, given).get_value()
    if given.has("plain"):
        import sys

        shell.flush()
        sys.stdout.buffer.write(value)
        return
    from base64 import b64encode

    shell.out(b64encode(value).decode())


@command("secret", "secret-undefine", "forget a secret", _SECRET, description="Forget a secret, and with it its value.")
def undefine(shell: Shell, given: Given) -> None:
    name = given.text("secret")
    secret = _secret(shell, given)
    with shell.explain(f"Failed to delete secret {name}"):
        secret.undefine()
    shell.extra(f"Secret {name} deleted\n")


@command(
    "secret",
    "secret-list",
    "list secrets",
    flag("ephemeral", "secrets whose value is never written down"),
    flag("no-ephemeral", "secrets whose value is written down"),
    flag("private", "secrets whose value no client can have"),
    flag("no-private", "secrets whose value clients can have"),
    description="List the secrets, or those that the options choose, with what they are for.",
)
def show_list(shell: Shell, given: Given) -> None:
    with shell.explain("Failed to list secrets"):
        secrets = shell.conn.list_all_secrets(given.flags(_FILTERS))
    secrets.sort(key=lambda secret: secret.uuid)
    rows = [(secret.uuid, _usage(secret)) for secret in secrets]
    shell.out(format_table(("UUID", "Usage"), rows, header=not shell.quiet))


def _usage(secret: Secret) -> str:
    if not secret.usageType:
        return "Unused"
    return f"{events.word(_USAGES, secret.usageType)} {secret.usageID}"


def _lifecycle(message: Any) -> str:
    return f"event 'lifecycle' for secret {message.secret.uuid}: {events.word(_LIFECYCLE, message.event)}\n"


def _value_changed(message: Any) -> str:
    return f"event 'value-changed' for secret {message.secret.uuid}\n"


_KINDS = {"lifecycle": _lifecycle, "value-changed": _value_changed}


@command(
    "secret",
    "secret-event",
    "wait for what happens to secrets",
    string("secret", "only of the secret with this UUID", "secret"),
    *events.options(_KINDS),
    description="Wait for an event of a type and print it, or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    events.watch_objects(shell, given, _KINDS, "secret", _find, shell.conn.secret_event_register_any)
