"""``guest demo`` for real: what one sees, and that nothing is left, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support import media_kernel, namespaces
from support.guesthoused import BIN

pytestmark = pytest.mark.timeout(240)

TABLE = [" Id   Name   State", "----------------------", " 1    demo   running"]


class Demo:
    """A run of ``guest demo`` on a host with networks of its own (a namespace, so that nobody else changes them); its
    temporary folder is in ``folder``."""

    def __init__(
        self,
        host: namespaces.Namespace,
        folder: Path,
        *prefix: str,
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.folder = folder
        self.before = self.traces()
        argv = host.command([*prefix, str(BIN / "guest"), "demo", *options])
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), **(env or {})},
            cwd="/",
            start_new_session=True,
        )
        self.lines: list[str] = []

    def read_to(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if word in line:
                return
        raise AssertionError(f"no '{word}' in:\n" + "\n".join(self.lines))

    def finish(self) -> int:
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return self.process.wait(60)

    def text(self) -> str:
        return "\n".join(self.lines)

    def traces(self) -> set[str]:
        """What a demonstration could leave on its host, but for processes: links, firewall tables, users."""
        links = self.host.run("ip", "-brief", "link").stdout.splitlines()
        tables = self.host.run("nft", "list", "tables").stdout.splitlines()
        return {line.split()[0] for line in links} | {*tables} | {*Path("/etc/passwd").read_text().splitlines()}

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + 5
        while (left := self.traces() - self.before) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left
        assert list(self.folder.iterdir()) == []
        while (left_running := running(str(self.folder))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left_running == []


def running(word: str) -> list[str]:
    """Command lines of processes that have ``word`` in them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command and namespaces.alive(int(folder.name)):
            found.append(command)
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets lie below it, that QEMU's user may pass."""
    place = Path(tempfile.mkdtemp(prefix="gh-"))
    place.chmod(0o755)
    yield place
    namespaces.remove_tree(place)


@pytest.fixture
def host() -> Iterator[namespaces.Namespace]:
    if os.geteuid() != 0:
        pytest.skip("a host of its own needs root")
    made = namespaces.Namespace()
    yield made
    made.close()


@pytest.fixture
def start(host: namespaces.Namespace, folder: Path) -> Iterator[Callable[..., Demo]]:
    made: list[Demo] = []

    def make(*prefix: str, env: dict[str, str] | None = None, options: Sequence[str] = ()) -> Demo:
        made.append(Demo(host, folder, *prefix, env=env, options=options))
        return made[-1]

    yield make
    for demo in made:
        namespaces.end(demo.process.pid)
        demo.process.wait(10)
        if demo.process.stdout is not None:
            demo.process.stdout.close()


def test_the_whole_story(start: Callable[..., Demo]) -> None:
    demo = start()
    assert demo.finish() == 0, demo.text()
    text = demo.text()
    # the console, from the kernel's first line to the shell's answers
    console = [line.partition("| ")[2] for line in demo.lines if line.startswith(" " * 12 + "| ")]
    assert re.match(r"\[ *0\.0+\] Linux version .*cloud", console[0])
    assert console.index("guest ready") < console.index("# uname -sr")
    assert "1 packets transmitted, 1 packets received, 0% packet loss" in console
    # the table, as virsh prints it
    at = next(i for i, line in enumerate(demo.lines) if "Id" in line and "Name" in line)
    assert [line[14:] for line in demo.lines[at : at + 3]] == TABLE
    # one address for the guest and in the network's leases
    address = re.search(r"eth0 has the address (\S+)", text)
    assert address and f"address     {address[1]}/24, leased to 52:54:00:" in text
    assert re.search(r"^shutdown +by its ACPI power button +\d+\.\d\d s$", text, re.MULTILINE)
    assert "QEMU runs as the user nobody" in text
    took = re.search(r"Done in ([\d.]+) s\. All of it is gone again\.", demo.lines[-1])
    assert took and float(took[1]) < 120
    demo.assert_nothing_left()


@pytest.mark.parametrize("word", ["host  ", "| [", "| guest ready"])
@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGINT, True),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_interrupted(start: Callable[..., Demo], word: str, number: signal.Signals, group: bool) -> None:
    """Ctrl-C (which the whole process group gets), and signals to it alone, before, during and after the boot."""
    demo = start()
    demo.read_to(word)
    (os.killpg if group else os.kill)(demo.process.pid, number)
    assert demo.finish() == 130, demo.text()
    assert "Traceback" not in demo.text()
    demo.assert_nothing_left()


def test_killed(start: Callable[..., Demo]) -> None:
    """Nothing runs on when it is killed; the folder alone stays, for nobody is left to remove it."""
    demo = start()
    demo.read_to("| [")
    assert running(str(demo.folder))
    demo.process.kill()
    demo.finish()
    deadline = time.monotonic() + 10
    while running(str(demo.folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(str(demo.folder)) == []
    for left in demo.folder.iterdir():
        namespaces.remove_tree(left)
    demo.assert_nothing_left()


def test_without_namespaces(start: Callable[..., Demo]) -> None:
    """As in many containers: a session daemon, and QEMU's own network."""
    demo = start("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert demo.finish() == 0, demo.text()
    assert "no namespaces can be made here (Operation not permitted)" in demo.text()
    assert_ran_on_qemus_network(demo)


def test_without_root(start: Callable[..., Demo], folder: Path, tmp_path: Path) -> None:
    nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    if subprocess.run([*nobody, "sh", "-c", f"{BIN}/python -c ''"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this Python is not for other users")
    kernel, _ = media_kernel.kernel_and_initrd()
    cache = namespaces.reachable(tmp_path) / "cache"
    (cache / "guesthouse").mkdir(parents=True)
    (cache / "guesthouse" / kernel.parents[1].name).symlink_to(kernel.parents[1])
    for place in (folder, cache, cache / "guesthouse"):
        place.chmod(0o777)
    env = {"XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path), "USER": "nobody"}
    demo = start(*nobody, env=env)
    assert demo.finish() == 0, demo.text()
    assert "no namespaces can be made here (you are not root)" in demo.text()
    assert_ran_on_qemus_network(demo)


def assert_ran_on_qemus_network(demo: Demo) -> None:
    text = demo.text()
    assert "| eth0 has the address 10.0.2.15" in text and "| guest ready" in text
    assert "shutdown    by its ACPI power button" in text
    assert "as the user nobody" in text
    demo.assert_nothing_left()


def test_kept_folder(start: Callable[..., Demo]) -> None:
    demo = start(options=["--keep"])
    assert demo.finish() == 0, demo.text()
    [kept] = demo.folder.iterdir()
    assert f"The folder {kept} is kept" in demo.text()
    assert "guesthoused" in (kept / "log/guesthoused.log").read_text()
    namespaces.remove_tree(kept)
    demo.assert_nothing_left()


def test_says_what_is_missing(start: Callable[..., Demo]) -> None:
    demo = start("env", "PATH=/nonexistent")
    assert demo.finish() == 1
    assert demo.text().startswith("guest: qemu-system-x86_64 is missing; install the package qemu-system-x86")
    demo.assert_nothing_left()
