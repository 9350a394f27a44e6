"""Our virt-install and Debian's (4.1) against the same C libvirtd: the documents mean the same.

One difference is meant: the boot order stands at the devices, as virt-install 5 has it, not in a list in <os>.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from support.documents import differences, documents
from support.guesthoused import BIN
from support.libvirtd import Libvirtd

pytestmark = pytest.mark.skipif(not Path("/usr/bin/virt-install").exists(), reason="Debian's virt-install is missing")

# Enlightenments: 4.1 asks for three whatever the host has; we, like 5.1, for those that the host offers.
#: Without KVM virt-install 5.1 asks for all that the emulator has, 4.1 does not.
_CPU = {"+ <cpu mode=maximum>", "- <cpu >"}
#: 5.1 leaves the bus to the daemon.
_INPUT = {"-  <input bus=ps2 type=keyboard>", "+  <input type=keyboard>"}
_HYPERV = {"-   <relaxed state=on>", "-   <vapic state=on>"}
LINES: dict[str, set[str]] = {
    "--memory 500 --disk size=20 --cdrom {iso} --os-variant debianwheezy --network bridge=br0"
    " --graphics vnc,password=XYZ12345,listen=0.0.0.0 --print-step all": set(),
    "--memory 500 --disk size=20,format=raw,sparse=no --cdrom {iso} --osinfo debian11 --network bridge=br0"
    " --print-step all": set(),
    "--memory 2048,maxmemory=4096 --vcpus 2,maxvcpus=4,sockets=1 --disk none --import --osinfo win10 --network none"
    " --print-xml": _HYPERV,
    "--memory 500 --disk {iso},device=cdrom --disk {iso},bus=scsi,cache=none,discard=unmap,serial=abc,readonly=on"
    " --import --osinfo generic --graphics none --print-xml": set(),
    "--memory 500 --disk none --pxe --osinfo fedora36 --cpu host-model,+vmx,-svm"
    " --boot hd,network,menu=on,useserial=on --print-step all": set(),
    "--memory 500 --disk none --boot kernel={iso},initrd={iso},kernel_args='console=ttyS0 root=/dev/vda'"
    " --osinfo debian10 --serial pty --console pty,target_type=virtio --print-xml": set(),
    "--memory 500 --disk none --import --osinfo win11 --print-xml": _HYPERV,
    "--memory 500 --disk none --import --osinfo freebsd13.1 --features acpi=off,hyperv.relaxed.state=on"
    " --clock offset=localtime,hpet_present=yes --pm suspend_to_mem.enabled=yes --events on_crash=restart"
    " --print-xml": set(),
    "--memory 500 --disk none --import --osinfo centos7.0 --controller scsi,model=virtio-scsi"
    " --controller usb,model=none --sound ich6 --video qxl --input keyboard --rng /dev/random --memballoon none"
    " --watchdog i6300esb,action=reset --print-xml": _INPUT,
    "--memory 500 --disk none --import --osinfo debian10 --graphics spice,listen=none"
    " --channel unix,target_type=virtio,name=foo --channel spicevmc"
    " --serial tcp,host=:2222,mode=bind,protocol=telnet --metadata 'title=foo,description=\"a, b\"' --print-xml": set(),
    "--memory 500 --disk none --import --osinfo ubuntu22.04 --network network=default,model=e1000"
    " --network user,model=virtio,link_state=down --network bridge:br0 --machine pc --arch i686 --print-xml": set(),
    "--osinfo debian10 --pxe --virt-type qemu --vcpus 3 --iothreads 2 --autostart --print-step all": set(),
    "--memory 500 --disk none --import --osinfo linux2020 --cpu qemu64 --controller num_pcie_root_ports=3"
    " --print-xml": set(),
}


def run(daemon: Libvirtd, program: str, args: list[str]) -> subprocess.CompletedProcess[str]:
    argv = daemon.ns.command([program, "--connect", daemon.uri, *args])
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def iso(c_libvirtd: Libvirtd) -> Path:
    path = c_libvirtd.root / "media"
    path.mkdir()
    (path / "installer.iso").write_bytes(b"\0" * 4096)
    return path / "installer.iso"


def clean(daemon: Libvirtd) -> None:
    """Take away what Debian's virt-install leaves behind even when it only prints."""
    for pool in daemon.run("pool-list", "--all", "--name").stdout.split():
        for line in daemon.run("vol-list", pool).stdout.splitlines()[2:]:
            if (words := line.split()) and words[0].endswith((".qcow2", ".img")):
                daemon.run("vol-delete", words[0], pool)
        if pool == "media":
            daemon.run("pool-destroy", pool)
            daemon.run("pool-undefine", pool)


@pytest.mark.parametrize("line", LINES)
def test_documents(c_libvirtd: Libvirtd, iso: Path, line: str) -> None:
    args = ["--name", "demo", "--noautoconsole", *shlex.split(line.format(iso=iso))]
    if line.startswith("--osinfo"):
        args = args[2:]
    try:
        ours = run(c_libvirtd, str(BIN / "virt-install"), args)
        theirs = run(c_libvirtd, "/usr/bin/virt-install", args)
        assert theirs.returncode == 0, theirs.stderr
        assert ours.returncode == 0, ours.stderr
        assert documents(ours.stdout)
        found = differences(theirs.stdout, ours.stdout, boot=False)
        assert set(found) <= LINES[line] | _CPU, "\n".join(found)
    finally:
        clean(c_libvirtd)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--disk none --import --osinfo debian10 --memory 500 --virt-type xen", "domain type xen"),
        ("--disk none --import --osinfo debian10 --memory 500 --arch nosuch", "nosuch"),
        ("--disk none --import --osinfo nosuch --memory 500", "Unknown OS name 'nosuch'"),
        ("--disk none --import --memory 500", "OS name is required"),
        ("--disk none --osinfo debian10 --memory 500", "An install method must be specified"),
        ("--import --osinfo generic", "--memory amount in MiB is required"),
        (
            "--disk /var/lib/libvirt/images/x.img --import --osinfo debian10 --memory 500",
            "Size must be specified for non existent volume 'x.img'",
        ),
        ("--disk size=1,pool=nosuch --import --osinfo debian10 --memory 500", "no storage pool with matching name"),
        ("--disk size=1,foo=bar --import --osinfo debian10 --memory 500", "foo"),
        ("--disk size=99999 --import --osinfo debian10 --memory 500", "exceed the available pool space"),
        ("--disk none --cdrom /nosuch.iso --osinfo debian10 --memory 500", "/nosuch.iso"),
    ],
)
def test_errors(c_libvirtd: Libvirtd, line: str, message: str) -> None:
    """Both programs refuse, with the words that matter."""
    for program in (str(BIN / "virt-install"), "/usr/bin/virt-install"):
        done = run(c_libvirtd, program, ["--name", "demo", *shlex.split(line)])
        assert done.returncode == 1
        assert message in done.stderr, (program, done.stderr)
        assert "Traceback" not in done.stderr
    assert c_libvirtd.run("list", "--all", "--name").stdout.strip() == ""


def test_an_installation(c_libvirtd: Libvirtd, iso: Path) -> None:
    """The guest runs from the CD, its definition boots the disk without it; name and disk are then taken."""
    install = str(BIN / "virt-install")
    line = f"--virt-type qemu --memory 64 --osinfo debianwheezy --cdrom {iso} --noautoconsole --network none"
    try:
        done = run(c_libvirtd, install, ["--name", "demo", "--disk", "size=1", *line.split()])
        assert done.returncode == 0, done.stderr
        steps = ("Starting install...", "Allocating 'demo.qcow2'", "Creating domain...", "Domain is still running.")
        assert all(step in done.stdout for step in steps), done.stdout
        live = c_libvirtd.run("dumpxml", "demo").stdout
        kept = c_libvirtd.run("dumpxml", "--inactive", "demo").stdout
        assert f"file='{iso}'" in live and "<on_reboot>destroy</on_reboot>" in live
        assert str(iso) not in kept and "<on_reboot>restart</on_reboot>" in kept
        assert kept.index("<boot order='1'/>") < kept.index("device='cdrom'")

        again = run(c_libvirtd, install, ["--name", "demo", "--disk", "none", *line.split()])
        assert again.returncode == 1 and "Guest name 'demo' is already in use." in again.stderr
        path = "/var/lib/libvirt/images/demo.qcow2"
        other = run(c_libvirtd, install, ["--name", "other", "--disk", path, *line.split()])
        assert other.returncode == 1 and f"{path} is already in use by other guests ['demo']" in other.stderr
    finally:
        c_libvirtd.run("destroy", "demo")
        c_libvirtd.run("undefine", "demo")
        clean(c_libvirtd)


def test_a_failed_start_leaves_nothing(c_libvirtd: Libvirtd, iso: Path) -> None:
    line = f"--virt-type qemu --memory 64 --osinfo debianwheezy --cdrom {iso} --noautoconsole"
    args = ["--name", "demo", "--disk", "size=1", "--network", "bridge=nosuch", *line.split()]
    done = run(c_libvirtd, str(BIN / "virt-install"), args)
    assert done.returncode == 1 and "nosuch" in done.stderr
    assert "Removing disk 'demo.qcow2'" in done.stdout
    assert c_libvirtd.run("list", "--all", "--name").stdout.strip() == ""
    assert "demo.qcow2" not in c_libvirtd.run("vol-list", "default").stdout
