"""What calls cost: guesthoused and C libvirtd side by side, interleaved in one run, over Unix sockets.

Prints a table of medians and ratios; ``--write FILE`` also puts it between the marks ``<!-- rpc -->`` of FILE. The
client is the same for both and as thin as can be: requests that were encoded beforehand, and replies that are only
counted, so that the daemons are measured. The guests are real QEMU processes, paused. Needs root.
"""

from __future__ import annotations

import os
import select
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import common  # noqa: E402

from guesthouse import client  # noqa: E402
from guesthouse.wire import connection as wire  # noqa: E402
from support import namespaces  # noqa: E402
from support.guesthoused import Guesthoused  # noqa: E402
from support.libvirtd import Libvirtd  # noqa: E402

XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>1</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
_SIZE = struct.Struct(">I")
_STATUS_AT = 24  # of a reply, behind its length: program, version, procedure, type, serial
_SHORT = 20  # calls that take a millisecond or so are made so many times a round: other work disturbs single ones
_PAUSED = 1
_LIFECYCLE = 0


class Wire:
    """A connection that sends what it is given and counts what comes back."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self._machine = wire.Connection()
        self._rest = b""
        self.ask("auth_list")
        self.ask("connect_open", name="qemu:///system", flags=0)

    def encode(self, name: str, /, **args: object) -> bytes:
        return self._machine.call(name, args or None)[1]

    def ask(self, name: str, /, **args: object) -> None:
        """A call whose answer must be good."""
        self.sock.sendall(self.encode(name, **args))
        self.take(check=True)

    def take(self, count: int = 1, *, check: bool = False) -> None:
        """Read ``count`` messages."""
        data = self._rest
        while count:
            while len(data) < 4 or len(data) < _SIZE.unpack_from(data)[0]:
                more = self.sock.recv(262144)
                if not more:
                    raise RuntimeError("the daemon hung up")
                data = data + more if data else more
            size = _SIZE.unpack_from(data)[0]
            if check and _SIZE.unpack_from(data, _STATUS_AT)[0]:
                raise RuntimeError(f"refused: {data[:size]!r}")
            data = data[size:]
            count -= 1
        self._rest = data

    def close(self) -> None:
        self.sock.close()


class Host:
    """One of the two daemons."""

    def __init__(self, name: str, daemon: Guesthoused | Libvirtd) -> None:
        self.name = name
        self.daemon = daemon
        self.path = Path(daemon.uri.partition("socket=")[2])
        self.conn = client.connect(daemon.uri)

    def memory(self) -> float:
        """Resident KiB."""
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")


class Samples:
    """Figures by row and by daemon."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, who: str, value: float) -> None:
        self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def median(self, row: str, who: str) -> float | None:
        values = self.rows.get(row, {}).get(who)
        return statistics.median(values) if values else None


def one_client(link: Wire, request: bytes, count: int) -> float:
    """Calls a second, each after the answer to the one before."""
    start = time.perf_counter()
    for _ in range(count):
        link.sock.sendall(request)
        link.take()
    return count / (time.perf_counter() - start)


def many_clients(links: list[Wire], request: bytes, count: int) -> float:
    """Calls a second of several clients, each with one under way."""
    poll = select.epoll()
    by_fd = {link.sock.fileno(): link for link in links}
    for fd, link in by_fd.items():
        poll.register(fd, select.EPOLLIN)
        link.sock.sendall(request)
    done = 0
    start = time.perf_counter()
    while done < count:
        for fd, _ in poll.poll():
            link = by_fd[fd]
            link.take()
            done += 1
            link.sock.sendall(request)
    elapsed = time.perf_counter() - start
    for link in links:
        link.take()
    poll.close()
    return done / elapsed


def calls(samples: Samples, hosts: list[Host], rounds: int) -> None:
    links = {host: [Wire(host.path) for _ in range(8)] for host in hosts}
    for _ in range(rounds):
        for host in hosts:
            first = links[host][0]
            guest = host.conn.lookup_by_name("guest0")
            for label, request in {
                "version": first.encode("connect_get_lib_version"),
                "dominfo": first.encode("domain_get_info", dom=guest),
            }.items():
                samples.add(f"{label} calls a second, one client", host.name, one_client(first, request, 2000))
                rate = many_clients(links[host], request, 4000)
                samples.add(f"{label} calls a second, eight clients", host.name, rate)
    for each in links.values():
        for link in each:
            link.close()


def timed(samples: Samples, row: str, hosts: list[Host], rounds: int, name: str, /, **args: object) -> None:
    """Seconds that one call takes, its answer whole."""
    links = {host: Wire(host.path) for host in hosts}
    for link in links.values():
        link.ask(name, **args)
    for _ in range(rounds):
        for host, link in links.items():
            request = link.encode(name, **args)
            start = time.perf_counter()
            link.sock.sendall(request)
            link.take(check=True)
            samples.add(row, host.name, time.perf_counter() - start)
    for link in links.values():
        link.close()


def events(samples: Samples, hosts: list[Host], listeners: int, rounds: int) -> None:
    """Seconds from a guest's resumption or pause until the last of the listeners has its event."""
    row = f"an event to {listeners} client{'s' * (listeners > 1)}, from the call on"
    links = {host: [Wire(host.path) for _ in range(listeners)] for host in hosts}
    for each in links.values():
        for link in each:
            link.ask("connect_domain_event_callback_register_any", eventID=_LIFECYCLE, dom=None)
    for number in range(rounds * _SHORT):
        for host in hosts:
            guest = host.conn.lookup_by_name("running0")
            start = time.perf_counter()
            guest.suspend() if number % 2 else guest.resume()
            for link in links[host]:
                link.take()
            samples.add(row, host.name, time.perf_counter() - start)
    for each in links.values():
        for link in each:
            link.close()


def clients(samples: Samples, hosts: list[Host], count: int) -> None:
    for host in hosts:
        before = host.memory()
        links = [Wire(host.path) for _ in range(count)]
        samples.add("memory per client", host.name, (host.memory() - before) / count)
        for link in links:
            link.close()


def growth(samples: Samples, hosts: list[Host], count: int) -> None:
    """KiB by which the daemon has grown after ``count`` calls of several kinds, the first tenth not counted."""
    row = f"memory growth over {count:,} calls"
    batch = 50
    for host in hosts:
        link = Wire(host.path)
        guest = host.conn.lookup_by_name("running0")
        requests = [
            link.encode("connect_get_lib_version"),
            link.encode("domain_get_info", dom=guest),
            link.encode("domain_get_state", dom=guest, flags=0),
            link.encode("domain_lookup_by_name", name="guest7"),
            link.encode("domain_lookup_by_name", name="there is none"),
        ]
        data = b"".join(requests[index % len(requests)] for index in range(batch))
        before = 0.0
        start = time.perf_counter()
        for number in range(count // batch):
            if number == count // batch // 10:
                before = host.memory()
            link.sock.sendall(data)
            link.take(batch)
        samples.add("calls a second, sent fifty at a time", host.name, count / (time.perf_counter() - start))
        samples.add(row, host.name, host.memory() - before)
        link.close()


def figure(row: str, value: float | None) -> str:
    if value is None:
        return ""
    if row.startswith("memory"):
        return f"{value:.1f} KiB"
    if "a second" in row:
        return f"{value:,.0f}"
    return f"{value * 1000:.2f} ms"


def table(samples: Samples, note: str) -> str:
    lines = [note, "", "| what | guesthoused | C libvirtd | guesthoused / libvirtd |", "|---|---|---|---|"]
    for row in samples.rows:
        ours, theirs = (samples.median(row, who) for who in ("guesthoused", "libvirtd"))
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else ""
        lines.append(f"| {row} | {figure(row, ours)} | {figure(row, theirs)} | {ratio} |")
    return "\n".join(lines)


def step(text: str, action: Callable[[], None]) -> None:
    start = time.perf_counter()
    action()
    print(f"{text}: {time.perf_counter() - start:.1f} s", file=sys.stderr)


def prepare(hosts: list[Host], running: int, defined: int) -> None:
    for host in hosts:
        for index in range(running):
            host.conn.define_xml(XML.format(name=f"running{index}")).create_with_flags(_PAUSED)
        for index in range(defined - running):
            host.conn.define_xml(XML.format(name=f"guest{index}"))


def main() -> None:
    parser = common.parser(__doc__, 9, "interleaved rounds")
    parser.add_argument("--running", type=int, default=50, help="running guests (default 50)")
    parser.add_argument("--guests", type=int, default=1000, help="guests in all (default 1000)")
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls after which memory is looked at")
    parser.add_argument("--no-libvirtd", action="store_true")
    args = common.parsed(parser)

    samples = Samples()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="rpc-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemons: dict[str, Guesthoused | Libvirtd] = {"guesthoused": Guesthoused(folder / "guesthoused")}
        try:
            if not args.no_libvirtd:
                conf = "max_clients = 1000\nmax_queued_clients = 1000\nmax_anonymous_clients = 1000\n"
                daemons["libvirtd"] = Libvirtd(folder / "libvirtd", conf=conf)
            hosts = [Host(who, daemon) for who, daemon in daemons.items()]
            step("guests", lambda: prepare(hosts, args.running, args.guests))
            step("clients", lambda: clients(samples, hosts, 400))
            step("calls", lambda: calls(samples, hosts, args.rounds))
            active = f"statistics of {args.running} running guests"
            stats = ("connect_get_all_domain_stats", {"doms": [], "stats": 0, "flags": 1})
            step("stats", lambda: timed(samples, active, hosts, args.rounds, stats[0], **stats[1]))
            listed = {"need_results": 1, "flags": 0}
            everything, listing = f"list of {args.guests}", "connect_list_all_domains"
            step("list", lambda: timed(samples, everything, hosts, args.rounds * _SHORT, listing, **listed))
            step("events", lambda: [events(samples, hosts, count, args.rounds) for count in (1, 50)] and None)
            step("memory", lambda: growth(samples, hosts, args.calls))
            for host in hosts:
                host.conn.close()
        finally:
            for daemon in daemons.values():
                daemon.close()
        namespaces.remove_tree(folder / "libvirtd")
    note = f"Medians of {args.rounds} interleaved rounds; {common.host()}; the host's load before: {load:.1f}."
    common.show(table(samples, note), "rpc", args.write)


if __name__ == "__main__":
    main()
