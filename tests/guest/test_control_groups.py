"""A guest's control group: read from the kernel's own files, past the daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import cgroups, namespaces
from support.guesthoused import Guesthoused

pytestmark = pytest.mark.skipif(
    not any(os.access(tree / "cgroup.procs", os.W_OK) for tree in cgroups.trees()), reason="no control groups here"
)
DOMAIN = """\
<domain type='qemu'>
  <name>held</name>
  <memory unit='MiB'>64</memory>
  <blkiotune><device><path>{device}</path><read_bytes_sec>4096000</read_bytes_sec></device></blkiotune>
  <memtune><hard_limit unit='MiB'>900</hard_limit></memtune>
  <vcpu current='1'>2</vcpu>
  <iothreads>1</iothreads>
  <cputune>
    <shares>512</shares>
    <period>50000</period>
    <quota>40000</quota>
    <global_quota>150000</global_quota>
    <iothread_quota>30000</iothread_quota>
    <vcpusched vcpus='0-1' scheduler='batch'/>
  </cputune>
  <numatune><memory mode='restrictive' nodeset='0'/></numatune>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices/>
</domain>
"""


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("groups")) / "root", start=False)
    try:
        yield guesthoused
    finally:
        guesthoused.close()


def ok(daemon: Guesthoused, *args: str) -> str:
    done = daemon.run(*args)
    assert done.returncode == 0, (args, done.stdout, done.stderr, daemon.output()[-2000:])
    return done.stdout.strip()


def file(daemon: Guesthoused, old: str, new: str, child: str = "") -> str:
    """The text of the guest's file, in the version in which this host has it; a space stands for each end of line."""
    for group in cgroups.of(daemon.root):
        for name in (old, new):
            path = group / child / name
            if path.exists():
                return " ".join(path.read_text().split())
    return ""


def threads(daemon: Guesthoused, child: str = "") -> set[int]:
    """Threads that are in the group, or a child, where its processor time is held."""
    for group in cgroups.of(daemon.root):
        if (group / "cpu.shares").exists() or (group / "cpu.weight").exists():
            listed = group / child / ("tasks" if (group / child / "tasks").exists() else "cgroup.threads")
            return {int(word) for word in listed.read_text().split()} if listed.exists() else set()
    return set()


def test_a_guest_is_held_from_its_start_to_its_end(daemon: Guesthoused) -> None:
    blocks = [Path("/dev") / path.name for path in Path("/sys/block").iterdir()]
    device = next(path for path in blocks if path.is_block_device())
    definition = daemon.root / "held.xml"
    definition.write_text(DOMAIN.format(device=device))
    daemon.start()
    ok(daemon, "define", str(definition))
    ok(daemon, "start", "held")
    (pid,) = daemon.qemu_pids()
    groups = cgroups.of(daemon.root)
    assert groups
    # every thread of QEMU is in it
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "cgroup").read_text()
        for group in groups:
            assert f"/{group.name}" in lines, lines

    assert file(daemon, "cpu.shares", "cpu.weight") == "512"
    assert file(daemon, "cpu.cfs_quota_us", "cpu.max").startswith("150000")
    assert file(daemon, "cpu.cfs_quota_us", "cpu.max", "vcpu0").startswith("40000")
    assert file(daemon, "cpu.cfs_period_us", "cpu.max", "vcpu0").endswith("50000")
    assert file(daemon, "cpu.cfs_quota_us", "cpu.max", "iothread1").startswith("30000")
    assert len(threads(daemon, "vcpu0")) == len(threads(daemon, "iothread1")) == 1
    assert [os.sched_getscheduler(thread) for thread in threads(daemon, "vcpu0")] == [os.SCHED_BATCH]
    assert not threads(daemon, "emulator") and pid in threads(daemon)
    assert file(daemon, "memory.limit_in_bytes", "memory.max") == str(900 << 20)
    assert int(file(daemon, "memory.usage_in_bytes", "memory.current")) > 1 << 20
    assert file(daemon, "cpuset.mems", "cpuset.mems") == "0"
    limited = file(daemon, "blkio.throttle.read_bps_device", "io.max")
    assert "4096000" in limited, limited

    # changed while it runs, and a processor that comes later is held, too
    told = ok(daemon, "schedinfo", "held", "--live", "--set", "vcpu_quota=60000", "emulator_quota=70000")
    assert "vcpu_quota     : 60000" in told and "emulator_quota : 70000" in told
    assert pid in threads(daemon, "emulator") and pid not in threads(daemon)
    ok(daemon, "memtune", "held", "--hard-limit", "800M", "--live")
    ok(daemon, "setvcpus", "held", "2", "--live")
    assert len(threads(daemon, "vcpu1")) == 1
    assert file(daemon, "cpu.cfs_quota_us", "cpu.max", "vcpu1").startswith("60000")
    refused = daemon.run("schedinfo", "held", "--live", "--set", "vcpu_quota=10")
    assert "value of 'vcpu_quota' is out of range [1000, 17592186044415]" in refused.stderr
    assert "<quota>60000</quota>" in ok(daemon, "dumpxml", "held")
    assert "<quota>40000</quota>" in ok(daemon, "dumpxml", "held", "--inactive")
    assert "cpu_time" in ok(daemon, "cpu-stats", "held", "--total")

    # a successor knows it again, and takes it away with the guest, be it alive or not
    daemon.kill(signal.SIGKILL)
    daemon.start()
    assert cgroups.of(daemon.root) == groups
    assert "hard_limit     : 819200" in ok(daemon, "memtune", "held")
    ok(daemon, "destroy", "held")
    assert cgroups.of(daemon.root) == []
    ok(daemon, "start", "held", "--paused")
    assert cgroups.of(daemon.root)
    daemon.kill(signal.SIGKILL)
    os.kill(daemon.qemu_pids()[0], signal.SIGKILL)
    daemon.start()
    assert ok(daemon, "domstate", "held") == "shut off" and cgroups.of(daemon.root) == []

    # what the kernel refuses leaves nothing
    definition.write_text(DOMAIN.format(device="/dev/null"))
    ok(daemon, "undefine", "held")
    ok(daemon, "define", str(definition))
    refused = daemon.run("start", "held")
    assert "Path '/dev/null' must be a block device" in refused.stderr
    assert cgroups.of(daemon.root) == [] and daemon.qemu_pids() == []
