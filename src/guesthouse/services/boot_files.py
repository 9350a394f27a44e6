"""What a guest needs of the host's files to boot: its firmware and its variables, folders for its memory, what the host's
own firmware says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, OperationInvalid, SystemFailure
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host import sysinfo
from guesthouse.model.domain import Domain
from guesthouse.model.sysinfo import SysInfo
from guesthouse.qemu import firmware, memory
from guesthouse.qemu.process import User
from guesthouse.services.context import Paths

_NVRAM, _KEEP_NVRAM = 4, 8


def nvram_folder(paths: Paths) -> Path:
    return paths.state / "qemu" / "nvram"


def choose_firmware(live: Domain, paths: Paths, *, reset: bool = False) -> None:
    """Raises what :func:`guesthouse.qemu.firmware.choose` raises."""
    firmware.choose(live, nvram_folder(paths), firmware.FOLDERS, reset=reset)


def make_variables(live: Domain, user: User, *, reset: bool = False) -> None:
    """Raises what :func:`guesthouse.qemu.firmware.make_nvram` raises."""
    firmware.make_nvram(live, user.uid, user.gid, reset=reset)


def files(live: Domain) -> list[tuple[str, bool]]:
    """The files that QEMU opens to boot a live document, each with whether it writes to it."""
    os_ = live.os
    if os_ is None:
        return []
    loader = os_.loader
    found = [(path, False) for path in (os_.kernel, os_.initrd, os_.dtb) if path]
    if loader is not None and loader.path:
        found.append((loader.path, loader.type == "pflash" and not loader.readonly))
    if os_.nvram is not None and os_.nvram.file is not None:
        found.append((os_.nvram.file, True))
    for table in os_.acpi.tables if os_.acpi is not None else []:
        found.append(((table.path or "").strip(), False))
    for info in live.sysinfos:
        found += [(entry.file, False) for entry in info.entries if entry.file and not entry.value]
    for module in live.dev.memories:
        if module.path is not None:
            readonly = module.target is not None and module.target.readonly
            found.append((module.path, not readonly))
    return found


def forget_variables(document: Domain, paths: Paths, flags: int) -> None:
    """As a guest is undefined: its variables go where ``flags`` say so, and keep it from going where they say nothing.
    Raises OperationInvalid, SystemFailure."""
    if flags & _NVRAM and flags & _KEEP_NVRAM:
        raise OperationInvalid("cannot both keep and delete nvram", domain=ErrorDomain.QEMU)
    os_ = document.os
    path = os_.nvram.file if os_ is not None and os_.nvram is not None else None
    if path is None and os_ is not None and os_.firmware == "efi":
        path = str(firmware.nvram_path(nvram_folder(paths), document.name or ""))
    if path is None or not Path(path).exists():
        return
    if flags & _NVRAM:
        try:
            Path(path).unlink()
        except OSError as error:
            raise SystemFailure.from_os(error, f"failed to remove nvram: {path}") from None
    elif not flags & _KEEP_NVRAM:
        raise OperationInvalid("cannot undefine domain with nvram", domain=ErrorDomain.QEMU)


def host_tables(live: Domain) -> SysInfo | None:
    """What the host's firmware says, where the guest is to say the same (milliseconds, in another process); None where
    it says nothing."""
    mode = live.os.smbios.mode if live.os is not None and live.os.smbios is not None else None
    if mode != "host":
        return None
    try:
        return sysinfo.read()
    except ConfigUnsupported:
        return None


def memory_places(paths: Paths, short: str) -> memory.Places:
    return memory.Places.on_this_host(str(paths.state / "qemu" / "ram" / short))


def make_folders(places: memory.Places, user: User) -> None:
    """Make the folders for memory that a command has named. Raises SystemFailure."""
    for name in sorted(places.named):
        try:
            folder = Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            if not user.same:
                os.chown(folder, user.uid, user.gid)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Unable to create {name}") from None


def remove_folders(paths: Paths, short: str) -> None:
    """Take away the folders for memory of a guest that has ended, with what is left in them."""
    for folder in memory_places(paths, short).all():
        shutil.rmtree(folder, ignore_errors=True)
