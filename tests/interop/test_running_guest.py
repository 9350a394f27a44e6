"""What can be asked of a running guest and done to it, by C virsh and by ours, from C libvirtd and from guesthoused:
equal guests, the same lines, the same answers but for what is counted."""

from __future__ import annotations

import difflib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import media_kernel
from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd

OURS, THEIRS = str(BIN / "virsh"), "/usr/bin/virsh"
NETWORK = "<network><name>asked</name><bridge name='vbr-asked'/></network>"
# a guest that runs, one without disks, network and agent that runs, and one that does not
GUEST = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>192</memory>
  <currentMemory unit='MiB'>160</currentMemory>
  <vcpu current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet ip=off</cmdline>
  </os>
  <features><acpi/></features>
  <devices>{devices}
    <serial type='pty'/><serial type='pty'/>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""
UUIDS = {name: f"0a5ced00-{number:04}-4000-8000-000000000000" for number, name in enumerate(("g", "bare", "off"))}
DEVICES = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{folder}/disk.qcow2'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/raw.img'/><target dev='sda' bus='sata'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>
    <interface type='network'><source network='asked'/><mac address='52:54:00:a5:ed:01'/><target dev='asked0'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""

LINES = """\
cd {folder}
domstats g
domstats g --backing --block
domstats g --state --perf --memory --iothread --vm --enforce
domstats g off --state --list-running
domblkstat g vda
domblkstat g
domblkstat g --human sdb
domblkstat g nope
domblkstat off vda
domifstat g asked0
domifstat g 52:54:00:a5:ed:01
domifstat g nope
dommemstat g
dommemstat g --period 3 --live
dommemstat off --period 2
dommemstat off --period 2 --live
domblkinfo g vda
domblkinfo g sda
domblkinfo g sdb
domblkinfo g nope
domblkinfo off vda
domblkinfo g --all
domblkerror g
domblkerror off
cpu-stats g
cpu-stats g --total
cpu-stats off
vcpuinfo g
vcpuinfo g --pretty
vcpuinfo off
vcpucount g
vcpupin g
vcpupin off
vcpupin g 1
vcpupin g 5
emulatorpin g
emulatorpin off
setmem g 500M
setmem off 500M
setmem off 150M --config
setmem g 0
setmaxmem g 300M
setmaxmem off 300M
setmaxmem off 100M
setvcpus g 3
setvcpus g 3 --config
setvcpus g 3 --maximum
setvcpus g 0
setvcpus off 2
setvcpus off 1 --config
setvcpu g 7 --enable
setvcpu g 0 --disable
setvcpu g x --enable
setvcpu g 0-1 --enable
setvcpu g 1
vcpupin g 0 0
vcpupin g 0 9999
vcpupin g 9 0
vcpupin off 0 0
vcpupin off 0 0 --config
vcpupin off
vcpupin g 0 r
emulatorpin g 0
emulatorpin g
emulatorpin g x
emulatorpin off 0
schedinfo off
schedinfo off --set nope=1
numatune g
numatune off
memtune off
blkiotune off
perf g
perf g --enable nope
perf g --enable cmt
iothreadinfo g
iothreadpin g 1 0
domlaunchsecinfo g
domlaunchsecinfo off
domjobabort g
domjobabort off
send-key g KEY_A
send-key g KEY_LEFTCTRL KEY_LEFTALT 0x10
send-key g --codeset win32 VK_A
send-key g --codeset os_x ANSI_A
send-key g --codeset atset2 28
send-key g --codeset xt 57372
send-key g --codeset xt 156
send-key g --codeset xt_kbd 284
send-key g --codeset usb 4
send-key g --codeset rfb 30
send-key g --codeset nope 1
send-key g 9999
send-key g KEY_NOPE
send-key off KEY_A
send-process-signal g 1 sigterm
send-process-signal g 1 nope
inject-nmi g
inject-nmi off
dump g elf --memory-only
dump g live --memory-only --live --format kdump-zlib
dump g no --memory-only --format kdump-lzo
dump g no --memory-only --format win-dmp
dump g no --format elf
dump g no --memory-only --format nope
dump g no --live --crash --memory-only
dump g no/where --memory-only
dump g whole
dump off no
domstate g --reason
domtime off
domtime bare
domtime g --now --sync
domfsinfo bare
domfsfreeze bare
domfsthaw off
domfstrim bare
domhostname bare
domhostname g --source lease
domhostname g --source nope
guestinfo bare
guestinfo off
guestvcpus bare
guestvcpus bare --cpulist 0
guest-agent-timeout off
guest-agent-timeout g --timeout -5
set-user-password bare root x
get-user-sshkeys bare root
set-user-sshkeys bare root --reset
set-user-sshkeys bare root
qemu-monitor-command g '{"execute":"query-version"}'
qemu-monitor-command g query-version
qemu-monitor-command g query-stats-schemas '"provider":"kvm"'
qemu-monitor-command g --hmp info version
qemu-monitor-command g --pretty query-version
qemu-monitor-command g --return-value query-version
qemu-monitor-command g nope
qemu-monitor-command g '{"a":1}'
qemu-monitor-command off query-version
qemu-agent-command bare '{"execute":"guest-ping"}'
qemu-agent-command g --timeout 0 x
dompmsuspend bare mem
dompmsuspend bare nope
dompmwakeup g
dompmwakeup off
dominfo g
shutdown bare --mode agent
reboot bare --mode agent
domifaddr bare --source agent
domdirtyrate-calc g --seconds 99
domdirtyrate-calc g --mode nope
domdirtyrate-calc off
set-lifecycle-action g poweroff restart
set-lifecycle-action off reboot destroy
set-lifecycle-action g x y
qemu-monitor-event g --timeout 1 --event NOPE
"""
# counted, or of the machine: sizes and times, ids, and what the two daemons' files take of the disk
COUNTED = [
    (
        r"(cpu|vcpu|net|balloon|block)\.(\S*\.)?(time|user|system|delay|bytes|pkts|times|minor_fault|unused|available"
        r"|usable|rss|disk_caches|last-update|physical)=\d+",
        r"\1.\2\3=N",
    ),
    (r"balloon\.current=\d+", "balloon.current=N"),  # the guest gives its memory back in its own time
    (r"(minor_fault|unused|available|usable|last_update|disk_caches|rss|rd_total_times|rx_\w+) \d+", r"\1 N"),
    (r"(Allocation:|duration of reads \(ns\):) +\d+", r"\1 N"),
    (r"^( vda +67108864| sda +16777216) +\d+ +", r"\1 N "),
    (r"(_time +)[\d.]+ seconds", r"\1N"),
    (r"(CPU time: +)[\d.]+s|^CPU: +\d+$", r"\1N"),
    # QEMU opens the images below a disk's by itself here, and they have no numbers
    (r"^  block\.1\.backingIndex=4\n", ""),
    (r'"libvirt-\d+"', '"N"'),
    (r"^(Id: +)\d+", r"\1N"),
]


class Place:
    """A daemon with the three guests, and what is asked of it."""

    def __init__(self, daemon: Guesthoused | Libvirtd, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o755)
        self._file("asked.xml", NETWORK)
        for line in (f"net-define {folder}/asked.xml", "net-start asked"):
            self.ask(line)
        qcow2 = ["qemu-img", "create", "-q", "-f", "qcow2"]
        subprocess.run([*qcow2, str(folder / "base.qcow2"), "64M"], check=True)
        subprocess.run([*qcow2, "-b", "base.qcow2", "-F", "qcow2", str(folder / "disk.qcow2")], check=True)
        subprocess.run(["truncate", "-s", "16M", str(folder / "raw.img")], check=True)
        kernel, initrd = media_kernel.kernel_and_initrd()
        for name, devices in (("g", DEVICES.format(folder=folder)), ("bare", ""), ("off", "")):
            xml = GUEST.format(name=name, uuid=UUIDS[name], devices=devices, kernel=kernel, initrd=initrd)
            self.ask(f"define {self._file(f'{name}.xml', xml)}")
        for name in ("g", "bare"):
            self.ask(f"start {name}")

    def _file(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def ask(self, line: str, virsh: str = THEIRS) -> str:
        run = self.daemon.run(line, virsh=virsh)
        return run.stdout + run.stderr

    def ask_all(self, lines: str, virsh: str) -> dict[str, str]:
        """Line -> what it prints, all in one shell."""
        asked = lines.replace("{folder}", str(self.folder)).splitlines()
        typed = "".join(f"{line}\necho ===\n" for line in asked)  # a failure does not end the shell
        argv = self.daemon.ns.command([virsh, "-q", "-c", self.daemon.uri])
        run = subprocess.run(
            argv, input=typed, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180, check=False
        )
        told = run.stdout.split("===\n")
        assert len(told) == len(asked) + 1, run.stdout[-500:]
        return {line: self._plain(text) for line, text in zip(lines.splitlines(), told[:-1], strict=True)}

    def _plain(self, text: str) -> str:
        text = re.sub(r"^(===)?virsh # .*\n?", "", text, flags=re.MULTILINE)  # what was typed
        for pattern, replacement in COUNTED:
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        return text.replace(str(self.folder), "FOLDER")

    def wait_for(self, line: str, text: str) -> None:
        deadline = time.monotonic() + 120
        while text not in self.ask(line):
            assert time.monotonic() < deadline, self.ask(line)
            time.sleep(0.2)

    def clear(self) -> None:
        for name in ("g", "bare", "off"):
            self.ask(f"destroy {name}")
            self.ask(f"undefine {name}")
        self.ask("net-destroy asked")
        self.ask("net-undefine asked")


@pytest.fixture(scope="module")
def places(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Iterator[tuple[Place, Place]]:
    both = Place(c_libvirtd, c_libvirtd.root / "asked"), Place(guesthoused, guesthoused.root / "asked")
    for place in both:
        for name in ("g", "bare"):
            place.wait_for(f"dommemstat {name}", "actual 163840")
            place.wait_for(f"dommemstat {name}", "unused ")
    yield both
    for place in both:
        place.clear()


def same(want: dict[str, str], got: dict[str, str]) -> None:
    """Fails with each line that is answered in two ways, and the two."""
    found = []
    for line, text in want.items():
        if got[line] != text:
            changes = difflib.unified_diff(text.splitlines(), got[line].splitlines(), n=0, lineterm="")
            found += [f"{line}:", *list(changes)[2:]]
    assert not found, "\n".join(found)


def test_the_same_lines(places: tuple[Place, Place]) -> None:
    theirs, ours = places
    same(theirs.ask_all(LINES, THEIRS), ours.ask_all(LINES, THEIRS))


def test_the_same_lines_by_our_virsh(places: tuple[Place, Place]) -> None:
    _, ours = places
    lines = "".join(f"{line}\n" for line in LINES.splitlines() if "--period" not in line and "--config" not in line)
    same(ours.ask_all(lines, THEIRS), ours.ask_all(lines, OURS))
