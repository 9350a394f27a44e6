"""Files in the making: a volume appears under its name whole, or not at all.

A draft stands beside its final place under a name of its own, locked for as long as anyone works on it: its maker, and
the programs that inherit its descriptor. A draft that nobody holds is what a killed daemon left behind, and goes with
the next look into the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from pathlib import Path

from guesthouse.errors import Domain, OperationInvalid, SystemFailure
from guesthouse.model.storage import Permissions

_NAME = re.compile(r"\.guesthouse-[0-9a-f]{16}\.new")
_FILE_MODE = 0o600


def is_draft(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def remove_stale(folder: str) -> None:
    """Remove the drafts in ``folder`` that nobody works on. Nothing that hinders is raised."""
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            if not is_draft(path.name):
                continue
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(fd)


class Draft:
    """A new file for ``final``: ``path`` and the open descriptor ``fd`` until it is published or discarded.

    Raises SystemFailure where it cannot be made.
    """

    def __init__(self, final: str) -> None:
        self.final = final
        self.path = str(Path(final).parent / f".guesthouse-{os.urandom(8).hex()}.new")
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Failed to create file '{final}'", domain=Domain.STORAGE) from None
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def publish(self, wanted: Permissions) -> None:
        """Give the file its owner, mode and name. Raises OperationInvalid where the name is taken by now,
        SystemFailure; it is still a draft then."""
        try:
            if wanted.owner is not None or wanted.group is not None:
                owner, group = wanted.owner, wanted.group
                os.fchown(self.fd, -1 if owner is None else owner, -1 if group is None else group)
            os.fchmod(self.fd, _FILE_MODE if wanted.mode is None else wanted.mode)
            os.fsync(self.fd)
            self._rename()
        except FileExistsError:
            text = f"volume target path '{self.final}' already exists"
            raise OperationInvalid(text, domain=Domain.STORAGE) from None
        except OSError as error:
            raise SystemFailure.from_os(error, f"Failed to create file '{self.final}'", domain=Domain.STORAGE) from None
        os.close(self.fd)

    def _rename(self) -> None:
        try:
            os.link(self.path, self.final)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # a file system without hard links
            if os.path.lexists(self.final):
                raise FileExistsError(self.final) from None
            Path(self.path).rename(self.final)
        else:
            Path(self.path).unlink()

    def discard(self) -> None:
        """Remove what there is of it."""
        with contextlib.suppress(FileNotFoundError):
            Path(self.path).unlink()
        with contextlib.suppress(OSError):
            os.close(self.fd)
