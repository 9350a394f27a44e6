"""<hostdev>: a device of the host's that the guest gets as it is."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias, Boot
from guesthouse.model.devices.disk_source import Auth, Initiator
from guesthouse.model.devices.interface import InterfaceRom, Teaming
from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Flag, Hex, Int, OnOff, UInt, Uuid

SUBSYSTEMS = ("usb", "pci", "scsi", "scsi_host", "mdev")


class HostdevId(Element):
    """A number that the maker gave."""

    id: int | None = Attr("id", Hex(4), required=True)


class HostdevPlace(Element, tag="address"):
    """Where the host has it: PCI numbers, a USB bus and device, a SCSI bus, target and unit, or a mediated device."""

    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))
    device: int | None = Attr("device", UInt)
    target: int | None = Attr("target", UInt)
    unit: int | None = Attr("unit", UInt)
    uuid: str | None = Attr("uuid", Uuid)

    @property
    def pci(self) -> str:
        """As the kernel writes it, 0000:01:00.0."""
        return f"{self.domain or 0:04x}:{self.bus or 0:02x}:{self.slot or 0:02x}.{self.function or 0:x}"

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        # bus is decimal where it is not PCI's
        if self.slot is not None or self.bus is None:
            super()._write(out, indent, tag, secrets)
            return
        plain = _PlainPlace(bus=self.bus, device=self.device, target=self.target, unit=self.unit)
        plain.extra_attributes.update(self.extra_attributes)
        plain._write(out, indent, tag, secrets)


class _PlainPlace(Element, tag="address"):
    bus: int | None = Attr("bus", Int)
    device: int | None = Attr("device", Int)
    target: int | None = Attr("target", Int)
    unit: int | None = Attr("unit", Int)


class Adapter(Element, tag="adapter"):
    """A SCSI host, as scsi_host0."""

    name: str | None = Attr("name")


class HostdevHost(Element, tag="host"):
    """An iSCSI server."""

    name: str | None = Attr("name")
    port: int | None = Attr("port", UInt)


class HostdevSource(Element, tag="source"):
    """What it is in the host; which parts count depends on the type."""

    protocol: str | None = Attr("protocol")
    name: str | None = Attr("name")
    wwpn: str | None = Attr("wwpn")
    startup_policy: str | None = Attr("startupPolicy", Choice("mandatory", "requisite", "optional"))
    missing: bool | None = Attr("missing", Bool)
    guest_reset: str | None = Attr("guestReset", Choice("off", "uninitialized", "on"))
    write_filtering: bool | None = Attr("writeFiltering", Bool)
    vendor: HostdevId | None = Child(HostdevId, "vendor")
    product: HostdevId | None = Child(HostdevId, "product")
    adapter: Adapter | None = Child(Adapter)
    host: HostdevHost | None = Child(HostdevHost)
    address: HostdevPlace | None = Child(HostdevPlace)
    auth: Auth | None = Child(Auth)
    initiator: Initiator | None = Child(Initiator)


class HostdevDriver(Element, tag="driver"):
    name: str | None = Attr("name", Choice("kvm", "vfio", "xen"))


class Hostdev(Element, tag="hostdev"):
    """``managed``: the host's driver lets go of it at the start and takes it back at the end."""

    mode: str | None = Attr("mode", Choice("subsystem", "capabilities"))
    type: str | None = Attr("type", required=True)
    managed: bool | None = Attr("managed", Bool)
    sgio: str | None = Attr("sgio", Choice("filtered", "unfiltered"))
    rawio: bool | None = Attr("rawio", Bool)
    model: str | None = Attr("model")
    display: bool | None = Attr("display", OnOff)
    ramfb: bool | None = Attr("ramfb", OnOff)
    driver: HostdevDriver | None = Child(HostdevDriver)
    source: HostdevSource | None = Child(HostdevSource)
    teaming: Teaming | None = Child(Teaming)
    readonly: bool = Flag("readonly")
    shareable: bool = Flag("shareable")
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    rom: InterfaceRom | None = Child(InterfaceRom)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def place(self) -> HostdevPlace:
        """Where the host has it; empty where the document does not say."""
        return (self.source and self.source.address) or HostdevPlace()

    @property
    def takes_pci(self) -> bool:
        """Whether it is a PCI device in the guest."""
        if self.mode == "capabilities" or (self.address is not None and self.address.type == "unassigned"):
            return False
        return self.type in ("pci", "scsi_host") or (self.type == "mdev" and self.model == "vfio-pci")
