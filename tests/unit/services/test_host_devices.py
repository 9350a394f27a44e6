"""Devices of the host's that guests get, on a machine that is made up: found, taken from their drivers, given back."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from guesthouse.errors import GuesthouseError, SystemFailure
from guesthouse.model.domain import Domain
from guesthouse.network.netlink import Netlink
from guesthouse.qemu.command import Wiring
from guesthouse.qemu.images import apply, restore
from guesthouse.qemu.process import User
from guesthouse.services import host_ends, pci_hostdevs
from guesthouse.services.guests import Guest
from guesthouse.services.pci_hostdevs import PciHostdevs
from guesthouse.services.store import Store
from support.netns import in_netns, run
from support.sysfs import FakeSysfs, PciKernel

FIRST, SECOND, OTHER, BRIDGE = "0000:00:05.0", "0000:00:05.1", "0000:00:06.0", "0000:00:07.0"
UUID = "53764d0e-85a0-42b4-af5c-2046b460b1dc"
NOBODY = User(65534, 65534)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to another user")


@pytest.fixture
def fake(tmp_path: Path) -> FakeSysfs:
    return FakeSysfs(tmp_path / "root")


@pytest.fixture
def kernel(fake: FakeSysfs) -> PciKernel:
    kernel = PciKernel(fake)
    kernel.function(FIRST, 4)
    kernel.function(SECOND, 4)
    kernel.function(OTHER, 5, driver="vfio-pci")
    kernel.function(BRIDGE, 6, header=1)
    return kernel


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for folder in ("state", "run"):
        (tmp_path / folder).mkdir()
    return Store(tmp_path / "state", tmp_path / "run")


def pci(name: str, managed: str = "yes") -> str:
    domain, bus, rest = name.split(":")
    slot, function = rest.split(".")
    place = f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
    return f"<hostdev mode='subsystem' type='pci' managed='{managed}'><source>{place}</source></hostdev>"


def guest(*devices: str, more: str = "") -> Domain:
    return Domain.from_xml(
        f"<domain type='kvm'><name>g</name><memory>1048576</memory>{more}<devices>{''.join(devices)}</devices></domain>"
    )


@needs_root
def test_taken_for_a_guest_and_given_back(fake: FakeSysfs, kernel: PciKernel, store: Store) -> None:
    hands = PciHostdevs(store, NOBODY, kernel)
    both = guest(pci(FIRST), pci(SECOND))
    asyncio.run(hands.take(both, "one"))
    node = fake.root / "dev/vfio/4"
    assert (kernel.driver(FIRST), kernel.driver(SECOND)) == ("vfio-pci", "vfio-pci")
    assert node.stat().st_uid == 65534 and hands.user_of(FIRST) == "one"
    for wanted in (guest(pci(FIRST)), guest(pci(SECOND))):
        with pytest.raises(GuesthouseError, match=r"PCI device 0000:00:05\.. is in use by driver QEMU, domain one"):
            asyncio.run(hands.take(wanted, "two"))
    # one of them leaves: the file is the other's still
    asyncio.run(hands.give_back(guest(pci(SECOND))))
    assert kernel.driver(SECOND) == "e1000e" and node.stat().st_uid == 65534
    # its neighbour would be the same guest's
    with pytest.raises(GuesthouseError, match=r"PCI device 0000:00:05\.0 is in use by driver QEMU, domain one"):
        asyncio.run(hands.take(guest(pci(SECOND)), "two"))
    # a successor gives back what nobody has
    asyncio.run(PciHostdevs(store, NOBODY, kernel).sweep([guest(pci(FIRST))]))
    assert kernel.driver(FIRST) == "vfio-pci"
    asyncio.run(PciHostdevs(store, NOBODY, kernel).sweep([]))
    assert kernel.driver(FIRST) == "e1000e" and not node.exists() and store.all_runtime("pci") == {}


@needs_root
def test_one_that_was_detached_before_stays_so(fake: FakeSysfs, kernel: PciKernel, store: Store) -> None:
    hands = PciHostdevs(store, NOBODY, kernel)
    asyncio.run(hands.take(guest(pci(OTHER, "no")), "one"))
    assert (fake.root / "dev/vfio/5").stat().st_uid == 65534
    asyncio.run(hands.give_back(guest(pci(OTHER, "no"))))
    assert (fake.root / "dev/vfio/5").stat().st_uid == 0 and kernel.driver(OTHER) == "vfio-pci"


@needs_root
@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (
            [pci("0000:00:09.0")],
            "Device 0000:00:09.0 not found: could not access /sys/bus/pci/devices/0000:00:09.0/conf",
        ),
        ([pci(BRIDGE)], "Non-endpoint PCI devices cannot be assigned to guests"),
        ([pci(FIRST, "no")], "Unmanaged PCI device 0000:00:05.0 must be manually detached from the host"),
        (
            ["<interface type='hostdev'><source><address type='pci' bus='0' slot='5'/></source></interface>"],
            "Interface type hostdev is currently supported on SR-IOV Virtual Functions only",
        ),
    ],
)
def test_what_no_guest_gets(kernel: PciKernel, store: Store, devices: list[str], words: str) -> None:
    devices = [text.replace("type='hostdev'>", "type='hostdev' managed='yes'>") for text in devices]
    with pytest.raises(GuesthouseError) as raised:
        asyncio.run(PciHostdevs(store, NOBODY, kernel).take(guest(pci(SECOND), *devices), "one"))
    assert words in str(raised.value)
    assert kernel.driver(SECOND) == "e1000e" and store.all_runtime("pci") == {}


@needs_root
def test_a_driver_that_refuses_leaves_all_as_it_was(kernel: PciKernel, store: Store) -> None:
    kernel.unwilling.add("vfio-pci")
    with pytest.raises(GuesthouseError, match=r"Failed to bind PCI device '0000:00:05\.0' to vfio-pci"):
        asyncio.run(PciHostdevs(store, NOBODY, kernel).take(guest(pci(FIRST), pci(SECOND)), "one"))
    assert [kernel.driver(name) for name in (FIRST, SECOND)] == ["e1000e", "e1000e"]
    assert store.all_runtime("pci") == {}


@needs_root
def test_mediated_devices(fake: FakeSysfs, kernel: PciKernel, store: Store) -> None:
    device = (
        f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{UUID}'/></source></hostdev>"
    )
    with pytest.raises(GuesthouseError, match=f"mediated device '{UUID}' not found"):
        host_ends.find(guest(device), kernel, [])
    fake.device(f"/devices/pci0000:00/{UUID}", "/bus/mdev/devices")
    (fake.root / "sys/kernel/iommu_groups/9").mkdir()
    fake.link(f"/devices/pci0000:00/{UUID}/iommu_group", "/kernel/iommu_groups/9")
    fake.file("dev/vfio/9", "")
    assert host_ends.find(guest(device), kernel, []) == []
    hands = PciHostdevs(store, NOBODY, kernel)
    asyncio.run(hands.take(guest(device), "one"))
    assert (fake.root / "dev/vfio/9").stat().st_uid == 65534
    with pytest.raises(GuesthouseError, match=f"mediated device {UUID} is in use by driver QEMU, domain one"):
        asyncio.run(hands.take(guest(device), "two"))
    asyncio.run(hands.give_back(guest(device)))
    assert (fake.root / "dev/vfio/9").stat().st_uid == 0


@in_netns
def test_settings_of_virtual_functions_are_told_to_their_card() -> None:
    """No card here has any: the kernel understands, and says that this one cannot."""
    run("ip", "link", "add", "card0", "type", "veth", "peer", "name", "far0")
    with Netlink() as netlink:
        link = netlink.link("card0")
        assert link is not None
        with pytest.raises(OSError, match="not supported"):
            netlink.set_function(link.index, 0, "52:54:00:00:00:01", 7)
        with pytest.raises(OSError, match="No such device"):
            netlink.function(link.index, 0)


def test_how_much_memory_may_be_locked() -> None:
    gib = 1 << 30
    card = "<interface type='hostdev'/>"
    vdpa = "<interface type='vdpa'><source dev='/dev/v'/></interface>"
    for domain, wanted in (
        (guest(), None),
        (guest(pci(FIRST), pci(SECOND)), 2 * gib),
        (guest(pci(FIRST), pci(SECOND), "<iommu model='intel'/>"), 3 * gib),
        (guest(card, vdpa, vdpa), 4 * gib),
        (guest(more="<memoryBacking><locked/></memoryBacking>"), resource.RLIM_INFINITY),
    ):
        assert pci_hostdevs.locked_bytes(domain) == wanted
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    show = [sys.executable, "-c", "import resource; print(*resource.getrlimit(resource.RLIMIT_MEMLOCK))"]
    try:
        with pci_hostdevs.may_lock(guest(pci(FIRST))):
            said = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        assert said.split() == ([str(2 * gib)] * 2 if before[0] != resource.RLIM_INFINITY else ["-1", "-1"])
    except SystemFailure as error:  # in a container that may not
        assert before[1] < 2 * gib and str(error) == f"cannot limit locked memory to {2 * gib}: Operation not permitted"
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before


def usb(*words: str, policy: str = "") -> str:
    return f"<hostdev mode='subsystem' type='usb'><source{policy}>{''.join(words)}</source></hostdev>"


def test_usb_devices_are_found(fake: FakeSysfs) -> None:
    for name, numbers, ids in (("1-1", (1, 5), "beef"), ("1-2", (1, 6), "beef"), ("2-1", (2, 3), "cafe")):
        fake.device(
            f"/devices/usb/{name}",
            "/bus/usb/devices",
            busnum=str(numbers[0]),
            devnum=str(numbers[1]),
            idVendor="1234",
            idProduct=ids,
        )

    def ids(product: str) -> str:
        return f"<vendor id='0x1234'/><product id='0x{product}'/>"

    place = "<address bus='1' device='{}'/>".format
    optional = " startupPolicy='optional'"
    for words, files in (
        ([ids("cafe")], ["/dev/bus/usb/002/003"]),
        ([place(6)], ["/dev/bus/usb/001/006"]),
        ([ids("beef"), place(5)], ["/dev/bus/usb/001/005"]),
    ):
        live = guest(usb(*words))
        assert host_ends.find(live, fake.sysfs, []) == files
        where = live.dev.hostdevs[0].place
        assert f"/dev/bus/usb/{where.bus:03d}/{where.device:03d}" == files[0]
    live = guest(usb(ids("0001"), policy=optional))
    assert host_ends.find(live, fake.sysfs, []) == [] and live.dev.hostdevs[0].source.missing  # type: ignore[union-attr]
    other = Guest("other", UUID)
    other.live = guest(usb(place(6)))
    for device, words in (
        (usb(ids("0001")), "Did not find USB device 1234:0001"),
        (usb(place(9)), "Did not find USB device bus:1 device:9"),
        (usb(ids("beef"), place(9)), "Did not find USB device 1234:beef bus:1 device:9"),
        (usb(ids("beef")), "Multiple USB devices for 1234:beef, use <address> to specify one"),
        (usb(place(6)), "USB device 001:006 is in use by driver QEMU, domain other"),
    ):
        with pytest.raises(GuesthouseError) as raised:
            host_ends.find(guest(device), fake.sysfs, [other])
        assert str(raised.value).endswith(words)


@needs_root
def test_device_files_are_given_and_given_back(fake: FakeSysfs) -> None:
    device = (
        "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host2'/>"
        "<address bus='0' target='1' unit='3'/></source></hostdev>"
    )
    with pytest.raises(GuesthouseError, match="cannot open directory '/sys/bus/scsi/devices/2:0:1:3/scsi_generic'"):
        host_ends.find(guest(device), fake.sysfs, [])
    fake.file("sys/bus/scsi/devices/2:0:1:3/scsi_generic/sg7/dev", "21:7")
    assert host_ends.find(guest(device), fake.sysfs, []) == ["/dev/sg7"]
    node = fake.file("dev/sg7", "")
    (label,) = host_ends.labels([str(node)], NOBODY)
    apply(label)
    assert node.stat().st_uid == 65534
    restore(label)
    assert node.stat().st_uid == 0
    with pytest.raises(GuesthouseError, match="host doesn't support passthrough of host PCI devices"):
        host_ends.find(guest(pci(FIRST)), fake.sysfs, [])


def test_descriptors_of_cards() -> None:
    """The first is the tap's; a kernel without an accelerator is no error but where one insists."""

    def wired(attributes: str, fds: list[int], monitor: int = 9) -> Wiring:
        card = f"<interface {attributes}<alias name='net0'/></interface>"
        live = guest(card)
        wiring = Wiring(monitor)
        with ExitStack() as closing:
            host_ends.wire_card(live, live.dev.interfaces[0], fds, wiring, closing)
        return wiring

    virtio = "<model type='virtio'/>"
    several = wired(f"type='direct'><source dev='x'/>{virtio}", [4, 5, 6])
    assert (several.taps, several.queues) == ({"net0": 4}, {"net0": [5, 6]})
    assert wired("type='vdpa'><source dev='/dev/v'/>", [4]).vdpas == {"net0": 4}
    insists = "<driver name='vhost'/>"
    for attributes, monitor, words in (
        (f"type='ethernet'><model type='e1000'/>{insists}", 9, "vhost-net is only supported for virtio network interf"),
        ("type='vdpa'><source dev='/dev/v'/>", -1, "interfaces of type 'vdpa' cannot be plugged into running guests"),
    ):
        with pytest.raises(GuesthouseError, match=words):
            wired(attributes, [4], monitor)
    if not Path("/dev/vhost-net").exists():
        assert several.accelerators == {}
        with pytest.raises(GuesthouseError, match="vhost-net was requested for an interface, but is unavailable"):
            wired(f"type='direct'><source dev='x'/>{virtio}{insists}", [4])
