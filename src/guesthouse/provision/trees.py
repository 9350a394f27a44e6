"""Installation trees on HTTP and FTP servers: what they install, and their kernel and initrd, fetched.

A Red Hat-like tree says so in ``.treeinfo`` (``treeinfo``); the others are looked through at the places where Debian,
Ubuntu, SUSE, Mageia, Alpine and Arch keep their installers' kernels.
"""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from guesthouse.provision import media, osinfo
from guesthouse.provision.media import BootFiles, MediaError

_TIMEOUT_S = 30
_SCHEMES = ("http://", "https://", "ftp://")
# from the root of a mirror to the folder where the installer's images lie
_DEBIAN_PATHS = ("", "current/images/", "main/installer-{arch}/current/images/", "dists/{suite}/main/installer-{arch}/")
_DEBIAN_ARCHES = {
    "x86_64": "amd64",
    "i686": "i386",
    "aarch64": "arm64",
    "armv7l": "armhf",
    "ppc64le": "ppc64el",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def is_url(place: str) -> bool:
    """Whether ``place`` is on a server."""
    return place.startswith(_SCHEMES)


class Tree:
    """A tree at ``url``. Nothing is kept but its description, which is read once."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._info: Any = None
        self._looked = False

    @property
    def info(self) -> Any:
        """Its ``.treeinfo`` as a ConfigParser, None where it has none. Raises MediaError where the server is not there."""
        if not self._looked:
            self._looked = True
            for name in (".treeinfo", "treeinfo"):
                text = self._read(name)
                if text is None:
                    continue
                info = configparser.ConfigParser(strict=False, interpolation=None)
                try:
                    info.read_string(text.decode("utf-8", "replace"))
                except configparser.Error:
                    continue
                self._info = info
                break
        return self._info

    def identify(self) -> osinfo.Os | None:
        """The system that it installs, None where nobody knows. Raises MediaError."""
        return media.identify_by(self.info)

    def boot_files(
        self, arch: str, system: osinfo.Os | None, kernel: str | None = None, initrd: str | None = None
    ) -> BootFiles:
        """Its kernel and initrd, as temporary files. Raises MediaError where there are none."""
        pairs: list[tuple[str, str | None]] = (
            [(kernel, initrd)] if kernel is not None else self._candidates(arch, system)
        )
        for kernel_path, initrd_path in pairs:
            made: list[str] = []
            try:
                for path in (kernel_path, initrd_path):
                    if path is not None:
                        found = self._fetch(path)
                        if found is None:
                            break
                        made.append(found)
                else:
                    args = None
                    if self.info is not None or "pxeboot" in kernel_path:
                        # Anaconda asks where it comes from
                        args = f"inst.repo={self.url}" if kernel is None else None
                    elif "boot/" in kernel_path and kernel_path.endswith("loader/linux"):
                        args = f"install={self.url}"
                    return BootFiles(made[0], made[1] if len(made) > 1 else None, args=args, temporary=made)
            except BaseException:
                _remove(made)
                raise
            _remove(made)
        looked = ", ".join(dict.fromkeys(kernel_path for kernel_path, _ in pairs[:6]))
        raise MediaError(
            f"Couldn't find kernel for install tree '{self.url}' (looked for {looked});"
            " say where it is: --location URL,kernel=PATH,initrd=PATH"
        )

    def _candidates(self, arch: str, system: osinfo.Os | None) -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []
        info = self.info
        if info is not None:
            section = f"images-{info.get('general', 'arch', fallback=arch)}"
            kernel = info.get(section, "kernel", fallback=None)
            if kernel:
                found.append((kernel, info.get(section, "initrd", fallback=None)))
        for tree in system.trees if system is not None else []:
            if tree.arch in (arch, "all") and tree.kernel and (tree.kernel, tree.initrd) not in found:
                found.append((tree.kernel, tree.initrd))
        debian = _DEBIAN_ARCHES.get(arch)
        if debian is not None:
            suite = self.url.rpartition("/")[2]
            for folder in _DEBIAN_PATHS:
                at = folder.format(arch=debian, suite=suite)
                for base in (f"{at}netboot/debian-installer/{debian}/", f"{at}netboot/ubuntu-installer/{debian}/"):
                    found.append((f"{base}linux", f"{base}initrd.gz"))
        return [*found, *media.places(arch)]

    # -- the server

    def _open(self, path: str) -> Any:
        """The file ``path``, None where there is none. Raises MediaError where the server does not answer."""
        url = f"{self.url}/{path.lstrip('/')}"
        try:
            return urlopen(Request(url), timeout=_TIMEOUT_S)
        except URLError as error:
            code = getattr(error, "code", None)
            if code in (403, 404, 410) or "550" in str(error.reason):
                return None
            raise MediaError(f"Error validating install location: '{url}' cannot be read: {error.reason}") from None
        except OSError as error:
            raise MediaError(f"Error validating install location: '{url}' cannot be read: {error}") from None

    def _read(self, path: str) -> bytes | None:
        answer = self._open(path)
        if answer is None:
            return None
        with answer:
            return bytes(answer.read(1 << 20))

    def _fetch(self, path: str) -> str | None:
        """The file ``path`` as a temporary one, None where there is none."""
        answer = self._open(path)
        if answer is None:
            return None
        name = path.rpartition("/")[2]
        descriptor, local = tempfile.mkstemp(prefix="virtinst-", suffix=f"-{name}", dir="/var/tmp")
        try:
            with answer, os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(answer, file)
            # QEMU runs as another user
            os.chmod(local, 0o644)  # noqa: PTH101
        except BaseException:
            os.unlink(local)  # noqa: PTH108
            raise
        return local


def _remove(paths: list[str]) -> None:
    remove: Callable[[str], None] = os.unlink
    for path in paths:
        remove(path)
