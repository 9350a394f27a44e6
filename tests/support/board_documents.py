"""Documents of all of a guest but its disks, cards and host devices: each form of each part, alone and mixed.

``python tests/support/board_documents.py [PATTERN ...]`` puts those of some patterns of libvirt's schema to C libvirtd and
to our daemon, and prints what differs of which nothing is known.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import domains, grammar

KNOWN = domains.DATA / "xmldiff" / "board.json"

#: Patterns of the schema whose elements stand in <domain> itself, and those of devices.
TOP = (
    *("os", "features", "clock", "events", "pm", "perf", "seclabel", "keywrap", "launchSecurity", "idmap", "resources"),
    *("guestcpu", "sysinfo", "ids", "metadata", "qemucmdline", "qemucapabilities", "qemudeprecation", "qemuoverride"),
)
DEVICES = (
    *("graphic", "video", "sound", "audio", "input", "watchdog", "memballoon", "rng", "tpm", "panic", "smartcard"),
    *("shmem", "iommu", "vsock", "serial", "parallel", "console", "channel", "memorydev", "nvram", "hub"),
)
MACHINES = ("pc", "q35")
# places of devices have documents of their own
_WITHOUT = ("address", "diskSource", "diskSourceNetwork", "acpi", "alias", "cfpc")
_MIXED_WITHOUT = ("address", "diskSource", "diskSourceNetwork")
_UUID = "e0a52b1c-8f54-4d6c-9ab2-0000000000aa"
_CELLS = "<cpu><numa><cell id='0' cpus='0-1' memory='131072'/><cell id='1' cpus='2-3' memory='131072'/></numa></cpu>"
#: What a part needs around it; "" where it is also looked at without.
_AROUND = {"memorydev": (f"<maxMemory slots='8'>8388608</maxMemory>{_CELLS}",), "resources": ("", _CELLS)}
# machines without PCI have none of what guests usually have
_BARE = "<controller type='usb' model='none'/>"

# a distance to a node that there is not: libvirt writes past the end of its memory, and dies of it sooner or later
_DEADLY = '<sibling id="'

Document = tuple[str, str]


def document(pattern: str, parts: list[str], machine: str, around: str = "") -> str:
    """A guest with ``parts``, elements of ``pattern``, instead of its own ones of that name."""
    kind = f"<type arch='x86_64' machine='{machine}'>hvm</type>"
    usual = {
        "name": "<name>x</name>",
        "uuid": f"<uuid>{_UUID}</uuid>",
        "memory": "<memory>262144</memory>",
        "vcpu": "<vcpu>1</vcpu>" if machine == "isapc" else "<vcpu>4</vcpu>",
        "os": f"<os>{kind}</os>",
    }
    more, devices, attributes = [], [], ""
    if machine not in MACHINES:
        devices = [_BARE] if pattern == "memballoon" else [_BARE, "<memballoon model='none'/>"]
    for part in parts:
        attribute = re.match(r"<!-- (\S+)=(\S+) -->", part)
        tag = re.match(r"<([\w:-]+)", part)
        if attribute is not None:
            attributes += f" {attribute[1]}='{attribute[2]}'"
        elif pattern in DEVICES:
            devices.append(part)
        elif tag is not None and tag[1] == "os":
            usual["os"] = re.sub(r"<type\b[^>]*(/>|>[^<]*</type>)", kind, part)
        elif tag is None or tag[1] not in usual:
            more.append(part)
        elif tag[1] not in ("name", "uuid"):
            usual[tag[1]] = part
    inside = f"{''.join(usual.values())}{around}{''.join(more)}<devices>{''.join(devices)}</devices>"
    return f"<domain type='qemu'{attributes}>{inside}</domain>"


def alone(machine: str, patterns: tuple[str, ...] = (*TOP, *DEVICES)) -> Iterator[Document]:
    """Each form of each part, with no more around it than it needs."""
    for pattern in patterns:
        for number, around in enumerate(_AROUND.get(pattern, ("",))):
            for form, parts in enumerate(grammar.alone(pattern, _WITHOUT)):
                yield f"{pattern}-{machine}-{number}-{form}", document(pattern, parts, machine, around)


def mixed(machine: str, count: int, patterns: tuple[str, ...] = (*TOP, *DEVICES), seed: int = 0) -> Iterator[Document]:
    """``count`` documents of each pattern by chance; of every fourth devices also have places."""
    for pattern in patterns:
        for number, around in enumerate(_AROUND.get(pattern, ("",))):
            for form in range(seed, seed + count):
                without = _MIXED_WITHOUT if form % 4 else ()
                parts = grammar.mixed(pattern, form, (0.3, 0.5, 0.15)[form % 3], without)
                yield f"{pattern}-{machine}-{number}-m{form}", document(pattern, parts, machine, around)


def some(every: int) -> list[Document]:
    """One of ``every`` documents that are not mixed, by turns on both machines."""
    found = [list(alone(machine)) for machine in MACHINES]
    chosen = [found[at // every % 2][at] for at in range(0, len(found[0]), every)]
    return [each for each in chosen if _DEADLY not in each[1]]


def whole() -> list[Document]:
    """All of them, mixed ones too, and some of machines that have less."""
    found = [each for machine in MACHINES for each in (*alone(machine), *mixed(machine, 30))]
    small = ("features", "clock", "graphic", "input", "watchdog", "memballoon", "rng", "serial", "console", "channel")
    found += [each for machine in ("isapc", "microvm") for each in alone(machine, small)]
    return [each for each in found if _DEADLY not in each[1]]


if __name__ == "__main__":
    from support import xmldiff

    asked = tuple(sys.argv[1:]) or (*TOP, *DEVICES)
    xmldiff.show(
        [each for machine in MACHINES for each in (*alone(machine, asked), *mixed(machine, 30, asked))],
        rows=xmldiff.known(KNOWN),
    )
