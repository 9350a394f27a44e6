"""What libvirt adds to a guest's document when it is defined, so that ours reads the same. Pure.

Values and their order of appearance are libvirt 9.0's for QEMU on x86 (qemu_domain.c, domain_postparse.c).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import (
    addresses,
    bandwidth,
    board,
    companions,
    controller_rules,
    device_rules,
    disk_rules,
    tuning_rules,
)
from guesthouse.model.devices.chardev import CharModel, CharTarget, Console, Serial
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics, Listen, Video, VideoModel
from guesthouse.model.devices.interface import Interface, MacAddress, Model
from guesthouse.model.devices.simple import Controller, ControllerMaster, Input, MemBalloon
from guesthouse.model.domain import BootDevice, Clock, Cpu, CpuModel, Domain, Vcpu
from guesthouse.model.inactive import forget_run

_MOMENT = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_VNC_PASSWORD_MAX = 8
# where libvirt makes sockets of its own choice: they are not the user's wish
_GENERATED = "/var/lib/libvirt/qemu/"
_UHCI_FIRST_PORT = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}


class MissingName(GuesthouseError):
    """libvirt error 21: a document without the object's name."""

    code = 21
    bare = "missing name information"
    prefix = "missing name information in "
    default_domain = ErrorDomain.DOMAIN


class NoOs(GuesthouseError):
    """libvirt error 22."""

    code = 22
    bare = "missing operating system information"
    prefix = "missing operating system information for "
    default_domain = ErrorDomain.DOMAIN


@dataclass
class GuestDefaults:
    """What the emulators of a host bring: ``emulators`` by architecture, ``machines`` maps each name and alias to the
    canonical name, ``default_machine`` by architecture, ``cpus`` the CPU of a guest that names none."""

    emulators: dict[str, str] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    default_machine: str = "pc"
    default_cpu: str = "qemu64"
    host_arch: str = "x86_64"
    #: Where the variables of guests' firmware are kept.
    nvram_folder: str = "/var/lib/libvirt/qemu/nvram"
    #: Where running guests' sockets are made.
    run_folder: str = "/run/libvirt/qemu"


def prepare(domain: Domain, host: GuestDefaults) -> None:
    """Complete a document from outside, and check what only the whole shows. Raises the errors that libvirtd gives."""
    forget_run(domain, host.run_folder)
    _identity(domain)
    _machine(domain, host)
    board.memory(domain)
    _basics(domain)
    board.threads(domain)
    tuning_rules.prepare(domain)
    board.firmware(domain, host.nvram_folder)
    board.features(domain)
    board.clock(domain)
    board.sysinfo(domain)
    _cpu(domain, host)
    if domain.features is not None and domain.features.hyperv is not None:
        domain.features.hyperv.mode = domain.features.hyperv.mode or "custom"
    dev = domain.dev
    if dev.emulator is None:
        dev.emulator = host.emulators[domain.arch]
    disk_rules.complete(domain)
    for nic in dev.interfaces:
        _interface(nic)
    _characters(domain)
    _screen(domain)
    _inputs(domain)
    companions.prepare(domain)
    device_rules.complete(domain)
    for watchdog in dev.watchdogs:
        watchdog.action = watchdog.action or "reset"
    for rng in dev.rngs:
        if rng.backend is not None and rng.backend.model == "random":
            rng.backend.device = rng.backend.device or "/dev/random"
    _controllers(domain)
    if dev.memballoon is None:
        dev.memballoon = MemBalloon(model="virtio")
    board.devices(domain)
    _unique(domain)
    addresses.assign_addresses(domain)
    board.modules(domain)


def _identity(domain: Domain) -> None:
    if domain.type not in ("qemu", "kvm"):
        raise ConfigUnsupported(f"invalid domain type {domain.type}", domain=ErrorDomain.DOMAIN)
    if not domain.name:
        raise MissingName()
    if "/" in domain.name or domain.name in (".", ".."):
        raise XMLError(f"name {domain.name} cannot contain '/'", domain=ErrorDomain.DOMAIN)
    if "\n" in domain.name:
        raise XMLError("name cannot contain a line break", domain=ErrorDomain.DOMAIN)
    if domain.uuid is None:
        domain.uuid = units.new_uuid()
    if domain.genid is not None:
        domain.genid = units.parse_uuid(domain.genid) if domain.genid.strip() else units.new_uuid()
    if domain.title is not None and "\n" in domain.title:
        raise XMLError("Domain title can't contain newlines", domain=ErrorDomain.DOMAIN)
    domain.id = None


def _machine(domain: Domain, host: GuestDefaults) -> None:
    if domain.os is None or domain.os.type is None or not domain.os.type.value:
        raise NoOs() if domain.os is None else XMLError("an os <type> must be specified", domain=ErrorDomain.DOMAIN)
    kind = domain.os.type
    if kind.value != "hvm":
        raise ConfigUnsupported(f"could not find capabilities for ostype={kind.value}", domain=ErrorDomain.CAPABILITIES)
    kind.arch = kind.arch or host.host_arch
    if kind.arch not in host.emulators:
        raise ConfigUnsupported(
            f"could not find capabilities for arch={kind.arch} domaintype={domain.type}; "
            f"install QEMU for it (qemu-system-*)",
            domain=ErrorDomain.CAPABILITIES,
        )
    name = kind.machine or host.default_machine
    if name not in host.machines:
        raise ConfigUnsupported(
            f"Emulator '{domain.dev.emulator or host.emulators[kind.arch]}' does not support machine type '{name}'"
        )
    kind.machine = host.machines[name]
    if not domain.os.boots and not _boot_orders(domain):
        domain.os.boots.append(BootDevice(dev="hd"))


def _boot_orders(domain: Domain) -> list[int]:
    devices: list[Disk | Interface] = [*domain.dev.disks, *domain.dev.interfaces]
    orders = [d.boot.order for d in devices if d.boot is not None and d.boot.order is not None]
    if orders and domain.os is not None and domain.os.boots:
        raise ConfigUnsupported(
            "per-device boot elements cannot be used together with os/boot elements", domain=ErrorDomain.DOMAIN
        )
    for order in orders:
        if orders.count(order) > 1:
            raise XMLError(f"boot order '{order}' used for more than one device", domain=ErrorDomain.DOMAIN)
    return orders


def _basics(domain: Domain) -> None:
    if not domain.memory:
        raise XMLError("Memory size must be specified via <memory> or in the <numa> configuration")
    if domain.current_memory is None or domain.current_memory > domain.memory:
        domain.current_memory = domain.memory
    if domain.vcpu is None:
        domain.vcpu = Vcpu()
    vcpu = domain.vcpu
    vcpu.placement = vcpu.placement or "static"
    if vcpu.value is None:
        vcpu.value = 1
    if vcpu.value < 1:
        raise XMLError("vCPU count can't be zero" if vcpu.value == 0 else "invalid vCPU count")
    if vcpu.current is not None:
        if vcpu.current > vcpu.value:
            raise InternalError(f"maxvcpus must not be less than current vcpus ({vcpu.value} < {vcpu.current})")
        if vcpu.current == vcpu.value:
            vcpu.current = None
    if domain.clock is None:
        domain.clock = Clock()
    domain.clock.offset = domain.clock.offset or "utc"
    ahead = domain.clock.adjustment
    if domain.clock.offset == "variable" and ahead is not None and not re.fullmatch(r"-?\d{1,11}", ahead):
        raise XMLError(f"Invalid value for attribute 'adjustment' in element 'clock': '{ahead}'")
    domain.on_poweroff = domain.on_poweroff or "destroy"
    domain.on_reboot = domain.on_reboot or "restart"
    domain.on_crash = domain.on_crash or "destroy"


def _cpu(domain: Domain, host: GuestDefaults) -> None:
    if domain.cpu is None:
        domain.cpu = Cpu()
    cpu = domain.cpu
    topology = cpu.topology
    if topology is not None:
        topology.dies = topology.dies or 1
        count = (topology.sockets or 1) * topology.dies * (topology.cores or 1) * (topology.threads or 1)
        if count != domain.cpu_count:
            raise ConfigUnsupported("CPU topology doesn't match maximum vcpu count", domain=ErrorDomain.DOMAIN)
    unnamed = cpu.model is None or not cpu.model.name
    if unnamed:
        if cpu.vendor is not None:
            raise XMLError("CPU vendor specified without CPU model", domain=ErrorDomain.CPU)
        maker = cpu.model.vendor_id if cpu.model is not None else None
        cpu.model = CpuModel(vendor_id=maker) if maker is not None else None
        if cpu.mode in (None, "custom"):
            cpu.mode, cpu.match, cpu.check = "custom", "exact", "none"
            cpu.model = CpuModel(fallback="forbid", vendor_id=maker, name=host.default_cpu)
            return
    cpu.mode = cpu.mode or "custom"
    if cpu.mode == "custom":
        cpu.match = cpu.match or "exact"
        # an emulated processor is not compared with the host's
        cpu.check = cpu.check or ("none" if domain.type == "qemu" else "partial")
        if cpu.model is not None:
            cpu.model.fallback = cpu.model.fallback or "allow"
    elif cpu.mode == "host-model":
        cpu.match = cpu.match if cpu.match == "strict" else None  # the others say nothing of it
        cpu.check = cpu.check or "partial"
        if cpu.model is not None and not unnamed:
            cpu.model.fallback = cpu.model.fallback or "allow"
    else:
        cpu.check = cpu.check or "none"
        cpu.match = cpu.model = cpu.vendor = None
        if cpu.migratable is None and cpu.mode == "host-passthrough":
            cpu.migratable = True
        if domain.type != "kvm" and cpu.mode == "host-passthrough":
            raise ConfigUnsupported(
                f"CPU mode 'host-passthrough' for {domain.arch} {domain.type} domain on {host.host_arch} host"
                " is not supported by hypervisor"
            )
    for feature in cpu.features:
        feature.policy = feature.policy or "require"


def _interface(nic: Interface) -> None:
    source = nic.source
    if nic.type == "network" and (source is None or not source.network):
        raise XMLError("No <source> 'network' attribute specified with <interface type='network'/>")
    if nic.type == "bridge" and (source is None or not source.bridge):
        raise XMLError("No <source> 'bridge' attribute specified with <interface type='bridge'/>")
    if nic.mac is None:
        nic.mac = MacAddress()
    if nic.mac.address is None:
        nic.mac.address = units.new_mac()
    elif int(nic.mac.address[:2], 16) & 1:
        raise XMLError(f"expected unicast mac address, found multicast '{nic.mac.address}'", domain=ErrorDomain.DOMAIN)
    if nic.model is None or nic.model.type is None:
        nic.model = Model(type="rtl8139")
    nic.bandwidth = bandwidth.check(nic.bandwidth, floor=nic.type == "network")
    # the host's end of what libvirt itself would name is chosen anew at each start
    if nic.target is not None and (nic.target.dev or "").startswith("vnet"):
        nic.target = None


def _characters(domain: Domain) -> None:
    dev = domain.dev
    ports = itertools.count(
        max((s.target.port for s in dev.serials if s.target and s.target.port is not None), default=-1) + 1
    )
    for serial in dev.serials:
        _serial(serial, next(ports) if serial.target is None or serial.target.port is None else serial.target.port)
    for index, console in enumerate(dev.consoles):
        if console.target is None:
            console.target = CharTarget()
        target = console.target
        target.type = target.type or "serial"
        target.port = index
    first = dev.consoles[0] if dev.consoles else None
    is_serial = first is not None and first.target is not None and first.target.type == "serial"
    if first is not None and is_serial and not dev.serials:
        # a console alone stands for a serial port
        serial = Serial(
            type=first.type, sources=[s.copy() for s in first.sources], log=first.log, protocol=first.protocol
        )
        _serial(serial, 0)
        dev.serials.append(serial)
    if dev.serials and not is_serial:
        dev.consoles.insert(0, Console(target=CharTarget(type="serial", port=0)))
        is_serial = True
    if dev.serials and is_serial:
        twin, serial = dev.consoles[0], dev.serials[0]
        twin.type = serial.type
        twin.sources = [s.copy() for s in serial.sources]
        twin.log = serial.log.copy() if serial.log else None
        twin.protocol = serial.protocol.copy() if serial.protocol else None
        twin.tty = None
    for index, parallel in enumerate(dev.parallels):
        if parallel.target is None:
            parallel.target = CharTarget()
        if parallel.target.port is None:
            parallel.target.port = index
    for channel in dev.channels:
        if channel.target is None or not channel.target.type:
            raise XMLError("target type must be specified for channel device", domain=ErrorDomain.DOMAIN)
        channel.target.state = None
        source = channel.source
        if channel.type == "unix" and source is not None:
            if not source.path:
                channel.sources.clear()  # bound to a path of the host's choice at each start
            elif source.mode is None:
                source.mode = "connect"


def _serial(serial: Serial, index: int) -> None:
    if serial.target is None:
        serial.target = CharTarget()
    target = serial.target
    target.type = target.type or "isa-serial"
    if target.port is None:
        target.port = index
    if target.model is None:
        model = {"isa-serial": "isa-serial", "pci-serial": "pci-serial", "usb-serial": "usb-serial"}
        model["isa-debug"] = "isa-debugcon"
        target.model = CharModel(name=model.get(target.type, target.type))


def _screen(domain: Domain) -> None:
    dev = domain.dev
    for graphics in dev.graphics:
        _graphics(graphics)
    if dev.graphics and not dev.videos:
        dev.videos.append(Video(model=VideoModel(type="cirrus")))
    primary = [video for video in dev.videos if video.model is not None and video.model.primary]
    if len(primary) > 1:
        raise ConfigUnsupported("Only one primary video device is supported")
    if primary:
        dev.videos.insert(0, dev.videos.pop(next(i for i, v in enumerate(dev.videos) if v is primary[0])))
    for index, video in enumerate(dev.videos):
        _video(video, primary=index == 0)


def _graphics(graphics: Graphics) -> None:
    if graphics.type not in ("vnc", "spice"):
        return
    if graphics.type == "vnc" and len(graphics.passwd or "") > _VNC_PASSWORD_MAX:
        raise ConfigUnsupported(
            f"VNC password is {len(graphics.passwd or '')} characters long, only {_VNC_PASSWORD_MAX} permitted"
        )
    if graphics.passwd_valid_to is not None and not _MOMENT.fullmatch(graphics.passwd_valid_to):
        raise XMLError(
            f"cannot parse password validity time '{graphics.passwd_valid_to}', expect YYYY-MM-DDTHH:MM:SS",
            domain=ErrorDomain.DOMAIN,
        )
    if graphics.socket is not None and not graphics.listens:
        graphics.listens.append(Listen(type="socket", socket=graphics.socket))
    for listen in graphics.listens:
        if listen.type == "socket" and (listen.socket or "").startswith(_GENERATED):
            listen.type, listen.socket, graphics.socket = "address", None, None
    first = graphics.listens[0] if graphics.listens else None
    if first is not None and first.type in ("socket", "none"):
        graphics.port = graphics.autoport = graphics.listen = None
        graphics.socket = first.socket if graphics.type == "vnc" else None
        return
    if graphics.type == "spice":
        _spice_ports(graphics)
    elif graphics.port in (0, -1):
        graphics.port = None
        graphics.autoport = True
    if graphics.autoport is None:
        graphics.autoport = graphics.port is None
    if graphics.autoport and graphics.type == "vnc":
        graphics.port = -1
    elif graphics.autoport:
        graphics.port = graphics.tls_port = None
    address = graphics.listen
    if not graphics.listens:
        graphics.listens.append(Listen(type="address", address=address))
    first = graphics.listens[0]
    if first.type == "address":
        if address is not None and first.address not in (None, address):
            raise XMLError(
                f"graphics 'listen' attribute '{address}' must match 'address' attribute of first listen element"
                f" (found '{first.address}')",
                domain=ErrorDomain.DOMAIN,
            )
        first.address = first.address or address
        graphics.listen = first.address
    else:
        graphics.listen = None


def _spice_ports(graphics: Graphics) -> None:
    """-1 for both, or for the plain port alone, is the host's choice."""
    if graphics.port == -1 and graphics.tls_port in (None, 0, -1):
        graphics.autoport = True
    graphics.port = None if graphics.port in (0, -1) else graphics.port
    graphics.tls_port = None if graphics.tls_port in (0, -1) else graphics.tls_port
    graphics.autoport = bool(graphics.autoport)


def _video(video: Video, primary: bool) -> None:
    if video.model is None:
        video.model = VideoModel(type="cirrus")
    model = video.model
    if model.type == "qxl":
        model.ram = model.ram or 65536
        model.vram = model.vram or 65536
        model.vgamem = model.vgamem or 16384
    elif model.type in ("vga", "cirrus", "vmvga", "bochs"):
        model.vram = model.vram or 16384
    if model.type != "none":
        model.heads = model.heads or 1
        if primary:
            model.primary = True


def _inputs(domain: Domain) -> None:
    inputs = domain.dev.inputs
    for item in inputs:
        if item.type == "evdev":
            item.bus = None
            continue
        item.bus = item.bus or ("ps2" if item.type in ("mouse", "keyboard") else "usb")
        if item.bus == "ps2" and item.type == "tablet":
            raise InternalError("ps2 bus does not support tablet input device", domain=ErrorDomain.DOMAIN)
    for kind in ("mouse", "keyboard"):
        if not any(item.type == kind and item.bus == "ps2" for item in inputs):
            inputs.append(Input(type=kind, bus="ps2"))


def _controllers(domain: Domain) -> None:
    """Number those that have no index, and add those that the machine and the devices need."""
    dev = domain.dev
    controller_rules.check(domain)
    dev.controllers[:] = in_order(dev.controllers)
    for controller in dev.controllers:
        if controller.model in _UHCI_FIRST_PORT and controller.master is None:
            controller.master = ControllerMaster(startport=_UHCI_FIRST_PORT[controller.model])
        if controller.type == "pci" and controller.model in ("pci-root", "pcie-root"):
            controller.index = 0
    for controller in dev.controllers:
        if controller.index is None:
            first = 1 if controller.type == "pci" else 0
            used = {c.index for c in dev.controllers if c.type == controller.type and not _companion(c, controller)}
            controller.index = next(n for n in range(first, 1000) if n not in used)
    for controller in dev.controllers:
        if controller.type == "usb" and controller.model is None:
            controller.model = "qemu-xhci" if domain.is_q35 else "piix3-uhci"
        elif controller.type == "scsi" and controller.model is None:
            controller.model = "lsilogic"

    def need(kind: str, index: int = 0, model: str | None = None) -> None:
        if not any(c.type == kind and c.index == index for c in dev.controllers):
            dev.controllers.append(Controller(type=kind, index=index, model=model))

    need("usb", model="qemu-xhci" if domain.is_q35 else "piix3-uhci")
    if domain.is_q35:
        need("sata")
        need("pci", model="pcie-root")
    else:
        need("pci", model="pci-root")
    for kind, bus in (("scsi", "scsi"), ("fdc", "fdc"), ("ide", "ide"), ("sata", "sata")):
        highest = max((d.address.controller or 0 for d in dev.disks if d.bus == bus and d.address), default=-1)
        for index in range(highest + 1):
            need(kind, index, "lsilogic" if kind == "scsi" else None)
    for device in [*dev.channels, *dev.consoles]:
        if device.target is not None and device.target.type == "virtio":
            need("virtio-serial", (device.address and device.address.controller) or 0)
    for card in dev.smartcards:
        need("ccid", (card.address and card.address.controller) or 0)
    scsi = [(d.address and d.address.controller) or 0 for d in dev.hostdevs if d.type == "scsi"]
    for index in range(max(scsi, default=-1) + 1):
        need("scsi", index, "lsilogic")


def _companion(one: Controller, other: Controller) -> bool:
    """ICH9 USB controllers of one bus share an index."""
    return (one.model or "").startswith("ich9-") and (other.model or "").startswith("ich9-") and one is not other


def in_order(controllers: list[Controller]) -> list[Controller]:
    """Those of a type together, by index, where the first of the type stands (virDomainControllerInsert): the order of
    a document that libvirt has read. What it adds to a definition stands at the end until it is read again."""
    ordered: list[Controller] = []
    for controller in controllers:
        same = [i for i, other in enumerate(ordered) if other.type == controller.type]
        at = next((i for i in same if (ordered[i].index or 0) > (controller.index or 0)), None)
        if at is None:
            at = same[-1] + 1 if same else len(ordered)
        ordered.insert(at, controller)
    return ordered


def _unique(domain: Domain) -> None:
    seen: set[str] = set()
    for disk in domain.dev.disks:
        if disk.dev in seen:
            raise XMLError(f"target '{disk.dev}' duplicated for disk sources", domain=ErrorDomain.DOMAIN)
        seen.add(disk.dev)
    places = set()
    for disk in domain.dev.disks:
        a = disk.address
        if a is not None and a.type == "drive":
            place = (disk.bus, a.controller, a.bus, a.target, a.unit)
            if place in places:
                raise XMLError(
                    f"Found duplicate drive address for disk with target name '{disk.dev}' controller='{a.controller}'"
                    f" bus='{a.bus}' target='{a.target}' unit='{a.unit}'",
                    domain=ErrorDomain.DOMAIN,
                )
            places.add(place)
