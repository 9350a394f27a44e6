"""What an operating system is and supports: osinfo-db's files, read directly, and only those that a question needs.

A file is found by its name where it follows osinfo-db's rule (http://debian.org/debian/12 is
os/debian.org/debian-12.xml), else by the bytes of its short ids; a whole database of 700 systems is never parsed for
one. Facts come down the chain: a system has the devices of those that it derives from or clones.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg

#: The stand-in for a system of which nothing is known.
GENERIC = "generic"
#: The element of a guest's metadata that names its system.
NAMESPACE = "http://libosinfo.org/xmlns/libvirt/domain/1.0"

_PCI = "http://pcisig.com/pci/"
# what a question about a device means: one of these is supported
_DEVICES = {
    "virtio-block": (f"{_PCI}1af4/1001", f"{_PCI}1af4/1042"),
    "virtio-scsi": (f"{_PCI}1af4/1004", f"{_PCI}1af4/1048"),
    "virtio-net": (f"{_PCI}1af4/1000", f"{_PCI}1af4/1041"),
    "virtio-net-1.0": (f"{_PCI}1af4/1041",),
    "virtio-rng": (f"{_PCI}1af4/1005", f"{_PCI}1af4/1044"),
    "virtio-gpu": (f"{_PCI}1af4/1050",),
    "virtio-balloon": (f"{_PCI}1af4/1002", f"{_PCI}1af4/1045"),
    "virtio-serial": (f"{_PCI}1af4/1003", f"{_PCI}1af4/1043"),
    "virtio-input": (f"{_PCI}1af4/1052",),
    "usb3": (f"{_PCI}1b36/0004",),
    "q35": ("http://qemu.org/chipset/x86/q35",),
    # network cards of QEMU, in the order in which they are preferred
    "e1000": (f"{_PCI}8086/100e",),
    "rtl8139": (f"{_PCI}10ec/8139",),
    "ne2k_pci": (f"{_PCI}10ec/8029",),
    "pcnet": (f"{_PCI}1022/2000",),
}
_CHAIN = ("derives-from", "clones")


def folders() -> list[Path]:
    """Where databases may be, the user's own first, as libosinfo looks for them."""
    home = os.environ.get("OSINFO_USER_DIR") or os.path.join(  # noqa: PTH118
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"),  # noqa: PTH111
        "osinfo",
    )
    local = os.environ.get("OSINFO_LOCAL_DIR") or "/etc/osinfo"
    system = os.environ.get("OSINFO_SYSTEM_DIR") or "/usr/share/osinfo"
    return [Path(home), Path(local), Path(system)]


@dataclass
class Resources:
    """Bytes, and a number of processors; None where the database says nothing."""

    ram: int | None = None
    cpus: int | None = None
    storage: int | None = None


@dataclass
class Media:
    """An installation medium (or tree): how it is told, and where its kernel is. Patterns are regular expressions."""

    arch: str
    patterns: dict[str, str] = field(default_factory=dict)
    kernel: str | None = None
    initrd: str | None = None
    live: bool = False
    installer: bool = True
    url: str | None = None


class Os:
    """An operating system. ``name`` is its first short id."""

    def __init__(self, node: Any | None) -> None:
        self._node = node
        self.id: str = "" if node is None else node.get("id") or ""
        self.short_ids: list[str] = [GENERIC] if node is None else [e.text or "" for e in node.findall("short-id")]
        self.name = self.short_ids[0] if self.short_ids else self.id
        self.label = self._text("name") or "Generic or unknown system; guests of it are slow"
        self.family = self._text("family")
        self.distro = self._text("distro")
        self.version = self._text("version")
        self.codename = self._text("codename")

    def _text(self, tag: str) -> str:
        if self._node is None:
            return ""
        for child in self._node.findall(tag):
            if not child.attrib:  # translations carry xml:lang
                return child.text or ""
        return ""

    @property
    def is_generic(self) -> bool:
        return self._node is None

    @property
    def is_windows(self) -> bool:
        return self.family in ("win9x", "winnt", "win16")

    @property
    def clock(self) -> str:
        """How the guest reads its hardware clock."""
        return "localtime" if self.is_windows or self.family == "solaris" else "utc"

    def _related(self, *kinds: str) -> Iterator[Os]:
        if self._node is None:
            return
        for kind in kinds:
            for child in self._node.findall(kind):
                other = by_id(child.get("id") or "")
                if other is not None:
                    yield other

    @functools.cached_property
    def devices(self) -> frozenset[str]:
        """Ids of the devices that it supports, its ancestors' included."""
        return frozenset(self._devices(set()))

    def _devices(self, seen: set[str]) -> set[str]:
        if self._node is None or self.id in seen:
            return set()
        seen.add(self.id)
        found: set[str] = set()
        for ancestor in self._related(*_CHAIN):
            found |= ancestor._devices(seen)
        for node in self._node.findall("devices/device"):
            supported = node.get("supported", "true") != "false"
            (found.add if supported else found.discard)(node.get("id") or "")
        return found

    def supports(self, device: str) -> bool:
        """Whether it has a driver for ``device``, one of the names in this module's table."""
        if any(each in self.devices for each in _DEVICES[device]):
            return True
        # RHEL 6 and what comes from it have it, though old databases do not say so
        return device == "virtio-serial" and self.descends_from("rhel6.0")

    @property
    def supports_q35(self) -> bool:
        """Whether the q35 machine suits it: with virtio it must know virtio 1.0, which is all that PCIe slots offer."""
        if self.supports("virtio-net") and not self.supports("virtio-net-1.0"):
            return False
        return self.supports("q35")

    def descends_from(self, name: str) -> bool:
        """Whether it is ``name``, derives from it, clones it, or is an upgrade of it, over any number of steps."""
        return self._descends(name, set())

    def _descends(self, name: str, seen: set[str]) -> bool:
        if name in self.short_ids:
            return True
        if self.id in seen:
            return False
        seen.add(self.id)
        return any(other._descends(name, seen) for other in self._related(*_CHAIN, "upgrades"))

    # -- resources

    def minimum(self, arch: str) -> Resources:
        """What it cannot do without."""
        return self._resources("minimum", arch)

    def recommended(self, arch: str) -> Resources:
        """What it runs well with: the database's word, else twice the minimum."""
        wanted, least = self._resources("recommended", arch), self.minimum(arch)
        return Resources(
            ram=wanted.ram or (least.ram and 2 * least.ram),
            cpus=wanted.cpus or (least.cpus and 2 * least.cpus),
            storage=wanted.storage or (least.storage and 2 * least.storage),
        )

    def _resources(self, kind: str, arch: str, depth: int = 0) -> Resources:
        found = Resources()
        if self._node is None or depth > 20:
            return found
        for wanted in (arch, "all"):
            for node in self._node.findall(f"resources[@arch='{wanted}']"):
                values = {child.tag: child.text or "" for child in node.findall(f"{kind}/*")}
                _merge(found, Resources(_number(values, "ram"), _number(values, "n-cpus"), _number(values, "storage")))
                if node.get("inherit") == "true":
                    for ancestor in self._related(*_CHAIN):
                        _merge(found, ancestor._resources(kind, arch, depth + 1))
        return found

    # -- firmware and media

    def firmware(self, kind: str, arch: str) -> bool | None:
        """Whether it boots by firmware ``kind`` ("bios", "efi"); None where neither it nor an ancestor says."""
        if self._node is None:
            return None
        for node in self._node.findall(f"firmware[@type='{kind}']"):
            if node.get("arch") == arch:
                return bool(node.get("supported", "true") != "false")
        for ancestor in self._related(*_CHAIN):
            answer = ancestor.firmware(kind, arch)
            if answer is not None:
                return answer
        return None

    def requires_efi(self, arch: str) -> bool:
        """Whether it boots in no other way. Windows 11 does not, whatever an old database says."""
        if self.name == "win11":
            return True
        return self.firmware("efi", arch) is True and self.firmware("bios", arch) is False

    @functools.cached_property
    def media(self) -> list[Media]:
        """Its installation CDs."""
        return [] if self._node is None else [_media(node, "iso") for node in self._node.findall("media")]

    @functools.cached_property
    def trees(self) -> list[Media]:
        """Its installation trees."""
        return [] if self._node is None else [_media(node, "treeinfo") for node in self._node.findall("tree")]


def _merge(into: Resources, more: Resources) -> None:
    into.ram = into.ram or more.ram
    into.cpus = into.cpus or more.cpus
    into.storage = into.storage or more.storage


def _number(values: dict[str, str], key: str) -> int | None:
    text = values.get(key, "").strip()
    return int(text) if text.isdigit() else None


def _media(node: Any, told_by: str) -> Media:
    patterns = {child.tag: (child.text or "").strip() for child in node.findall(f"{told_by}/*")}
    return Media(
        arch=node.get("arch") or "all",
        patterns=patterns,
        kernel=node.findtext("kernel"),
        initrd=node.findtext("initrd"),
        live=node.get("live") == "true",
        installer=node.get("installer", "true") != "false",
        url=node.findtext("url"),
    )


# -- finding


def find(name: str) -> Os:
    """The system that ``name`` (a short id, old ones included, or a full id) means.

    Raises InvalidArg with the names that come nearest where there is none.
    """
    if name == GENERIC:
        return Os(None)
    found = by_id(name) if "://" in name else _by_short_id(name)
    if found is not None:
        return found
    if not any((folder / "os").is_dir() for folder in folders()):
        raise Unknown(f"Unknown OS name '{name}': there is no osinfo database here (Debian: package osinfo-db)")
    import difflib

    near = difflib.get_close_matches(name, short_ids(), n=3, cutoff=0.75)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise Unknown(f"Unknown OS name '{name}'. See `--osinfo list` for valid values.{hint}")


def first(names: Sequence[str]) -> Os:
    """The first of ``names`` (short ids) that the database has. Raises as :func:`find` where it has none of them.

    All files are read once at most: whoever starts a guest waits for this.
    """
    needles = {name: f"<short-id>{name}</short-id>".encode() for name in names}
    places: dict[str, Path] = {}
    for path in _files():
        content = path.read_bytes()
        for name, needle in needles.items():
            if needle in content:
                places.setdefault(name, path)
        if names[0] in places:
            break
    for name in names:
        if name in places and (found := _load(places[name])) is not None:
            return found
    return find(names[-1])


class Unknown(InvalidArg):
    """An operating system that no database knows."""

    prefix = ""


@functools.cache
def by_id(identity: str) -> Os | None:
    """The system with the full id ``identity``, None where no database has it."""
    match = re.fullmatch(r"https?://([^/]+)/(.+)", identity)
    if match is None:
        return None
    name = match[2].replace("/", "-")
    for folder in folders():
        found = _load(folder / "os" / match[1] / f"{name}.xml", identity)
        if found is not None:
            return found
    needle = f'id="{identity}"'.encode()
    return next((found for path in _holding(needle) if (found := _load(path, identity)) is not None), None)


@functools.cache
def _by_short_id(name: str) -> Os | None:
    for path in _holding(f"<short-id>{name}</short-id>".encode()):
        found = _load(path)
        if found is not None and name in found.short_ids:
            return found
    return None


def _files() -> Iterator[Path]:
    for folder in folders():
        # folders named NAME.d beside NAME.xml add to what that says
        yield from sorted(folder.glob("os/*/*.xml"))


def _holding(needle: bytes) -> Iterator[Path]:
    for path in _files():
        try:
            if needle in path.read_bytes():
                yield path
        except OSError:
            continue


def _load(path: Path, identity: str | None = None) -> Os | None:
    from lxml import etree

    try:
        root = etree.parse(str(path)).getroot()
    except (OSError, etree.XMLSyntaxError):
        return None
    for node in root.findall("os"):
        if identity is None or node.get("id") == identity:
            return Os(_completed(node, path))
    return None


def _completed(node: Any, path: Path) -> Any:
    """The system's element with what the files beside ``path`` add to it."""
    from lxml import etree

    for more in sorted(path.with_suffix(".d").glob("*.xml")):
        try:
            root = etree.parse(str(more)).getroot()
        except (OSError, etree.XMLSyntaxError):
            continue
        for other in root.findall("os"):
            if other.get("id") == node.get("id"):
                node.extend(list(other))
    return node


@functools.cache
def short_ids() -> tuple[str, ...]:
    """All short ids, in order."""
    found: set[str] = set()
    for path in _files():
        found.update(re.findall(r"<short-id>([^<]+)</short-id>", path.read_text(errors="replace")))
    return tuple(sorted(found, key=_natural))


def listing() -> list[str]:
    """A line a system, by name, newest first: its short ids joined by commas."""
    lines: dict[str, str] = {}
    for path in _files():
        text = path.read_text(errors="replace")
        names = re.findall(r"<short-id>([^<]+)</short-id>", text)
        identity = re.search(r'<os id="([^"]+)"', text)
        if names and identity:
            lines.setdefault(identity[1], ", ".join(dict.fromkeys(names)))
    newest_first = sorted([*lines.values(), GENERIC], key=_natural, reverse=True)
    return sorted(newest_first, key=lambda line: re.split(r"\d", line)[0])


def _natural(text: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def systems_with(needle: bytes) -> Iterator[Os]:
    """The systems whose files hold ``needle``."""
    from lxml import etree

    for path in _holding(needle):
        try:
            root = etree.parse(str(path)).getroot()
        except (OSError, etree.XMLSyntaxError):
            continue
        for node in root.findall("os"):
            yield Os(_completed(node, path))
