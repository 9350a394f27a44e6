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


def one_change(family: str, *, dense: bool = False) -> Iterator[Document]:
    """Each base, and each thing of the schema put into it: into each base, or (``dense``) into the first that takes it."""
    schema = Schema("domaincommon.rng")
    seen: set[str] = set()
    for number, base in enumerate(BASES[family]):
        seen = seen if dense else set()
        for words, device in schema.variations(family, etree.fromstring(base.xml), seen):
            for machine in base.machines if not dense else [base.machines[number % len(base.machines)]]:
                yield f"{base.name} {machine} {words}", document(base, machine, device)


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


def document(base: Base, machine: str, device: Any) -> str:
    text = etree.tostring(device, encoding="unicode")
    return domain(f"{base.beside}{text}", machine=machine, more=base.more)


def everything(pairs: int = 0) -> list[Document]:
    """All changes of all families; ``pairs`` of two changes for each family."""
    return list(chain.from_iterable((*one_change(family), *two_changes(family, pairs)) for family in BASES))


def dense() -> list[Document]:
    """Each thing of the schema once."""
    return list(chain.from_iterable(one_change(family, dense=True) for family in BASES))
