"""virt-qemu-run: runs one guest, from its document, on a daemon that is there for it alone, until it ends."""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from guesthouse.client import Connect, Domain

    Say = Callable[[str], None]

_NAME = "virt-qemu-run"
_USAGE = f"""Usage:
  {_NAME} [OPTION...] GUEST-XML-FILE

Runs the guest that the document describes, on a daemon of its own, and ends when it ends. Ctrl-C ends it at once.

Options:
  -h, --help                                     show this text
  -s, --secret=SECRET-XML-FILE,SECRET-VALUE-FILE a secret that the guest's disks or devices want; may be repeated
  -r, --root=DIR                                 keep everything below DIR; else in a folder that is removed at the end
  -d, --debug                                    have the daemon write down all that it does, and show it
  -v, --verbose                                  say what happens, with the time since the start in milliseconds"""
_LIFECYCLE, _STOPPED = 0, 5
_SHUTOFF, _CRASHED = 5, 6
_ACTIVE = 2
# the daemon ends by itself so long after this program was killed
_ORPHANED_S = 5
_DAEMON_ENDS_S = 20.0


class _Problem(Exception):
    """What ends the program, as it is told."""


class _Ended(Exception):
    """A signal came."""


class _Options:
    """The command line."""

    def __init__(self, args: Sequence[str]) -> None:
        """Raises _Problem for what means nothing."""
        self.root = ""
        self.secrets: list[tuple[str, str]] = []
        self.debug = self.verbose = self.help = False
        files = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            if word[:2] != "--" and len(word) > 2 and word[0] == "-":
                # letters in one word; one with a value ends it
                name, value = word[:2], word[2:]
                equals = value
                if name in ("-d", "-v", "-h"):
                    rest.insert(0, f"-{value}")
                    equals = value = ""
            if name in ("-s", "--secret", "-r", "--root"):
                if not equals:
                    if not rest:
                        raise _Problem(f"option parsing failed: Missing argument for {name}")
                    value = rest.pop(0)
                if name in ("-r", "--root"):
                    self.root = value
                    continue
                document, comma, content = value.partition(",")
                if not comma or not content:
                    raise _Problem("expected a pair of filenames for --secret argument")
                self.secrets.append((document, content))
            elif name in ("-d", "--debug"):
                self.debug = True
            elif name in ("-v", "--verbose"):
                self.verbose = True
            elif name in ("-h", "--help"):
                self.help = True
            elif word.startswith("-") and word != "-":
                raise _Problem(f"option parsing failed: Unknown option {word}")
            else:
                files.append(word)
        if not self.help and len(files) != 1:
            raise _Problem("expected the file of a guest's document, and no other words; see --help")
        self.file = files[0] if files else ""


def main(argv: list[str] | None = None) -> int:
    """Run the guest; 0 where it ended by itself or by a signal to this program, 1 where something failed. Neither the
    guest nor its daemon runs any more then."""
    from guesthouse.errors import GuesthouseError

    try:
        options = _Options(sys.argv[1:] if argv is None else argv)
        if options.help:
            print(_USAGE)
            return 0
        _run(options)
        return 0
    except (_Problem, GuesthouseError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 1


def _run(options: _Options) -> None:
    import shutil
    import tempfile

    began = time.monotonic()

    def say(text: str) -> None:
        if options.verbose:
            print(f"{_NAME}: {int((time.monotonic() - began) * 1000)}: {text}", file=sys.stderr, flush=True)

    document = _read(options.file)
    secrets = [(_read(xml), _read_value(value)) for xml, value in options.secrets]

    def ended(*_: object) -> None:
        raise _Ended

    former = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    root = options.root or tempfile.mkdtemp(prefix=f"{_NAME}-")
    try:
        if not options.root:
            os.chmod(root, 0o755)  # noqa: PTH101 - QEMU's user goes through it
        else:
            root = os.path.abspath(root)  # noqa: PTH100
            try:
                os.makedirs(root, 0o755, exist_ok=True)  # noqa: PTH103
            except OSError as error:
                raise _Problem(f"cannot create dir: {root}: {error.strerror}") from None
        _hosted(root, document, secrets, options, say)
    except _Ended:
        pass
    finally:
        for number in former:
            signal.signal(number, signal.SIG_IGN)
        if not options.root:
            shutil.rmtree(root, ignore_errors=True)
        for number, handler in former.items():
            signal.signal(number, handler)
    say("cleaned up, exiting")


def _hosted(root: str, document: str, secrets: list[tuple[str, bytes]], options: _Options, say: Say) -> None:
    """Run the guest on the daemon of ``root``, which is started and ended where none runs there."""
    from urllib.parse import quote

    from guesthouse import client
    from guesthouse.client import transport, uri
    from guesthouse.errors import GuesthouseError

    say(f"initializing guesthoused {root}")
    target = uri.parse(f"qemu:///embed?root={quote(root)}")
    own = not uri.listens(target.path)
    try:
        if own:
            if options.debug:
                _want_everything_logged(root)
            if "default" not in document:
                _without_network(root)
            assert target.start is not None
            target.start += ["--timeout", str(_ORPHANED_S)]
            transport.start_daemon(target)
        with client.connect(target.uri) as conn:
            for xml, value in secrets:
                say("loading secret")
                conn.secret_define_xml(xml).set_value(value)
            say(f"starting guest {options.file}")
            guest = None
            try:
                try:
                    guest = conn.create_xml(document)
                except GuesthouseError as error:
                    raise _Problem(f"cannot start VM: {error.message}") from None
                say("guest running, Ctrl-C to stop now")
                _wait(conn, guest)
            finally:
                if guest is not None:
                    _end(guest)
                if own:
                    _end_networks(conn)
    finally:
        if own:
            _end_daemon(root)
            if options.debug:
                _show_log(root)


def _wait(conn: Connect, guest: Domain) -> None:
    """Until the guest has ended, or the daemon has."""
    from guesthouse.errors import NoDomain

    over = []

    def happened(event: Any) -> None:
        if event.msg.event == _STOPPED:
            over.append(event)

    conn.domain_event_register_any(guest, _LIFECYCLE, happened)
    try:
        if guest.get_state()[0] in (_SHUTOFF, _CRASHED):
            return
    except NoDomain:  # it ended before anybody listened
        return
    while not over:
        conn.dispatch_events(None)


def _end(guest: Domain) -> None:
    from guesthouse.errors import GuesthouseError

    try:
        guest.destroy()
    except GuesthouseError:  # it has ended by itself, or the daemon has
        pass


def _without_network(root: str) -> None:
    """Have the daemon believe that its host has had the network "default": no bridge is made that no guest wants."""
    os.makedirs(f"{root}/lib/dnsmasq", exist_ok=True)  # noqa: PTH103
    with open(f"{root}/lib/dnsmasq/default-made", "a"):
        pass


def _end_networks(conn: Connect) -> None:
    from guesthouse.errors import GuesthouseError

    try:
        for network in conn.list_all_networks(_ACTIVE):
            network.destroy()
    except GuesthouseError as error:  # the daemon has gone, or the network
        print(f"{_NAME}: {error.message}", file=sys.stderr)


def _end_daemon(root: str) -> None:
    """End the daemon and wait until it is gone, however it takes the signal."""
    try:
        with open(f"{root}/run/guesthoused.pid") as file:
            pid = int(file.read())
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    import select

    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"guesthouse" not in file.read():
                return  # another's pid by now
        for number, patience in ((signal.SIGTERM, _DAEMON_ENDS_S), (signal.SIGKILL, _DAEMON_ENDS_S)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience)[0]:
                return
    except OSError:  # it has gone
        pass
    finally:
        os.close(handle)


def _want_everything_logged(root: str) -> None:
    """Where the folder has no configuration of its own, one that has the daemon write everything down."""
    os.makedirs(f"{root}/etc", exist_ok=True)  # noqa: PTH103
    try:
        with open(f"{root}/etc/guesthoused.toml", "x") as file:
            file.write('log_level = "debug"\n')
    except FileExistsError:
        pass


def _show_log(root: str) -> None:
    try:
        with open(f"{root}/log/guesthoused.log") as file:
            sys.stderr.write(file.read())
    except OSError:
        pass


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise _Problem(f"cannot read {path}: {reason}") from None


def _read_value(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _Problem(f"cannot read secret value {path}: {error.strerror}") from None
