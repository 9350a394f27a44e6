"""What every type of storage pool does: the one seam between the services and folders, file systems, disks, LVM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from guesthouse import errors
from guesthouse.errors import Domain, InvalidArg, NoSecret
from guesthouse.model.storage import Auth, Pool, Volume

BUILD_NO_OVERWRITE, BUILD_OVERWRITE = 4, 8

#: The value of the secret that a pool's ``<auth>`` names. Raises what the secrets' service does.
Key = Callable[[Auth], bytes]


class Backend(Protocol):
    """A type of pool. ``pool`` is the document that counts now; what is found out is put into it.

    Paths are the host's, sizes bytes. All methods raise libvirt's errors.
    """

    #: What cannot be missing, and the Debian package that has it.
    programs: tuple[str, ...]
    package: str
    #: Whether making or removing one volume changes others or the pool: all is read anew after it.
    entangled: bool
    #: Whether a volume's path can be opened here: its contents can be written and read by clients.
    streams: bool

    async def build(self, pool: Pool, flags: int) -> None:
        """Make what holds the pool: its folder, file system, volume group, partition table."""

    async def start(self, pool: Pool) -> None:
        """Make a built pool's volumes reachable. Nothing is left of a start that fails."""

    async def started(self, pool: Pool) -> bool:
        """Whether the volumes are reachable now, whoever made them so."""

    async def stop(self, pool: Pool) -> None:
        """Undo :meth:`start`; what the pool holds stays."""

    async def delete(self, pool: Pool, flags: int) -> None:
        """Undo :meth:`build`."""

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        """The volumes by name; the pool's sizes are brought up to date."""

    async def find_sources(self, spec: str | None) -> str:
        """What such a pool could be made of, as a ``<sources>`` document; ``spec`` is a ``<source>`` that says where
        to look. Raises NoSupport where nothing can be looked for."""

    async def place(self, pool: Pool, volume: Volume) -> None:
        """Give a new volume its type, path and key."""

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        """Make a placed volume, empty. Nothing is left of one that fails."""

    async def copy(self, pool: Pool, volume: Volume, source: Volume, *, preallocate: bool, reflink: bool) -> None:
        """Make a placed volume with the contents of ``source``. Nothing is left of one that fails."""

    async def update(self, pool: Pool, volume: Volume) -> None:
        """Bring sizes, permissions and times of a volume up to date. Raises NoStorageVol where it is gone."""

    async def remove(self, pool: Pool, volume: Volume) -> None:
        """Remove a volume; one that is gone already is no error."""

    async def resize(self, pool: Pool, volume: Volume, capacity: int, *, take: bool) -> None:
        """Make a volume ``capacity`` bytes long; with ``take`` its space is the volume's at once. Raises NoSupport."""

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        """Overwrite a volume from end to end."""


def no_key(auth: Auth) -> bytes:
    """The :data:`Key` of who has no secrets."""
    raise NoSecret(f"no secret for '{auth.username}'")


def check_flags(flags: int, supported: int, function: str) -> None:
    """Raises InvalidArg where ``flags`` has others than ``supported``, in the name of libvirt's ``function``."""
    errors.check_flags(flags, supported, function, Domain.STORAGE)


def check_exclusive(flags: int, one: int, other: int) -> None:
    """Raises InvalidArg where both flags for what may be overwritten are set."""
    if flags & one and flags & other:
        text = "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE'"
        raise InvalidArg(f"{text} are mutually exclusive", domain=Domain.STORAGE)


def check_build_flags(flags: int, function: str) -> None:
    check_flags(flags, BUILD_OVERWRITE | BUILD_NO_OVERWRITE, function)
    check_exclusive(flags, BUILD_OVERWRITE, BUILD_NO_OVERWRITE)
