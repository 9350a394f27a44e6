"""What this host is: libvirt's connection and node procedures. Methods are handlers, as in services/domains.py."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import platform
from pathlib import Path

from guesthouse.errors import (
    ConfigUnsupported,
    GuesthouseError,
    InternalError,
    InvalidArg,
    NoSupport,
    RPCError,
    SystemFailure,
    from_wire,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host import cpu, document, kvm, sysinfo
from guesthouse.host.cpu import Hypervisor
from guesthouse.host.cpu_choice import PPC64_MODELS
from guesthouse.host.node import Node, NodeInfo
from guesthouse.host.x86 import MODELS
from guesthouse.model.capabilities import Capabilities
from guesthouse.qemu import offers
from guesthouse.qemu.capabilities import Machine, QemuCapabilities, probe
from guesthouse.qemu.process import User
from guesthouse.services.context import Context

_log = logging.getLogger(__name__)

_LIB_VERSION = 9_000_000
_QEMU_MAX_VCPUS = 16  # libvirt's answer for guests without KVM, whatever the machine type allows
_ALL = -1
_MAX_CELLS = 1024

_X86 = ("x86_64", "i686")
#: libvirt's architectures, and which of them its CPU driver knows.
_ARCHES = frozenset(
    cpu.names("""
    alpha armv6l armv7l armv7b aarch64 cris i686 ia64 lm32 m68k microblaze microblazeel mips mipsel mips64 mips64el
    openrisc parisc parisc64 ppc ppc64 ppc64le ppcemb riscv32 riscv64 s390 s390x sh4 sh4eb sparc sparc64 unicore32
    x86_64 xtensa xtensaeb
    """)
)
_CPU_MODELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_X86, tuple(MODELS)),
    **dict.fromkeys(("ppc64", "ppc64le"), tuple(PPC64_MODELS)),
    **dict.fromkeys(("armv6l", "armv7b", "armv7l", "aarch64", "s390", "s390x"), ()),
}
_VIRT_TYPES = frozenset(
    cpu.names("""
    none qemu kqemu kvm xen lxc uml openvz test vmware hyperv vbox phyp parallels bhyve vz hvf
    """)
)


class Host:
    """Answers for the host; ``caps`` is what its QEMU can do, ``user`` whom guests run as.

    The long documents are made when somebody first asks, and again when what they were made from has changed.
    """

    def __init__(
        self, ctx: Context, caps: QemuCapabilities, user: User | None = None, *, node: Node | None = None
    ) -> None:
        self._ctx = ctx
        self._caps = caps
        self._node = node or Node()
        self._label = None
        if ctx.mode == "system" and user is not None and not user.same:
            self._label = f"+{user.uid}:+{user.gid}"
        self._lock = asyncio.Lock()
        self._emulators: dict[tuple[str, str], tuple[int, QemuCapabilities]] = {}
        self._cpus: dict[tuple[str, str], tuple[QemuCapabilities, Hypervisor]] = {}
        self._uuid = ""
        self._capabilities: tuple[object, str] = (None, "")
        self._domain_capabilities: dict[tuple[str, str, str, str], str] = {}

    # -- names and versions

    def get_type(self) -> str:
        return "QEMU"

    def get_version(self) -> int:
        if not self._caps.version:
            raise InternalError(f"Cannot find suitable emulator for {platform.machine()}")
        return self._caps.version

    def get_lib_version(self) -> int:
        return _LIB_VERSION

    def get_hostname(self) -> str:
        return os.uname().nodename

    def get_max_vcpus(self, type: str | None) -> int:
        match (type or "qemu").lower():
            case "qemu":
                return _QEMU_MAX_VCPUS
            case "kvm":
                return kvm.max_vcpus()
        raise InvalidArg(f"unknown type '{type}'")

    def get_cpu_model_names(self, arch: str, flags: int) -> tuple[str, ...]:
        """None at all means that every name is taken."""
        _check_flags(flags, "qemuConnectGetCPUModelNames", ErrorDomain.QEMU)
        if arch not in _ARCHES:
            raise InvalidArg(f"cannot find architecture {arch}")
        if arch not in _CPU_MODELS:
            raise NoSupport(f"'{arch}' architecture is not supported by CPU driver", domain=ErrorDomain.CPU)
        return _CPU_MODELS[arch]

    async def get_sysinfo(self, flags: int) -> str:
        _check_flags(flags, "qemuConnectGetSysinfo", ErrorDomain.QEMU)
        if self._ctx.mode != "system":
            raise ConfigUnsupported("Host SMBIOS information is not available")
        return (await asyncio.to_thread(sysinfo.read)).to_xml()

    def node_get_security_model(self) -> tuple[str, str]:
        return document.SECURITY_MODEL

    # -- capabilities

    async def get_capabilities(self) -> str:
        async with self._lock:
            usable = await self._kvm_usable()
            emulators = []
            for arch, binary in self._binaries().items():
                try:
                    emulators.append((arch, await self._emulator(binary)))
                except GuesthouseError as error:  # the other architectures are no worse for it
                    _log.warning("no %s guests: %s", arch, error)
            basis = (usable, self._node.fingerprint(), emulators)
            if self._capabilities[0] != basis:
                text = await asyncio.to_thread(self._describe, usable, emulators)
                self._capabilities = (basis, text)
            return self._capabilities[1]

    def _describe(self, usable: bool, emulators: list[tuple[str, QemuCapabilities]]) -> str:
        self._uuid = self._uuid or self._node.uuid(self._ctx.paths.state / "host-uuid")
        processor = self._node.cpu()
        tsc = kvm.tsc() if "invtsc" in processor.features else None  # else it may tick at any rate
        host = document.describe(self._node, processor, uuid=self._uuid, label=self._label, tsc=tsc)
        guests = [offers.guest(caps, arch, kvm=usable and arch in _X86) for arch, caps in emulators]
        return Capabilities(host=host, guests=guests).to_xml()

    async def get_domain_capabilities(
        self, emulatorbin: str | None, arch: str | None, machine: str | None, virttype: str | None, flags: int
    ) -> str:
        _check_flags(flags, "qemuConnectGetDomainCapabilities", ErrorDomain.QEMU)
        async with self._lock:
            caps, target, chosen, kind = await self._hypervisor(emulatorbin, arch, machine, virttype)
            key = (caps.binary, target, chosen.name, kind)
            if key not in self._domain_capabilities:
                most = kvm.max_vcpus() if kind == "kvm" else chosen.max_cpus
                described = offers.domain(caps, self._processors(caps, kind), target, chosen, kind, vcpus=most)
                self._domain_capabilities[key] = described.to_xml()
            return self._domain_capabilities[key]

    async def hypervisor(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> tuple[QemuCapabilities, Hypervisor, str]:
        """What the emulator that serves such guests can do, what their processors can be, and with which accelerator.
        Raises libvirt's errors where there is none."""
        async with self._lock:
            caps, _, _, kind = await self._hypervisor(emulator, arch, machine, virttype)
            return caps, self._processors(caps, kind), kind

    async def processors(self, emulator: str, kind: str) -> Hypervisor:
        """What the processors of guests of ``kind`` ("qemu" or "kvm") that ``emulator`` runs can be. Raises probe's
        errors."""
        async with self._lock:
            return self._processors(await self._emulator(emulator, "kvm" if kind == "kvm" else "tcg"), kind)

    def _processors(self, caps: QemuCapabilities, kind: str) -> Hypervisor:
        known = self._cpus.get((caps.binary, kind))
        if known is None or known[0] is not caps:
            known = self._cpus[caps.binary, kind] = caps, caps.hypervisor(self._node.cpu() if kind == "kvm" else None)
        return known[1]

    async def _hypervisor(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> tuple[QemuCapabilities, str, Machine, str]:
        if virttype is not None and virttype not in _VIRT_TYPES:
            raise InvalidArg(f"unknown virttype: {virttype}")
        if arch is not None and arch not in _ARCHES:
            raise InvalidArg(f"unknown architecture: {arch}")
        binary, target = await self._target(emulator, arch)
        usable = await self._kvm_usable()
        kind = virttype if virttype not in (None, "none") else "kvm" if usable else "qemu"
        if kind != "qemu" and not (kind == "kvm" and usable):
            accel = kind if kind in ("kvm", "hvf") else "tcg"
            raise InvalidArg(f"the accel '{accel}' is not supported by '{binary}' on this host")
        caps = await self._emulator(binary, "kvm" if kind == "kvm" else "tcg")
        return caps, target, _machine(caps, machine), kind

    async def _target(self, binary: str | None, arch: str | None) -> tuple[str, str]:
        """Which emulator serves, and for which architecture. Raises libvirt's errors where they do not fit."""
        wanted = arch or platform.machine()
        if binary is None:
            try:
                return self._binaries()[wanted], wanted
            except KeyError:
                raise ConfigUnsupported(f"unable to find any emulator to serve '{wanted}' architecture") from None
        _check_binary(binary)
        native = (await self._emulator(binary)).arch
        if native != wanted and not (native in _X86 and wanted in _X86):
            raise InvalidArg(f"architecture from emulator '{native}' doesn't match given architecture '{wanted}'")
        if native == "i686" and wanted == "x86_64":
            raise InvalidArg(f"Emulator '{binary}' does not support arch '{wanted}'")
        return binary, wanted

    def _binaries(self) -> dict[str, str]:
        """The emulator of each architecture that guests can have, in libvirt's order."""
        return dict(sorted(self._caps.defaults().emulators.items())) if self._caps.version else {}

    async def _kvm_usable(self) -> bool:
        return (await asyncio.to_thread(kvm.usable, self._ctx.paths.run)).usable

    async def _emulator(self, binary: str, accel: str = "tcg") -> QemuCapabilities:
        """What ``binary`` can do; the same object as long as it does not change. Raises probe's errors."""
        try:
            changed = Path(binary).stat().st_mtime_ns
        except OSError:
            changed = 0
        known = self._emulators.get((binary, accel))
        if known is None or known[0] != changed:
            self._domain_capabilities.clear()  # some of them may have been made from what is dropped here
            known = (changed, await probe(binary, self._ctx.paths.cache, accel))
            self._emulators[binary, accel] = known
        return known[1]

    # -- the node

    def node_get_info(self) -> NodeInfo:
        return self._node.info()

    def node_get_cpu_map(self, need_map: int, need_online: int, flags: int) -> tuple[bytes, int, int]:
        _check_flags(flags, "virHostCPUGetMap")
        present, online = self._node.present(), self._node.online()
        count = max(present) + 1
        bits = sum(1 << cpu for cpu in online)
        return (
            bits.to_bytes((count + 7) // 8, "little") if need_map else b"",
            len(online) if need_online else 0,
            count,
        )

    def node_get_cpu_stats(self, cpuNum: int, nparams: int, flags: int) -> tuple[list[tuple[str, int]], int]:
        if cpuNum < _ALL:
            raise _bad("cpuNum in virNodeGetCPUStats only accepts -1 as a negative value", ErrorDomain.DOMAIN)
        _check_flags(flags, "virHostCPUGetStats")
        times = self._node.cpu_times(None if cpuNum == _ALL else cpuNum)
        expected = 4
        if nparams == 0:
            return [], expected
        if nparams != expected:
            raise _bad(f"nparams in virHostCPUGetStatsLinux must be equal to {expected}")
        if times is None:
            raise _bad("Invalid cpuNum in virHostCPUGetStatsLinux")
        return list(times.items()), 0

    def node_get_memory_stats(self, nparams: int, cellNum: int, flags: int) -> tuple[list[tuple[str, int]], int]:
        if cellNum < _ALL:
            raise _bad("cellNum in virNodeGetMemoryStats only accepts -1 as a negative value", ErrorDomain.DOMAIN)
        _check_flags(flags, "virHostMemGetStats")
        last = self._node.cell_numbers()[-1]
        if cellNum > last:
            raise _bad(f"cellNum in virHostMemGetStats must be less than or equal to {last}")
        stats = self._node.memory_stats(None if cellNum == _ALL else cellNum)
        if nparams == 0:
            return [], len(stats)
        if nparams != len(stats):
            raise _bad(f"nparams in virHostMemGetStatsLinux must be {len(stats)}")
        return list(stats.items()), 0

    def node_get_free_memory(self) -> int:
        return self._node.free_memory()

    def node_get_cells_free_memory(self, startCell: int, maxcells: int) -> list[int]:
        if maxcells > _MAX_CELLS:
            raise RPCError("maxcells > REMOTE_NODE_MAX_CELLS")
        if startCell < 0:
            raise _bad("startCell in virNodeGetCellsFreeMemory must be zero or greater", ErrorDomain.DOMAIN)
        if maxcells <= 0:
            raise _bad("maxCells in virNodeGetCellsFreeMemory must be greater than zero", ErrorDomain.DOMAIN)
        numbers = self._node.cell_numbers()
        if startCell > numbers[-1]:
            raise InternalError(f"start cell {startCell} out of range (0-{numbers[-1]})", domain=ErrorDomain.NONE)
        wanted = range(startCell, startCell + maxcells)
        return [self._node.memory_stats(number)["free"] * 1024 for number in numbers if number in wanted]


def _machine(caps: QemuCapabilities, name: str | None) -> Machine:
    machine = caps.default_machine if name is None else caps.find_machine(name)
    if machine is None:
        raise InvalidArg(f"the machine '{name}' is not supported by emulator '{caps.binary}'")
    return machine


def _check_binary(path: str) -> None:
    """Raises SystemFailure where there is no program."""
    try:
        os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise SystemFailure.from_os(error, f"Cannot check QEMU binary {path}", domain=ErrorDomain.QEMU) from None
    if not Path(path).is_file() or not os.access(path, os.X_OK):
        raise SystemFailure(
            f"QEMU binary {path} is not executable: {os.strerror(errno.EACCES)}",
            domain=ErrorDomain.QEMU,
            int1=errno.EACCES,
        )


def _bad(text: str, domain: ErrorDomain = ErrorDomain.NONE) -> GuesthouseError:
    """An invalid argument as libvirt's functions report it: without the prefix that its drivers' texts have."""
    return from_wire(InvalidArg.code, domain, text, int1=0, int2=0)


def _check_flags(flags: int, function: str, domain: ErrorDomain = ErrorDomain.NONE) -> None:
    if flags:
        raise _bad(f"unsupported flags (0x{flags:x}) in function {function}", domain)
