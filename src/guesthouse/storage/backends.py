"""The types of pools that are served, and which of them this host has the programs for."""

from __future__ import annotations

from guesthouse.errors import Domain, InternalError
from guesthouse.model.storage import POOL_TYPES
from guesthouse.model.storage_rules import pool_number
from guesthouse.storage.backend import Backend
from guesthouse.storage.disk import Disk
from guesthouse.storage.filesystem import FileSystem
from guesthouse.storage.folder import Folder
from guesthouse.storage.logical import Logical
from guesthouse.storage.netfs import NetFs
from guesthouse.storage.work import find_program

_BACKENDS: dict[str, Backend] = {
    "dir": Folder(),
    "fs": FileSystem(),
    "netfs": NetFs(),
    "logical": Logical(),
    "disk": Disk(),
}


def backend(type_: str) -> Backend:
    """What serves pools of a type. Raises InternalError where nothing does, or where its programs are not installed;
    the error says what to install."""
    if type_ not in POOL_TYPES:
        raise InternalError(f"unknown storage pool type {type_}", domain=Domain.STORAGE)
    found = _BACKENDS.get(type_)
    text = f"missing backend for pool type {pool_number(type_)} ({type_})"
    if found is None:
        raise InternalError(text, domain=Domain.STORAGE)
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
