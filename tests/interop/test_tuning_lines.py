"""Limits of disks, threads for disks, processors compared and pages of the host: the same lines to C libvirtd and to
guesthoused by C virsh, and to guesthoused by ours. The guest never runs: what is asked for is QEMU's doing alone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd

OURS, THEIRS = str(BIN / "virsh"), "/usr/bin/virsh"
GUEST = """\
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>{more}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{folder}/{name}.qcow2'/><target dev='vda' bus='virtio'/>
      <iotune>
        <total_bytes_sec>5000000</total_bytes_sec><read_iops_sec>70</read_iops_sec><group_name>gg</group_name>
      </iotune>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/{name}.img'/><target dev='sda' bus='sata'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>
  </devices>
</domain>
"""
CPUS = {
    "one": "<cpu match='exact'><model>Penryn</model></cpu>",
    "hosts": "<cpu><arch>x86_64</arch><model>Nehalem</model></cpu>"
    "<cpu><arch>x86_64</arch><model>Westmere</model><feature name='avx'/></cpu>",
    "guests": "<cpu mode='custom'><model fallback='forbid'>Nehalem</model></cpu>"
    "<cpu mode='custom'><model fallback='forbid'>Westmere</model><feature policy='require' name='avx'/></cpu>",
    "forbid": "<cpu match='minimum'><model>core2duo</model><feature policy='forbid' name='sse2'/></cpu>",
    "milan": "<domain><cpu><model>EPYC-Milan</model></cpu></domain>",
    "other": "<cpu><arch>ppc64</arch><model>POWER9</model></cpu>",
    "nope": "<cpu><model>Nope</model></cpu>",
    "feature": "<cpu><model>core2duo</model><feature name='nope' policy='require'/></cpu>",
    "mode": "<cpu mode='host-model'/>",
    "none": "<domain/>",
}
LINES = """\
blkdeviotune t vda
blkdeviotune o vda
blkdeviotune t hdc
blkdeviotune t nope
blkdeviotune o nope
blkdeviotune t vda --config
blkdeviotune t vda --total-bytes-sec 1M --total-bytes-sec-max 2M --total-bytes-sec-max-length 5 --read-iops-sec 100 --size-iops-sec 4096 --group-name grp
blkdeviotune t vda
dumpxml t --xpath //iotune
blkdeviotune t sda --group-name grp --total_bytes_sec 1000000
blkdeviotune t sda --write-bytes-sec 500000 --config --live
dumpxml t --xpath //iotune
dumpxml t --inactive --xpath //iotune
blkdeviotune t vda --total-bytes-sec 0
blkdeviotune t vda --total-bytes-sec 9M
blkdeviotune t vda --total-bytes-sec 1 --read-bytes-sec 1
blkdeviotune t vda --total-iops-sec-max 1 --read-iops-sec-max 1
blkdeviotune t vda --total-iops-sec 9999999999999999
blkdeviotune t vda --total-iops-sec x
blkdeviotune t vda --total-bytes-sec 5x
blkdeviotune t vda --write-iops-sec-max 5
blkdeviotune t sda --group-name other --total-bytes-sec 0 --write-bytes-sec 0
blkdeviotune t hdc --total-bytes-sec 7000
blkdeviotune t nope --total-bytes-sec 7000
blkdeviotune t nope --total-bytes-sec 7000 --config
blkdeviotune o vda --total-bytes-sec 7000
blkdeviotune o vda
blkdeviotune t vda --total-bytes-sec 0 --total-bytes-sec-max 0 --read-iops-sec 0 --size-iops-sec 0
blkdeviotune t vda --total-bytes-sec 0 --total-bytes-sec-max 0 --total-bytes-sec-max-length 0 --read-iops-sec 0 --size-iops-sec 0
dumpxml t --xpath //iotune
blkdeviotune t vda
blkdeviotune o vda --live
blkdeviotune o vda --live --config
blockresize t vda 96M
blockresize t vda 100000001b
blockresize t sda 1
blockresize t hdc 1M
blockresize t nope 1M
blockresize o vda 1M
blockresize t vda 999999999999999999
domblkthreshold t vda 10M
domblkthreshold t vda[3] 10M
domblkthreshold t vda[9] 10M
domblkthreshold t vda[ 10M
domblkthreshold t nope 10M
domblkthreshold o vda 10M
iothreadinfo t
iothreadinfo o
iothreadadd t 3
iothreadadd t 3
iothreadadd t 1 --config --live
iothreadinfo t
iothreadinfo t --config
iothreadadd o 7
iothreadadd o 0
iothreadadd o 1
dumpxml o --xpath //iothreadids
dumpxml t --xpath //iothreads
dumpxml t --xpath //iothreadids
iothreadset t 3 --poll-max-ns 5000 --poll-grow 2 --poll-shrink 3
domstats t --iothread
iothreadset t 3 --thread-pool-min 2
iothreadset t 3 --thread-pool-min 2 --thread-pool-max 8
iothreadset t 3 --thread-pool-min 80 --thread-pool-max 90
iothreadset t 3 --thread-pool-min -1
iothreadset t 3 --thread-pool-max 0
iothreadset t 3 --poll-max-ns 99999999999
iothreadset t 9 --poll-max-ns 5
iothreadset o 7 --poll-max-ns 5
iothreadset o 7 --thread-pool-min 2 --thread-pool-max 8
iothreadset o 7
dumpxml o --xpath //iothreadids
iothreadpin t 3 0
iothreadpin t 3 x
iothreadpin t 9 0
iothreadpin o 7 0
iothreadpin o 9 0
iothreadpin t 1 0 --config
iothreadinfo t
iothreadinfo o
dumpxml t --xpath //cputune
dumpxml o --xpath //cputune
iothreaddel t 3
iothreaddel t 3
iothreaddel t 1 --config --live
iothreaddel o 1
iothreaddel o 9
iothreaddel o 7
iothreadinfo t
iothreadinfo o
dumpxml o --xpath //iothreadids
dumpxml o --xpath //cputune
node-memory-tune --shm-pages-to-scan x
nodesevinfo
freepages --cellno 0 --pagesize 2048
freepages --cellno 3 --pagesize 4
freepages --cellno -1 --pagesize 77
freepages --cellno -5 --pagesize 77
freepages --cellno 0 --pagesize 77
freepages
freepages --cellno 0
allocpages 4 1
allocpages 7 1
allocpages 2048 0 --cellno 9
nodesuspend x 70
nodesuspend mem x
hypervisor-cpu-baseline
hypervisor-cpu-baseline --model Nehalem
hypervisor-cpu-baseline --model Nope
hypervisor-cpu-compare one --virttype kvm
hypervisor-cpu-compare one --arch nope
hypervisor-cpu-compare one --machine nope
cpu-compare absent
""" + "".join(
    f"{line} {name}\n"
    for name in CPUS
    for line in ("cpu-compare", "cpu-baseline", "hypervisor-cpu-compare", "hypervisor-cpu-baseline")
)
EXACT = """\
cpu-compare --error other
cpu-compare --error forbid
cpu-baseline --features hosts
cpu-baseline --migratable hosts
hypervisor-cpu-baseline --features guests
"""


class Place:
    """A daemon with a guest whose QEMU waits, and one that is off."""

    def __init__(self, daemon: Guesthoused | Libvirtd) -> None:
        self.daemon = daemon
        self.folder = daemon.root / "tuned"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        for name, xml in CPUS.items():
            (self.folder / name).write_text(xml)
        for number, name in enumerate(("t", "o")):
            self._define(name, f"0a5ced00-{number:04}-4000-8000-000000000077")
        assert "started" in daemon.run("start", "t", "--paused").stdout

    def _define(self, name: str, uuid: str) -> None:
        image = str(self.folder / f"{name}.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
        subprocess.run(["truncate", "-s", "16M", str(self.folder / f"{name}.img")], check=True)
        more = "<iothreads>1</iothreads>" if name == "o" else ""
        file = self.folder / f"{name}.xml"
        file.write_text(GUEST.format(name=name, uuid=uuid, more=more, folder=self.folder))
        assert "defined" in self.daemon.run("define", str(file)).stdout

    def ask(self, lines: str, virsh: str) -> dict[str, str]:
        """Line -> what it prints, all in one shell. A line that comes again is counted."""
        asked = [f"cd {self.folder}", *lines.splitlines()]  # a terminal's line is short
        typed = "".join(f"{line}\necho ===\n" for line in asked)
        argv = self.daemon.ns.command([virsh, "-q", "-c", self.daemon.uri])
        run = subprocess.run(
            argv, input=typed, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
        told = run.stdout.split("===\n")
        assert len(told) == len(asked) + 1, run.stdout[-500:]
        plain = [re.sub(r"^(===)?virsh # .*\n?", "", text, flags=re.MULTILINE) for text in told]
        return {
            f"{number}: {line}": text.replace(str(self.folder), "FOLDER")
            for number, (line, text) in enumerate(zip(asked, plain[:-1], strict=True))
            if number
        }

    def clear(self) -> None:
        self.daemon.run("destroy", "t")
        for name in ("t", "o"):
            self.daemon.run("undefine", name)


@pytest.fixture
def places(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Iterator[tuple[Place, Place]]:
    both = Place(c_libvirtd), Place(guesthoused)
    yield both
    for place in both:
        place.clear()


def _different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [f"{line}\n{text}\n{other[line]}" for line, text in one.items() if text != other[line]]


def test_the_same_lines(places: tuple[Place, Place], tmp_path: Path) -> None:
    theirs, ours = places
    lines = LINES + EXACT
    found = _different(theirs.ask(lines, THEIRS), ours.ask(lines, THEIRS))
    assert not found, "\n".join(found)
    # the guests are others now, and the same for both
    found = _different(ours.ask(lines, THEIRS), ours.ask(lines, OURS))
    assert not found, "\n".join(found)
    # what a daemon says of its own host and of its guests, it finds again
    for line, command in (("capabilities", "cpu-compare"), ("domcapabilities", "hypervisor-cpu-compare")):
        (ours.folder / "own").write_text(ours.daemon.run(line).stdout)
        assert "identical" in ours.daemon.run(command, str(ours.folder / "own")).stdout
