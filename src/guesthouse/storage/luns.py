"""The logical units of a SCSI host as the kernel lists them; disks and CD-ROM drives are volumes."""

from __future__ import annotations

import logging
import re

from guesthouse.errors import Domain, GuesthouseError, InternalError, InvalidArg, SystemFailure
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.storage import Pool, Volume, VolumeTarget
from guesthouse.storage.block import measure
from guesthouse.storage.disk import stable_path
from guesthouse.storage.fixed import FixedPool
from guesthouse.storage.probe import settle
from guesthouse.storage.work import ask, find_program, in_thread

_log = logging.getLogger(__name__)
_DISK, _CDROM = 0, 5
_SCSI_ID = "/lib/udev/scsi_id"


class ScsiUnits(FixedPool):
    """What the pools of HBAs and of iSCSI sessions have in common: the units of one SCSI host.

    ``dev`` is where the kernel's device nodes are.
    """

    def __init__(self, sysfs: Sysfs | None = None, dev: str = "/dev") -> None:
        self.sysfs = sysfs or Sysfs()
        self.dev = dev

    async def units(self, pool: Pool, host: int) -> dict[str, Volume]:
        """The volumes of ``host``; the pool's sizes become theirs. Raises InvalidArg where the pool's folder can have
        no stable names."""
        await settle()
        pool.capacity = pool.allocation = pool.available = 0
        volumes = {}
        for name, device in units_of(self.sysfs, host):
            node = f"{self.dev}/{device}"
            _check_folder(pool, device)
            path = await in_thread(lambda check, node=node: stable_path(pool.path, node))  # type: ignore[misc]
            if path == node and pool.path.rstrip("/") != "/dev":
                _log.debug("%s has no name in %s", node, pool.path)
                continue
            volume = Volume(type="block", name=name, target=VolumeTarget(path=path))
            try:
                await in_thread(lambda check, volume=volume: measure(volume))  # type: ignore[misc]
            except GuesthouseError as error:  # a drive without a medium
                _log.info("%s is left out: %s", node, error)
                continue
            volume.key = await _serial(path)
            volumes[name] = volume
            pool.capacity += volume.capacity or 0
            pool.allocation += volume.allocation or 0
        return volumes

    async def rescan(self, host: int) -> None:
        """Have the kernel look for units again. Raises SystemFailure where there is no such host."""
        place = f"/class/scsi_host/host{host}/scan"
        what = f"Could not open '{self.sysfs.path(place)}' to trigger host scan"
        try:
            await in_thread(lambda check: self.sysfs.write(place, "- - -"))
        except OSError as error:
            raise SystemFailure.from_os(error, what, domain=Domain.STORAGE) from None


def units_of(sysfs: Sysfs, host: int) -> list[tuple[str, str]]:
    """The disks and CD-ROM drives of a SCSI host: a volume's name (without the host, whose number changes) and the
    name of the block device. Raises InternalError for a unit without a type."""
    found = []
    for name in sysfs.names("/bus/scsi/devices"):
        parts = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", name)
        if parts is None or int(parts[1]) != host:
            continue
        kind = sysfs.number(f"/bus/scsi/devices/{name}/type")
        if kind is None:
            raise InternalError(f"Failed to determine if {name} is a Direct-Access LUN", domain=Domain.STORAGE)
        devices = sysfs.names(f"/bus/scsi/devices/{name}/block")
        if kind in (_DISK, _CDROM) and devices:
            numbers = tuple(int(part) for part in parts.groups()[1:])
            found.append((numbers, "unit:{}:{}:{}".format(*numbers), devices[0]))
    return [(name, device) for _, name, device in sorted(found)]


def _check_folder(pool: Pool, device: str) -> None:
    if pool.path.rstrip("/") != "/dev" and not pool.path.startswith("/dev/"):
        text = f"unable to use target path '{pool.path}' for dev '{device}'"
        raise InvalidArg(text, domain=Domain.STORAGE)


async def _serial(path: str) -> str:
    """What the unit calls itself, wherever it is plugged in; its path where nobody can tell."""
    if find_program(_SCSI_ID) is None:
        return path
    code, text, _ = await ask(_SCSI_ID, "--replace-whitespace", "--whitelisted", "--device", path)
    return (text.partition("\n")[0] if code == 0 else "") or path
