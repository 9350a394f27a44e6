"""<disk> for QEMU: a file node, a format node on it, and the guest's drive."""

from __future__ import annotations

import os
import stat

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, usb, virtio
from guesthouse.qemu.parts import Parts, Props

# cache mode -> (writeback, direct, no-flush), as QEMU's documentation has them
_CACHE = {
    "none": (True, True, False),
    "writethrough": (False, False, False),
    "writeback": (True, False, False),
    "directsync": (False, True, False),
    "unsafe": (True, False, True),
}


def node_name(index: int, layer: str = "format") -> str:
    """The name of a block node; ``index`` is the one in the live document's <source>."""
    return f"libvirt-{index}-{layer}"


def disk(domain: Domain, device: Disk, bootindex: int | None) -> Parts:
    """Nodes and drive. ``device.source.index`` numbers the nodes. Raises ConfigUnsupported for what cannot be given."""
    _check(device)
    parts = Parts()
    path = device.path
    if path is not None:
        assert device.source is not None and device.source.index is not None
        parts.blockdevs += _nodes(device, path, device.source.index)
    parts.devices.append(_drive(domain, device, bootindex))
    return parts


def _check(device: Disk) -> None:
    if device.source is not None and device.path is None and device.kind not in ("file", "block"):
        raise ConfigUnsupported(f"disk type '{device.type}' is not supported yet (disk '{device.dev}')")
    for name in ("auth", "encryption", "mirror", "iotune", "geometry"):
        if getattr(device, name) is not None:
            raise ConfigUnsupported(f"<{name}> of disk '{device.dev}' is not supported yet")
    if device.driver is not None and device.driver.iothread is not None:
        raise ConfigUnsupported(f"iothread of disk '{device.dev}' is not supported yet")
    if device.raw_io or device.sgio == "unfiltered":
        raise ConfigUnsupported(f"raw SCSI commands for disk '{device.dev}' are not supported yet")
    if device.transient is not None:
        raise ConfigUnsupported(f"transient disk '{device.dev}' is not supported yet")
    if device.device == "lun":
        raise ConfigUnsupported(f"disk device='lun' is not supported yet (disk '{device.dev}')")


def _nodes(device: Disk, path: str, index: int) -> list[Props]:
    driver = device.driver
    cache = _CACHE.get((driver and driver.cache) or "")
    readonly = device.readonly
    file: Props = {
        "driver": "file" if device.kind != "block" else "host_cdrom" if _is_cdrom(path) else "host_device",
        "filename": path,
        "node-name": node_name(index, "storage"),
    }
    if driver is not None and driver.io:
        file["aio"] = driver.io
    options: Props = {"direct": cache[1], "no-flush": cache[2]} if cache else {}
    if options:
        file["cache"] = options
    file["auto-read-only"] = True
    file["discard"] = "unmap"
    layer: Props = {"node-name": node_name(index), "read-only": readonly}
    if driver is not None and driver.discard:
        layer["discard"] = driver.discard
    if driver is not None and driver.detect_zeroes:
        # QEMU unmaps zeroes only where it may unmap at all
        unmap = driver.detect_zeroes == "unmap" and driver.discard != "unmap"
        layer["detect-zeroes"] = "on" if unmap else driver.detect_zeroes
    if options:
        layer["cache"] = options
    layer["driver"] = device.format
    layer["file"] = node_name(index, "storage")
    nodes = [file, layer]
    if driver is not None and driver.copy_on_read:
        name = f"libvirt-CoR-{device.dev}"
        nodes.append({"driver": "copy-on-read", "node-name": name, "file": node_name(index), "discard": "unmap"})
    return nodes


def _is_cdrom(path: str) -> bool:
    """Whether it is a CD drive of the host; of one that is not there the name decides."""
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError:
        return path.startswith("/dev/cdrom")
    return stat.S_ISBLK(info.st_mode) and os.major(info.st_rdev) == 11


def _drive(domain: Domain, device: Disk, bootindex: int | None) -> Props:
    alias = device.alias.name if device.alias else None
    address = device.address
    props: Props = {}
    if device.bus == "virtio":
        props = {"driver": "virtio-blk-pci", **virtio(device.driver), **pci(domain, address)}
    elif device.bus == "usb":
        props = {"driver": "usb-storage", **usb(address), "removable": bool(device.target and device.target.removable)}
    elif device.bus == "fdc":
        assert address is not None
        props = {"driver": "floppy", "unit": address.unit}
    elif device.bus in ("ide", "sata"):
        assert address is not None
        number = address.bus if device.bus == "ide" else address.unit
        built_in = address.controller == 0 and (device.bus == "ide" or domain.is_q35)
        controller = "ide" if built_in else f"{device.bus}{address.controller}"
        kind = "ide-cd" if device.device == "cdrom" else "ide-hd"
        props = {"driver": kind, "bus": f"{controller}.{number}"}
        if device.bus == "ide":
            props["unit"] = address.unit
    elif device.bus == "scsi":
        props = _scsi(domain, device)
    else:
        raise ConfigUnsupported(f"disk bus '{device.bus}' is not supported yet (disk '{device.dev}')")
    if device.path is not None:
        assert device.source is not None and device.source.index is not None
        copying = device.driver is not None and device.driver.copy_on_read
        props["drive"] = f"libvirt-CoR-{device.dev}" if copying else node_name(device.source.index)
    props["id"] = alias
    if bootindex is not None and device.bus != "fdc":  # a floppy's place is a property of its controller
        props["bootindex"] = bootindex
    if device.serial:
        props["serial"] = device.serial
    if device.wwn:
        props["wwn"] = int(device.wwn, 16)
    if device.driver is not None:
        cache = _CACHE.get(device.driver.cache or "")
        if cache is not None and device.device == "disk":
            props["write-cache"] = "on" if cache[0] else "off"
        if device.driver.queues and device.bus == "virtio":
            props["num-queues"] = device.driver.queues
        if device.driver.queue_size and device.bus == "virtio":
            props["queue-size"] = device.driver.queue_size
        for name in ("ioeventfd", "event_idx"):
            if device.bus == "virtio" and (wish := getattr(device.driver, name)) is not None:
                props[name] = wish
        if device.driver.error_policy:
            props["werror"] = device.driver.error_policy.replace("enospace", "enospc")
            props["rerror"] = (device.driver.rerror_policy or device.driver.error_policy).replace("enospace", "report")
    if device.shareable and device.path is not None:
        props["share-rw"] = True
    if device.blockio is not None:
        for name in ("logical_block_size", "physical_block_size"):
            if (size := getattr(device.blockio, name)) is not None:
                props[name] = size
    return props


def _scsi(domain: Domain, device: Disk) -> Props:
    address = device.address
    assert address is not None
    kind = "scsi-cd" if device.device == "cdrom" else "scsi-hd"
    bus = f"scsi{address.controller}.0"
    name = device.serial or f"drive-{(device.alias and device.alias.name) or ''}"
    more: Props = {"device_id": name}
    for field in ("vendor", "product"):
        if value := getattr(device, field):
            more[field] = value
    if device.target is not None and device.target.rotation_rate:
        more["rotation_rate"] = device.target.rotation_rate
    model = next((c.model for c in domain.dev.controllers if c.type == "scsi" and c.index == address.controller), None)
    if model == "lsilogic":
        return {"driver": kind, "bus": bus, "scsi-id": address.unit, **more}
    return {"driver": kind, "bus": bus, "channel": 0, "scsi-id": address.target, "lun": address.unit, **more}
