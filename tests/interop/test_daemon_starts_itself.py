"""The first connection to qemu:///embed starts the daemon: blocking, and with a loop that goes on meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import namespaces
from support.guesthoused import Guesthoused

BLOCKING = """
import sys
from guesthouse import client
with client.connect(f"qemu:///embed?root={sys.argv[1]}") as conn:
    print(conn.get_type())
"""
LOOP = """
import asyncio, sys, time
from guesthouse.client import aio

async def main():
    longest, last = 0, time.monotonic()

    async def tick():
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticker = asyncio.create_task(tick())
    started = time.monotonic()
    conns = await asyncio.gather(*(aio.connect(f"qemu:///embed?root={sys.argv[1]}") for _ in range(3)))
    took = time.monotonic() - started
    assert longest < max(0.2, took / 2), (longest, took)
    print(*[await conn.get_type() for conn in conns])
    for conn in conns:
        await conn.close()

asyncio.run(main())
"""
FAILING = """
import asyncio, sys
from guesthouse import errors
from guesthouse.client import aio

async def main():
    try:
        await aio.connect(f"qemu:///embed?root={sys.argv[1]}")
    except errors.SystemFailure as error:
        print(str(error).splitlines()[0])

asyncio.run(main())
"""


@pytest.fixture
def ns() -> Iterator[namespaces.Namespace]:
    made = namespaces.Namespace()
    yield made
    made.close()


def daemons(root: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(root).encode() in argv and b"--root" in argv:
            found.append(int(folder.name))
    return found


def alone(root: Path) -> bool:
    """Whether one daemon is left: those that came second may take a moment to end."""
    for _ in range(50):
        if len(daemons(root)) <= 1:
            break
        time.sleep(0.1)
    return len(daemons(root)) == 1


def run(ns: namespaces.Namespace, program: str, root: Path) -> subprocess.CompletedProcess[str]:
    argv = ns.command([sys.executable, "-c", program, str(root)])
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("program", "said"), [(BLOCKING, "QEMU\n"), (LOOP, "QEMU QEMU QEMU\n")])
def test_first_connection_starts_the_daemon(ns: namespaces.Namespace, tmp_path: Path, program: str, said: str) -> None:
    root = tmp_path / "host"
    try:
        done = run(ns, program, root)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
        assert alone(root)
        again = run(ns, program, root)
        assert (again.returncode, again.stdout) == (0, said)
        assert alone(root)
    finally:
        for pid in daemons(root):
            namespaces.end(pid)
        Guesthoused(root, ns=ns, start=False).end_helpers()


def test_daemon_that_cannot_start(ns: namespaces.Namespace, tmp_path: Path) -> None:
    root = tmp_path / "host"
    root.mkdir()
    (root / "log").write_text("in the way")
    done = run(ns, FAILING, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"guesthoused did not start on '{root}/run/libvirt-sock': ")
    assert daemons(root) == []
