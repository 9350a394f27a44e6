"""Reading the kernel's device tree. A root other than / is for trees that are not this host's."""

from __future__ import annotations

import os
from collections.abc import Iterator


class Sysfs:
    """``/sys`` below ``root``. Paths are as the kernel has them ("/devices/..."): below /sys, without it. What is not
    there, or vanishes while it is read, is empty or None, for devices come and go."""

    def __init__(self, root: str = "") -> None:
        self.root = root.rstrip("/")
        self._base = f"{self.root}/sys"

    def path(self, path: str) -> str:
        """The file that ``path`` is."""
        return self._base + path

    def text(self, path: str) -> str | None:
        """The stripped content of an attribute; None for none, and for an empty one."""
        try:
            with open(self._base + path, "rb") as file:
                return file.read().decode(errors="replace").strip("\0 \t\n") or None
        except OSError:
            return None

    def number(self, path: str, base: int = 10) -> int | None:
        text = self.text(path)
        try:
            return None if text is None else int(text, base)
        except ValueError:
            return None

    def raw(self, path: str) -> bytes:
        try:
            with open(self._base + path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def exists(self, path: str) -> bool:
        return os.path.exists(self._base + path)  # noqa: PTH110

    def names(self, path: str) -> list[str]:
        """What is in a folder, sorted."""
        try:
            return sorted(os.listdir(self._base + path))  # noqa: PTH208
        except OSError:
            return []

    def target(self, path: str) -> str | None:
        """Where a link leads; None where there is none."""
        if not os.path.islink(self._base + path):  # noqa: PTH114
            return None
        return self.real(path)

    def real(self, path: str) -> str | None:
        """``path`` without links in it; None where it leads out of /sys."""
        real = os.path.realpath(self._base + path)
        return real.removeprefix(self._base) if real.startswith(self._base + "/") else None

    def properties(self, path: str) -> dict[str, str]:
        """What the kernel tells of the device ``path`` in its events: DEVTYPE, DEVNAME, ..."""
        return dict(_pairs(self.text(f"{path}/uevent") or ""))

    def write(self, path: str, text: str) -> None:
        """Write an attribute. Raises OSError with the driver's reason."""
        with open(self._base + path, "w") as file:
            file.write(text)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name, value
