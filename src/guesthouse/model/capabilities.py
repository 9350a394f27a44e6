"""``<capabilities>`` and ``<domainCapabilities>``: what a host and its emulators offer, in libvirt 9.0's vocabulary
and element order.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    Uuid,
)

# -- the host's processor


class Version(Element, tag="microcode"):
    version: int | None = Attr("version", UInt)


class Counter(Element, tag="counter"):
    name: str | None = Attr("name")
    frequency: int | None = Attr("frequency", UInt)
    scaling: bool | None = Attr("scaling", Bool)


class Signature(Element, tag="signature"):
    """What the CPUID instruction says of an x86 processor."""

    family: int | None = Attr("family", UInt)
    model: int | None = Attr("model", UInt)
    stepping: int | None = Attr("stepping", UInt)


class CpuTopology(Element, tag="topology"):
    sockets: int | None = Attr("sockets", UInt)
    dies: int | None = Attr("dies", UInt)
    cores: int | None = Attr("cores", UInt)
    threads: int | None = Attr("threads", UInt)


class MaxPhysAddr(Element, tag="maxphysaddr"):
    mode: str | None = Attr("mode", Choice("passthrough", "emulate"))
    bits: int | None = Attr("bits", UInt)
    limit: int | None = Attr("limit", UInt)


class Feature(Element, tag="feature"):
    policy: str | None = Attr("policy", Choice("force", "require", "optional", "disable", "forbid"))
    name: str | None = Attr("name", required=True)


class PageSize(Element, tag="pages"):
    unit: str | None = Attr("unit")
    size: int | None = Attr("size", UInt)


class Cpu(Element, tag="cpu"):
    """The host's processor: the model whose features it has all, and the features that it has beside."""

    arch: str | None = Text("arch")
    model: str | None = Text("model")
    vendor: str | None = Text("vendor")
    microcode: Version | None = Child(Version)
    signature: Signature | None = Child(Signature)
    counter: Counter | None = Child(Counter)
    topology: CpuTopology | None = Child(CpuTopology)
    maxphysaddr: MaxPhysAddr | None = Child(MaxPhysAddr)
    features: list[Feature] = Children(Feature)
    pages: list[PageSize] = Children(PageSize)


# -- the rest of the host


class PowerManagement(Element, tag="power_management"):
    suspend_mem: bool = Flag("suspend_mem")
    suspend_disk: bool = Flag("suspend_disk")
    suspend_hybrid: bool = Flag("suspend_hybrid")


class Iommu(Element, tag="iommu"):
    support: bool | None = Attr("support", Bool)


class Transport(Element, tag="uri_transport"):
    name: str | None = Content()


class Transports(Element, tag="uri_transports"):
    transports: list[Transport] = Children(Transport)


class MigrationFeatures(Element, tag="migration_features"):
    live: bool = Flag("live")
    transports: Transports | None = Child(Transports)


class CellPages(Element, tag="pages"):
    unit: str | None = Attr("unit")
    size: int | None = Attr("size", UInt)
    count: int | None = Content(UInt)


class Sibling(Element, tag="sibling"):
    id: int | None = Attr("id", UInt)
    value: int | None = Attr("value", UInt)


class Distances(Element, tag="distances"):
    siblings: list[Sibling] = Children(Sibling)


class CellCpu(Element, tag="cpu"):
    """``siblings``: the threads of its core, as "0,4-5"."""

    id: int | None = Attr("id", UInt)
    socket_id: int | None = Attr("socket_id", UInt)
    die_id: int | None = Attr("die_id", UInt)
    core_id: int | None = Attr("core_id", UInt)
    siblings: str | None = Attr("siblings")


class CellCpus(Element, tag="cpus"):
    num: int | None = Attr("num", UInt)
    cpus: list[CellCpu] = Children(CellCpu)


class Cell(Element, tag="cell"):
    """A NUMA cell; memory in KiB."""

    id: int | None = Attr("id", UInt)
    memory: int | None = Size("memory")
    pages: list[CellPages] = Children(CellPages)
    distances: Distances | None = Child(Distances)
    cache: object = Raw("cache")
    cpus: CellCpus | None = Child(CellCpus)


class Cells(Element, tag="cells"):
    num: int | None = Attr("num", UInt)
    cells: list[Cell] = Children(Cell)


class Topology(Element, tag="topology"):
    cells: Cells | None = Child(Cells)
    interconnects: object = Raw("interconnects")


class Bank(Element, tag="bank"):
    """A cache that processors share."""

    id: int | None = Attr("id", UInt)
    level: int | None = Attr("level", UInt)
    type: str | None = Attr("type", Choice("both", "code", "data"))
    size: int | None = Attr("size", UInt)
    unit: str | None = Attr("unit")
    cpus: str | None = Attr("cpus")


class Cache(Element, tag="cache"):
    banks: list[Bank] = Children(Bank)
    monitor: object = Raw("monitor")


class BaseLabel(Element, tag="baselabel"):
    type: str | None = Attr("type")
    label: str | None = Content()


class SecurityModel(Element, tag="secmodel"):
    model: str | None = Text("model")
    doi: str | None = Text("doi")
    baselabels: list[BaseLabel] = Children(BaseLabel)


class HostSection(Element, tag="host"):
    uuid: str | None = Text("uuid", Uuid)
    cpu: Cpu | None = Child(Cpu)
    power_management: PowerManagement | None = Child(PowerManagement)
    iommu: Iommu | None = Child(Iommu)
    migration: MigrationFeatures | None = Child(MigrationFeatures)
    netprefix: str | None = Text("netprefix")
    topology: Topology | None = Child(Topology)
    cache: Cache | None = Child(Cache)
    memory_bandwidth: object = Raw("memory_bandwidth")
    security: list[SecurityModel] = Children(SecurityModel)


# -- guests


class MachineType(Element, tag="machine"):
    """``canonical`` is the whole name that an alias stands for."""

    canonical: str | None = Attr("canonical")
    max_cpus: int | None = Attr("maxCpus", UInt)
    deprecated: bool | None = Attr("deprecated", Bool)
    name: str | None = Content()


class GuestDomain(Element, tag="domain"):
    """A domain type, with what is its own where that differs from the architecture's."""

    type: str | None = Attr("type")
    emulator: str | None = Text("emulator")
    machines: list[MachineType] = Children(MachineType)


class GuestArch(Element, tag="arch"):
    name: str | None = Attr("name")
    wordsize: int | None = Text("wordsize", Int)
    emulator: str | None = Text("emulator")
    loader: str | None = Text("loader")
    machines: list[MachineType] = Children(MachineType)
    domains: list[GuestDomain] = Children(GuestDomain)


class Toggle(Element, tag="toggle"):
    """A feature that is on or off by default, and can or cannot be switched."""

    default: bool | None = Attr("default", OnOff)
    toggle: bool | None = Attr("toggle", Bool)


class GuestFeatures(Element, tag="features"):
    pae: bool = Flag("pae")
    nonpae: bool = Flag("nonpae")
    ia64_be: bool = Flag("ia64_be")
    acpi: Toggle | None = Child(Toggle, "acpi")
    apic: Toggle | None = Child(Toggle, "apic")
    cpuselection: bool = Flag("cpuselection")
    deviceboot: bool = Flag("deviceboot")
    disksnapshot: Toggle | None = Child(Toggle, "disksnapshot")
    hap: Toggle | None = Child(Toggle, "hap")


class GuestSection(Element, tag="guest"):
    os_type: str | None = Text("os_type")
    arch: GuestArch | None = Child(GuestArch)
    features: GuestFeatures | None = Child(GuestFeatures)


class Capabilities(Element, tag="capabilities"):
    """The host, and the kinds of guests that it can run."""

    host: HostSection | None = Child(HostSection)
    guests: list[GuestSection] = Children(GuestSection)

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        """libvirt sets this document's parts apart by empty lines."""
        body: list[str] = []
        super()._write(body, indent, tag, secrets)
        inner = indent + "  "
        for line in "".join(body).splitlines(keepends=True):
            out.append(line)
            if line in (f"{indent}<{tag}>\n", f"{inner}</host>\n", f"{inner}</guest>\n"):
                out.append("\n")


# -- domain capabilities


class Value(Element, tag="value"):
    text: str | None = Content()


class Enum(Element, tag="enum"):
    """The values that an attribute may have; none at all where nothing may be chosen."""

    name: str | None = Attr("name")
    values: list[Value] = Children(Value)

    @classmethod
    def of(cls, name: str, values: Iterable[str]) -> Enum:
        return cls(name=name, values=[Value(text=value) for value in values])


class Offer(Element, tag="offer"):
    """A device or feature: whether guests can have it, and what one may choose there."""

    supported: bool | None = Attr("supported", Bool)
    enums: list[Enum] = Children(Enum)

    def values(self, name: str) -> list[str]:
        """What the enumeration ``name`` lists."""
        return [value.text or "" for enum in self.enums if enum.name == name for value in enum.values]


class Vcpu(Element, tag="vcpu"):
    max: int | None = Attr("max", UInt)


class LoaderOffer(Offer, tag="loader"):
    """``paths`` are the firmware images that are found by themselves."""

    paths: list[Value] = Children(Value)

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        """libvirt has the images first."""
        body: list[str] = []
        super()._write(body, indent, tag, secrets)
        values = [line for line in body if line.startswith(f"{indent}  <value>")]
        out += [body[0], *values, *(line for line in body[1:] if line not in values)]


class OsOffer(Element, tag="os"):
    supported: bool | None = Attr("supported", Bool)
    enums: list[Enum] = Children(Enum)
    loader: LoaderOffer | None = Child(LoaderOffer)


class ModelOffer(Element, tag="model"):
    """A CPU model: the host's nearest one (``fallback``), or one to choose (the others)."""

    fallback: str | None = Attr("fallback", Choice("allow", "forbid"))
    usable: str | None = Attr("usable", Choice("yes", "no", "unknown"))
    deprecated: bool | None = Attr("deprecated", Bool)
    vendor: str | None = Attr("vendor")
    name: str | None = Content()


class CpuMode(Element, tag="mode"):
    name: str | None = Attr("name")
    supported: bool | None = Attr("supported", Bool)
    enums: list[Enum] = Children(Enum)
    models: list[ModelOffer] = Children(ModelOffer)
    vendor: str | None = Text("vendor")
    maxphysaddr: MaxPhysAddr | None = Child(MaxPhysAddr)
    features: list[Feature] = Children(Feature)


class CpuOffer(Element, tag="cpu"):
    modes: list[CpuMode] = Children(CpuMode)

    def mode(self, name: str) -> CpuMode | None:
        return next((mode for mode in self.modes if mode.name == name), None)


class DeviceOffers(Element, tag="devices"):
    disk: Offer | None = Child(Offer, "disk")
    graphics: Offer | None = Child(Offer, "graphics")
    video: Offer | None = Child(Offer, "video")
    hostdev: Offer | None = Child(Offer, "hostdev")
    rng: Offer | None = Child(Offer, "rng")
    filesystem: Offer | None = Child(Offer, "filesystem")
    tpm: Offer | None = Child(Offer, "tpm")
    redirdev: Offer | None = Child(Offer, "redirdev")
    channel: Offer | None = Child(Offer, "channel")


class FeatureOffers(Element, tag="features"):
    gic: Offer | None = Child(Offer, "gic")
    vmcoreinfo: Offer | None = Child(Offer, "vmcoreinfo")
    genid: Offer | None = Child(Offer, "genid")
    backing_store_input: Offer | None = Child(Offer, "backingStoreInput")
    backup: Offer | None = Child(Offer, "backup")
    s390_pv: Offer | None = Child(Offer, "s390-pv")
    sev: Offer | None = Child(Offer, "sev")
    sgx: Offer | None = Child(Offer, "sgx")
    hyperv: Offer | None = Child(Offer, "hyperv")


class DomainCapabilities(Element, tag="domainCapabilities"):
    """What guests of one emulator, machine type and domain type can have."""

    path: str | None = Text("path")
    domain: str | None = Text("domain")
    machine: str | None = Text("machine")
    arch: str | None = Text("arch")
    vcpu: Vcpu | None = Child(Vcpu)
    iothreads: Offer | None = Child(Offer, "iothreads")
    os: OsOffer | None = Child(OsOffer)
    cpu: CpuOffer | None = Child(CpuOffer)
    memory_backing: Offer | None = Child(Offer, "memoryBacking")
    devices: DeviceOffers | None = Child(DeviceOffers)
    features: FeatureOffers | None = Child(FeatureOffers)
