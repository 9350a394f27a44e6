"""What guests have beside QEMU: a TPM emulator, virtiofsd, passt, a graphics process, and what the kernel plays.

A companion is started before QEMU, in the guest's folder and with its mark, and written into the guest's runtime row
(``companions``: name, device, pid, start time, log) before the next step. A daemon that dies between the two leaves a
process whose mark leads to it, as with QEMU itself. Companions outlive the daemon as the guest does, are taken up by
the next one, and end with the guest.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import pwd
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, OperationFailed, SystemFailure
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.tpm import Tpm, TpmBackend
from guesthouse.model.devices.vsock import Vsock
from guesthouse.model.domain import Domain
from guesthouse.qemu import helpers, process, vhost_user
from guesthouse.qemu.command import Wiring
from guesthouse.qemu.devices import block
from guesthouse.qemu.helpers import Helper
from guesthouse.qemu.process import Process, User
from guesthouse.services.context import Context
from guesthouse.services.faults import step
from guesthouse.services.secrets import Secrets

_log = logging.getLogger(__name__)

_USAGE_VTPM = 5
_APPEAR = 10.0  # seconds for a socket to be there
_SETUP = 60.0
_END = 5.0
_LINES = 5
_PR_HELPER = "/usr/bin/qemu-pr-helper"
_VHOST_VSOCK = "/dev/vhost-vsock"
_SET_GUEST_CID = 0x4008AF60  # VHOST_VSOCK_SET_GUEST_CID
_FIRST_CID = 3
_ADDRESS_IN_USE = 98
# virDomainUndefineFlagsValues
_UNDEFINE_TPM, _KEEP_TPM = 32, 64

Record = dict[str, Any]


@dataclass
class _Companion:
    helper: str
    alias: str
    process: Process
    log: Path

    def record(self) -> Record:
        return {
            "name": self.helper,
            "alias": self.alias,
            "pid": self.process.pid,
            "start_time": self.process.start_time,
            "log": str(self.log),
        }


class Companions:
    """The companions of all guests, by the guest's UUID."""

    def __init__(self, ctx: Context, user: User) -> None:
        self._ctx = ctx
        self._user = user
        self._running: dict[str, list[_Companion]] = {}
        #: where passphrases of TPMs are
        self.secrets: Secrets | None = None

    # -- start

    async def start(
        self, live: Domain, folder: Path, wiring: Wiring, closing: ExitStack, keep: Callable[[list[Record]], None]
    ) -> None:
        """Start what ``live`` wants beside QEMU, and note in ``wiring`` where QEMU finds it. ``folder`` is the guest's
        own, ``closing`` closes our copies of what QEMU gets, ``keep`` writes down the companions so far.

        Raises OperationFailed and others in libvirt's words; :meth:`stop` is left to be called."""
        dev = live.dev
        for tpm in dev.tpms:
            await self._tpm(live, tpm, folder, wiring, closing, keep)
        for device in dev.filesystems:
            if device.is_virtiofs and not device.socket:
                await self._virtiofs(live, device, folder, wiring, keep)
        for nic in dev.interfaces:
            if is_passt(nic):
                path = self.paths(live, folder)[_alias(nic)]
                wiring.paths[_alias(nic)] = path
                await self._spawn(live, folder, helpers.passt(_alias(nic), nic, Path(path)), keep)
        for video in dev.videos:
            if video.driver is not None and video.driver.name == "vhostuser":
                acceleration = video.model.acceleration if video.model is not None else None
                program = await asyncio.to_thread(
                    vhost_user.gpu,
                    virgl=bool(acceleration and acceleration.accel3d),
                    rendernode=bool(acceleration and acceleration.rendernode),
                )
                ours, theirs = socket.socketpair()
                closing.callback(theirs.close)
                wiring.sockets[_alias(video)] = theirs.fileno()
                with ours:
                    await self._spawn(live, folder, helpers.gpu(_alias(video), video, program, ours.fileno()), keep)
        if block.asks_reservations(live):
            path = self.paths(live, folder)[block.RESERVATIONS]
            wiring.disks.reservations = path
            if not os.access(_PR_HELPER, os.X_OK):
                text = f"'{_PR_HELPER}' is not a suitable pr helper"
                raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), text)
            helper = helpers.reservations(block.RESERVATIONS, _PR_HELPER, Path(path))
            await self._spawn(live, folder, helper, keep)
            if not self._user.same:
                os.chown(path, self._user.uid, self._user.gid)
        for vsock in dev.vsocks:
            fd = _open_vsock(vsock)
            closing.callback(os.close, fd)
            wiring.vhosts[_alias(vsock)] = fd

    def paths(self, live: Domain, folder: Path) -> dict[str, str]:
        """Where QEMU finds its companions: device alias -> socket."""
        found = {_alias(tpm): str(folder / "swtpm.sock") for tpm in live.dev.tpms if tpm.is_emulated}
        for device in live.dev.filesystems:
            if device.is_virtiofs and not device.socket:
                found[_alias(device)] = str(folder / f"{_alias(device)}-fs.sock")
        for nic in live.dev.interfaces:
            if is_passt(nic):
                found[_alias(nic)] = str(folder / f"{_alias(nic)}-passt.sock")
        if block.asks_reservations(live):
            found[block.RESERVATIONS] = str(folder / f"{block.RESERVATIONS}.sock")
        return found

    async def _spawn(
        self, live: Domain, folder: Path, helper: Helper, keep: Callable[[list[Record]], None], log: Path | None = None
    ) -> None:
        log = log or self._log_file(live, helper.name, helper.alias)
        user = User() if helper.as_root else self._user
        started = process.spawn(helper.argv, fds=helper.fds, user=user, log=log, marker=str(folder))
        step("companion-spawned")
        companion = _Companion(helper.name, helper.alias, started, log)
        running = self._running.setdefault(live.uuid or "", [])
        running.append(companion)
        keep([each.record() for each in running])
        step("companion-row")
        await self._is_there(helper, companion)
        self._watch(live.name or "", companion)

    async def _is_there(self, helper: Helper, companion: _Companion) -> None:
        """Wait for its socket; where it has none, see that it did not end at once."""
        deadline = time.monotonic() + (_APPEAR if helper.socket is not None else 0.05)
        while helper.socket is None or not helper.socket.exists():
            if not companion.process.alive:
                companion.process._reap()
                raise OperationFailed(f"{helper.name} died and reported: {_words(companion.log)}")
            if time.monotonic() > deadline:
                if helper.socket is None:
                    return
                raise InternalError(f"{helper.name} did not show up within {_APPEAR:.0f} seconds")
            await asyncio.sleep(0.005)

    def _log_file(self, live: Domain, name: str, alias: str) -> Path:
        return self._ctx.paths.log / "qemu" / f"{live.name}-{alias}-{name}.log"

    # -- TPM

    async def _tpm(
        self,
        live: Domain,
        device: Tpm,
        folder: Path,
        wiring: Wiring,
        closing: ExitStack,
        keep: Callable[[list[Record]], None],
    ) -> None:
        backend = device.backend
        assert backend is not None
        if backend.type == "passthrough":
            path = (backend.device.path if backend.device is not None else None) or "/dev/tpm0"
            wiring.tpm = _open_tpm(path, closing)
        if backend.type != "emulator":
            return
        for tool in ("swtpm", "swtpm_setup"):
            if shutil.which(tool) is None:
                raise InternalError(f"Unable to find '{tool}' binary in $PATH")
        state = self._state(live.uuid or "", backend)
        log = self._log_file(live, "swtpm", _alias(device))
        phrase = self._phrase(backend)
        await self._make_state(live, backend, state, phrase, log, folder)
        wiring.paths |= {_alias(device): str(folder / "swtpm.sock")}
        with ExitStack() as stack:
            keys = [_pipe(phrase, stack) for _ in range(2)] if phrase is not None else []
            try:
                said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SystemFailure.from_os(error, f"cannot open the log '{log}'") from None
            stack.callback(os.close, said)
            helper = helpers.swtpm(_alias(device), backend, state, folder / "swtpm.sock", said, keys)
            await self._spawn(live, folder, helper, keep, log)

    def _state(self, uuid: str, backend: TpmBackend) -> Path:
        return self._ctx.paths.state / "swtpm" / uuid / ("tpm2" if backend.version == "2.0" else "tpm1.2")

    def _phrase(self, backend: TpmBackend) -> bytes | None:
        uuid = backend.encryption.secret if backend.encryption is not None else None
        if not uuid or self.secrets is None:
            return None
        return self.secrets.value_for(_USAGE_VTPM, uuid=uuid)

    async def _make_state(
        self, live: Domain, backend: TpmBackend, state: Path, phrase: bytes | None, log: Path, folder: Path
    ) -> None:
        """Make a TPM at the guest's first start: beside its place, so that there is a whole one or none."""
        banks = backend.active_pcr_banks.names if backend.active_pcr_banks is not None else []
        known = state.with_name(f"{state.name}.banks")
        if not state.exists():
            fresh = state.with_name(f"{state.name}.new")
            state.parent.parent.mkdir(mode=0o711, exist_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700, parents=True)
            state.parent.chmod(0o711)
            config = self._maker()
            # as root it would change to a user of its own
            user = pwd.getpwuid(0).pw_name if os.geteuid() == 0 else None
            vmid = f"{live.name}:{live.uuid}"
            with _passing(phrase) as key:
                argv = helpers.swtpm_setup(backend, config, fresh, vmid, user, key)
                await asyncio.to_thread(self._run, argv, key, log, User(), folder)
            known.write_text(" ".join(banks))
            fresh.rename(state)
            step("companion-state")
        if not self._user.same:
            for path in (state, *state.iterdir()):
                os.chown(path, self._user.uid, self._user.gid)
        if banks and (not known.exists() or known.read_text() != " ".join(banks)):
            await self._set_banks(backend, state, phrase, log, folder)
            known.write_text(" ".join(banks))

    async def _set_banks(self, backend: TpmBackend, state: Path, phrase: bytes | None, log: Path, folder: Path) -> None:
        """Turn PCR banks on and off. swtpm_setup removes a state that it could not change: it is put back."""
        kept = {file: file.read_bytes() for file in state.iterdir() if file.name != ".lock"}
        try:
            with _passing(phrase) as key:
                argv = helpers.swtpm_banks(backend, state, key)
                await asyncio.to_thread(self._run, argv, key, log, self._user, folder)
        except BaseException:
            for file, content in kept.items():
                file.write_bytes(content)
                file.chmod(0o600)
                if not self._user.same:
                    os.chown(file, self._user.uid, self._user.gid)
            raise

    def _maker(self) -> Path:
        """The configuration of our own maker of TPMs, whose key guests' processes cannot read."""
        folder = self._ctx.paths.state / "swtpm-maker"
        folder.mkdir(mode=0o700, exist_ok=True)
        authority, config = folder / "localca.conf", folder / "setup.conf"
        authority.write_text(
            f"statedir = {folder}\nsigningkey = {folder}/signkey.pem\nissuercert = {folder}/issuercert.pem\n"
            f"certserial = {folder}/certserial\n"
        )
        options = folder / "options"
        options.write_text("--platform-manufacturer Guesthouse\n--platform-version 2.12\n--platform-model QEMU\n")
        config.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca') or '/usr/bin/swtpm_localca'}\n"
            f"create_certs_tool_config = {authority}\ncreate_certs_tool_options = {options}\n"
            "active_pcr_banks = sha256\n"
        )
        return config

    def _run(self, argv: list[str], key: int | None, log: Path, user: User, folder: Path) -> None:
        """Run a tool to its end, its words going to ``log``. Raises InternalError with the last of them."""
        tool = " ".join(word for word in argv if word in ("swtpm_setup", "--reconfigure"))
        who: dict[str, Any] = {}
        if not user.same:
            who = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C", "HOME": str(folder)}
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SETUP,
                cwd="/",
                pass_fds=[key] if key is not None else [],
                env={**env, "TMPDIR": str(folder)},
                **who,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise InternalError(f"Could not run '{tool}': {error}") from None
        with log.open("ab") as file:
            file.write(done.stdout + done.stderr)
        log.chmod(0o600)
        if done.returncode:
            lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
            raise InternalError(
                f"Could not run '{tool}'. exitstatus: {done.returncode}; Check error log '{log}' for details."
                f"\n{chr(10).join(lines[:3])}"
            )

    def forget_state(self, uuid: str, document: Domain | None, flags: int = 0) -> None:
        """The guest is gone: so is its TPM's state, unless ``flags`` of an undefine or the document keep it."""
        for tpm in document.dev.tpms if document is not None else ():
            if not tpm.is_emulated or tpm.backend is None:
                continue
            keeps = tpm.backend.persistent_state and not flags & _UNDEFINE_TPM
            if not keeps and not flags & _KEEP_TPM:
                shutil.rmtree(self._ctx.paths.state / "swtpm" / uuid, ignore_errors=True)

    # -- shared folders

    async def _virtiofs(
        self, live: Domain, device: Filesystem, folder: Path, wiring: Wiring, keep: Callable[[list[Record]], None]
    ) -> None:
        if self._ctx.mode != "system":
            raise ConfigUnsupported("virtiofs is not yet supported in session mode")
        program = (device.binary.path if device.binary is not None else None) or vhost_user.virtiofsd()
        if not os.access(program, os.X_OK):
            raise InternalError(f"virtiofsd binary '{program}' is not executable")
        source = (device.source.dir if device.source is not None else None) or ""
        if not Path(source).exists():
            raise InternalError(f"the virtiofs export directory '{source}' does not exist")
        path = folder / f"{_alias(device)}-fs.sock"
        with process.listen_unix(path, 0o600) as listening:
            if not self._user.same:
                os.chown(path, self._user.uid, self._user.gid)
            helper = helpers.virtiofsd(_alias(device), device, program, listening.fileno())
            wiring.paths[_alias(device)] = str(path)
            await self._spawn(live, folder, helper, keep)

    # -- afterwards

    def adopt(self, uuid: str, name: str, records: list[Record]) -> None:
        """Take up the companions of a guest that an earlier daemon started; those that are gone are told of."""
        for record in records:
            found = process.adopt(record["pid"], record["start_time"])
            log = Path(record["log"])
            if found is None:
                _tell(name, record["name"], record["alias"], log)
                continue
            companion = _Companion(record["name"], record["alias"], found, log)
            self._running.setdefault(uuid, []).append(companion)
            self._watch(name, companion)

    def _watch(self, name: str, companion: _Companion) -> None:
        def ended(_: int | None) -> None:
            _tell(name, companion.helper, companion.alias, companion.log)

        companion.process.watch(ended)

    async def stop(self, uuid: str) -> None:
        """End a guest's companions, which most do by themselves once QEMU is gone."""
        companions = self._running.pop(uuid, [])
        for companion in companions:
            companion.process.unwatch()
            companion.process.kill()
        for companion in companions:
            if not await companion.process.wait(_END):
                companion.process.kill(9)
                await companion.process.wait(_END)
            companion.process._reap()
            companion.process.close()


def is_passt(nic: Interface) -> bool:
    """Whether a process of the guest's own plays the card's network."""
    return nic.type == "user" and nic.backend is not None and nic.backend.type == "passt"


def _alias(device: Any) -> str:
    return (device.alias and device.alias.name) or ""


def _tell(guest: str, helper: str, alias: str, log: Path) -> None:
    _log.warning("%s of %s's %s ended by itself: %s", helper, guest, alias, _words(log))


def _words(log: Path) -> str:
    """The last lines that it said; without passt's complaints of a host that has no syslog."""
    lines = [line for line in process.last_words(log).splitlines() if line.strip() and "bytes to syslog" not in line]
    return "\n".join(lines[-_LINES:]) or "no word"


def _pipe(phrase: bytes, stack: ExitStack) -> int:
    """A descriptor that ``phrase`` can be read from once."""
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    os.write(writing, phrase)
    os.close(writing)
    return reading


@contextmanager
def _passing(phrase: bytes | None) -> Iterator[int | None]:
    with ExitStack() as stack:
        yield _pipe(phrase, stack) if phrase is not None else None


def _open_tpm(path: str, closing: ExitStack) -> tuple[int, int]:
    """Descriptors of the host's TPM and of where its commands are cancelled. Raises SystemFailure."""
    name = Path(path).name
    places = [f"/sys/class/{kind}/{name}/device/cancel" for kind in ("misc", "tpm")]
    cancel = next((place for place in places if Path(place).exists()), "/dev/null")
    fds = []
    for file, mode, what in (
        (path, os.O_RDWR, "TPM device"),
        (cancel, os.O_WRONLY, "TPM device's cancel path"),
    ):
        try:
            fd = os.open(file, mode | os.O_CLOEXEC)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Could not open {what} {file}") from None
        closing.callback(os.close, fd)
        fds.append(fd)
    return fds[0], fds[1]


def _open_vsock(device: Vsock) -> int:
    """The kernel's vhost with the guest's number, which is the first free one where it is chosen here."""
    cid = device.cid
    assert cid is not None
    try:
        fd = os.open(_VHOST_VSOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise ConfigUnsupported("unable to open vhost-vsock device") from None
    number = _FIRST_CID if cid.auto else cid.address or 0
    while True:
        try:
            fcntl.ioctl(fd, _SET_GUEST_CID, struct.pack("Q", number))
        except OSError as error:
            if cid.auto and error.errno == _ADDRESS_IN_USE:
                number += 1
                continue
            os.close(fd)
            what = "failed to acquire guest cid" if cid.auto else "failed to set guest cid"
            raise SystemFailure.from_os(error, what) from None
        cid.address = number
        return fd
