"""The host's memory as administrators set it: pools of huge pages, and the kernel's merging of equal pages."""

from __future__ import annotations

import mmap
from pathlib import Path

from guesthouse.errors import Domain, OperationFailed, OperationInvalid, OperationUnsupported, SystemFailure

_SMALL = mmap.PAGESIZE // 1024
#: What can be read of the merging of pages, and the kind of each figure; in libvirt's order.
SHARED = {
    "shm_pages_to_scan": "uint",
    "shm_sleep_millisecs": "uint",
    "shm_pages_shared": "ullong",
    "shm_pages_sharing": "ullong",
    "shm_pages_unshared": "ullong",
    "shm_pages_volatile": "ullong",
    "shm_full_scans": "ullong",
    "shm_merge_across_nodes": "uint",
}
#: What can be set of it.
SETTABLE = ("shm_pages_to_scan", "shm_sleep_millisecs", "shm_merge_across_nodes")


class HostMemory:
    """Below ``root``, a host's file system."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._kernel = root / "sys/kernel/mm"
        self._cells = root / "sys/devices/system/node"

    # -- pages of one size

    def pool(self, cell: int, size: int) -> Path:
        """The folder of the huge pages of ``size`` KiB of a cell, -1 for the whole host. Raises OperationFailed."""
        name = f"hugepages/hugepages-{size}kB"
        folder = self._kernel / name if cell == -1 else self._cells / f"node{cell}" / name
        if folder.exists():
            return folder
        if cell == -1:
            raise OperationFailed(f"page size {size} is not available", domain=Domain.NONE)
        if not (self._cells / f"node{cell}").exists():
            raise OperationFailed(f"NUMA node {cell} is not available", domain=Domain.NONE)
        raise OperationFailed(f"page size {size} is not available on node {cell}", domain=Domain.NONE)

    def free_pages(self, cell: int, size: int, free: int) -> int:
        """How many pages of ``size`` KiB are free; ``free`` is the free memory of the cell in KiB."""
        if size == _SMALL:
            return free // size
        return int((self.pool(cell, size) / "free_hugepages").read_text())

    def set_pages(self, cell: int, size: int, count: int, *, add: bool) -> None:
        """Make the pool ``count`` pages large, or with ``add`` so much larger. Raises OperationFailed where the kernel
        does not find so many; it keeps those that it found."""
        if size == _SMALL:
            raise OperationUnsupported("system pages pool can't be modified", domain=Domain.NONE)
        file = self.pool(cell, size) / "nr_hugepages"
        now = int(file.read_text())
        wanted = now + count if add else count
        if wanted == now:
            return
        try:
            file.write_text(str(wanted))
        except OSError as error:
            raise SystemFailure.from_os(error, f"Unable to write to: {file}", domain=Domain.NONE) from None
        got = int(file.read_text())
        if got != wanted:
            text = f"Unable to allocate {wanted} pages. Allocated only {got}"
            raise OperationFailed(text, domain=Domain.NONE)

    # -- the merging of equal pages

    def shared(self) -> dict[str, int]:
        """The figures that this kernel has."""
        found = {}
        for name in SHARED:
            try:
                found[name] = int(self._file(name).read_text())
            except (OSError, ValueError):
                continue
        return found

    def set_shared(self, values: dict[str, int]) -> None:
        """Raises OperationInvalid for what this kernel does not have, before anything is set; SystemFailure."""
        for name in values:
            if not self._file(name).exists():
                raise OperationInvalid(f"Parameter '{name}' is not supported by this kernel", domain=Domain.NONE)
        for name, value in values.items():
            try:
                self._file(name).write_text(str(value))
            except OSError as error:
                raise SystemFailure.from_os(error, f"failed to set {name}", domain=Domain.NONE) from None

    def _file(self, name: str) -> Path:
        return self._kernel / "ksm" / name.removeprefix("shm_")
