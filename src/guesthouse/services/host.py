"""What this host is: libvirt's connection and node procedures. Methods are handlers, as in services/domains.py."""

from __future__ import annotations

import os

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import GuesthouseError, InternalError, InvalidArg, RPCError, from_wire
from guesthouse.host import kvm
from guesthouse.host.node import Node, NodeInfo
from guesthouse.qemu.capabilities import QemuCapabilities
from guesthouse.services.context import Context

_LIB_VERSION = 9_000_000
_QEMU_MAX_VCPUS = 16  # libvirt's answer for guests without KVM, whatever the machine type allows
_ALL = -1
_MAX_CELLS = 1024


class Host:
    """Answers for the host; ``caps`` is what its QEMU can do."""

    def __init__(self, ctx: Context, caps: QemuCapabilities) -> None:
        self._ctx = ctx
        self._caps = caps
        self._node = Node()

    # -- names and versions

    def get_type(self) -> str:
        return "QEMU"

    def get_version(self) -> int:
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


def _bad(text: str, domain: ErrorDomain = ErrorDomain.NONE) -> GuesthouseError:
    """An invalid argument as libvirt's functions report it: without the prefix that its drivers' texts have."""
    return from_wire(InvalidArg.code, domain, text)


def _check_flags(flags: int, function: str, domain: ErrorDomain = ErrorDomain.NONE) -> None:
    if flags:
        raise _bad(f"unsupported flags (0x{flags:x}) in function {function}", domain)
