"""Documents of disks, controllers, filesystems, network cards and devices of the host, for support/xmldiff.py.

Each base is a device as people write it; the schema's walk changes one thing of it at a time, or two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, NamedTuple

from lxml import etree

from support.schema_walk import Schema, changes, put
from support.xmldiff import Document, domain

_MAC = "<mac address='52:54:00:00:00:01'/>"
_SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


class Base(NamedTuple):
    """``more`` stands before the devices, ``beside`` among them."""

    name: str
    xml: str
    machines: Sequence[str] = ("pc", "q35")
    more: str = ""
    beside: str = ""


def _disk(name: str, inside: str, device: str = "disk", kind: str = "file", **rest: Any) -> Base:
    return Base(f"disk-{name}", f"<disk type='{kind}' device='{device}'>{inside}</disk>", **rest)


def _nic(name: str, kind: str, inside: str, **rest: Any) -> Base:
    return Base(f"nic-{name}", f"<interface type='{kind}'>{_MAC}{inside}</interface>", **rest)


_FILE = "<driver name='qemu' type='{}'/><source file='/srv/a.img'/><target dev='{}' bus='{}'/>"
_PCI = "<source><address domain='0' bus='6' slot='2' function='0'/></source>"
_SCSI = "<source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source>"

BASES: dict[str, list[Base]] = {
    "disk": [
        _disk("virtio", _FILE.format("qcow2", "vda", "virtio")),
        _disk("scsi", _FILE.format("raw", "sda", "scsi")),
        _disk("ide", _FILE.format("raw", "hda", "ide"), machines=["pc"]),
        _disk("sata", _FILE.format("raw", "sda", "sata")),
        _disk("usb", _FILE.format("raw", "sda", "usb")),
        _disk("cdrom", _FILE.format("raw", "sda", "sata"), "cdrom", machines=["q35"]),
        _disk("cdrom-ide", _FILE.format("raw", "hda", "ide"), "cdrom", machines=["pc"]),
        _disk("floppy", _FILE.format("raw", "fda", "fdc"), "floppy"),
        _disk(
            "lun",
            "<driver name='qemu' type='raw'/><source dev='/dev/sg'/><target dev='sda' bus='scsi'/>",
            "lun",
            "block",
            beside="<controller type='scsi' index='0' model='virtio-scsi'/>",
        ),
        _disk(
            "nbd",
            "<driver name='qemu' type='raw'/><source protocol='nbd' name='x'><host name='h'/></source>"
            "<target dev='vda' bus='virtio'/>",
            kind="network",
        ),
    ],
    "controller": [
        Base("controller-virtio-scsi", "<controller type='scsi' index='0' model='virtio-scsi'/>"),
        Base("controller-scsi", "<controller type='scsi' index='0' model='lsilogic'/>"),
        Base("controller-usb", "<controller type='usb' index='0' model='qemu-xhci'/>"),
        Base("controller-usb-next", "<controller type='usb' index='1' model='nec-xhci'/>"),
        Base("controller-ide", "<controller type='ide' index='0'/>", ["pc"]),
        Base("controller-sata", "<controller type='sata' index='0'/>"),
        Base("controller-serial", "<controller type='virtio-serial' index='0'/>"),
        Base("controller-root-port", "<controller type='pci' index='1' model='pcie-root-port'/>", ["q35"]),
        Base("controller-bridge", "<controller type='pci' index='1' model='pci-bridge'/>", ["pc"]),
        Base("controller-to-pci", "<controller type='pci' index='1' model='pcie-to-pci-bridge'/>", ["q35"]),
        Base("controller-pxb", "<controller type='pci' index='1' model='pci-expander-bus'/>", ["pc"]),
        Base("controller-pxb-pcie", "<controller type='pci' index='1' model='pcie-expander-bus'/>", ["q35"]),
        Base("controller-root", "<controller type='pci' index='0' model='pci-root'/>", ["pc"]),
        Base("controller-root-pcie", "<controller type='pci' index='0' model='pcie-root'/>", ["q35"]),
    ],
    "filesystem": [
        Base(
            "fs-9p",
            "<filesystem type='mount' accessmode='passthrough'><source dir='/srv/d'/><target dir='t'/></filesystem>",
        ),
        Base(
            "fs-virtiofs",
            "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/d'/><target dir='t'/></filesystem>",
            more=_SHARED,
        ),
    ],
    "interface": [
        _nic("network", "network", "<source network='default'/><model type='virtio'/>"),
        _nic("bridge", "bridge", "<source bridge='br0'/><model type='e1000'/>"),
        _nic("user", "user", "<model type='virtio'/>"),
        _nic("ethernet", "ethernet", "<target dev='tap7'/><model type='virtio'/>"),
        _nic("direct", "direct", "<source dev='eth0' mode='bridge'/><model type='virtio'/>"),
        _nic(
            "vhostuser",
            "vhostuser",
            "<source type='unix' path='/srv/vu' mode='client'/><model type='virtio'/>",
            more=_SHARED,
        ),
        _nic("hostdev", "hostdev", "<source><address type='pci' domain='0' bus='3' slot='7' function='0'/></source>"),
        _nic("udp", "udp", "<source address='192.0.2.1' port='1'><local address='192.0.2.2' port='2'/></source>"),
        _nic("vdpa", "vdpa", "<source dev='/dev/vhost-vdpa-0'/>"),
    ],
    "hostdev": [
        Base("hostdev-pci", f"<hostdev mode='subsystem' type='pci' managed='yes'>{_PCI}</hostdev>"),
        Base(
            "hostdev-usb",
            "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
        ),
        Base("hostdev-scsi", f"<hostdev mode='subsystem' type='scsi'>{_SCSI}</hostdev>"),
        Base(
            "hostdev-vhost",
            "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>",
        ),
        Base(
            "hostdev-mdev",
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
            "<source><address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source></hostdev>",
        ),
    ],
    "lease": [
        Base("lease", "<lease><lockspace>s</lockspace><key>k</key><target path='/srv/lease' offset='1024'/></lease>")
    ],
    "redirdev": [
        Base("redir-spice", "<redirdev bus='usb' type='spicevmc'/>", beside="<graphics type='spice'/>"),
        Base(
            "redir-tcp",
            "<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='4000'/></redirdev>",
        ),
    ],
    "redirfilter": [
        Base(
            "redirfilter",
            "<redirfilter><usbdev class='0x08' vendor='0x1234' product='0xbeef' version='2.56' allow='yes'/>"
            "<usbdev allow='no'/></redirfilter>",
            beside="<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='4000'/></redirdev>",
        )
    ],
}


def one_change(family: str, *, dense: bool = False, common: set[str] | None = None) -> Iterator[Document]:
    """Each base, and each thing of the schema put into it: into each base, or (``dense``) into the first that takes it;
    what is in ``common``, which grows, other families have had."""
    schema = Schema("domaincommon.rng")
    seen: set[str] = set(common or ())
    for number, base in enumerate(BASES[family]):
        seen = seen if dense else set()
        for words, device in schema.variations(family, etree.fromstring(base.xml), seen):
            for machine in base.machines if not dense else [base.machines[number % len(base.machines)]]:
                yield f"{base.name} {machine} {words}", document(base, machine, device)
    if common is not None:
        common.update(word for word in seen if word.startswith(("address", "alias", "acpi")))


def two_changes(family: str, count: int, seed: int = 1) -> Iterator[Document]:
    """``count`` documents with two things of the schema put into a base, by chance but always the same."""
    rng = random.Random(f"{family} {seed}")
    schema = Schema("domaincommon.rng")
    choices = [(base, list(schema.variations(family, etree.fromstring(base.xml)))) for base in BASES[family]]
    parts = schema.parts(family)
    for _ in range(count):
        base, changed = rng.choice(choices)
        words, device = rng.choice(changed)
        device = deepcopy(device)
        before = etree.fromstring(etree.tostring(device))
        put(device, rng.choice(parts))
        more = changes(before, device)
        machine = rng.choice(base.machines)
        yield f"{base.name} {machine} {words} & {','.join(more)}", document(base, machine, device)


# what boards are put together from; {n} is a number of its own, {a} an address that some have
_PIECES: list[tuple[str, str]] = [
    ("", "<controller type='usb' model='ehci'/>"),
    ("", "<controller type='usb' model='nec-xhci' ports='8'/>"),
    ("", "<controller type='usb' model='qemu-xhci'>{a}</controller>"),
    ("", "<controller type='usb' index='0' model='ich9-ehci1'/><controller type='usb' index='0' model='ich9-uhci1'/>"),
    ("", "<controller type='scsi' model='virtio-scsi'>{a}</controller>"),
    ("", "<controller type='scsi' model='lsisas1068'/>"),
    ("", "<controller type='virtio-serial'>{a}</controller>"),
    ("", "<controller type='sata'/>"),
    ("", "<controller type='ccid'/>"),
    ("pc", "<controller type='pci' model='pci-bridge'/>"),
    ("pc", "<controller type='pci' model='pci-expander-bus'/>"),
    ("q35", "<controller type='pci' model='pcie-root-port'/>"),
    ("q35", "<controller type='pci' model='pcie-root-port'><target hotplug='off'/></controller>"),
    (
        "q35",
        "<controller type='pci' index='{n}' model='pcie-root-port'><target chassis='{n}' port='0x1{n}'/></controller>",
    ),
    ("q35", "<controller type='pci' model='pcie-to-pci-bridge'/>"),
    ("q35", "<controller type='pci' model='dmi-to-pci-bridge'/>"),
    ("q35", "<controller type='pci' model='pcie-expander-bus'><target busNr='180'/></controller>"),
    ("q35", "<controller type='pci' model='pcie-switch-upstream-port'/>"),
    ("q35", "<controller type='pci' model='pcie-switch-downstream-port'/>"),
    ("", "<disk type='file' device='disk'><source file='/srv/{n}'/><target dev='vd{l}' bus='virtio'/>{b}{a}</disk>"),
    ("", "<disk type='file' device='disk'><source file='/srv/{n}'/><target dev='sd{l}' bus='scsi'/>{b}</disk>"),
    ("", "<disk type='file' device='disk'><source file='/srv/{n}'/><target dev='sd{l}' bus='usb'/>{b}</disk>"),
    ("", "<disk type='file' device='cdrom'><source file='/srv/{n}'/><target dev='sd{l}' bus='sata'/>{b}</disk>"),
    ("pc", "<disk type='file' device='disk'><source file='/srv/{n}'/><target dev='hda' bus='ide'/></disk>"),
    ("", "<disk type='file' device='floppy'><source file='/srv/{n}'/><target dev='fda' bus='fdc'/></disk>"),
    ("", "<interface type='user'><mac address='52:54:00:00:01:0{n}'/><model type='virtio'/>{b}{a}</interface>"),
    ("", "<interface type='user'><mac address='52:54:00:00:02:0{n}'/><model type='e1000'/>{b}{a}</interface>"),
    ("q35", "<interface type='user'><mac address='52:54:00:00:03:0{n}'/><model type='e1000e'/>{b}</interface>"),
    ("", "<filesystem type='mount'><source dir='/srv'/><target dir='t{n}'/></filesystem>"),
    ("", "<hostdev mode='subsystem' type='usb'><source><vendor id='0x123{n}'/><product id='1'/></source>{b}</hostdev>"),
    (
        "",
        "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
        "<address bus='0' target='0' unit='{n}'/></source></hostdev>",
    ),
    (
        "",
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='{n}' slot='0' function='0'/></source>{b}{a}"
        "</hostdev>",
    ),
    ("", "<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='400{n}'/>{b}</redirdev>"),
    ("", "<smartcard mode='host'/>"),
    ("", "<serial type='pty'/>"),
    ("", "<serial type='pty'><target type='usb-serial'/></serial>"),
    ("", "<serial type='pty'><target type='pci-serial'/></serial>"),
    ("", "<console type='pty'><target type='virtio'/></console>"),
    ("", "<channel type='pty'><target type='virtio' name='c{n}'/></channel>"),
    (
        "",
        "<channel type='pty'><target type='virtio' name='c{n}'/>"
        "<address type='virtio-serial' controller='0' bus='0' port='{n}'/></channel>",
    ),
    ("", "<input type='tablet' bus='usb'/>"),
    ("", "<input type='mouse' bus='usb'><address type='usb' bus='0' port='{n}'/></input>"),
    ("", "<input type='keyboard' bus='virtio'>{a}</input>"),
    ("", "<hub type='usb'/>"),
    ("", "<graphics type='vnc'/><video><model type='vga'/></video>"),
    ("", "<video><model type='virtio'/></video>"),
    ("", "<sound model='ich9'/>"),
    ("", "<sound model='ac97'>{a}</sound>"),
    ("", "<watchdog model='i6300esb' action='reset'>{a}</watchdog>"),
    ("", "<rng model='virtio'><backend model='random'>/dev/urandom</backend>{a}</rng>"),
    ("", "<memballoon model='none'/>"),
    ("", "<vsock model='virtio'/>"),
    ("", "<panic model='isa'><address type='isa' iobase='0x505'/></panic>"),
]


def boards(count: int, seed: int = 1) -> Iterator[Document]:
    """``count`` guests of some devices each, by chance but always the same: who gets which address."""
    for number in range(count):
        rng = random.Random(f"board {seed} {number}")
        machine = rng.choice(["pc", "q35"])
        pieces = [piece for kind, piece in _PIECES if kind in ("", machine)]
        ordered = rng.random() < 0.2
        root = "pcie-root" if machine == "q35" else "pci-root"
        text = rng.choice(["", f"<controller type='pci' index='0' model='{root}'/>"])
        for n, piece in enumerate(rng.sample(pieces, rng.randint(2, 12)), 1):
            boot = f"<boot order='{n}'/>" if ordered else ""
            place = _place(rng, machine) if rng.random() < 0.25 else ""
            text += piece.format(n=n % 10, l="abcdefghijkl"[n - 1], a=place, b=boot)
        yield f"board {machine} {number}", domain(text, machine=machine)


def others() -> list[Document]:
    """Documents that say little: sources without a place, controllers without a model or a number."""
    found = []
    places = (("disk", "vda", "virtio"), ("cdrom", "sda", "sata"), ("floppy", "fda", "fdc"), ("lun", "sda", "scsi"))
    for kind in ("file", "block", "dir", "network", "nvme", "vhostuser"):
        for device, dev, bus in places:
            for source in ("", "<source/>"):
                text = f"<disk type='{kind}' device='{device}'>{source}<target dev='{dev}' bus='{bus}'/></disk>"
                found.append((f"no source {kind} {device} {source}", domain(text)))
    drives = "".join(
        f"<disk type='file' device='disk'><source file='/{c}'/><target dev='sd{c}' bus='scsi'/></disk>"
        for c in "aghpqz"
    )
    scsi = "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>{}</source></hostdev>"
    units = "".join(scsi.format(f"<address bus='0' target='0' unit='{n}'/>") for n in range(18))
    tablets = "<input type='tablet' bus='usb'/>" * 11
    for name, text in (
        ("SCSI units", units),
        ("SCSI drives", drives),
        ("USB without a model", "<controller type='usb' index='0'/>"),
        ("USB twice", "<controller type='usb'/><controller type='usb' model='ehci'/>"),
        ("USB hubs", tablets),
        ("USB none", "<controller type='usb' model='none'/>"),
        ("ICH9", "".join(f"<controller type='usb' index='0' model='ich9-{m}'/>" for m in ("ehci1", "uhci1", "uhci2"))),
        ("boot twice", drives.replace("bus='scsi'/>", "bus='scsi'/><boot order='1'/>")),
    ):
        found += [(f"{name} {machine}", domain(text, machine=machine)) for machine in ("pc", "q35")]
    return found


def _place(rng: random.Random, machine: str) -> str:
    """A PCI address that may well be taken, or be where nothing may go."""
    bus, slot = rng.choice([(0, rng.randint(3, 9)), (0, 0x1D), (1, 0), (1, 1), (2, 0), (3, 5)])
    function = rng.choice([0, 0, 0, 1])
    several = " multifunction='on'" if rng.random() < 0.3 else ""
    return f"<address type='pci' domain='0' bus='{bus}' slot='{slot:#x}' function='{function}'{several}/>"


def document(base: Base, machine: str, device: Any) -> str:
    text = etree.tostring(device, encoding="unicode")
    return domain(f"{base.beside}{text}", machine=machine, more=base.more)


def everything(pairs: int = 0) -> list[Document]:
    """All changes of all families; ``pairs`` of two changes for each family."""
    return list(chain.from_iterable((*one_change(family), *two_changes(family, pairs)) for family in BASES))


def dense() -> list[Document]:
    """Each thing of the schema once; addresses and aliases once for all families."""
    common: set[str] = set()
    found: list[Document] = []
    for family in BASES:
        found += one_change(family, dense=True, common=common)
    return found
