"""The types of pools that are served, and which of them this host has the programs for."""

from __future__ import annotations

from collections.abc import Callable

from guesthouse.errors import Domain, InternalError
from guesthouse.model.storage import POOL_TYPES
from guesthouse.model.storage_rules import pool_number
from guesthouse.storage.backend import Backend, Key, no_key
from guesthouse.storage.disk import Disk
from guesthouse.storage.filesystem import FileSystem
from guesthouse.storage.folder import Folder
from guesthouse.storage.iscsi import Iscsi
from guesthouse.storage.iscsi_direct import IscsiDirect
from guesthouse.storage.logical import Logical
from guesthouse.storage.mpath import Mpath
from guesthouse.storage.netfs import NetFs
from guesthouse.storage.rbd import Rbd
from guesthouse.storage.scsi import Scsi
from guesthouse.storage.work import find_program
from guesthouse.storage.zfs import Zfs

_BACKENDS: dict[str, Callable[[Key], Backend]] = {
    "dir": lambda key: Folder(),
    "fs": lambda key: FileSystem(),
    "netfs": lambda key: NetFs(),
    "logical": lambda key: Logical(),
    "disk": lambda key: Disk(),
    "iscsi": Iscsi,
    "iscsi-direct": IscsiDirect,
    "scsi": lambda key: Scsi(),
    "mpath": lambda key: Mpath(),
    "rbd": Rbd,
    "zfs": lambda key: Zfs(),
}


def backend(type_: str, key: Key = no_key) -> Backend:
    """What serves pools of a type; ``key`` gives it the secrets that their documents name. Raises InternalError where
    nothing does, or where its programs are not installed; the error says what to install."""
    if type_ not in POOL_TYPES:
        raise InternalError(f"unknown storage pool type {type_}", domain=Domain.STORAGE)
    text = f"missing backend for pool type {pool_number(type_)} ({type_})"
    if type_ not in _BACKENDS:
        raise InternalError(text, domain=Domain.STORAGE)
    found = _BACKENDS[type_](key)
    for program in found.programs:
        if find_program(program) is None:
            text += f": the program '{program}' is not installed (Debian has it in the package {found.package})"
            raise InternalError(text, domain=Domain.STORAGE)
    return found


def supported_types() -> set[str]:
    """The types that pools can have on this host."""
    found = set()
    for type_ in _BACKENDS:
        try:
            backend(type_)
        except InternalError:
            continue
        found.add(type_)
    return found
