"""What a guest from an image costs until its login prompt: ``guest run`` on guesthoused, and beside it Debian's
``virt-install --import --cloud-init`` with C libvirtd, interleaved.

Most rounds end with the command, which is what is ours; ``--boots`` rounds go on to the login prompt, read from the
guest's serial console. ``--image FILE`` is a qcow2 with cloud-init; without it one is built (guest image build). Prints
a table of medians; ``--write FILE`` also puts it between the marks ``<!-- provision -->`` of FILE. Needs root.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import common  # noqa: E402

from support import namespaces  # noqa: E402
from support.guesthoused import BIN, Guesthoused  # noqa: E402
from support.libvirtd import Libvirtd  # noqa: E402

_STEP = re.compile(r"^  (\w+) +([\d.]+) ms$", re.M)
_MARKS = (("firmware and boot loader", "Linux version"), ("kernel", "Run /init as init"), ("userspace", " login:"))
_PASSWORD = "benchmark"

Samples = dict[str, dict[str, list[float]]]


def add(samples: Samples, row: str, who: str, seconds: float) -> None:
    samples.setdefault(row, {}).setdefault(who, []).append(seconds)


def boot(samples: Samples, who: str, log: Path, begin: float) -> None:
    """Watch the console until the login prompt; ``begin`` is when the command began."""
    before = time.monotonic()
    for name, words in _MARKS:
        while not (log.exists() and words in log.read_text(errors="replace")):
            if time.monotonic() - begin > 1200:
                raise TimeoutError(f"{who}: {words!r} does not come")
            time.sleep(0.05)
        now = time.monotonic()
        add(samples, name, who, now - before)
        before = now
    add(samples, "all, to the login prompt", who, time.monotonic() - begin)


def ours(samples: Samples, daemon: Guesthoused, folder: Path, *, whole: bool) -> None:
    argv = [str(BIN / "guest"), "run", "-c", daemon.uri, "bench", "--name", "run", "--timing"]
    begin = time.monotonic()
    argv = daemon.ns.command([*argv, "--password-file", str(folder / "password")])
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    spent = time.monotonic() - begin
    steps = [(name, float(value) / 1000) for name, value in _STEP.findall(done.stdout)]
    for name, seconds in steps:
        add(samples, name, "guest run", seconds)
    add(samples, "process: start, imports, end", "guest run", spent - sum(seconds for _, seconds in steps))
    add(samples, "the command", "guest run", spent)
    if whole:
        boot(samples, "guest run", daemon.root / "lib/images/run-console.log", begin)
    subprocess.run(
        daemon.ns.command([str(BIN / "guest"), "rm", "-c", daemon.uri, "--force", "run"]),
        check=True,
        capture_output=True,
    )


def theirs(samples: Samples, daemon: Libvirtd, image: Path, folder: Path, *, whole: bool) -> None:
    disk, log = folder / "theirs.qcow2", daemon.root / "log/qemu/console.log"
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(disk)]
    subprocess.run(words, check=True)
    add(samples, "overlay", "virt-install", time.monotonic() - begin)
    # the machine "pc" has a CD drive that cloud kernels know
    argv = [
        *("/usr/bin/virt-install", "--connect", daemon.uri, "--name", "run", "--import", "--machine", "pc"),
        *("--osinfo", "debian11", "--virt-type", "qemu", "--memory", "1024", "--vcpus", "2", "--disk", str(disk)),
        *("--cloud-init", f"root-password-file={folder}/password", "--network", "default", "--graphics", "none"),
        *("--serial", f"pty,log.file={log}", "--noautoconsole"),
    ]
    subprocess.run(daemon.ns.command(argv), check=True, capture_output=True)
    add(samples, "the command", "virt-install", time.monotonic() - begin)
    if whole:
        boot(samples, "virt-install", log, begin)
    daemon.run("destroy", "run")
    daemon.run("undefine", "run")
    disk.unlink()


def image_of(given: Path | None, daemon: Guesthoused, folder: Path) -> Path:
    """The image in guesthoused's store as "bench", and as a file for virt-install."""
    guest = [str(BIN / "guest"), "image"]
    more = ["-c", daemon.uri]
    if given is not None:
        words = ["import", str(given), "--name", "bench", "--login", "debian", "--osinfo", "debian11"]
    else:
        words = ["build", "debian-12", "--as", "bench"]
    subprocess.run([*guest, *words, *more], check=True)
    target = folder / "image.qcow2"
    (stored,) = (daemon.root / "lib/base-images").glob("bench.*.qcow2")
    subprocess.run(["cp", "--sparse=always", stored, target], check=True)
    return target


def table(samples: Samples, note: str) -> str:
    lines = [note, "", "| what | `guest run` | virt-install, C libvirtd |", "|---|---|---|"]
    for row, values in samples.items():
        cells = [row]
        for who in ("guest run", "virt-install"):
            seconds = statistics.median(values[who]) if who in values else None
            cells.append("" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__, 7, "interleaved rounds of the command")
    parser.add_argument("--boots", type=int, default=1, help="rounds that go on to the login prompt (default 1)")
    parser.add_argument("--image", type=Path, help="a qcow2 with cloud-init (default: one is built)")
    args = common.parsed(parser)
    load = os.getloadavg()[0]
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="provision-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "password").write_text(f"{_PASSWORD}\n")
        daemon, libvirtd = Guesthoused(folder / "guesthoused"), None
        try:
            libvirtd = Libvirtd(folder / "libvirtd")
            libvirtd.run("net-start", "default")
            image = image_of(args.image, daemon, folder)
            # what each finds out once about its host is no part of a guest's start
            ours({}, daemon, folder, whole=False)
            theirs({}, libvirtd, image, folder, whole=False)
            for index in range(max(args.rounds, args.boots)):
                ours(samples, daemon, folder, whole=index < args.boots)
                theirs(samples, libvirtd, image, folder, whole=index < args.boots)
        finally:
            daemon.close()
            if libvirtd is not None:
                libvirtd.close()
        namespaces.remove_tree(folder / "libvirtd")
    note = f"Medians of {args.rounds} interleaved rounds, of the boots {args.boots}; {common.host()}; the host's load before: {load:.1f}."
    common.show(table(samples, note), "provision", args.write)


if __name__ == "__main__":
    main()
