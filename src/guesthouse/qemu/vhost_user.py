"""Which programs of this host can play a device for QEMU over vhost-user, as their descriptor files tell."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from guesthouse.errors import OperationFailed

#: Where descriptors are: a file hides those of its name in the folders before.
FOLDERS = (Path("/usr/share/qemu/vhost-user"), Path("/etc/qemu/vhost-user"))
_PATIENCE = 10.0


def programs(kind: str, folders: tuple[Path, ...] = FOLDERS) -> list[dict[str, Any]]:
    """Descriptors of ``kind`` ("fs", "gpu", ...), the first to be tried first. An empty or unreadable one hides others
    of its name and is none itself."""
    files: dict[str, Path] = {}
    for folder in folders:
        for file in folder.glob("*.json"):
            files[file.name] = file
    found = []
    for name in sorted(files):
        try:
            described = json.loads(files[name].read_text())
        except (OSError, ValueError):
            continue
        if isinstance(described, dict) and described.get("type") == kind and described.get("binary"):
            found.append(described)
    return found


def virtiofsd() -> str:
    """The program that shares folders. Raises OperationFailed where there is none."""
    for described in programs("fs"):
        return str(described["binary"])
    raise OperationFailed("Unable to find a satisfying virtiofsd")


def gpu(*, virgl: bool, rendernode: bool) -> str:
    """A program that plays a graphics card and has what is asked of it. Raises OperationFailed."""
    wanted = {name for name, asked in (("virgl", virgl), ("render-node", rendernode)) if asked}
    for described in programs("gpu"):
        binary = str(described["binary"])
        if not os.access(binary, os.X_OK):
            continue
        try:
            done = subprocess.run([binary, "--print-capabilities"], capture_output=True, timeout=_PATIENCE)
            features = set(json.loads(done.stdout).get("features", ()))
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if wanted <= features:
            return binary
    raise OperationFailed("Unable to find a satisfying vhost-user-gpu")
