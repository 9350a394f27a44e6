"""virt-ssh-helper: what a client runs at the far side of an SSH connection; a socket's bytes on standard input and output.

The options are libvirt's, so that its clients find what they expect.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys

from guesthouse import __version__
from guesthouse.errors import GuesthouseError

_CHUNK = 1 << 17


def main(argv: list[str] | None = None) -> int:
    """Run with ``argv`` (default: the arguments of this process); returns its exit code."""
    options = _parser().parse_args(argv)
    from guesthouse.client import transport, uri

    try:
        target = uri.parse(options.uri)
        if target.transport != "unix":
            raise GuesthouseError(f"'{options.uri}' does not lead to this host")
        sock = transport.connect(target, options.readonly).sock
    except GuesthouseError as error:
        print(f"virt-ssh-helper: {error}", file=sys.stderr)
        return 1
    with sock:
        _pump(sock)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="virt-ssh-helper", description="Connects standard input and output to the daemon that URI names."
    )
    parser.add_argument("-r", "--readonly", action="store_true", help="use the read-only socket")
    parser.add_argument("-V", "--version", action="version", version=f"virt-ssh-helper {__version__}")
    parser.add_argument("uri", metavar="URI", help="qemu:///system or qemu:///session")
    return parser


def _pump(sock: socket.socket) -> None:
    """Carry bytes both ways until either side ends. What one side does not take, the other has to wait for."""
    here, there = 0, sock.fileno()
    ways = {here: (there, bytearray()), there: (1, bytearray())}
    for fd in (here, 1, there):
        os.set_blocking(fd, False)
    ended = False
    while True:
        reading = [fd for fd, (_, waiting) in ways.items() if not waiting and not ended]
        writing = [out for out, waiting in ways.values() if waiting]
        if not reading and not writing:
            return
        readable, writable, _ = select.select(reading, writing, [])
        try:
            for fd in readable:
                data = os.read(fd, _CHUNK)
                ended = ended or not data
                ways[fd][1].extend(data)
            for out, waiting in ways.values():
                if out in writable and waiting:
                    del waiting[: os.write(out, waiting)]
        except BlockingIOError:
            continue
        except OSError:  # whoever does not listen any more has ended it
            return


if __name__ == "__main__":
    sys.exit(main())
