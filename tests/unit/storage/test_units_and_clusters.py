"""Pools of what test machines do not have: SCSI hosts on a /sys of our own, Ceph and device mapper by stand-ins that
write down what they are told; and an iSCSI target that is slow, wrong or gone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, InvalidArg, NoSupport, XMLError
from guesthouse.model.storage import Auth, Pool, Volume
from guesthouse.model.storage_rules import parse_pool, parse_volume
from guesthouse.storage import iscsi, iscsi_node, iscsi_session, mpath, rbd, scsi, zfs
from guesthouse.storage.luns import units_of
from support.sysfs import FakeSysfs


def _scsi(adapter: str) -> Pool:
    return parse_pool(
        f"<pool type='scsi'><name>s</name><source><adapter {adapter}</source>"
        "<target><path>/dev/disk/by-path</path></target></pool>"
    )


@pytest.fixture
def tree(tmp_path: Path) -> FakeSysfs:
    tree = FakeSysfs(tmp_path / "root")
    for number in (4, 11):
        place = f"/devices/pci0000:00/0000:00:05.0/host{number}/scsi_host/host{number}"
        tree.device(place, "/class/scsi_host", unique_id=f"{number}\n", scan="")
    names = {"node_name": "0x20000000c9831b4b\n", "port_name": "0x10000000c9831b4b\n"}
    tree.device("/devices/pci0000:00/0000:00:05.0/host11/fc_host/host11", "/class/fc_host", **names)
    for unit, kind, block in (
        *(("4:0:10:0", "0", "sdc"), ("4:0:2:1", "0", "sdb"), ("4:0:2:0", "0", "sda"), ("4:1:0:0", "5", "sr0")),
        *(("4:0:3:0", "13", "ses"), ("4:0:4:0", "0", ""), ("5:0:0:0", "0", "sdz"), ("4:0", "0", "sdx")),
    ):
        tree.file(f"/sys/bus/scsi/devices/{unit}/type", f"{kind}\n")
        if block:
            tree.file(f"/sys/bus/scsi/devices/{unit}/block/{block}/size", "")
    return tree


def test_units_of_a_host(tree: FakeSysfs) -> None:
    names = [("unit:0:2:0", "sda"), ("unit:0:2:1", "sdb"), ("unit:0:10:0", "sdc"), ("unit:1:0:0", "sr0")]
    assert units_of(tree.sysfs, 4) == names
    assert units_of(tree.sysfs, 9) == []
    (tree.root / "sys/bus/scsi/devices/4:0:2:1/type").unlink()
    with pytest.raises(InternalError, match="Failed to determine if 4:0:2:1 is a Direct-Access LUN"):
        units_of(tree.sysfs, 4)


@pytest.mark.parametrize(
    ("adapter", "number"),
    [
        ("name='host4'/>", 4),
        ("type='scsi_host' name='scsi_host11'/>", 11),
        (
            "type='scsi_host'><parentaddr unique_id='11'><address domain='0x0' bus='0x0' slot='0x05' function='0x0'/>"
            "</parentaddr></adapter>",
            11,
        ),
        ("type='fc_host' wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'/>", 11),
        ("name='frob4'/>", "Invalid adapter name 'frob4' for SCSI pool"),
        ("name='host'/>", "Invalid adapter name 'host' for SCSI pool"),
        (
            "type='scsi_host'><parentaddr unique_id='5'><address domain='0x0' bus='0x0' slot='0x05' function='0x0'/>"
            "</parentaddr></adapter>",
            "Failed to find scsi_host using PCI '0000:00:05.0' and unique_id='5'",
        ),
        ("type='fc_host' wwnn='2' wwpn='1'/>", "Failed to find SCSI host with wwnn='2', wwpn='1'"),
    ],
)
def test_which_host_an_adapter_is(tree: FakeSysfs, adapter: str, number: int | str) -> None:
    pool = _scsi(adapter)
    assert pool.source is not None and pool.source.adapter is not None
    if isinstance(number, int):
        assert scsi.host_number(tree.sysfs, pool.source.adapter) == number
        assert asyncio.run(scsi.Scsi(tree.sysfs).started(pool))
    else:
        with pytest.raises((InternalError, XMLError), match=number):
            scsi.host_number(tree.sysfs, pool.source.adapter)


def test_what_a_scsi_pool_leaves_out(tree: FakeSysfs) -> None:
    """Of four units none can be opened here; the host has looked for new ones all the same."""
    served = scsi.Scsi(tree.sysfs, dev=str(tree.root))
    assert asyncio.run(served.refresh(_scsi("name='host4'/>"))) == {}
    assert tree.sysfs.text("/class/scsi_host/host4/scan") == "- - -"
    gone = _scsi("type='fc_host' wwnn='2' wwpn='1'/>")
    assert asyncio.run(served.started(gone)) is False
    with pytest.raises(ConfigUnsupported, match="create it first"):
        asyncio.run(served.start(gone))


def test_maps() -> None:
    assert mpath.maps_of("mpatha\t(253:0)\nmpathb (253, 12)\n") == [("mpatha", 0), ("mpathb", 12)]
    assert mpath.maps_of("No devices found\n") == []
    with pytest.raises(InternalError, match="cannot read what dmsetup prints"):
        mpath.maps_of("nonsense\n")


@pytest.mark.parametrize("text", ["tank/a\t1\t-\n", "tank/a\t-\t1\n", "tank/a\n"])
def test_what_zfs_should_not_print(text: str) -> None:
    with pytest.raises(InternalError, match=r"malformed (volsize|refreservation) reported"):
        zfs.volumes_of(text, "/dev/zvol/tank")


def test_what_iscsiadm_prints() -> None:
    sessions = "tcp: [12] [::1]:3260,1 iqn.b (non-flash)\ntcp: [3] 10.0.0.1:3260,1 iqn.a (non-flash)\nnonsense\n"
    assert iscsi.session_of(sessions, "iqn.a") == "3" and iscsi.session_of(sessions, "iqn") is None
    with pytest.raises(InternalError, match="malformed output of /usr/bin/iscsiadm: default"):
        iscsi.find_interface("default\n", "iqn.x")


def test_a_password_stands_in_the_record_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, told = tmp_path / "iscsiadm", tmp_path / "told"
    tool.write_text(f'#!/bin/sh\necho "$@" >>{told}\n')
    tool.chmod(0o755)
    folder = tmp_path / "nodes/iqn.a/::1,3260,1"
    folder.mkdir(parents=True)
    record = folder / "default"
    record.write_text("# BEGIN RECORD\nnode.session.auth.password = old\nnode.name = iqn.a\n# END RECORD\n")
    monkeypatch.setattr(iscsi_node, "_ISCSIADM", str(tool))
    monkeypatch.setattr(iscsi_node, "NODES", (str(tmp_path / "nodes"), str(tmp_path / "nothing")))
    asyncio.run(iscsi_node.write_secret("[::1]:3260,1", "iqn.a", "joe", b"open sesame"))
    assert record.read_text().splitlines() == [
        *("# BEGIN RECORD", "node.name = iqn.a", "node.session.auth.password = open sesame", "# END RECORD")
    ]
    assert record.stat().st_mode & 0o777 == 0o600 and list(folder.iterdir()) == [record]
    assert "sesame" not in told.read_text() and "--value joe" in told.read_text()
    for target, password in (("iqn.b", b"x"), ("iqn.a", b"x\nnode.name = y")):
        with pytest.raises(InternalError):
            asyncio.run(iscsi_node.write_secret("[::1]:3260,1", target, "joe", password))


# Ceph's two programs: they keep images in a file, and what they were told and given in others
_CEPH = """\
#!/usr/bin/python3 -IS
import json, os, sys
work, name, args = "{work}/", os.path.basename(sys.argv[0]), sys.argv[1:]
given = {{}}
while args[0] in ("--conf", "--id", "--keyfile"):
    given[args[0]] = open(args[1]).read() if args[0] != "--id" else args[1]
    args = args[2:]
with open(work + "told", "a") as told:
    print(name, *args, file=told)
with open(work + "given", "w") as out:
    json.dump(given, out)
file = work + "images"
images = json.load(open(file)) if os.path.exists(file) else {{"old": 8 << 20}}
def word(option):
    return args[args.index(option) + 1]
if name == "ceph":
    pools = [{{"name": "vms", "stats": {{"stored": 5000, "bytes_used": 15000}}}}]
    print(json.dumps({{"stats": {{"total_bytes": 10**12, "total_avail_bytes": 10**11}}, "pools": pools}}))
elif args[0] == "ls":
    print(json.dumps(sorted([*images, "gone"])))
elif args[0] == "info":
    image = word("--image")
    if image not in images:
        sys.exit(f"rbd: error opening image {{image}}: (2) No such file or directory")
    objects = -(-images[image] // (4 << 20))
    print(json.dumps({{"name": image, "size": images[image], "objects": objects, "object_size": 4 << 20}}))
elif args[0] == "create" or args[0] == "resize":
    images[word("--image")] = int(word("--size").removesuffix("B"))
elif args[0] == "cp":
    images[word("--dest")] = images[word("--image")]
elif args[0] == "rm":
    del images[word("--image")]
json.dump(images, open(file, "w"))
"""


@pytest.fixture
def ceph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("rbd", "ceph"):
        (tmp_path / name).write_text(_CEPH.format(work=tmp_path))
        (tmp_path / name).chmod(0o755)
        monkeypatch.setattr(rbd, name.upper(), str(tmp_path / name))
    return tmp_path


def _rbd(auth: str = "<auth type='ceph' username='joe'><secret usage='u'/></auth>", host: str = "::1") -> Pool:
    return parse_pool(
        f"<pool type='rbd'><name>r</name><source><host name='mon1'/><host name='{host}' port='6789'/>"
        f"<name>vms</name>{auth}</source></pool>"
    )


def test_a_ceph_pool(ceph: Path) -> None:
    def key(auth: Auth) -> bytes:
        assert auth.secret is not None and auth.secret.usage == "u"
        return b"key of joe"

    async def live() -> None:
        served, pool = rbd.Rbd(key), _rbd()
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
        volumes = await served.refresh(pool)
        assert (pool.capacity, pool.available, pool.allocation) == (10**12, 10**11, 5000)
        (old,) = volumes.values()
        assert (old.name, old.type, old.capacity, old.key, old.path) == (
            "old",
            "network",
            8 << 20,
            "vms/old",
            "vms/old",
        )
        given = json.loads((ceph / "given").read_text())
        assert given["--id"] == "joe" and given["--keyfile"] == "a2V5IG9mIGpvZQ=="
        assert "mon_host = mon1,[::1]:6789\n" in given["--conf"] and "auth_client_required = cephx\n" in given["--conf"]
        (ceph / "told").unlink()
        new = parse_volume("<volume><name>new</name><capacity>5000001</capacity></volume>", "rbd")
        await served.place(pool, new)
        await served.create(pool, new, preallocate=False)
        copy = parse_volume("<volume><name>copy</name><capacity>9000000</capacity></volume>", "rbd")
        await served.place(pool, copy)
        await served.copy(pool, copy, old, preallocate=False, reflink=False)
        await served.update(pool, copy)
        assert (copy.capacity, copy.allocation) == (9000000, 12 << 20)
        await served.resize(pool, old, 4 << 20, take=False)
        await served.wipe(pool, new, 0)
        await served.remove(pool, new)
        assert sorted(await served.refresh(pool)) == ["copy", "old"]
        assert (ceph / "told").read_text().splitlines()[:9] == [
            "rbd create --size 5000001B --pool vms --image new",
            "rbd cp --no-progress --pool vms --image old --dest-pool vms --dest copy",
            "rbd resize --no-progress --size 9000000B --pool vms --image copy",
            "rbd info --pool vms --image copy --format json",
            "rbd resize --no-progress --size 4194304B --allow-shrink --pool vms --image old",
            "rbd resize --no-progress --size 0B --allow-shrink --pool vms --image new",
            "rbd resize --no-progress --size 5000001B --pool vms --image new",
            "rbd rm --no-progress --pool vms --image new",
            "ceph df --format json",
        ]
        open_ = rbd.Rbd()
        await open_.refresh(_rbd(auth=""))
        given = json.loads((ceph / "given").read_text())
        assert list(given) == ["--conf"] and "auth_client_required = none\n" in given["--conf"]
        assert len(os.listdir("/proc/self/fd")) <= len(before) + 2  # the loop's own  # noqa: PTH208
        elsewhere = Volume.from_xml("<volume><name>x</name><target><path>/srv/x</path></target></volume>")
        wrongs: list[tuple[type[GuesthouseError], str, Callable[[], Awaitable[object]]]] = [
            (ConfigUnsupported, "only RAW volumes", lambda: served.place(pool, _qcow2())),
            (NoSupport, "volume capacity required", lambda: served.create(pool, Volume(name="e"), preallocate=False)),
            (
                ConfigUnsupported,
                "within the pool alone",
                lambda: served.copy(pool, copy, elsewhere, preallocate=False, reflink=False),
            ),
            (InvalidArg, "unsupported algorithm 8", lambda: served.wipe(pool, old, 8)),
            (InternalError, "No such file or directory", lambda: served.update(pool, Volume(name="nix"))),
            (InternalError, "malformed monitor", lambda: served.refresh(_rbd(host="h&#10;key = x"))),
        ]
        for kind, text, call in wrongs:
            with pytest.raises(kind, match=text):
                await call()

    asyncio.run(live())


def _qcow2() -> Volume:
    text = "<volume><name>q</name><capacity>1</capacity><target><format type='qcow2'/></target></volume>"
    return parse_volume(text, "rbd")


def test_targets_that_do_not_behave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes, it is an error soon; nothing waits for good."""
    monkeypatch.setattr(iscsi_session, "TIMEOUT", 0.2)
    good = bytearray(48)
    good[0], good[1] = 0x23, 0x81
    strange, refused, unfinished = bytearray(good), bytearray(good), bytearray(good)
    strange[0] = 0x3F
    refused[36:38] = b"\x02\x01"
    unfinished[5:8] = b"\x00\x10\x00"
    for answer, error in (
        (b"", "does not answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer"),
        (bytes(strange), "answers with a PDU of type 0x3f"),
        (bytes(refused), r"Failed to login: Failed to log in to target. Status: Authentication failure\(513\)"),
        (bytes(unfinished), "does not answer"),
        (bytes(good), "does not answer"),
    ):
        for stays in (False, True):

            async def live(answer: bytes = answer, stays: bool = stays) -> None:
                async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    await reader.read(48)
                    writer.write(answer)
                    if stays:
                        await asyncio.sleep(0.5)
                    writer.close()

                server = await asyncio.start_server(serve, "127.0.0.1", 0)
                port = server.sockets[0].getsockname()[1]
                async with server, iscsi_session.session("127.0.0.1", port, "iqn.me", "iqn.it"):
                    pass

            with pytest.raises(InternalError, match=error):
                asyncio.run(live())
