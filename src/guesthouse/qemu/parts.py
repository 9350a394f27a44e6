"""QEMU objects as data: the same value goes on the command line for cold plug and over QMP for hot plug."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Props = dict[str, Any]


@dataclass
class Chardev:
    """A character device's host end: ``backend`` (pty, socket, file, ...) and its options as on the command line."""

    id: str
    backend: str
    options: dict[str, str] = field(default_factory=dict)
    #: Files that the daemon has opened: (number of the set, descriptor, what for).
    files: list[tuple[int, int, str]] = field(default_factory=list)

    def argument(self) -> str:
        return ",".join([self.backend, f"id={self.id}", *(f"{k}={quote(v)}" for k, v in self.options.items())])


@dataclass
class Parts:
    """What one model device, or a whole guest, comes to. ``fds`` are descriptors that QEMU inherits."""

    objects: list[Props] = field(default_factory=list)
    chardevs: list[Chardev] = field(default_factory=list)
    blockdevs: list[Props] = field(default_factory=list)
    netdevs: list[Props] = field(default_factory=list)
    devices: list[Props] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    #: Objects that name a character device.
    late_objects: list[Props] = field(default_factory=list)
    #: Variables of QEMU's environment.
    environment: dict[str, str] = field(default_factory=dict)

    def __iadd__(self, other: Parts) -> Parts:
        for name in ("objects", "chardevs", "blockdevs", "netdevs", "devices", "options", "fds", "late_objects"):
            getattr(self, name).extend(getattr(other, name))
        self.environment |= other.environment
        return self

    def argv(self) -> list[str]:
        """The command line, in the order that QEMU wants: what is referred to comes first."""
        out: list[str] = []
        for props in self.objects:
            out += ["-object", compact(props)]
        for chardev in self.chardevs:
            for number, fd, what in chardev.files:
                out += ["-add-fd", f"set={number},fd={fd},opaque={what}"]
            out += ["-chardev", chardev.argument()]
        for props in self.late_objects:
            out += ["-object", compact(props)]
        for props in self.blockdevs:
            out += ["-blockdev", compact(props)]
        for props in self.netdevs:
            out += ["-netdev", compact(props)]
        out += self.options
        for props in self.devices:
            out += ["-device", compact(props)]
        return out


def compact(props: Props) -> str:
    """JSON as QEMU takes it on its command line."""
    return json.dumps(props, separators=(",", ":"))


def quote(text: str) -> str:
    """A value for QEMU's key=value options: commas are doubled."""
    return text.replace(",", ",,")
