"""What volume commands are given: a volume by name, key or path, and sizes."""

from __future__ import annotations

from guesthouse.cli.virsh.command import data, string
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.objects import NAME, UUID, pool
from guesthouse.cli.virsh.shell import DEBUG, Shell
from guesthouse.errors import GuesthouseError, InvalidArg, UnknownError
from guesthouse.units import unit_scale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from guesthouse.client import StoragePool, StorageVol

KEY = UUID  # what is not a name: a key, or a path
_OVERFLOW = 82  # VIR_ERR_OVERFLOW
_MAX = 2**64 - 1

VOLUME = data("vol", "name, key or path of the volume", "volume")
IN_POOL = string("pool", "name or UUID of the volume's pool", "pool")


def volume(
    shell: Shell, given: Given, pool_option: str | None = "pool", by: int = NAME | KEY
) -> tuple[StorageVol, str]:
    """The volume that the option "vol" names, and the name as given.

    A name is looked for in the pool that ``pool_option`` names, a key or a path everywhere; what is then in another
    pool is refused. Raises Failed, with the daemon's word where it was asked.
    """
    name = given.need("vol")
    storage: StoragePool | None = None
    if pool_option is not None and given.has(pool_option):
        storage, pool_name = pool(shell, given, pool_option)
        if not storage.is_active():
            raise Failed(f"pool '{pool_name}' is not active")
    shell.debug(DEBUG, f"{given.command.name}: found option <vol>: {name}")
    found, cause = _find(shell, storage, name, by, given.command.name)
    if found is None:
        hint = f", specifying --{pool_option} might help" if storage is None and pool_option is not None else ""
        raise Failed(f"failed to get vol '{name}'{hint}") from cause
    if storage is not None and found.pool != storage.name:
        raise Failed(f"Requested volume '{name}' is not in pool '{storage.name}'")
    return found, name


def find_backing(shell: Shell, storage: StoragePool, name: str) -> StorageVol:
    """The volume ``name``: of the pool, or by key or path of any. Raises Failed, with the daemon's word."""
    found, cause = _find(shell, storage, name, NAME | KEY)
    if found is None:
        raise Failed(f"failed to get vol '{name}'") from cause
    return found


def _find(
    shell: Shell, storage: StoragePool | None, name: str, by: int, command: str = ""
) -> tuple[StorageVol | None, GuesthouseError | None]:
    ways: list[tuple[str, Callable[[str], StorageVol]]] = []
    if storage is not None and by & NAME:
        ways.append(("name", storage.vol_lookup_by_name))
    if by & KEY:
        ways += [("key", shell.conn.storage_vol_lookup_by_key), ("path", shell.conn.storage_vol_lookup_by_path)]
    cause: GuesthouseError | None = None
    for what, look in ways:
        if command:
            shell.debug(DEBUG, f"{command}: <vol> trying as vol {what}")
        try:
            return look(name), None
        except GuesthouseError as error:
            cause = error
    return None, cause


def size(text: str) -> int:
    """A size as "10G" in bytes. Raises Failed where it is none."""
    digits = text.lstrip(" \t\n\v\f\r").removeprefix("+")
    suffix = digits.lstrip("0123456789")
    value = parse_number(digits.removesuffix(suffix))
    complaint = f"Malformed size {text}"
    if value is None or value > _MAX:
        raise Failed(complaint)
    try:
        found = value * unit_scale(suffix)
    except InvalidArg as error:
        raise Failed(complaint) from error
    if found > _MAX:
        raise Failed(complaint) from UnknownError(
            f"numerical overflow: value too large: {value}{suffix}", number=_OVERFLOW
        )
    return found
