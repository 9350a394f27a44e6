"""What libvirt makes of a document's inputs, balloons, watchdogs and sound cards when it is defined, and what of them it
refuses. Pure; the rules are libvirt 9.0's (domain_conf.c, domain_postparse.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.audio import Sound
from guesthouse.model.devices.simple import Input, MemBalloon, Watchdog
from guesthouse.model.domain import Domain

_SOUNDS = ("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "ich7")
#: Cards that have codecs.
_HDA = ("ich6", "ich9")
_VIRTIO_MODELS = ("virtio", "virtio-transitional", "virtio-non-transitional")


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def complete(domain: Domain) -> None:
    """Complete these devices, with the keyboard, the mouse and the balloon that each guest has."""
    dev = domain.dev
    without = any(bus.type == "usb" and bus.model == "none" for bus in dev.controllers)
    for item in dev.inputs:
        if item.type == "evdev":
            item.bus = None
            continue
        item.bus = item.bus or ("ps2" if item.type in ("mouse", "keyboard") else "usb")
        if item.bus == "usb" and without:
            raise _unsupported("Can't add USB input device. USB bus is disabled")
    for item in dev.inputs:
        _check_input(item)
    for kind in ("mouse", "keyboard"):
        if not any(item.type == kind and item.bus == "ps2" for item in dev.inputs):
            dev.inputs.append(Input(type=kind, bus="ps2"))
    for watchdog in dev.watchdogs:
        watchdog.action = watchdog.action or "reset"
    balloon = dev.memballoon = dev.memballoon or MemBalloon(model="virtio")
    if balloon.model == "none":
        balloon.address = balloon.acpi = None
    if balloon.stats is not None and not balloon.stats.period:
        balloon.stats = None
    for sound in dev.sounds:
        _sound(sound)
    if balloon.model == "xen" or any(sound.model == "ich7" for sound in dev.sounds):
        # libvirt looks for a place for them before it finds that QEMU has none
        text = "Cannot automatically add a new PCI bus for a device with connect flags 00"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)


def check(domain: Domain) -> None:
    """Raises what libvirt raises for those that QEMU has not, or not there."""
    for item in domain.dev.inputs:
        if item.bus == "virtio" and (item.model or "").endswith("transitional"):
            raise ConfigUnsupported(f"virtio (non-)transitional models are not supported for input type={item.type}")
    for watchdog in domain.dev.watchdogs:
        _check_watchdog(watchdog)
    numbers = [audio.id for audio in domain.dev.audios]
    for sound in domain.dev.sounds:
        if sound.audio is not None and sound.audio.id not in numbers:
            raise XMLError(f"no audio device with ID {sound.audio.id}", domain=ErrorDomain.DOMAIN)
    for audio in domain.dev.audios:
        if audio.type == "spice" and not any(screen.type == "spice" for screen in domain.dev.graphics):
            raise ConfigUnsupported("Spice audio is not supported without spice graphics")


def _check_input(item: Input) -> None:
    if item.bus == "ps2" and item.type not in ("mouse", "keyboard"):
        raise InternalError(f"ps2 bus does not support {item.type} input device", domain=ErrorDomain.DOMAIN)
    if item.bus == "xen":
        raise InternalError("unsupported input bus xen", domain=ErrorDomain.DOMAIN)
    if item.type in ("mouse", "tablet", "keyboard") and item.source is not None and item.source.evdev:
        raise _unsupported("setting source evdev path only supported for passthrough input devices")
    if item.type == "passthrough" and item.bus != "virtio":
        raise _unsupported("only bus 'virtio' is supported for 'passthrough' input devices")
    if item.model in _VIRTIO_MODELS and item.bus != "virtio":
        raise _unsupported(f"only bus 'virtio' is supported for input model '{item.model}'")


def _sound(sound: Sound) -> None:
    if sound.model not in _SOUNDS and sound.model != "virtio":
        raise XMLError(f"Invalid value for attribute 'model' in element 'sound': '{sound.model}'.")
    if sound.model not in _HDA:
        sound.codecs = []
    if sound.audio is not None and sound.audio.id is None:
        raise XMLError("Missing required attribute 'id' in element 'audio'")


def _check_watchdog(watchdog: Watchdog) -> None:
    kind = watchdog.address.type if watchdog.address is not None else None
    model = watchdog.model
    if model == "i6300esb" and kind not in (None, "pci"):
        raise ConfigUnsupported(f"{model} model of watchdog can go only on PCI bus")
    if model == "ib700" and kind is not None:
        raise ConfigUnsupported(f"{model} model of watchdog does not support configuring the address")
    if model == "diag288" and kind is not None:
        raise ConfigUnsupported(f"{model} model of watchdog is virtual and cannot go on any bus.")
    if model == "diag288":
        raise ConfigUnsupported(f"{model} model of watchdog is allowed for s390 and s390x only")
