"""What virt-install fills into a guest that the command line left open: the machine, the CPU, and the devices that the
operating system can drive. Values are virt-install's (5.1), so that guests of either tool are alike.
"""

from __future__ import annotations

from guesthouse import units
from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.audio import Sound
from guesthouse.model.devices.chardev import Channel, CharDevice, CharTarget, Console
from guesthouse.model.devices.disk import Disk, DiskDriver, DiskTarget
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.graphics import Acceleration, Graphics, Image, Video, VideoModel
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.devices.interface import Interface, InterfaceSource, MacAddress, Model
from guesthouse.model.devices.redirected import Redirdev
from guesthouse.model.devices.simple import (
    Controller,
    ControllerMaster,
    Input,
    MemBalloon,
    Rng,
    RngBackend,
)
from guesthouse.model.devices.tpm import Tpm, TpmBackend
from guesthouse.model.domain import (
    Apic,
    Clock,
    Cpu,
    CpuFeature,
    CpuModel,
    Features,
    Hyperv,
    Loader,
    Pm,
    PmState,
    Spinlocks,
    State,
    Switch,
    SyntheticTimer,
    Timer,
    TlbFlush,
    Vcpu,
    VendorId,
)
from guesthouse.model.fields import Element
from guesthouse.provision import host_devices, network, osinfo
from guesthouse.provision.host import DomainCaps, Host, Offer
from guesthouse.provision.request import Request, part

AGENT = "org.qemu.guest_agent.0"
SPICE = "com.redhat.spice.0"
_NET_MODELS = ("e1000", "rtl8139", "ne2k_pci", "pcnet")
# enlightenments that are on wherever the host has them, in libvirt's order
_HYPERV = (
    *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "frequencies", "tlbflush", "ipi"),
    *("evmcs", "avic", "emsr_bitmap", "xmm_input"),
)
_HYPERV_CLASSES: dict[str, type[Switch]] = {
    "spinlocks": Spinlocks,
    "stimer": SyntheticTimer,
    "tlbflush": TlbFlush,
    "vendor_id": VendorId,
}
_SPINLOCK_RETRIES = 8191
# how UEFI images are called, the best first
_FIRMWARE = {
    "i686": ("edk2-i386-", "ovmf-ia32"),
    "x86_64": ("edk2-x86_64-", "OVMF_CODE.fd", "ovmf-x64/OVMF", "ovmf-x86_64-", "ovmf", "OVMF"),
    "aarch64": ("AAVMF_CODE.fd", "aarch64/QEMU_EFI", "aarch64"),
    "armv7l": ("AAVMF32_CODE.fd", "arm/QEMU_EFI", "edk2-arm-code"),
    "loongarch64": ("loongarch64/QEMU_EFI",),
    "riscv64": ("RISCV_VIRT_CODE.fd",),
}


def choose(request: Request, host: Host) -> None:
    """Decide what kind of guest it is: hypervisor, architecture, emulator. Raises NotOffered where the host has no
    such guests."""
    domain, kind = request.domain, request.kind
    request.default_type = domain.type in (None, "") and kind.value is None
    offer = host.choose(kind.value, kind.arch, domain.type or None, kind.machine)
    request.offer = offer
    request.has_virtio = host.is_qemu
    domain.type, kind.value, kind.arch = offer.type, offer.os_type, offer.arch
    if domain.dev.emulator is None and offer.emulator:
        domain.dev.emulator = offer.emulator
    if offer.loader and request.boot.loader is None:
        request.boot.loader = Loader(path=offer.loader)
    if kind.machine is None and host.driver in ("qemu", "test"):
        preferred = {
            **dict.fromkeys(("ppc64", "ppc64le"), ("pseries",)),
            **dict.fromkeys(("armv7l", "aarch64"), ("virt", "vexpress-a15")),
            "s390x": ("s390-ccw-virtio",),
            **dict.fromkeys(("riscv64", "riscv32", "loongarch64"), ("virt",)),
        }.get(offer.arch, ())
        kind.machine = next((name for name in preferred if name in offer.machines), None)


def fill(request: Request, host: Host) -> None:
    """Complete ``request.domain``. :func:`choose` was called before. Raises ConfigUnsupported where something that was
    asked for cannot be had here."""
    domain = request.domain
    if domain.uuid is None:
        domain.uuid = units.new_uuid()
    for device, name in request.named:
        host_devices.fill(device, name, host)
    _machine(request, host)
    caps = host.domain_caps(_offer(request), request.machine or None)
    _uefi(request, host, caps)
    fill_metadata(request)
    _processors(request)
    _graphics(request, host, caps)
    _console(request)
    _usb(request, host)
    _channels(request, host)
    _rng_and_balloon(request, host)
    _tpm(request, host, caps)
    _clock(request, host)
    _cpu(request, host, caps)
    _features(request, host, caps)
    if request.is_x86:
        pm = part(domain, "pm", Pm)
        for name in ("suspend_to_mem", "suspend_to_disk"):
            state = part(pm, name, PmState)
            if state.enabled is None:
                state.enabled = False
    if request.security is not None:
        _security(request, caps)
    dev = domain.dev
    chars = [*dev.serials, *dev.parallels, *dev.consoles, *dev.channels]
    for device in [
        *dev.disks,
        *dev.interfaces,
        *chars,
        *dev.inputs,
        *dev.sounds,
        *dev.rngs,
        *dev.hostdevs,
        *dev.filesystems,
    ]:
        fill_device(request, host, caps, device)
    _late_controllers(request)
    if request.has_spice:
        fill_spice(request, caps)


def fill_device(request: Request, host: Host, caps: DomainCaps, device: Element) -> None:
    """Complete a device of the guest, also one that is added later. Raises ConfigUnsupported."""
    if isinstance(device, Disk):
        fill_disk(request, host, device)
    elif isinstance(device, Interface):
        _interface(request, host, device)
    elif isinstance(device, CharDevice):
        _character(device)
    elif isinstance(device, Graphics):
        _display(request, host, caps, device)
    elif isinstance(device, Video):
        model = part(device, "model", VideoModel)
        if model.type == "default":
            model.type = _video_model(request, caps)
        if model.type == "virtio" and model.acceleration is None and _draws_with_gl(request):
            model.acceleration = Acceleration(accel3d=True)
    elif isinstance(device, Input):
        device.type = device.type or "mouse"
    elif isinstance(device, Sound):
        device.model = device.model or _sound_model(request)
    elif isinstance(device, Rng):
        device.model = device.model or "virtio"
    elif isinstance(device, Hostdev):
        host_devices.complete(device)
    elif isinstance(device, Filesystem):
        _filesystem(request, device)
    elif isinstance(device, Tpm) and device.is_emulated and "tpm-crb" in caps.values("devices/tpm", "model"):
        device.model = device.model or "tpm-crb"


def _offer(request: Request) -> Offer:
    assert request.offer is not None
    return request.offer


# -- the machine


def _machine(request: Request, host: Host) -> None:
    kind, offer = request.kind, _offer(request)
    if kind.machine:
        return
    if request.is_x86 and host.is_qemu and "q35" in offer.machines and request.os.supports_q35:
        kind.machine = "q35"
    elif offer.machines:
        kind.machine = next(iter(offer.machines.values()))
        # the first is the default under its canonical name; later entries are its aliases
        first = next(iter(offer.machines))
        kind.machine = offer.machines[first] if offer.machines[first] == first else first


def _uefi(request: Request, host: Host, caps: DomainCaps) -> None:
    boot = request.boot
    wants = request.uefi
    if wants is None:
        if request.is_x86:
            prefers = request.os.requires_efi(request.arch)
        else:
            prefers = request.is_arm_virt or request.is_loongarch
        untouched = boot.loader is None and boot.nvram is None and boot.firmware is None and not boot.kernel
        wants = prefers and untouched
    if not wants:
        return
    if "efi" in caps.values("os", "firmware"):
        boot.firmware = "efi"
        return
    offered = [value.text or "" for value in caps.root.findall("os/loader/value")] if caps.known else []
    path = next((p for word in _FIRMWARE.get(request.arch, ()) for p in offered if word in p), None)
    if path is not None and "yes" in caps.values("os/loader", "readonly"):
        boot.loader = Loader(readonly=True, type="pflash", path=path)
        return
    if request.uefi:
        raise ConfigUnsupported("this host has no UEFI firmware for guests; install OVMF (Debian: package ovmf)")


def fill_metadata(request: Request) -> None:
    """Write down which operating system it is, where nobody has."""
    if request.os.is_generic or not request.os.id or request.domain.metadata is not None:
        return
    from lxml import etree

    metadata = etree.Element("metadata")
    box = etree.SubElement(
        metadata, f"{{{osinfo.NAMESPACE}}}libosinfo", nsmap={"libosinfo": osinfo.NAMESPACE}, attrib=None
    )
    etree.SubElement(box, f"{{{osinfo.NAMESPACE}}}os", {"id": request.os.id})
    request.domain.metadata = metadata


def _processors(request: Request) -> None:
    """The number of processors, and a topology that gives it."""
    domain = request.domain
    vcpu = part(domain, "vcpu", Vcpu)
    topology = domain.cpu.topology if domain.cpu is not None else None
    if vcpu.value is None:
        if topology is not None:
            names = ("sockets", "dies", "cores", "threads")
            vcpu.value = 1
            for name in names:
                vcpu.value *= getattr(topology, name) or 1
        else:
            vcpu.value = request.os.recommended(request.arch).cpus or 1
    if topology is None:
        return
    known = {name: getattr(topology, name) for name in ("sockets", "cores", "threads")}
    # what is not said makes up the number, sockets first; dies are one
    topology.dies = topology.dies or 1
    for name in ("sockets", "cores", "threads"):
        if known[name] is None:
            rest = 1
            for other in ("sockets", "cores", "threads"):
                rest *= known[other] or 1
            rest *= topology.dies or 1
            known[name] = max(1, vcpu.value // rest)
            setattr(topology, name, known[name])
    total = topology.dies
    for value in known.values():
        total *= value or 1
    if total != vcpu.value:
        parts = [f"{name}={getattr(topology, name)}" for name in ("sockets", "dies", "cores", "threads")]
        raise ConfigUnsupported(
            f"Total CPUs implied by topology ({' * '.join(parts)} == {total}) does not match vCPU count {vcpu.value}"
        )


# -- what the user sees and touches


def _graphics(request: Request, host: Host, caps: DomainCaps) -> None:
    dev = request.domain.dev
    if not request.is_hvm:
        return
    wanted = request.is_x86 or request.is_pseries or request.is_pcie
    if not dev.graphics and "graphics" not in request.without and wanted:
        dev.graphics.append(Graphics(type="default"))
    for display in dev.graphics:
        fill_device(request, host, caps, display)
    if dev.graphics and not dev.videos and "video" not in request.without:
        dev.videos.append(Video(model=VideoModel(type="default")))
    for video in dev.videos:
        fill_device(request, host, caps, video)
    usb = [c for c in dev.controllers if c.type == "usb"]
    usb_off = bool(usb) and all(c.model == "none" for c in usb)
    if dev.inputs or not dev.graphics or usb_off or "input" in request.without:
        return
    kinds: list[tuple[str, str]] = []
    if request.is_x86:
        kinds = [("tablet", "usb")]
    elif request.is_arm_virt or request.is_riscv_virt or request.is_pseries or request.is_loongarch:
        kinds = [("tablet", "usb"), ("keyboard", "usb")]
    elif request.is_s390x and request.os.supports("virtio-input"):
        kinds = [("tablet", "virtio"), ("keyboard", "virtio")]
    dev.inputs.extend(Input(type=kind, bus=bus) for kind, bus in kinds)


def _display(request: Request, host: Host, caps: DomainCaps, display: Graphics) -> None:
    if display.type == "default":
        types = caps.values("devices/graphics", "type")
        # a daemon that tells nothing is an old one, which had spice on x86
        spice = "spice" in types if types else host.arch in ("x86_64", "i686")
        display.type = "spice" if spice else "vnc"
    first = display.listens[0].type if display.listens else None
    needs_port = first in (None, "address", "network")
    if display.type in ("vnc", "spice") and needs_port and display.port is None:
        display.port = -1
    if display.type != "spice":
        return
    if display.gl is not None and display.gl.enable and display.gl.rendernode is None and not host.is_remote:
        display.gl.rendernode = host_devices.render_node(host)
    if display.tls_port is None and needs_port:
        display.tls_port = -1
    if display.autoport is None and display.port == -1 and display.tls_port == -1:
        display.autoport = True
    if display.image is None and not host.is_remote:
        display.image = Image(compression="off")


def _draws_with_gl(request: Request) -> bool:
    return any(display.gl is not None and display.gl.enable for display in request.domain.dev.graphics)


def _video_model(request: Request, caps: DomainCaps) -> str:
    models = caps.values("devices/video", "modelType")
    if request.is_pseries:
        return "vga"
    if request.is_riscv_virt or request.is_s390x or request.is_loongarch:
        return "virtio"
    if _draws_with_gl(request):
        return "virtio"
    if "virtio" in models and request.os.supports("virtio-gpu"):
        return "virtio"
    if request.is_x86 and request.has_spice and ("qxl" in models or not models):
        return "qxl"
    if request.is_uefi:
        order = ("bochs", "ramfb") if request.is_x86 else ("ramfb", "bochs")
        return next((model for model in order if model in models), "vga")
    return "vga"


def _console(request: Request) -> None:
    dev = request.domain.dev
    if dev.consoles or dev.serials or "console" in request.without:
        return
    target = CharTarget(type="sclp") if request.is_s390x else None
    dev.consoles.append(Console(type="pty", target=target))


def _character(device: CharDevice) -> None:
    if device.type in ("unix", "tcp") and device.end().mode is None:
        device.end().mode = "bind"
    if isinstance(device, Channel):
        target = part(device, "target", CharTarget)
        target.type = target.type or "virtio"
        if target.name is None and device.type in ("spicevmc", "qemu-vdagent"):
            target.name = SPICE


def _channels(request: Request, host: Host) -> None:
    dev = request.domain.dev
    if dev.channels or "channel" in request.without or not host.is_qemu:
        return
    if request.virtio("virtio-serial"):
        dev.channels.append(Channel(type="unix", target=CharTarget(type="virtio", name=AGENT)))


def _rng_and_balloon(request: Request, host: Host) -> None:
    dev = request.domain.dev
    known = request.is_x86 or request.is_arm_virt or request.is_riscv_virt or request.is_s390x
    if not host.is_qemu or not (known or request.is_pseries or request.is_loongarch):
        return
    if not dev.rngs and "rng" not in request.without and request.os.supports("virtio-rng"):
        dev.rngs.append(Rng(model="virtio", backend=RngBackend(model="random", device="/dev/urandom")))
    if dev.memballoon is None and request.os.supports("virtio-balloon"):
        dev.memballoon = MemBalloon(model="virtio")


def _tpm(request: Request, host: Host, caps: DomainCaps) -> None:
    """UEFI marks a modern guest, which has a TPM where the host can play one."""
    dev = request.domain.dev
    models = caps.values("devices/tpm", "model")
    playable = bool(models) and "emulator" in caps.values("devices/tpm", "backendModel")
    if not dev.tpms and "tpm" not in request.without and request.is_uefi and playable:
        dev.tpms.append(Tpm(backend=TpmBackend(type="emulator")))
    for device in dev.tpms:
        fill_device(request, host, caps, device)


# -- processor and platform


def _clock(request: Request, host: Host) -> None:
    if not request.is_hvm:
        return
    clock = part(request.domain, "clock", Clock)
    clock.offset = clock.offset or request.os.clock
    if clock.timers or not request.is_x86 or not host.is_qemu:
        return
    # keep lost ticks coming, and no HPET, which costs time and gives nothing
    clock.timers += [
        Timer(name="rtc", tickpolicy="catchup"),
        Timer(name="pit", tickpolicy="delay"),
        Timer(name="hpet", present=False),
    ]
    if request.os.is_windows:
        clock.timers.append(Timer(name="hypervclock", present=True))


def _cpu(request: Request, host: Host, caps: DomainCaps) -> None:
    domain = request.domain
    mode = request.cpu_mode
    if mode is None:
        if request.cpu_given or host.driver not in ("qemu", "test"):
            _secure(request, caps)
            return
        if request.is_arm_virt:
            # the machine's own default is an old 32-bit one
            part(domain, "cpu", Cpu).mode = "host-passthrough" if domain.type == "kvm" else "maximum"
            return
        if domain.type == "qemu" and (request.is_x86 or request.is_loongarch) and caps.maximum:
            part(domain, "cpu", Cpu).mode = "maximum"
            return
        if not request.is_x86 or domain.type != "kvm" or request.arch != host.arch:
            return
        mode = "host-passthrough" if caps.host_passthrough else "host-model" if caps.host_model else "host-model-only"
    topology = domain.cpu.topology if domain.cpu is not None else None
    if mode in ("host-passthrough", "host-model", "maximum"):
        cpu = part(domain, "cpu", Cpu)
        cpu.mode, cpu.model, cpu.vendor = mode, None, None
    elif mode in ("host-model-only", "host-copy") and host.cpu_model:
        if request.cpu_mode is not None or caps.cpu_usable(host.cpu_model):
            model = CpuModel(name=host.cpu_model)
            domain.cpu = Cpu(mode="custom", match="exact", model=model, topology=topology)
    elif mode in ("hv-default", "clear"):
        domain.cpu = Cpu(topology=topology) if topology is not None else None
    _secure(request, caps)
    if domain.cpu == Cpu():
        domain.cpu = None


#: Features that guard against flaws of processors, by which one guest could read another's secrets.
_GUARDS = ("ibpb", "md-clear", "spec-ctrl", "ssbd", "virt-ssbd")


def _secure(request: Request, caps: DomainCaps) -> None:
    """A CPU that was named gets those of the features that the host has, so that its guest is no less safe than one
    with the host's own."""
    cpu = request.domain.cpu
    if cpu is None or cpu.mode != "custom" or cpu.model is None or not request.cpu_secure or not request.is_x86:
        return
    names = [name for name in _GUARDS if name in caps.host_model_features]
    cpu.features[:0] = [
        CpuFeature(policy="require", name=name) for name in names if all(f.name != name for f in cpu.features)
    ]


def _hyperv_names(host: Host, caps: DomainCaps) -> list[str]:
    """Enlightenments that the host says it has."""
    if not host.is_qemu or not caps.supported("features/hyperv"):
        return []
    offered = caps.values("features/hyperv", "features")
    return [name for name in _HYPERV if name in offered]


def _features(request: Request, host: Host, caps: DomainCaps) -> None:
    if not request.is_hvm:
        return
    offered = _offer(request).features
    if not offered and not request.os.is_windows:
        return
    features = part(request.domain, "features", Features)
    given = request.without
    if "acpi" in offered and "acpi" not in given:
        features.acpi = True
    if "apic" in offered and "apic" not in given and features.apic is None:
        features.apic = Apic()
    if "pae" in offered and "pae" not in given:
        features.pae = True
    if not request.os.is_windows:
        return
    names = _hyperv_names(host, caps)
    if not names:
        return
    hyperv = part(features, "hyperv", Hyperv)
    for name in names:
        if getattr(hyperv, name) is None:
            kind = _HYPERV_CLASSES.get(name, Switch)
            setattr(hyperv, name, kind(state=True))
    if hyperv.spinlocks is not None and hyperv.spinlocks.state and hyperv.spinlocks.retries is None:
        hyperv.spinlocks.retries = _SPINLOCK_RETRIES


def _security(request: Request, caps: DomainCaps) -> None:
    """SEV's policy: no debugging, no sharing of keys, encrypted registers where the host has them. SEV wants UEFI."""
    security = request.security
    assert security is not None
    name = {"sev": "SEV", "sev-snp": "SEV-SNP", "tdx": "TDX"}.get(security.type or "")
    if name is not None and not (request.is_q35 and request.is_uefi):
        raise ConfigUnsupported(f"{name} launch security requires a Q35 UEFI machine")
    if security.type == "sev" and security.policy is None:
        encrypted_state = caps.supported("features/sev") and caps.has_element("features/sev/maxESGuests")
        security.policy = "0x07" if encrypted_state else "0x03"
    request.domain.launch_security = security


# -- buses


def _usb(request: Request, host: Host) -> None:
    controllers = request.domain.dev.controllers
    if any(c.type == "usb" for c in controllers) or host.driver not in ("qemu", "test"):
        return
    if request.is_x86 and not (request.has_virtio and request.os.supports("usb3")):
        controllers += usb2_controllers()
    elif request.is_x86 or request.is_arm_virt or request.is_riscv_virt or request.is_pseries or request.is_loongarch:
        controllers.append(Controller(type="usb", model="qemu-xhci", ports=15))


def usb2_controllers() -> list[Controller]:
    """A USB 2 bus: EHCI with its three companions for slow devices."""
    bus = [Controller(type="usb", model="ich9-ehci1")]
    for number, port in ((1, 0), (2, 2), (3, 4)):
        bus.append(Controller(type="usb", model=f"ich9-uhci{number}", master=ControllerMaster(startport=port)))
    return bus


def _filesystem(request: Request, folder: Filesystem) -> None:
    """Files of 9p's belong to whom the guest says, by a mapping; virtiofs keeps the host's owners."""
    if not folder.is_virtiofs:
        folder.accessmode = folder.accessmode or "mapped"


def _late_controllers(request: Request) -> None:
    """Those that the devices ask for, and slots for what is plugged in later."""
    dev = request.domain.dev
    has_scsi = any(c.type == "scsi" for c in dev.controllers)
    if not has_scsi and request.virtio("virtio-scsi") and any(d.bus == "scsi" for d in dev.disks):
        dev.controllers.append(Controller(type="scsi", model="virtio-scsi"))
    if any(c.type == "pci" for c in dev.controllers) or not request.is_pcie or request.root_ports <= 0:
        return
    dev.controllers.append(Controller(type="pci", model="pcie-root"))
    dev.controllers.extend(Controller(type="pci", model="pcie-root-port") for _ in range(request.root_ports))


# -- disks and cards


def fill_disk(request: Request, host: Host, disk: Disk) -> None:
    """Bus, target name, driver. Discard is on where a disk is made sparse, so that it stays so."""
    if host.is_qemu:
        driver = part(disk, "driver", DiskDriver) if disk.source is not None else disk.driver
        if driver is not None:
            driver.name = driver.name or "qemu"
    target = part(disk, "target", DiskTarget)
    if target.bus is None:
        target.bus = _bus(request, disk)
    if disk.device == "cdrom":
        disk.readonly = True
    if host.is_qemu and disk.device == "disk" and disk.driver is not None:
        sparse = any(volume.disk is disk and volume.allocation == 0 for volume in request.volumes)
        if disk.type == "block":
            disk.driver.cache = disk.driver.cache or "none"
            disk.driver.io = disk.driver.io or "native"
        if sparse or disk.type == "block":
            disk.driver.discard = disk.driver.discard or "unmap"
    if target.dev is None:
        target.dev = _target(target.bus, {d.dev for d in request.domain.dev.disks})


def _bus(request: Request, disk: Disk) -> str:
    if disk.device == "floppy":
        return "fdc"
    if disk.device == "disk" and request.virtio("virtio-block"):
        return "virtio"
    if disk.device == "cdrom" and not request.is_x86 and request.virtio("virtio-scsi"):
        return "scsi"
    if request.is_x86:
        return "sata" if request.is_q35 else "ide"
    return "sd" if request.arch in ("armv7l", "aarch64") and not request.is_arm_virt else "usb"


def _target(bus: str, used: set[str]) -> str:
    prefix, limit = {"virtio": ("vd", 1024), "xen": ("xvd", 1024), "fdc": ("fd", 2), "ide": ("hd", 4)}.get(
        bus, ("sd", 1024)
    )
    names = [f"{prefix}{_letters(number)}" for number in range(limit)]
    last = max((number for number, name in enumerate(names) if name in used), default=-1)
    # behind the last; a gap before it is filled where there is nothing behind
    for name in [*names[last + 1 :], *names]:
        if name not in used:
            return name
    raise ConfigUnsupported(f"Only {limit} disks for bus '{bus}' are supported")


def _letters(number: int) -> str:
    """0 is "a", 26 is "aa"."""
    text = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def _interface(request: Request, host: Host, nic: Interface) -> None:
    if nic.type == "default":
        network.set_default_source(nic, host)
    mac = part(nic, "mac", MacAddress)
    if mac.address is None:
        mac.address = network.free_mac(host)
    if nic.type == "bridge":
        source = part(nic, "source", InterfaceSource)
        source.bridge = source.bridge or network.default_bridge(host)
    if nic.model is None or nic.model.type is None:
        model = _net_model(request)
        if model is not None:
            part(nic, "model", Model).type = model


def _net_model(request: Request) -> str | None:
    if not request.is_hvm:
        return None
    if request.virtio("virtio-net"):
        return "virtio"
    if request.is_q35:
        return "e1000e"
    if not request.is_x86:
        return None
    return next((model for model in _NET_MODELS if request.os.supports(model)), "e1000")


# -- spice


def _sound_model(request: Request) -> str:
    return "ich9" if request.is_pcie else "ich6"


def fill_spice(request: Request, caps: DomainCaps) -> None:
    """What goes with a spice display: the agent's channel, sound, USB devices of the viewer's machine."""
    dev = request.domain.dev
    if request.is_x86:
        features = part(request.domain, "features", Features)
        if features.vmport is None:
            features.vmport = State(state=False)
    if "channel" not in request.without and not any(c.type == "spicevmc" for c in dev.channels):
        dev.channels.append(Channel(type="spicevmc", target=CharTarget(type="virtio", name=SPICE)))
    if not dev.sounds and "sound" not in request.without:
        dev.sounds.append(Sound(model=_sound_model(request)))
    usb = [c for c in dev.controllers if c.type == "usb"]
    usb_off = bool(usb) and all(c.model == "none" for c in usb)
    # a daemon that says that it has none gets none
    refused = caps.has_element("devices/redirdev") and not caps.supported("devices/redirdev")
    if not dev.redirdevs and "redirdev" not in request.without and request.is_x86 and not usb_off and not refused:
        dev.redirdevs += [Redirdev(bus="usb", type="spicevmc") for _ in range(2)]


def address(text: str) -> Address:
    """A PCI address as people write it: "0:0:4.0", "0:4", "4"."""
    head, _, function = text.partition(".")
    numbers = [int(part_, 16) for part_ in head.split(":")]
    numbers = [0] * (3 - len(numbers)) + numbers
    return Address(type="pci", domain=numbers[0], bus=numbers[1], slot=numbers[2], function=int(function or "0", 16))
