"""virt-xml and virt-clone against virt-manager's own: what a line changes in a document. What those changed is written
down in golden files (``--regenerate`` asks them again); virt-host-validate and virt-xml-validate are compared as they are.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse import client
from guesthouse.cli import virt_host_validate, virt_xml_validate
from guesthouse.cli.virt_clone.program import main as virt_clone
from guesthouse.cli.virt_xml.program import main as virt_xml
from support import namespaces
from support.documents import differences
from support.guesthoused import BIN, Guesthoused

DATA = Path(__file__).parents[1] / "data/virt_tools"
HOST = f"test://{DATA / 'host.xml'}"
GUEST = (DATA / "guest.xml").read_text()

EDITS = """
--edit --metadata name=kiosk,title=new,description="a, b",os_name=fedora36
--edit --events on_poweroff=restart,on_crash=preserve
--edit --memory 256,maxmemory=2048
--edit --memorybacking hugepages=on,access.mode=shared
--edit --vcpus 4,maxvcpus=8,sockets=2,cores=2,threads=2
--edit --cpu model=penryn,+x2apic,forbid=vmx
--edit --cpu host-passthrough,clearxml=yes
--edit --cpu clearxml=yes
--edit --boot network,cdrom,menu=on
--edit --boot kernel=/k,initrd=/i,kernel_args="console=ttyS0 quiet"
--edit --features apic.eoi=on,pae=,hyperv.relaxed.state=on
--edit --clock offset=localtime,hpet_present=yes,rtc_tickpolicy=merge
--edit --clock offset=utc,clearxml=yes
--edit --pm suspend_to_mem.enabled=yes,suspend_to_disk.enabled=no
--edit --blkiotune weight=500
--edit --numatune memory.mode=strict,memory.nodeset=1-3
--edit --seclabel label=foo,relabel=on
--edit --iothreads 3
--edit --disk path=/shop/used.img,perms=ro,cache=none
--edit --disk serial=,driver.discard=unmap,boot.order=1
--edit target=hda --disk shareable=on,target.bus=sata,target=sda
--edit /shop/data.img --disk path=
--edit all --disk driver.io=threads
--edit -1 --disk path=/shop/data.img
--edit --network source=br7,type=bridge,model=virtio,mac=
--edit mac=52:54:00:44:55:66 --network link_state=down,boot_order=2
--edit --graphics type=vnc,password=secret,keymap=de
--edit --graphics listen=none
--edit --filesystem /a/b,tag,mode=mapped
--edit 2 --sound es1370
--edit ac97 --sound ich9
--edit --video virtio,accel3d=yes
--edit --tpm backend.device.path=,backend.type=emulator,backend.version=2.0
--edit --watchdog model=diag288,action=pause
--edit --memballoon none
--edit --rng /dev/urandom,rate.bytes=2048,rate.period=1000
--edit 2 --serial path=/tmp/other.log
--edit --hostdev address.type=usb,address.bus=1
--edit --xml ./title=by-xpath --xml xpath.delete=./pm --xml ./new/element/@x=1
--edit --disk xpath1.set=./source/@file,xpath1.value=/x,xpath2.create=./fake
--add-device --disk /shop/used.img,bus=virtio
--add-device --disk size=1,format=raw
--add-device --network bridge=br9,model=e1000
--add-device --sound usb --sound ich9
--add-device --seclabel model=dac
--add-device --graphics vnc,port=5999
--add-device --hostdev 001.003,address.type=usb
--remove-device --disk /shop/data.img
--remove-device --sound all
--remove-device --serial 1
--remove-device --graphics type=spice
--remove-device --memballoon all
"""
WRONG = """
--edit --disk
--disk path=/x
--edit --add-device --disk path=/x
--edit
--edit --boot hd --cpu host-passthrough
--edit 2 --cpu host-passthrough
--edit 0 --disk path=/x
--edit 9 --disk path=/x
--edit target=zzz --disk path=/x
--edit --panic model=isa
--edit 3 --events on_crash=destroy
--edit --memory 1,clearxml=yes
--edit sparse=no --disk path=/x
--add-device --pm suspend_to_disk=yes
--remove-device --clock utc
--add-device --xml ./@a=b
--build-xml --memory 10
--osinfo fedora36 --edit --cpu host-passthrough
--edit --define --no-define --cpu host-passthrough
--edit --confirm --cpu host-passthrough
--edit --update --cpu host-passthrough
"""
CLONES = """
--original-xml guest.xml --auto-clone
--original-xml guest.xml --name web --auto-clone --uuid 12345678-12f4-1234-1234-123456789afa
--original-xml guest.xml --name web --file /shop/a.img --file /shop/b.img
--original-xml guest.xml --name web --file /shop/a.img --auto-clone --skip-copy hda --reflink
--original-xml guest.xml --name web --auto-clone --force-copy hdc --mac 52:54:00:ab:cd:ef --mac 52:54:00:ab:cd:e0 --nonsparse
--original-xml guest.xml --name web --file /shop/root.img --file /shop/used.img --preserve-data --check all=off
--original-xml guest.xml --name taken --auto-clone --replace
--original-xml uefi.xml --auto-clone
--original-xml uefi.xml --auto-clone --nvram /shop/mine.fd
--original-xml uefi.xml --auto-clone --force-copy vda
--original-xml guest.xml --auto-clone --name taken
--original-xml guest.xml --auto-clone --mac 52:54:00:99:99:99
--original-xml guest.xml
--original-xml guest.xml --file /shop/a.img
--original-xml uefi.xml --auto-clone --force-copy vdb
--original-xml guest.xml --name web --file /shop/used.img --file /shop/b.img
--original-xml guest.xml --name web --file /nosuch/folder/a.img --file /shop/b.img
--auto-clone
--original nosuch --auto-clone
--original taken --auto-clone
"""
#: What is not as there, and why: what is here.
KNOWN: dict[str, Any] = {
    # they ask for one that is there already, as of a device
    "--edit --iothreads 3": ["+ <iothreads >3"],
    # the order of the options
    "--edit --boot hd --cpu host-passthrough": (
        "Only one change operation may be specified (conflicting options ['--boot', '--cpu'])"
    ),
    # they find out when the guest has been defined
    "--original-xml guest.xml --name web --file /nosuch/folder/a.img --file /shop/b.img": (
        "Could not use path '/nosuch/folder/a.img' for cloning: there is no such folder"
    ),
}


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def original(line: str) -> str:
    words = shlex.split(line)
    return (DATA / words[words.index("--original-xml") + 1]).read_text() if "--original-xml" in words else GUEST


def told(stderr: str) -> str:
    """What an error says, without the words that tell that it is one, and what the program was told."""
    text = next((line for line in stderr.splitlines() if line.startswith("ERROR ")), stderr.strip())
    text = re.sub(r"^(ERROR +|.*error: )(Error: --.*?: )?", "", text, flags=re.DOTALL)
    return text.partition(" (Use --check")[0].partition(" https://")[0].strip()


def golden(request: pytest.FixtureRequest, name: str, program: str, text: str, stdin: str) -> dict[str, Any]:
    """By line what virt-manager's program changes in the document, or what it says where it refuses. With --regenerate
    that is asked anew: Debian's, or that of the checkout that VIRT_MANAGER names."""
    file = DATA / f"{name}.json"
    if request.config.getoption("--regenerate"):
        folder = os.environ.get("VIRT_MANAGER")
        oracle = ["/usr/bin/python3", f"{folder}/{program}"] if folder else [f"/usr/bin/{program}"]
        found: dict[str, Any] = {}
        for line in lines(text):
            argv = [*oracle, "--connect", HOST, *shlex.split(line), "--print-xml"]
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, cwd=DATA)
            bad = done.returncode != 0
            found[line] = told(done.stderr) if bad else differences(original(line), done.stdout)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    golden: dict[str, Any] = json.loads(file.read_text())
    assert set(golden) == set(lines(text)), "other lines: regenerate"
    return golden


def compare(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    table: tuple[str, str, str, str],
    main: Callable[[list[str]], int],
) -> None:
    name, program, text, stdin = table
    monkeypatch.chdir(DATA)
    wrong = []
    for line, expected in golden(request, name, program, text, stdin).items():
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = main(["--connect", HOST, *shlex.split(line), "--print-xml"])
        out, err = capsys.readouterr()
        found: Any = told(err) if code else differences(original(line), out)
        if found != KNOWN.get(line, expected):
            wrong += [f"== {line}", f"theirs: {expected}", f"ours:   {found}"]
    assert not wrong, "\n".join(wrong)


def test_edits(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(request, capsys, monkeypatch, ("edits", "virt-xml", EDITS, GUEST), virt_xml)


def test_refusals(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(request, capsys, monkeypatch, ("refusals", "virt-xml", WRONG, GUEST), virt_xml)


def test_clones(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(request, capsys, monkeypatch, ("clones", "virt-clone", CLONES, ""), virt_clone)


def test_host_and_documents(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """virt-host-validate prints the same lines, and virt-xml-validate ends with the same code."""
    for args in (["qemu"], ["-q", "qemu"]):
        theirs = subprocess.run(["/usr/bin/virt-host-validate", *args], capture_output=True, text=True)
        code = virt_host_validate.main(args)
        out, err = capsys.readouterr()
        assert (code, out, err) == (theirs.returncode, theirs.stdout, theirs.stderr)
    (tmp_path / "bad.xml").write_text("<domain type='qemu'><name>x</name><foo/></domain>")
    (tmp_path / "no.xml").write_text("<domain")
    (tmp_path / "pool.xml").write_text("<pool type='dir'><name>x</name><target><path>/x</path></target></pool>")
    (tmp_path / "what.xml").write_text("<what/>")
    for words in (
        *([f"{DATA}/guest.xml"], [f"{tmp_path}/bad.xml"], [f"{tmp_path}/no.xml"], [f"{tmp_path}/no.xml", "domain"]),
        *([f"{tmp_path}/pool.xml"], [f"{tmp_path}/pool.xml", "network"], [f"{tmp_path}/what.xml"], ["/nosuch"], []),
        *([f"{tmp_path}/pool.xml", "nosuch"], ["--what"], ["--help"]),
    ):
        their_code = subprocess.run(["/usr/bin/virt-xml-validate", *words], capture_output=True).returncode
        assert virt_xml_validate.main(words) == their_code, words
    capsys.readouterr()


def test_documents_without_schemas(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virt_xml_validate, "_SCHEMAS", ())
    (tmp_path / "bad.xml").write_text("<domain type='qemu'><name>x</name><memory>many</memory></domain>")
    (tmp_path / "new.xml").write_text("<domain type='qemu'><name>x</name><novelty/></domain>")
    for file, code, words in (
        (DATA / "guest.xml", 0, "reading it as guesthoused does"),
        (tmp_path / "bad.xml", 3, "Invalid value for element 'memory'"),
        (tmp_path / "new.xml", 0, "domain/novelty is not known here"),
    ):
        assert virt_xml_validate.main([str(file)]) == code
        assert words in capsys.readouterr().err


# -- guests of a daemon

DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>7d7b1b0e-0000-4000-8000-00000000000{n}</uuid>
<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root}/pool/a.img'/><target dev='vda'
 bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root}/b.img'/><target dev='vdb'
 bus='virtio'/></disk>
<interface type='user'><mac address='52:54:00:01:02:03'/></interface><video><model type='none'/></video></devices></domain>"""
POOL = "<pool type='dir'><name>tools</name><target><path>{}</path></target></pool>"


def program(daemon: Guesthoused, name: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = daemon.ns.command([str(BIN / name), "--connect", daemon.uri, *args])
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)


@pytest.fixture
def shop(guesthoused: Guesthoused) -> Iterator[Path]:
    """A guest with a disk in a pool and another beside it; returns the folder of them."""
    folder = guesthoused.root / "tools"
    (folder / "pool").mkdir(parents=True)
    (folder / "pool/a.img").write_bytes(b"A" * 4096 + bytes(1 << 20))
    (folder / "b.img").write_bytes(b"B" * 4096)
    os.truncate(folder / "b.img", 8 << 20)
    with client.connect(guesthoused.uri) as conn:
        pool = conn.storage_pool_define_xml(POOL.format(folder / "pool"))
        pool.create()
        conn.define_xml(DOMAIN.format(name="shop", n=1, root=folder))
        yield folder
        for guest in conn.list_all_domains():
            if guest.is_active():
                guest.destroy()
            guest.undefine()
        pool.destroy()
        pool.undefine()
    shutil.rmtree(folder)


def test_a_clone(guesthoused: Guesthoused, shop: Path) -> None:
    done = program(guesthoused, "virt-clone", "-o", "shop", "--auto-clone")
    assert done.returncode == 0, done.stderr
    assert "Clone 'shop-clone' created successfully." in done.stdout
    assert "Allocating 'a-clone.img'" in done.stdout and "Allocating 'b-clone.img'" in done.stdout
    for old, new in (("pool/a.img", "pool/a-clone.img"), ("b.img", "b-clone.img")):
        assert (shop / old).read_bytes() == (shop / new).read_bytes()
    assert (shop / "b-clone.img").stat().st_blocks * 512 < 1 << 20  # holes are holes
    assert "a-clone.img" in guesthoused.run("vol-list", "tools").stdout
    before, after = (guesthoused.run("dumpxml", name).stdout for name in ("shop", "shop-clone"))
    for pattern in ("<uuid>.*</uuid>", "<mac address='.*'/>"):
        assert re.findall(pattern, before) != re.findall(pattern, after) != []
    assert guesthoused.run("start", "shop-clone").returncode == 0

    # again, with another name; what is in the way, or running, is told
    running = program(guesthoused, "virt-clone", "-o", "shop-clone", "--auto-clone")
    assert running.returncode == 1 and "Domain to clone must be shutoff." in running.stderr
    taken = program(guesthoused, "virt-clone", "-o", "shop", "-n", "x", "-f", f"{shop}/b-clone.img", "--auto-clone")
    assert taken.returncode == 1 and "This will overwrite the existing path" in taken.stderr
    # a copy whose blocks cannot be shared; a clone that should have replaced another: all is as it was
    files = sorted(shop.rglob("*"))
    shared = program(
        guesthoused, "virt-clone", "-o", "shop", "-n", "shop-clone", "--auto-clone", "--replace", "--reflink"
    )
    if shared.returncode:
        assert "ERROR" in shared.stderr and "Traceback" not in shared.stderr
        assert sorted(shop.rglob("*")) == files
        assert guesthoused.run("dumpxml", "--inactive", "shop-clone").stdout.count("-clone.img") == 2
    assert guesthoused.run("list", "--all", "--name").stdout.split() == ["shop", "shop-clone"]


def test_a_clone_that_is_broken_off(guesthoused: Guesthoused, shop: Path) -> None:
    """Ctrl-C in the middle of the second disk: the first is gone again, too, and so is the guest."""
    from guesthouse.provision import clone
    from guesthouse.provision.host import Host

    files = sorted(shop.rglob("*"))
    with client.connect(guesthoused.uri) as conn:
        host = Host(conn, guesthoused.uri)
        plan = clone.plan(host, clone.original(conn, "shop"))
        clone.place(plan, host, [], dry=False)
        begun: list[str] = []

        def moved(done: int, total: int) -> None:
            assert len(list(shop.rglob("*-clone.img"))) == 2
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            clone.carry_out(plan, host, lambda part: begun.append(part.name), moved, lambda *_: None, lambda: None)
    assert begun == ["a-clone.img", "b-clone.img"]
    assert sorted(shop.rglob("*")) == files
    assert guesthoused.run("list", "--all", "--name").stdout.split() == ["shop"]


def test_edits_of_a_guest(guesthoused: Guesthoused, shop: Path) -> None:
    """Devices come and go with a running guest; what fails, or is not wanted, leaves nothing."""
    name = ("shop", "--quiet")
    assert program(guesthoused, "virt-xml", *name, "--edit", "--metadata", "title=hello").returncode == 0
    assert "<title>hello</title>" in guesthoused.run("dumpxml", "shop").stdout
    started = program(guesthoused, "virt-xml", "shop", "--edit", "--memory", "24", "--start")
    assert "Domain 'shop' defined successfully.\nDomain 'shop' started successfully." in started.stdout, started.stderr
    disk = f"{shop}/pool/c.img,size=0.01,format=raw,bus=virtio"
    done = program(guesthoused, "virt-xml", "shop", "--add-device", "--disk", disk, "--update")
    assert "Device hotplug successful.\nDomain 'shop' defined successfully." in done.stdout, done.stderr
    for flag in ((), ("--inactive",)):
        assert f"file='{shop}/pool/c.img'" in guesthoused.run("dumpxml", *flag, "shop").stdout
    asked = program(guesthoused, "virt-xml", "shop", "--add-device", "--disk", f"{shop}/pool/d.img,size=0.01")
    assert "Changes will take effect after the domain is fully powered off." in asked.stdout, asked.stderr
    bad = program(
        guesthoused, "virt-xml", "shop", "--add-device", "--disk", f"{shop}/pool/e.img,size=0.01,bus=ide", "--update"
    )
    assert bad.returncode == 1 and "Error attempting device hotplug" in bad.stderr
    assert not (shop / "pool/e.img").exists() and (shop / "pool/d.img").exists()
    gone = program(guesthoused, "virt-xml", "shop", "--remove-device", "--disk", "target=vdb", "--print-diff")
    assert gone.returncode == 0 and f"-      <source file='{shop}/b.img'/>" in gone.stdout
    assert f"{shop}/b.img" in guesthoused.run("dumpxml", "--inactive", "shop").stdout


def test_a_guest_by_itself(guesthoused: Guesthoused, tmp_path: Path) -> None:
    """virt-qemu-run ends with its guest, or ends it, and leaves nothing."""
    document = tmp_path / "guest.xml"
    document.write_text(
        "<domain type='qemu'><name>alone</name><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc'>hvm"
        "</type></os><devices><controller type='usb' model='none'/></devices></domain>"
    )
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    namespaces.reachable(root)
    argv = guesthoused.ns.command([str(BIN / "virt-qemu-run"), "-v", "-r", str(root), str(document)])
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "guest running" in line:
                break
        there = guesthoused.ns.command(["/usr/bin/virsh", "-c", f"qemu+unix:///system?socket={root}/run/libvirt-sock"])
        assert "alone" in subprocess.run([*there, "list"], capture_output=True, text=True).stdout
        subprocess.run([*there, "destroy", "alone"], capture_output=True)
        assert "cleaned up, exiting" in process.stderr.read()
    assert process.returncode == 0
    assert not (root / "run/libvirt-sock").exists()
    wrong = guesthoused.ns.command([str(BIN / "virt-qemu-run"), str(tmp_path / "nosuch.xml")])
    done = subprocess.run(wrong, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("virt-qemu-run: cannot read ")
