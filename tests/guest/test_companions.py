"""What runs beside QEMU: a TPM emulator, shared folders, passt. It starts before the guest, is known again by another
daemon, and ends with the guest."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import media_kernel, namespaces
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("swtpm", "swtpm_setup", "passt")), reason="needs swtpm and passt"
)

UUID = "7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e02"
DOMAIN = """\
<domain type='qemu'>
  <name>beside</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>192</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'>{tpm}</backend></tpm>
    {devices}
    <serial type='pty'/>
  </devices>
</domain>
"""
PASST = """\
<interface type='user'>
  <mac address='52:54:00:ab:cd:02'/>
  <portForward proto='tcp'><range start='2022' to='22'/></portForward>
  <model type='virtio'/><backend type='passt'/>
</interface>
"""
SECRET = "<secret ephemeral='no' private='yes'><uuid>{uuid}</uuid><usage type='vtpm'><name>t</name></usage></secret>"
SECRET_UUID = "6dd3e4a5-1d76-44ce-961f-f119f5aad935"


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    root = namespaces.reachable(tmp_path_factory.mktemp("companions"))
    guesthoused = Guesthoused(root / "root", start=False)
    try:
        yield guesthoused
    finally:
        guesthoused.close()


def define(daemon: Guesthoused, boot: str = "", devices: str = "", tpm: str = "") -> None:
    file = daemon.root.parent / "beside.xml"
    file.write_text(DOMAIN.format(uuid=UUID, boot=boot, devices=devices, tpm=tpm))
    ok(daemon, "define", str(file))


def ok(daemon: Guesthoused, *args: str) -> str:
    done = daemon.run(*args)
    assert done.returncode == 0, (args, done.stdout, done.stderr, daemon.output()[-2000:])
    return done.stdout.strip()


def running(daemon: Guesthoused) -> list[str]:
    """The programs of its guests: those that carry the daemon's mark."""
    return sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in daemon.qemu_pids())


def leftovers(daemon: Guesthoused) -> list[str]:
    found = [*running(daemon), *(str(row["phase"]) for row in daemon.runtime_rows().values())]
    folder = daemon.root / "run/qemu"
    return found + [child.name for child in folder.iterdir()] if folder.exists() else found


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while namespaces.alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def with_modules(daemon: Guesthoused, plain: Path, kernel: Path) -> Path:
    """The small guest's initramfs, and in /more what a shared folder takes."""
    more = daemon.root.parent / "more"
    (more / "more").mkdir(parents=True)
    [modules] = (kernel.parent.parent / "lib/modules").iterdir()
    for name in ("fuse", "virtiofs"):
        shutil.copy(next(modules.rglob(f"{name}.ko")), more / "more")
    names = "".join(f"{path.relative_to(more)}\n" for path in sorted(more.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=more, capture_output=True
    )
    image = daemon.root.parent / "initrd.img"
    image.write_bytes(plain.read_bytes() + gzip.compress(packed.stdout, 1))
    image.chmod(0o644)
    return image


def test_a_guest_with_all_of_it(daemon: Guesthoused) -> None:
    kernel, plain = media_kernel.kernel_and_initrd()
    initrd = with_modules(daemon, plain, kernel)
    boot = f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet</cmdline>"
    share = daemon.root.parent / "share"
    share.mkdir(mode=0o755)
    (share / "note").write_text("from the host\n")
    for words in (
        "link add out0 type veth peer name out1",
        "link set out1 up",
        "address add 198.51.100.2/24 dev out0",
        "link set out0 up",
    ):
        daemon.ns.run("ip", *words.split())
    daemon.ns.run("ip", "route", "add", "default", "via", "198.51.100.1")
    daemon.start()
    folder = f"<source dir='{share}'/><target dir='{{}}'/></filesystem>"
    by_9p = "<filesystem type='mount'>" + folder.format("old").replace("<target", "<readonly/><target")
    by_virtiofs = "<filesystem type='mount'><driver type='virtiofs'/>" + folder.format("tag")
    define(daemon, boot, by_9p + by_virtiofs + PASST)
    state = daemon.root / "lib/swtpm" / UUID / "tpm2"
    console = Terminal(daemon.ns.command([str(BIN / "virsh"), "-c", daemon.uri, "start", "beside", "--console"]))
    try:
        console.expect("guest ready", timeout=120)
        console.send("cat /sys/class/tpm/tpm0/tpm_version_major /tmp/lease; cat /sys/bus/virtio/devices/*/device\r")
        console.expect("2\r\n198.51.100.2\r\n", timeout=20)
        console.expect("0x0009", timeout=20)  # 9p
        console.send("insmod /more/fuse.ko; insmod /more/virtiofs.ko; mkdir /mnt; mount -t virtiofs tag /mnt\r")
        console.send("cat /mnt/note; echo and back >/mnt/reply; sync; echo writ''ten\r")
        console.expect("from the host", timeout=20)
        console.expect("written", timeout=20)
    finally:
        console.close()
    assert (share / "reply").read_text() == "and back\n"
    programs = {name.partition(".")[0] for name in running(daemon)}
    assert programs == {"passt", "qemu-system-x86", "swtpm", "virtiofsd"}
    told = json.loads(ok(daemon, "qemu-monitor-command", "beside", '{"execute":"query-tpm"}'))
    assert told["return"][0]["model"] == "tpm-crb"
    made = (state / "tpm2-00.permall").read_bytes()
    assert made and b"2022" not in made

    # another daemon knows them again, and tells of one that ends
    daemon.kill(signal.SIGKILL)
    before = daemon.qemu_pids()
    daemon.start()
    assert daemon.qemu_pids() == before and ok(daemon, "domstate", "beside") == "running"
    [passt] = [pid for pid in before if Path(f"/proc/{pid}/comm").read_text().startswith("passt")]
    os.kill(passt, signal.SIGKILL)
    deadline = time.monotonic() + 10
    log = daemon.root / "log/guesthoused.log"
    while "passt of beside's net0 ended by itself" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ok(daemon, "domstate", "beside") == "running"

    ok(daemon, "destroy", "beside")
    assert leftovers(daemon) == []
    serial = state.stat().st_ino
    ok(daemon, "start", "beside", "--paused")
    assert state.stat().st_ino == serial, "the TPM is the one that it was"
    ok(daemon, "destroy", "beside")
    ok(daemon, "undefine", "beside", "--keep-tpm")
    assert state.exists()
    define(daemon)
    assert daemon.run("undefine", "beside", "--keep-tpm", "--tpm").returncode != 0
    ok(daemon, "undefine", "beside")
    assert not state.parent.exists()


def test_killed_between_the_steps(daemon: Guesthoused) -> None:
    for step in ("companion-state", "companion-spawned", "companion-row"):
        daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
        define(daemon)
        pid = daemon.pid
        assert daemon.run("start", "beside").returncode != 0
        wait_until_gone(pid)
        assert running(daemon) == ([] if step == "companion-state" else ["swtpm"])
        daemon.start()
        assert leftovers(daemon) == []
        assert ok(daemon, "domstate", "beside") == "shut off"
        daemon.kill(signal.SIGTERM)


def test_an_encrypted_tpm_and_its_banks(daemon: Guesthoused) -> None:
    daemon.start()
    file = daemon.root.parent / "secret.xml"
    file.write_text(SECRET.format(uuid=SECRET_UUID))
    ok(daemon, "secret-define", str(file))
    banks = "<active_pcr_banks><sha1/><sha512/></active_pcr_banks>"
    define(daemon, tpm=f"<encryption secret='{SECRET_UUID}'/>{banks}")
    done = daemon.run("start", "beside")
    assert f"secret '{SECRET_UUID}' does not have a value" in done.stderr
    assert leftovers(daemon) == []
    ok(daemon, "secret-set-value", SECRET_UUID, "--base64", "cGFzc3BocmFzZQ==")
    for _ in range(2):
        ok(daemon, "start", "beside")
        ok(daemon, "destroy", "beside")
    log = (daemon.root / "log/qemu/beside-tpm0-swtpm.log").read_text()
    assert log.count("Successfully activated PCR banks sha1,sha512") == 1
    # with another passphrase it cannot be opened, and is left alone
    state = daemon.root / "lib/swtpm" / UUID / "tpm2/tpm2-00.permall"
    content = state.read_bytes()
    ok(daemon, "secret-set-value", SECRET_UUID, "--base64", "b3RoZXI=")
    done = daemon.run("start", "beside")
    assert done.returncode != 0 and "tpm-emulator" in done.stderr, done.stderr
    assert state.read_bytes() == content
    assert leftovers(daemon) == []
