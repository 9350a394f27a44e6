"""The types of pools that are served, and which of them this host has the programs for."""

from __future__ import annotations

from importlib import import_module

from guesthouse.errors import Domain, InternalError
from guesthouse.model.storage import POOL_TYPES
from guesthouse.model.storage_rules import pool_number
from guesthouse.storage.backend import Backend, Key, no_key
from guesthouse.storage.work import find_program

# module and class; a daemon loads those that its pools are of
_BACKENDS = {
    "dir": ("folder", "Folder"),
    "fs": ("filesystem", "FileSystem"),
    "netfs": ("netfs", "NetFs"),
    "logical": ("logical", "Logical"),
    "disk": ("disk", "Disk"),
    "iscsi": ("iscsi", "Iscsi"),
    "iscsi-direct": ("iscsi_direct", "IscsiDirect"),
    "scsi": ("scsi", "Scsi"),
    "mpath": ("mpath", "Mpath"),
    "rbd": ("rbd", "Rbd"),
    "zfs": ("zfs", "Zfs"),
}
_WITH_SECRETS = ("iscsi", "iscsi-direct", "rbd")


def backend(type_: str, key: Key = no_key) -> Backend:
    """What serves pools of a type; ``key`` gives it the secrets that their documents name. Raises InternalError where
    nothing does, or where its programs are not installed; the error says what to install."""
    if type_ not in POOL_TYPES:
        raise InternalError(f"unknown storage pool type {type_}", domain=Domain.STORAGE)
    text = f"missing backend for pool type {pool_number(type_)} ({type_})"
    if type_ not in _BACKENDS:
        raise InternalError(text, domain=Domain.STORAGE)
    module, name = _BACKENDS[type_]
    kind = getattr(import_module(f"guesthouse.storage.{module}"), name)
    found: Backend = kind(key) if type_ in _WITH_SECRETS else kind()
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
