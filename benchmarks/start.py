"""What a start costs by the size of the guest: bare QEMU with the same command line (the floor), guesthoused and C
libvirtd, interleaved in one run; and what it costs to define a large guest and to read it back.

Prints a table of medians and ratios; ``--write FILE`` also puts it between the marks ``<!-- start -->`` of FILE. The
floor is the command line that guesthoused gives QEMU (domxml-to-native), spawned directly until QEMU answers and runs.
Needs root. See benchmarks/lifecycle.py for how the daemons run.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
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
from support.guesthoused import Guesthoused  # noqa: E402
from support.libvirtd import Libvirtd  # noqa: E402

HEAD = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>0a5ced00-0000-4000-8000-0000000002{size:02}</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
"""
# in turn, from the first on: what larger guests have more of
DEVICES = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
    "<target dev='vd{letter}' bus='virtio'/></disk>",
    "<interface type='user'><model type='virtio'/></interface>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<channel type='unix'><target type='virtio' name='org.example.{number}'/></channel>",
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
    "<target dev='sd{letter}' bus='scsi'/></disk>",
)


def document(name: str, size: int, folder: Path) -> str:
    """A guest with ``size`` devices of its own, beside those that every guest has."""
    lines = [HEAD.format(name=name, size=size)]
    for number, kind in zip(range(size), itertools.cycle(DEVICES), strict=False):
        image = folder / f"{number}.img"
        if not image.exists():
            image.write_bytes(bytes(1 << 20))
            image.chmod(0o666)
        lines.append(kind.format(image=image, letter=chr(ord("a") + number // len(DEVICES)), number=number))
    return "\n".join([*lines, "</devices></domain>"])


class Floor:
    """``command`` as the daemon gives it, with the monitor at ``path`` for us and no descriptors to inherit."""

    def __init__(self, command: str, folder: Path) -> None:
        self.path = folder / "bare.sock"
        self._channels = folder / "channels"
        self._argv = self._plain(shlex.split(command))

    def _plain(self, words: list[str]) -> list[str]:
        out = []
        while "=" in words[0]:  # variables of its environment
            del words[0]
        for index, word in enumerate(words):
            option = words[index - 1]
            if option == "-chardev" and "id=charmonitor" in word:
                word = f"socket,id=charmonitor,path={self.path},server=on,wait=off"
            elif option == "-chardev" and word.startswith("socket,"):
                name = word.partition("id=")[2].partition(",")[0]
                word = f"socket,id={name},path={self._channels}/{name},server=on,wait=off"
            out.append(word)
        return out

    def __call__(self) -> float:
        """Seconds from exec to running."""
        self._channels.mkdir(exist_ok=True)
        self.path.unlink(missing_ok=True)
        start = time.perf_counter()
        process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            while True:
                sock = socket.socket(socket.AF_UNIX)
                try:
                    sock.connect(str(self.path))
                    break
                except OSError:
                    sock.close()
                    if process.poll() is not None:
                        raise RuntimeError(f"bare QEMU ended: {shlex.join(self._argv)}") from None
                    time.sleep(0.0005)
            with sock, sock.makefile("rw") as lines:
                lines.readline()
                for command in ("qmp_capabilities", "cont", "query-status"):
                    lines.write(json.dumps({"execute": command}) + "\n")
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        pass
                assert answer["return"]["running"]
                return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def table(rows: dict[str, dict[str, list[float]]], note: str) -> str:
    lines = [
        note,
        "",
        "| what | bare QEMU | guesthoused | C libvirtd | guesthoused / bare | guesthoused / libvirtd |",
        "|---|---|---|---|---|---|",
    ]
    for row, found in rows.items():
        middle = {who: statistics.median(values) for who, values in found.items()}
        cells = [f"{middle[who] * 1000:.2f} ms" if who in middle else "" for who in ("bare", "guesthoused", "libvirtd")]
        ratios = [f"{middle['guesthoused'] / middle[who]:.2f}" if who in middle else "" for who in ("bare", "libvirtd")]
        lines.append("| " + " | ".join([row, *cells, *ratios]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = common.parser(__doc__, 15, "interleaved rounds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 5, 10, 20, 30], help="devices of the guests")
    parser.add_argument("--no-libvirtd", action="store_true")
    args = common.parsed(parser)

    rows: dict[str, dict[str, list[float]]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="start-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemons: dict[str, Guesthoused | Libvirtd] = {"guesthoused": Guesthoused(folder / "guesthoused")}
        try:
            if not args.no_libvirtd:
                daemons["libvirtd"] = Libvirtd(folder / "libvirtd")
            conns = {who: client.connect(daemon.uri) for who, daemon in daemons.items()}
            floors = {}
            for size in args.sizes:
                xml = document(f"size{size}", size, folder)
                for conn in conns.values():
                    conn.define_xml(xml)
                wanted = {"nativeFormat": "qemu-argv", "domainXml": xml, "flags": 0}
                native = conns["guesthoused"].call("connect_domain_xml_to_native", **wanted)
                floors[size] = Floor(native.nativeConfig, folder)
            for index in range(args.rounds + 1):
                for size in args.sizes:
                    found = {"bare": floors[size]()}
                    for who, conn in conns.items():
                        domain = conn.lookup_by_name(f"size{size}")
                        found[who] = timed(domain.create)
                        domain.destroy()
                    for who, value in found.items() if index else ():  # the first warms up
                        rows.setdefault(f"start, {size} devices", {}).setdefault(who, []).append(value)
            most = max(args.sizes)
            xml = document(f"size{most}", most, folder)
            for _ in range(args.rounds * 3):
                for who, conn in conns.items():
                    domain = conn.lookup_by_name(f"size{most}")
                    for row, action in (
                        (f"define, {most} devices", lambda c=conn: c.define_xml(xml)),
                        (f"dumpxml, {most} devices", lambda d=domain: d.get_xml_desc(0)),
                    ):
                        rows.setdefault(row, {}).setdefault(who, []).append(timed(action))
            for conn in conns.values():
                conn.close()
        finally:
            for daemon in daemons.values():
                daemon.close()
        namespaces.remove_tree(folder / "libvirtd")
    note = f"Medians of {args.rounds} interleaved rounds; {common.host()}, q35; the host's load before: {load:.1f}."
    common.show(table(rows, note), "start", args.write)


if __name__ == "__main__":
    main()
