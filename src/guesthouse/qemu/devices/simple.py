"""Controllers, inputs, the balloon, random numbers, sound, watchdogs and hubs for QEMU."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.simple import Controller, Hub, Input, MemBalloon, Rng, Sound, Watchdog
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, usb, virtio
from guesthouse.qemu.parts import Parts, Props

_USB = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "qemu-xhci": "qemu-xhci",
    "nec-xhci": "nec-usb-xhci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
}
_SCSI = {
    "lsilogic": "lsi",
    "virtio-scsi": "virtio-scsi-pci",
    "virtio-transitional": "virtio-scsi-pci-transitional",
    "virtio-non-transitional": "virtio-scsi-pci-non-transitional",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
}


def controller(domain: Domain, device: Controller, floppies: dict[int, int] | None = None) -> Parts:
    """A bus; nothing for those that the machine has by itself. ``floppies``: unit -> place in the boot order. Raises
    ConfigUnsupported for unknown models."""
    alias = (device.alias and device.alias.name) or ""
    kind, model, index = device.type, device.model, device.index or 0
    props: Props = {}
    if kind == "pci":
        if model in ("pci-root", "pcie-root"):
            return Parts()
        target = device.target
        if model == "pcie-root-port":
            assert target is not None
            props = {"driver": "pcie-root-port", "port": int(target.port or "0", 0), "chassis": target.chassis}
            if target.hotplug is not None:
                props["hotplug"] = target.hotplug == "on"
        elif model == "pci-bridge":
            props = {"driver": "pci-bridge", "chassis_nr": (target and target.chassis_nr) or index}
        elif model == "pcie-to-pci-bridge":
            props = {"driver": "pcie-pci-bridge"}
        elif model == "dmi-to-pci-bridge":
            props = {"driver": "i82801b11-bridge"}
        else:
            raise ConfigUnsupported(f"PCI controller model '{model}' is not supported yet")
    elif kind == "usb":
        if model == "none":
            return Parts()
        driver = _USB.get(model or "")
        if driver is None:
            raise ConfigUnsupported(f"USB controller model '{model}' is not supported yet")
        props = {"driver": driver}
        if device.ports and "xhci" in driver:
            props |= {"p2": device.ports, "p3": device.ports}
        if device.master is not None:
            props |= {"masterbus": f"{alias}.0", "firstport": device.master.startport}
            # companions are ports of the master's bus: they have an id of nobody's interest
            return Parts(devices=[{**props, **pci(domain, device.address)}])
    elif kind == "virtio-serial":
        props = {"driver": "virtio-serial-pci", **virtio(device.driver)}
        if device.ports is not None:
            props["max_ports"] = device.ports
        if device.vectors is not None:
            props["vectors"] = device.vectors
    elif kind == "scsi":
        driver = _SCSI.get(model or "lsilogic")
        if driver is None:
            raise ConfigUnsupported(f"SCSI controller model '{model}' is not supported yet")
        props = {"driver": driver}
        if driver.startswith("virtio") and device.driver is not None:
            props |= virtio(device.driver)
            wishes = {"num_queues": "queues", "cmd_per_lun": "cmd_per_lun", "max_sectors": "max_sectors"}
            for name, field in {**wishes, "ioeventfd": "ioeventfd"}.items():
                if (value := getattr(device.driver, field)) is not None:
                    props[name] = value
            if device.driver.iothread is not None:
                raise ConfigUnsupported("iothreads of SCSI controllers are not supported yet")
    elif kind == "sata":
        if domain.is_q35 and index == 0:
            return Parts()
        props = {"driver": "ahci"}
    elif kind == "ide":
        if domain.is_i440fx and index == 0:
            return Parts()
        raise ConfigUnsupported("this machine has no IDE controller; use bus 'sata'")
    elif kind == "fdc":
        # i440fx has it by itself
        first = {f"bootindex{'AB'[unit]}": place for unit, place in (floppies or {}).items()}
        if domain.is_i440fx:
            return Parts(options=[w for k, v in first.items() for w in ("-global", f"isa-fdc.{k}={v}")])
        return Parts(devices=[{"driver": "isa-fdc", **first}])
    else:
        raise ConfigUnsupported(f"controller type '{kind}' is not supported yet")
    return Parts(devices=[{**props, "id": alias, **pci(domain, device.address)}])


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
