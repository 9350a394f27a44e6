"""Processes: started, known again, never mistaken, seen to end."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import InternalError, SystemFailure
from guesthouse.qemu import process
from guesthouse.qemu.process import Process, User

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed")
Spawn = Callable[..., Process]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start a shell line; what still runs at the end is killed."""
    started: list[Process] = []

    def start(line: str, marker: str = "", user: User | None = None, **more: Any) -> Process:
        run = process.spawn(
            ["sh", "-c", line],
            fds=more.pop("fds", []),
            user=user or User(),
            log=more.pop("log", tmp_path / "guest.log"),
            marker=marker or str(tmp_path),
            **more,
        )
        started.append(run)
        return run

    yield start
    for run in started:
        run.kill(signal.SIGKILL)
        if run.child is not None:
            run.child.wait(5)
        run.close()


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said(log: Path, lines: int = 1) -> str:
    wait_for(lambda: len(process.last_words(log).splitlines()) >= lines)
    return process.last_words(log)


def test_it_runs_in_a_session_of_its_own_and_ends(spawn: Spawn) -> None:
    run = spawn("exec sleep 60")
    assert run.alive and os.getsid(run.pid) == run.pid
    run.kill()
    assert run.child is not None and run.child.wait(5) == -signal.SIGTERM
    assert not run.alive
    run.kill()  # gone: nothing happens


def test_its_log_has_the_command_and_its_words(spawn: Spawn, tmp_path: Path) -> None:
    log = tmp_path / "guest.log"
    spawn("echo first; echo second >&2", note=" for the test")
    assert said(log) == "first\nsecond"
    head = log.read_text().splitlines()
    assert head[0].endswith("starting up for the test") and head[1] == "sh -c 'echo first; echo second >&2'"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_last_words_are_those_of_the_last_start(spawn: Spawn, tmp_path: Path) -> None:
    spawn("echo old")
    assert said(tmp_path / "guest.log") == "old"
    spawn("echo new")
    wait_for(lambda: process.last_words(tmp_path / "guest.log") == "new")
    assert process.last_words(tmp_path / "absent.log") == ""


def test_its_environment_is_small(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    spawn("env -0 | tr '\\0' '\\n'; pwd")
    words = said(tmp_path / "guest.log")
    assert "SECRET" not in words and words.endswith("/") and "LC_ALL=C" in words


def test_descriptors_that_are_named_are_inherited_and_no_others(spawn: Spawn, tmp_path: Path) -> None:
    inside, other = os.pipe()
    os.set_inheritable(other, True)
    try:
        spawn(f"ls -l /proc/self/fd/ | grep -c pipe: ; test -e /proc/self/fd/{inside} && echo named", fds=[inside])
        assert said(tmp_path / "guest.log").endswith("named")
        assert process.last_words(tmp_path / "guest.log").splitlines()[0] in ("1", "2")
    finally:
        os.close(inside)
        os.close(other)


def test_what_cannot_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="cannot run '/absent'"):
        process.spawn(["/absent"], fds=[], user=User(), log=tmp_path / "l", marker="m")
    with pytest.raises(SystemFailure, match="cannot open the guest's log"):
        process.spawn(["true"], fds=[], user=User(), log=tmp_path / "no/l", marker="m")


@needs_root
def test_it_runs_as_the_guest_user(spawn: Spawn, tmp_path: Path) -> None:
    spawn("id -u; id -g; id -G", user=User(65534, 65534, (65534, 12345)))
    assert said(tmp_path / "guest.log", 3).split("\n") == ["65534", "65534", "65534 12345"]


def test_adopted_only_with_its_start_time(spawn: Spawn) -> None:
    run = spawn("exec sleep 60")
    again = process.adopt(run.pid, run.start_time)
    assert again is not None and again.alive and again.child is None
    again.close()
    assert process.adopt(run.pid, run.start_time + 1) is None
    run.kill(signal.SIGKILL)
    wait_for(lambda: not run.alive)
    assert process.adopt(run.pid, run.start_time) is None, "a zombie is dead"
    assert run.child is not None
    run.child.wait()
    assert process.adopt(run.pid, run.start_time) is None


def test_found_by_its_marker(spawn: Spawn, tmp_path: Path) -> None:
    mine = spawn("exec sleep 60", marker=f"{tmp_path}/a")
    spawn("exec sleep 60", marker=f"{tmp_path}/ab")
    wait_for(lambda: process.find(f"{tmp_path}/a"))
    found = process.find(f"{tmp_path}/a")
    assert [(p.pid, p.start_time) for p in found] == [(mine.pid, mine.start_time)]
    for each in found:
        each.close()
    assert process.find(f"{tmp_path}/absent") == []


def test_its_end_is_told_once_with_the_status(spawn: Spawn) -> None:
    async def main() -> None:
        ends: list[int | None] = []
        run = spawn("exit 3")
        run.watch(ends.append)
        assert await run.wait(5)
        await asyncio.sleep(0.05)
        assert ends == [3]
        killed = spawn("exec sleep 60")
        killed.watch(ends.append)
        killed.kill(signal.SIGKILL)
        assert await killed.wait(5)
        await asyncio.sleep(0.05)
        assert ends == [3, -signal.SIGKILL]

    asyncio.run(main())


def test_the_end_of_an_adopted_one_is_told_without_a_status(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess as s; p = s.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()",
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    async def main() -> None:
        ends: list[int | None] = []
        start_time, _ = process._stat(pid)
        run = process.adopt(pid, start_time)
        assert run is not None
        run.watch(ends.append)
        assert not await run.wait(0.02)
        run.kill(signal.SIGKILL)
        assert await run.wait(5)
        await asyncio.sleep(0.05)
        assert ends == [None]
        run.close()

    try:
        asyncio.run(main())
    finally:
        parent.wait(5)
        parent.stdout.close()


def test_no_callback_after_letting_go(spawn: Spawn) -> None:
    async def main() -> None:
        ends: list[int | None] = []
        run = spawn("exec sleep 0.05")
        run.watch(ends.append)
        run.close()
        await asyncio.sleep(0.2)
        assert ends == []

    asyncio.run(main())


def test_processor_time() -> None:
    assert process.cpu_time(os.getpid()) > 0
    assert process.cpu_time(2**22) == 0


def test_sockets_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    (folder / "s").write_text("left from before")
    sock = process.listen_unix(folder / "s")
    assert stat.S_ISSOCK((folder / "s").stat().st_mode) and stat.S_IMODE((folder / "s").stat().st_mode) == 0o600
    sock.close()
    with pytest.raises(InternalError, match="cannot listen on"):
        process.listen_unix(folder / ("y" * 200))
