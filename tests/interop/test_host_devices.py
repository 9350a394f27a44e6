"""Devices and interfaces of the host: one transcript of any virsh with any daemon, on the same set of made-up network
devices; and news of devices, which C libvirtd gets from udevd alone."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.client import NodeDevice
from guesthouse.errors import GuesthouseError, NoNodeDevice
from support import lines, namespaces
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable

# a bridge with ports, pairs, taps: what every kernel can make
SETUP = """\
ip link add hbr0 type bridge
ip link set hbr0 address 52:54:00:00:aa:01
ip link add hve0 address 52:54:00:00:aa:02 type veth peer name hve1 address 52:54:00:00:aa:03
ip link add hve2 address 52:54:00:00:aa:04 type veth peer name hve3 address 52:54:00:00:aa:05
ip link add hve4 address 52:54:00:00:aa:05 type veth peer name hve5 address 52:54:00:00:aa:06
ip tuntap add htap0 mode tap
ip link set htap0 address 52:54:00:00:aa:07
ip tuntap add htun0 mode tun
ip link set hve2 master hbr0
ip link set hve0 master hbr0
ip link set htap0 master hbr0
ip address add 192.0.2.1/24 dev hbr0
for name in hve0 hve1 hve2 hve3 hbr0; do ip link set $name up; done
until [ $(cat /sys/class/net/hbr0/operstate) = up ]; do sleep 0.1; done
ip link set hbr0 type bridge stp_state 1
"""

FILES: dict[str, str | bytes] = {
    "mdev.xml": "<device><parent>nonsense</parent><capability type='mdev'><type id='a'/></capability></device>",
    "hba.xml": (
        "<device><parent>nonsense</parent><capability type='scsi_host'><capability type='fc_host'>"
        "<wwnn>20000000c9831b4b</wwnn><wwpn>10000000c9831b4b</wwpn></capability></capability></device>"
    ),
    "net.xml": "<device><name>x</name><capability type='net'><interface>x</interface></capability></device>",
    "nocap.xml": "<device><name>x</name></device>",
    "badcap.xml": "<device><capability type='bogus'/></device>",
    "badmdev.xml": "<device><capability type='mdev'/></device>",
    "domain.xml": "<domain/>",
    "interface.xml": "<interface type='ethernet' name='hve1'><start mode='none'/></interface>",
}
FILES["hba2.xml"] = str(FILES["hba.xml"]).replace("nonsense", "computer")

LINES = """\
nodedev-list
nodedev-list --tree
nodedev-list --tree --all
nodedev-list --all
nodedev-list --inactive
nodedev-list --inactive --all
nodedev-list --tree --inactive
nodedev-list --tree --cap net
nodedev-list --cap pci
nodedev-list --cap net,storage
nodedev-list --cap net,bogus
nodedev-list --cap 80203
nodedev-list --cap vports,fc_host,scsi_generic,drm,mdev,mdev_types,ccw,css,vdpa,ap_card,ap_queue,ap_matrix,vpd,system
nodedev-dumpxml computer
nodedev-dumpxml net_hve0_52_54_00_00_aa_02
nodedev-dumpxml net_hve4_52_54_00_00_aa_05
nodedev-dumpxml net_htap0_52_54_00_00_aa_07
nodedev-dumpxml net_htun0
nodedev-dumpxml net_lo_00_00_00_00_00_00
nodedev-dumpxml computer --xpath //uuid
nodedev-dumpxml nonsense
nodedev-dumpxml 1,2
nodedev-dumpxml ,
nodedev-dumpxml a,b,c
nodedev-info computer
nodedev-info net_hve0_52_54_00_00_aa_02
nodedev-info nonsense
-d 0 nodedev-info nonsense
nodedev-create {work}/mdev.xml
nodedev-create {work}/hba.xml
nodedev-create {work}/hba2.xml
nodedev-create {work}/net.xml
nodedev-create {work}/nocap.xml
nodedev-create {work}/badcap.xml
nodedev-create {work}/badmdev.xml
nodedev-create {work}/domain.xml
nodedev-create {work}/absent.xml
nodedev-define {work}/mdev.xml
nodedev-define {work}/hba.xml
nodedev-define {work}/net.xml
nodedev-undefine nonsense
nodedev-undefine computer
nodedev-undefine net_htun0
nodedev-start nonsense
nodedev-start computer
nodedev-destroy nonsense
nodedev-destroy computer
nodedev-destroy net_htun0
nodedev-autostart nonsense
nodedev-autostart computer
nodedev-autostart net_htun0 --disable
nodedev-detach nonsense
nodedev-detach computer
nodedev-detach computer --driver vfio
nodedev-detach computer --driver kvm
nodedev-detach computer --driver bogus
nodedev-reattach nonsense
nodedev-reattach computer
nodedev-reset nonsense
nodedev-reset computer
nodedev-event
nodedev-event --list
nodedev-event --event bogus
nodedev-event --event lifecycle --timeout 1
nodedev-event --device nonsense --event lifecycle
nodedev-event --device computer --event update --timeout 1
-r nodedev-destroy computer
-r nodedev-create {work}/mdev.xml
-r nodedev-detach computer
-r nodedev-detach computer --driver vfio
-r nodedev-reattach computer
-r nodedev-reset computer
-r nodedev-undefine computer
-r nodedev-list --cap system
iface-list
iface-list --all
iface-list --inactive
-q iface-list
iface-dumpxml hbr0
iface-dumpxml hbr0 --inactive
iface-dumpxml hve0
iface-dumpxml hve1 --inactive
iface-dumpxml hve4 --inactive
iface-dumpxml htap0 --inactive
iface-dumpxml htun0 --inactive
iface-dumpxml lo --inactive
iface-dumpxml 52:54:00:00:aa:03 --inactive
iface-dumpxml 52:54:0:0:aa:3 --inactive
iface-dumpxml hve1 --xpath //mac
iface-dumpxml nonsense
iface-dumpxml 52:54:00:00:aa:99
iface-name 52:54:00:00:aa:05
iface-name 52:54:00:00:aa:06
iface-name 52:54:00:00:aa:02
iface-name hbr0
iface-name
iface-mac hbr0
iface-mac hve0
iface-mac htun0
iface-mac 52:54:00:00:aa:03
iface-mac nonsense
-d 0 iface-mac nonsense
-d 0 iface-name 52:54:00:00:aa:99
iface-define {work}/interface.xml
iface-define {work}/absent.xml
iface-edit nonsense
iface-undefine hve1
iface-start hve1
iface-start lo
iface-destroy hve1
iface-begin
iface-commit
iface-rollback
iface-bridge hve1 newbr0
iface-bridge hve1 newbr0 --no-stp --no-start --delay 3
iface-bridge hve1 hbr0
iface-bridge hbr0 newbr0
iface-bridge nonsense hbr0
iface-unbridge hbr0
iface-unbridge hve1
iface-unbridge nonsense
-r iface-undefine hve1
-r iface-begin
-r iface-list
""".splitlines()

SCRIPT = Path(__file__).with_name("python_libvirt_host.py")

# the addresses that an interface has, which libvirt's udev backend leaves out
_ADDRESSES = re.compile(r"  <protocol .*?</protocol>\n", re.S)


def _even(text: str) -> str:
    return _ADDRESSES.sub("", text)


def _host_lines(daemon: Libvirtd) -> list[str]:
    """A look at each disk and PCI device that this host has."""
    names = daemon.run("nodedev-list", "--cap", "pci,storage,usb_device,usb,drm,scsi,scsi_host").stdout.split()
    return [f"nodedev-dumpxml {name}" for name in names]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = reachable(tmp_path_factory.mktemp("devices"))
    lines.write(folder, FILES)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    """A libvirtd that was started after the devices were made: without udevd it sees no new ones."""
    daemon = Libvirtd(reachable(tmp_path_factory.mktemp("libvirtd")))
    try:
        daemon.run("net-destroy", "default")
        daemon.ns.run("sh", "-euc", SETUP)
        daemon.restart()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    daemon = Guesthoused(reachable(tmp_path_factory.mktemp("guesthoused")))
    try:
        daemon.run("net-destroy", "default")
        daemon.ns.run("sh", "-euc", SETUP)
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def asked(theirs: Libvirtd) -> list[str]:
    return [*LINES, *_host_lines(theirs)]


@pytest.fixture(scope="module")
def answers(
    theirs: Libvirtd, ours: Guesthoused, work: Path, asked: list[str]
) -> dict[tuple[str, str], list[lines.Answer]]:
    return lines.run_all(theirs, ours, work, asked, _even)


@pytest.mark.parametrize("who", [("c", "ours"), ("ours", "c"), ("ours", "ours")], ids="-".join)
def test_daemon_and_virsh_say_the_same(
    answers: dict[tuple[str, str], list[lines.Answer]], asked: list[str], who: tuple[str, str]
) -> None:
    lines.compare(asked, answers["c", "c"], answers[who])


def test_an_interface_tells_its_addresses(ours: Guesthoused) -> None:
    xml = ours.ours("iface-dumpxml", "hbr0").stdout
    assert "  <protocol family='ipv4'>\n    <ip address='192.0.2.1' prefix='24'/>\n  </protocol>\n" in xml
    assert "<protocol" not in ours.ours("iface-dumpxml", "hbr0", "--inactive").stdout


def test_libvirt_python_gets_the_same(ours: Guesthoused, theirs: Libvirtd) -> None:
    """Calls that virsh does not make, with the codes and domains of their errors."""

    def told(daemon: Guesthoused | Libvirtd) -> list[str]:
        argv = daemon.ns.command(["/usr/bin/python3", str(SCRIPT), daemon.uri])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [_even(line) for line in done.stdout.splitlines()]

    want = told(theirs)
    assert len(want) > 60
    assert told(ours) == want


def _watch(daemon: Guesthoused, program: str, *words: str) -> subprocess.Popen[str]:
    argv = daemon.ns.command([lines.PROGRAMS[program], "-c", daemon.uri, "nodedev-event", *words])
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_news_of_devices(ours: Guesthoused) -> None:
    loop = ("--loop", "--timeout", "5")
    watchers = [
        _watch(ours, "c", "--event", "lifecycle", *loop),
        _watch(ours, "ours", "--event", "lifecycle", *loop),
        _watch(ours, "c", "--event", "update", *loop),
        _watch(ours, "ours", "--event", "update", "--device", "net_hve1_52_54_00_00_aa_03", *loop),
        _watch(ours, "c", "--event", "lifecycle", "--device", "net_lo_00_00_00_00_00_00", *loop),
    ]
    time.sleep(1.5)
    script = """
    ip link add new0 address 52:54:00:00:bb:01 type veth peer name new1 address 52:54:00:00:bb:02
    ip tuntap add new2 mode tap
    ip link set new2 address 52:54:00:00:bb:03
    ip link set new1 name new3
    echo change > /sys/class/net/hve1/uevent
    ip link delete new0
    ip link delete new2
    ip link add nobody0 type bridge
    ip link delete nobody0
    """
    ours.ns.run("sh", "-euc", script)
    told = [watcher.communicate(timeout=30)[0].rstrip().splitlines() for watcher in watchers]
    assert told[0] == told[1]
    assert [line for line in told[0] if "node device" in line and "new2" not in line] == [
        f"event 'lifecycle' for node device net_{name}: {what}"
        for name, what in (
            ("new1_52_54_00_00_bb_02", "Created"),
            ("new0_52_54_00_00_bb_01", "Created"),
            ("new1_52_54_00_00_bb_02", "Deleted"),
            ("new3_52_54_00_00_bb_02", "Created"),
            ("new0_52_54_00_00_bb_01", "Deleted"),
            ("new3_52_54_00_00_bb_02", "Deleted"),
        )
    ]
    # the tap had another address when the kernel told of it
    assert len([line for line in told[0] if "net_new2_" in line]) == 2
    update = "event 'update' for node device net_hve1_52_54_00_00_aa_03"
    assert told[2] == told[3] == [update, "event loop timed out", "events received: 1"]
    assert told[4] == ["event loop timed out", "events received: 0"]
    assert "new" not in ours.run("nodedev-list", "--cap", "net").stdout


def test_what_is_listed_is_what_sysfs_has(ours: Guesthoused) -> None:
    with client.connect(ours.uri) as conn:
        devices = {device.name: device.get_xml_desc() for device in conn.list_all_devices()}
        for name, xml in devices.items():
            parent = NodeDevice(conn, conn.node_device_lookup_by_name(name)).get_parent()
            assert parent is None or parent in devices
            path = re.search(r"<path>(.*)</path>", xml)
            assert path is None or ours.ns.run("test", "-e", path[1], check=False).returncode == 0
        with pytest.raises(NoNodeDevice):
            conn.node_device_lookup_scsi_host_by_wwn("20000000c9831b4b", "10000000c9831b4b")
        with pytest.raises(GuesthouseError):
            conn.node_device_lookup_by_name("")
    for folder, start in (("bus/pci/devices", "pci_"), ("bus/usb/devices", "usb_")):
        found = ours.ns.run("ls", f"/sys/{folder}", check=False).stdout.split()
        assert len([name for name in devices if name.startswith(start)]) == len(found)


def test_a_device_that_is_made_while_no_daemon_looks(ours: Guesthoused) -> None:
    namespaces.end(ours.pid)
    ours.ns.run("ip", "tuntap", "add", "late0", "mode", "tun")
    ours.start()
    assert "net_late0" in ours.run("nodedev-list").stdout.split()
    ours.ns.run("ip", "link", "delete", "late0")
