"""The node: machines of all shapes, shown as files."""

from __future__ import annotations

import mmap
import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from guesthouse.host.node import Bank, Node, format_list, parse_list

PAGE = mmap.PAGESIZE // 1024
STAT = "cpu  10 20 30 40 50 6 7 0\ncpu0 1 2 3 4 5 6 7 0\nintr 1\n"


def machine(root: Path, files: Mapping[str, str]) -> Node:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Node(root)


def processor(number: int, socket: int, core: int, siblings: str, die: int = 0) -> dict[str, str]:
    base = f"sys/devices/system/cpu/cpu{number}/topology"
    return {
        f"{base}/physical_package_id": str(socket),
        f"{base}/die_id": str(die),
        f"{base}/core_id": str(core),
        f"{base}/thread_siblings_list": siblings,
    }


def cell(number: int, cpus: str, memory: int, free: int, distance: str) -> dict[str, str]:
    base = f"sys/devices/system/node/node{number}"
    return {
        f"{base}/cpulist": cpus,
        f"{base}/distance": distance,
        f"{base}/meminfo": f"Node {number} MemTotal:  {memory} kB\nNode {number} MemFree:   {free} kB",
        f"{base}/hugepages/hugepages-2048kB/nr_hugepages": "3" if number else "0",
    }


@pytest.fixture
def server(tmp_path: Path) -> Node:
    """Two cells, each with a socket of two cores of two threads."""
    files = {
        "sys/devices/system/cpu/present": "0-7",
        "sys/devices/system/cpu/online": "0-7",
        "sys/devices/system/node/online": "0-1",
        "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "3",
        "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2399.871",
        "proc/stat": STAT,
        **cell(0, "0-1,4-5", 100_000, 1000, "10 21"),
        **cell(1, "2-3,6-7", 200_000, 2000, "21 10"),
    }
    for number in range(8):
        first = number % 4
        files |= processor(number, first // 2, first % 2, f"{first},{first + 4}")
    return machine(tmp_path, files)


def test_sockets_cores_and_threads(server: Node) -> None:
    info = server.info()
    assert info == (platform.machine(), 300_000, 8, 2399, 2, 1, 2, 2)


def test_cells_with_their_pages_and_distances(server: Node) -> None:
    first, second = server.cells()
    assert [c.id for c in first.cpus] == [0, 1, 4, 5]
    assert second.cpus[0].siblings == (2, 6)
    assert second.distances == {0: 21, 1: 10}
    assert second.pages == {PAGE: (200_000 - 3 * 2048) // PAGE, 2048: 3, 1048576: 0}
    assert server.free_memory() == 3000 * 1024
    assert server.memory_stats(1) == {"total": 200_000, "free": 2000}


def test_an_offline_processor_is_present_all_the_same(server: Node, tmp_path: Path) -> None:
    machine(tmp_path, {"sys/devices/system/cpu/online": "0-6"})
    assert server.online() == [0, 1, 2, 3, 4, 5, 6]
    assert server.present() == list(range(8))
    assert server.info().cpus == 7
    assert [c.id for c in server.cells()[1].cpus] == [2, 3, 6]


def test_an_uneven_machine_is_one_socket_of_cores(server: Node, tmp_path: Path) -> None:
    machine(tmp_path, cell(0, "0-1,4-5", 100_000, 1000, "10 21") | processor(3, 5, 0, "3"))
    info = server.info()
    assert (info.cpus, info.nodes, info.sockets, info.cores, info.threads) == (8, 1, 1, 8, 1)


def test_a_container_that_shows_nothing(tmp_path: Path) -> None:
    node = machine(tmp_path, {"proc/meminfo": "MemTotal: 4096 kB\nMemFree: 1024 kB\nBuffers: 1 kB\nCached: 2 kB"})
    count = os.cpu_count() or 1
    info = node.info()
    assert (info.memory, info.cpus, info.mhz, info.nodes) == (4096, count, 0, 1)
    assert info.nodes * info.sockets * info.cores * info.threads == count
    (only,) = node.cells()
    assert (only.memory, only.distances, len(only.cpus)) == (4096, {0: 10}, count)
    assert node.memory_stats() == {"total": 4096, "free": 1024, "buffers": 1, "cached": 2}
    assert node.free_memory() == 1024 * 1024
    assert node.banks() == [] and node.sleep_states() == [] and not node.iommu()
    assert node.cpu_times() is None


def test_times_are_nanoseconds(server: Node) -> None:
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert server.cpu_times() == {"kernel": 43 * tick, "user": 30 * tick, "idle": 40 * tick, "iowait": 50 * tick}
    assert server.cpu_times(0) == {"kernel": 16 * tick, "user": 3 * tick, "idle": 4 * tick, "iowait": 5 * tick}
    assert server.cpu_times(1) is None


def test_a_shared_cache_counts_once(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/online": "0-3"}
    for number in range(4):
        base = f"sys/devices/system/cpu/cpu{number}/cache"
        pair = "0-1" if number < 2 else "2-3"
        files |= {
            f"{base}/index0/type": "Data",
            f"{base}/index0/level": "1",
            f"{base}/index0/size": "32K",
            f"{base}/index0/shared_cpu_list": str(number),
            f"{base}/index3/type": "Unified",
            f"{base}/index3/level": "3",
            f"{base}/index3/size": "16384K",
            f"{base}/index3/id": str(number // 2),
            f"{base}/index3/shared_cpu_list": pair,
        }
    node = machine(tmp_path, files)
    assert node.banks() == [Bank(0, 3, "both", 16384, (0, 1)), Bank(1, 3, "both", 16384, (2, 3))]


@pytest.mark.parametrize(
    "state, disk, expected",
    [
        ("freeze mem disk", "[platform] shutdown reboot suspend", ["suspend_mem", "suspend_disk", "suspend_hybrid"]),
        ("freeze mem disk", "[shutdown]", ["suspend_mem", "suspend_disk"]),
        ("freeze", "", []),
    ],
)
def test_sleep(tmp_path: Path, state: str, disk: str, expected: list[str]) -> None:
    node = machine(tmp_path, {"sys/power/state": state, "sys/power/disk": disk})
    assert node.sleep_states() == expected


def test_the_uuid_is_the_firmwares(tmp_path: Path) -> None:
    value = str(uuid.uuid4())
    node = machine(tmp_path, {"sys/devices/virtual/dmi/id/product_uuid": value.upper()})
    assert node.uuid(tmp_path / "keep") == value
    assert not (tmp_path / "keep").exists()


@pytest.mark.parametrize("bad", ["ffffffff-ffff-ffff-ffff-ffffffffffff", "Not Settable", ""])
def test_a_uuid_of_our_own_stays(tmp_path: Path, bad: str) -> None:
    node = machine(tmp_path, {"sys/devices/virtual/dmi/id/product_uuid": bad})
    made = node.uuid(tmp_path / "lib/keep")
    assert uuid.UUID(made).version == 4
    assert node.uuid(tmp_path / "lib/keep") == made


def test_what_changes_changes_the_fingerprint(server: Node, tmp_path: Path) -> None:
    seen = [server.fingerprint()]
    assert server.fingerprint() == seen[0]
    for file, text in (
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4"),
        ("sys/devices/system/cpu/online", "0-5"),
        ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 5 kB"),
    ):
        machine(tmp_path, {file: text})
        assert server.fingerprint() not in seen
        seen.append(server.fingerprint())


@pytest.mark.parametrize("text, numbers", [("0-3,8", (0, 1, 2, 3, 8)), ("5", (5,)), ("", ()), ("0,2,4", (0, 2, 4))])
def test_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert tuple(parse_list(text)) == numbers
    assert format_list(numbers) == text


def test_this_machine() -> None:
    node = Node()
    info = node.info()
    assert info.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert info.memory > 0 and info.nodes * info.sockets * info.cores * info.threads == len(node.present())
