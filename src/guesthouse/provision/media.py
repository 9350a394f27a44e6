"""Installation media: what a CD image or a tree is, and where its kernel lies.

A CD says who it is in its primary volume descriptor (ECMA-119, 8.4), 2048 bytes at sector 16; osinfo-db has patterns
for these words. A tree says so in ``.treeinfo``. Only local files are looked at.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg
from guesthouse.provision import osinfo

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16
# where installers keep kernel and initrd, by architecture
_PLACES = {
    "x86_64": (
        ("install.amd/vmlinuz", "install.amd/initrd.gz"),
        ("debian-installer/amd64/linux", "debian-installer/amd64/initrd.gz"),
        ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
        ("boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"),
        ("casper/vmlinuz", "casper/initrd"),
        ("boot/vmlinuz-lts", "boot/initramfs-lts"),
        ("arch/boot/x86_64/vmlinuz-linux", "arch/boot/x86_64/initramfs-linux.img"),
        ("linux", "initrd.gz"),
        ("vmlinuz", "initrd.gz"),
        ("vmlinuz", "initrd.img"),
    ),
    "i686": (("install.386/vmlinuz", "install.386/initrd.gz"), ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img")),
    "aarch64": (
        ("install.a64/vmlinuz", "install.a64/initrd.gz"),
        ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
    ),
}


class MediaError(InvalidArg):
    """Media that nothing can be installed from."""

    prefix = ""


@dataclass(frozen=True)
class Descriptor:
    """What a CD says about itself; ``size`` is in bytes."""

    system_id: str
    volume_id: str
    publisher_id: str
    application_id: str
    size: int

    def matches(self, patterns: dict[str, str]) -> bool:
        """Whether all ``patterns`` of an osinfo medium fit."""
        values = {
            "volume-id": self.volume_id,
            "system-id": self.system_id,
            "publisher-id": self.publisher_id,
            "application-id": self.application_id,
        }
        checked = {key: pattern for key, pattern in patterns.items() if key in values and pattern}
        size = patterns.get("volume-size", "")
        if size.isdigit() and int(size) not in (0, self.size):
            return False
        return bool(checked) and all(_search(pattern, values[key]) for key, pattern in checked.items())


def read_descriptor(path: str) -> Descriptor | None:
    """The primary volume descriptor of the image ``path``, None where it is no CD image or cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(_FIRST_DESCRIPTOR * _SECTOR)
            for _ in range(16):
                sector = file.read(_SECTOR)
                if len(sector) < _SECTOR or sector[1:6] != b"CD001" or sector[0] == 255:
                    return None
                if sector[0] == 1:
                    return Descriptor(
                        system_id=_text(sector[8:40]),
                        volume_id=_text(sector[40:72]),
                        publisher_id=_text(sector[318:446]),
                        application_id=_text(sector[574:702]),
                        size=int.from_bytes(sector[80:84], "little") * int.from_bytes(sector[128:130], "little"),
                    )
    except OSError:
        return None
    return None


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").rstrip(" \0")


def _search(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def identify(place: str) -> osinfo.Os | None:
    """The operating system that the image or the tree ``place`` installs, None where nobody knows."""
    if os.path.isdir(place):  # noqa: PTH112
        return identify_by(_treeinfo(Path(place)))
    descriptor = read_descriptor(place)
    if descriptor is None:
        return None
    best: osinfo.Os | None = None
    strength = 0
    for system in osinfo.systems_with(b"<iso>"):
        for medium in system.media:
            if descriptor.matches(medium.patterns):
                # of several the one whose patterns say most
                weight = sum(len(pattern) for pattern in medium.patterns.values())
                if weight > strength:
                    best, strength = system, weight
    return best or identify_by(_treeinfo_of_image(place))


def _treeinfo_of_image(place: str) -> Any:
    """The tree's description in a CD image, None where it has none."""
    import configparser

    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    image = pycdlib.PyCdlib()
    try:
        image.open(place)
    except (PyCdlibException, OSError):
        return None
    try:
        at = _inside(image, ".treeinfo") or _inside(image, "treeinfo")
        if at is None:
            return None
        buffer = io.BytesIO()
        image.get_file_from_iso_fp(buffer, **at)
        info = configparser.ConfigParser(strict=False, interpolation=None)
        info.read_string(buffer.getvalue().decode("utf-8", "replace"))
        return info
    except (PyCdlibException, configparser.Error):
        return None
    finally:
        image.close()


def identify_by(info: Any) -> osinfo.Os | None:
    """The system whose installation tree describes itself so."""
    if info is None:
        return None
    values = {
        "treeinfo-family": info.get("general", "family", fallback=""),
        "treeinfo-variant": info.get("general", "variant", fallback=""),
        "treeinfo-version": info.get("general", "version", fallback=""),
        "treeinfo-arch": info.get("general", "arch", fallback=""),
    }
    for system in osinfo.systems_with(b"<treeinfo>"):
        for tree in system.trees:
            patterns = {f"treeinfo-{key}": pattern for key, pattern in tree.patterns.items() if pattern}
            known = {key: pattern for key, pattern in patterns.items() if key in values}
            if known and all(_search(pattern, values[key]) for key, pattern in known.items()):
                return system
    return None


def _treeinfo(folder: Path) -> Any:
    import configparser

    info = configparser.ConfigParser(strict=False, interpolation=None)
    for name in (".treeinfo", "treeinfo"):
        try:
            if info.read(folder / name):
                return info
        except configparser.Error:
            return None
    return None


def places(arch: str) -> tuple[tuple[str, str], ...]:
    """Where installers for ``arch`` keep kernel and initrd."""
    return _PLACES.get(arch, ())


# -- the installer's kernel


@dataclass
class BootFiles:
    """A kernel and initrd as local files, words for the kernel, the CD that the installer wants to see, and the files
    that were made for this and go afterwards."""

    kernel: str
    initrd: str | None
    args: str | None = None
    cdrom: str | None = None
    temporary: list[str] = field(default_factory=list)


def boot_files(
    place: str, arch: str, system: osinfo.Os | None, kernel: str | None = None, initrd: str | None = None
) -> BootFiles:
    """Kernel and initrd of the installer in ``place``, a folder or a CD image; ``kernel`` and ``initrd`` say where in
    it they are, if known. Raises MediaError where there are none."""
    system = system or identify(place)
    pairs = [(kernel, initrd)] if kernel is not None else _candidates(place, arch, system)
    if os.path.isdir(place):  # noqa: PTH112
        folder = Path(place)
        for kernel_path, initrd_path in pairs:
            found = folder / kernel_path.lstrip("/")
            below = folder / initrd_path.lstrip("/") if initrd_path else None
            if found.is_file() and (below is None or below.is_file()):
                return BootFiles(str(found.absolute()), str(below.absolute()) if below else None)
        raise MediaError(_missing(place, pairs))
    if read_descriptor(place) is None:
        raise MediaError(f"Error validating install location: '{place}' is neither a folder nor a CD image")
    return _from_image(place, pairs)


def _candidates(place: str, arch: str, system: osinfo.Os | None) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    if os.path.isdir(place):  # noqa: PTH112
        info = _treeinfo(Path(place))
        if info is not None:
            section = f"images-{info.get('general', 'arch', fallback=arch)}"
            kernel = info.get(section, "kernel", fallback=None)
            if kernel:
                found.append((kernel, info.get(section, "initrd", fallback=None)))
    for medium in [*system.media, *system.trees] if system is not None else []:
        if medium.arch in (arch, "all") and medium.kernel and (medium.kernel, medium.initrd) not in found:
            found.append((medium.kernel, medium.initrd))
    return [*found, *_PLACES.get(arch, ())]


def _missing(place: str, pairs: list[tuple[str, str | None]]) -> str:
    looked = ", ".join(dict.fromkeys(kernel for kernel, _ in pairs[:6]))
    return (
        f"Couldn't find kernel for install tree '{place}' (looked for {looked});"
        " say where it is: --location PLACE,kernel=PATH,initrd=PATH"
    )


def _from_image(place: str, pairs: list[tuple[str, str | None]]) -> BootFiles:
    """Kernel and initrd copied out of a CD image."""
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    image = pycdlib.PyCdlib()
    made: list[str] = []
    try:
        image.open(place)
    except (PyCdlibException, OSError) as error:
        raise MediaError(f"Error validating install location: '{place}' cannot be read: {error}") from None
    try:
        for kernel, initrd in pairs:
            places = [_inside(image, path) for path in (kernel, initrd) if path]
            if all(places):
                for at in places:
                    assert at is not None
                    made.append(_copy_out(image, at))
                return BootFiles(
                    made[0],
                    made[1] if len(made) > 1 else None,
                    cdrom=str(Path(place).absolute()),
                    temporary=made,
                )
    except BaseException:
        for path in made:
            os.unlink(path)  # noqa: PTH108
        raise
    finally:
        image.close()
    raise MediaError(_missing(place, pairs))


def _inside(image: Any, path: str) -> dict[str, str] | None:
    """How pycdlib names the file ``path`` of ``image``, None where there is none. Rock Ridge names are the true ones;
    plain ISO 9660 has upper case and a version."""
    from pycdlib.pycdlibexception import PyCdlibException

    full = "/" + path.strip("/")
    plain = full.upper()
    choices = []
    if image.has_rock_ridge():
        choices.append({"rr_path": full})
    if image.has_joliet():
        choices.append({"joliet_path": full})
    head, _, name = plain.rpartition("/")
    choices += [{"iso_path": f"{head}/{name}{end}"} for end in (";1", ".;1", "")]
    for choice in choices:
        try:
            if not image.get_record(**choice).is_dir():
                return choice
        except PyCdlibException:
            continue
    return None


def _copy_out(image: Any, at: dict[str, str]) -> str:
    name = next(iter(at.values())).rpartition("/")[2].partition(";")[0].lower()
    descriptor, path = tempfile.mkstemp(prefix="virtinst-", suffix=f"-{name}", dir="/var/tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            image.get_file_from_iso_fp(file, **at)
        # QEMU runs as another user
        os.chmod(path, 0o644)  # noqa: PTH101
    except BaseException:
        os.unlink(path)  # noqa: PTH108
        raise
    return path
