"""What bad input gets: a clear error with libvirt's code, nothing half-made, and a daemon that serves on."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guesthouse import client, errors
from support import namespaces
from support.guesthoused import Guesthoused

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>{devices}</devices>
</domain>
"""
_UUID = "11111111-2222-4333-8444-5555555555{:02d}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("bad")))
    yield guesthoused
    guesthoused.close()


@pytest.fixture
def conn(daemon: Guesthoused) -> Iterator[client.Connect]:
    with client.connect(daemon.uri) as connection:
        yield connection
        for domain in connection.list_all_domains():
            if domain.is_active():
                domain.destroy()
            if domain.conn.list_all_domains():
                try:
                    domain.undefine()
                except errors.NoDomain:
                    pass
    assert namespaces.alive(daemon.pid), daemon.output()
    assert daemon.qemu_pids() == []


def xml(number: int, devices: str = "", name: str = "") -> str:
    return DOMAIN.format(name=name or f"bad{number}", uuid=_UUID.format(number), devices=devices)


def fails(kind: type[errors.GuesthouseError], match: str, action: Callable[[], object]) -> errors.GuesthouseError:
    with pytest.raises(kind, match=match) as caught:
        action()
    assert type(caught.value) is kind
    return caught.value


def nothing_is_left(daemon: Guesthoused, conn: client.Connect, name: str) -> None:
    assert daemon.runtime_rows() == {}
    assert daemon.qemu_pids() == []
    assert not list((daemon.root / "run/qemu").glob(f"*{name}*"))
    taps = daemon.ns.run("ip", "-o", "link", "show", "type", "tun").stdout
    assert taps == ""


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("", errors.XMLDetail, r"\(domain_definition\)"),
        ("<domain", errors.XMLDetail, r"\(domain_definition\):1: "),
        ("<domain type='qemu'><name>x</domain>", errors.XMLDetail, "Opening and ending tag mismatch"),
        ("<network/>", errors.XMLError, "expecting root element of 'domain', not 'network'"),
        ("<domain type='qemu'/>", errors.GuesthouseError, "."),
        (xml(1).replace("<memory unit='MiB'>64", "<memory unit='MiB'>lots"), errors.XMLError, r"'lots'.*memory"),
        (xml(1).replace("'MiB'", "'parsec'"), errors.XMLError, "parsec"),
        (xml(1).replace(_UUID.format(1), "no-uuid"), errors.XMLError, "no-uuid.*domain/uuid.*expected a UUID"),
        (
            xml(1, "<disk type='file' device='tape'><target dev='vda'/></disk>"),
            errors.XMLError,
            "tape.*device.*expected",
        ),
        (xml(1, "<interface type='bridge'/>"), errors.XMLError, "type='bridge' requires a 'source' element"),
        (xml(1, "<interface type='user'><mac address='00:11'/></interface>"), errors.XMLError, "00:11"),
        (xml(1, "<graphics type='vnc' port='many'/>"), errors.XMLError, "many.*port"),
        (xml(1).replace("machine='pc'", "machine='abacus'"), errors.ConfigUnsupported, "abacus"),
        (xml(1).replace("arch='x86_64'", "arch='pdp11'"), errors.GuesthouseError, "pdp11"),
        (xml(1, "<emulator>/usr/bin/absent</emulator>"), errors.GuesthouseError, "/usr/bin/absent"),
        (xml(1, "<graphics type='vnc' passwd='123456789'/>"), errors.ConfigUnsupported, "9 characters.*8 permitted"),
        (xml(1, name="a/b"), errors.XMLError, "a/b"),
    ],
)
def test_define_refuses(
    conn: client.Connect, daemon: Guesthoused, text: str, kind: type[errors.GuesthouseError], match: str
) -> None:
    with pytest.raises(kind, match=match) as caught:
        conn.define_xml(text)
    assert "unforeseen" not in str(caught.value), caught.value
    assert conn.list_all_domains() == []


def test_names_and_uuids_that_are_taken(conn: client.Connect) -> None:
    conn.define_xml(xml(1, name="one"))
    uuid = _UUID.format(1)
    fails(
        errors.OperationFailed,
        f"domain 'one' already exists with uuid {uuid}",
        lambda: conn.define_xml(xml(2, name="one")),
    )
    fails(
        errors.OperationFailed,
        f"domain 'one' is already defined with uuid {uuid}",
        lambda: conn.define_xml(xml(1, name="two")),
    )
    assert [d.name for d in conn.list_all_domains()] == ["one"]


def disk(path: Path, extra: str = "") -> str:
    return f"<disk type='file'><source file='{path}'/><target dev='vda' bus='virtio'/>{extra}</disk>"


def test_a_missing_disk(conn: client.Connect, daemon: Guesthoused) -> None:
    domain = conn.define_xml(xml(1, disk(daemon.root / "absent.img")))
    error = fails(errors.SystemFailure, "Cannot access storage file .*absent.img.*No such file", domain.create)
    assert error.int1 == 2
    nothing_is_left(daemon, conn, "bad1")
    assert domain.get_state() == (5, 6)


def test_a_disk_of_another_running_guest(conn: client.Connect, daemon: Guesthoused) -> None:
    image = daemon.root / "shared.img"
    image.write_bytes(bytes(1 << 16))
    link = daemon.root / "link.img"
    link.symlink_to(image)
    first, second = conn.define_xml(xml(1, disk(image))), conn.define_xml(xml(2, disk(link)))
    first.create()
    fails(errors.ResourceBusy, "in use by the running domain 'bad1'", second.create)
    assert first.is_active() and len(daemon.qemu_pids()) == 1
    first.destroy()
    second.create()
    second.destroy()
    shareable = [xml(n, disk(image, "<shareable/>")) for n in (1, 2)]
    both = [conn.define_xml(text) for text in shareable]
    for domain in both:
        domain.create()
    assert len(daemon.qemu_pids()) == 2


def test_a_missing_disk_that_may_be_missing(conn: client.Connect, daemon: Guesthoused) -> None:
    changes: list[tuple[str, int]] = []
    conn.domain_event_register_any(None, 9, lambda e: changes.append((e.msg.oldSrcPath, e.msg.reason)))
    absent = daemon.root / "absent.iso"
    drive = (
        f"<disk type='file' device='{{}}'><source file='{absent}' startupPolicy='optional'/><target dev='{{}}'/></disk>"
    )
    domain = conn.define_xml(xml(1, drive.format("cdrom", "hdc") + drive.format("disk", "hda")))
    domain.create()
    live = domain.get_xml_desc()
    assert "device='cdrom'" in live and "hda" not in live and "absent.iso" not in live
    assert domain.get_xml_desc(2).count("absent.iso") == 2, "the definition stays"
    conn.dispatch_events(1)
    assert changes == [(str(absent), 0)] * 2


def test_a_bridge_that_is_not_there(conn: client.Connect, daemon: Guesthoused) -> None:
    nic = "<interface type='bridge'><source bridge='br77'/></interface>"
    domain = conn.define_xml(xml(1, nic))
    error = fails(errors.SystemFailure, "Cannot get interface MTU on 'br77': No such device", domain.create)
    assert "ip link add br77 type bridge" in str(error)
    nothing_is_left(daemon, conn, "bad1")


def test_a_network_that_is_off(conn: client.Connect, daemon: Guesthoused) -> None:
    conn.network_define_xml("<network><name>off</name><ip address='10.77.0.1' netmask='255.255.255.0'/></network>")
    try:
        domain = conn.define_xml(xml(1, "<interface type='network'><source network='off'/></interface>"))
        fails(errors.OperationInvalid, "network 'off' is not active", domain.create)
        nothing_is_left(daemon, conn, "bad1")
        other = conn.define_xml(xml(2, "<interface type='network'><source network='absent'/></interface>"))
        fails(errors.NoNetwork, "no network with matching name 'absent'", other.create)
    finally:
        conn.network_lookup_by_name("off").undefine()


def test_a_mac_that_a_running_guest_has(conn: client.Connect, daemon: Guesthoused) -> None:
    nic = "<interface type='network'><mac address='52:54:00:77:77:77'/><source network='default'/></interface>"
    first, second = conn.define_xml(xml(1, nic)), conn.define_xml(xml(2, nic))
    first.create()
    fails(errors.OperationFailed, "MAC address '52:54:00:77:77:77' is in use by .*'bad1'", second.create)
    assert len(daemon.qemu_pids()) == 1


def test_qemu_that_dies_at_start_tells_its_last_words(conn: client.Connect, daemon: Guesthoused) -> None:
    kernel = daemon.root / "not-a-kernel"
    kernel.write_bytes(b"nonsense" * 1000)
    text = xml(1).replace("</os>", f"<kernel>{kernel}</kernel></os>")
    domain = conn.define_xml(text)
    error = fails(errors.InternalError, "process exited while connecting to monitor", domain.create)
    assert "invalid kernel header" in str(error), "QEMU's own words"
    nothing_is_left(daemon, conn, "bad1")
    assert kernel.stat().st_uid == os.geteuid()


def test_a_qemu_that_cannot_be_run(conn: client.Connect, daemon: Guesthoused) -> None:
    script = daemon.root / "qemu-broken"
    script.write_text("#!/bin/sh\necho the wheel fell off >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(errors.GuesthouseError, match=r"the wheel fell off"):
        conn.define_xml(xml(1, f"<emulator>{script}</emulator>")).create()
    nothing_is_left(daemon, conn, "bad1")


def test_wrong_pools_and_volumes(conn: client.Connect, daemon: Guesthoused) -> None:
    fails(
        errors.NoStoragePool,
        "no storage pool with matching name 'absent'",
        lambda: conn.storage_pool_lookup_by_name("absent"),
    )
    pool_xml = "<pool type='dir'><name>p</name><target><path>{}</path></target></pool>"
    fails(errors.XMLError, ".", lambda: conn.storage_pool_define_xml("<pool type='dir'><name>p</name></pool>"))
    pool = conn.storage_pool_define_xml(pool_xml.format(daemon.root / "nowhere"))
    try:
        fails(errors.SystemFailure, "nowhere.*No such file", pool.create)
        fails(errors.OperationInvalid, "storage pool 'p' is not active", lambda: pool.vol_lookup_by_name("v"))
    finally:
        pool.undefine()


def test_a_full_disk_leaves_no_half_volume(conn: client.Connect, daemon: Guesthoused) -> None:
    small = daemon.root / "small"
    small.mkdir()
    daemon.ns.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small))
    pool = conn.storage_pool_create_xml(
        f"<pool type='dir'><name>small</name><target><path>{small}</path></target></pool>"
    )
    try:
        volume = "<volume><name>{}</name><capacity>{}</capacity><allocation>{}</allocation></volume>"
        error = fails(
            errors.SystemFailure,
            "No space left on device",
            lambda: pool.vol_create_xml(volume.format("big", 1 << 22, 1 << 22)),
        )
        assert error.int1 == 28
        assert daemon.ns.run("ls", "-A", str(small)).stdout == ""
        thin = pool.vol_create_xml(volume.format("thin", 1 << 22, 0))
        with pytest.raises(errors.GuesthouseError, match="No space left"):
            stream = thin.upload(0, 1 << 22)
            for _ in range(64):
                stream.send(os.urandom(1 << 16))
            stream.finish()
    finally:
        pool.destroy()
        daemon.ns.run("umount", str(small))


def test_garbage_on_the_socket(conn: client.Connect, daemon: Guesthoused) -> None:
    rng = random.Random(7)
    head = struct.Struct(">7I")
    packets = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">I", 0),
        struct.pack(">I", 27) + bytes(23),
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 33_554_437),
        head.pack(28, 0x20008086, 1, 1, 5, 0, 0),
        head.pack(40, 0x20008086, 1, 1, 0, 0, 0) + b"\xff\xff\xff\xff" + bytes(8),
        *(rng.randbytes(rng.randrange(1, 4000)) for _ in range(200)),
    ]
    for packet in packets:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(daemon.socket))
            sock.settimeout(5)
            sock.sendall(packet)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert conn.get_type() == "QEMU"
    assert "Traceback" not in daemon.output()
    for log in (daemon.root / "log").glob("*.log"):
        assert "Traceback" not in log.read_text()
