"""Making, copying, growing, wiping and removing the files of volumes.

A volume that could not be made whole leaves nothing behind, whatever the reason: an error, a full disk, a caller who
went away, a daemon that was killed (see :mod:`guesthouse.storage.drafts`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from guesthouse.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    Domain,
    InternalError,
    NoSupport,
    OperationUnsupported,
)
from guesthouse.model.storage import Volume
from guesthouse.model.storage_rules import default_permissions
from guesthouse.storage.directory import set_cow, system_failure
from guesthouse.storage.drafts import Draft
from guesthouse.storage.work import Check, in_thread, run

#: Names of libvirt's wiping algorithms by number; the first is the only one there is a program for everywhere.
WIPE_ALGORITHMS = ["zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"]

_STEP = 1 << 30
_BUFFER = 1 << 20
_PAGE = 4096
_ZEROS = bytes(_BUFFER)
_FICLONE = 0x40049409


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=Domain.STORAGE)


# -- making


async def create(
    volume: Volume, *, source: Volume | None = None, preallocate: bool = False, reflink: bool = False
) -> None:
    """Make the file of ``volume``, empty or as a copy of ``source``. ``volume.allocation`` bytes of a raw file are
    taken from the disk at once. ``preallocate``: qcow2's tables (or all of it, where the allocation asks for it).
    ``reflink``: share the blocks of ``source``, or fail.

    Raises ConfigUnsupported or NoSupport for what the format cannot do, SystemFailure (ENOSPC where the disk is
    full), InternalError with qemu-img's words.
    """
    format = volume.target.format_name
    if source is not None and "dir" in (format, source.target.format_name):
        raise InternalError("cannot copy from volume to a directory volume", domain=Domain.STORAGE)
    if source is not None and (format != "raw" or source.target.format_name != "raw"):
        await _qemu_img(volume, source, preallocate)
    elif format == "raw":
        _check_raw(volume, preallocate)
        await in_thread(lambda check: _create_raw(volume, source, reflink, check))
    elif format == "dir":
        await in_thread(lambda check: _create_folder(volume))
    elif format == "ploop":
        raise InternalError("unable to find ploop, please install ploop tools", domain=Domain.STORAGE)
    else:
        await _qemu_img(volume, None, preallocate)


def _check_raw(volume: Volume, preallocate: bool) -> None:
    if preallocate:
        raise _unsupported("metadata preallocation is not supported for raw volumes")
    if volume.backing_store is not None:
        raise NoSupport("backing storage not supported for raw volumes", domain=Domain.STORAGE)
    if volume.target.encryption is not None:
        raise _unsupported("storage pool does not support encrypted volumes")


def _create_raw(volume: Volume, source: Volume | None, reflink: bool, check: Check) -> None:
    path, allocation = volume.path, volume.allocation or 0
    want_all = allocation > 0 and (source is None or allocation >= (source.capacity or 0))
    draft = Draft(path)
    try:
        if volume.target.nocow:
            set_cow(draft.path, False)
        try:
            os.ftruncate(draft.fd, volume.capacity or 0)
        except OSError as error:
            raise system_failure(error, f"cannot extend file '{path}'") from None
        if want_all:
            allocate(draft.fd, path, 0, allocation, check)
        if source is not None:
            _copy(source.path, draft.fd, path, check, skip_zeros=not want_all, reflink=reflink)
        draft.publish(default_permissions(volume.target))
    except BaseException:
        draft.discard()
        raise


def allocate(fd: int, path: str, start: int, size: int, check: Check) -> None:
    """Take ``size`` bytes of the disk for the open file, from ``start`` on. Raises SystemFailure: before it begins
    where the disk has plainly no room, so that a wish too big does not fill it first."""
    what = f"cannot allocate {size} bytes in file '{path}'"
    try:
        room = os.fstatvfs(fd)
        held = os.fstat(fd).st_blocks * 512
        if size - held > room.f_bfree * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        end = start + size
        while start < end:
            check()
            os.posix_fallocate(fd, start, min(_STEP, end - start))
            start += _STEP
    except OSError as error:
        raise system_failure(error, what) from None


async def fill(path: str, source: Volume) -> None:
    """Write the contents of ``source`` onto a block device that is long enough. Raises SystemFailure, InternalError."""
    if source.target.format_name in ("raw", "none") or source.type == "block":

        def write(check: Check) -> None:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise system_failure(error, f"cannot create path '{path}'") from None
            try:
                _copy(source.path, fd, path, check, skip_zeros=False, reflink=False)
                os.fdatasync(fd)
            finally:
                os.close(fd)

        await in_thread(write)
    else:
        await run("qemu-img", "convert", "-n", "-f", _image_format(source), "-O", "raw", source.path, path)


def _copy(source: str, fd: int, path: str, check: Check, *, skip_zeros: bool, reflink: bool) -> None:
    try:
        input_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise system_failure(error, f"could not open input path '{source}'") from None
    try:
        if reflink or skip_zeros:
            try:
                fcntl.ioctl(fd, _FICLONE, input_fd)
            except OSError as error:
                if reflink:
                    raise system_failure(error, f"failed to clone files from '{source}'") from None
            else:
                return
        _copy_data(input_fd, fd, check, skip_zeros)
    except OSError as error:
        raise system_failure(error, f"failed writing to file '{path}'") from None
    finally:
        os.close(input_fd)


def _copy_data(source: int, fd: int, check: Check, skip_zeros: bool) -> None:
    """Copy data, not holes: a new file reads as zeros there already. Devices have none, and hold what they held."""
    end = os.lseek(source, 0, os.SEEK_END)
    files = all(stat.S_ISREG(os.fstat(each).st_mode) for each in (source, fd))
    at = 0
    while at < end:
        try:
            start = os.lseek(source, at, os.SEEK_DATA) if files else at
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        at = os.lseek(source, start, os.SEEK_HOLE) if files else end
        while start < at:
            check()
            block = os.pread(source, min(_BUFFER, at - start), start)
            if not block:
                return
            if skip_zeros:
                _write_sparse(fd, block, start)
            else:
                write_all(fd, block, start)
            start += len(block)


def _write_sparse(fd: int, block: bytes, offset: int) -> None:
    if block == _ZEROS[: len(block)]:
        return
    page = _ZEROS[:_PAGE]
    start: int | None = None
    for at in range(0, len(block), _PAGE):
        part = block[at : at + _PAGE]
        if part == page[: len(part)]:
            if start is not None:
                write_all(fd, block[start:at], offset + start)
                start = None
        elif start is None:
            start = at
    if start is not None:
        write_all(fd, block[start:], offset + start)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


def _create_folder(volume: Volume) -> None:
    path = Path(volume.path)
    if volume.backing_store is not None:
        raise NoSupport("backing storage not supported for directories volumes", domain=Domain.STORAGE)
    wanted = default_permissions(volume.target)
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise system_failure(error, f"failed to create directory '{path}'") from None
    try:
        if wanted.owner is not None or wanted.group is not None:
            os.chown(path, -1 if wanted.owner is None else wanted.owner, -1 if wanted.group is None else wanted.group)
        path.chmod(0o600 if wanted.mode is None else wanted.mode)
    except OSError as error:
        path.rmdir()
        raise system_failure(error, f"failed to create directory '{path}'") from None


async def _qemu_img(volume: Volume, source: Volume | None, preallocate: bool) -> None:
    args = _qemu_img_args(volume, source, preallocate)
    wanted = default_permissions(volume.target)
    draft = await in_thread(lambda check: Draft(volume.path))
    try:
        if volume.target.nocow:
            await in_thread(lambda check: set_cow(draft.path, False))
        size = []
        if source is None and (volume.capacity or volume.backing_store is None):
            size = [f"{-(-(volume.capacity or 0) // 1024)}K"]
        await run("qemu-img", *args, draft.path, *size, keep=[draft.fd])
        if source is not None and (volume.capacity or 0) > (source.capacity or 0):
            # the copy is as long as its source: libvirt's documentation promises what was asked for
            format = _image_format(volume)
            await run("qemu-img", "resize", "-f", format, draft.path, str(volume.capacity), keep=[draft.fd])
        await in_thread(lambda check: draft.publish(wanted))
    except InternalError as error:
        draft.discard()
        # the name that the image has for a while says nothing to anybody
        raise InternalError(error.detail.replace(draft.path, volume.path), domain=Domain.STORAGE) from None
    except BaseException:
        draft.discard()
        raise


def _image_format(volume: Volume) -> str:
    """What qemu-img calls the format."""
    format = volume.target.format_name
    return "raw" if format == "iso" else format


def _qemu_img_args(volume: Volume, source: Volume | None, preallocate: bool) -> list[str]:
    """qemu-img's arguments but for the target's path and size; as libvirt's, which makes qcow2 images of version 2
    unless the document names another ``compat``. Raises ConfigUnsupported, SystemFailure."""
    target, format, backing = volume.target, _image_format(volume), volume.backing_store
    if target.encryption is not None:
        if target.encryption.format != "luks" and format in ("qcow", "qcow2"):
            raise _unsupported("creation of qcow2 encrypted image is not supported")
        raise _unsupported("storage pool does not support encrypted volumes")
    if format != "qcow2":
        if preallocate:
            raise _unsupported("metadata preallocation only available with qcow2")
        if target.compat is not None:
            raise _unsupported("compatibility option only available with qcow2")
        if target.features is not None:
            raise _unsupported("format features only available with qcow2")
    if backing is not None:
        _check_backing(volume, source, preallocate)
    options = []
    if backing is not None and source is None:
        options.append(f"backing_fmt={backing.format_name}")
    if preallocate:
        options.append(f"preallocation={'metadata' if (volume.capacity or 0) > (volume.allocation or 0) else 'falloc'}")
    if format == "qcow2":
        options.append(f"compat={target.compat or '0.10'}")
    if target.cluster_size is not None:
        options.append(f"cluster_size={target.cluster_size.value}")
    if target.features is not None:
        for feature, wanted in (
            ("lazy_refcounts", target.features.lazy_refcounts),
            ("extended_l2", target.features.extended_l2),
        ):
            if wanted and target.compat == "0.10":
                raise _unsupported(f"{feature} not supported with compat level {target.compat}")
            if wanted:
                options.append(f"{feature}=on")
    if source is not None:
        args = ["convert", "-f", _image_format(source), "-O", format]
    else:
        args = ["create", "-f", format]
        if backing is not None:
            args += ["-b", backing.path or ""]
    if options:
        args += ["-o", ",".join(options)]
    return [*args, source.path] if source is not None else args


def _check_backing(volume: Volume, source: Volume | None, preallocate: bool) -> None:
    backing = volume.backing_store
    assert backing is not None and backing.path is not None
    if _image_format(volume) == "raw":
        raise _unsupported("cannot set backing store for raw volume")
    if preallocate:
        raise _unsupported("metadata preallocation conflicts with backing store")
    if source is not None and source.backing_store is not None and source.backing_store.path != backing.path:
        raise InternalError("a different backing store cannot be specified.", domain=Domain.STORAGE)
    try:
        os.close(os.open(Path(volume.path).parent / backing.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        raise system_failure(error, f"inaccessible backing store volume {backing.path}") from None


# -- changing


async def resize(volume: Volume, capacity: int, *, take: bool) -> None:
    """Make the image ``capacity`` bytes long; ``take`` the disk space of a raw one at once. As long as before where
    that fails. Raises OperationUnsupported where ``take`` is asked of another format; SystemFailure, InternalError."""
    format = volume.target.format_name
    if format == "raw" and volume.target.encryption is None:
        await in_thread(lambda check: _resize_raw(volume.path, capacity, take, check))
        return
    if take:
        raise OperationUnsupported("preallocate is only supported for raw type volume", domain=Domain.STORAGE)
    if volume.target.encryption is not None:
        raise _unsupported("resize of qcow2 encrypted image is not supported")
    shrink = ["--shrink"] if capacity < (volume.capacity or 0) else []
    size = -(-capacity // 512) * 512
    await run("qemu-img", "resize", *shrink, "-f", _image_format(volume), volume.path, str(size))


def _resize_raw(path: str, capacity: int, take: bool, check: Check) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise system_failure(error, f"Unable to open '{path}'") from None
    try:
        before = os.fstat(fd).st_size
        try:
            if take:
                allocate(fd, path, 0, capacity, check)
            os.ftruncate(fd, capacity)
        except OSError as error:
            raise system_failure(error, f"Failed to truncate file '{path}'") from None
        except BaseException:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


async def wipe(volume: Volume, algorithm: int) -> None:
    """Make the file read as zeros from end to end. Raises ArgumentUnsupported for any algorithm but "zero" (0),
    SystemFailure."""
    if algorithm != 0:
        text = f"'{WIPE_ALGORITHMS[algorithm]}' algorithm not supported"
        raise ArgumentUnsupported(text, domain=Domain.STORAGE)
    await in_thread(lambda check: _wipe(volume.path, check))


def _wipe(path: str, check: Check) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise system_failure(error, f"Failed to open storage volume with path '{path}'") from None
    try:
        facts = os.fstat(fd)
        size = os.lseek(fd, 0, os.SEEK_END)
        if stat.S_ISREG(facts.st_mode) and facts.st_blocks * 512 < size and facts.st_blksize:
            # sparse already: letting go of its blocks is enough
            os.ftruncate(fd, 0)
            os.ftruncate(fd, size)
            return
        for at in range(0, size, _BUFFER):
            check()
            write_all(fd, _ZEROS[: min(_BUFFER, size - at)], at)
        os.fdatasync(fd)
    except OSError as error:
        raise system_failure(error, f"Failed to write to storage volume with path '{path}'") from None
    finally:
        os.close(fd)


def clear(fd: int, start: int, length: int) -> None:
    """Have ``length`` bytes from ``start`` on read as zeros; the file grows if it ends before. Raises OSError."""
    end = start + length
    facts = os.fstat(fd)
    if stat.S_ISBLK(facts.st_mode):  # it has no holes
        for at in range(start, end, _BUFFER):
            write_all(fd, _ZEROS[: min(_BUFFER, end - at)], at)
        return
    size = facts.st_size
    at = start
    while at < min(end, size):
        with contextlib.suppress(OSError):  # ENXIO: no data from here on
            at = os.lseek(fd, at, os.SEEK_DATA)
            stop = min(os.lseek(fd, at, os.SEEK_HOLE), end)
            while at < stop:
                step = min(_BUFFER, stop - at)
                write_all(fd, _ZEROS[:step], at)
                at += step
            continue
        break
    if end > size:
        os.ftruncate(fd, end)


def delete(volume: Volume) -> None:
    """Remove the file. One that is gone already is no error. Raises SystemFailure, NoSupport for block volumes."""
    path = volume.path
    if volume.type == "dir":
        remove, what = os.rmdir, f"cannot remove directory '{path}'"
    elif volume.type == "file":
        remove, what = os.unlink, f"cannot unlink file '{path}'"
    else:
        raise NoSupport(f"removing block or network volumes is not supported: {path}", domain=Domain.STORAGE)
    try:
        remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise system_failure(error, what) from None
