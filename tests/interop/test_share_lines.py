"""Shares, limits and nodes of a guest that runs and of one that does not: the same lines to C libvirtd and to guesthoused
by C virsh, and to guesthoused by ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support import cgroups
from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd

OURS, THEIRS = str(BIN / "virsh"), "/usr/bin/virsh"
pytestmark = pytest.mark.skipif(not cgroups.trees(), reason="no control groups here")
GUEST = """\
<domain type='qemu'>
  <name>{name}</name><uuid>0a5ced00-0000-4000-8000-0000000001{number:02}</uuid><memory unit='MiB'>64</memory>{more}
  <vcpu>2</vcpu>{tune}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices/>
</domain>
"""
HELD = """\
<cputune>
  <shares>512</shares><period>50000</period><quota>20000</quota><emulator_quota>30000</emulator_quota>
  <vcpupin vcpu='1' cpuset='0-1,^1'/>
</cputune>
"""
GUESTS = {
    "t": ("", "<iothreads>1</iothreads>"),
    "held": (
        "<blkiotune><device><path>DEVICE</path><read_bytes_sec>1000000</read_bytes_sec></device></blkiotune>",
        HELD,
    ),
    "n": ("", ""),
    "bad2": ("<blkiotune><device><path>/dev/nope</path><read_iops_sec>100</read_iops_sec></device></blkiotune>", ""),
    "bad3": ("<blkiotune><weight>7777</weight></blkiotune>", ""),
}
LINES = """\
schedinfo t
schedinfo held
schedinfo t --set cpu_shares=2048
schedinfo t --set vcpu_quota=50000 --live
schedinfo t --set vcpu_period=200000 emulator_quota=60000 --live
schedinfo t --set global_quota=150000 --live --config
schedinfo t --set iothread_quota=40000 --live
schedinfo t --set vcpu_quota=10 --live
schedinfo t --set vcpu_period=2000000 --config
schedinfo t --set cpu_shares=1 --live
schedinfo t --set vcpu_quota=-1 --live
schedinfo t --set bogus=1
schedinfo t --config
schedinfo t --set vcpu_quota=-1 --config
schedinfo t --set global_quota=0 --config
dumpxml t --xpath //cputune
dumpxml t --inactive --xpath //cputune
memtune t
memtune t --hard-limit 300000 --live
memtune t --hard-limit 400000 --soft-limit 200000 --swap-hard-limit 500000 --live --config
memtune t
memtune t --swap-hard-limit 100000
memtune t --min-guarantee 1000
memtune t --hard-limit -1 --live
memtune t --swap-hard-limit -1
memtune t --hard-limit 200M --config
memtune t --config
dumpxml t --xpath //memtune
dumpxml t --inactive --xpath //memtune
blkiotune t
blkiotune t --weight 500
blkiotune t --weight 50000
blkiotune t --weight 5
blkiotune t --weight 500 --config
blkiotune t --device-read-bytes-sec DEVICE,5000000
blkiotune t --device-write-iops-sec DEVICE,500 --device-read-iops-sec DEVICE,400 --live --config
blkiotune t --device-weights DEVICE,500
blkiotune t --device-weights DEVICE,500 --config
blkiotune t --device-read-bytes-sec /dev/nope,5000000
blkiotune t --device-read-bytes-sec /dev/null,5000000
blkiotune t --device-read-bytes-sec DEVICE
blkiotune t --device-read-bytes-sec DEVICE,x
blkiotune t --device-read-bytes-sec /dev/nope,5000000 --config
blkiotune t
blkiotune t --config
blkiotune t --device-read-bytes-sec DEVICE,0 --live --config
dumpxml t --xpath //blkiotune
dumpxml t --inactive --xpath //blkiotune
numatune t
numatune t --mode preferred --live
numatune t --nodeset 0 --live
numatune t
numatune t --nodeset 1 --live
numatune t --nodeset 0-1,^0 --config
numatune t --mode strict --nodeset 1 --live
numatune t --mode interleave --live
numatune t --mode 7
numatune t --mode restrictive --nodeset 0 --config
numatune t --config
dumpxml t --xpath //numatune
dumpxml t --inactive --xpath //numatune
numatune n --mode restrictive
numatune n --nodeset x
numatune n --nodeset 0
dumpxml n --xpath //numatune
start bad2
start bad3
schedinfo n --live
memtune n --live
memtune n --hard-limit 1
memtune n --hard-limit 1 --swap-hard-limit 0
dumpxml n --xpath //memtune
schedinfo t --live --config
cpu-stats t --start 7
cpu-stats n --total
"""


class Place:
    """A daemon with the guests of these tests."""

    def __init__(self, daemon: Libvirtd | Guesthoused, device: str) -> None:
        self.daemon, self.device = daemon, device
        for number, (name, (more, tune)) in enumerate(GUESTS.items()):
            file = daemon.root / f"{name}.xml"
            text = GUEST.format(name=name, number=number, more=more, tune=tune)
            file.write_text(text.replace("DEVICE", device))
            assert "defined" in daemon.run("define", str(file)).stdout

    def ask(self, virsh: str) -> dict[str, str]:
        """Line -> what it prints, of guests that have just been started."""
        for name in ("t", "held"):
            assert "started" in self.daemon.run("start", name, "--paused").stdout
        try:
            lines = LINES.replace("DEVICE", self.device).splitlines()
            typed = "".join(f"{line}\necho ===\n" for line in lines)
            argv = self.daemon.ns.command([virsh, "-q", "-c", self.daemon.uri])
            run = subprocess.run(
                argv, input=typed, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
            )
        finally:
            for name in ("t", "held"):
                self.daemon.run("destroy", name)
        told = [re.sub(r"^(===)?virsh # .*\n?", "", text, flags=re.MULTILINE) for text in run.stdout.split("===\n")]
        assert len(told) == len(lines) + 1, run.stdout[-500:]
        # a daemon that is not the host's own marks its groups
        found = {}
        for number, (line, text) in enumerate(zip(lines, told[:-1], strict=True)):
            found[f"{number}: {line}"] = re.sub(r"qemu-\d+-(\w+?)(-[0-9a-f]{6})?\.libvirt", r"qemu-\1.libvirt", text)
        return found

    def redefine(self) -> None:
        for name in GUESTS:
            self.daemon.run("undefine", name)
            self.daemon.run("define", str(self.daemon.root / f"{name}.xml"))

    def clear(self) -> None:
        for name in GUESTS:
            self.daemon.run("undefine", name)


def test_the_same_lines(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    blocks = [Path("/dev") / path.name for path in sorted(Path("/sys/block").iterdir())]
    device = next(str(path) for path in reversed(blocks) if path.is_block_device())
    theirs, ours = Place(c_libvirtd, device), Place(guesthoused, device)
    try:
        expected = theirs.ask(THEIRS)
        for virsh in (THEIRS, OURS):
            found = ours.ask(virsh)
            different = [f"{line}\n{text}\n{found[line]}" for line, text in expected.items() if text != found[line]]
            assert not different, "\n".join(different)
            ours.redefine()
    finally:
        theirs.clear()
        ours.clear()
