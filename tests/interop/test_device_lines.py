"""Devices added, removed and changed, line by line: {C virsh, our virsh} x {C libvirtd, guesthoused}, on a guest that is
off, on one that runs (its firmware answers no request to let go of a PCI device), and for commands that print XML."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.lines import PROGRAMS, Answer, compare, run, write
from support.namespaces import reachable

pytestmark = pytest.mark.slow

GUEST = """\
<domain type='qemu'>
  <name>devs</name>
  <uuid>7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e44</uuid>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='qemu-xhci'/>
    <controller type='scsi' model='virtio-scsi'/>
    <controller type='virtio-serial'/>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='hdc' bus='ide'/></disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{work}/one.raw'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
    <serial type='null'/>
    <graphics type='vnc' passwd='Secret12'/>
  </devices>
</domain>
"""
FILES: dict[str, str | bytes] = {
    "rng.xml": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "tablet.xml": "<input type='tablet' bus='usb'/>",
    "mouse.xml": "<input type='mouse' bus='ps2'/>",
    "watchdog.xml": "<watchdog model='i6300esb' action='reset'/>",
    "ib700.xml": "<watchdog model='ib700' action='reset'/>",
    "sound.xml": "<sound model='ich6'/>",
    "video.xml": "<video><model type='virtio'/></video>",
    "hub.xml": "<hub type='usb'/>",
    "balloon.xml": "<memballoon model='virtio'/>",
    "channel.xml": "<channel type='null'><target type='virtio' name='org.example.one'/></channel>",
    "console.xml": "<console type='null'><target type='serial' port='0'/></console>",
    "usbctl.xml": "<controller type='usb' index='1' model='qemu-xhci'/>",
    "scsi0.xml": "<controller type='scsi' index='0' model='virtio-scsi'/>",
    "scsi9.xml": "<controller type='scsi' index='9' model='virtio-scsi'/>",
    "floppy.xml": "<disk type='file' device='floppy'><source file='{work}/two.raw'/><target dev='fda' bus='fdc'/></disk>",
    "sata.xml": "<disk type='file' device='disk'><source file='{work}/two.raw'/><target dev='sdz' bus='sata'/></disk>",
    "vdb.xml": "<disk type='file'><driver name='qemu' type='raw'/><source file='{work}/two.raw'/><target dev='vdb'/></disk>",
    "vda-other.xml": "<disk type='file'><driver name='qemu' type='raw'/><source file='{work}/two.raw'/>"
    "<target dev='vda' bus='virtio'/></disk>",
    "vda-serial.xml": "<disk type='file'><driver name='qemu' type='raw'/><source file='{work}/one.raw'/>"
    "<target dev='vda' bus='virtio'/><serial>42</serial></disk>",
    "card.xml": "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>",
    "card-down.xml": "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
    "<link state='down'/></interface>",
    "card-model.xml": "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000'/></interface>",
    "card-mtu.xml": "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><mtu size='1400'/>"
    "</interface>",
    "card-net.xml": "<interface type='network'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
    "<source network='nowhere'/></interface>",
    "vnc.xml": "<graphics type='vnc' passwd='Other1' passwdValidTo='2031-01-02T03:04:05' port='-1' autoport='yes'"
    " listen='127.0.0.1'/>",
    "vnc-all.xml": "<graphics type='vnc' passwd='Other1' port='-1' autoport='yes'/>",
    "vnc-port.xml": "<graphics type='vnc' port='5999' autoport='no' listen='127.0.0.1'/>",
    "vnc-keys.xml": "<graphics type='vnc' port='-1' autoport='yes' keymap='de' listen='127.0.0.1'/>",
    "spice.xml": "<graphics type='spice' autoport='yes'/>",
    "usb.xml": "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
    "nonsense.xml": "<nonsense/>",
    "broken.xml": "<disk",
    "ua.xml": "<rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='ua-mine'/></rng>",
    "one.raw": bytes(1 << 20),
    "two.raw": bytes(1 << 20),
    "cd.iso": bytes(1 << 20),
}
KINDS = [name.removesuffix(".xml") for name in FILES if name.endswith(".xml")]

# what is printed, and what is refused before a daemon is asked
PRINTED = """\
attach-disk devs {work}/two.raw vdb --print-xml
attach-disk devs /img sda --targetbus scsi --driver qemu --subdriver qcow2 --cache none --io native --print-xml
attach-disk devs '' hdc --type cdrom --mode readonly --print-xml
attach-disk devs /img vdb --shareable --serial 12 --wwn 0123456789abcdef --alias ua-x --rawio --iothread 2 --print-xml
attach-disk devs /img vdb --address pci:0000.00.0a.0 --multifunction --print-xml
attach-disk devs /img vdb --address usb:0.1 --print-xml
attach-disk devs /img sdb --address scsi:0.0.4 --print-xml
attach-disk devs /img sdb --address pci:0.0.0.0 --print-xml
attach-disk devs /img hdb --address ide:0.0 --print-xml
attach-disk devs /img vdb --mode wild --print-xml
attach-disk devs /img vdb --wwn 12 --print-xml
attach-disk devs /img vdb --sourcetype wild --print-xml
attach-disk devs pool/img vdb --source-protocol rbd --source-host-name mon:6789 --print-xml
attach-disk devs img vdb --source-protocol nbd --source-host-transport unix --source-host-socket /s --print-xml
attach-disk devs img vdb --source-host-name mon --print-xml
attach-disk devs img vdb --sourcetype network --print-xml
attach-disk devs img vdb --persistent --current --print-xml
attach-interface devs network default --print-xml
attach-interface devs bridge br0 --mac 52:54:00:11:22:33 --model virtio --target tap9 --script /s --alias ua-n --print-xml
attach-interface devs direct eth0 --managed --print-xml
attach-interface devs hostdev 0000:03:00.1 --managed --print-xml
attach-interface devs hostdev nothing --print-xml
attach-interface devs vhostuser /s --print-xml
attach-interface devs vhostuser /s --source-mode server --print-xml
attach-interface devs vhostuser /s --source-mode wild --print-xml
attach-interface devs network default --inbound 100,200,300 --outbound 10 --print-xml
attach-interface devs network default --inbound 0 --print-xml
attach-interface devs network default --outbound 1,2,3,4 --print-xml
attach-interface devs user x --print-xml
attach-interface devs wild x --print-xml
detach-disk devs vda --print-xml
detach-disk devs nothing --print-xml
detach-interface devs user --print-xml
detach-interface devs network --print-xml
change-media devs hdc --eject
change-media devs hdc {work}/cd.iso --insert --print-xml
change-media devs hdc {work}/cd.iso --block --print-xml
change-media devs hdc --insert
change-media devs vda --eject
change-media devs hdc --eject --insert
change-media devs hdc --eject --block
domif-setlink devs 52:54:00:00:00:01 down --print-xml
domif-setlink devs 52:54:00:00:00:09 down
domif-setlink devs 52:54:00:00:00:01 sideways
update-memory-device devs --print-xml
update-memory-device devs --alias a --node 1
attach-device devs {work}/no-such.xml
attach-device devs {work}/broken.xml
attach-device devs {work}/nonsense.xml
detach-device devs {work}/nonsense.xml
""".splitlines()
# on a guest that is off
DEFINED = [
    "attach-device devs {work}/rng.xml",
    "attach-device devs {work}/rng.xml --live",
    *(
        f"attach-device devs {{work}}/{name}.xml --config"
        for name in KINDS
        if name not in ("broken", "sata", "card-mtu", "usb")
    ),
    *(f"attach-device devs {{work}}/{name}.xml --config" for name in ("vdb", "channel", "watchdog", "ua")),
    "dumpxml devs",
    *(f"update-device devs {{work}}/{name}.xml --config" for name in KINDS if not name.startswith(("broken", "card"))),
    *(f"detach-device devs {{work}}/{name}.xml --config" for name in KINDS if name != "broken"),
    *(
        f"detach-device devs {{work}}/{name}.xml --config"
        for name in ("vdb", "channel", "watchdog", "rng", "card", "usb")
    ),
    "detach-device-alias devs nothing --config",
    "detach-device-alias devs ua-mine --config",
    "change-media devs hdc {work}/cd.iso --insert --config",
    "change-media devs hdc {work}/cd.iso --insert --config",
    "change-media devs hdc --eject",
    "domif-setlink devs 52:54:00:00:00:01 down",
    "domif-getlink devs 52:54:00:00:00:01 --config",
    "detach-disk devs vda",
    "detach-disk devs vda --config",
    "detach-interface devs user --config",
    "dumpxml devs",
]
# on a guest that runs; only what leaves at once
NOT_PULLED = ("broken", "rng", "vdb", "card", "watchdog", "ua", "vda-other", "vda-serial", "floppy", "scsi9")
RUNNING = [
    "start devs",
    *(
        f"attach-device devs {{work}}/{name}.xml --live"
        for name in KINDS
        if name not in ("card-net", "card-mtu", "usb", "sata")
    ),
    "attach-device devs {work}/vdb.xml",
    "attach-device devs {work}/channel.xml",
    "attach-disk devs {work}/cd.iso sda --targetbus scsi --type cdrom --live --config",
    "attach-disk devs {work}/cd.iso sdb --targetbus usb --persistent",
    "domblklist devs",
    "domblklist devs --inactive",
    "domiflist devs",
    *(f"update-device devs {{work}}/{name}.xml --live" for name in KINDS if name not in ("broken", "card-mtu")),
    "domif-getlink devs 52:54:00:00:00:01",
    "domif-setlink devs 52:54:00:00:00:01 up",
    "domif-getlink devs 52:54:00:00:00:01",
    "change-media devs hdc {work}/cd.iso --insert",
    "change-media devs hdc {work}/two.raw --update --live",
    "domblklist devs",
    "change-media devs hdc --eject --force",
    "dumpxml devs --security-info",
    "detach-disk devs sdb --live --config",
    "detach-disk devs sda --live",
    "detach-device-alias devs nothing",
    "detach-device-alias devs ide0-1-0",
    *(f"detach-device devs {{work}}/{name}.xml" for name in KINDS if not name.startswith(NOT_PULLED)),
    "detach-device devs {work}/channel.xml",
    "domblklist devs --inactive",
    "destroy devs",
]
_EVEN = [
    (re.compile(r"(<(?:emulator|partition|label|imagelabel|baselabel)>)[^<]*"), r"\1X"),
    (re.compile(r"  <cpu .*?</cpu>\n", re.S), ""),  # libvirt asks QEMU what the guest's processor has got
    # nodes are numbered in another order, and an emptied drive has one there
    (re.compile(r"      <source index='\d+'/>\n"), ""),
    (re.compile(r"(<source [^>]*) index='\d+'"), r"\1"),
    (re.compile(r"domain-\d+-devs"), "domain-N-devs"),
    (re.compile(r"(<domain type='qemu'[^>]*) id='\d+'"), r"\1"),
]


def _even(text: str) -> str:
    for pattern, new in _EVEN:
        text = pattern.sub(new, text)
    return text


@pytest.mark.parametrize("part", ["printed", "defined", "running"])
def test_device_lines(
    part: str, c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = {"printed": PRINTED, "defined": DEFINED, "running": RUNNING}[part]
    lines = ["define {work}/guest.xml", *lines, "undefine devs"]

    def ask(daemon: Libvirtd | Guesthoused, name: str) -> list[list[Answer]]:
        work = reachable(tmp_path_factory.mktemp(name))  # of its own: QEMU locks its images
        files: dict[str, str | bytes] = {**FILES, "guest.xml": GUEST}
        write(work, {n: t if isinstance(t, bytes) else t.replace("{work}", str(work)) for n, t in files.items()})
        return [run(daemon, program, work, lines, _even) for program in PROGRAMS]

    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.submit(ask, c_libvirtd, "dev-c"), pool.submit(ask, guesthoused, "dev-g")
    want, *others = [*theirs.result(), *ours.result()]
    for have in others:
        compare(lines, want, have)
