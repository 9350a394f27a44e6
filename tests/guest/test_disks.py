"""Disks whose data are elsewhere, encrypted, stacked or thrown away, with a real QEMU; and every bus that it has."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import namespaces
from support.golden_guests import open_folder
from support.guesthoused import Guesthoused

PASSPHRASE, COOKIE = "correct-horse-battery", "staple-cookie-value"
_GUEST = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
  <os><type machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"""
_SECRET = "<secret><usage type='volume'><volume>disks</volume></usage></secret>"
#: In a LUKS image of a guest that is not booted, the fewest rounds that qemu-img takes.
_FAST = "iter-time=10"


def image(*words: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", *words], check=True)


def encrypted(*words: str) -> None:
    """As :func:`image`; again where qemu-img cannot tell how fast the machine is, as where clocks are coarse."""
    for again in range(20):
        made = subprocess.run(["qemu-img", "create", "-q", *words], capture_output=True, text=True)
        if made.returncode == 0:
            return
        assert "accurate CPU usage" in made.stderr and again < 19, made.stderr


def monitor(daemon: Guesthoused, name: str, command: str, **arguments: Any) -> Any:
    text = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(daemon.run("qemu-monitor-command", name, text).stdout)
    assert "return" in answer, answer
    return answer["return"]


def told(daemon: Guesthoused, name: str) -> bytes:
    """What others could read of a guest that runs: its command line, environment and logs; and what is left in
    the files by which it got its secrets."""
    [pid] = [pid for pid in daemon.qemu_pids() if f"guest={name}," in Path(f"/proc/{pid}/cmdline").read_text()]
    seen = [Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ"), daemon.root / "daemon.out"]
    seen += daemon.root.rglob("*.log")
    files = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "memfd:secret" in str(fd.readlink())]
    assert files
    return b"".join(file.read_bytes() for file in [*seen, *files])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("disks")))
    yield guesthoused
    guesthoused.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_folder(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def servers(daemon: Guesthoused, folder: Path) -> Iterator[None]:
    """An NBD server at nbd.sock and an HTTP server at port 8099 of the daemon's host, both with a disk of ours."""
    image("-f", "raw", str(folder / "nbd.img"), "2M")
    (folder / "web.iso").write_bytes(bytes(1 << 20))
    socket = folder / "nbd.sock"
    nbd = subprocess.Popen(["qemu-nbd", "-t", "-f", "raw", "-x", "export", "-k", str(socket), str(folder / "nbd.img")])
    script = (
        "import http.server as h, os, sys\n"
        "class R(h.SimpleHTTPRequestHandler):\n"
        " def end_headers(s): s.send_header('Accept-Ranges','bytes'); h.SimpleHTTPRequestHandler.end_headers(s)\n"
        " def log_message(s, *a): open('cookies', 'a').write(str(s.headers.get('Cookie')) + '\\n')\n"
        f"os.chdir({str(folder)!r}); h.ThreadingHTTPServer(('127.0.0.1', 8099), R).serve_forever()\n"
    )
    web = daemon.ns.spawn([sys.executable, "-c", script], folder / "web.log")
    deadline = time.monotonic() + 20
    while not socket.exists() or daemon.ns.run("ss", "-Hltn", "sport = :8099").stdout.strip() == "":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    socket.chmod(0o777)
    yield
    namespaces.end(web)
    nbd.terminate()
    nbd.wait(10)


def _secrets(daemon: Guesthoused, name: str) -> set[str]:
    """Secrets that QEMU knows."""
    objects = monitor(daemon, name, "qom-list", path="/objects")
    return {entry["name"] for entry in objects if entry["type"] == "child<secret>"}


def _make_images(folder: Path) -> None:
    below = ""
    for name in ("base.img", "one.qcow2", "two.qcow2", "top.qcow2"):
        form = "qcow2" if below else "raw"
        on = ["-b", below, "-F", "qcow2" if below.endswith("2") else "raw"] if below else []
        image("-f", form, *on, str(folder / name), "1M")
        (folder / name).chmod(0o600)
        below = name  # each names the one below by its name alone
    image("-f", "raw", str(folder / "kept.img"), "1M")
    (folder / "kept.img").chmod(0o600)
    (folder / "share").mkdir(mode=0o755)
    (folder / "share" / "file.txt").write_text("hello")


def _disks(folder: Path) -> str:
    drives = [
        ("file", "disk", "qcow2", f"<source file='{folder}/top.qcow2'/>", "vda", ""),
        (
            *("network", "disk", "raw"),
            f"<source protocol='nbd' name='export'><host transport='unix' socket='{folder}/nbd.sock'/></source>",
            *("vdd", ""),
        ),
        (
            *("network", "cdrom", "raw"),
            "<source protocol='http' name='/web.iso'><host name='127.0.0.1' port='8099'/>"
            f"<cookies><cookie name='who'>{COOKIE}</cookie></cookies></source>",
            *("sda' bus='sata", ""),
        ),
        ("file", "disk", "raw", f"<source file='{folder}/kept.img'/>", "vde", "<transient/>"),
        ("dir", "disk", "fat", f"<source dir='{folder}/share'/>", "vdf", "<readonly/>"),
    ]
    return "".join(
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='{form}'/>{source}<target dev='{dev}'/>{more}</disk>"
        for kind, device, form, source, dev, more in drives
    )


def test_disks_of_many_kinds(daemon: Guesthoused, folder: Path, servers: None) -> None:
    _make_images(folder)
    (folder / "guest.xml").write_text(_GUEST.format(name="many", machine="q35", devices=_disks(folder)))
    assert daemon.run("define", str(folder / "guest.xml")).returncode == 0
    started = daemon.run("start", "many", "--paused")
    assert started.returncode == 0, started.stderr

    nodes = {node["node-name"]: node for node in monitor(daemon, "many", "query-named-block-nodes", flat=True)}
    drivers = {node["file"]: node["drv"] for node in nodes.values()}
    for name in ("top.qcow2", "two.qcow2", "one.qcow2", "base.img", "kept.img"):
        assert str(folder / name) in drivers
    assert {"nbd", "http", "vvfat"} <= set(drivers.values())
    assert f"who={COOKIE}" in (folder / "cookies").read_text()
    live = daemon.run("dumpxml", "many").stdout
    assert live.count("<backingStore type='file' index=") == 4
    assert COOKIE not in live
    asked = daemon.run("dumpxml", "many", "--inactive").stdout
    assert "<backingStore" not in asked and f"{folder}/kept.img" in asked

    assert COOKIE.encode() not in told(daemon, "many")

    owners = {name: (folder / name).stat().st_uid for name in ("top.qcow2", "two.qcow2", "one.qcow2", "base.img")}
    assert 0 not in owners.values(), owners
    # one that comes later has a secret too, which QEMU knows only while it opens the disk
    late = (
        "<disk type='network' device='disk'><driver type='raw'/><source protocol='http' name='/web.iso'>"
        f"<host name='127.0.0.1' port='8099'/><cookies><cookie name='late'>{COOKIE}</cookie></cookies></source>"
        "<target dev='sdx' bus='usb'/><readonly/></disk>"
    )
    (folder / "late.xml").write_text(late)
    known = _secrets(daemon, "many")
    came = daemon.run("attach-device", "many", str(folder / "late.xml"))
    assert came.returncode == 0, came.stderr
    assert f"late={COOKIE}" in (folder / "cookies").read_text()
    assert known and _secrets(daemon, "many") == known
    assert COOKIE.encode() not in told(daemon, "many")

    # what is written to the transient disk is not there afterwards, whoever ends the guest
    write = 'qemu-io -d /machine/peripheral/virtio-disk4/virtio-backend "write -P 0xab 0 64k"'
    assert monitor(daemon, "many", "human-monitor-command", **{"command-line": write}) == ""
    [own] = list(daemon.root.rglob("*.transient"))
    assert own.stat().st_blocks * 512 > 64 << 10
    daemon.kill()
    daemon.start()
    assert daemon.run("destroy", "many").returncode == 0
    assert not own.exists()
    assert (folder / "kept.img").read_bytes() == bytes(1 << 20)
    owners = {name: (folder / name).stat().st_uid for name in (*owners, "kept.img")}
    assert set(owners.values()) == {0}, owners

    (folder / "one.qcow2").rename(folder / "away.qcow2")
    gone = daemon.run("start", "many").stderr
    assert f"Cannot access backing file '{folder}/one.qcow2' of storage file '{folder}/two.qcow2' (as uid:" in gone
    daemon.run("undefine", "many")


@pytest.mark.slow
def test_encrypted_disks(daemon: Guesthoused, folder: Path) -> None:
    """Slow because qemu-img takes seconds to find out how many rounds a passphrase is worth."""
    secret = ["--object", f"secret,id=s,data={PASSPHRASE}"]
    encrypted(*secret, "-f", "luks", "-o", f"key-secret=s,{_FAST}", str(folder / "raw.luks"), "1M")
    options = f"encrypt.format=luks,encrypt.key-secret=s,encrypt.{_FAST}"
    encrypted(*secret, "-f", "qcow2", "-o", options, str(folder / "luks.qcow2"), "1M")
    key = "<encryption format='luks'><secret type='passphrase' usage='disks'/></encryption>"
    disks = "".join(
        f"<disk><driver type='{form}'/><source file='{folder}/{name}'>{key}</source><target dev='{dev}'/></disk>"
        for form, name, dev in (("qcow2", "luks.qcow2", "vda"), ("raw", "raw.luks", "vdb"))
    )
    (folder / "guest.xml").write_text(_GUEST.format(name="locked", machine="pc", devices=disks))
    assert daemon.run("define", str(folder / "guest.xml")).returncode == 0
    missing = daemon.run("start", "locked")
    assert missing.returncode and "error: Secret not found: no secret with matching usage 'disks'" in missing.stderr
    (folder / "secret.xml").write_text(_SECRET)
    uuid = daemon.run("secret-define", str(folder / "secret.xml")).stdout.split()[1]
    (folder / "value").write_text("wrong")
    assert daemon.run("secret-set-value", uuid, "--file", str(folder / "value"), "--plain").returncode == 0
    assert "Invalid password, cannot unlock any keyslot" in daemon.run("start", "locked").stderr
    (folder / "value").write_text(PASSPHRASE)
    assert daemon.run("secret-set-value", uuid, "--file", str(folder / "value"), "--plain").returncode == 0
    started = daemon.run("start", "locked", "--paused")
    assert started.returncode == 0, started.stderr
    nodes = monitor(daemon, "locked", "query-named-block-nodes", flat=True)
    assert [n["drv"] for n in nodes if "raw.luks" in n["file"] and n["drv"] != "file"] == ["luks"]
    [locked] = [n for n in nodes if "luks.qcow2" in n["file"] and n["drv"] == "qcow2"]
    assert locked["image"]["format-specific"]["data"]["encrypt"]["format"] == "luks"
    assert PASSPHRASE.encode() not in told(daemon, "locked")
    daemon.run("destroy", "locked")
    daemon.run("undefine", "locked")


PC = """<controller type='scsi' index='0' model='lsilogic'/><controller type='scsi' index='1' model='lsisas1068'/>
<controller type='scsi' index='2' model='lsisas1078'/><controller type='scsi' index='3' model='vmpvscsi'/>
<controller type='scsi' index='4' model='am53c974'/><controller type='scsi' index='5' model='dc390'/>
<controller type='scsi' index='6' model='virtio-scsi'><driver queues='2' cmd_per_lun='9' max_sectors='512'/></controller>
<controller type='scsi' index='7' model='virtio-transitional'/><controller type='usb' index='0' model='piix4-uhci'/>
<controller type='usb' index='1' model='ehci'/><controller type='usb' index='2' model='pci-ohci'/>
<controller type='usb' index='3' model='nec-xhci' ports='8'/><controller type='ccid' index='0'/>
<controller type='sata' index='0'/><controller type='fdc' index='0'/><controller type='virtio-serial' index='0' ports='4' vectors='2'/>
<controller type='pci' index='0' model='pci-root'><pcihole64 unit='GiB'>1</pcihole64></controller>
<controller type='pci' index='1' model='pci-bridge'/><controller type='pci' index='2' model='pci-expander-bus'/>"""
Q35 = """<controller type='pci' index='0' model='pcie-root'><pcihole64 unit='GiB'>1</pcihole64></controller>
<controller type='pci' index='1' model='pcie-root-port'><target hotplug='off'/></controller>
<controller type='pci' index='2' model='pcie-root-port'><model name='ioh3420'/></controller>
<controller type='pci' index='3' model='pcie-switch-upstream-port'/>
<controller type='pci' index='4' model='pcie-switch-downstream-port'/>
<controller type='pci' index='5' model='pcie-switch-downstream-port'/>
<controller type='pci' index='6' model='dmi-to-pci-bridge'/><controller type='pci' index='7' model='pci-bridge'/>
<controller type='pci' index='8' model='pcie-to-pci-bridge'/><controller type='pci' index='9' model='pcie-expander-bus'/>
<controller type='pci' index='10' model='pcie-root-port'/>
<controller type='usb' index='0' model='ich9-ehci1'/><controller type='usb' index='0' model='ich9-uhci1'/>
<controller type='usb' index='0' model='ich9-uhci2'/><controller type='usb' index='0' model='ich9-uhci3'/>
<controller type='scsi' index='0' model='virtio-non-transitional'/><controller type='sata' index='1'/>"""


@pytest.mark.parametrize(("machine", "buses"), [("pc", PC), ("q35", Q35)])
def test_every_bus_that_this_qemu_has(daemon: Guesthoused, folder: Path, machine: str, buses: str) -> None:
    (folder / "buses.xml").write_text(_GUEST.format(name=machine, machine=machine, devices=buses))
    made = daemon.run("create", str(folder / "buses.xml"), "--paused")
    assert made.returncode == 0, made.stderr
    there = {entry["name"] for entry in monitor(daemon, machine, "qom-list", path="/machine/peripheral")}
    count = sum(1 for name in there if name.startswith(("pci.", "scsi", "usb", "ccid", "sata", "virtio-serial")))
    # the root and the first floppy controller are the machine's, and so is q35's first SATA; companions have no name
    assert count >= buses.count("<controller") - (2 if machine == "pc" else 4), sorted(there)
    assert daemon.run("destroy", machine).returncode == 0
