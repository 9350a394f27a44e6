"""The tests' small Linux guest: Debian's cloud kernel and an initramfs of busybox, made once a machine."""

from __future__ import annotations

import functools
from pathlib import Path

from guesthouse.provision import tiny

_CACHE = Path("/var/cache/guesthouse-tests")


@functools.cache
def kernel_and_initrd() -> tuple[Path, Path]:
    """Paths of the kernel and of an initramfs that prints "guest ready" on ttyS0 and then runs a shell there."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    kernel = tiny.kernel(_CACHE)
    initrd = _CACHE / "initrd.img"
    tiny.initramfs(initrd, kernel)
    return kernel, initrd
