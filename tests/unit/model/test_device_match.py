"""Devices on their own: found again, taken in and out of definitions, and refused in libvirt's words."""

from __future__ import annotations

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model import device_match
from support.domains import define

GUEST = """\
<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory><os><type machine='pc'>hvm</type></os>
<devices>
<disk type='file'><source file='/a'/><target dev='vda'/></disk>
<disk type='file'><source file='/c'/><target dev='vdc'/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/></interface>
<interface type='user'><mac address='52:54:00:00:00:02'/></interface>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<watchdog model='i6300esb'/>
<channel type='null'><target type='virtio' name='one'/></channel>
</devices></domain>"""
NO_CARD = "no device found at address '(<null>)' matching MAC address '52:54:00:00:00:09' and alias '(<null>)'"


def test_a_disk_stands_where_its_target_belongs() -> None:
    guest = define(GUEST)
    device_match.attach(guest, device_match.parse("<disk type='file'><target dev='vdb' bus='virtio'/></disk>"))
    assert [disk.dev for disk in guest.dev.disks] == ["vda", "vdb", "vdc"]


@pytest.mark.parametrize(
    ("xml", "left"),
    [
        ("<disk type='block'><target dev='vda'/></disk>", "disks"),
        ("<interface type='user'><mac address='52:54:00:00:00:02'/></interface>", "interfaces"),
        ("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", "rngs"),
        ("<watchdog model='ib700'/>", "watchdogs"),
        ("<channel type='null'><target type='virtio' name='one'/></channel>", "channels"),
        ("<input type='mouse' bus='ps2'/>", "inputs"),
    ],
)
def test_found_and_taken_out(xml: str, left: str) -> None:
    guest = define(GUEST)
    before = len(getattr(guest.dev, left))
    device_match.detach(guest, device_match.parse(xml))
    assert len(getattr(guest.dev, left)) == before - 1


@pytest.mark.parametrize(
    ("action", "xml", "text"),
    [
        ("attach", "<disk><target dev='vda'/></disk>", "target vda already exists"),
        ("attach", "<watchdog model='ib700'/>", "domain already has a watchdog"),
        ("attach", "<controller type='usb' index='0'/>", "controller index='0' already exists"),
        ("attach", "<channel type='null'><target type='virtio' name='one'/></channel>", "chardev already exists"),
        ("attach", "<console type='null'/>", "attaching serial console is not supported"),
        ("attach", "<hub type='usb'/>", "persistent attach of device 'hub' is not supported"),
        ("detach", "<disk><target dev='vdx'/></disk>", "no target device vdx"),
        ("detach", "<interface type='user'/>", "multiple matching devices found"),
        ("detach", "<interface type='user'><mac address='52:54:00:00:00:09'/></interface>", NO_CARD),
        ("detach", "<rng model='virtio'><backend model='builtin'/></rng>", "no matching RNG device was found"),
        ("detach", "<graphics type='vnc'/>", "persistent detach of device 'graphics' is not supported"),
        ("update", "<disk><target dev='vdx'/></disk>", "target vdx doesn't exist."),
        ("update", "<rng model='virtio'/>", "persistent update of device 'rng' is not supported"),
        ("update", "<nonsense/>", "unknown device type 'nonsense'"),
    ],
)
def test_refused(action: str, xml: str, text: str) -> None:
    guest = define(GUEST)
    before = guest.to_xml()
    with pytest.raises(GuesthouseError) as failed:
        getattr(device_match, action)(guest, device_match.parse(xml))
    assert text in str(failed.value)
    assert guest.to_xml() == before
