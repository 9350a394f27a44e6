"""What can be set of this host, and which processors fit it: libvirt's node procedures beside those of
:mod:`guesthouse.services.host`."""

from __future__ import annotations

from typing import Any

from guesthouse.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArg,
    OperationUnsupported,
    check_flags,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host import cpu_choice
from guesthouse.host.cpu import describe_host
from guesthouse.host.memory import SETTABLE, SHARED, HostMemory
from guesthouse.host.node import Node
from guesthouse.services.domain_stats import Params
from guesthouse.services.host import Host
from guesthouse.services.typed import checked

_EXPAND, _MIGRATABLE = 1, 2
_FAIL, _VALIDATE = 1, 2
_ADD = 1
_SLEEPS = {0: "Suspend-to-RAM", 1: "Suspend-to-Disk", 2: "Hybrid-Suspend"}


class HostTuning:
    def __init__(self, host: Host, *, node: Node | None = None, memory: HostMemory | None = None) -> None:
        self._host = host
        self._node = node or Node()
        self._memory = memory or HostMemory()

    # -- processors

    def compare_cpu(self, xml: str, flags: int) -> int:
        """The host's processor beside the one of the document: a virCPUCompareResult."""
        check_flags(flags, _FAIL | _VALIDATE, "qemuConnectCompareCPU")
        other = cpu_choice.parse(xml)
        return int(cpu_choice.compare(describe_host(self._node.cpu()), other, fail=bool(flags & _FAIL)))

    def baseline_cpu(self, xmlCPUs: list[str], flags: int) -> str:
        """The processor that all these hosts have."""
        check_flags(flags, _EXPAND | _MIGRATABLE, "qemuConnectBaselineCPU")
        cpus = [cpu_choice.parse(text, host=True) for text in xmlCPUs]
        return cpu_choice.baseline(cpus, expand=bool(flags & _EXPAND), migratable=bool(flags & _MIGRATABLE))

    async def compare_hypervisor_cpu(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None, xmlCPU: str, flags: int
    ) -> int:
        """The best processor that a hypervisor gives beside the one of the document."""
        check_flags(flags, _FAIL | _VALIDATE, "qemuConnectCompareHypervisorCPU")
        caps, cpus, kind = await self._host.hypervisor(emulator, arch, machine, virttype)
        if cpus.reported is None:
            text = f"QEMU '{caps.binary}' does not support reporting CPU model for virttype '{kind}'"
            raise OperationUnsupported(text)
        return int(cpu_choice.compare(cpus.reported, cpu_choice.parse(xmlCPU), fail=bool(flags & _FAIL)))

    async def baseline_hypervisor_cpu(
        self,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        xmlCPUs: list[str],
        flags: int,
    ) -> str:
        """The processor that a hypervisor gives on all hosts with these."""
        check_flags(flags, _EXPAND | _MIGRATABLE, "qemuConnectBaselineHypervisorCPU")
        cpus = [cpu_choice.parse(text) for text in xmlCPUs]
        caps, given, _ = await self._host.hypervisor(emulator, arch, machine, virttype)
        best = caps.best
        if best is None:
            text = f"computing baseline hypervisor CPU is not supported for arch {caps.arch}"
            raise OperationUnsupported(text)
        known = set(best.known)
        if flags & _MIGRATABLE:
            known -= set(best.stays)
        return cpu_choice.baseline(cpus, arch=caps.arch, models=given.models, given=known, expand=bool(flags & _EXPAND))

    # -- memory

    def get_free_pages(self, pages: list[int], startCell: int, cellCount: int, flags: int) -> list[int]:
        """How many pages of each size (KiB) are free, cell by cell; cell -1 is the whole host."""
        check_flags(flags, 0, "qemuNodeGetFreePages")
        if not pages or not cellCount:
            raise InvalidArg(f"{'npages' if not pages else 'cellCount'} in virNodeGetFreePages must not be zero")
        counts = []
        for cell in self._range(startCell, cellCount):
            free = self._node.memory_stats(None if cell == -1 else cell)["free"]
            counts += [self._memory.free_pages(cell, size, free) for size in pages]
        if not counts:
            raise InternalError("no suitable info found", domain=ErrorDomain.NONE)
        return counts

    def alloc_pages(
        self, pageSizes: list[int], pageCounts: list[int], startCell: int, cellCount: int, flags: int
    ) -> int:
        """Set how many huge pages there are, or with the flag how many more; returns how many pools were set."""
        check_flags(flags, _ADD, "qemuNodeAllocPages")
        if len(pageSizes) != len(pageCounts):
            raise InvalidArg("as many counts as sizes of pages are needed")
        done = 0
        for cell in self._range(startCell, cellCount):
            for size, count in zip(pageSizes, pageCounts, strict=True):
                self._memory.set_pages(cell, size, count, add=bool(flags & _ADD))
                done += 1
        return done

    def _range(self, start: int, count: int) -> range:
        last = self._node.cell_numbers()[-1]
        if start > last:
            raise InternalError(f"start cell {start} out of range (0-{last})", domain=ErrorDomain.NONE)
        return range(start, min(last, start + count - 1) + 1)

    def get_memory_parameters(self, flags: int) -> Params:
        """How the kernel merges equal pages of guests."""
        check_flags(flags, 4, "virHostMemGetParameters", ErrorDomain.NONE)
        return {name: (SHARED[name], value) for name, value in self._memory.shared().items()}

    def set_memory_parameters(self, params: Any, flags: int) -> None:
        check_flags(flags, 0, "virHostMemSetParameters", ErrorDomain.NONE)
        self._memory.set_shared(checked(params, {name: SHARED[name] for name in SETTABLE}))

    # -- what few hosts have

    def suspend_for_duration(self, target: int, duration: int, flags: int) -> None:
        """Raises ArgumentUnsupported: what puts a host to sleep and wakes it (pm-utils) is not there."""
        check_flags(flags, 0, "virNodeSuspend", ErrorDomain.NONE)
        if target not in _SLEEPS:
            raise InvalidArg("Invalid suspend target", domain=ErrorDomain.NONE)
        raise ArgumentUnsupported(_SLEEPS[target], domain=ErrorDomain.NONE)

    def get_sev_info(self, flags: int) -> Params:
        """Raises OperationUnsupported: no guest's memory is encrypted here."""
        check_flags(flags, 4, "qemuNodeGetSEVInfo")
        raise OperationUnsupported("QEMU does not support SEV guest")

    def is_secure(self) -> int:
        """The daemon's own end is; of the way there the client knows."""
        return 1
