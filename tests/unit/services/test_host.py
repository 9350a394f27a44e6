"""What the host answers: libvirt's numbers, texts and errors, and documents that are made once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, NoSupport
from guesthouse.host import kvm
from guesthouse.host.cpu import CpuModel
from guesthouse.host.kvm import KvmStatus
from guesthouse.host.node import Node
from guesthouse.host.x86 import MODELS
from guesthouse.model.capabilities import Capabilities, DomainCapabilities
from guesthouse.qemu.capabilities import BestCpu, Machine, QemuCapabilities
from guesthouse.qemu.process import User
from guesthouse.services import host as module
from guesthouse.services.context import Config, Context, Paths
from guesthouse.services.events import EventBus
from guesthouse.services.host import Host
from guesthouse.services.store import Store

GUESTS = User(64055, 64055)
PHENOM = sorted(MODELS["phenom"].features)
FLAGS = " ".join(PHENOM)
NODE = {
    "proc/cpuinfo": f"vendor_id: AuthenticAMD\ncpu family: 25\nflags: {FLAGS} sse4a\naddress sizes: 48 bits\n",
    "proc/stat": "cpu  1 0 2 3 4 0 0\ncpu0 1 0 2 3 4 0 0\n",
    "proc/meminfo": "MemTotal: 9000 kB\nMemFree: 700 kB\nBuffers: 1 kB\nCached: 2 kB\n",
    "sys/devices/system/cpu/online": "0-1,3\n",
    "sys/devices/system/cpu/present": "0-8\n",
    "sys/devices/system/node/online": "0\n",
    "sys/devices/system/node/node0/cpulist": "0-8\n",
    "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 8000 kB\nNode 0 MemFree: 500 kB\n",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
}
MACHINES = [
    Machine("pc-q35-7.2", "q35", 288, False, False, ""),
    Machine("pc-i440fx-7.2", "pc", 255, True, False, ""),
    Machine("pc-i440fx-1.4", "", 255, False, True, ""),
]
CPUS = [
    CpuModel("max"),
    CpuModel("host"),
    CpuModel("kvm64"),
    CpuModel("phenom", blockers=["nx"]),
]
BEST = BestCpu("AMD", [25, 1, 1], [*PHENOM, "invtsc", "avx"], [*PHENOM, "invtsc"], ["invtsc"])


class Bench:
    """A host on a machine that does not exist, with emulators that are counted when they are asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.root = folder / "root"
        for name, text in NODE.items():
            self.write(name, text)
        paths = Paths.for_root(folder / "daemon")
        paths.make()
        self.store = Store(paths.state, paths.run)
        self.paths = paths
        self.asked: list[tuple[str, str]] = []
        self.kvm = False
        self.broken: set[str] = set()
        for target in ("x86_64", "i386"):
            program = folder / f"qemu-system-{target}"
            program.touch(0o755)
        monkeypatch.setattr(module, "probe", self._probe)
        monkeypatch.setattr(kvm, "usable", lambda cache: KvmStatus(self.kvm, True, "as told"))
        monkeypatch.setattr(kvm, "max_vcpus", lambda: 64)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def emulator(self, target: str) -> str:
        return str(self.folder / f"qemu-system-{target}")

    def caps(self, target: str = "x86_64") -> QemuCapabilities:
        arch = {"i386": "i686"}.get(target, target)
        return QemuCapabilities(
            self.emulator(target),
            7002022,
            "",
            arch,
            list(MACHINES),
            ["VGA", "virtio-blk-pci"],
            list(CPUS),
            ["vnc"],
            best=BEST,
        )

    async def _probe(self, binary: str, cache: Path, accel: str = "tcg") -> QemuCapabilities:
        self.asked.append((Path(binary).name, accel))
        target = Path(binary).name.removeprefix("qemu-system-")
        if target in self.broken:
            raise InternalError(f"Failed to probe QEMU binary '{binary}'")
        return self.caps(target)

    def host(self, mode: str = "system", user: User | None = GUESTS, caps: QemuCapabilities | None = None) -> Host:
        ctx = Context(self.paths, mode, self.store, EventBus(), Config())
        return Host(ctx, caps or self.caps(), user, node=Node(self.root))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.store.close()


def ask(host: Host, **args: Any) -> str:
    given = {"emulatorbin": None, "arch": None, "machine": None, "virttype": None, "flags": 0} | args
    return asyncio.run(host.get_domain_capabilities(**given))


def capabilities(host: Host) -> Capabilities:
    return Capabilities.from_xml(asyncio.run(host.get_capabilities()))


def test_names_and_versions(bench: Bench) -> None:
    host = bench.host()
    assert (host.get_type(), host.get_version(), host.get_lib_version()) == ("QEMU", 7002022, 9000000)
    assert host.get_hostname() == os.uname().nodename
    nothing = bench.host(caps=QemuCapabilities("/none", 0, "", "x86_64"))
    with pytest.raises(InternalError, match="Cannot find suitable emulator for"):
        nothing.get_version()


def test_max_vcpus(bench: Bench) -> None:
    host = bench.host()
    assert [host.get_max_vcpus(kind) for kind in (None, "qemu", "QEMU", "kvm")] == [16, 16, 16, 64]
    with pytest.raises(GuesthouseError, match=r"^invalid argument: unknown type 'xen'$"):
        host.get_max_vcpus("xen")


def test_cpu_map(bench: Bench) -> None:
    host = bench.host()
    assert host.node_get_cpu_map(1, 1, 0) == (b"\x0b\x00", 3, 9)
    assert host.node_get_cpu_map(0, 0, 0) == (b"", 0, 9)


def test_statistics_are_counted_first_and_told_then(bench: Bench) -> None:
    host = bench.host()
    assert host.node_get_cpu_stats(-1, 0, 0) == ([], 4)
    params, count = host.node_get_cpu_stats(0, 4, 0)
    assert [name for name, _ in params] == ["kernel", "user", "idle", "iowait"] and count == 0
    assert host.node_get_memory_stats(0, -1, 0) == ([], 4)
    assert host.node_get_memory_stats(4, -1, 0)[0] == [("total", 9000), ("free", 700), ("buffers", 1), ("cached", 2)]
    assert host.node_get_memory_stats(2, 0, 0) == ([("total", 8000), ("free", 500)], 0)
    assert host.node_get_free_memory() == 500 * 1024
    assert host.node_get_cells_free_memory(0, 8) == [500 * 1024]


@pytest.mark.parametrize(
    "method, args, domain, text",
    [
        ("node_get_cpu_map", (1, 1, 1), 0, "unsupported flags (0x1) in function virHostCPUGetMap"),
        ("node_get_cpu_stats", (-1, 3, 0), 0, "nparams in virHostCPUGetStatsLinux must be equal to 4"),
        ("node_get_cpu_stats", (5, 4, 0), 0, "Invalid cpuNum in virHostCPUGetStatsLinux"),
        ("node_get_cpu_stats", (-2, 4, 0), 20, "cpuNum in virNodeGetCPUStats only accepts -1 as a negative value"),
        ("node_get_memory_stats", (3, -1, 0), 0, "nparams in virHostMemGetStatsLinux must be 4"),
        ("node_get_memory_stats", (0, 1, 0), 0, "cellNum in virHostMemGetStats must be less than or equal to 0"),
        (
            "node_get_memory_stats",
            (0, -2, 0),
            20,
            "cellNum in virNodeGetMemoryStats only accepts -1 as a negative value",
        ),
        ("node_get_cells_free_memory", (-1, 1), 20, "startCell in virNodeGetCellsFreeMemory must be zero or greater"),
        ("node_get_cells_free_memory", (0, 0), 20, "maxCells in virNodeGetCellsFreeMemory must be greater than zero"),
        ("get_cpu_model_names", ("x86_64", 1), 10, "unsupported flags (0x1) in function qemuConnectGetCPUModelNames"),
    ],
)
def test_wrong_arguments(bench: Bench, method: str, args: tuple[Any, ...], domain: int, text: str) -> None:
    with pytest.raises(GuesthouseError) as caught:
        getattr(bench.host(), method)(*args)
    assert (caught.value.number, caught.value.domain, str(caught.value)) == (8, domain, text)


def test_cpu_model_names(bench: Bench) -> None:
    host = bench.host()
    assert host.get_cpu_model_names("x86_64", 0)[:2] == ("486", "pentium")
    assert host.get_cpu_model_names("i686", 0) == host.get_cpu_model_names("x86_64", 0)
    assert host.get_cpu_model_names("ppc64le", 0)[0] == "POWER6"
    assert host.get_cpu_model_names("aarch64", 0) == ()
    with pytest.raises(GuesthouseError, match=r"^invalid argument: cannot find architecture foo$"):
        host.get_cpu_model_names("foo", 0)
    with pytest.raises(NoSupport, match="'riscv64' architecture is not supported by CPU driver"):
        host.get_cpu_model_names("riscv64", 0)


def test_sysinfo_is_the_systems(bench: Bench) -> None:
    with pytest.raises(ConfigUnsupported, match=r"^unsupported configuration: Host SMBIOS information is not avail"):
        asyncio.run(bench.host("session").get_sysinfo(0))


def test_capabilities(bench: Bench) -> None:
    found = capabilities(bench.host())
    assert found.host is not None and found.host.cpu is not None and found.host.topology is not None
    assert (found.host.cpu.model, found.host.cpu.vendor) == ("phenom", "AMD")
    assert [f.name for f in found.host.cpu.features] == ["sse4a"]
    i686, x86 = (guest.arch for guest in found.guests)
    assert i686 is not None and x86 is not None
    assert (i686.name, i686.wordsize, i686.emulator) == ("i686", 32, bench.emulator("i386"))
    assert (x86.name, x86.wordsize, x86.emulator) == ("x86_64", 64, bench.emulator("x86_64"))
    assert [m.name for m in x86.machines] == ["pc-i440fx-7.2", "pc", "pc-q35-7.2", "q35", "pc-i440fx-1.4"]
    assert x86.machines[-1].deprecated
    assert [d.type for d in x86.domains] == ["qemu"]


def test_kvm_shows_where_it_works(bench: Bench) -> None:
    host = bench.host()
    before = capabilities(host)
    bench.kvm = True
    after = capabilities(host)
    for found, kinds in ((before, ["qemu"]), (after, ["qemu", "kvm"])):
        assert all(guest.arch and [d.type for d in guest.arch.domains] == kinds for guest in found.guests)


def test_without_an_emulator_there_are_no_guests(bench: Bench) -> None:
    found = capabilities(bench.host(caps=QemuCapabilities("/none", 0, "", "x86_64")))
    assert found.host is not None and found.guests == [] and bench.asked == []


def test_an_emulator_that_does_not_answer_hides_no_other(bench: Bench) -> None:
    bench.broken.add("i386")
    host = bench.host()
    assert [guest.arch.name for guest in capabilities(host).guests if guest.arch] == ["x86_64"]
    with pytest.raises(InternalError, match="Failed to probe QEMU binary"):
        ask(host, arch="i686")
    bench.broken.clear()
    assert [guest.arch.name for guest in capabilities(host).guests if guest.arch] == ["i686", "x86_64"]


def test_one_emulator_serves_both_where_there_is_no_other(bench: Bench) -> None:
    Path(bench.emulator("i386")).unlink()
    found = capabilities(bench.host())
    assert {guest.arch.emulator for guest in found.guests if guest.arch} == {bench.emulator("x86_64")}


def test_documents_are_made_once(bench: Bench) -> None:
    host = bench.host()
    first = asyncio.run(host.get_capabilities())
    assert asyncio.run(host.get_capabilities()) is first
    assert ask(host) is ask(host)
    assert sorted(bench.asked) == [("qemu-system-i386", "tcg"), ("qemu-system-x86_64", "tcg")]


def test_documents_follow_what_they_were_made_from(bench: Bench) -> None:
    host = bench.host()
    first = asyncio.run(host.get_capabilities())
    bench.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2\n")
    second = asyncio.run(host.get_capabilities())
    assert "<pages unit='KiB' size='2048'>0</pages>" in first
    assert "<pages unit='KiB' size='2048'>2</pages>" in second
    offered = ask(host)
    os.utime(bench.emulator("x86_64"), (1, 1))
    assert ask(host) is not offered
    assert bench.asked.count(("qemu-system-x86_64", "tcg")) == 2


def test_guests_users_show_in_system_mode(bench: Bench) -> None:
    for host, models in (
        (bench.host(), {"none": [], "dac": ["+64055:+64055", "+64055:+64055"]}),
        (bench.host("session", User()), {"none": []}),
        (bench.host("system", None), {"none": []}),
    ):
        found = capabilities(host)
        assert found.host is not None
        assert {s.model: [b.label for b in s.baselabels] for s in found.host.security} == models
        assert host.node_get_security_model() == ("none", "0")


def test_the_hosts_uuid_outlives_the_daemon(bench: Bench) -> None:
    first, second = (capabilities(bench.host()).host for _ in range(2))
    assert first is not None and second is not None
    assert first.uuid == second.uuid == (bench.paths.state / "host-uuid").read_text().strip()


@pytest.mark.parametrize(
    "args, number, text",
    [
        ({"virttype": "foo"}, 8, "invalid argument: unknown virttype: foo"),
        ({"virttype": "kvm"}, 8, "invalid argument: the accel 'kvm' is not supported by 'X' on this host"),
        ({"virttype": "hvf"}, 8, "invalid argument: the accel 'hvf' is not supported by 'X' on this host"),
        ({"virttype": "xen"}, 8, "invalid argument: the accel 'tcg' is not supported by 'X' on this host"),
        ({"arch": "foo"}, 8, "invalid argument: unknown architecture: foo"),
        (
            {"arch": "aarch64"},
            67,
            "unsupported configuration: unable to find any emulator to serve 'aarch64' architecture",
        ),
        ({"machine": "foo"}, 8, "invalid argument: the machine 'foo' is not supported by emulator 'X'"),
        ({"machine": ""}, 8, "invalid argument: the machine '' is not supported by emulator 'X'"),
        ({"emulatorbin": "/nonexist"}, 38, "Cannot check QEMU binary /nonexist: No such file or directory"),
        ({"emulatorbin": "/etc/passwd"}, 38, "QEMU binary /etc/passwd is not executable: Permission denied"),
        (
            {"emulatorbin": "X", "arch": "aarch64"},
            8,
            "invalid argument: architecture from emulator 'x86_64' doesn't match given architecture 'aarch64'",
        ),
        ({"emulatorbin": "I", "arch": "x86_64"}, 8, "invalid argument: Emulator 'I' does not support arch 'x86_64'"),
        ({"flags": 1}, 8, "unsupported flags (0x1) in function qemuConnectGetDomainCapabilities"),
    ],
)
def test_domain_capabilities_that_cannot_be(bench: Bench, args: dict[str, Any], number: int, text: str) -> None:
    names = {"X": bench.emulator("x86_64"), "I": bench.emulator("i386")}
    if "emulatorbin" in args:
        args = {**args, "emulatorbin": names.get(args["emulatorbin"], args["emulatorbin"])}
    for short, path in names.items():
        text = text.replace(f"'{short}'", f"'{path}'")
    with pytest.raises(GuesthouseError) as caught:
        ask(bench.host(), **args)
    assert (caught.value.number, str(caught.value)) == (number, text)


def test_domain_capabilities(bench: Bench) -> None:
    found = DomainCapabilities.from_xml(ask(bench.host()))
    assert (found.domain, found.machine, found.arch) == ("qemu", "pc-i440fx-7.2", "x86_64")
    assert found.cpu is not None and found.vcpu is not None and found.vcpu.max == 255
    assert [mode.supported for mode in found.cpu.modes] == [False, True, True, True]
    host_model = found.cpu.mode("host-model")
    assert host_model is not None and (host_model.models[0].name, host_model.vendor) == ("phenom", "AMD")
    assert [(f.policy, f.name) for f in host_model.features] == [("require", "invtsc"), ("disable", "nx")]
    custom = found.cpu.mode("custom")
    assert custom is not None
    assert [(m.name, m.usable, m.vendor) for m in custom.models] == [
        ("kvm64", "yes", "unknown"),
        ("phenom", "no", "AMD"),
    ]
    i686 = DomainCapabilities.from_xml(ask(bench.host(), arch="i686", machine="q35", virttype="none"))
    assert (i686.path, i686.arch, i686.machine) == (bench.emulator("i386"), "i686", "pc-q35-7.2")


def test_domain_capabilities_with_kvm(bench: Bench) -> None:
    bench.kvm = True
    host = bench.host()
    found = DomainCapabilities.from_xml(ask(host))
    assert found.domain == "kvm" and found.vcpu is not None and found.vcpu.max == 64
    assert found.cpu is not None
    assert [mode.supported for mode in found.cpu.modes] == [True, True, True, True]
    host_model = found.cpu.mode("host-model")
    assert host_model is not None and host_model.maxphysaddr is None and host_model.features
    mine = asyncio.run(host.processors(bench.emulator("x86_64"), "kvm"))
    assert mine.full is not None and "sse4a" in mine.full.whole()  # which the host has, and QEMU does not give
    assert ("qemu-system-x86_64", "kvm") in bench.asked
    assert DomainCapabilities.from_xml(ask(host, virttype="qemu")).domain == "qemu"


def test_many_clients_at_once_ask_qemu_once(bench: Bench) -> None:
    host = bench.host()

    async def crowd() -> list[str]:
        return await asyncio.gather(*(host.get_capabilities() for _ in range(20)))

    assert len({id(text) for text in asyncio.run(crowd())}) == 1
    assert len(bench.asked) == 2
