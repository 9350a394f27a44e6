"""Finding what an option names: guests by id, UUID or name, networks and pools by UUID or name; and small helpers."""

from __future__ import annotations

import os

from guesthouse.cli.virsh.command import Option, data
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.shell import DEBUG, INFO, Shell
from guesthouse.errors import GuesthouseError, InvalidArg, XMLError
from guesthouse.units import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain, Network, StoragePool

ID, UUID, NAME = 1, 2, 4
_UUID_LENGTH = 36
_XML_LIMIT = 10 * 1024 * 1024

DOMAIN = data("domain", "name, id or UUID of the guest", "domain")
NETWORK = data("network", "name or UUID of the network", "network")
POOL = data("pool", "name or UUID of the pool", "pool")


def domain(shell: Shell, given: Given, by: int = ID | UUID | NAME) -> tuple[Domain, str]:
    """The guest that the option "domain" names, and the name as given. Raises Failed."""
    name = given.need("domain")
    shell.debug(INFO, f"{given.command.name}: found option <domain>: {name}")
    return find_domain(shell, name, by, f"{given.command.name}: <domain>"), name


def find_domain(shell: Shell, name: str, by: int = ID | UUID | NAME, said: str = "") -> Domain:
    """The guest called ``name``; ``said`` begins what is said in debugging. Raises Failed."""
    trying = said and f"{said} trying as domain"
    number = parse_number(name)
    if by & ID and number is not None and 0 <= number < 2**31:
        if said:
            shell.debug(DEBUG, f"{said} looks like ID")
        try:
            return shell.conn.lookup_by_id(number)
        except GuesthouseError:
            pass
    if by & UUID and len(name) == _UUID_LENGTH:
        _trying(shell, trying, "UUID")
        try:
            return shell.conn.lookup_by_uuid(parse_uuid(name))
        except GuesthouseError:
            pass
    if by & NAME:
        _trying(shell, trying, "NAME")
        try:
            return shell.conn.lookup_by_name(name)
        except GuesthouseError:
            pass
    raise Failed(f"failed to get domain '{name}'")


def network(shell: Shell, given: Given, by: int = UUID | NAME) -> tuple[Network, str]:
    """The network that the option "network" names, and the name as given. Raises Failed."""
    name = given.need("network")
    shell.debug(INFO, f"{given.command.name}: found option <network>: {name}")
    return find_network(shell, name, by, f"{given.command.name}: <network> trying as network"), name


def find_network(shell: Shell, name: str, by: int = UUID | NAME, trying: str = "") -> Network:
    """The network called ``name``; ``trying`` begins what is said in debugging.

    Raises Failed, with the daemon's word where it was asked.
    """
    cause: GuesthouseError | None = None
    if by & UUID and len(name) == _UUID_LENGTH:
        _trying(shell, trying, "UUID")
        try:
            return shell.conn.network_lookup_by_uuid(_checked(name, "virNetworkLookupByUUIDString"))
        except GuesthouseError as error:
            cause = error
    if by & NAME:
        _trying(shell, trying, "NAME")
        try:
            return shell.conn.network_lookup_by_name(name)
        except GuesthouseError as error:
            cause = error
    raise Failed(f"failed to get network '{name}'") from cause


def pool(shell: Shell, given: Given, option: str = "pool", by: int = UUID | NAME) -> tuple[StoragePool, str]:
    """The pool that the option ``option`` names, and the name as given. Raises Failed."""
    name = given.need(option)
    shell.debug(INFO, f"{given.command.name}: found option <{option}>: {name}")
    return find_pool(shell, name, by, f"{given.command.name}: <{option}> trying as pool"), name


def find_pool(shell: Shell, name: str, by: int = UUID | NAME, trying: str = "") -> StoragePool:
    """The pool called ``name``; ``trying`` begins what is said in debugging.

    Raises Failed, with the daemon's word where it was asked.
    """
    cause: GuesthouseError | None = None
    if by & UUID and len(name) == _UUID_LENGTH:
        _trying(shell, trying, "UUID")
        try:
            return shell.conn.storage_pool_lookup_by_uuid(_checked(name, "virStoragePoolLookupByUUIDString"))
        except GuesthouseError as error:
            cause = error
    if by & NAME:
        _trying(shell, trying, "NAME")
        try:
            return shell.conn.storage_pool_lookup_by_name(name)
        except GuesthouseError as error:
            cause = error
    raise Failed(f"failed to get pool '{name}'") from cause


def _trying(shell: Shell, words: str, what: str) -> None:
    if words:
        shell.debug(DEBUG, f"{words} {what}")


def _checked(name: str, function: str) -> str:
    try:
        return parse_uuid(name)
    except XMLError:
        raise InvalidArg(f"uuidstr in {function} must be a valid UUID") from None


def read_file(path: str, most: int = _XML_LIMIT) -> str:
    """The text of a file. Raises Failed with the system's reason, and for files over ``most`` bytes."""
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        what = "read" if isinstance(error, IsADirectoryError) else "open"
        raise Failed(f"Failed to {what} file '{path}': {error.strerror}") from None
    if len(content) > most:
        raise Failed(f"Failed to read file '{path}': {os.strerror(75)}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failed(f"Failed to read file '{path}': not UTF-8 text") from None


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def row(label: str, value: object) -> str:
    """A line of the info commands: a label padded to 15 columns, and a value."""
    return f"{label:<15} {value}\n"


def xpath_options() -> tuple[Option, Option]:
    """The two options with which every dumpxml command filters."""
    from guesthouse.cli.virsh.command import flag, string

    return (
        string("xpath", "show only what this XPath expression finds", named=True),
        flag("wrap", "put what was found below one root element"),
    )


def dump_xml(shell: Shell, given: Given, xml: str) -> None:
    """Print ``xml``, or what the option "xpath" finds in it."""
    expression = given.raw("xpath")
    if expression == "":
        raise Failed("")
    if expression is None:
        shell.out(xml)
        return
    from guesthouse.cli.virsh.xpath import find

    for text in find(xml, expression, wrap=given.has("wrap")):
        shell.out(f"{text}\n")
