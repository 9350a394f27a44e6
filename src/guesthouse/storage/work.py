"""Long work off the event loop: in a thread that can be told to stop, or in a program."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from guesthouse.errors import Domain, InternalError, OperationAborted, SystemFailure

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

#: Called now and then by work in a thread: raises OperationAborted once nobody wants its result.
Check = Callable[[], None]


async def in_thread(work: Callable[[Check], _T]) -> _T:
    """``work(check)`` in a thread. When the caller is cancelled, ``work`` hears of it at its next ``check()``, and the
    cancellation goes on once the thread is through: what ``work`` holds is never pulled away from under it."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise OperationAborted("the caller is gone", domain=Domain.STORAGE)

    task = asyncio.ensure_future(asyncio.to_thread(work, check))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await _settle(task)
        raise


async def _settle(task: asyncio.Future[_T]) -> None:
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("abandoned work ended: %s", error)


def find_program(program: str) -> str | None:
    """Where ``program`` is, None where it is not installed. A path is where Debian has it; elsewhere its name counts."""
    return shutil.which(program) or (shutil.which(Path(program).name, path=_PATH) if "/" in program else None)


async def ask(program: str, *args: str, cwd: str | None = None, keep: Sequence[int] = ()) -> tuple[int, str, str]:
    """Run ``program`` to its end: exit status, and what it wrote to its two outputs; ``keep`` are descriptors that it
    inherits. It is killed when the caller is cancelled. Raises InternalError where it is missing."""
    path = find_program(program)
    if path is None:
        raise InternalError(f"unable to find {Path(program).name}", domain=Domain.STORAGE)
    process = await asyncio.create_subprocess_exec(
        path,
        *args,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(keep),
    )
    try:
        stdout, stderr = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")


async def output(program: str, *args: str, cwd: str | None = None, keep: Sequence[int] = ()) -> str:
    """What ``program`` says. Raises InternalError where it is missing or fails, with its own last words;
    SystemFailure(ENOSPC) where these say that the disk is full."""
    code, text, words = await ask(program, *args, cwd=cwd, keep=keep)
    if code:
        words = words.rstrip("\n")
        if os.strerror(errno.ENOSPC) in words:
            raise SystemFailure(words.strip(), domain=Domain.STORAGE, int1=errno.ENOSPC)
        command = " ".join([find_program(program) or program, *args])
        text = f"Child process ({command}) unexpected exit status {code}: {words}\n"
        raise InternalError(text, domain=Domain.STORAGE)
    return text


async def run(program: str, *args: str, cwd: str | None = None, keep: Sequence[int] = ()) -> None:
    """:func:`output` of a program that has nothing to say."""
    await output(program, *args, cwd=cwd, keep=keep)
