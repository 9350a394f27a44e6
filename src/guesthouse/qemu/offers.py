"""What guests can have here, as <domainCapabilities> and the <guest> parts of <capabilities> tell clients.

An offer is made where QEMU has what it takes *and* :mod:`guesthouse.qemu.command` builds it: clients choose from these
lists, and what they choose must start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from guesthouse.host.cpu import Hypervisor
from guesthouse.host.passthrough import vfio_works
from guesthouse.host.sysfs import Sysfs
from guesthouse.host.x86 import MODELS
from guesthouse.model.capabilities import (
    CpuMode,
    CpuOffer,
    DeviceOffers,
    DomainCapabilities,
    Enum,
    Feature,
    FeatureOffers,
    GuestArch,
    GuestDomain,
    GuestFeatures,
    GuestSection,
    LoaderOffer,
    MachineType,
    ModelOffer,
    Offer,
    OsOffer,
    Toggle,
    Value,
    Vcpu,
)
from guesthouse.qemu import firmware
from guesthouse.qemu.capabilities import Machine, QemuCapabilities

_WORD_SIZES = {"i686": 32, "x86_64": 64}

# what is offered, in libvirt's order: the QEMU device that it takes
_DISK_BUSES = {
    "ide": "ide-hd",
    "fdc": "floppy",
    "scsi": "scsi-hd",
    "virtio": "virtio-blk-pci",
    "usb": "usb-storage",
    "sata": "ich9-ahci",
}
_RNGS = {"virtio": "", "virtio-transitional": "-transitional", "virtio-non-transitional": "-non-transitional"}
_VIDEOS = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "vmvga": "vmware-svga",
    "qxl": "qxl-vga",
    "virtio": "virtio-vga",
    "none": "",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}


def guest(caps: QemuCapabilities, arch: str, *, kvm: bool) -> GuestSection:
    """The kinds of guests of ``arch`` that the emulator ``caps`` runs: the default machine first, aliases behind what
    they stand for."""
    machines = []
    for machine in sorted(caps.machines, key=lambda m: not m.default):
        deprecated = True if machine.deprecated else None
        machines.append(MachineType(max_cpus=machine.max_cpus, deprecated=deprecated, name=machine.name))
        if machine.alias:
            alias = MachineType(canonical=machine.name, max_cpus=machine.max_cpus, name=machine.alias)
            alias.deprecated = deprecated
            machines.append(alias)
    domains = [GuestDomain(type="qemu")]
    if kvm:
        domains.append(GuestDomain(type="kvm"))
    features = GuestFeatures(
        pae=arch == "i686",
        nonpae=arch == "i686",
        acpi=Toggle(default=True, toggle=True),
        apic=Toggle(default=True, toggle=False),
        cpuselection=True,
        deviceboot=True,
        disksnapshot=Toggle(default=False, toggle=False),
    )
    section = GuestArch(
        name=arch, wordsize=_WORD_SIZES.get(arch), emulator=caps.binary, machines=machines, domains=domains
    )
    return GuestSection(os_type="hvm", arch=section, features=features)


def domain(
    caps: QemuCapabilities, cpus: Hypervisor, arch: str, machine: Machine, kind: str, *, vcpus: int
) -> DomainCapabilities:
    """What guests of ``kind`` ("qemu" or "kvm"; ``caps`` was asked with its accelerator) can have. ``vcpus`` is the most
    processors that the accelerator gives, ``cpus`` what these can be."""
    return DomainCapabilities(
        path=caps.binary,
        domain=kind,
        machine=machine.name,
        arch=arch,
        vcpu=Vcpu(max=min(machine.max_cpus, vcpus)),
        iothreads=Offer(supported=True),
        os=_os(arch, machine),
        cpu=_cpu(caps, cpus, kind),
        memory_backing=_offer(sourceType=["file", "anonymous", "memfd"]),
        devices=_devices(caps, machine),
        features=FeatureOffers(
            gic=_no(),
            vmcoreinfo=Offer(supported="vmcoreinfo" in caps.devices),
            genid=Offer(supported="vmgenid" in caps.devices),
            backing_store_input=Offer(supported=True),
            backup=_no(),
            sev=_no(),
            sgx=_no(),
            hyperv=_offer(features=caps.hyperv) if caps.hyperv else _no(),
        ),
    )


def _os(arch: str, machine: Machine) -> OsOffer:
    """The firmware that the host has for such guests."""
    found = [each for each in firmware.descriptors() if each.device != "kernel" and each.targeted(arch, machine.name)]
    kinds = [
        kind for kind, name in (("bios", "bios"), ("efi", "uefi")) if any(name in each.interfaces for each in found)
    ]
    secure = any("requires-smm" in each.features and "secure-boot" in each.features for each in found)
    flash = [each.image for each in found if each.device == "flash"]
    loader = LoaderOffer(
        supported=True,
        paths=[Value(text=path) for path in dict.fromkeys(flash)],
        enums=_offer(type=["rom", "pflash"], readonly=["yes", "no"], secure=["yes", "no"] if secure else ["no"]).enums,
    )
    return OsOffer(supported=True, enums=[Enum.of("firmware", kinds)], loader=loader)


def _offer(**enums: Iterable[str]) -> Offer:
    return Offer(supported=True, enums=[Enum.of(name, values) for name, values in enums.items()])


def _no() -> Offer:
    return Offer(supported=False)


# -- processors


def _cpu(caps: QemuCapabilities, cpus: Hypervisor, kind: str) -> CpuOffer:
    native = kind == "kvm" and "host" in cpus.models
    passthrough = CpuMode(name="host-passthrough", supported=native)
    if passthrough.supported:
        passthrough.enums = [Enum.of("hostPassthroughMigratable", ["on", "off"])]
    maximum = CpuMode(name="maximum", supported="max" in cpus.models)
    if maximum.supported:
        maximum.enums = [Enum.of("maximumMigratable", ["on", "off"])]
    host_model = CpuMode(name="host-model", supported=cpus.reported is not None)
    if cpus.reported is not None:
        host_model.models = [ModelOffer(fallback="forbid", name=cpus.reported.model)]
        host_model.vendor = cpus.reported.vendor or None
        host_model.features = [Feature(policy=policy, name=name) for name, policy in cpus.reported.features.items()]
    custom = CpuMode(name="custom", supported=True)
    custom.models = [
        ModelOffer(
            usable="yes" if model.usable else "no",
            deprecated=True if model.deprecated else None,
            vendor=MODELS[model.name].vendor or "unknown",
            name=model.name,
        )
        for model in caps.cpus
        if model.name in MODELS
    ]
    return CpuOffer(modes=[passthrough, maximum, host_model, custom])


# -- devices


def _devices(caps: QemuCapabilities, machine: Machine) -> DeviceOffers:
    devices = frozenset(caps.devices)
    buses = [bus for bus, device in _DISK_BUSES.items() if device in devices]
    if "ide" in buses and not _has_ide(machine):
        buses.remove("ide")
    models = ["virtio"]
    models += [f"virtio-{kind}" for kind in ("transitional", "non-transitional") if f"virtio-blk-pci-{kind}" in devices]
    rngs = [model for model in _RNGS if f"virtio-rng-pci{_RNGS[model]}" in devices]
    usb = any(name in devices for name in ("piix3-usb-uhci", "usb-ehci", "qemu-xhci", "nec-usb-xhci"))
    screens = ["sdl", *caps.displays, "egl-headless", "dbus"]
    channels = ["pty", "unix", *(["spicevmc"] if "spice" in caps.displays else [])]
    return DeviceOffers(
        disk=_offer(diskDevice=["disk", "cdrom", "floppy", "lun"], bus=buses, model=models),
        graphics=_offer(type=screens),
        video=_offer(modelType=[name for name, device in _VIDEOS.items() if not device or device in devices]),
        hostdev=_offer(
            mode=["subsystem"],
            startupPolicy=["default", "mandatory", "requisite", "optional"],
            subsysType=["usb", "pci", "scsi"] if usb else ["pci", "scsi"],
            capsType=[],
            pciBackend=["default", "vfio"] if vfio_works(Sysfs()) else [],
        ),
        rng=_offer(model=rngs, backendModel=["random", "egd", "builtin"]) if rngs else _no(),
        filesystem=_filesystems(devices),
        tpm=_tpms(devices),
        redirdev=_offer(bus=["usb"]) if "usb-redir" in devices else _no(),
        channel=_offer(type=channels),
    )


def _filesystems(devices: frozenset[str]) -> Offer:
    kinds = {"path": "virtio-9p-pci", "virtiofs": "vhost-user-fs-pci"}
    found = [kind for kind, device in kinds.items() if device in devices]
    return _offer(driverType=found) if found else _no()


def _tpms(devices: frozenset[str]) -> Offer:
    """The host's own, and with swtpm emulated ones."""
    models = [model for model in ("tpm-tis", "tpm-crb") if model in devices]
    if not models:
        return _no()
    if shutil.which("swtpm") is None or shutil.which("swtpm_setup") is None:
        return _offer(model=models, backendModel=["passthrough"])
    backends = ["passthrough", "emulator", "external"]
    return _offer(model=models, backendModel=backends, backendVersion=["1.2", "2.0"])


def _has_ide(machine: Machine) -> bool:
    return machine.name == "pc" or machine.name.startswith("pc-i440fx-")
