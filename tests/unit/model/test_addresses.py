"""Where devices sit: drives by name, USB and virtio-serial ports, aliases."""

from __future__ import annotations

import pytest

from guesthouse.errors import InternalError
from guesthouse.model import addresses
from guesthouse.model.devices.disk import Disk, DiskTarget
from support import domains


def guest(devices: str, machine: str = "pc") -> str:
    return (
        "<domain type='qemu'><name>x</name><memory>65536</memory>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("name", "number"), [("vda", 0), ("sdz", 25), ("hdc", 2), ("vdaa", 26), ("sdzz", 701), ("xvdb", 1), ("fdb", 1)]
)
def test_target_names_are_numbers(name: str, number: int) -> None:
    assert addresses.disk_index(name) == number


@pytest.mark.parametrize("name", ["", "vd", "vd1", "vdA", "nvme0n1", "disk"])
def test_what_is_no_target_name(name: str) -> None:
    with pytest.raises(InternalError, match="Unknown disk name"):
        addresses.disk_index(name)


@pytest.mark.parametrize(
    ("dev", "bus", "place"),
    [
        ("hda", "ide", (0, 0, 0)),
        ("hdd", "ide", (0, 1, 1)),
        ("hde", "ide", (1, 0, 0)),
        ("sdf", "sata", (0, 0, 5)),
        ("sdg", "sata", (1, 0, 0)),
        ("sdg", "scsi", (0, 0, 6)),
        ("sdh", "scsi", (1, 0, 0)),
        ("fdb", "fdc", (0, 0, 1)),
    ],
)
def test_drives_sit_by_their_name(dev: str, bus: str, place: tuple[int, int, int]) -> None:
    disk = Disk(target=DiskTarget(dev=dev, bus=bus))
    addresses.assign_drive(disk)
    assert disk.address is not None
    assert (disk.address.controller, disk.address.bus, disk.address.unit) == place


def test_an_address_that_was_given_stays() -> None:
    xml = "<disk device='cdrom'><target dev='sda' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='4'/></disk>"
    [disk] = domains.define(guest(xml, "q35")).dev.disks
    assert disk.address is not None and disk.address.unit == 4


def test_usb_ports_are_given_round_those_taken() -> None:
    tablet = "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"
    dev = domains.define(guest("<input type='mouse' bus='usb'/>" + tablet)).dev
    assert [i.address.port for i in dev.inputs if i.address] == ["2", "1"]


def test_hubs_are_added_where_a_usb_bus_is_full() -> None:
    """As C libvirtd adds them: a hub takes a port, and the bus's own ports go first."""
    tablet = "<input type='tablet' bus='usb'/>"

    def ports(number: int) -> tuple[list[str | None], list[str | None]]:
        dev = domains.define(guest(tablet * number)).dev
        hubs = [hub.address.port for hub in dev.hubs if hub.address]
        return hubs, [item.address.port for item in dev.inputs if item.address and item.address.type == "usb"]

    assert ports(2) == ([], ["1", "2"])
    assert ports(3) == (["1"], ["2", "1.1", "1.2"])
    assert ports(12) == (["1", "2"], [f"1.{n}" for n in range(1, 9)] + [f"2.{n}" for n in range(1, 5)])


def test_virtio_ports_leave_the_first_to_a_console() -> None:
    given = "<target type='virtio'/><address type='virtio-serial' controller='0' bus='0' port='1'/>"
    channels = f"<channel type='pty'><target type='virtio'/></channel><channel type='pty'>{given}</channel>"
    dev = domains.define(guest(channels)).dev
    assert [c.address.port for c in dev.channels if c.address] == ["2", "1"]


def test_aliases_are_libvirts_and_the_users_own_stay() -> None:
    live = domains.live(domains.define(domains.text("controllers-pc")))
    aliases = [c.alias.name for c in live.dev.controllers if c.alias]
    assert aliases == ["scsi1", "virtio-serial0", "usb", "usb1", "sata0", "pci.1", "pci.0", "scsi0"]
    assert [i.alias.name for i in live.dev.inputs if i.alias] == ["ua-tablet", "input1", "input2"]
    assert live.dev.disks[0].alias is not None and live.dev.disks[0].alias.name == "scsi1-0-2-3"


def test_the_first_console_is_the_first_serial_port() -> None:
    live = domains.live(domains.define(domains.text("characters")))
    assert [c.alias.name for c in live.dev.consoles if c.alias] == ["serial0", "console1"]


def test_an_express_topology_keeps_a_port_to_spare() -> None:
    domain = domains.define(domains.text("minimal-q35"))
    ports = {c.index for c in domain.dev.controllers if c.model == "pcie-root-port"}
    used = {d.address.bus for d in [*domain.dev.controllers, domain.dev.memballoon] if d and d.address}
    assert len(ports - used) == 1


def test_a_given_topology_gets_only_the_ports_that_it_needs() -> None:
    root = "<controller type='pci' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 2
    domain = domains.define(guest(root + "<rng model='virtio'><backend model='builtin'/></rng>", "q35"))
    ports = [c for c in domain.dev.controllers if c.model == "pcie-root-port"]
    assert len(ports) == 3  # USB, balloon and rng
