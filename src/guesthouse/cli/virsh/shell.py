"""What every virsh command works with: the connection, the output and its rules, the running of commands."""

from __future__ import annotations

import os
import sys
import time

from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.errors import Domain, GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Connect

DEBUG, INFO, ERROR = 0, 1, 4
_LEVELS = ("DEBUG", "INFO", "INFO", "WARNING", "ERROR")
# libvirt's codes for a connection that is of no more use (virErrorNumber: INVALID_CONN, NO_CONNECT, RPC)
_LOST_CODES = (6, 5, 39)


class Explain:
    """Prints a text of virsh's own before the daemon's error, which goes on."""

    __slots__ = ("_shell", "_text")

    def __init__(self, shell: Shell, text: str) -> None:
        self._shell = shell
        self._text = text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GuesthouseError):
            self._shell.error(self._text)


class Shell:
    """One run of virsh."""

    def __init__(self) -> None:
        self.uri: str | None = None
        self.readonly = False
        self.quiet = False
        self.timing = False
        #: Seconds of silence until the daemon is asked whether it is there, and how often without an answer.
        self.keepalive = (5, 6)
        self.keepalive_asked = False
        self.debug_level = ERROR
        self.escape = "^]"
        self.interactive = False
        self.log_path: str | None = None
        self._log = -1
        self._conn: Connect | None = None
        self._names: Connect | None = None
        self._lost = False

    # -- output

    def out(self, text: str) -> None:
        """Print ``text`` as it is."""
        sys.stdout.write(text)

    def extra(self, text: str) -> None:
        """Print what --quiet leaves out."""
        if not self.quiet:
            sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def error(self, text: str) -> None:
        """Print an error to standard error, after all output so far."""
        self.log(ERROR, text)
        sys.stdout.flush()
        sys.stderr.write(f"error: {text}\n")
        sys.stderr.flush()

    def hint(self, text: str) -> None:
        """Print a line of advice below an error."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def debug(self, level: int, text: str) -> None:
        if level >= self.debug_level:
            self.log(level, text)
            self.out(f"{text}\n")

    def explain(self, text: str) -> Explain:
        """A context: where a call within fails, ``text`` is printed before the daemon's error."""
        return Explain(self, text)

    # -- the log file

    def open_log(self) -> None:
        """Open the log file, if there is to be one. Raises Failed where that cannot be."""
        if self.log_path is None:
            return
        try:
            self._log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_SYNC | os.O_CLOEXEC, 0o644)
        except OSError:
            raise Failed("failed to open the log file. check the log file path") from None

    def log(self, level: int, text: str) -> None:
        if self._log < 0:
            return
        now = time.strftime("%Y.%m.%d %H:%M:%S")
        line = f"[{now} virsh {os.getpid()}] {_LEVELS[level]} {text.rstrip()}\n"
        os.write(self._log, line.encode("utf-8", "surrogateescape"))

    # -- the connection

    @property
    def conn(self) -> Connect:
        """The open connection; commands that need one find it open."""
        assert self._conn is not None
        return self._conn

    def connect(self, uri: str | None = None, readonly: bool = False, *, again: bool = False) -> None:
        """Connect to ``uri`` (None: where this shell belongs), closing the connection that is open.

        ``again``: it was asked for, so nothing is said of it. Raises the error, after virsh's words for it.
        """
        from guesthouse import client

        if uri is None:
            readonly = readonly or self.readonly
        had = self._conn is not None
        if self._conn is not None:
            self._conn.close()
            self._conn = None
        words = "Failed to reconnect to the hypervisor" if self._lost else "failed to connect to the hypervisor"
        with self.explain(words):
            self._conn = client.connect(uri or self.uri, readonly, ask=_ask)
            self._keep_alive()
        if uri:
            self.uri = uri
        self.readonly = readonly
        self._lost = False
        if had and not again:
            self.error("Reconnected to the hypervisor")

    def _keep_alive(self) -> None:
        """Have the connection ask whether the daemon is still there. Raises NoSupport where there is nobody to ask, and
        that was asked for; the connection is closed then."""
        from guesthouse.errors import NoSupport

        assert self._conn is not None
        interval, count = self.keepalive
        try:
            if interval:
                self._conn.set_keep_alive(interval, count)
        except NoSupport:
            if self.keepalive_asked:
                self._conn.close()
                self._conn = None
                self.error("Cannot setup keepalive on connection as requested, disconnecting")
                raise
            self.debug(INFO, "Failed to setup keepalive on connection")

    def ask_names(self) -> Connect:
        """A connection for completing names: the open one, else a read-only one to a daemon that runs already.

        Nothing is started, said or asked for it. Raises GuesthouseError or OSError where there is none.
        """
        if self._conn is not None and not self._lost:
            return self._conn
        if self._names is None:
            from guesthouse import client
            from guesthouse.client.uri import default_uri, listens, parse

            uri = self.uri or default_uri()
            if not uri.startswith("test://"):
                target = parse(uri)
                if target.start is not None and not listens(target.path):
                    raise ConnectionRefusedError
            self._names = client.connect(uri, True)
        return self._names

    def close(self) -> None:
        for conn in (self._conn, self._names):
            if conn is not None:
                conn.close()
        self._conn = self._names = None
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    # -- commands

    def run(self, commands: list[Given]) -> bool:
        """Run the commands one after the other; whether the last one succeeded."""
        good = True
        for given in commands:
            before = time.time()
            good = self._run(given)
            if given.command.name in ("quit", "exit"):
                return good
            if self.timing:
                self.out(f"\n(Time: {(time.time() - before) * 1000:.3f} ms)\n\n")
            else:
                self.extra("\n")
        return good

    def _run(self, given: Given) -> bool:
        try:
            if given.command.connect and (self._conn is None or self._lost):
                self.connect()
            given.command.action(self, given)
        except Failed as failed:
            if str(failed):
                self.error(str(failed))
            if isinstance(failed.__cause__, GuesthouseError):
                self._report(failed.__cause__)
            return False
        except GuesthouseError as error:
            self._report(error)
            return False
        return True

    def _report(self, error: GuesthouseError) -> None:
        if error.number in _LOST_CODES or error.domain in (Domain.RPC, Domain.REMOTE):
            self._lost = True
        self.error(error.message)


def _ask(kind: str, prompt: str) -> str | None:
    """A name or a password from who sits here, for a daemon that wants one; None at the end of the input."""
    if kind == "password" and sys.stdin.isatty():
        from getpass import getpass

        try:
            return getpass(f"{prompt}: ")
        except EOFError:
            return None
    sys.stdout.write(f"{prompt}: ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None
