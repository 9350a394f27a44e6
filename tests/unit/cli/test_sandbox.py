"""The demonstration's namespaces: what is inside, and that nothing gets out of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guesthouse.cli.guest import sandbox
from support import namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


def test_exit_code() -> None:
    assert sandbox.call(lambda: 0) == 0
    assert sandbox.call(lambda: 7) == 7


def test_own_network_processes_and_sysfs(tmp_path: Path) -> None:
    def look() -> int:
        links = sorted(path.name for path in Path("/sys/class/net").iterdir())
        processes = sum(name.name.isdigit() for name in Path("/proc").iterdir())
        up = "LOWER_UP" in subprocess.run(["ip", "link", "show", "lo"], capture_output=True, text=True).stdout
        subprocess.run(["ip", "link", "add", "inside0", "type", "bridge"], check=True)
        (tmp_path / "seen").write_text(f"{links} {processes} {up}")
        return 0

    assert sandbox.call(look) == 0
    assert (tmp_path / "seen").read_text() == "['lo'] 2 True"
    assert not Path("/sys/class/net/inside0").exists()


def test_who_is_left_ends(tmp_path: Path) -> None:
    """A daemon that has cut all ties ends with the work, and is gone when the call returns."""

    def leave() -> int:
        script = f"setsid sh -c 'sleep 300 & echo $! >{tmp_path}/inside; readlink /proc/self/ns/net >{tmp_path}/net' &"
        subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)
        while not (tmp_path / "net").exists():
            time.sleep(0.01)
        return 0

    assert sandbox.call(leave) == 0
    net = (tmp_path / "net").read_text().strip()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(str((folder / "ns/net").readlink()))
        except OSError:
            continue
    assert net and net not in found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_become_one_interrupt(tmp_path: Path, number: signal.Signals) -> None:
    """The work cleans up undisturbed, though more signals come."""
    script = f"""
import os, sys, time
from pathlib import Path
from guesthouse.cli.guest import sandbox
def work():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(0.5)
        Path({str(tmp_path / "clean")!r}).touch()
sys.exit(sandbox.call(work))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")
    assert (tmp_path / "clean").exists()


def test_failing_work_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ValueError("what went wrong")

    assert sandbox.call(fail) == 1
    assert "ValueError: what went wrong" in capfd.readouterr().err


def test_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to make namespaces there is a reason, before any work, and no process is left."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(sandbox.Unavailable, match="not root"):
        sandbox.call(lambda: 0)
    script = (
        "from guesthouse.cli.guest import sandbox\n"
        "try:\n    sandbox.call(lambda: print('worked'))\n"
        "except sandbox.Unavailable as reason:\n    print(reason)\n"
    )
    drop = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    run = subprocess.run([*drop, sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert "Operation not permitted" in run.stdout and "worked" not in run.stdout


def test_killed_parent_takes_all_along(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\nfrom guesthouse.cli.guest import sandbox\n"
        "def work():\n    subprocess.Popen(['sleep', '3313'])\n    print('begun', flush=True)\n    while True: pass\n"
        "sandbox.call(work)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while (left := _sleepers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _sleepers() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == b"sleep\x003313\0" and namespaces.alive(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
