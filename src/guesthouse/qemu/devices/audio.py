"""<audio> and <sound> for QEMU: the host's sound systems and the guest's cards."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.model.devices.audio import Audio, AudioDirection, Sound
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, usb
from guesthouse.qemu.parts import Parts, Props, compact

_BACKENDS = {"pulseaudio": "pa", "file": "wav"}
_CARDS = {
    "es1370": "ES1370",
    "ac97": "AC97",
    "ich6": "intel-hda",
    "usb": "usb-audio",
    "ich9": "ich9-intel-hda",
    "sb16": "sb16",
}
# what each sound system can be told about a direction
_DETAILS: dict[str, tuple[str, ...]] = {
    "alsa": ("dev",),
    "coreaudio": ("buffer_count",),
    "jack": ("server_name", "client_name", "connect_ports", "exact_name"),
    "oss": ("dev", "buffer_count", "try_poll"),
    "pulseaudio": ("name", "stream_name", "latency"),
    "sdl": ("buffer_count",),
}


def backend(device: Audio) -> Parts:
    """A sound system of the host's."""
    kind = device.type or "none"
    props: Props = {"id": f"audio{device.id or 1}", "driver": _BACKENDS.get(kind, kind)}
    known: dict[str, object] = {"timer-period": device.timer_period or None}
    if kind == "oss":
        known |= {"try-mmap": device.try_mmap, "exclusive": device.exclusive, "dsp-policy": device.dsp_policy}
    elif kind == "pulseaudio":
        known["server"] = device.server_name
    elif kind == "file":
        known["path"] = device.path
    props |= {name: value for name, value in known.items() if value is not None}
    for name, direction in (("in", device.input), ("out", device.output)):
        if direction is not None and (settings := _direction(kind, direction)):
            props[name] = settings
    environment = {"SDL_AUDIODRIVER": device.driver} if kind == "sdl" and device.driver else {}
    return Parts(options=["-audiodev", compact(props)], environment=environment)


def _direction(kind: str, direction: AudioDirection) -> Props:
    known: dict[str, object] = {
        "mixing-engine": direction.mixing_engine,
        "fixed-settings": direction.fixed_settings,
        "voices": direction.voices or None,
        "buffer-length": direction.buffer_length or None,
    }
    settings = direction.settings
    if direction.fixed_settings and settings is not None:
        known |= {"frequency": settings.frequency, "channels": settings.channels, "format": settings.format}
    for name in _DETAILS.get(kind, ()):
        known[name.replace("_", "-")] = getattr(direction, name)
    return {name: value for name, value in known.items() if value is not None}


def audio_id(domain: Domain, wanted: int | None) -> str:
    """QEMU's id of a sound system: that of the number, or the first. Raises InternalError where there is none."""
    found = next((a for a in domain.dev.audios if wanted in (None, 0, a.id)), None)
    if found is None:
        raise InternalError("unable to find audio backend for sound device")
    return f"audio{found.id or 1}"


def sound(domain: Domain, device: Sound) -> Parts:
    """A sound card; ICH ones with their codecs."""
    alias = (device.alias and device.alias.name) or "sound0"
    model = device.model or ""
    if model not in _CARDS:
        raise ConfigUnsupported(f"sound card model '{model}' is not supported by qemu")
    heard = audio_id(domain, device.audio.id if device.audio is not None else None)
    props: Props = {"driver": _CARDS[model], "id": alias}
    if model in ("ich6", "ich9"):
        parts = Parts(devices=[{**props, **pci(domain, device.address, device.acpi)}])
        for cad, kind in enumerate([codec.type or "duplex" for codec in device.codecs] or ["duplex"]):
            place = {"id": f"{alias}-codec{cad}", "bus": f"{alias}.0", "cad": cad, "audiodev": heard}
            parts.devices.append({"driver": f"hda-{kind}", **place})
        return parts
    props["audiodev"] = heard
    if model == "usb":
        props |= usb(domain, device.address)
    elif model != "sb16":
        props |= pci(domain, device.address, device.acpi)
    return Parts(devices=[props])
