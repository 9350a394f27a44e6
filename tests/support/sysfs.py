"""A made-up /sys in a folder: devices that the host of the tests does not have."""

from __future__ import annotations

import os
from pathlib import Path

from guesthouse.host.sysfs import Sysfs


class FakeSysfs:
    """``root`` becomes what / is to the code under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys").mkdir(parents=True)
        self.sysfs = Sysfs(str(root))

    def file(self, path: str, content: str | bytes) -> Path:
        """A file anywhere below the root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def link(self, path: str, target: str) -> None:
        """A link below /sys to another place there."""
        link = self.root / "sys" / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.root / "sys" / target.lstrip("/"), link.parent))

    def device(self, path: str, listed: str, *, uevent: str = "", **attributes: str | bytes) -> str:
        """A device at ``path`` below /sys ("/devices/..."), with a link to it in the folder ``listed`` ("/bus/pci/devices").
        A double underscore in an attribute's name stands for a slash."""
        (self.root / "sys" / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.file(f"sys{path}/uevent", uevent)
        for name, content in attributes.items():
            self.file(f"sys{path}/{name.replace('__', '/')}", content)
        self.link(f"{listed}/{path.rpartition('/')[2]}", path)
        return path
