"""<domain>: a guest's whole configuration, in libvirt's order."""

from __future__ import annotations

from typing import Any, Self

from guesthouse.model.devices.audio import Audio, Sound
from guesthouse.model.devices.chardev import Channel, Console, Parallel, Serial
from guesthouse.model.devices.disk import Disk, DiskSource
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.graphics import Graphics, Video
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.platform import Iommu, Memory, Panic
from guesthouse.model.devices.redirected import Redirdev, RedirFilter, Shmem, Smartcard
from guesthouse.model.devices.simple import Controller, Hub, Input, MemBalloon, Other, Rng, Watchdog
from guesthouse.model.devices.tpm import Tpm
from guesthouse.model.devices.vsock import Vsock
from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Content,
    Element,
    Flag,
    Int,
    OnOff,
    Raw,
    Size,
    Text,
    UInt,
    UInt32,
    Uuid,
)
from guesthouse.model.launch_security import LaunchSecurity
from guesthouse.model.memory import MaxMemory, MemoryBacking, Numatune
from guesthouse.model.numa import Cell, Numa
from guesthouse.model.qemu_namespace import QemuNamespace
from guesthouse.model.sysinfo import SysInfo
from guesthouse.model.threads import DefaultIoThread, IoThreadIds, Vcpus
from guesthouse.model.tuning import BlkioTune, CpuTune, MemTune

ACTIONS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset")
#: Families of devices that are kept but not yet given to QEMU, by tag, in libvirt's order of output.
OTHERS = (
    *("lease", "filesystem", "smartcard", "tpm", "hostdev", "redirdev", "redirfilter", "nvram", "panic", "shmem"),
    *("memory", "iommu", "vsock", "crypto"),
)


class Vcpu(Element, tag="vcpu"):
    """How many processors; ``current`` of them plugged in."""

    placement: str | None = Attr("placement", Choice("static", "auto"))
    cpuset: str | None = Attr("cpuset")
    current: int | None = Attr("current", UInt)
    value: int | None = Content(UInt)


class OsType(Element, tag="type"):
    arch: str | None = Attr("arch", alias=("arch",))
    machine: str | None = Attr("machine", alias=("machine",))
    value: str | None = Content(key="os_type")


class BootDevice(Element, tag="boot"):
    dev: str | None = Attr("dev", Choice("fd", "hd", "cdrom", "network"), required=True)


class BootMenu(Element, tag="bootmenu"):
    enable: bool | None = Attr("enable", Bool, alias=("menu",))
    timeout: int | None = Attr("timeout", UInt)


class Bios(Element, tag="bios", hollow=True):
    use_serial: bool | None = Attr("useserial", Bool, alias=("useserial",))
    reboot_timeout: int | None = Attr("rebootTimeout", Int(-1, 65535), alias=("rebootTimeout",))


class Loader(Element, tag="loader"):
    readonly: bool | None = Attr("readonly", Bool, alias=("loader_ro",))
    secure: bool | None = Attr("secure", Bool, alias=("loader_secure",))
    type: str | None = Attr("type", Choice("rom", "pflash"), alias=("loader_type",))
    stateless: bool | None = Attr("stateless", Bool)
    path: str | None = Content()


class Nvram(Element, tag="nvram"):
    """Where the firmware's variables are kept: a file, or the disk source of <source> (``type`` says which kind)."""

    template: str | None = Attr("template", alias=("nvram_template",))
    type: str | None = Attr("type", Choice("file", "block", "network"))
    source: DiskSource | None = Child(DiskSource)
    path: str | None = Content()

    @property
    def file(self) -> str | None:
        """The path on this host, None where there is none."""
        if self.source is None:
            return (self.path or "").strip() or None
        return self.source.file or self.source.dev


class Smbios(Element, tag="smbios"):
    mode: str | None = Attr("mode", Choice("emulate", "host", "sysinfo"), alias=("smbios_mode",))


class FirmwareFeature(Element, tag="feature"):
    enabled: bool | None = Attr("enabled", Bool)
    name: str | None = Attr("name", required=True)


class Firmware(Element, tag="firmware"):
    """What the firmware that is chosen must have."""

    features: list[FirmwareFeature] = Children(FirmwareFeature)

    def wish(self, name: str) -> bool | None:
        """Whether it must or must not have a feature; None where either will do."""
        return next((feature.enabled for feature in self.features if feature.name == name), None)


class AcpiTable(Element, tag="table"):
    type: str | None = Attr("type", Choice("slic"), required=True)
    path: str | None = Content()


class Acpi(Element, tag="acpi", hollow=True):
    tables: list[AcpiTable] = Children(AcpiTable)


class Os(Element, tag="os"):
    """How the guest boots."""

    firmware: str | None = Attr("firmware", Choice("bios", "efi"))
    type: OsType | None = Child(OsType)
    firmware_features: Firmware | None = Child(Firmware)
    loader: Loader | None = Child(Loader)
    nvram: Nvram | None = Child(Nvram)
    kernel: str | None = Text("kernel", alias=("kernel",))
    initrd: str | None = Text("initrd", alias=("initrd",))
    cmdline: str | None = Text("cmdline", alias=("kernel_args", "extra_args"))
    dtb: str | None = Text("dtb")
    root: str | None = Text("root")
    acpi: Acpi | None = Child(Acpi)
    boots: list[BootDevice] = Children(BootDevice)
    bootmenu: BootMenu | None = Child(BootMenu)
    bios: Bios | None = Child(Bios)
    smbios: Smbios | None = Child(Smbios)


class State(Element):
    """A feature that is on or off."""

    state: bool | None = Attr("state", OnOff)


class Switch(Element):
    """Likewise, where the document must say which."""

    state: bool | None = Attr("state", OnOff, required=True)


class Apic(Element, tag="apic"):
    eoi: bool | None = Attr("eoi", OnOff, alias=("eoi",))


class Spinlocks(Switch):
    retries: int | None = Attr("retries", UInt32)


class SyntheticTimer(Switch):
    direct: Switch | None = Child(Switch, "direct")


class TlbFlush(Switch):
    direct: Switch | None = Child(Switch, "direct")
    extended: Switch | None = Child(Switch, "extended")


class VendorId(Switch):
    value: str | None = Attr("value")


class Hyperv(Element, tag="hyperv", paired=True):
    """Enlightenments: what Windows finds on Hyper-V."""

    mode: str | None = Attr("mode", Choice("custom", "passthrough"))
    relaxed: Switch | None = Child(Switch, "relaxed")
    vapic: Switch | None = Child(Switch, "vapic")
    spinlocks: Spinlocks | None = Child(Spinlocks, "spinlocks")
    vpindex: Switch | None = Child(Switch, "vpindex")
    runtime: Switch | None = Child(Switch, "runtime")
    synic: Switch | None = Child(Switch, "synic")
    stimer: SyntheticTimer | None = Child(SyntheticTimer, "stimer")
    reset: Switch | None = Child(Switch, "reset")
    vendor_id: VendorId | None = Child(VendorId, "vendor_id")
    frequencies: Switch | None = Child(Switch, "frequencies")
    reenlightenment: Switch | None = Child(Switch, "reenlightenment")
    tlbflush: TlbFlush | None = Child(TlbFlush, "tlbflush")
    ipi: Switch | None = Child(Switch, "ipi")
    evmcs: Switch | None = Child(Switch, "evmcs")
    avic: Switch | None = Child(Switch, "avic")
    emsr_bitmap: Switch | None = Child(Switch, "emsr_bitmap")
    xmm_input: Switch | None = Child(Switch, "xmm_input")


class DirtyRing(Switch):
    size: int | None = Attr("size", UInt32)


class KvmFeatures(Element, tag="kvm", paired=True):
    """What KVM shows of itself."""

    hidden: Switch | None = Child(Switch, "hidden")
    hint_dedicated: Switch | None = Child(Switch, "hint-dedicated")
    poll_control: Switch | None = Child(Switch, "poll-control")
    pv_ipi: Switch | None = Child(Switch, "pv-ipi")
    dirty_ring: DirtyRing | None = Child(DirtyRing, "dirty-ring")


class Gic(Element, tag="gic"):
    version: str | None = Attr("version", alias=("gic_version",))


class Ioapic(Element, tag="ioapic", hollow=True):
    driver: str | None = Attr("driver", Choice("kvm", "qemu"))


class Tseg(Element, tag="tseg"):
    """Memory for system management mode; ``unit`` says in what."""

    unit: str | None = Attr("unit")
    value: int | None = Content(UInt)


class Smm(State):
    tseg: Tseg | None = Child(Tseg)


class Msrs(Element, tag="msrs"):
    unknown: str | None = Attr("unknown", Choice("ignore", "fault"), required=True)


class TbCache(Element, tag="tb-cache"):
    unit: str | None = Attr("unit")
    value: int | None = Content(UInt)


class Tcg(Element, tag="tcg", hollow=True):
    """How much memory translated code may take."""

    tb_cache: TbCache | None = Child(TbCache)


class XenPassthrough(Switch):
    mode: str | None = Attr("mode", Choice("sync_pt", "share_pt"))


class XenFeatures(Element, tag="xen", paired=True):
    """What Xen would show; QEMU's guests do not see it."""

    e820_host: Switch | None = Child(Switch, "e820_host")
    passthrough: XenPassthrough | None = Child(XenPassthrough, "passthrough")


class Hpt(Element, tag="hpt", hollow=True):
    """The page tables of POWER machines."""

    resizing: str | None = Attr("resizing", Choice("enabled", "disabled", "required"))
    maxpagesize: int | None = Size("maxpagesize", keep="KiB", unit="bytes")


class Capabilities(Element, tag="capabilities"):
    """What a container may do; QEMU's guests are none."""

    policy: str | None = Attr("policy", Choice("default", "allow", "deny"))


class Features(Element, tag="features", hollow=True):
    """What the platform has."""

    acpi: bool = Flag("acpi")
    apic: Apic | None = Child(Apic)
    pae: bool = Flag("pae")
    hap: State | None = Child(State, "hap")
    viridian: bool = Flag("viridian")
    privnet: bool = Flag("privnet")
    hyperv: Hyperv | None = Child(Hyperv)
    kvm: KvmFeatures | None = Child(KvmFeatures)
    xen: XenFeatures | None = Child(XenFeatures)
    pvspinlock: State | None = Child(State, "pvspinlock")
    capabilities: Capabilities | None = Child(Capabilities)
    pmu: State | None = Child(State, "pmu")
    vmport: State | None = Child(State, "vmport")
    gic: Gic | None = Child(Gic)
    smm: Smm | None = Child(Smm, "smm")
    ioapic: Ioapic | None = Child(Ioapic)
    hpt: Hpt | None = Child(Hpt)
    vmcoreinfo: State | None = Child(State, "vmcoreinfo")
    msrs: Msrs | None = Child(Msrs)
    tcg: Tcg | None = Child(Tcg)


class CpuModel(Element, tag="model"):
    fallback: str | None = Attr("fallback", Choice("allow", "forbid"))
    vendor_id: str | None = Attr("vendor_id")
    name: str | None = Content(alias=("model",))


class Topology(Element, tag="topology"):
    sockets: int | None = Attr("sockets", UInt)
    dies: int | None = Attr("dies", UInt)
    cores: int | None = Attr("cores", UInt)
    threads: int | None = Attr("threads", UInt)


class CpuCache(Element, tag="cache"):
    level: int | None = Attr("level", UInt)
    mode: str | None = Attr("mode", Choice("emulate", "passthrough", "disable"))


class MaxPhysAddr(Element, tag="maxphysaddr"):
    mode: str | None = Attr("mode", Choice("passthrough", "emulate"), required=True)
    bits: int | None = Attr("bits", UInt)
    limit: int | None = Attr("limit", UInt)


class CpuFeature(Element, tag="feature"):
    policy: str | None = Attr("policy", Choice("force", "require", "optional", "disable", "forbid"))
    name: str | None = Attr("name", required=True)


class Cpu(Element, tag="cpu"):
    """The processor that the guest sees."""

    mode: str | None = Attr("mode", Choice("custom", "host-model", "host-passthrough", "maximum"))
    match: str | None = Attr("match", Choice("minimum", "exact", "strict"))
    check: str | None = Attr("check", Choice("none", "partial", "full"))
    migratable: bool | None = Attr("migratable", OnOff)
    model: CpuModel | None = Child(CpuModel)
    vendor: str | None = Text("vendor")
    topology: Topology | None = Child(Topology)
    cache: CpuCache | None = Child(CpuCache)
    maxphysaddr: MaxPhysAddr | None = Child(MaxPhysAddr)
    features: list[CpuFeature] = Children(CpuFeature)
    numa: Numa | None = Child(Numa)

    @property
    def is_default(self) -> bool:
        """Whether it is left to the emulator what it is, and no more is said than how many there are."""
        return self.mode in (None, "custom") and (self.model is None or self.model.name is None)


class Timer(Element, tag="timer"):
    name: str | None = Attr("name", required=True)
    present: bool | None = Attr("present", Bool)
    tickpolicy: str | None = Attr("tickpolicy", Choice("delay", "catchup", "merge", "discard"))
    track: str | None = Attr("track", Choice("boot", "guest", "wall", "realtime"))
    frequency: int | None = Attr("frequency", UInt)
    mode: str | None = Attr("mode", Choice("auto", "native", "emulate", "paravirt", "smpsafe"))


class Clock(Element, tag="clock"):
    offset: str | None = Attr("offset", Choice("utc", "localtime", "variable", "timezone", "absolute"))
    adjustment: str | None = Attr("adjustment")
    basis: str | None = Attr("basis")
    timezone: str | None = Attr("timezone")
    start: int | None = Attr("start", Int(0, 253402300799))
    timers: list[Timer] = Children(Timer)


class PmState(Element, hollow=True):
    enabled: bool | None = Attr("enabled", Bool)


class Pm(Element, tag="pm", hollow=True):
    suspend_to_mem: PmState | None = Child(PmState, "suspend-to-mem", key="suspend_to_mem")
    suspend_to_disk: PmState | None = Child(PmState, "suspend-to-disk", key="suspend_to_disk")


class Resource(Element, tag="resource"):
    partition: str | None = Text("partition")


class Seclabel(Element, tag="seclabel"):
    type: str | None = Attr("type")
    model: str | None = Attr("model")
    relabel: bool | None = Attr("relabel", Bool)
    label: str | None = Text("label")
    imagelabel: str | None = Text("imagelabel")
    baselabel: str | None = Text("baselabel")


class Devices(Element, tag="devices"):
    """Everything that is plugged in."""

    emulator: str | None = Text("emulator", alias=("emulator",))
    disks: list[Disk] = Children(Disk)
    controllers: list[Controller] = Children(Controller)
    leases: list[Other] = Children(Other, "lease")
    filesystems: list[Filesystem] = Children(Filesystem)
    interfaces: list[Interface] = Children(Interface)
    smartcards: list[Smartcard] = Children(Smartcard)
    serials: list[Serial] = Children(Serial)
    parallels: list[Parallel] = Children(Parallel)
    consoles: list[Console] = Children(Console)
    channels: list[Channel] = Children(Channel)
    inputs: list[Input] = Children(Input)
    tpms: list[Tpm] = Children(Tpm)
    graphics: list[Graphics] = Children(Graphics)
    sounds: list[Sound] = Children(Sound)
    audios: list[Audio] = Children(Audio)
    videos: list[Video] = Children(Video)
    hostdevs: list[Hostdev] = Children(Hostdev)
    redirdevs: list[Redirdev] = Children(Redirdev)
    redirfilters: list[RedirFilter] = Children(RedirFilter)
    hubs: list[Hub] = Children(Hub)
    watchdogs: list[Watchdog] = Children(Watchdog)
    memballoon: MemBalloon | None = Child(MemBalloon)
    rngs: list[Rng] = Children(Rng)
    nvrams: list[Other] = Children(Other, "nvram")
    panics: list[Panic] = Children(Panic)
    shmems: list[Shmem] = Children(Shmem)
    memories: list[Memory] = Children(Memory)
    iommus: list[Iommu] = Children(Iommu)
    vsocks: list[Vsock] = Children(Vsock)
    cryptos: list[Other] = Children(Other, "crypto")

    def unmodelled(self) -> list[str]:
        """Tags of devices that are kept but cannot be given to a guest."""
        found = [spec.tag for spec in self.SPECS if spec.element is Other and getattr(self, spec.name)]
        return found + [str(node.tag) for node in self.extra_nodes]


class Domain(Element, tag="domain"):
    """A guest. Memory is in KiB. ``id`` stands in live documents alone."""

    type: str | None = Attr("type", required=True)
    id: int | None = Attr("id", Int)
    name: str | None = Text("name")
    uuid: str | None = Text("uuid", Uuid)
    genid: str | None = Text("genid")
    title: str | None = Text("title")
    description: str | None = Text("description")
    metadata: object = Raw("metadata")
    max_memory: MaxMemory | None = Child(MaxMemory)
    memory: int | None = Size("memory")
    current_memory: int | None = Size("currentMemory")
    blkiotune: BlkioTune | None = Child(BlkioTune)
    memtune: MemTune | None = Child(MemTune)
    memory_backing: MemoryBacking | None = Child(MemoryBacking)
    vcpu: Vcpu | None = Child(Vcpu)
    vcpus: Vcpus | None = Child(Vcpus)
    iothreads: int | None = Text("iothreads", UInt)
    iothreadids: IoThreadIds | None = Child(IoThreadIds)
    default_iothread: DefaultIoThread | None = Child(DefaultIoThread)
    cputune: CpuTune | None = Child(CpuTune)
    numatune: Numatune | None = Child(Numatune)
    resource: Resource | None = Child(Resource)
    sysinfos: list[SysInfo] = Children(SysInfo)
    os: Os | None = Child(Os)
    idmap: object = Raw("idmap")
    features: Features | None = Child(Features)
    cpu: Cpu | None = Child(Cpu)
    clock: Clock | None = Child(Clock)
    on_poweroff: str | None = Text("on_poweroff", Choice(*ACTIONS))
    on_reboot: str | None = Text("on_reboot", Choice(*ACTIONS))
    on_crash: str | None = Text("on_crash", Choice(*ACTIONS))
    on_lockfailure: str | None = Text("on_lockfailure", Choice("poweroff", "restart", "pause", "ignore"))
    pm: Pm | None = Child(Pm)
    perf: object = Raw("perf")
    devices: Devices | None = Child(Devices)
    seclabels: list[Seclabel] = Children(Seclabel)
    launch_security: LaunchSecurity | None = Child(LaunchSecurity)

    def _reset(self) -> None:
        super()._reset()
        self.__dict__["dump_core"] = None
        self.__dict__["qemu"] = None

    #: Whether a dump of the host's process holds the guest's memory.
    dump_core: bool | None = None
    #: What is said to QEMU itself.
    qemu: QemuNamespace | None = None

    @classmethod
    def _parse(cls, node: Any) -> Self:
        self = super()._parse(node)
        memory = node.find("memory")
        if memory is not None and memory.get("dumpCore") is not None:
            self.dump_core = OnOff.parse(memory.get("dumpCore"))
        self.qemu = QemuNamespace.take(self.extra_nodes)
        return self

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        """An attribute of <memory>, which has a size else, and QEMU's own elements at the end."""
        body: list[str] = []
        super()._write(body, indent, tag, secrets)
        if self.dump_core is not None:
            at = next(i for i, line in enumerate(body) if line.startswith(f"{indent}  <memory "))
            body[at] = body[at].replace("<memory", f"<memory dumpCore='{OnOff.format(self.dump_core)}'", 1)
        if self.qemu is not None:
            body[0] = body[0].replace(">", f" xmlns:qemu='{self.qemu.URI}'>", 1)
            body.insert(-1, self.qemu.lines(indent + "  "))
        out += body

    @property
    def dev(self) -> Devices:
        """The devices; made where the document has none."""
        if self.devices is None:
            self.devices = Devices()
        return self.devices

    @property
    def machine(self) -> str:
        """The machine type, "" before one is chosen."""
        return (self.os and self.os.type and self.os.type.machine) or ""

    @property
    def arch(self) -> str:
        return (self.os and self.os.type and self.os.type.arch) or ""

    @property
    def cpu_count(self) -> int:
        """Processors at most."""
        return (self.vcpu and self.vcpu.value) or 1

    @property
    def cells(self) -> list[Cell]:
        """The nodes that the guest sees; none where it sees none."""
        return self.cpu.numa.cells if self.cpu is not None and self.cpu.numa is not None else []

    @property
    def initial_memory(self) -> int:
        """KiB without memory modules."""
        return (self.memory or 0) - sum(module.size for module in self.dev.memories)

    @property
    def is_q35(self) -> bool:
        return self.machine == "q35" or self.machine.startswith("pc-q35")

    @property
    def is_i440fx(self) -> bool:
        return self.machine == "pc" or self.machine.startswith("pc-i440fx")
