"""A partial mirror of Debian inside a test's network: what is asked for is there, taken from the mirror that this host's
apt uses, with Debian's own signatures. The network installer of the package debian-installer-*-netboot is on it, too, and
so are its components (installer_udebs).
"""

from __future__ import annotations

import ctypes
import functools
import http.server
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from support import installer_udebs

_HELPER = "/usr/lib/apt/apt-helper"
_INSTALLER = "/dists/bookworm/main/installer-amd64/current/images/netboot/"
_CLONE_NEWNET = 0x40000000


def source(codename: str = "bookworm") -> str:
    """The URL of the mirror that apt takes ``codename`` from."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages", "Origin: Debian"]
    for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines():
        url, _, name = line.partition(" ")
        if name == codename:
            return url.rstrip("/")
    raise LookupError(f"apt has no {codename} here (apt-get update)")


def socket_inside(pid: int, address: tuple[str, int]) -> socket.socket:
    """A listening socket in the network namespace of the process ``pid``; whoever uses it need not be there."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/proc/{pid}/ns/net") as net:
            if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.create_server(address))

    # a thread has a namespace of its own, and leaves it with its end
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Mirror:
    """``http://ADDRESS:PORT/debian``; ``folder`` keeps what was asked for, ``asked`` says what that was."""

    def __init__(self, listening: socket.socket, folder: Path, components: installer_udebs.Repository) -> None:
        self._folder, self._source, self._components = folder, source(), components
        self._locks: dict[str, threading.Lock] = {}
        self.asked: list[str] = []
        handler = functools.partial(_Handler, self)
        self._server = http.server.ThreadingHTTPServer(listening.getsockname()[:2], handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        address, port = listening.getsockname()[:2]
        self.url = f"http://{address}:{port}/debian"

    @property
    def installer(self) -> str:
        """The tree that --location takes."""
        return f"{self.url}/dists/bookworm/main/installer-amd64"

    def file(self, path: str) -> Path | None:
        """The file at ``path`` below the mirror's root; None where Debian has none."""
        self.asked.append(path)
        if ".." in path:
            return None
        if path.startswith(_INSTALLER):
            name = path.removeprefix(_INSTALLER)
            image = installer_udebs.NETBOOT.parents[1]
            local = self._components.initrd if name.endswith("/initrd.gz") else image / name
            return local if local.is_file() else None
        if path.split("/")[2:3] == [installer_udebs.SUITE]:
            local = self._components.folder / path.lstrip("/")
            return local if local.is_file() else None
        if not path.startswith(("/dists/", "/pool/")) or path.endswith("/") or "/installer-" in path:
            return None
        target = self._folder / path.lstrip("/")
        with self._locks.setdefault(path, threading.Lock()):
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                part = f"{target}.part"
                fetched = subprocess.run(
                    [_HELPER, "-o", "APT::Sandbox::User=root", "download-file", self._source + path, part],
                    capture_output=True,
                )
                if fetched.returncode:
                    return None
                Path(part).rename(target)
        return target

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, mirror: Mirror, *args: object) -> None:
        self._mirror = mirror
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        file = self._mirror.file(self.path.partition("?")[0].removeprefix("/debian"))
        if file is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()
        if self.command == "GET":
            with file.open("rb") as data:
                shutil.copyfileobj(data, self.wfile)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass
