"""Commands about the host, and about a guest that runs: our virsh and C virsh say the same of one C libvirtd."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guesthoused import BIN
from support.libvirtd import Libvirtd
from support.namespaces import reachable

GUEST = """\
<domain type='qemu'>
  <name>watched</name>
  <memory unit='MiB'>64</memory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
    <serial type='pty'/>
    <graphics type='vnc' autoport='yes'/>
  </devices>
</domain>
"""

HOST = """\
capabilities
cpu-models x86_64
cpu-models armv7l
cpu-models nonsense
domcapabilities
domcapabilities --arch nonsense
domcapabilities --emulatorbin /nonsense
domcapabilities --virttype xen
freecell
freecell --all
freecell --cellno 0
freecell --cellno 77
freecell --cellno 0 --all
hostname
maxvcpus
maxvcpus --type qemu
maxvcpus --type xen
nodecpumap
nodecpumap --pretty
nodecpustats
nodecpustats --cpu 0
nodecpustats --cpu 777
nodecpustats --cpu -3
nodecpustats --percent
nodeinfo
nodememstats
nodememstats --cell 0
nodememstats --cell 77
sysinfo
uri
version
version --daemon
event --list
event
event --all --event lifecycle
event --event nonsense
event --event lifecycle --timeout 0
event --event lifecycle --timeout 1 --timestamp
event --domain nonsense --event lifecycle
net-event --list
net-event
net-event --event lifecycle --timeout 1
pool-event --list
pool-event
pool-event --event refresh --timeout 1"""

ONE_GUEST = """\
console watched
ttyconsole watched
domblkstat watched
domblkstat watched vda
domblkstat watched vda --human
domblkstat watched nonsense
domifstat watched nonsense
dommemstat watched
dommemstat watched --period 2
dommemstat watched --period -1
dommemstat watched --live --current
domstats watched --state --balloon --vcpu --vm
domstats nonsense
domstats --list-inactive
vcpucount watched
vcpucount watched --maximum --live
vcpucount watched --guest
desc watched
desc watched --title
desc watched --title some words
desc watched --title
desc watched --config some others
desc watched --config
desc watched --live --current
metadata watched http://a/b
metadata watched http://a/b --set <a/>
metadata watched http://a/b --set <a/> --key k
metadata watched http://a/b
metadata watched http://a/b --remove
screenshot watched {work}/picture
screenshot watched /nonsense/picture
screenshot watched --screen 7 {work}/picture
dumpxml watched
dumpxml watched --inactive
dumpxml watched --xpath //disk/target
dumpxml watched --xpath //disk/target --wrap
edit watched"""


@pytest.fixture(scope="module")
def watched(c_libvirtd: Libvirtd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    work = reachable(tmp_path_factory.mktemp("watched"))
    disk = work / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "4M"], check=True)
    (work / "guest.xml").write_text(GUEST.format(disk=disk))
    for line in (f"define {work}/guest.xml", "start watched --paused"):
        done = c_libvirtd.run(*line.split())
        assert done.returncode == 0, done.stderr
    yield work
    c_libvirtd.run("destroy", "watched")
    c_libvirtd.run("undefine", "watched")


def _both(daemon: Libvirtd, line: str) -> list[tuple[int, str, str]]:
    runs = []
    for virsh in ("/usr/bin/virsh", str(BIN / "virsh")):
        argv = ["env", "EDITOR=true", virsh, "-c", daemon.uri, *line.split()]
        run = subprocess.run(
            daemon.ns.command(argv), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        runs.append((run.returncode, run.stdout, run.stderr))
    return runs


@pytest.mark.parametrize("line", HOST.splitlines())
def test_host(c_libvirtd: Libvirtd, line: str) -> None:
    theirs, ours = _both(c_libvirtd, line)
    if line.startswith(("freecell", "nodecpustats", "nodememstats")):  # it goes on while we look
        theirs, ours = (
            (code, re.sub(r" *[0-9.]+(?= KiB|%|$)", " N", out, flags=re.M), err) for code, out, err in (theirs, ours)
        )
    assert ours == theirs


@pytest.mark.parametrize("line", ONE_GUEST.splitlines())
def test_a_guest(c_libvirtd: Libvirtd, watched: Path, line: str) -> None:
    theirs, ours = _both(c_libvirtd, line.format(work=watched))
    if line.startswith(("dommemstat", "domstats")):
        theirs, ours = (
            (code, re.sub(r"((?:rss|time|delay)[= ])\d+", r"\1N", out), err) for code, out, err in (theirs, ours)
        )
    if line.startswith("desc watched --title some"):
        assert "updated" in ours[1]
    assert ours == theirs
    picture = watched / "picture"
    if picture.exists():
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 100
        picture.unlink()
