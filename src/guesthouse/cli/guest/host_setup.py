"""guest host setup: what a fresh host lacks for guests is installed and switched on, by one command.

Each step looks at the host before it says what it would do, so that the command can be run again at any time, after a
failure too: what is there already is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from guesthouse.errors import OperationFailed
from guesthouse.host import checks
from guesthouse.host.checks import Host

#: What guests need: the program or file that shows that it is there, Debian's package, Fedora's package.
PACKAGES = (
    ("qemu-img", "qemu-utils", "qemu-img"),
    ("dnsmasq", "dnsmasq-base", "dnsmasq"),
    ("nft", "nftables", "nftables"),
    ("/usr/share/osinfo/os", "osinfo-db", "osinfo-db"),
    ("/usr/share/OVMF", "ovmf", "edk2-ovmf"),
    ("swtpm", "swtpm", "swtpm"),
    ("swtpm_setup", "swtpm-tools", "swtpm-tools"),
)
#: Whoever is in the first may use /dev/kvm, in the second the system daemon.
GROUPS = ("kvm", "libvirt")
PROGRAMS = (
    *("guesthoused", "guest", "virsh", "virt-install", "virt-clone", "virt-xml", "virt-host-validate"),
    *("virt-xml-validate", "virt-qemu-run", "virt-ssh-helper"),
)
#: Ours alone: nobody else's programs are called so.
_OWN = ("guesthoused", "guest")
_BIN = Path("/usr/local/bin")
_UNITS = ("guesthouse-machines.service", "guesthoused.service")
_SOCKET = checks.SOCKETS[1]
_PID = _SOCKET.with_name("guesthoused.pid")
#: Pages and completions, below an installation's "share" as below the host's.
_PAGES = (
    *("man/man1/{}.1", "man/man8/{}.8", "bash-completion/completions/{}", "zsh/site-functions/_{}"),
    "fish/vendor_completions.d/{}.fish",
)
_SHARE = Path("/usr/local/share")
_LOGROTATE = """\
/var/log/guesthouse/*.log /var/log/guesthouse/qemu/*.log {
    weekly
    missingok
    rotate 4
    compress
    delaycompress
    # the daemon and the guests keep their files open
    copytruncate
}
"""


@dataclass(frozen=True)
class Step:
    """One change of the host: ``text`` says what, ``do`` makes it and raises OperationFailed or OSError."""

    text: str
    do: Callable[[], None]


def declare(parser: argparse.ArgumentParser) -> None:
    """The options of "guest host setup"."""
    parser.description = (
        "Install the packages that guests need, make the groups kvm and libvirt, put the commands where everybody finds"
        " them, and let the daemon start with the host. What is there already is left alone; run it again at any time."
    )
    parser.add_argument(
        *("--user", "-u"),
        action="append",
        default=[],
        metavar="NAME",
        help="a user who may use guests (default: who called sudo); repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Show the plan, ask, and carry it out; 0 where guests can run afterwards. Raises OperationFailed, where a step
    fails: what was done before it stays."""
    host = Host.here()
    if host.uid and not options.dry_run:
        raise OperationFailed(f"this changes the host: run it as root (sudo {shlex.join(['guest', *sys.argv[1:]])})")
    users = options.user or [name for name in [os.environ.get("SUDO_USER", "root")] if name != "root"]
    for name in users:
        try:
            pwd.getpwnam(name)
        except KeyError:
            raise OperationFailed(f"there is no user '{name}' on this host") from None
    todo = [step.text for step in steps(host, users)]
    for text in todo:
        print(text)
    if not todo:
        print("Nothing is to be done.")
    if options.dry_run:
        return 0
    if todo:
        _ask(sure=options.yes)
        # Asked anew at each step: what a package brings (a group, a service) is there only now.
        for step in steps(host, users):
            print(f"== {step.text}", flush=True)
            try:
                step.do()
            except OSError as error:
                raise OperationFailed(f"{step.text}: {error.strerror or error}") from None
    return _outcome(host, users)


def _ask(*, sure: bool) -> None:
    if sure:
        return
    if not sys.stdin.isatty():
        raise OperationFailed("nobody can be asked here: add --yes (or --dry-run)")
    print("Do this? [Y/n] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise OperationFailed("nothing was changed")


def _outcome(host: Host, users: Sequence[str]) -> int:
    found = list(checks.findings(host))
    print()
    for finding in found:
        if finding.mark != checks.OK:
            print(f"{finding.topic}: {finding.text}" + (f"\n    -> {finding.remedy}" if finding.remedy else ""))
    if any(finding.mark == checks.FAIL for finding in found):
        print("Guests cannot run yet.")
        return 1
    if users:
        print(f"Guests can run here. {' and '.join(users)} must log in again before the groups count.")
    else:
        print("Guests can run here; --user NAME lets others than root use them.")
    return 0


def steps(host: Host, users: Sequence[str], home: Path | None = None) -> Iterator[Step]:
    """What is still to be done, in order; each step is looked for only when the one before it was taken.

    ``home``: the folder of the commands (default: this process's environment).
    """
    home = home or Path(sys.executable).parent
    yield from _packages(host)
    for group in GROUPS:
        if host.group(group) is None:
            yield _command("groupadd", "--system", group)
    for user in users:
        missing = [group for group in GROUPS if user not in (host.group(group) or (0, []))[1]]
        if missing:
            yield _command("usermod", "-aG", ",".join(missing), user)
    yield from _links(host, home)
    if not host.exists("/etc/logrotate.d/guesthouse") and host.exists("/etc/logrotate.d"):
        yield _file(host, "/etc/logrotate.d/guesthouse", _LOGROTATE)
    if host.exists("/run/systemd/system"):
        yield from _units(host, home)
    elif host.listener(_SOCKET) == 0:
        yield Step("start guesthoused (no systemd here: after a boot, root's first command starts it)", _connect)


def _packages(host: Host) -> Iterator[Step]:
    _, present, emulator = host.emulator()
    wanted = [] if present else [(emulator, "qemu-kvm")]
    for sign, debian, fedora in PACKAGES:
        there = host.exists(sign) if sign.startswith("/") else host.program(sign)
        if not there:
            wanted.append((debian, fedora))
    names = [debian for debian, _ in wanted]
    if host.program("apt-get"):
        fresh = host.exists("/var/lib/apt/lists") and any(host.at("/var/lib/apt/lists").glob("*Packages*"))
        if names and not fresh:
            yield _command("apt-get", "update", "-qq")
        # since Debian 13 SPICE is a package of its own, which virt-manager's guests expect
        spice = "qemu-system-modules-spice"
        modules = any(host.at("/usr/lib").glob("*-linux-gnu*/qemu/ui-spice-core.so"))
        if (names or present) and not modules and host.run(["apt-cache", "show", spice]):
            names.append(spice)
        if names:
            yield _command("apt-get", "install", "-y", "-qq", "--no-install-recommends", *names)
    elif wanted and host.program("dnf"):
        yield _command("dnf", "install", "-y", "-q", *(fedora for _, fedora in wanted))
    elif wanted:
        raise OperationFailed(f"neither apt-get nor dnf is here: install what these packages hold: {' '.join(names)}")


def _links(host: Host, home: Path) -> Iterator[Step]:
    """The commands in everybody's path, with their manual pages and completions. Others' programs of the same names
    stay what one gets."""
    if home in (Path("/usr/bin"), _BIN):
        return
    commands, pages = [], []
    for name in PROGRAMS:
        target = host.at(_BIN / name).readlink() if host.at(_BIN / name).is_symlink() else None
        ours = target is not None and host.exists(target.parent / "guesthoused")
        if not host.exists(home / name) or not (ours or name in _OWN or host.program(name) is None):
            continue
        if target != home / name:
            commands.append((_BIN / name, home / name))
        for pattern in _PAGES:
            link, page = _SHARE / pattern.format(name), home.parent / "share" / pattern.format(name)
            if host.exists(page) and not host.at(link).is_symlink() and not host.exists(link):
                pages.append((link, page))
    if commands:
        names = ", ".join(link.name for link, _ in commands)
        yield Step(f"link {names} of {home} into {_BIN}", lambda: _link(host, commands))
    if pages:
        yield Step(f"link their manual pages and shell completions into {_SHARE}", lambda: _link(host, pages))


def _units(host: Host, home: Path) -> Iterator[Step]:
    changed = False
    for name in _UNITS:
        text = resources.files("guesthouse.cli.guest").joinpath("units", name).read_text()
        text = text.replace("/usr/local/bin/guesthoused", str(home / "guesthoused"))
        path = f"/etc/systemd/system/{name}"
        if host.read(path) != text:
            changed = True
            yield _file(host, path, text)
    if changed:
        yield _command("systemctl", "daemon-reload")
    state = host.run(["systemctl", "is-active", "guesthoused.service"]) or ""
    enabled = host.run(["systemctl", "is-enabled", "guesthoused.service"]) or ""
    if state.strip() == "active" and enabled.strip() == "enabled":
        return
    pid = host.read(_PID).strip()
    if state.strip() != "active" and pid and host.listener(_SOCKET):
        yield Step(f"end the guesthoused that a command started (pid {pid}); its guests go on", lambda: _end(int(pid)))
    yield _command("systemctl", "enable", "--now", *_UNITS)


# -- the kinds of steps


def _command(*words: str) -> Step:
    def call() -> None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace", check=False)
        except FileNotFoundError:
            raise OperationFailed(f"{words[0]} is not installed") from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
            raise OperationFailed("\n    ".join([f"{shlex.join(words)} failed:", *said]))

    return Step(shlex.join(words), call)


def _file(host: Host, path: str, text: str) -> Step:
    def write() -> None:
        target = host.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(target)

    return Step(f"write {path}", write)


def _link(host: Host, pairs: Sequence[tuple[Path, Path]]) -> None:
    for link, target in pairs:
        place = host.at(link)
        if place.exists() and not place.is_symlink():
            raise OSError(errno.EEXIST, f"{link} is a file already, and no link")
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(place)


def _connect() -> None:
    from guesthouse.client import connect

    connect("qemu:///system").close()


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in range(150):
            os.kill(pid, 0)
            time.sleep(0.1)
        raise OperationFailed(f"guesthoused (pid {pid}) does not end")
