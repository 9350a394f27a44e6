"""Inputs, the balloon, random numbers, watchdogs and hubs for QEMU."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.simple import Hub, Input, InputSource, MemBalloon, Rng, RngBackend, Watchdog
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.chardev import Certificates, HostEnd, host_end
from guesthouse.qemu.devices.common import pci, usb, virtio, virtio_driver
from guesthouse.qemu.parts import Parts, Props


def input_device(domain: Domain, device: Input) -> Parts:
    """A USB or virtio input, or one of the host's; PS/2 ones are the machine's."""
    alias = (device.alias and device.alias.name) or ""
    kind, source = device.type or "", device.source
    if kind == "evdev":
        return Parts(objects=[_host_input(device, alias)])
    if device.bus == "ps2":
        return Parts()
    if device.bus == "usb" and kind in ("mouse", "tablet", "keyboard"):
        driver = {"mouse": "usb-mouse", "tablet": "usb-tablet", "keyboard": "usb-kbd"}[kind]
        return Parts(devices=[{"driver": driver, "id": alias, **usb(domain, device.address)}])
    if device.bus == "virtio" and kind in ("mouse", "tablet", "keyboard", "passthrough"):
        name = "virtio-input-host-pci" if kind == "passthrough" else f"virtio-{kind}-pci"
        props: Props = {"driver": virtio_driver(name, device.model), **virtio(device.driver), "id": alias}
        if kind == "passthrough":
            props["evdev"] = (source and source.evdev) or ""
        return Parts(devices=[{**props, **pci(domain, device.address, device.acpi)}])
    raise ConfigUnsupported(f"{device.bus} bus does not support {kind} input device", domain=ErrorDomain.DOMAIN)


def _host_input(device: Input, alias: str) -> Props:
    """A keyboard or mouse of the host's that the guest takes, and gives back at a combination of keys."""
    source = device.source or InputSource()
    props: Props = {"qom-type": "input-linux", "id": alias, "evdev": source.dev or ""}
    if source.repeat is not None:
        props["repeat"] = source.repeat
    if source.grab == "all":
        props["grab_all"] = True
    if source.grab_toggle is not None:
        props["grab-toggle"] = source.grab_toggle
    return props


def memballoon(domain: Domain, device: MemBalloon) -> Parts:
    if device.model == "none":
        return Parts()
    if not (device.model or "").startswith("virtio"):
        raise ConfigUnsupported(f"Memory balloon device type '{device.model}' is not supported by this version of qemu")
    alias = (device.alias and device.alias.name) or "balloon0"
    props: Props = {"driver": virtio_driver("virtio-balloon-pci", device.model), **virtio(device.driver), "id": alias}
    if device.autodeflate is not None:
        props["deflate-on-oom"] = device.autodeflate
    if device.free_page_reporting is not None:
        props["free-page-reporting"] = device.free_page_reporting
    return Parts(devices=[{**props, **pci(domain, device.address, device.acpi)}])


def rng(domain: Domain, device: Rng, end: HostEnd | None = None, certificates: Certificates | None = None) -> Parts:
    """Random numbers from a file of the host's, from QEMU itself, or from a daemon at a character device's end."""
    backend = device.backend or RngBackend()
    alias = (device.alias and device.alias.name) or "rng0"
    parts = Parts()
    if backend.model == "egd":
        parts += host_end(backend, end or HostEnd(), certificates or Certificates(), alias)
        # QEMU makes character devices before the objects that use them
        parts.late_objects.append({"qom-type": "rng-egd", "id": f"obj{alias}", "chardev": f"char{alias}"})
    elif backend.model == "builtin":
        parts.objects.append({"qom-type": "rng-builtin", "id": f"obj{alias}"})
    else:
        source = {"qom-type": "rng-random", "id": f"obj{alias}", "filename": backend.device or "/dev/random"}
        parts.objects.append(source)
    driver = virtio_driver("virtio-rng-pci", device.model)
    props: Props = {"driver": driver, **virtio(device.driver), "rng": f"obj{alias}", "id": alias}
    if device.rate is not None and device.rate.bytes:
        props |= {"max-bytes": device.rate.bytes, "period": device.rate.period or 1000}
    parts.devices.append({**props, **pci(domain, device.address, device.acpi)})
    return parts


def watchdog(domain: Domain, device: Watchdog) -> Parts:
    alias = (device.alias and device.alias.name) or "watchdog0"
    action = {"dump": "pause", None: "reset"}.get(device.action, device.action)
    options = ["-action", f"watchdog={action}"]
    if device.model == "i6300esb":
        return Parts(
            devices=[{"driver": "i6300esb", "id": alias, **pci(domain, device.address, device.acpi)}], options=options
        )
    if device.model == "ib700":
        return Parts(devices=[{"driver": "ib700", "id": alias}], options=options)
    if device.model == "itco" and domain.is_q35:
        return Parts(options=["-global", "ICH9-LPC.noreboot=off", *options])
    if device.model == "itco":
        raise ConfigUnsupported("iTCO watchdog is part of the q35 machine", domain=ErrorDomain.DOMAIN)
    text = f"{device.model} is not supported for this architecture or in this QEMU binary"
    raise ConfigUnsupported(text)


def hub(domain: Domain, device: Hub) -> Parts:
    return Parts(
        devices=[
            {"driver": "usb-hub", "id": (device.alias and device.alias.name) or "hub0", **usb(domain, device.address)}
        ]
    )
