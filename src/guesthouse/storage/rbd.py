"""Pools of type "rbd": a Ceph pool, its RBD images. Ceph's program does the work, with a configuration of the pool's own.

A guest's QEMU opens a volume by itself; clients cannot read or write it through the pool.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, InvalidArg, NoSupport
from guesthouse.model.storage import Pool, Volume, VolumeFormat, VolumeTarget
from guesthouse.storage import block
from guesthouse.storage.backend import Key, no_key
from guesthouse.storage.fixed import FixedPool
from guesthouse.storage.work import output

RBD, CEPH = "rbd", "ceph"
_TIMEOUTS = "client_mount_timeout = 30\nrados_mon_op_timeout = 30\nrados_osd_op_timeout = 30\nrbd_default_format = 2\n"


class Rbd(FixedPool):
    """See :class:`guesthouse.storage.backend.Backend`."""

    type = "rbd"
    programs: tuple[str, ...] = (RBD, CEPH)
    package = "ceph-common"
    streams = False

    def __init__(self, key: Key = no_key) -> None:
        self._key = key

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        """Raises InternalError where the cluster does not let us in. Images that cannot be read are left out."""
        space = await self._ask(pool, CEPH, "df")
        listed: list[str] = await self._ask(pool, RBD, "ls", "--pool", _name(pool))
        _take_space(pool, space)
        volumes = {}
        for name in listed:
            volume = Volume(name=name, target=VolumeTarget())
            try:
                await self.update(pool, volume)
            except GuesthouseError:
                continue
            volumes[name] = volume
        return volumes

    async def place(self, pool: Pool, volume: Volume) -> None:
        """Raises ConfigUnsupported for a format other than raw."""
        if volume.target.format_name != "raw":
            raise ConfigUnsupported("only RAW volumes are supported by this storage pool", domain=Domain.STORAGE)
        volume.type = "network"
        volume.target.path = volume.key = f"{_name(pool)}/{volume.name}"

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        if not volume.capacity:
            raise NoSupport("volume capacity required for this storage pool", domain=Domain.STORAGE)
        block.refuse_encryption(volume)
        await self._run(pool, "create", "--size", f"{volume.capacity}B", *_image(pool, volume))

    async def copy(self, pool: Pool, volume: Volume, source: Volume, *, preallocate: bool, reflink: bool) -> None:
        """All of the image is copied: libvirt makes a snapshot that both depend on. Raises ConfigUnsupported where
        ``source`` is not an image of this Ceph pool."""
        if source.path != f"{_name(pool)}/{source.name}" or source.type != "network":
            text = "volumes of this storage pool are copied within the pool alone"
            raise ConfigUnsupported(text, domain=Domain.STORAGE)
        await self._run(pool, "cp", "--no-progress", *_image(pool, source), "--dest-pool", _name(pool), *_dest(volume))
        if (volume.capacity or 0) > (source.capacity or 0):
            try:
                await self.resize(pool, volume, volume.capacity or 0, take=False)
            except BaseException:
                await self.remove(pool, volume)
                raise

    async def update(self, pool: Pool, volume: Volume) -> None:
        facts = await self._ask(pool, RBD, "info", *_image(pool, volume))
        try:
            volume.capacity = int(facts["size"])
            volume.allocation = int(facts["object_size"]) * int(facts["objects"])
        except (KeyError, TypeError, ValueError) as error:
            raise _unread(error) from None
        volume.type = "network"
        volume.target.format = VolumeFormat(type="raw")
        volume.target.path = volume.key = f"{_name(pool)}/{volume.name}"

    async def remove(self, pool: Pool, volume: Volume) -> None:
        await self._run(pool, "rm", "--no-progress", *_image(pool, volume))

    async def resize(self, pool: Pool, volume: Volume, capacity: int, *, take: bool) -> None:
        if take:
            raise InvalidArg("unsupported flags (0x1) in function virStorageBackendRBDResizeVol")
        shrink = ["--allow-shrink"] if capacity < (volume.capacity or 0) else []
        await self._run(pool, "resize", "--no-progress", "--size", f"{capacity}B", *shrink, *_image(pool, volume))

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        """Give up all of the image's objects: they read as zeros then. Raises InvalidArg for other algorithms."""
        if algorithm:
            raise InvalidArg(f"unsupported algorithm {algorithm}", domain=Domain.STORAGE)
        size = volume.capacity or 0
        await self._run(pool, "resize", "--no-progress", "--size", "0B", "--allow-shrink", *_image(pool, volume))
        await self._run(pool, "resize", "--no-progress", "--size", f"{size}B", *_image(pool, volume))

    # The programs

    async def _run(self, pool: Pool, *words: str) -> None:
        with self._cluster(pool) as (where, keep):
            await output(RBD, *where, *words, keep=keep)

    async def _ask(self, pool: Pool, program: str, *words: str) -> Any:
        with self._cluster(pool) as (where, keep):
            text = await output(program, *where, *words, "--format", "json", keep=keep)
        try:
            return json.loads(text)
        except ValueError as error:
            raise _unread(error) from None

    @contextmanager
    def _cluster(self, pool: Pool) -> Iterator[tuple[list[str], list[int]]]:
        """Words that name the cluster and us, and the files that they mean: these have no name, so that nobody else
        reads the key."""
        source, fds = pool.source, []
        assert source is not None
        auth = source.auth
        try:
            fds.append(_file(_configuration(pool)))
            words = ["--conf", _path(fds[0])]
            if auth is not None:
                fds.append(_file(base64.b64encode(self._key(auth)).decode()))
                words += ["--id", auth.username or "", "--keyfile", _path(fds[1])]
            yield words, fds
        finally:
            for fd in fds:
                os.close(fd)


def _configuration(pool: Pool) -> str:
    source = pool.source
    assert source is not None
    kind = "none" if source.auth is None else "cephx"
    hosts = []
    for host in source.hosts:
        name = f"[{host.name}]" if host.port and ":" in (host.name or "") else host.name or ""
        if any(character in name for character in "\n\r\0#;"):
            raise InternalError("received malformed monitor, check the XML definition", domain=Domain.STORAGE)
        hosts.append(f"{name}:{host.port}" if host.port else name)
    auth = "".join(f"auth_{what}_required = {kind}\n" for what in ("cluster", "service", "client"))
    return f"[global]\nmon_host = {','.join(hosts)}\n{auth}{_TIMEOUTS}"


def _file(text: str) -> int:
    fd = os.memfd_create("ceph", os.MFD_CLOEXEC)
    os.write(fd, text.encode())
    return fd


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _image(pool: Pool, volume: Volume) -> list[str]:
    return ["--pool", _name(pool), "--image", volume.name or ""]


def _dest(volume: Volume) -> list[str]:
    return ["--dest", volume.name or ""]


def _name(pool: Pool) -> str:
    return (pool.source and pool.source.name) or ""


def _take_space(pool: Pool, told: Any) -> None:
    """The cluster's size and room, and what the Ceph pool holds. Raises InternalError where it has no such pool."""
    try:
        pool.capacity, pool.available = int(told["stats"]["total_bytes"]), int(told["stats"]["total_avail_bytes"])
        held = next((each["stats"] for each in told["pools"] if each["name"] == _name(pool)), None)
        if held is not None:
            pool.allocation = int(held.get("stored", held.get("bytes_used", 0)))
    except (KeyError, TypeError, ValueError) as error:
        raise _unread(error) from None
    if held is None:
        text = f"failed to create the RBD IoCTX. Does the pool '{_name(pool)}' exist?"
        raise InternalError(text, domain=Domain.STORAGE)


def _unread(error: Exception) -> InternalError:
    return InternalError(f"cannot read what Ceph reports: {error!r}", domain=Domain.STORAGE)
