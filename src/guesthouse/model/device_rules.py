"""What libvirt adds to a document's screens' sound, inputs, host devices, redirections, cards and shared memory, and
what it refuses of them. Pure; the rules are libvirt 9.0's (domain_postparse.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.audio import Audio, AudioDirection
from guesthouse.model.devices.chardev import CharEnd
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.hostdev import SUBSYSTEMS, Hostdev
from guesthouse.model.devices.redirected import Shmem, ShmemModel, Smartcard
from guesthouse.model.domain import Domain

_MIB = 1 << 20
# a narrow SCSI bus; the controller itself has one number more
_SCSI_UNITS = 7
_MDEV_MODELS = ("vfio-pci", "vfio-ccw", "vfio-ap")


def complete(domain: Domain) -> None:
    """Complete these devices. Raises the errors that libvirtd gives."""
    dev = domain.dev
    _audios(domain)
    for device in dev.hostdevs:
        _hostdev(device)
    for device in dev.hostdevs:
        if device.type == "scsi" and device.mode != "capabilities" and device.address is None:
            device.address = _next_scsi(domain)
    for socket in dev.redirdevs:
        socket.bus = socket.bus or "usb"
        if socket.type is None:
            raise XMLError("missing type in redirdev", domain=ErrorDomain.DOMAIN)
        check_end(socket)
    if len(dev.redirfilters) > 1:
        raise XMLError("only one set of redirection filter rule is supported", domain=ErrorDomain.DOMAIN)
    if len(dev.smartcards) > 1:
        raise ConfigUnsupported("this QEMU binary only supports a single smartcard device")
    for card in dev.smartcards:
        _smartcard(card)
    for shared in dev.shmems:
        _shmem(shared)
    for rng in dev.rngs:
        if rng.backend is not None and rng.backend.model == "egd":
            if rng.backend.type is None:
                raise XMLError("missing EGD backend type", domain=ErrorDomain.DOMAIN)
            check_end(rng.backend)
    for end in (*dev.serials, *dev.parallels, *dev.channels, *dev.consoles):
        check_end(end)


def _audios(domain: Domain) -> None:
    """The sound system that a document without one gets; one that is played in a window on the host's own screen is
    the host's to choose."""
    audios = domain.dev.audios
    if not audios:
        kind: str | None = None if domain.dev.graphics else "none"
        for screen in domain.dev.graphics:
            kind = {"vnc": "none", "spice": "spice", "sdl": None}.get(screen.type, kind)
        if kind is not None:
            audios.append(Audio(id=1, type=kind))
    for number, audio in enumerate(audios, 1):
        if audio.type is None:
            raise XMLError("missing audio 'type' attribute", domain=ErrorDomain.DOMAIN)
        audio.id = audio.id or (number if len(audios) > 1 else 1)
        for direction in (audio.input, audio.output):
            if direction is not None:
                _direction(direction)
    ids = [audio.id for audio in audios]
    if len(set(ids)) != len(ids):
        raise XMLError(f"Multiple audio backends with ID '{ids[-1]}' detected", domain=ErrorDomain.DOMAIN)


def _direction(direction: AudioDirection) -> None:
    if direction.fixed_settings and direction.mixing_engine is False:
        raise ConfigUnsupported("fixed audio settings require mixing engine", domain=ErrorDomain.DOMAIN)
    if direction.settings is not None and not direction.fixed_settings:
        raise ConfigUnsupported("audio settings require fixed settings flag", domain=ErrorDomain.DOMAIN)


def check_end(device: CharEnd) -> None:
    """Complete and check a character device's host end."""
    kind, source = device.type, device.source
    if kind == "tcp":
        if source is None or source.host is None:
            raise XMLError("Missing source host attribute for char device", domain=ErrorDomain.DOMAIN)
        if source.service is None:
            raise XMLError("Missing source service attribute for char device", domain=ErrorDomain.DOMAIN)
    elif kind == "udp":
        if not any(s.mode not in ("bind", "server") and s.service for s in device.sources):
            raise XMLError("Missing source service attribute for char device", domain=ErrorDomain.DOMAIN)
    elif kind in ("file", "dev", "pipe") and (source is None or not source.path):
        raise XMLError("Missing source path attribute for char device", domain=ErrorDomain.DOMAIN)
    elif kind in ("spiceport", "dbus") and (source is None or not source.channel):
        raise XMLError("Missing source channel attribute for char device", domain=ErrorDomain.DOMAIN)


def _hostdev(device: Hostdev) -> None:
    device.mode = device.mode or "subsystem"
    if device.mode == "capabilities":
        raise ConfigUnsupported("hostdev mode 'capabilities' is not supported in QEMU")
    if device.type not in SUBSYSTEMS:
        text = f"unknown host device source address type '{device.type}'"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if device.source is None:
        raise XMLError("Missing <source> element in hostdev device", domain=ErrorDomain.DOMAIN)
    device.managed = bool(device.managed)
    place = device.source.address
    if device.type == "pci":
        if place is None:
            raise XMLError("missing source address for PCI hostdev", domain=ErrorDomain.DOMAIN)
        place.domain, place.bus, place.function = place.domain or 0, place.bus or 0, place.function or 0
        if device.driver is not None and device.driver.name not in (None, "vfio"):
            text = f"'{device.driver.name}' backend is not supported: host PCI devices are assigned by VFIO"
            raise ConfigUnsupported(text)
    elif device.type == "usb":
        named = device.source.vendor is not None and device.source.product is not None
        if (device.source.vendor is None) != (device.source.product is None):
            raise XMLError("missing vendor or product in usb source", domain=ErrorDomain.DOMAIN)
        if not named and (place is None or place.bus is None or place.device is None):
            raise XMLError("missing source address for USB hostdev", domain=ErrorDomain.DOMAIN)
    elif device.type == "mdev":
        if place is None or place.uuid is None:
            raise XMLError("Missing 'uuid' attribute in <address>", domain=ErrorDomain.DOMAIN)
        if device.model not in _MDEV_MODELS:
            raise XMLError(f"Invalid value for attribute 'model' in element 'hostdev': '{device.model}'.")
        if device.display and device.model != "vfio-pci":
            text = "<hostdev> attribute 'display' is only supported with model='vfio-pci'"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
        if device.ramfb and not device.display:
            raise ConfigUnsupported("ramfb attribute requires display to be enabled")
    elif device.type == "scsi_host" and not (device.source.wwpn or "").startswith("naa."):
        raise XMLError("malformed 'wwpn' value", domain=ErrorDomain.DOMAIN)


def _next_scsi(domain: Domain) -> Address:
    """The first free unit of the first SCSI controller that has one."""
    drives: list[Disk | Hostdev] = [
        *(d for d in domain.dev.disks if d.bus == "scsi"),
        *(d for d in domain.dev.hostdevs if d.type == "scsi"),
    ]
    taken = {(d.address.controller or 0, d.address.unit) for d in drives if d.address is not None}
    for controller in range(1000):
        for unit in range(_SCSI_UNITS):
            if (controller, unit) not in taken:
                return Address(type="drive", controller=controller, bus=0, target=0, unit=unit)
    raise InternalError("no free SCSI unit", domain=ErrorDomain.DOMAIN)


def _smartcard(card: Smartcard) -> None:
    if card.mode == "host-certificates" and len(card.certificates) != 3:
        raise XMLError("host-certificates mode needs exactly three certificates", domain=ErrorDomain.DOMAIN)
    if card.database is not None and not card.database.startswith("/"):
        raise XMLError(f"expecting absolute path: {card.database}", domain=ErrorDomain.DOMAIN)
    if card.mode == "passthrough":
        if card.type is None:
            text = "passthrough mode requires a character device type attribute"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
        check_end(card)
    if card.address is None:
        card.address = Address(type="ccid", controller=0, slot=0)


def _shmem(shared: Shmem) -> None:
    if "/" in (shared.name or ""):
        raise XMLError("shmem name cannot include '/' character", domain=ErrorDomain.DOMAIN)
    if shared.model is None:
        shared.model = ShmemModel()
    if shared.model.type is None:
        # the oldest model has left QEMU
        shared.model.type = "ivshmem-doorbell" if shared.server is not None else "ivshmem-plain"
    if shared.model.type == "ivshmem-plain":
        if shared.server is not None or shared.msi is not None:
            what = "server" if shared.server is not None else "msi"
            raise ConfigUnsupported(f"shmem model 'ivshmem-plain' does not support {what}")
        shared.set_size(shared.size or 4 * _MIB)
    elif shared.model.type == "ivshmem-doorbell":
        if shared.server is None:
            raise XMLError("shmem model 'ivshmem-doorbell' needs a server", domain=ErrorDomain.DOMAIN)
        shared.server.path = shared.server.path or f"/var/lib/libvirt/shmem-{shared.name}-sock"
    size = shared.size
    if size & (size - 1):
        raise XMLError("shmem size must be a power of two", domain=ErrorDomain.DOMAIN)
    if size and size < _MIB:
        raise XMLError("shmem size must be at least 1 MiB (1024 KiB)", domain=ErrorDomain.DOMAIN)
    if size:
        shared.set_size(size)
