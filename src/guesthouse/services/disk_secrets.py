"""The secrets that a guest's disks need, on their way to its QEMU.

Each stands in a file without a name, which QEMU inherits open and reads while it starts; then the file is emptied. So no
secret is on a command line, in a log or below a folder, and none stays behind.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices import block
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.qemu.process import User
from guesthouse.services.secrets import Secrets


class SecretFiles:
    """``fds``: id of QEMU's secret -> the descriptor of its file. Raises NoSecret, InvalidSecret."""

    def __init__(self, live: Domain, secrets: Secrets, user: User) -> None:
        self._fds: dict[str, int] = {}
        try:
            for disk in live.dev.disks:
                for name, value in values(disk, secrets).items():
                    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
                    self._fds[name] = fd
                    os.write(fd, value)
                    if not user.same:
                        os.fchown(fd, user.uid, user.gid)
                    os.fchmod(fd, 0o400)
        except BaseException:
            self.forget()
            raise

    @property
    def fds(self) -> Mapping[str, int]:
        return self._fds

    def forget(self) -> None:
        """Empty the files, also for those who have them open. Can be called again."""
        while self._fds:
            _, fd = self._fds.popitem()
            os.ftruncate(fd, 0)
            os.close(fd)


def values(disk: Disk, secrets: Secrets) -> dict[str, bytes]:
    """What QEMU has to know for the disk, by id. Raises NoSecret, InvalidSecret."""
    found = {}
    for wish in block.secrets(disk):
        value = wish.value
        if value is None:
            value = secrets.value_for(wish.usage_type, uuid=wish.uuid, usage_id=wish.usage)
        found[wish.id] = value
    return found


@asynccontextmanager
async def told(machine: Machine, element: object, secrets: Secrets) -> AsyncIterator[None]:
    """Have a running QEMU know the secrets of a disk that it is about to get (of another device there are none), while
    the body runs: it needs them to open the images. Raises NoSecret, InvalidSecret, MonitorError."""
    found = values(element, secrets) if isinstance(element, Disk) else {}
    known = []
    try:
        for name, value in found.items():
            data = base64.b64encode(value).decode()
            arguments = {"qom-type": "secret", "id": name, "data": data, "format": "base64"}
            await machine.execute("object-add", arguments)
            known.append(name)
        yield
    finally:
        for name in known:
            with suppress(MonitorError):
                await machine.execute("object-del", {"id": name})
