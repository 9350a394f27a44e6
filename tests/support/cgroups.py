"""Guests' control groups as the kernel has them, read past every daemon."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

_PATIENCE = 5.0
_OURS = re.compile(r"-[0-9a-f]{6}\.libvirt-qemu$")


def trees() -> list[Path]:
    """Where this process sees trees of groups."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in lines if words[2] in ("cgroup", "cgroup2") and Path(words[1]).is_dir()]


def mark(root: Path) -> str:
    """How the groups of the daemon on ``root`` end."""
    return f"-{hashlib.blake2s(os.fsencode(root / 'run'), digest_size=3).hexdigest()}.libvirt-qemu"


def of(root: Path) -> list[Path]:
    """The groups of the guests of the daemon on ``root``."""
    end = mark(root)
    return sorted(path for tree in trees() for path in tree.glob(f"machine/*{end}"))


def of_processes(pids: Iterable[int]) -> list[Path]:
    """The guests' groups that these processes are in."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                path = line.split(":", 2)[2]
                if ".libvirt-qemu" in path:
                    below = path[: path.index(".libvirt-qemu")].lstrip("/") + ".libvirt-qemu"
                    found += [tree / below for tree in trees() if (tree / below).is_dir()]
    return sorted(set(found))


def remove(groups: Iterable[Path]) -> None:
    """Take away groups whose processes end."""
    for group in groups:
        deadline = time.monotonic() + _PATIENCE
        while group.is_dir() and time.monotonic() < deadline:
            for path in [*(child for child in group.iterdir() if child.is_dir()), group]:
                with contextlib.suppress(OSError):
                    path.rmdir()
            time.sleep(0.005)


def left() -> set[str]:
    """Empty groups of daemons like ours: their guests are gone."""
    groups = [path for tree in trees() for path in tree.glob("machine/*") if _OURS.search(path.name)]
    return {str(path) for path in groups if not _processes(path)}


def _processes(group: Path) -> bool:
    for file in [group / "cgroup.procs", *group.glob("*/cgroup.threads"), *group.glob("*/tasks")]:
        with contextlib.suppress(OSError):
            if file.read_text():
                return True
    return False
