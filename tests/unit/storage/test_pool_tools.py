"""What the pools' programs print, read; and what they are told. Real prints of parted, lvm2 and showmount."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import GuesthouseError, InternalError, InvalidArg, NoSupport, OperationFailed
from guesthouse.model.pool_capabilities import pool_capabilities
from guesthouse.model.storage import POOL_TYPES, Pool, Volume
from guesthouse.model.storage_rules import parse_pool, parse_volume
from guesthouse.storage import backends, disk, images, logical, mounts, netfs, work
from guesthouse.storage.backend import Backend

MSDOS = """\
CHS;
/dev/loop0:257,0,1:loopback:512:512:msdos:Loopback device:;
257:255:2:261kB;
1:0,1,0:32,254,1:::;
BYT;
/dev/loop0:67108864B:loopback:512:512:msdos:Loopback device:;
1:1024B:8616959B:8615936B:::;
2:8616960B:17233919B:8616960B:::;
3:17233920B:34206719B:16972800B:::lba;
5:17235456B:21672959B:4437504B:::;
6:21673472B:24806399B:3132928B:::;
1:24806400B:34206719B:9400320B:free;
4:34206720B:38645759B:4439040B:::lba;
1:38645760B:67108863B:28463104B:free;
"""
GPT = """\
CHS;
/dev/loop1:8,40,31:loopback:512:512:gpt:Loopback device:;
8:255:63:8225kB;
BYT;
/dev/loop1:67108864B:loopback:512:512:gpt:Loopback device:;
1:17408B:10503167B:10485760B:free;
2:10503168B:20988927B:10485760B::primary:;
1:20988928B:67091967B:46103040B:free;
"""


def test_a_table_of_cylinders() -> None:
    table = disk.parse_table(MSDOS, {3})
    kinds = {part.number: part.kind for part in table.partitions}
    assert kinds == {1: "primary", 2: "primary", 3: "extended", 5: "logical", 6: "logical", 4: "primary"}
    # what is behind the last whole cylinder cannot be had
    assert [(free.start, free.end, free.logical) for free in table.free] == [
        (24806400, 34206720, True),
        (38645760, 67107840, False),
    ]
    assert (table.next_kind, table.next_number) == ("logical", 7)
    start, end = disk.place(table, 4 << 20)
    assert start == 24806400 + 512 and (end + 1) % table.cylinder == 0 and end - start >= 4 << 20
    with pytest.raises(InternalError, match="no large enough free extent"):
        disk.place(table, 9400320)
    assert disk.partition_words(table, "linux-swap") == "logical linux-swap"
    with pytest.raises(InternalError, match="extended partition already exists"):
        disk.partition_words(table, "extended")
    table.partitions = [part for part in table.partitions if part.kind == "primary"]
    assert (table.next_kind, table.next_number) == ("primary", 3)
    table.partitions.append(disk.Partition(3, 17233920, 34206720))
    with pytest.raises(InternalError, match="no extended partition found"):
        disk.partition_words(table, "none")


def test_a_table_of_sectors() -> None:
    table = disk.parse_table(GPT, set())
    assert [(part.number, part.start, part.end) for part in table.partitions] == [(2, 10503168, 20988928)]
    assert table.next_number == 1 and disk.partition_words(table, "extended") == "primary"
    # the smallest that is larger
    assert disk.place(table, 10485759) == (17408, 17408 + 10485758)
    assert disk.place(table, 10485760) == (20988928, 20988928 + 10485759)


@pytest.mark.parametrize("text", ["", "BYT;\n", MSDOS.replace("257:255:2", "x:y:z"), MSDOS.replace(":1024B:", ":x:")])
def test_no_table(text: str) -> None:
    with pytest.raises(InternalError, match="cannot read what parted prints"):
        disk.parse_table(text, set())


@pytest.mark.parametrize(
    ("device", "separator", "name"),
    [
        ("/dev/sda", "", "sda3"),
        ("/dev/nvme0n1", "", "nvme0n1p3"),
        ("/dev/mapper/mpatha", "", "mpathap3"),
        ("/dev/mapper/mpatha", " part_separator='no'", "mpatha3"),
        ("/dev/mapper/mpath1", " part_separator='no'", "mpath1p3"),
    ],
)
def test_names_of_partitions(device: str, separator: str, name: str) -> None:
    pool = parse_pool(
        f"<pool type='disk'><name>d</name><source><device path='{device}'{separator}/></source>"
        "<target><path>/dev</path></target></pool>"
    )
    assert disk._name(pool, 3) == name


def test_stable_names(tmp_path: Path) -> None:
    assert disk.stable_path("/dev", "/dev/sda1") == disk.stable_path(str(tmp_path), "/dev/sda1") == "/dev/sda1"
    assert disk.stable_path("/dev/nonsense", "/dev/sda1") == "/dev/sda1"


def _segment(name: str, devices: str, attributes: str, length: int = 4, size: int = 4, **more: str) -> dict[str, str]:
    """A row of lvs, sizes in MiB."""
    row = {"lv_name": name, "lv_uuid": f"id-{name}", "devices": devices, "lv_attr": attributes, "origin": ""}
    row |= {"segtype": "linear", "stripes": "1", "vg_extent_size": str(4 << 20)}
    return row | {"seg_size": str(length << 20), "lv_size": str(size << 20)} | more


LVS = [
    _segment("one", "/dev/sda(0)", "-wi-a-----", 8, 12),
    _segment("one", "/dev/sda(5)", "-wi-a-----", 4, 12),
    _segment("wide", "/dev/sda(7),/dev/sdb(0)", "-wi-ao----", 16, 16, segtype="striped", stripes="2"),
    _segment("snap", "/dev/sdb(4)", "swi-a-s---", origin="one"),
    _segment("off", "/dev/sdb(9)", "-wi-------"),
    _segment("thin", "thin_tdata(0)", "twi-a-tz--", segtype="thin-pool"),
]


def test_logical_volumes() -> None:
    text = json.dumps({"report": [{"lv": LVS}]})
    found = logical.volumes_of(logical.parse_report(text, "lv"), "/dev/vg")
    assert list(found) == ["one", "wide", "snap"]
    assert (found["one"].key, found["one"].path, found["one"].type) == ("id-one", "/dev/vg/one", "block")
    extents = {
        name: [(each.path, each.extents[0].start, each.extents[0].end) for each in volume.source.devices]
        for name, volume in found.items()
        if volume.source
    }
    mib = 1 << 20
    assert extents["one"] == [("/dev/sda", 0, 8 * mib), ("/dev/sda", 20 * mib, 24 * mib)]
    assert extents["wide"] == [("/dev/sda", 28 * mib, 36 * mib), ("/dev/sdb", 0, 8 * mib)]
    assert found["snap"].backing_store is not None and found["snap"].backing_store.path == "/dev/vg/one"
    assert "<format" not in found["one"].to_xml()


@pytest.mark.parametrize("text", ["", "{}", '{"report": 1}', "[]"])
def test_no_report(text: str) -> None:
    with pytest.raises(InternalError, match="cannot read what LVM reports"):
        logical.parse_report(text, "lv")


def test_volume_groups() -> None:
    rows = [
        {"pv_name": "/dev/sda", "vg_name": "one"},
        {"pv_name": "/dev/sdb", "vg_name": ""},
        {"pv_name": "/dev/sdc", "vg_name": "two"},
        {"pv_name": "/dev/sdd", "vg_name": "one"},
    ]
    found = logical.sources_of(rows)
    assert [(source.name, [device.path for device in source.devices]) for source in found.sources] == [
        ("one", ["/dev/sda", "/dev/sdd"]),
        ("two", ["/dev/sdc"]),
    ]
    assert found.to_xml().startswith("<sources>\n  <source>\n    <device path='/dev/sda'/>\n")
    assert logical.sources_of([]).to_xml() == "<sources>\n</sources>\n"


def _volume(inner: str) -> Volume:
    volume = parse_volume(f"<volume><name>v</name><capacity>1048577</capacity>{inner}</volume>", "logical")
    if volume.allocation is None:
        volume.allocation = volume.capacity
    return volume


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("", "--name v -L 1025K vg --yes"),
        ("<allocation>0</allocation>", "--name v -L 1K --type snapshot --virtualsize 1025K vg --yes"),
        ("<allocation>5000</allocation>", "--name v -L 5K --type snapshot --virtualsize 1025K vg --yes"),
        ("<backingStore><path>/dev/vg/o</path></backingStore>", "--name v -L 1025K -s /dev/vg/o --yes"),
    ],
)
def test_making_logical_volumes(inner: str, words: str) -> None:
    assert logical.create_words("vg", _volume(inner)) == words.split()


def _netfs(format_: str, path: str, more: str = "") -> Pool:
    return parse_pool(
        f"<pool type='netfs'><name>n</name><source><host name='h'/><dir path='{path}'/><format type='{format_}'/>{more}"
        "</source><target><path>/mnt</path></target></pool>"
    )


@pytest.mark.parametrize(
    ("format_", "path", "more", "words"),
    [
        ("auto", "/x", "", ("", "h:/x", "/mnt")),
        ("nfs", "/x", "", ("nfs", "h:/x", "/mnt")),
        ("nfs", "/x", "<protocol ver='4.1'/>", ("nfs", "h:/x", "/mnt", "nfsvers=4.1")),
        ("glusterfs", "vol", "", ("glusterfs", "h:vol", "/mnt", "direct-io-mode=1")),
        ("cifs", "/share", "", ("cifs", "//h/share", "/mnt", "guest")),
        ("cifs", "share", "", ("cifs", "//h/share", "/mnt", "guest")),
    ],
)
def test_mounting_from_hosts(format_: str, path: str, more: str, words: tuple[str, ...]) -> None:
    assert netfs.NetFs().mount_words(_netfs(format_, path, more)) == words


def test_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "/srv/images 10.0.0.0/8\n/srv/with blank *\n/everyone (everyone)\n"
    folders = [source.dir and source.dir.path for source in netfs.exports(text, "h").sources]
    assert folders == ["/srv/images", "/srv/with blank", "/everyone"]
    tool = tmp_path / "showmount"
    tool.write_text(f"#!/bin/sh\n[ $3 = h ] || {{ echo clnt_create: no >&2; exit 1; }}\ncat <<'X'\n{text}X\n")
    tool.chmod(0o755)
    monkeypatch.setattr(netfs, "SHOWMOUNT", str(tool))
    found = asyncio.run(netfs.NetFs().find_sources("<source><host name='h'/></source>"))
    assert "<dir path='/srv/images'/>\n    <format type='nfs'/>" in found
    with pytest.raises(OperationFailed, match="no storage pools were found on host 'other'"):
        asyncio.run(netfs.NetFs().find_sources("<source><host name='other'/></source>"))
    with pytest.raises(InvalidArg, match="hostname must be specified for netfs sources"):
        asyncio.run(netfs.NetFs().find_sources("<source/>"))


def test_mount_points() -> None:
    table = "tmpfs /run tmpfs rw 0 0\n/dev/sda1 /mnt/a\\040b\\134c ext4 rw 0 0\n"
    assert mounts.mount_points(table) == {"/run", "/mnt/a b\\c"}


def test_backends() -> None:
    for type_ in ("dir", "fs", "netfs"):
        served: Backend = backends.backend(type_)
        assert served.entangled is False
    for type_ in POOL_TYPES:
        if type_ in ("sheepdog", "gluster", "vstorage"):
            with pytest.raises(InternalError, match=rf"missing backend for pool type \d+ \({type_}\)$"):
                backends.backend(type_)
    with pytest.raises(InternalError, match="unknown storage pool type x"):
        backends.backend("x")


def test_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_program", lambda program: None)
    with pytest.raises(InternalError, match=r"missing backend for pool type 3 \(logical\): .*in the package lvm2\)"):
        backends.backend("logical")
    assert backends.supported_types() == {"dir", "iscsi-direct", "scsi"}
    assert pool_capabilities({"dir"}).count("supported='yes'") == 1


def test_programs_are_found_and_heard() -> None:
    assert work.find_program("/bin/sh") == "/bin/sh"
    assert work.find_program("/nonsense/sh") in ("/usr/bin/sh", "/bin/sh")
    assert work.find_program("/nonsense/nonsense") is None
    assert asyncio.run(work.output("/bin/sh", "-c", "echo out; echo err >&2")) == "out\n"
    assert asyncio.run(work.ask("/bin/sh", "-c", "echo out; echo err >&2; exit 3")) == (3, "out\n", "err\n")
    with pytest.raises(InternalError, match=r"Child process \(/bin/sh -c echo '  why' >&2; exit 4\) .* 4:   why\n$"):
        asyncio.run(work.run("/bin/sh", "-c", "echo '  why' >&2; exit 4"))
    with pytest.raises(InternalError, match="unable to find nonsense"):
        asyncio.run(work.run("/sbin/nonsense"))


@pytest.mark.parametrize("type_", ["logical", "disk"])
def test_what_blocks_cannot(type_: str) -> None:
    try:
        served = backends.backend(type_)
    except GuesthouseError as error:
        pytest.skip(str(error))
    with pytest.raises(NoSupport, match="does not support changing of volume capacity"):
        asyncio.run(served.resize(Pool(type=type_), Volume(), 1, take=False))


def test_filling_takes_other_formats_apart(tmp_path: Path) -> None:
    """What a volume is filled with is the guest's view of the source, not the image file."""
    plain, image, target = tmp_path / "plain", tmp_path / "image", tmp_path / "target"
    plain.write_bytes(b"x" * 4096 + bytes(4096) + b"y" * 4096)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(plain), str(image)], check=True)
    for source, format_ in ((plain, "raw"), (image, "qcow2")):
        target.write_bytes(b"z" * 3 * 4096)
        volume = Volume.from_xml(f"<volume><target><path>{source}</path><format type='{format_}'/></target></volume>")
        asyncio.run(images.fill(str(target), volume))
        data = target.read_bytes()
        assert data[:4096] == b"x" * 4096 and data[8192:12288] == b"y" * 4096


def test_what_cannot_be_made_is_told_of_by_its_name(tmp_path: Path) -> None:
    volume = Volume.from_xml(
        f"<volume><capacity>1</capacity><target><path>{tmp_path}/v</path><format type='cow'/></target></volume>"
    )
    with pytest.raises(InternalError, match=rf"qemu-img create -f cow {tmp_path}/v 1K\) .* Unknown file format 'cow'"):
        asyncio.run(images.create(volume))
    folder = Volume.from_xml("<volume type='dir'><target><path>/srv</path><format type='dir'/></target></volume>")
    with pytest.raises(InternalError, match="cannot copy from volume to a directory volume"):
        asyncio.run(images.create(volume, source=folder))
    assert list(tmp_path.iterdir()) == []
