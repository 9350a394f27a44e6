"""What <domainCapabilities> offers starts here, and what it does not offer is refused: no more, no less.

Where one of these fails because a device has come to be supported, the offer in qemu/offers.py is what is missing.
"""

from __future__ import annotations

import asyncio
import shutil

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError
from guesthouse.model import addresses
from guesthouse.model.capabilities import DomainCapabilities, Offer
from guesthouse.model.defaults import prepare
from guesthouse.model.domain import Domain
from guesthouse.qemu import command, offers
from guesthouse.qemu.capabilities import QemuCapabilities, probe
from guesthouse.wire.procedures import PROCEDURES

BINARY = shutil.which("qemu-system-x86_64") or ""

pytestmark = pytest.mark.skipif(not BINARY, reason="no QEMU")

# what libvirt 9.0 lists for QEMU 7.2
DISK_BUSES = ("ide", "fdc", "scsi", "virtio", "usb", "sata")
DISK_DEVICES = ("disk", "cdrom", "floppy", "lun")
GRAPHICS = ("sdl", "vnc", "spice", "egl-headless", "dbus")
VIDEOS = ("vga", "cirrus", "vmvga", "qxl", "virtio", "none", "bochs", "ramfb")
RNG_MODELS = ("virtio", "virtio-transitional", "virtio-non-transitional")
RNG_BACKENDS = ("random", "egd", "builtin")
CHANNELS = ("pty", "unix", "spicevmc")


@pytest.fixture(scope="module")
def caps(tmp_path_factory: pytest.TempPathFactory) -> QemuCapabilities:
    return asyncio.run(probe(BINARY, tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module", params=["pc", "q35"])
def offered(request: pytest.FixtureRequest, caps: QemuCapabilities) -> DomainCapabilities:
    return offers.domain(caps, caps.hypervisor(None), "x86_64", caps.machine(request.param), "qemu", vcpus=255)


def starts(caps: QemuCapabilities, machine: str | None, devices: str = "", head: str = "", features: str = "") -> bool:
    """Whether the command line of such a guest can be built."""
    text = f"""<domain type='qemu'>
      <name>x</name><memory>131072</memory>
      <os><type machine='{machine}'>hvm</type></os>
      <features><acpi/>{features}</features>{head}
      <devices><controller type='virtio-serial' index='0'/>{devices}</devices>
    </domain>"""
    try:
        domain = Domain.from_xml(text)
        prepare(domain, caps.defaults())
        addresses.assign_aliases(domain)
        for index, disk in enumerate(domain.dev.disks, 1):
            if disk.source is not None:
                disk.source.index = index
        command.build(domain, command.Wiring(monitor_fd=3))
    except ConfigUnsupported:
        return False
    except GuesthouseError as error:
        # a value that documents cannot have at all is not offered either
        assert error.code == 27, error
        return False
    return True


def agree(offer: Offer | None, name: str, all_values: tuple[str, ...], works: dict[str, bool]) -> None:
    assert offer is not None
    listed = offer.values(name)
    assert set(listed) <= set(all_values)
    assert {value: value in listed for value in all_values} == works
    # libvirt's order
    assert listed == [value for value in all_values if value in listed]


def test_disks(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.devices is not None
    works = {}
    for bus in DISK_BUSES:
        kind = "floppy" if bus == "fdc" else "disk"
        dev = {"ide": "hda", "fdc": "fda", "virtio": "vda"}.get(bus, "sda")
        xml = f"<disk type='file' device='{kind}'><source file='/x'/><target dev='{dev}' bus='{bus}'/></disk>"
        works[bus] = starts(caps, offered.machine, xml)
    agree(offered.devices.disk, "bus", DISK_BUSES, works)
    works = {}
    for kind in DISK_DEVICES:
        bus, dev = ("fdc", "fda") if kind == "floppy" else ("scsi", "sda")
        xml = f"<disk type='block' device='{kind}'><source dev='/x'/><target dev='{dev}' bus='{bus}'/></disk>"
        works[kind] = starts(caps, offered.machine, xml)
    agree(offered.devices.disk, "diskDevice", DISK_DEVICES, works)


def test_graphics_and_video(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.devices is not None
    works = {}
    for kind in GRAPHICS:
        port = {"vnc": " port='5901'", "spice": " port='5901'", "dbus": " p2p='yes'"}.get(kind, "")
        works[kind] = starts(caps, offered.machine, f"<graphics type='{kind}'{port}/>")
    agree(offered.devices.graphics, "type", GRAPHICS, works)
    works = {kind: starts(caps, offered.machine, f"<video><model type='{kind}'/></video>") for kind in VIDEOS}
    agree(offered.devices.video, "modelType", VIDEOS, works)


def test_random_numbers(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.devices is not None
    works = {
        model: starts(
            caps, offered.machine, f"<rng model='{model}'><backend model='random'>/dev/urandom</backend></rng>"
        )
        for model in RNG_MODELS
    }
    agree(offered.devices.rng, "model", RNG_MODELS, works)
    works = {}
    for backend in RNG_BACKENDS:
        more = " type='udp'" if backend == "egd" else ""
        source = "<source mode='connect' service='708'/>" if more else ""
        xml = f"<rng model='virtio'><backend model='{backend}'{more}>{source}</backend></rng>"
        works[backend] = starts(caps, offered.machine, xml)
    agree(offered.devices.rng, "backendModel", RNG_BACKENDS, works)


def test_channels(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.devices is not None
    works = {
        kind: starts(
            caps,
            offered.machine,
            f"<graphics type='spice'/><channel type='{kind}'><target type='virtio' name='com.redhat.spice.0'/></channel>",
        )
        for kind in CHANNELS
    }
    agree(offered.devices.channel, "type", CHANNELS, works)


@pytest.mark.parametrize(
    "name, xml",
    [
        ("hostdev", "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>"),
        ("filesystem", "<filesystem type='mount'><source dir='/x'/><target dir='x'/></filesystem>"),
        ("tpm", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"),
        ("redirdev", "<graphics type='spice'/><redirdev bus='usb' type='spicevmc'/>"),
    ],
)
def test_devices_as_a_whole(caps: QemuCapabilities, offered: DomainCapabilities, name: str, xml: str) -> None:
    assert offered.devices is not None
    offer = getattr(offered.devices, name)
    assert offer.supported == starts(caps, offered.machine, xml)


@pytest.mark.parametrize(
    "name, where, xml",
    [
        ("iothreads", "head", "<iothreads>1</iothreads>"),
        ("memory_backing", "head", "<memoryBacking><source type='memfd'/></memoryBacking>"),
        ("vmcoreinfo", "features", "<vmcoreinfo state='on'/>"),
    ],
)
def test_what_is_not_a_device(
    caps: QemuCapabilities, offered: DomainCapabilities, name: str, where: str, xml: str
) -> None:
    offer = getattr(offered, name, None) or getattr(offered.features, name)
    assert offer.supported == starts(caps, offered.machine, **{where: xml})


def test_enlightenments(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.features is not None and offered.features.hyperv is not None
    assert offered.features.hyperv.values("features") == ["spinlocks", "vendor_id"]
    for name in (*caps.hyperv, "relaxed"):
        value = {"vendor_id": " value='x'", "spinlocks": " retries='8191'"}.get(name, "")
        assert starts(caps, offered.machine, features=f"<hyperv><{name} state='on'{value}/></hyperv>")


def test_loaders(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.os is not None
    works = {}
    for kind in ("rom", "pflash"):
        xml = f"<os><type machine='{offered.machine}'>hvm</type><loader type='{kind}'>/x</loader></os>"
        xml += "<features><acpi/></features>"
        domain = Domain.from_xml(f"<domain type='qemu'><name>x</name><memory>1</memory>{xml}<devices/></domain>")
        prepare(domain, caps.defaults())
        try:
            command.check(domain)
            works[kind] = True
        except ConfigUnsupported:
            works[kind] = False
    agree(offered.os.loader, "type", ("rom", "pflash"), works)


def test_every_offered_cpu_mode_builds(caps: QemuCapabilities, offered: DomainCapabilities) -> None:
    assert offered.cpu is not None
    assert [mode.name for mode in offered.cpu.modes] == ["host-passthrough", "maximum", "host-model", "custom"]
    for mode in offered.cpu.modes:
        model = "<model>qemu64</model>" if mode.name == "custom" else ""
        assert mode.supported == starts(caps, offered.machine, head=f"<cpu mode='{mode.name}'>{model}</cpu>")


def test_snapshots_are_offered_once_they_can_be_made(caps: QemuCapabilities) -> None:
    guest = offers.guest(caps, "x86_64", kvm=False)
    assert guest.features is not None and guest.features.disksnapshot is not None
    row = next(row for row in PROCEDURES if row.name == "domain_snapshot_create_xml")
    assert guest.features.disksnapshot.default == bool(row.handler)


def test_guests(caps: QemuCapabilities) -> None:
    arch = offers.guest(caps, "x86_64", kvm=True).arch
    assert arch is not None
    assert [d.type for d in arch.domains] == ["qemu", "kvm"]
    assert arch.emulator == BINARY
    first, alias = arch.machines[:2]
    assert first.name == alias.canonical == caps.defaults().machines["pc"]
    assert alias.name == "pc"
    assert {m.name for m in arch.machines} == set(caps.defaults().machines)


def test_the_accelerator_limits_processors(caps: QemuCapabilities) -> None:
    made = offers.domain(caps, caps.hypervisor(None), "x86_64", caps.machine("q35"), "kvm", vcpus=4)
    assert made.vcpu is not None and made.vcpu.max == 4
