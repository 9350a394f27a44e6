"""What libvirt adds to a guest's document when it is defined, so that ours reads the same. Pure.

Values and their order of appearance are libvirt 9.0's for QEMU on x86 (qemu_domain.c, domain_postparse.c).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import (
    address_rules,
    addresses,
    board,
    character_rules,
    companions,
    controller_rules,
    device_rules,
    disk_rules,
    feature_rules,
    hostdev_rules,
    interface_rules,
    metadata,
    processor_rules,
    screen_rules,
    security_rules,
    simple_rules,
    tuning_rules,
)
from guesthouse.model.devices.simple import Controller, ControllerMaster
from guesthouse.model.domain import BootDevice, Cpu, CpuModel, Domain, Vcpu
from guesthouse.model.inactive import forget_run

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
    #: How many processors a machine of a canonical name has room for; nothing of those that are not in it.
    most_cpus: dict[str, int] = field(default_factory=dict)
    #: The processor of a guest that names none, by its machine; else it is ``default_cpu``.
    machine_cpus: dict[str, str] = field(default_factory=dict)
    default_machine: str = "pc"
    default_cpu: str = "qemu64"
    host_arch: str = "x86_64"
    #: Where the variables of guests' firmware are kept.
    nvram_folder: str = "/var/lib/libvirt/qemu/nvram"
    #: Where running guests' sockets are made.
    run_folder: str = "/run/libvirt/qemu"
    #: Whether the host's processor can keep guests' memory from it (AMD's SEV).
    sev: bool = True


def prepare(domain: Domain, host: GuestDefaults) -> None:
    """Complete a document from outside, and check what only the whole shows. Raises the errors that libvirtd gives."""
    forget_run(domain, host.run_folder)
    _identity(domain)
    _machine(domain, host)
    address_rules.read(domain)
    processor_rules.read(domain)
    security_rules.labels(domain)
    security_rules.of_containers(domain)
    board.memory(domain)
    _basics(domain)
    board.threads(domain)
    tuning_rules.prepare(domain)
    board.firmware(domain, host.nvram_folder)
    feature_rules.features(domain)
    feature_rules.clock(domain)
    feature_rules.actions(domain)
    board.sysinfo(domain)
    _cpu(domain, host)
    dev = domain.dev
    if dev.emulator is None:
        dev.emulator = host.emulators[domain.arch]
    disk_rules.complete(domain)
    interface_rules.complete(domain)
    character_rules.complete(domain)
    screen_rules.complete(domain)
    simple_rules.complete(domain)
    companions.prepare(domain)
    _read_controllers(domain)
    hostdev_rules.complete(domain)
    device_rules.complete(domain)
    for rng in dev.rngs:
        if rng.backend is not None and rng.backend.model == "random":
            rng.backend.device = rng.backend.device or "/dev/random"
    _controllers(domain)
    board.devices(domain)
    _unique(domain)
    addresses.assign_addresses(domain)
    board.modules(domain)
    hostdev_rules.check(domain)
    address_rules.check(domain)
    controller_rules.check_whole(domain)
    interface_rules.check(domain)
    most = host.most_cpus.get(domain.machine)
    if most is not None and domain.cpu_count > most:
        raise ConfigUnsupported(f"Maximum CPUs greater than specified machine type limit {most}")
    if domain.cpu is not None:
        processor_rules.check(domain.cpu)
    security_rules.mapped_users(domain)
    security_rules.others(domain, sev=host.sev)
    screen_rules.check(domain)
    character_rules.check(domain)
    simple_rules.check(domain)


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
    if domain.genid is not None and domain.genid.strip():
        try:
            domain.genid = units.parse_uuid(domain.genid)
        except XMLError:
            raise InternalError("malformed genid element", domain=ErrorDomain.DOMAIN) from None
    elif domain.genid is not None:
        domain.genid = units.new_uuid()
    if domain.metadata is not None:
        domain.metadata = metadata.named(domain.metadata)
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
    boots = [boot for d in address_rules.each_device(domain) if (boot := getattr(d, "boot", None)) is not None]
    orders = [boot.order for boot in boots if boot.order is not None]
    if orders and domain.os is not None and domain.os.boots:
        raise ConfigUnsupported(
            "per-device boot elements cannot be used together with os/boot elements", domain=ErrorDomain.DOMAIN
        )
    for order in orders:
        if orders.count(order) > 1:
            text = f"boot order '{order}' used for more than one device"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
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
            cpu.model = CpuModel(
                fallback="forbid", vendor_id=maker, name=host.machine_cpus.get(domain.machine, host.default_cpu)
            )
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
    for feature in cpu.features:
        feature.policy = feature.policy or "require"


def _read_controllers(domain: Domain) -> None:
    """Put those of the document in order."""
    controllers = domain.dev.controllers
    controller_rules.check(domain)
    for controller in controllers:
        if controller.model in _UHCI_FIRST_PORT and controller.master is None:
            controller.master = ControllerMaster(startport=_UHCI_FIRST_PORT[controller.model])
        if controller.type == "pci" and controller.model in ("pci-root", "pcie-root"):
            controller.index = 0
    controllers[:] = in_order(controllers)


def _controllers(domain: Domain) -> None:
    """Number those that have no index, and add those that the machine and the devices need."""
    dev = domain.dev
    for controller in dev.controllers:
        if controller.index is None:
            used = {c.index for c in dev.controllers if c.type == controller.type and not _companion(c, controller)}
            controller.index = next(n for n in range(1000) if n not in used)
    controller_rules.check_root(domain)
    for controller in dev.controllers:
        if controller.type == "usb" and controller.model is None:
            controller.model = "piix3-uhci"  # also on q35, where one that nobody asked for is another
        elif controller.type == "scsi" and controller.model is None:
            controller.model = "lsilogic"

    def need(kind: str, index: int = 0, model: str | None = None) -> None:
        if not any(c.type == kind and c.index == index for c in dev.controllers):
            dev.controllers.append(Controller(type=kind, index=index, model=model))

    if domain.machine != "isapc":
        need("usb", model="qemu-xhci" if domain.is_q35 else "piix3-uhci")
    if domain.is_q35:
        need("sata")
        need("pci", model="pcie-root")
    elif domain.is_i440fx:
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
    a document that libvirt has read, where those without an index follow the others. What it adds to a definition
    stands at the end until it is read again."""
    ordered: list[Controller] = []
    for controller in controllers:
        ordered.insert(_position(ordered, controller), controller)
    return ordered


def _position(ordered: list[Controller], new: Controller) -> int:
    """Where ``new`` goes: looked for from the end."""
    found = None
    for at, other in reversed(list(enumerate(ordered))):
        if other.type != new.type:
            continue
        if new.index is None:
            return at + 1
        index = -1 if other.index is None else other.index
        leads = index == new.index and new.master is None and other.master is not None
        if index > new.index or leads:
            found = at
        elif found is None:
            found = at + 1
    return len(ordered) if found is None else found


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
