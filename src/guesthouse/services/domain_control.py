"""What is done to a running guest from outside: keys, interrupts, dumps of its memory, and QEMU's monitor itself."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from guesthouse.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemFailure,
    check_flags,
    from_wire,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.qemu import migration
from guesthouse.qemu.keycodes import CODESETS, to_qnum
from guesthouse.qemu.machine import Happening, Machine
from guesthouse.services.context import Context
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, running
from guesthouse.services.domain_stats import Params
from guesthouse.services.guests import Guest, Guests, Lifecycle, Reason, State
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Runner
from guesthouse.services.long_jobs import LongJob, LongJobs
from guesthouse.services.refs import DomainRef

_KEYS_MOST = 16
_DUMP_CRASH, _DUMP_LIVE, _DUMP_BYPASS, _DUMP_RESET, _DUMP_MEMORY_ONLY = 1, 2, 4, 8, 16
_DUMP_NAMES = {_DUMP_CRASH: "VIR_DUMP_CRASH", _DUMP_LIVE: "VIR_DUMP_LIVE", _DUMP_RESET: "VIR_DUMP_RESET"}
# virDomainCoreDumpFormat
_FORMATS = ("elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp")
_DUMP_FD = "dump"
_POLL = 0.05
_PAUSED_DUMP = 4
_HMP = 1
_MESSAGES_DEPRECATION, _MESSAGES_TAINTING = 1, 2
_OPERATION_DUMP = 8
_CUSTOM_MONITOR = ("custom-monitor", "custom monitor control commands issued")
# virDomainLifecycle and virDomainLifecycleAction
_LIFECYCLE = ("on_poweroff", "on_reboot", "on_crash")
_ACTIONS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart")


class DomainControl:
    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, runner: Runner, long_jobs: LongJobs) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._runner = runner
        self._long_jobs = long_jobs
        self._tainted: dict[str, Machine] = {}

    # -- input

    async def send_key(self, dom: DomainRef, codeset: int, holdtime: int, keycodes: list[int], flags: int) -> None:
        """Press the keys together. ``holdtime`` is milliseconds, 0 leaves it to QEMU."""
        check_flags(flags, 0, "qemuDomainSendKey")
        guest = self._guests.find(dom)
        if not 0 <= codeset < len(CODESETS):
            raise InvalidArg(f"unsupported codeset {codeset}")
        if len(keycodes) > _KEYS_MOST:
            raise InvalidArg(f"more than {_KEYS_MOST} keys cannot be pressed together")
        keys = []
        for code in keycodes:
            number = to_qnum(CODESETS[codeset], code)
            if number is None:
                raise InternalError(f"cannot translate keycode {code} of {CODESETS[codeset]} codeset to qnum keycode")
            keys.append({"type": "number", "data": number})
        arguments: dict[str, Any] = {"keys": keys}
        if holdtime:
            arguments["hold-time"] = holdtime
        async with self._jobs.changing(guest.uuid, "send-key"):
            await running(guest).execute("send-key", arguments)

    async def inject_nmi(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainInjectNMI")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "inject-nmi"):
            await running(guest).execute("inject-nmi")

    # -- dumps

    async def core_dump(self, dom: DomainRef, to: str, flags: int) -> None:
        await self.core_dump_with_format(dom, to, 0, flags)

    async def core_dump_with_format(self, dom: DomainRef, to: str, dumpformat: int, flags: int) -> None:
        """Write the guest's memory to the new file ``to``; unless live, it stands still meanwhile. On failure the file
        is gone again and the guest goes on."""
        check_flags(flags, 0x1F, "qemuDomainCoreDumpWithFormat")
        guest = self._guests.find(dom)
        for one, other in ((_DUMP_CRASH, _DUMP_LIVE), (_DUMP_CRASH, _DUMP_RESET), (_DUMP_LIVE, _DUMP_RESET)):
            if flags & one and flags & other:
                text = f"Flags '{_DUMP_NAMES[one]}' and '{_DUMP_NAMES[other]}' are mutually exclusive"
                raise from_wire(InvalidArg.code, ErrorDomain.DOMAIN, text)
        if not 0 <= dumpformat < len(_FORMATS):
            raise InvalidArg(f"unknown core dump format {dumpformat}")
        if dumpformat and not flags & _DUMP_MEMORY_ONLY:
            raise OperationUnsupported("kdump-compressed format is only supported with memory-only dump")
        async with self._jobs.changing(guest.uuid, "dump"):
            machine = running(guest)
            if flags & _DUMP_MEMORY_ONLY:
                await _need_format(machine, _FORMATS[dumpformat])
            was_running = guest.state == State.RUNNING
            job = LongJob(
                _OPERATION_DUMP, "dump", lambda: _cancel(machine, memory_only=bool(flags & _DUMP_MEMORY_ONLY))
            )
            self._long_jobs.begin(guest, job)
            completed = False
            try:
                if was_running and not (flags & _DUMP_LIVE and flags & _DUMP_MEMORY_ONLY):
                    await self._pause(guest, machine)
                await self._write(machine, to, _FORMATS[dumpformat] if flags & _DUMP_MEMORY_ONLY else None, job)
                completed = True
            finally:
                self._long_jobs.end(guest, completed=completed)
                if was_running and not (completed and flags & _DUMP_CRASH):
                    await self._go_on(guest, machine)
            if flags & _DUMP_CRASH:
                await self._runner.end(guest, Reason.SHUTOFF_CRASHED, Lifecycle.STOPPED_CRASHED)
            elif flags & _DUMP_RESET:
                await machine.reset()

    async def _go_on(self, guest: Guest, machine: Machine) -> None:
        if guest.state == State.PAUSED and machine.running and not guest.stopping:
            await machine.cont()
            guest.set_state(State.RUNNING, Reason.RUNNING_UNPAUSED)
            self._guests.emit(guest, Lifecycle.RESUMED_UNPAUSED)

    async def _pause(self, guest: Guest, machine: Machine) -> None:
        guest.set_state(State.PAUSED, _PAUSED_DUMP)
        try:
            await machine.stop()
        except BaseException:
            guest.set_state(State.RUNNING, Reason.RUNNING_UNPAUSED)
            raise
        self._guests.emit(guest, Lifecycle.SUSPENDED_PAUSED)

    async def _write(self, machine: Machine, to: str, format: str | None, job: LongJob) -> None:
        """The memory in ``format``, or with None the whole guest as QEMU migrates it."""
        try:
            fd = os.open(to, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Failed to create file '{to}'", domain=ErrorDomain.QEMU) from None
        try:
            if format is not None:
                await machine.give_fd(_DUMP_FD, fd)
                await _dump_memory(machine, format, job)
            else:
                progress = await migration.outgoing(machine, fd, job.tell)
                job.check()
                if progress.get("status") != "completed":
                    why = progress.get("error-desc", "unexpectedly failed")
                    raise OperationFailed(f"domain core dump job: {why}", domain=ErrorDomain.QEMU)
        except BaseException:
            Path(to).unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    # -- the monitor

    async def monitor_command(self, dom: DomainRef, cmd: str, flags: int) -> str:
        """Run a command of QEMU's as the client wrote it, for people (``flags`` HMP) or in JSON; returns the whole
        answer. The guest is marked as one that others have had their hands in."""
        check_flags(flags, _HMP, "qemuDomainQemuMonitorCommand")
        return await self._monitor_command(dom, cmd, flags, None)

    async def monitor_command_with_files(self, dom: DomainRef, cmd: str, flags: int, files: list[int]) -> str:
        """The same; QEMU gets a copy of the one descriptor that may come along."""
        check_flags(flags, _HMP, "qemuDomainQemuMonitorCommandWithFiles")
        if len(files) > 1:
            raise InvalidArg("at most 1 fd can be passed to qemu along with a command")
        return await self._monitor_command(dom, cmd, flags, files[0] if files else None)

    async def _monitor_command(self, dom: DomainRef, cmd: str, flags: int, fd: int | None) -> str:
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "monitor-command"):
            machine = running(guest)
            self._taint(guest, machine)
            if flags & _HMP:
                if fd is not None:
                    await machine.send_fd(fd)
                return str(await machine.execute("human-monitor-command", {"command-line": cmd}))
            return json.dumps(await machine.raw(cmd, fd), separators=(",", ":"))

    def _taint(self, guest: Guest, machine: Machine) -> None:
        if self._tainted.get(guest.uuid) is machine:
            return
        self._tainted[guest.uuid] = machine
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with machine.log.open("a") as log:
            log.write(f"{stamp}.000+0000: Domain id={guest.id} is tainted: {_CUSTOM_MONITOR[0]}\n")

    def get_messages(self, dom: DomainRef, flags: int) -> list[str]:
        check_flags(flags, _MESSAGES_DEPRECATION | _MESSAGES_TAINTING, "qemuDomainGetMessages")
        guest = self._guests.find(dom)
        if not guest.active or (flags and not flags & _MESSAGES_TAINTING):
            return []
        found = []
        if self._tainted.get(guest.uuid) is guest.machine:
            found.append(_CUSTOM_MONITOR[1])
        if guest.current.cpu is not None and guest.current.cpu.mode == "host-passthrough":
            found.append("use of host cpu passthrough")
        return [f"tainted: {text}" for text in found]

    # -- what a guest is set to

    async def set_lifecycle_action(self, dom: DomainRef, type: int, action: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetLifecycleAction")
        guest = self._guests.find(dom)
        if not 0 <= type < len(_LIFECYCLE):
            raise InvalidArg(f"invalid lifecycle type '{type}'")
        if not 0 <= action < len(_ACTIONS):
            raise InvalidArg(f"invalid lifecycle action '{action}'")
        if type != 2 and action in (4, 5):
            raise ArgumentUnsupported(f"lifecycle action '{_ACTIONS[action]}' is for crashes alone")
        async with self._jobs.changing(guest.uuid, "lifecycle-action"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            word = _ACTIONS[action]
            if live:
                if type == 1:
                    stops = word in ("destroy", "preserve")
                    await running(guest).execute("set-action", {"reboot": "shutdown" if stops else "reset"})
                assert guest.live is not None
                setattr(guest.live, _LIFECYCLE[type], word)
                keep_live(self._ctx, guest)
            if changed is not None:
                setattr(changed, _LIFECYCLE[type], word)
                keep(self._ctx, guest, changed)

    def get_security_label_list(self, dom: DomainRef) -> tuple[list[tuple[str, int]], int]:
        """A label for each security model of the host, of a guest that runs."""
        guest = self._guests.find(dom)
        if guest.live is None:
            return [], 0
        labels = [
            ("", 0),
            *((label.label, 0) for label in guest.live.seclabels if label.model == "dac" and label.label),
        ]
        return labels, len(labels)

    def get_launch_security_info(self, dom: DomainRef, flags: int) -> Params:
        """No guest has its memory encrypted."""
        self._guests.find(dom)
        return {}

    def set_launch_security_state(self, dom: DomainRef, params: Any, flags: int) -> None:
        self._guests.find(dom)
        raise OperationUnsupported("setting a launch secret is only supported in SEV-enabled domains")


async def _need_format(machine: Machine, format: str) -> None:
    known = (await machine.execute("query-dump-guest-memory-capability"))["formats"]
    if format not in known:
        raise InvalidArg(f"unsupported dumpformat '{format}' for this QEMU binary")


async def _cancel(machine: Machine, *, memory_only: bool) -> None:
    if memory_only:
        raise OperationInvalid("cannot abort memory-only dump", domain=ErrorDomain.QEMU)
    await migration.cancel(machine)


async def _dump_memory(machine: Machine, format: str, job: LongJob) -> None:
    ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def heard(what: Happening) -> None:
        if what.name in ("DUMP_COMPLETED", "DIED") and not ended.done():
            ended.set_result(what.data)

    with machine.watched(heard):
        arguments: dict[str, Any] = {"paging": False, "protocol": f"fd:{_DUMP_FD}", "detach": True}
        if format != "elf":
            arguments["format"] = format
        await machine.execute("dump-guest-memory", arguments)
        while not ended.done():
            status = await machine.execute("query-dump")
            total, done = status["total"], status["completed"]
            job.tell({"ram": {"total": total, "transferred": done, "remaining": total - done}})
            await asyncio.wait([ended], timeout=_POLL)
    result = ended.result()
    if "result" not in result:
        raise OperationFailed("memory-only dump failed: the guest ended", domain=ErrorDomain.QEMU)
    if "error" in result:
        raise OperationFailed(f"memory-only dump failed: {result['error']}", domain=ErrorDomain.QEMU)
