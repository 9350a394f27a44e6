"""Addresses, controllers, cards and host devices that libvirt 9.0 refuses when they are defined, in its words; and what
it makes of some that it takes."""

from __future__ import annotations

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model.domain import Domain
from support import domains, xmldiff

NIC = "<interface type='{}'><mac address='52:54:00:00:00:01'/>{}</interface>"
USB = "<hostdev mode='subsystem' type='usb'><source><vendor id='1'/><product id='2'/></source>{}</hostdev>"
PCI = "<hostdev mode='subsystem' type='pci'><source><address bus='6' slot='2'/></source>{}</hostdev>"
MDEV = (
    "<hostdev mode='subsystem' type='mdev' model='{}'><source>"
    "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source>{}</hostdev>"
)
PLACE = "<address type='pci' domain='0' bus='{}' slot='{}' function='0'/>"


def defined(devices: str, machine: str = "pc") -> Domain:
    return domains.define(xmldiff.domain(devices, machine=machine))


@pytest.mark.parametrize(
    "code, text, devices",
    [
        (1, "No type specified for device address", "<rng model='virtio'><address slot='3'/></rng>"),
        (27, "Invalid PCI address slot='0x20', must be <= 0x1F", NIC.format("user", PLACE.format(0, 32))),
        (27, "Invalid PCI address 0000:01:00.0. slot must be >= 1", NIC.format("user", PLACE.format(1, 0))),
        (67, "cannot use CCW address type for device '<null>' using", NIC.format("user", "<address type='ccw'/>")),
        (67, "'unassigned' is supported only for hostdevs", NIC.format("user", "<address type='unassigned'/>")),
        (27, "Missing required attribute 'slot' in element 'address'", NIC.format("user", "<address type='dimm'/>")),
        (27, "requested USB port 9 not present on USB bus 0", USB.format("<address type='usb' bus='0' port='9'/>")),
        (27, "there is no hub at port 1 in", USB.format("<address type='usb' bus='0' port='1.2'/>")),
        (27, "USB bus 2 requested but no controller", USB.format("<address type='usb' bus='2'/>")),
        (1, "PCI host devices must use 'pci' or 'unassigned'", PCI.format("<address type='isa'/>")),
        (67, "Unknown model type 'x'", "<controller type='sata' model='x'/>"),
        (35, "No master USB controller specified", "<controller type='usb' model='ich9-uhci1'/>"),
        (
            67,
            "Option 'busNr' is not valid for PCI controller with index '1', model 'pci-bridge' and modelName 'pci-bridge'",
            "<controller type='pci' index='1' model='pci-bridge'><target busNr='3'/></controller>",
        ),
        (
            67,
            "PCI controller target index '31' out of range - must be 0-30",
            "<controller type='pci' index='1' model='pci-bridge'><target index='31'/></controller>",
        ),
        (
            27,
            "The PCI controller with index='0' must be model='pci-root'",
            "<controller type='pci' model='pci-bridge'/>",
        ),
        (67, "graphics device is needed for attribute value 'display=on'", MDEV.format("vfio-pci' display='on", "")),
        (67, "VFIO AP device assignment is not supported", MDEV.format("vfio-ap", "")),
        (27, "Unsupported address type 'isa' with mediated", MDEV.format("vfio-pci", "<address type='isa'/>")),
        (27, "interface type='bridge' requires a 'source' element", NIC.format("bridge", "")),
        (27, "Missing required attribute 'bridge' in element 'source'", NIC.format("bridge", "<source network='x'/>")),
        (27, "missing required virtualport type", NIC.format("bridge", "<source bridge='b'/><virtualport/>")),
        (
            67,
            "guest-side IP route and/or address info",
            NIC.format("mcast", "<source address='a' port='1'/><ip address='1.2.3.4'/>"),
        ),
        (
            27,
            "guest interface: Address '192.0.2.7' in route definition is not a network address",
            NIC.format("user", "<route address='192.0.2.7' prefix='24' gateway='192.0.2.1'/>"),
        ),
        (
            67,
            "rx_queue_size has to be a power of two",
            NIC.format("user", "<model type='virtio'/><driver rx_queue_size='3'/>"),
        ),
        (67, "iommu driver option is only supported for virtio devices", NIC.format("user", "<driver iommu='on'/>")),
        (67, "virtio-net teaming persistent interface must be", NIC.format("user", "<teaming type='persistent'/>")),
        (19, "missing source information for device vda", "<disk device='disk'><target dev='vda'/></disk>"),
        (
            67,
            "boot order '1' used for more than one device",
            USB.format("<boot order='1'/>") + NIC.format("user", "<boot order='1'/>"),
        ),
    ],
)
def test_refused(code: int, text: str, devices: str) -> None:
    with pytest.raises(GuesthouseError) as refused:
        defined(devices)
    assert refused.value.code == code and text in str(refused.value)


def test_what_a_type_does_not_have_is_forgotten() -> None:
    source = "<source network='n' bridge='br0'/>"
    [nic] = defined(NIC.format("bridge", source + "<driver queues='3'/><model type='e1000'/>")).dev.interfaces
    assert "<source bridge='br0'/>" in nic.to_xml() and "queues" not in nic.to_xml()
    [disk] = defined(
        "<disk type='network' device='disk'><source file='/x' protocol='nbd'><host name='h' transport='tcp' port='0'/>"
        "</source><target dev='vda'/></disk>"
    ).dev.disks
    assert "<source protocol='nbd'>\n    <host name='h' port='10809'/>" in disk.to_xml()


def test_a_slot_with_several_functions_says_so_on_its_first() -> None:
    second = "<interface type='user'><address type='pci' domain='0' bus='0' slot='5' function='{}'/></interface>"
    [one, other] = defined(second.format(0) + second.format(1)).dev.interfaces
    assert one.address is not None and one.address.multifunction
    assert other.address is not None and other.address.multifunction is None


def test_a_conventional_device_beyond_the_last_bus_of_pci_express_goes_one_further() -> None:
    domain = defined(f"<watchdog model='i6300esb'>{PLACE.format(1, 3)}</watchdog>", "q35")
    assert domain.dev.watchdogs[0].address is not None and domain.dev.watchdogs[0].address.bus == 2
    models = {c.index: c.model for c in domain.dev.controllers if c.type == "pci"}
    assert (models[1], models[2]) == ("pcie-root-port", "pcie-to-pci-bridge")
