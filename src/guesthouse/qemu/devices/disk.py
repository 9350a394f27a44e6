"""<disk> for QEMU: the guest's drive, on the block nodes of its images."""

from __future__ import annotations

from collections.abc import Mapping

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.addresses import disk_index
from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices import block
from guesthouse.qemu.devices.common import bus_of, pci, usb, virtio, virtio_driver
from guesthouse.qemu.devices.controller import check_iothread
from guesthouse.qemu.images import TRANSIENT
from guesthouse.qemu.parts import Chardev, Parts, Props

_NOTHING: Mapping[int, int] = {}


def disk(
    domain: Domain,
    device: Disk,
    bootindex: int | None,
    prepared: block.Prepared | None = None,
    sets: Mapping[int, int] = _NOTHING,
) -> Parts:
    """Nodes and drive. The document numbers the nodes (:func:`block.number`); ``sets`` are the numbers of their sets of
    descriptors. A disk whose image others share for a while (``<transient shareBacking>``) is nothing yet: it is plugged
    in once it has an image of its own. Raises ConfigUnsupported for what cannot be given."""
    _check(domain, device)
    prepared = prepared or block.Prepared()
    if is_late(device):
        return Parts()
    if device.bus == "sd":
        return _sd(device)
    parts = Parts()
    if device.type == "vhostuser":
        parts.chardevs.append(_vhost_user(device))
    elif device.layers:
        parts += block.nodes(device, prepared, sets)
    parts.devices.append(drive(domain, device, bootindex))
    return parts


def is_late(device: Disk) -> bool:
    """Whether the disk has to wait for an image of its own, because others read the one that it names."""
    wish = device.transient
    return wish is not None and wish.share_backing is True and not (device.path or "").endswith(TRANSIENT)


def _check(domain: Domain, device: Disk) -> None:
    if device.mirror is not None:
        raise ConfigUnsupported(f"<mirror> of disk '{device.dev}' is not supported yet")
    if device.sgio == "unfiltered":
        raise ConfigUnsupported(f"unfiltered SCSI commands for disk '{device.dev}' are not supported by Linux any more")
    thread = device.driver.iothread if device.driver is not None else None
    if thread is not None:
        if device.bus != "virtio":
            raise ConfigUnsupported(f"IOThreads not available for bus {device.bus} target {device.dev}")
        check_iothread(domain, thread, "Disk")
    if device.type == "volume" and device.source is not None and device.kind == "volume":
        raise ConfigUnsupported(f"the volume of disk '{device.dev}' has not been looked for")


def _vhost_user(device: Disk) -> Chardev:
    source = device.source
    alias = (device.alias and device.alias.name) or ""
    options = {"path": (source and source.path) or ""}
    again = source.reconnect if source is not None else None
    if again is not None and again.enabled is not None:
        options["reconnect"] = str((again.timeout or 0) if again.enabled else 0)
    return Chardev(f"chr-vu-{alias}", "socket", options)


def _sd(device: Disk) -> Parts:
    """A card is no device of its own: only QEMU's oldest words make one."""
    path = device.path
    if path is None:
        raise ConfigUnsupported(f"an SD card needs a file or a block device (disk '{device.dev}')")
    words = [f"file={path.replace(',', ',,')}", f"format={device.format}", "if=sd", f"index={disk_index(device.dev)}"]
    if device.readonly:
        words.insert(2, "readonly=on")
    return Parts(options=["-drive", ",".join(words)])


def drive(domain: Domain, device: Disk, bootindex: int | None) -> Props:
    """The guest's end."""
    props = _place(domain, device)
    alias = device.alias.name if device.alias else None
    if device.shareable and (device.layers or device.type == "vhostuser"):
        props["share-rw"] = True
    if device.type == "vhostuser":
        props["chardev"] = f"chr-vu-{alias}"
    elif device.layers:
        props["drive"] = block.top_node(device)
    props["id"] = alias
    if bootindex is not None and device.bus != "fdc":  # a floppy's place is a property of its controller
        props["bootindex"] = bootindex
    if device.blockio is not None:
        for name in ("logical_block_size", "physical_block_size"):
            if (size := getattr(device.blockio, name)) is not None:
                props[name] = size
    if device.wwn:
        props["wwn"] = int(device.wwn, 16)
    if device.target is not None and device.target.rotation_rate:
        props["rotation_rate"] = device.target.rotation_rate
    for name in ("vendor", "product"):
        if value := getattr(device, name):
            props[name] = value
    if device.bus == "usb":
        props["removable"] = bool(device.target and device.target.removable)
    cache = block.CACHE.get(block.cache_mode(device))
    if cache is not None and device.device != "lun":
        props["write-cache"] = "on" if cache[0] else "off"
    if device.geometry is not None and device.geometry.cyls:
        form = device.geometry
        props |= {"cyls": form.cyls, "heads": form.heads, "secs": form.secs}
        if form.trans:
            props["bios-chs-trans"] = form.trans
    if device.serial:
        # as QEMU's key=value options once needed it, and as guests have known it since
        props["serial"] = device.serial.replace("\\", "\\\\").replace(" ", "\\ ")
    return props | _errors(device)


def _errors(device: Disk) -> Props:
    driver = device.driver
    write, read = (driver.error_policy, driver.rerror_policy) if driver is not None else (None, None)
    if write == "enospace":
        write, read = "enospc", read or "report"
    props: Props = {}
    if write is not None:
        props["werror"] = write
    if read or write:
        props["rerror"] = read or write
    return props


def _place(domain: Domain, device: Disk) -> Props:
    """The model of the drive and what it is plugged into."""
    address, driver = device.address, device.driver
    if device.bus == "virtio":
        name = "vhost-user-blk" if device.type == "vhostuser" else "virtio-blk"
        props: Props = {"driver": virtio_driver(f"{name}-pci", device.model)}
        if driver is not None and driver.iothread is not None:
            props["iothread"] = f"iothread{driver.iothread}"
        for field in ("ioeventfd", "event_idx"):
            if driver is not None and (wish := getattr(driver, field)) is not None:
                props[field] = wish
        if device.device == "lun":
            props["scsi"] = True
        if driver is not None and driver.queues:
            props["num-queues"] = driver.queues
        if driver is not None and driver.queue_size:
            props["queue-size"] = driver.queue_size
        return {**props, **virtio(driver), **pci(domain, address, device.acpi)}
    if device.bus == "usb":
        return {"driver": "usb-storage", **usb(domain, address)}
    if address is None or device.bus not in ("fdc", "ide", "sata", "scsi"):
        raise ConfigUnsupported(f"disk bus '{device.bus}' is not supported yet (disk '{device.dev}')")
    if device.bus == "fdc":
        return {"driver": "floppy", "unit": address.unit}
    if device.bus == "scsi":
        return _scsi(domain, device)
    kind = "ide-cd" if device.device == "cdrom" else "ide-hd"
    number = address.bus if device.bus == "ide" else address.unit
    built_in = address.controller == 0 and (device.bus == "ide" or domain.is_q35)
    usual = f"{device.bus}{address.controller}"
    bus = "ide" if built_in else bus_of(domain, device.bus, address.controller or 0, usual)
    props = {"driver": kind, "bus": f"{bus}.{number}"}
    if device.bus == "ide":
        props["unit"] = address.unit
    return props


def _scsi(domain: Domain, device: Disk) -> Props:
    address = device.address
    assert address is not None
    model = next((c.model for c in domain.dev.controllers if c.type == "scsi" and c.index == address.controller), None)
    props: Props = {"driver": {"lun": "scsi-block", "cdrom": "scsi-cd"}.get(device.device, "scsi-hd")}
    number = address.controller or 0
    props["bus"] = bus_of(domain, "scsi", number, f"scsi{number}") + ".0"
    if model in ("lsilogic", "auto", None):
        props["scsi-id"] = address.unit
    else:
        props |= {"channel": 0, "scsi-id": address.target, "lun": address.unit}
    if device.device != "lun":
        props["device_id"] = device.serial or f"drive-{(device.alias and device.alias.name) or ''}"
    return props
