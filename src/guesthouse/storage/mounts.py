"""Mounting and unmounting, by the system's own programs: they know helpers, loop devices and options."""

from __future__ import annotations

import os
import re
from pathlib import Path

from guesthouse.storage.work import in_thread, run

_OPTIONS = "nodev,nosuid,noexec"


async def mount(type_: str, source: str, target: str, *options: str) -> None:
    """Mount ``source`` at the folder ``target``; "auto" leaves the type to mount. Raises InternalError."""
    kind = [] if type_ == "" else ["-t", type_]
    await run("/bin/mount", "-o", ",".join((_OPTIONS, *options)), *kind, source, target)


async def unmount(target: str) -> None:
    """Raises InternalError, for one that is in use as well."""
    await run("/bin/umount", target)


async def is_mounted(target: str) -> bool:
    """Whether something is mounted right at ``target``, which may be a link."""

    def look() -> bool:
        table = Path("/proc/self/mounts").read_bytes().decode("utf-8", "surrogateescape")
        return os.path.realpath(target) in mount_points(table)

    return await in_thread(lambda check: look())


def mount_points(table: str) -> set[str]:
    """The mount points in the text of a mount table, in which octal numbers stand for blanks and the like."""
    lines = [line.split(" ") for line in table.splitlines()]
    return {_plain(words[1]) for words in lines if len(words) > 1}


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
