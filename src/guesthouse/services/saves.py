"""Guests saved to a file and brought back, and the image that the daemon manages: what the next start goes on from.

A save: the row says "saving" and where the draft is; the guest is paused; QEMU writes into the draft; the draft is on
the disk; the row says "saved"; the draft takes its name; the guest is ended. Until the row says "saved" the guest goes
on where anything fails, the daemon's death included, and the draft is removed; afterwards the image counts and the
guest ends, so that there is never an image that is older than the guest's disks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from pathlib import Path
from typing import Any

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import (
    GuesthouseError,
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    SystemFailure,
    check_flags,
)
from guesthouse.model import abi
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.domain import Cpu, Domain
from guesthouse.model.inactive import inactive
from guesthouse.qemu import migration, save_image
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.save_image import Draft, Saved
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.documents import running
from guesthouse.services.faults import step
from guesthouse.services.guests import KIND, Guest, Guests, Lifecycle, Reason, State
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Restoring, Runner
from guesthouse.services.long_jobs import LongJob, LongJobs
from guesthouse.services.refs import DomainRef
from guesthouse.services.typed import checked

_log = logging.getLogger(__name__)

# virDomainSaveRestoreFlags
_BYPASS_CACHE, _RUNNING, _PAUSED, _RESET_NVRAM = 1, 2, 4, 8
_SAVE_FLAGS = _BYPASS_CACHE | _RUNNING | _PAUSED
_RESTORE_FLAGS = _SAVE_FLAGS | _RESET_NVRAM
_XML_SECURE = 1
_OPERATION_SAVE = 2
_SAVING, _SAVED = "saving", "saved"

_PARAMS = {"file": "string", "dxml": "string"}


class Saves:
    """Saves and restores guests. ``defaults`` completes the documents that clients send."""

    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, runner: Runner, long_jobs: LongJobs) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._runner = runner
        self._long_jobs = long_jobs
        self._folder = ctx.paths.state / "save"
        self.defaults = GuestDefaults()
        runner.recoveries[_SAVING] = self._give_up
        runner.recoveries[_SAVED] = self._finish

    def load(self) -> None:
        """Learn which guests have a managed image; the definitions are known."""
        for guest in self._guests:
            guest.saved = self._image(guest).exists()

    def _image(self, guest: Guest) -> Path:
        return self._folder / f"{guest.uuid}.save"

    # -- saving

    async def save(self, dom: DomainRef, to: str) -> None:
        await self.save_flags(dom, to, None, 0)

    async def save_flags(self, dom: DomainRef, to: str, dxml: str | None, flags: int) -> None:
        _check(flags, _SAVE_FLAGS, "qemuDomainSaveFlags")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "save"):
            await self._save(guest, _target(to), dxml, flags, managed=False)

    async def save_params(self, dom: DomainRef, params: list[Any], flags: int) -> None:
        """Without a file it is the managed image."""
        _check(flags, _SAVE_FLAGS, "qemuDomainSaveParams")
        given = checked(params, _PARAMS)
        if given.get("file") is not None:
            await self.save_flags(dom, given["file"], given.get("dxml"), flags)
            return
        await self._managed_save(dom, given.get("dxml"), flags)

    async def managed_save(self, dom: DomainRef, flags: int) -> None:
        _check(flags, _SAVE_FLAGS, "qemuDomainManagedSave")
        await self._managed_save(dom, None, flags)

    async def _managed_save(self, dom: DomainRef, dxml: str | None, flags: int) -> None:
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "managed-save"):
            running(guest)
            if not guest.persistent:
                raise OperationInvalid("cannot do managed save for transient domain", domain=ErrorDomain.QEMU)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await self._save(guest, self._image(guest), dxml, flags, managed=True)

    async def _save(self, guest: Guest, target: Path, dxml: str | None, flags: int, *, managed: bool) -> None:
        """Save a guest whose job is held, and end it. Where that fails it goes on, and ``target`` is as it was."""
        machine = running(guest)
        if guest.state not in (State.RUNNING, State.PAUSED):
            raise OperationInvalid("domain is not running")
        if any(disk.transient is not None for disk in guest.current.dev.disks):
            raise OperationInvalid("migration with transient disk is not supported", domain=ErrorDomain.QEMU)
        was_running, reason = guest.state == State.RUNNING, guest.reason
        document = self._stored(guest)
        if dxml is not None:
            document = self._changed(document, dxml)
        cpu = guest.live.cpu if guest.live is not None and guest.asked_cpu is not None else None
        saved = Saved(document.to_xml(secrets=True), _runs(flags, was_running), cpu.to_xml() if cpu is not None else "")
        row = self._ctx.store.get_runtime(KIND, guest.uuid)
        assert row is not None
        where = {"draft": str(save_image.draft_path(target, guest.uuid)), "target": str(target), "managed": managed}
        during = {**row, "phase": _SAVING, "save": where, "resume": was_running}
        self._ctx.store.put_runtime(KIND, guest.uuid, during)
        step("save-row")
        draft: Draft | None = None

        async def cancel() -> None:
            await migration.cancel(machine)

        job = LongJob(_OPERATION_SAVE, "domain save", cancel)
        self._long_jobs.begin(guest, job)
        try:
            draft = await asyncio.to_thread(Draft, target, guest.uuid)
            await self._write(guest, machine, draft, saved, job, bool(flags & _BYPASS_CACHE))
            job.check()
            during |= {"phase": _SAVED, "resume": False}
            self._ctx.store.put_runtime(KIND, guest.uuid, during)
            step("save-decided")
            draft.commit()
        except BaseException as error:
            self._long_jobs.end(guest, completed=False)
            await asyncio.shield(self._back(guest, machine, draft, row, was_running, reason))
            job.check()
            raise error
        finally:
            if draft is not None:
                draft.close()
        step("save-named")
        guest.saved = guest.saved or managed
        self._long_jobs.end(guest, completed=True)
        await self._runner.end(guest, Reason.SHUTOFF_SAVED, Lifecycle.STOPPED_SAVED)

    async def _write(
        self, guest: Guest, machine: Machine, draft: Draft, saved: Saved, job: LongJob, bypass: bool
    ) -> None:
        await asyncio.to_thread(draft.begin, saved)
        if guest.state == State.RUNNING:
            guest.set_state(State.PAUSED, Reason.PAUSED_SAVE)
            await machine.stop()
            self._guests.emit(guest, Lifecycle.SUSPENDED_PAUSED)
        step("save-paused")
        job.check()
        last = await migration.outgoing(machine, draft.fd, job.tell)
        job.tell(last)
        job.check()
        if last["status"] != "completed":
            raise OperationFailed(f"job '{job.title}' {_why(last, draft)}", domain=ErrorDomain.QEMU)
        step("save-written")
        await asyncio.to_thread(draft.flush, drop=bypass)
        step("save-flushed")

    async def _back(
        self, guest: Guest, machine: Machine, draft: Draft | None, row: dict[str, Any], runs: bool, reason: int
    ) -> None:
        """Have a guest go on whose save came to nothing; nothing here hides why."""
        if draft is not None:
            draft.discard()
        if not machine.running or guest.stopping:
            return  # its end is dealt with as any guest's
        self._ctx.store.put_runtime(KIND, guest.uuid, row)
        try:
            await migration.cancel(machine)
            await migration.settled(machine)
            if runs and guest.state == State.PAUSED:
                await machine.cont()
                guest.set_state(State.RUNNING, Reason.RUNNING_SAVE_CANCELED)
                self._guests.emit(guest, Lifecycle.RESUMED_UNPAUSED)
            elif not runs:
                guest.set_state(State.PAUSED, reason)
        except GuesthouseError as error:
            _log.error("%s could not be let go on after its save: %s", guest.name, error)

    def _stored(self, guest: Guest) -> Domain:
        assert guest.live is not None
        out = inactive(guest.live, guest.definition, str(self._ctx.paths.run))
        out.cpu = guest.asked_cpu.copy() if guest.asked_cpu is not None else out.cpu
        return out

    def _changed(self, source: Domain, xml: str) -> Domain:
        """The document that a client sent in place of ``source``. Raises ConfigUnsupported where the state would not
        fit it."""
        target = Domain.from_xml(xml, "(domain_definition)")
        prepare(target, self.defaults)
        admit(Named(KIND, target.name or "", target.uuid or ""))
        self._runner.admit_disks(target.uuid, target.dev.disks)
        abi.check(source, target)
        return target

    # -- restoring

    async def restore(self, **args: Any) -> None:
        await self.restore_flags(dxml=None, flags=0, **args)

    async def restore_flags(self, *, dxml: str | None, flags: int, **args: Any) -> None:
        await self._restore(args["from"], dxml, flags, "qemuDomainRestoreFlags")

    async def restore_params(self, params: list[Any], flags: int) -> None:
        given = checked(params, _PARAMS)
        if given.get("file") is None:
            raise InvalidArg("missing path to restore from")
        await self._restore(given["file"], given.get("dxml"), flags, "qemuDomainRestoreParams")

    async def _restore(self, path: str, dxml: str | None, flags: int, function: str) -> None:
        """The file stays; its owner knows when it is older than the disks."""
        _check(flags, _RESTORE_FLAGS, function)
        fd, saved = await asyncio.to_thread(save_image.open_image, path)
        try:
            document = _admitted(saved.xml)
            if dxml is not None:
                document = self._changed(document, dxml)
            guest = self._guests.same(document)
            if guest is not None and guest.active:
                raise OperationInvalid(f"domain '{guest.name}' is already active")
            guest = guest or self._guests.add(Guest(document.name or "", document.uuid or ""))
            async with self._jobs.changing(guest.uuid, "restore"):
                try:
                    if guest.active:
                        raise OperationInvalid(f"domain '{guest.name}' is already active")
                    await self._runner.start(
                        guest,
                        document,
                        paused=not _runs(flags, saved.running),
                        restoring=Restoring(fd, cpu=_cpu(saved)),
                    )
                except BaseException:
                    if not guest.persistent and not guest.active:
                        self._guests.remove(guest)
                    raise
            _forget_cache(fd, flags)
        finally:
            os.close(fd)

    async def start(self, guest: Guest, *, paused: bool, bypass_cache: bool) -> None:
        """Start a guest, whose job is held, from its managed image, which is used up by that. On an error all is as
        before."""
        image = self._image(guest)
        fd, saved = await asyncio.to_thread(save_image.open_image, image)
        try:
            document = Domain.from_xml(saved.xml)
            restoring = Restoring(fd, use_up=image, cpu=_cpu(saved))
            await self._runner.start(guest, document, paused=paused or not saved.running, restoring=restoring)
            _forget_cache(fd, _BYPASS_CACHE if bypass_cache else 0)
        finally:
            os.close(fd)

    # -- the managed image

    def has_managed_save_image(self, dom: DomainRef, flags: int) -> int:
        check_flags(flags, 0, "qemuDomainHasManagedSaveImage")
        return int(self._guests.find(dom).saved)

    async def managed_save_remove(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainManagedSaveRemove")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "managed-save-remove"):
            if not guest.saved:
                raise SystemFailure.from_os(
                    FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), self._kept(guest)
                )
            self.drop(guest)

    def _kept(self, guest: Guest) -> str:
        return f"Failed to remove managed save file '{self._image(guest)}'"

    def drop(self, guest: Guest) -> None:
        """Remove the managed image, if there is one. Raises SystemFailure."""
        try:
            self._image(guest).unlink(missing_ok=True)
        except OSError as error:
            raise SystemFailure.from_os(error, self._kept(guest)) from None
        guest.saved = False

    def managed_save_get_xml_desc(self, dom: DomainRef, flags: int) -> str:
        check_flags(flags, _XML_SECURE, "qemuDomainManagedSaveGetXMLDesc")
        return self._described(self._existing(dom), flags)

    def managed_save_define_xml(self, dom: DomainRef, dxml: str | None, flags: int) -> None:
        _check(flags, _RUNNING | _PAUSED, "qemuDomainManagedSaveDefineXML")
        self._redefine(self._existing(dom), dxml or "", flags)

    def _existing(self, dom: DomainRef) -> Path:
        guest = self._guests.find(dom)
        if not guest.saved:
            raise OperationInvalid("domain does not have managed save image", domain=ErrorDomain.QEMU)
        return self._image(guest)

    # -- images of any place

    def save_image_get_xml_desc(self, file: str, flags: int) -> str:
        check_flags(flags, _XML_SECURE, "qemuDomainSaveImageGetXMLDesc")
        return self._described(file, flags)

    def save_image_define_xml(self, file: str, dxml: str, flags: int) -> None:
        _check(flags, _RUNNING | _PAUSED, "qemuDomainSaveImageDefineXML")
        self._redefine(file, dxml, flags)

    def _described(self, image: str | Path, flags: int) -> str:
        return _admitted(save_image.read(image).xml).to_xml(secrets=bool(flags & _XML_SECURE))

    def _redefine(self, image: str | Path, xml: str, flags: int) -> None:
        saved = save_image.read(image)
        document = self._changed(_admitted(saved.xml), xml)
        save_image.rewrite(image, Saved(document.to_xml(secrets=True), _runs(flags, saved.running), saved.cpu))

    # -- after a restart of the daemon

    async def _give_up(self, guest: Guest, row: dict[str, Any], alive: bool) -> bool:
        """A save was cut off before it was decided: the guest goes on."""
        if alive:
            assert guest.machine is not None
            await migration.cancel(guest.machine)
            await migration.settled(guest.machine)
        Path(row.pop("save")["draft"]).unlink(missing_ok=True)
        row["phase"] = "running"
        _log.warning("the save of %s was cut off, and is given up", guest.name)
        return False

    async def _finish(self, guest: Guest, row: dict[str, Any], alive: bool) -> bool:
        """A save was decided: the image takes its name, if it has not yet, and the guest ends."""
        draft, target = Path(row["save"]["draft"]), Path(row["save"]["target"])
        if draft.exists():
            save_image.commit(draft, target)
        guest.saved = guest.persistent and self._image(guest).exists()
        await self._runner.end(guest, Reason.SHUTOFF_SAVED, Lifecycle.STOPPED_SAVED)
        return True


def _admitted(xml: str) -> Domain:
    """The document of an image. Raises AccessDenied where who called may not have its guest."""
    document = Domain.from_xml(xml)
    admit(Named(KIND, document.name or "", document.uuid or ""))
    return document


def _target(path: str) -> Path:
    """Where an image may be written. Raises SystemFailure or OperationFailed."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except OSError as error:
        raise SystemFailure.from_os(error, f"Failed to create file '{path}'") from None
    if stat.S_ISDIR(mode):
        raise SystemFailure.from_os(
            IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)), f"Failed to create file '{path}'"
        )
    if not stat.S_ISREG(mode):
        raise OperationFailed(f"'{path}' is no regular file, and a guest can only be saved to such")
    return target


def _cpu(saved: Saved) -> Cpu | None:
    return Cpu.from_xml(saved.cpu) if saved.cpu else None


def _check(flags: int, supported: int, function: str) -> None:
    check_flags(flags, supported, function)
    if flags & _RUNNING and flags & _PAUSED:
        raise InvalidArg("Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive")


def _runs(flags: int, otherwise: bool) -> bool:
    return bool(flags & _RUNNING) or (otherwise and not flags & _PAUSED)


def _why(progress: dict[str, Any], draft: Draft) -> str:
    """Why QEMU gave a migration up: in its own words, or that the disk is full, which it does not say."""
    said = progress.get("error-desc")
    space = os.fstatvfs(draft.fd)
    if space.f_bavail == 0:
        said = os.strerror(errno.ENOSPC)
    return f"failed: {said}" if said else "unexpectedly failed"


def _forget_cache(fd: int, flags: int) -> None:
    """Leave nothing of the image in the host's cache, where that was asked for."""
    if flags & _BYPASS_CACHE:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
