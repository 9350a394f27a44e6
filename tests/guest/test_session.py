"""The session that every KVM guide teaches, typed as it stands, on a machine of its own.

Real QEMU, Debian's real installer from a CD, a VNC client, the serial console. Where /dev/kvm cannot run guests the
line with ``--virt-type kvm`` must end with a clear error, and the one with ``--virt-type qemu`` must work.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import media, vnc
from support.namespaces import reachable
from support.system import System
from support.terminal import Terminal

INSTALL = (
    "virt-install --connect qemu:///system --virt-type {type} --name demo --memory 500 --disk size=20"
    " --cdrom INSTALLER.iso --os-variant debianwheezy --network bridge=br0"
    " --noautoconsole --graphics vnc,password=XYZ12345,listen=0.0.0.0"
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    root = reachable(tmp_path_factory.mktemp("system"))
    machine = System(root)
    try:
        machine.ok("ip link add br0 type bridge && ip link set br0 up")
        machine.ok("ip link add port0 type veth peer name far0 && ip link set port0 master br0 up")
        media.installer_iso(root)
        yield machine
    finally:
        machine.close()


def test_explicit_kvm_without_usable_kvm_is_a_clear_error(system: System) -> None:
    from guesthouse.host import kvm

    if kvm.usable().usable:
        pytest.skip("KVM runs guests here")
    run = system.sh(INSTALL.format(type="kvm"))
    assert run.returncode == 1
    assert "kvm" in run.stderr.lower() and "--virt-type qemu" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr
    assert system.ok("virsh -c qemu:///system list --all --name").strip() == ""
    assert not list((system.root / "lib").rglob("demo*"))


def test_the_session(system: System) -> None:
    system.ok(INSTALL.format(type="qemu"))
    table = system.ok("virsh -c qemu:///system list --all").splitlines()
    assert table[0].split() == ["Id", "Name", "State"]
    assert table[2].split()[1:] == ["demo", "running"]

    _vnc_needs_its_password(system)
    _the_installer_shows_its_first_screen(system)

    assert "Domain 'demo' is being shutdown" in system.ok("virsh -c qemu:///system shutdown demo")
    # the installer does not listen to the power button: the guest decides
    assert system.ok("virsh -c qemu:///system domstate demo").strip() == "running"
    assert "Domain 'demo' destroyed" in system.ok("virsh -c qemu:///system destroy demo")
    assert system.ok("virsh -c qemu:///system domstate --reason demo").strip() == "shut off (destroyed)"
    assert "Domain 'demo' started" in system.ok("virsh -c qemu:///system start demo")
    # the second start boots from the disk: the CD was for the installation only
    dumped = system.ok("virsh -c qemu:///system dumpxml demo")
    disk, cdrom = dumped.split("</disk>")[:2]
    assert "device='disk'" in disk and "<boot order='1'/>" in disk
    assert "device='cdrom'" in cdrom and "<source" not in cdrom and "<boot order" not in cdrom
    assert "Domain 'demo' marked as autostarted" in system.ok("virsh autostart demo")

    system.power_off()
    assert system.ok("virsh list --state-running --name").strip() == "demo", "autostart at host boot"

    disk = system.ok("virsh domblklist demo --details | awk '$2 == \"disk\" { print $4 }'").strip()
    assert Path(str(system.root / "lib") + disk.removeprefix("/var/lib/guesthouse")).exists()
    system.ok("virsh -c qemu:///system destroy demo")
    out = system.ok("virsh -c qemu:///system undefine demo --remove-all-storage")
    assert "Domain 'demo' has been undefined" in out
    assert "removed" in out
    assert not Path(str(system.root / "lib") + disk.removeprefix("/var/lib/guesthouse")).exists()
    assert (system.root / "INSTALLER.iso").exists(), "the installer's CD is not the guest's to remove"
    assert system.ok("virsh -c qemu:///system list --all --name").strip() == ""
    assert system.processes("qemu-system-x86_64") == []


def _vnc_needs_its_password(system: System) -> None:
    display = system.ok("virsh -c qemu:///system vncdisplay demo").strip()
    assert display == ":0"
    port = 5900 + int(display[1:])
    assert f"0.0.0.0:{port}" in system.ok("ss -tln")
    for password, welcome in (("XYZ12345", True), ("wrong", False), (None, False)):
        relay = socket.socketpair()
        # a client inside the namespace: bash relays between its socket and ours
        argv = system.ns.command(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & cat >&3; wait"])
        process = subprocess.Popen(argv, stdin=relay[1], stdout=relay[1])
        relay[1].close()
        try:
            width, height, name = vnc.connect(relay[0], password)
            assert welcome and width >= 320 and height >= 200 and "demo" in name
        except vnc.Refused:
            assert not welcome
        finally:
            relay[0].close()
            process.kill()
            process.wait()
    for log in (system.root / "log").rglob("*.log"):
        assert "XYZ12345" not in log.read_text(errors="replace"), f"{log} tells the password"


def _the_installer_shows_its_first_screen(system: System) -> None:
    console = Terminal(system.ns.command(["virsh", "-c", "qemu:///system", "console", "demo"]), env=system.env)
    try:
        console.expect(r"Escape character is \^\]")
        # with 500 MiB the installer first says that memory is low; then it asks for the place instead of the language
        shown = console.expect("Entering low memory mode|Select a language", timeout=200)
        if "low" in shown[0]:
            mark = len(console.text)
            console.send("\r")
            console.expect("Select a language|Select your location|Africa", timeout=100, start=mark)
        console.send("\x1d")
        assert console.wait() == 0
    finally:
        console.close()
    deadline = time.monotonic() + 60
    while True:
        out = system.ok("virsh -c qemu:///system screenshot demo shot.png")
        assert "Screenshot saved to shot.png, with type of image/png" in out
        width, height, colours = media.png_colours((system.root / "shot.png").read_bytes())
        background = max(colours.values())
        # newt's screen: a blue root window, a grey box with text; no colour has nearly all of the screen
        if len(colours) >= 4 and background < 0.9 * width * height:
            break
        assert time.monotonic() < deadline, f"the screen shows {colours}"
        time.sleep(1)
