"""What a guest's life costs: bare QEMU (the floor), guesthoused and C libvirtd, interleaved in one run.

Prints a table of medians and ratios; ``--write FILE`` also puts it between the marks ``<!-- lifecycle -->`` of FILE.
Both daemons are driven by the same client, over a Unix socket, each in namespaces of its own. C libvirtd runs at its
fair best: /dev/kvm is masked for it, since where that only emulates, its probing of QEMU takes minutes. Needs root.
"""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import common  # noqa: E402

from guesthouse import client  # noqa: E402
from support import namespaces  # noqa: E402
from support.guesthoused import BIN, Guesthoused  # noqa: E402
from support.libvirtd import Libvirtd  # noqa: E402

XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""

# the devices that libvirt's XML above comes to
BARE = """
  qemu-system-x86_64 -no-user-config -nodefaults -display none -S -name bare,debug-threads=on
  -machine pc-i440fx-7.2,usb=off,dump-guest-core=off -accel tcg -cpu qemu64 -m 64 -smp 1 -no-shutdown
  -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
  -device piix3-usb-uhci,id=usb -device virtio-balloon-pci,id=balloon0
  -chardev socket,id=mon,path={path},server=on,wait=off -mon chardev=mon,mode=control
"""


class Samples:
    """Seconds (or other figures) by row and by contestant."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, who: str, value: float) -> None:
        self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def timed(self, row: str, who: str, action: Callable[[], object]) -> None:
        start = time.perf_counter()
        action()
        self.add(row, who, time.perf_counter() - start)

    def median(self, row: str, who: str) -> float | None:
        values = self.rows.get(row, {}).get(who)
        return statistics.median(values) if values else None


def bare(samples: Samples, folder: Path) -> None:
    """exec -> QMP -> running, and quit -> gone, with nothing between us and QEMU."""
    path = folder / "bare.sock"
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen(BARE.format(path=path).split(), stdin=subprocess.DEVNULL)
    while True:
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            break
        except OSError:
            sock.close()
            time.sleep(0.0005)
    lines = sock.makefile("rw")
    lines.readline()
    for command in ("qmp_capabilities", "cont", "query-status"):
        lines.write(json.dumps({"execute": command}) + "\n")
        lines.flush()
        while "return" not in (answer := json.loads(lines.readline())):
            pass
    assert answer["return"]["running"]
    samples.add("start to running", "bare", time.perf_counter() - start)
    start = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait()
    samples.add("destroy", "bare", time.perf_counter() - start)
    sock.close()


def lifecycle(samples: Samples, who: str, conn: client.Connect, name: str) -> None:
    xml = XML.format(name=name)
    samples.timed("define", who, lambda: conn.define_xml(xml))
    domain = conn.lookup_by_name(name)
    samples.timed("start to running", who, domain.create)
    assert domain.is_active()
    samples.timed("destroy", who, domain.destroy)
    samples.timed("undefine", who, domain.undefine)


def lists(samples: Samples, conns: dict[str, client.Connect], counts: list[int], rounds: int) -> None:
    for count in counts:
        for conn in conns.values():
            have = len(conn.list_all_domains(0))
            for index in range(have, count):
                conn.define_xml(XML.format(name=f"guest{index}"))
        for _ in range(rounds):
            for who, conn in conns.items():
                samples.timed(f"list of {count}", who, lambda c=conn: c.list_all_domains(0))


def calls(samples: Samples, conns: dict[str, client.Connect], count: int, rounds: int) -> None:
    for _ in range(rounds):
        for who, conn in conns.items():
            domain = conn.lookup_by_name("guest0")
            start = time.perf_counter()
            for _ in range(count):
                domain.get_info()
            samples.add("dominfo calls a second", who, count / (time.perf_counter() - start))


def processes(samples: Samples, uris: dict[str, str], rounds: int) -> None:
    programs = {"our virsh": str(BIN / "virsh"), "C virsh": "/usr/bin/virsh"}
    for _ in range(rounds):
        for who, uri in uris.items():
            for label, program in programs.items():
                argv = [program, "-c", uri, "list"]
                samples.timed(
                    f"`virsh list`, {label}", who, lambda a=argv: subprocess.run(a, check=True, capture_output=True)
                )


def memory(pid: int) -> float:
    """Resident MiB of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def figure(row: str, value: float | None) -> str:
    if value is None:
        return ""
    if row.startswith("memory"):
        return f"{value:.1f} MiB"
    if "a second" in row:
        return f"{value:,.0f}"
    return f"{value * 1000:.2f} ms"


def table(samples: Samples, note: str) -> str:
    lines = [
        note,
        "",
        "| what | bare QEMU | guesthoused | C libvirtd | guesthoused / bare | guesthoused / libvirtd |",
        "|---|---|---|---|---|---|",
    ]
    for row in samples.rows:
        values = {who: samples.median(row, who) for who in ("bare", "guesthoused", "libvirtd")}
        ours = values["guesthoused"]
        ratios = [f"{ours / other:.2f}" if ours and (other := values[who]) else "" for who in ("bare", "libvirtd")]
        cells = [row, *(figure(row, value) for value in values.values()), *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__, 21, "interleaved rounds of the lifecycle")
    parser.add_argument("--guests", type=int, nargs="+", default=[1, 100, 1000], help="sizes of the list")
    parser.add_argument("--no-libvirtd", action="store_true")
    args = common.parsed(parser)

    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemons: dict[str, Guesthoused | Libvirtd] = {"guesthoused": Guesthoused(folder / "guesthoused")}
        try:
            if not args.no_libvirtd:
                daemons["libvirtd"] = Libvirtd(folder / "libvirtd")
            conns = {who: client.connect(daemon.uri) for who, daemon in daemons.items()}
            for who, conn in conns.items():
                lifecycle(Samples(), who, conn, "warmup")
            bare(Samples(), folder)
            for who, daemon in daemons.items():
                samples.add("memory of the idle daemon", who, memory(daemon.pid))
            for index in range(args.rounds):
                bare(samples, folder)
                for who, conn in conns.items():
                    lifecycle(samples, who, conn, f"life{index}")
            lists(samples, conns, args.guests, max(5, args.rounds // 2))
            calls(samples, conns, 1000, 5)
            processes(samples, {who: daemon.uri for who, daemon in daemons.items()}, args.rounds)
            for who, daemon in daemons.items():
                samples.add(f"memory with {max(args.guests)} guests defined", who, memory(daemon.pid))
            for conn in conns.values():
                conn.close()
        finally:
            for daemon in daemons.values():
                daemon.close()
        namespaces.remove_tree(folder / "libvirtd")
    note = f"Medians of {args.rounds} interleaved rounds; {common.host()}, a guest of 64 MiB without disks."
    common.show(table(samples, note), "lifecycle", args.write)


if __name__ == "__main__":
    main()
