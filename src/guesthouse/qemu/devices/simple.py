"""Inputs, the balloon, random numbers, sound, watchdogs and hubs for QEMU."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.simple import Hub, Input, MemBalloon, Rng, Sound, Watchdog
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, usb, virtio
from guesthouse.qemu.parts import Parts, Props


def input_device(domain: Domain, device: Input) -> Parts:
    """A USB or virtio input; PS/2 ones are the machine's."""
    alias = (device.alias and device.alias.name) or ""
    kind = device.type or ""
    if device.bus == "ps2":
        return Parts()
    if device.bus == "usb" and kind in ("mouse", "tablet", "keyboard"):
        driver = {"mouse": "usb-mouse", "tablet": "usb-tablet", "keyboard": "usb-kbd"}[kind]
        return Parts(devices=[{"driver": driver, "id": alias, **usb(device.address)}])
    if device.bus == "virtio" and kind in ("mouse", "tablet", "keyboard"):
        return Parts(
            devices=[
                {"driver": f"virtio-{kind}-pci", **virtio(device.driver), "id": alias, **pci(domain, device.address)}
            ]
        )
    raise ConfigUnsupported(f"input '{kind}' on bus '{device.bus}' is not supported yet")


def memballoon(domain: Domain, device: MemBalloon) -> Parts:
    if device.model == "none":
        return Parts()
    if device.model != "virtio":
        raise ConfigUnsupported(f"memory balloon model '{device.model}' is not supported yet")
    props: Props = {"driver": "virtio-balloon-pci", **virtio(device.driver), "id": "balloon0"}
    if device.autodeflate is not None:
        props["deflate-on-oom"] = device.autodeflate
    if device.free_page_reporting is not None:
        props["free-page-reporting"] = device.free_page_reporting
    return Parts(devices=[{**props, **pci(domain, device.address)}])


def rng(domain: Domain, device: Rng) -> Parts:
    backend = device.backend
    alias = (device.alias and device.alias.name) or "rng0"
    if device.model != "virtio" or backend is None or backend.model not in ("random", "builtin"):
        raise ConfigUnsupported("this kind of random number generator is not supported yet")
    source: Props = {"qom-type": "rng-random", "id": f"obj{alias}", "filename": backend.device or "/dev/random"}
    if backend.model == "builtin":
        source = {"qom-type": "rng-builtin", "id": f"obj{alias}"}
    props: Props = {"driver": "virtio-rng-pci", **virtio(device.driver), "rng": f"obj{alias}", "id": alias}
    if device.rate is not None and device.rate.bytes:
        props |= {"max-bytes": device.rate.bytes, "period": device.rate.period or 1000}
    return Parts(objects=[source], devices=[{**props, **pci(domain, device.address)}])


def sound(domain: Domain, device: Sound) -> Parts:
    alias = (device.alias and device.alias.name) or "sound0"
    model = device.model or ""
    if model in ("ich6", "ich9"):
        driver = "intel-hda" if model == "ich6" else "ich9-intel-hda"
        parts = Parts(devices=[{"driver": driver, "id": alias, **pci(domain, device.address)}])
        for cad, kind in enumerate([codec.type or "duplex" for codec in device.codecs] or ["duplex"]):
            place = {"id": f"{alias}-codec{cad}", "bus": f"{alias}.0", "cad": cad, "audiodev": "audio1"}
            parts.devices.append({"driver": f"hda-{kind}", **place})
        return parts
    names = {"ac97": "AC97", "es1370": "ES1370"}
    if model in names:
        props = {"driver": names[model], "id": alias, "audiodev": "audio1", **pci(domain, device.address)}
        return Parts(devices=[props])
    raise ConfigUnsupported(f"sound model '{model}' is not supported yet")


def watchdog(domain: Domain, device: Watchdog) -> Parts:
    alias = (device.alias and device.alias.name) or "watchdog0"
    action = {"dump": "pause", None: "reset"}.get(device.action, device.action)
    options = ["-action", f"watchdog={action}"]
    if device.model == "i6300esb":
        return Parts(devices=[{"driver": "i6300esb", "id": alias, **pci(domain, device.address)}], options=options)
    if device.model == "ib700":
        return Parts(devices=[{"driver": "ib700", "id": alias}], options=options)
    if device.model == "itco" and domain.is_q35:
        return Parts(options=["-global", "ICH9-LPC.noreboot=off", *options])
    raise ConfigUnsupported(f"watchdog model '{device.model}' is not supported yet")


def hub(device: Hub) -> Parts:
    return Parts(
        devices=[{"driver": "usb-hub", "id": (device.alias and device.alias.name) or "hub0", **usb(device.address)}]
    )
