"""Control groups on trees that are no kernel's: which controller is used where, and what is written into which file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.host import cgroups
from guesthouse.host.cgroups import UNLIMITED, Group, Hierarchies

MACHINE = "/machine/qemu-1-demo.libvirt-qemu"


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def host(root: Path, new: str, old: str = "", systemd: bool = False) -> Hierarchies:
    """A host whose version 2 has the controllers ``new``, and whose version 1 has each of ``old`` mounted alone."""
    mounts = []
    if new:
        mounts.append("cgroup2 /cg/unified cgroup2 rw,nosuid 0 0")
        put(root / "cg/unified/cgroup.controllers", new)
        put(root / "cg/unified/cgroup.subtree_control")
    for name in old.split():
        mounts.append(f"cgroup /cg/{name} cgroup rw,{name} 0 0")
        (root / "cg" / name.partition(",")[0]).mkdir(parents=True, exist_ok=True)
        (root / "cg" / name).mkdir(parents=True, exist_ok=True)
    put(root / "proc/self/mounts", "\n".join(mounts))
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
    return Hierarchies.find(str(root))


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        ("cpuset cpu io memory pids", "", {"cpu": 2, "cpuset": 2, "memory": 2, "blkio": 2, "cpuacct": 2}),
        ("", "cpu,cpuacct cpuset memory blkio", {"cpu": 1, "cpuacct": 1, "cpuset": 1, "memory": 1, "blkio": 1}),
        ("hugetlb", "cpu cpuacct memory freezer", {"cpu": 1, "cpuacct": 2, "memory": 1}),
        ("", "", {}),
    ],
)
def test_controllers(tmp_path: Path, new: str, old: str, found: dict[str, int]) -> None:
    hierarchies = host(tmp_path, new, old)
    assert {name: tree.version for name, tree in hierarchies.controllers.items()} == found
    assert len(hierarchies.groups) == len({tree.folder for tree in hierarchies.groups})


def test_what_is_not_ours(tmp_path: Path) -> None:
    """Mounted read-only, or systemd's."""
    assert not host(tmp_path / "a", "cpu memory", systemd=True).groups
    held = tmp_path / "b/cg/unified/system.slice/guesthouse-machines.service"
    put(held / "cgroup.controllers", "cpu memory")
    found = host(tmp_path / "b", "cpu memory", systemd=True)
    assert [tree.folder for tree in found.groups] == [held]
    put(tmp_path / "c/proc/self/mounts", "cgroup2 /cg cgroup2 ro,nosuid 0 0\n")
    (tmp_path / "c/cg").mkdir()
    assert not Hierarchies.find(str(tmp_path / "c")).groups


def test_names() -> None:
    for partition, path in (
        ("/machine", "/machine"),
        ("/machine/production", "/machine/production.partition"),
        ("/virtualmachines/a.slice", "/virtualmachines.partition/a.slice"),
        ("/x/cpu.a/_b", "/x.partition/_cpu.a/__b.partition"),
    ):
        assert cgroups.partition_path(partition) == path
    assert cgroups.machine_name(3, "demo") == "qemu-3-demo.libvirt-qemu"
    assert cgroups.machine_name(3, "../a b..c", "-12ab") == "qemu-3-ab.c-12ab.libvirt-qemu"
    assert cgroups.machine_name(3, "n" * 200) == f"qemu-3-{'n' * 57}.libvirt-qemu"


def test_made_and_removed(tmp_path: Path) -> None:
    hierarchies = host(tmp_path, "cpu io hugetlb", "cpuset memory")
    tree = tmp_path / "cg"
    (tree / "cpuset/machine").mkdir()
    for file, text in (("cpuset.cpus", "0-3"), ("cpuset.mems", "0-1")):
        put(tree / "cpuset/machine" / file, text)
        put(tree / f"cpuset{MACHINE}" / file)  # as the kernel would
    put(tree / f"cpuset{MACHINE}/cpuset.memory_migrate", "0")
    group = Group(hierarchies, MACHINE)
    group.make()
    assert (tree / f"unified{MACHINE}").is_dir() and (tree / f"memory{MACHINE}").is_dir()
    assert (tree / "unified/cgroup.subtree_control").read_text() in ("+cpu", "+io")  # each at once, for the kernel
    assert (tree / f"cpuset{MACHINE}/cpuset.cpus").read_text() == "0-3"
    assert (tree / f"cpuset{MACHINE}/cpuset.memory_migrate").read_text() == "1"
    assert group.has("memory") and group.has("cpuset") and not group.has("cpu")
    put(tree / f"unified{MACHINE}/cgroup.controllers", "cpu io")
    assert group.has("cpu") and group.has("blkio") and group.has("cpuacct")
    with pytest.raises(GuesthouseError, match=r"Failed to create v1 controller|Unable to read from"):
        Group(hierarchies, f"/elsewhere{MACHINE}").make()
    for folder in (tree / f"unified{MACHINE}", tree / f"cpuset{MACHINE}"):
        for file in folder.iterdir():
            file.unlink()
    (tree / f"unified{MACHINE}/vcpu0").mkdir()
    group.remove()
    assert not group.exists and (tree / "memory/machine").is_dir()


FILES = {
    1: {
        "cpu": {"cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
        "memory": {
            "memory.limit_in_bytes": "9223372036854771712",
            "memory.soft_limit_in_bytes": "1048576",
            "memory.memsw.limit_in_bytes": "9223372036854771712",
        },
        "blkio": {"blkio.bfq.weight": "100", "blkio.throttle.read_bps_device": ""},
        "cpuset": {"cpuset.mems": "0"},
        "cpuacct": {"cpuacct.usage": "77\n", "cpuacct.stat": "user 2\nsystem 3\n", "cpuacct.usage_percpu": "70 7 \n"},
    },
    2: {
        "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
        "memory": {"memory.max": "max", "memory.high": "1048576", "memory.swap.max": "max"},
        "blkio": {"io.weight": "default 100\n8:0 50", "io.max": ""},
        "cpuset": {"cpuset.mems": "0"},
        "cpuacct": {"cpu.stat": "usage_usec 77\nuser_usec 2\nsystem_usec 3\n"},
    },
}


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def group(tmp_path: Path, version: int) -> Group:
    old, new = ("cpu cpuacct cpuset memory blkio", "") if version == 1 else ("", "cpu cpuset io memory")
    for controller, files in FILES[version].items():
        for file, text in files.items():
            put(tmp_path / "cg" / (controller if version == 1 else "unified") / MACHINE[1:] / file, text)
    return Group(host(tmp_path, new, old), MACHINE)


def test_limits(group: Group, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert group.shares in (1024, 100)
    group.set_shares(512)
    assert group.shares == 512
    with pytest.raises(GuesthouseError, match=r"shares '1' must be in range \[2, 262144\]"):
        group.set_shares(1)

    assert group.bandwidth == group.no_bandwidth
    group.set_bandwidth(50000, 0)
    group.set_bandwidth(0, 20000)
    assert group.bandwidth == (50000, 20000)
    group.set_bandwidth(0, -1)
    assert group.bandwidth == (50000, group.no_bandwidth[1])

    assert group.memory_limits == {"hard_limit": UNLIMITED, "soft_limit": 1024, "swap_hard_limit": UNLIMITED}
    group.set_memory("hard_limit", 2048)
    group.set_memory("soft_limit", UNLIMITED)
    file = {1: "memory.soft_limit_in_bytes", 2: "memory.high"}[version]
    assert group.memory("hard_limit") == 2048 and group.read("memory", file) == {1: "-1", 2: "max"}[version]
    with pytest.raises(GuesthouseError, match=f"Memory '{UNLIMITED + 1}' must be less than {UNLIMITED}"):
        group.set_memory("hard_limit", UNLIMITED + 1)

    assert group.weight == 100
    group.set_weight(300)
    assert group.weight == 300
    monkeypatch.setattr(cgroups, "_device", lambda path: "253:0")
    group.set_device("read_bytes_sec", "/dev/vda", 5000)
    file, text = {1: ("blkio.throttle.read_bps_device", "253:0 5000"), 2: ("io.max", "253:0 rbps=5000")}[version]
    assert group.read("blkio", file) == text
    group.set_device("read_bytes_sec", "/dev/vda", 0)
    assert group.read("blkio", file) == {1: "253:0 0", 2: "253:0 rbps=max"}[version]

    group.set_nodes("0-1")
    assert group.read("cpuset", "cpuset.mems") == "0-1"


def test_times(group: Group, version: int) -> None:
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert group.times == {1: (77, 2 * tick, 3 * tick), 2: (77000, 2000, 3000)}[version]
    if version == 1:
        assert group.times_by_cpu == [70, 7]
    else:
        with pytest.raises(GuesthouseError, match="not supported for backend 'cgroup V2'"):
            _ = group.times_by_cpu


def test_what_is_no_block_device(group: Group, tmp_path: Path) -> None:
    put(tmp_path / "file")
    for path, text in ((tmp_path / "none", "is not accessible"), (tmp_path / "file", "must be a block device")):
        with pytest.raises(GuesthouseError, match=f"Path '{path}' {text}"):
            group.set_device("write_iops_sec", str(path), 1)
