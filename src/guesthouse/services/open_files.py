"""Open files that clients hand over for a guest's disks (<source fdgroup=...>): they are the guest's to use for as long
as who brought them stays connected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from guesthouse.errors import InvalidArg, SystemFailure, check_flags
from guesthouse.services.guests import Guests
from guesthouse.services.refs import DomainRef

# how labels of the files are dealt with (virDomainFDAssociateFlags): they are open already, and get none here
_FLAGS = 1 | 2


class _Group(NamedTuple):
    owner: Any
    fds: list[int]


class OpenFiles:
    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._groups: dict[tuple[str, str], _Group] = {}  # guest's UUID, name of the group

    def associate(self, owner: Any, dom: DomainRef, name: str, files: Sequence[int], flags: int) -> None:
        """Keep copies of ``files`` as the guest's group ``name``, in place of an earlier one, until ``owner`` lets go.
        Raises InvalidArg without files, SystemFailure where descriptors have run out."""
        check_flags(flags, _FLAGS, "qemuDomainFDAssociate")
        if not files:
            raise InvalidArg("nfds in virDomainFDAssociate must not be zero", domain=0)
        guest = self._guests.find(dom)
        with ExitStack() as undo:
            fds: list[int] = []
            for number, fd in enumerate(files):
                fds.append(_copy(fd, number))
                undo.callback(os.close, fds[-1])
            undo.pop_all()
        self._forget((guest.uuid, name))
        self._groups[guest.uuid, name] = _Group(owner, fds)

    def copies(self, uuid: str, closing: ExitStack) -> dict[str, list[int]]:
        """Copies of the guest's groups, by their names, which ``closing`` closes."""
        found: dict[str, list[int]] = {}
        for (whose, name), group in self._groups.items():
            if whose == uuid:
                found[name] = []
                for number, fd in enumerate(group.fds):
                    found[name].append(_copy(fd, number))
                    closing.callback(os.close, found[name][-1])
        return found

    def let_go(self, owner: Any) -> None:
        """``owner`` is gone, and with it what it brought. Guests that run keep their own copies."""
        for key in [key for key, group in self._groups.items() if group.owner is owner]:
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        group = self._groups.pop(key, None)
        for fd in group.fds if group else ():
            os.close(fd)


def _copy(fd: int, number: int) -> int:
    try:
        return os.dup(fd)
    except OSError as error:
        raise SystemFailure.from_os(error, f"failed to duplicate passed fd with index '{number}'") from None
