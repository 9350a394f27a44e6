"""Making a change that the host survives: a guardian makes it, looks whether the gateway still answers, and takes it back
where it does not, or where nobody confirms in time.

The guardian is a process of its own session, since the terminal that asked for the change may hang on the network that
is changed. It writes down (``FOLDER/NAME.json``) what it is about to do before it does it:

- ``trying``: addresses have moved, or are about to. Configuration files are as they were, so that a reboot undoes it.
- ``keeping``: confirmed; the files are being written. Whoever comes next finishes that.
- ``kept``: done; the record of how to take the bridge away again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import GuesthouseError, OperationFailed, SystemFailure
from guesthouse.network.hostbridge import kernel
from guesthouse.network.hostbridge.plan import Plan

FOLDER = Path("/var/lib/guesthouse/host-bridges")
TRYING, KEEPING, KEPT = "trying", "keeping", "kept"
_POLL_S = 0.1
_SETTLE_S = 15.0
_COMMAND_S = 30.0

Tell = Callable[[str], None]


@dataclass
class Record:
    """What is written down about a bridge. ``boot`` is the kernel's boot id, ``deadline`` the time (CLOCK_BOOTTIME) when
    an unconfirmed change is taken back, ``guardian`` who does that, ``confirmed`` whether somebody said yes; ``made``
    is the plan that made the bridge, while it is being deleted."""

    phase: str
    plan: Plan
    boot: str
    deadline: float
    guardian: int = 0
    confirmed: bool = False
    made: Plan | None = None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file at once and for good: after a crash there is the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def _store(record: Record) -> None:
    plans = {"plan": record.plan.to_json(), "made": record.made and record.made.to_json()}
    _write(_path(record.plan.bridge), json.dumps(record.__dict__ | plans, indent=1))


def _forget(name: str) -> None:
    _path(name).unlink(missing_ok=True)


def find(name: str) -> Record | None:
    """What is written down about bridge ``name``, None where nothing is."""
    try:
        data: dict[str, Any] = json.loads(_path(name).read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot read {_path(name)}") from error
    plans = {"plan": Plan.from_json(data["plan"]), "made": Plan.from_json(data["made"]) if data["made"] else None}
    return Record(**(data | plans))


def records() -> list[Record]:
    """Everything that is written down, by name."""
    found = [find(path.stem) for path in sorted(FOLDER.glob("*.json"))]
    return [record for record in found if record is not None]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One change at a time on this host. Raises OperationFailed while another one is under way."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(FOLDER / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemFailure.from_os(error, "host bridges are made by root: cannot write down what is done") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting = [record.plan.bridge for record in records() if record.phase == TRYING]
            who = f" (guest host bridge confirm {waiting[0]}, or rollback)" if waiting else ""
            raise OperationFailed(f"another change of a host bridge is under way{who}") from None
        yield
    finally:
        os.close(lock)


def settle() -> list[str]:
    """Finish what a guardian that was killed, or a crash, has left. What was done, a line each."""
    done = []
    with contextlib.suppress(OperationFailed), _alone():
        for record in records():
            plan = record.plan
            if record.phase == KEEPING:
                for path, (_, new) in plan.files.items():
                    _put(path, new)
                _kept(record)
                done.append(f"{plan.bridge}: what was confirmed before is finished now")
            elif record.phase == TRYING and record.boot != _boot_id():
                # the reboot undid it: nothing of it was in a file
                _back_to(record)
                done.append(f"{plan.bridge}: the change that nobody had confirmed ended with the reboot")
            elif record.phase == TRYING:
                _undo(record)
                done.append(f"{plan.bridge}: its guardian was killed; the change is taken back")
    return done


def _put(path: str, text: str | None) -> None:
    file = Path(path)
    if text is None:
        file.unlink(missing_ok=True)
        return
    # keyfiles are secret, and NetworkManager takes no others
    mode = (
        file.stat().st_mode & 0o777 if file.exists() else 0o600 if file.suffix in (".nmconnection", ".yaml") else 0o644
    )
    _write(file, text, mode)


def _back_to(record: Record) -> None:
    """The record as it was before a change that did not come to be."""
    if record.made is None:
        _forget(record.plan.bridge)
    else:
        _store(Record(KEPT, record.made, record.boot, 0.0))


def _kept(record: Record) -> None:
    if record.plan.kind == "delete":
        _forget(record.plan.bridge)
    else:
        _store(Record(KEPT, record.plan, record.boot, 0.0))


def _make(plan: Plan) -> None:
    """Change the kernel's state: create the bridge and move over, or move back (the bridge stays until it is kept)."""
    port = kernel.find(plan.port)
    if port is None:
        raise OperationFailed(f"{plan.port} is gone")
    if plan.kind == "create":
        bridge = kernel.create(plan.bridge, port, stp=plan.stp)
        kernel.move(port.index, plan.had, bridge.index, plan.has, port.index, bridge.index)
    else:
        there = kernel.find(plan.bridge)
        if there is None:
            raise OperationFailed(f"{plan.bridge} is gone")
        kernel.move(there.index, plan.has, port.index, plan.had, port.index, 0)


def _undo(record: Record) -> None:
    """Take the change back, in whatever state it is. It goes on behind errors, and tells the first one at its end."""
    plan = record.plan
    port, bridge = kernel.find(plan.port), kernel.find(plan.bridge)
    refused: GuesthouseError | None = None
    try:
        if plan.kind == "create" and port is not None:
            source = bridge.index if bridge is not None and bridge.mac == plan.mac else port.index
            kernel.move(source, plan.has, port.index, plan.had, port.index, 0)
        elif plan.kind == "delete" and port is not None and bridge is not None:
            kernel.move(port.index, plan.had, bridge.index, plan.has, port.index, bridge.index)
    except GuesthouseError as error:
        refused = error
    if plan.kind == "create":
        kernel.delete(plan.bridge, plan.mac)
    if record.phase == KEEPING:
        for path, (old, _) in plan.files.items():
            _put(path, old)
        _run(plan.commands[:1])
    _back_to(record)
    if refused is not None:
        raise refused


def _run(commands: list[list[str]]) -> list[str]:
    """Run a configuration system's own commands; what each that failed said."""
    failed = []
    for words in commands:
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_S)
            said = (done.stderr or done.stdout).strip().splitlines()
            if done.returncode:
                failed.append(f"{' '.join(words)}: {said[-1] if said else f'exit code {done.returncode}'}")
        except (OSError, subprocess.TimeoutExpired) as error:
            failed.append(f"{' '.join(words)}: {error}")
    return failed


def _place(plan: Plan) -> tuple[str, kernel.Belongings]:
    """Where the host's addresses are after the change, and what they are."""
    return (plan.bridge, plan.has) if plan.kind == "create" else (plan.port, plan.had)


def _gateways_answer(plan: Plan, timeout: float) -> list[str]:
    """Those gateways that do not answer any more."""
    name, owned = _place(plan)
    silent = []
    for gateway in owned.gateways():
        device = kernel.find(name)
        if device is None or not kernel.answers(device, gateway, timeout):
            silent.append(str(gateway))
    return silent


def answering_before(plan: Plan) -> list[str]:
    """The default gateways that answer while nothing has changed; only these can be asked afterwards."""
    device = kernel.find(plan.port if plan.kind == "create" else plan.bridge)
    owned = plan.had if plan.kind == "create" else plan.has
    if device is None:
        return []
    return [str(gateway) for gateway in owned.gateways() if kernel.answers(device, gateway, 2.0)]


def start(plan: Plan, *, within: float, sure: bool) -> tuple[int, int]:
    """Let a guardian make the change. It is confirmed by :func:`confirm` within that many seconds, or by the gateway's
    answer alone where somebody is ``sure``.

    Returns the guardian's pid and a descriptor to read its words from, one a line; the last one is "kept" or begins with
    "failed: ". Raises OperationFailed while another change is under way; then nothing has happened.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)

        def tell(text: str) -> None:
            with contextlib.suppress(OSError):
                os.write(writer, f"{text}\n".encode())

        code = _guard(plan, within, sure, tell)
    finally:
        os._exit(code)


def _guard(plan: Plan, within: float, sure: bool, tell: Tell) -> int:
    try:
        with _alone():
            before = find(plan.bridge)
            made = before.plan if before is not None and plan.kind == "delete" else None
            record = Record(TRYING, plan, _boot_id(), _now() + within, os.getpid(), sure, made)
            asked = answering_before(plan)
            _store(record)
            try:
                _make(plan)
                _try(record, asked, tell)
                _keep(record, asked, tell)
            except BaseException:
                _undo(record)
                raise
    except GuesthouseError as error:
        tell(f"failed: {error.detail}")
        return 1
    except BaseException as error:  # whatever it was, the host is back where it was
        tell(f"failed: {type(error).__name__}: {error}")
        return 1
    tell("kept")
    return 0


def _try(record: Record, asked: list[str], tell: Tell) -> None:
    """Wait until the change is confirmed. Raises OperationFailed where it must be taken back."""
    plan = record.plan
    name, owned = _place(plan)
    begin = _now()
    # a bridge with STP listens and learns for 30 s before it forwards
    patience = min(_SETTLE_S + (30.0 if plan.stp else 0.0), record.deadline - begin)
    silent = _gateways_answer(plan, patience) if asked or plan.had != plan.has else []
    if silent:
        raise OperationFailed(f"the gateway {silent[0]} does not answer on {name}: all is as it was")
    gateways = ", ".join(str(gateway) for gateway in owned.gateways())
    if gateways and (asked or plan.had != plan.has):
        tell(f"the gateway {gateways} answers on {name} ({_now() - begin:.1f} s)")
    elif gateways:
        tell(f"the gateway {gateways} did not answer before either, so nothing tells whether the way out works")
    else:
        tell(f"{name} has no default gateway that could be asked whether all is well")
    tell("waiting")
    while True:
        written = find(plan.bridge)
        if written is not None and written.confirmed:
            return
        if written is None:
            raise OperationFailed("the record of the change was removed: all is as it was")
        if written.deadline <= 0:
            raise OperationFailed("taken back, as asked: all is as it was")
        if _now() > written.deadline:
            raise OperationFailed("nobody confirmed in time: all is as it was")
        time.sleep(_POLL_S)


def _keep(record: Record, asked: list[str], tell: Tell) -> None:
    """Write the files. Raises OperationFailed where the configuration system then breaks what worked."""
    plan = record.plan
    record.phase = KEEPING
    _store(record)
    for path, (_, new) in plan.files.items():
        _put(path, new)
    for text in _run(plan.commands):
        tell(f"note: {text}")
    if asked and (silent := _gateways_answer(plan, _SETTLE_S)):
        raise OperationFailed(
            f"the gateway {silent[0]} does not answer since {plan.system} read its files: all is as it was"
        )
    if plan.kind == "delete":
        kernel.delete(plan.bridge, plan.mac)
    _kept(record)


def _amend(name: str, change: Callable[[Record], None]) -> Record:
    record = find(name)
    if record is None or record.phase != TRYING:
        raise OperationFailed(f"no change of {name} waits for a word")
    change(record)
    _store(record)
    return record


def confirm(name: str) -> None:
    """Keep the change that is being tried. Raises OperationFailed where none is."""

    def yes(record: Record) -> None:
        record.confirmed = True

    _amend(name, yes)


def roll_back(name: str) -> None:
    """Take back the change that is being tried, at once. Raises OperationFailed where none is."""

    def no(record: Record) -> None:
        record.deadline = 0.0

    _amend(name, no)


def forget(name: str) -> None:
    """Drop the record of a bridge that was made here, and change nothing else. Raises OperationFailed for others."""
    record = find(name)
    if record is None or record.phase != KEPT:
        raise OperationFailed(f"no bridge {name} was made by 'guest host bridge create'")
    _forget(name)
