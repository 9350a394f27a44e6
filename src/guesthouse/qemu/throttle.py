"""<iotune> for a running QEMU: how fast a drive may be."""

from __future__ import annotations

from typing import Any

from guesthouse.errors import InternalError
from guesthouse.model.devices.disk import Disk, IoTune
from guesthouse.model.domain import Domain
from guesthouse.qemu.figures import alias_in
from guesthouse.qemu.machine import Machine

#: Field of <iotune>: QEMU's name. The first six must be given to QEMU, 0 for no limit.
NAMES = {
    "total_bytes_sec": "bps",
    "read_bytes_sec": "bps_rd",
    "write_bytes_sec": "bps_wr",
    "total_iops_sec": "iops",
    "read_iops_sec": "iops_rd",
    "write_iops_sec": "iops_wr",
    "total_bytes_sec_max": "bps_max",
    "read_bytes_sec_max": "bps_rd_max",
    "write_bytes_sec_max": "bps_wr_max",
    "total_iops_sec_max": "iops_max",
    "read_iops_sec_max": "iops_rd_max",
    "write_iops_sec_max": "iops_wr_max",
    "size_iops_sec": "iops_size",
    "group_name": "group",
    "total_bytes_sec_max_length": "bps_max_length",
    "read_bytes_sec_max_length": "bps_rd_max_length",
    "write_bytes_sec_max_length": "bps_wr_max_length",
    "total_iops_sec_max_length": "iops_max_length",
    "read_iops_sec_max_length": "iops_rd_max_length",
    "write_iops_sec_max_length": "iops_wr_max_length",
}
_NEEDED = 6


async def settle(machine: Machine, live: Domain) -> None:
    """Hold every drive of a guest that has not run yet, or of devices that have just come, to its limits."""
    for disk in live.dev.disks:
        if disk.iotune is not None and limits(disk.iotune):
            await apply(machine, disk, disk.iotune)


def limits(tune: IoTune | None) -> bool:
    """Whether anything is limited; the name of a group limits nothing."""
    return any(getattr(tune, name) for name in NAMES if name != "group_name")


async def apply(machine: Machine, disk: Disk, tune: IoTune) -> None:
    """Hold the drive to ``tune``; an empty one is held once it has something in it. Raises MonitorError."""
    if not disk.layers:
        return
    arguments: dict[str, Any] = {"id": qdev(disk)}
    for number, (field, name) in enumerate(NAMES.items()):
        value = getattr(tune, field)
        if value or number < _NEEDED:
            arguments[name] = value or 0
    await machine.execute("block_set_io_throttle", arguments)


async def read(machine: Machine, disk: Disk) -> dict[str, Any]:
    """What QEMU holds the drive to, by the fields of <iotune>. Raises InternalError for an empty drive."""
    alias = disk.alias.name if disk.alias is not None else None
    for block in await machine.execute("query-block"):
        if alias_in(block.get("qdev", "")) != alias:
            continue
        inserted = block.get("inserted")
        if inserted is None:
            raise InternalError("block_io_throttle inserted entry was not in expected format")
        found = {field: inserted.get(name, 0) for field, name in NAMES.items()}
        return found | {"group_name": inserted.get("group", "")}
    raise InternalError(f"cannot find throttling info for device '{qdev(disk)}'")


def qdev(disk: Disk) -> str:
    """QEMU's name of the drive's device."""
    alias = (disk.alias and disk.alias.name) or ""
    if disk.bus == "virtio":
        return f"/machine/peripheral/{alias}/virtio-backend"
    return f"/machine/peripheral/{alias}/{alias}.0/legacy[0]" if disk.bus == "usb" else alias
