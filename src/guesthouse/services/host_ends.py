"""The host's side of devices that a guest gets from it: found before a start, and put in the hands of QEMU's user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from guesthouse.errors import (
    ConfigUnsupported,
    GuesthouseError,
    InternalError,
    OperationFailed,
    OperationInvalid,
    SystemFailure,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host import passthrough
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.devices.chardev import CharEnd
from guesthouse.model.devices.hostdev import Hostdev, HostdevPlace
from guesthouse.model.devices.interface import TAPPED, Interface
from guesthouse.model.domain import Domain
from guesthouse.qemu.command import Wiring
from guesthouse.qemu.devices.hostdev import HostdevEnd
from guesthouse.qemu.process import User
from guesthouse.services.guests import Guest

_VHOST_NET = "/dev/vhost-net"
_USB = "/bus/usb/devices"


class DeviceMissing(GuesthouseError):
    """libvirt error 99: a device of the host's that is not there."""

    code = 99
    bare = "device not found"
    prefix = "device not found: "
    default_domain = ErrorDomain.NONE


def find(live: Domain, sysfs: Sysfs, others: Iterable[Guest]) -> list[str]:
    """Find what the document asks of the host, and note in the live document where it is; returns the device files
    that QEMU must be able to use. Raises libvirt's errors for what is not there, or one of the ``others``'."""
    files: list[str] = []
    for screen in live.dev.graphics:
        if screen.gl_node_missing:
            screen.set_option("gl.rendernode", _render_node(sysfs))
    for device in live.dev.hostdevs:
        if device.type == "usb":
            files += _find_usb(device, sysfs)
            _usb_is_free(device, others)
        elif device.type == "mdev":
            if not passthrough.vfio_works(sysfs):
                raise ConfigUnsupported("Mediated host device assignment requires VFIO support")
            if not sysfs.exists(f"/bus/mdev/devices/{device.place.uuid}"):
                raise DeviceMissing(f"mediated device '{device.place.uuid}' not found")
        elif device.type == "scsi" and device.source is not None and device.source.protocol is None:
            files.append(_generic(device, sysfs))
        elif device.type == "pci":
            _need_vfio(sysfs)
        elif device.type == "scsi_host" and not os.path.exists(f"{sysfs.root}/dev/vhost-scsi"):  # noqa: PTH110
            raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), "Failed to open /dev/vhost-scsi")
    if any(nic.type == "hostdev" for nic in live.dev.interfaces):
        _need_vfio(sysfs)
    for item in live.dev.inputs:
        path = item.source and (item.source.dev or item.source.evdev)
        if path:
            files.append(path)
    return files


def _need_vfio(sysfs: Sysfs) -> None:
    if not passthrough.vfio_works(sysfs):
        raise ConfigUnsupported("host doesn't support passthrough of host PCI devices")


def wire_card(live: Domain, nic: Interface, fds: list[int], wiring: Wiring, closing: ExitStack) -> None:
    """Tell the command line of a card's descriptors, and open the kernel's accelerator for each queue of a tap where a
    guest can have it. Raises ConfigUnsupported where the document insists."""
    alias = (nic.alias and nic.alias.name) or ""
    if not fds:
        return
    if nic.type == "vdpa":
        if wiring.monitor_fd < 0:
            raise ConfigUnsupported("interfaces of type 'vdpa' cannot be plugged into running guests yet")
        wiring.vdpas[alias] = fds[0]
        return
    wiring.taps[alias], wiring.queues[alias] = fds[0], fds[1:]
    wish = nic.driver.name if nic.driver is not None else None
    if live.type != "kvm" or wish == "qemu":
        return
    if not (nic.model is not None and (nic.model.type or "").startswith("virtio")):
        if wish == "vhost":
            raise ConfigUnsupported("vhost-net is only supported for virtio network interfaces")
        return
    for _ in fds:
        try:
            fd = os.open(_VHOST_NET, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            if wish == "vhost":
                raise ConfigUnsupported("vhost-net was requested for an interface, but is unavailable") from None
            return
        closing.callback(os.close, fd)
        wiring.accelerators.setdefault(alias, []).append(fd)


def wire(live: Domain, wiring: Wiring, sysfs: Sysfs, closing: ExitStack) -> None:
    """Tell the command line where SCSI devices are, and open what it inherits of them."""
    for device in live.dev.hostdevs:
        if device.type == "scsi_host":
            fd = os.open("/dev/vhost-scsi", os.O_RDWR | os.O_CLOEXEC)
            closing.callback(os.close, fd)
            wiring.hostdevs[(device.alias and device.alias.name) or ""] = HostdevEnd(vhost=fd)
        if device.type == "scsi" and device.source is not None and device.source.protocol is None:
            alias = (device.alias and device.alias.name) or ""
            wiring.hostdevs[alias] = HostdevEnd(_generic(device, sysfs))


def make_up(live: Domain, wiring: Wiring, numbers: Iterator[int]) -> None:
    """The same for a command line that nothing is started with."""
    for device in live.dev.hostdevs:
        end = HostdevEnd(vhost=next(numbers)) if device.type == "scsi_host" else HostdevEnd("/dev/sg0")
        wiring.hostdevs[(device.alias and device.alias.name) or ""] = end
    for nic in live.dev.interfaces:
        alias = (nic.alias and nic.alias.name) or ""
        if nic.type in TAPPED and nic.driver is not None:
            wiring.queues[alias] = [next(numbers) for _ in range((nic.driver.queues or 1) - 1)]
        if nic.type == "vdpa":
            wiring.vdpas[alias] = next(numbers)


def character_ends(live: Domain) -> list[tuple[str, CharEnd]]:
    """Whatever has a character device's host end, with the alias that it is known by; the first console is the first
    serial port."""
    dev = live.dev
    virtio = [console for console in dev.consoles if console.is_virtio]
    cards = [card for card in dev.smartcards if card.mode == "passthrough"]
    devices = [*dev.serials, *dev.parallels, *dev.channels, *virtio, *dev.redirdevs, *cards]
    found: list[tuple[str, CharEnd]] = [((device.alias and device.alias.name) or "", device) for device in devices]
    for rng in dev.rngs:
        if rng.backend is not None and rng.backend.model == "egd":
            found.append(((rng.alias and rng.alias.name) or "", rng.backend))
    return found


def labels(files: list[str], user: User) -> list[dict[str, Any]]:
    """What puts device files in the hands of QEMU's user, and is undone at the guest's end."""
    records = []
    for path in files:
        try:
            info = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise SystemFailure.from_os(error, f"Cannot access device '{path}'") from None
        if not user.same:
            records.append({"path": path, "uid": info.st_uid, "gid": info.st_gid, "set": user.uid, "set_gid": user.gid})
    return records


def _render_node(sysfs: Sysfs) -> str:
    """The first graphics card that draws without a screen."""
    folder = f"{sysfs.root}/dev/dri"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
    for name in names:
        if name.startswith("renderD"):
            return f"/dev/dri/{name}"
    raise InternalError("No DRM render nodes available", domain=ErrorDomain.NONE)


def _find_usb(device: Hostdev, sysfs: Sysfs) -> list[str]:
    """By bus and number, by vendor and product, or by both; those that may be missing are noted as such."""
    source = device.source
    assert source is not None
    where = (device.place.bus, device.place.device) if device.place.device else None
    wanted = (source.vendor.id, source.product.id) if source.vendor is not None and source.product is not None else None
    found = []
    if not sysfs.exists(_USB):
        text = f"cannot open directory '/sys{_USB}'"
        raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), text)
    for name in sysfs.names(_USB):
        numbers = [sysfs.text(f"{_USB}/{name}/{file}") for file in ("busnum", "devnum", "idVendor", "idProduct")]
        if None in numbers:
            continue
        bus, number, vendor, product = (
            int(text or "", base) for text, base in zip(numbers, (10, 10, 16, 16), strict=True)
        )
        if (where is None or (bus, number) == where) and (wanted is None or (vendor, product) == wanted):
            found.append((bus, number))
    if not found:
        if source.startup_policy == "optional":
            source.missing, source.address = True, None
            return []
        name = f"{wanted[0]:04x}:{wanted[1]:04x}" if wanted and None not in wanted else ""
        place = f" bus:{where[0]} device:{where[1]}" if where else ""
        raise InternalError(f"Did not find USB device {name}{place}".replace("  ", " "), domain=ErrorDomain.NONE)
    if len(found) > 1:
        assert wanted is not None
        text = f"Multiple USB devices for {wanted[0]:x}:{wanted[1]:x}, use <address> to specify one"
        raise OperationFailed(text, domain=ErrorDomain.NONE)
    bus, number = found[0]
    source.address = HostdevPlace(bus=bus, device=number)
    return [f"/dev/bus/usb/{bus:03d}/{number:03d}"]


def _usb_is_free(device: Hostdev, others: Iterable[Guest]) -> None:
    """Two guests cannot have one USB device."""
    mine = (device.place.bus, device.place.device)
    for other in others:
        for theirs in other.live.dev.hostdevs if other.live is not None else ():
            if theirs.type == "usb" and theirs.place.device and mine == (theirs.place.bus, theirs.place.device):
                name = f"{mine[0] or 0:03d}:{mine[1] or 0:03d}"
                text = f"USB device {name} is in use by driver QEMU, domain {other.name}"
                raise OperationInvalid(text, domain=ErrorDomain.NONE)


def _generic(device: Hostdev, sysfs: Sysfs) -> str:
    """SCSI's generic device file."""
    source, place = device.source, device.place
    host = ((source and source.adapter and source.adapter.name) or "").removeprefix("scsi_host")
    folder = f"/bus/scsi/devices/{host}:{place.bus or 0}:{place.target or 0}:{place.unit or 0}/scsi_generic"
    names = sysfs.names(folder)
    if not names:
        text = f"cannot open directory '/sys{folder}'"
        raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), text)
    return f"/dev/{names[0]}"
