"""What a guest would not get is refused, never passed over in silence."""

from __future__ import annotations

import pytest

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.model import addresses
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.domain import Domain
from guesthouse.qemu import command

DOMAIN = """\
<domain type='qemu'>
  <name>r</name>
  <memory>65536</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type>{os}</os>
  {top}
  <devices>{devices}</devices>
</domain>
"""
LUN = "<disk type='block' device='lun' {0}><source dev='/x'/><target dev='vda'/></disk>"
DISK = "<disk type='file' {0}><source file='/x' {1}/><target dev='vda'/>{2}</disk>"


def build(*, os: str = "", top: str = "", devices: str = "") -> command.Command:
    domain = Domain.from_xml(DOMAIN.format(os=os, top=top, devices=devices))
    prepare(
        domain, GuestDefaults(machines={"pc": "pc-i440fx-7.2"}, emulators={"x86_64": "/usr/bin/qemu-system-x86_64"})
    )
    addresses.assign_aliases(domain)
    for number, disk in enumerate(domain.dev.disks, 1):
        if disk.source is not None:
            disk.source.index = number
    for graphics in domain.dev.graphics:
        graphics.port = 5900
    return command.build(domain, command.Wiring(3))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"os": "<smbios mode='host'/>"}, "Host SMBIOS information is not available"),
        ({"top": "<features><gic version='2'/></features>"}, "The 'gic' feature is not supported"),
        ({"devices": "<iommu model='intel'/>"}, "'intel' is only supported with Q35"),
        ({"top": "<seclabel type='static' model='dac'><label>qemu:qemu</label></seclabel>"}, "another <seclabel>"),
        ({"top": "<seclabel type='none' model='dac'/>"}, "another <seclabel>"),
        ({"top": "<seclabel type='dynamic' model='selinux'/>"}, "Security driver model 'selinux' is not available"),
        ({"devices": DISK.format("device='disk' rawio='yes'", "", "")}, "rawio can be used only with device='lun'"),
        ({"devices": LUN.format("sgio='unfiltered'")}, "unfiltered sgio is no longer supported"),
        ({"devices": DISK.format("", "", "<wonder/>")}, "<wonder> of <disk>"),
        ({"devices": "<graphics type='spice' autoport='no' port='5900' tlsPort='5901'/>"}, "TLS is disabled"),
        ({"devices": "<graphics type='spice' autoport='yes' defaultMode='secure'/>"}, "defaultMode secure"),
        ({"devices": "<serial type='pty'><wonder/></serial>"}, "<wonder> of <"),
        ({"devices": "<rng model='virtio'><backend model='random'/><wonder/></rng>"}, "<wonder> of <rng>"),
    ],
)
def test_refused(parts: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        build(**parts)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"os": "<smbios mode='emulate'/>"},
        {"top": "<seclabel type='none'/>"},
        {"top": "<seclabel type='dynamic' model='dac' relabel='yes'/>"},
        {"devices": DISK.format("device='disk' rawio='no'", "startupPolicy='optional'", "")},
        {"devices": "<graphics type='spice' autoport='yes'/>"},
        {"devices": "<graphics type='vnc' passwd='x' passwdValidTo='2027-01-31T23:59:59' connected='keep'/>"},
    ],
)
def test_what_asks_for_nothing_more_is_given(parts: dict[str, str]) -> None:
    assert build(**parts).argv


@pytest.mark.parametrize("moment", ["tomorrow", "2027-13-01T00:00:00", "2027-01-01 00:00:00"])
def test_a_password_holds_until_a_time(moment: str) -> None:
    with pytest.raises(InternalError, match=f"cannot parse password validity time '{moment}'"):
        build(devices=f"<graphics type='vnc' passwd='x' passwdValidTo='{moment}'/>")
