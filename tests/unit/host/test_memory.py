"""Pools of huge pages and the merging of equal ones, on a made-up host."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse.errors import OperationFailed, OperationInvalid, OperationUnsupported
from guesthouse.host.memory import HostMemory


@pytest.fixture
def memory(tmp_path: Path) -> HostMemory:
    for folder in ("sys/kernel/mm", "sys/devices/system/node/node0"):
        pool = tmp_path / folder / "hugepages/hugepages-2048kB"
        pool.mkdir(parents=True)
        (pool / "nr_hugepages").write_text("3\n")
        (pool / "free_hugepages").write_text("2\n")
    ksm = tmp_path / "sys/kernel/mm/ksm"
    ksm.mkdir()
    for name, value in (("pages_to_scan", 100), ("sleep_millisecs", 20), ("full_scans", 7)):
        (ksm / name).write_text(f"{value}\n")
    return HostMemory(tmp_path)


def test_pages(memory: HostMemory, tmp_path: Path) -> None:
    assert memory.free_pages(-1, 4, 4000) == 1000
    assert memory.free_pages(0, 2048, 4000) == 2
    memory.set_pages(0, 2048, 4, add=True)
    assert (tmp_path / "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages").read_text() == "7"
    memory.set_pages(-1, 2048, 1, add=False)
    assert (tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").read_text() == "1"
    for cell, size, kind, text in (
        (-1, 7, OperationFailed, "page size 7 is not available"),
        (0, 7, OperationFailed, "page size 7 is not available on node 0"),
        (5, 2048, OperationFailed, "NUMA node 5 is not available"),
        (0, 4, OperationUnsupported, "system pages pool can't be modified"),
    ):
        with pytest.raises(kind, match=text):
            memory.set_pages(cell, size, 1, add=False)


def test_merging(memory: HostMemory, tmp_path: Path) -> None:
    assert memory.shared() == {"shm_pages_to_scan": 100, "shm_sleep_millisecs": 20, "shm_full_scans": 7}
    memory.set_shared({"shm_pages_to_scan": 200})
    assert memory.shared()["shm_pages_to_scan"] == 200
    with pytest.raises(OperationInvalid, match="shm_merge_across_nodes"):  # and then nothing is set
        memory.set_shared({"shm_pages_to_scan": 1, "shm_merge_across_nodes": 1})
    assert memory.shared()["shm_pages_to_scan"] == 200
