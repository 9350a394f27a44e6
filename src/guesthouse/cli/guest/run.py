"""guest run, and what one does with a guest that it made: ssh, exec, cp, logs, ls, rm."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from guesthouse import client
from guesthouse.cli.guest import images, tables
from guesthouse.cli.virt_install.interrupts import Gate
from guesthouse.client import Connect, Domain
from guesthouse.client.uri import default_uri
from guesthouse.errors import GuesthouseError, InvalidArg, NoDomain, OperationFailed
from guesthouse.provision import passwords, quick
from guesthouse.provision.cloudinit import CloudInit, read_keys
from guesthouse.provision.images.store import Image, Store
from guesthouse.provision.quick import Timing, Wanted
from guesthouse.provision.words import published, size
from guesthouse.units import GIB, MIB

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
STATES = {0: "no state", 1: "running", 2: "idle", 3: "paused", 4: "ending", 5: "off", 6: "crashed", 7: "suspended"}
_BOOT_TIMEOUT_S = 180.0


def declare_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a guest from an image and start it; an image of the catalogue is fetched where it is missing."
    )
    parser.add_argument("image", metavar="IMAGE", help="an image (guest image list), or one of the catalogue")
    parser.add_argument("--name", metavar="NAME", help="how it is called, also as a host (default: as the image)")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="processors (2)")
    parser.add_argument("--memory", default="1G", metavar="SIZE", help="memory (1G)")
    parser.add_argument("--disk", metavar="SIZE", help="size of its disk (default: the image's)")
    parser.add_argument(
        "--ssh-key", action="append", default=[], metavar="FILE", help="a public key (default: ~/.ssh/*.pub)"
    )
    parser.add_argument("--password-file", metavar="FILE", help="the password of the image's own user")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NET",
        help="default, another network, bridge=NAME, user or none",
    )
    parser.add_argument(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="PORTS",
        help="[ADDRESS:]PORT:GUESTPORT[/udp], a port of this host that leads to the guest; also FIRST-LAST",
    )
    parser.add_argument(
        "--package", action="append", default=[], metavar="NAME", help="have it installed at the first boot"
    )
    parser.add_argument("--user-data", metavar="FILE", help="cloud-init's, besides what is made here")
    parser.add_argument("--vendor-data", metavar="FILE", help="cloud-init's")
    parser.add_argument("--network-config", metavar="FILE", help="cloud-init's, instead of DHCP on each card")
    parser.add_argument("--virt-type", metavar="TYPE", help="kvm or qemu (default: the best that works)")
    parser.add_argument("--arch", default=platform.machine(), help="architecture (default: this host's)")
    parser.add_argument("--autostart", action="store_true", help="start it with the host")
    parser.add_argument("--wait", action="store_true", help="come back when it has an address")
    parser.add_argument("--timing", action="store_true", help="say how long each step took")
    _connect(parser)


def declare_ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as one JSON document")
    _connect(parser)


def declare_ssh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="[USER@]GUEST")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="WORD", help="a command, or options of ssh behind --"
    )
    _connect(parser)


def declare_exec(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a program in a guest by its agent (qemu-guest-agent), without its network."
    parser.add_argument("name", metavar="GUEST")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- PROGRAM [WORD...]")
    _connect(parser)


def declare_cp(parser: argparse.ArgumentParser) -> None:
    parser.description = "Copy files by scp; one side is GUEST:PATH."
    parser.add_argument("-r", "--recursive", action="store_true", help="folders, too")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET")
    _connect(parser)


def declare_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what it says")
    parser.add_argument("name", metavar="GUEST")
    _connect(parser)


def declare_rm(parser: argparse.ArgumentParser) -> None:
    parser.description = "Remove guests that 'guest run' made, with their disks."
    parser.add_argument("names", nargs="+", metavar="GUEST")
    parser.add_argument("-f", "--force", action="store_true", help="also one that runs")
    _connect(parser)


def _connect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--connect", metavar="URI", help="the daemon (default: as virsh)")


def _open(options: argparse.Namespace) -> Connect:
    return client.connect(options.connect or default_uri())


def _find(conn: Connect, name: str) -> Domain:
    try:
        return conn.lookup_by_name(name)
    except NoDomain:
        raise InvalidArg(f"there is no guest '{name}' (guest ls)") from None


# -- run


def run(options: argparse.Namespace) -> int:
    """guest run; returns the exit code."""
    timing = Timing()
    with timing.step("connect"):
        conn = _open(options)
    with conn:
        with timing.step("image"):
            image = find_image(conn, options.image, options.arch)
        name = options.name or _free_name(conn, image.name)
        wanted = Wanted(name, image, options.cpus, int(size(options.memory, MIB)), virt_type=options.virt_type)
        wanted.disk = size(options.disk, GIB) if options.disk else None
        wanted.networks = options.network or ["default"]
        wanted.autostart = options.autostart
        wanted.publish = [published(text, name) for text in options.publish]
        wanted.seed, shown = seed(options, image, name)
        check(wanted)
        begin = time.monotonic()
        with Gate() as gate:
            guest = quick.make(conn, wanted, timing, gate.check)
        print(f"{name} runs ({time.monotonic() - begin:.2f} s)", flush=True)
        if options.timing:
            for step, seconds in timing.steps.items():
                print(f"  {step:10} {seconds * 1000:7.1f} ms")
        if shown:
            print(f"its user {image.login or 'root'} has the password: {shown}")
        if options.wait:
            address = quick.wait_for_address(guest, _BOOT_TIMEOUT_S)
            print(f"{name} has the address {address} ({time.monotonic() - begin:.1f} s)")
        print(f"get in: guest ssh {name}; see it boot: guest logs -f {name}")
    return 0


def find_image(conn: Connect, name: str, arch: str) -> Image:
    """The image ``name`` of the host; one of the catalogue is fetched. Raises InvalidArg where there is none."""
    store = Store(conn)
    found = store.find(name, arch)
    if found is not None:
        return found
    from guesthouse.provision.images import catalogue

    try:
        entry = catalogue.find(name)
    except InvalidArg:
        known = ", ".join(image.name for image in store.images()) or "none yet"
        raise InvalidArg(
            f"there is no image '{name}', here ({known}) or in the catalogue (guest image search)"
        ) from None
    try:
        return images.pull(store, entry.name, arch)
    except OperationFailed as error:
        from guesthouse.provision.images.build import SUITES

        if entry.name not in SUITES:
            raise
        raise OperationFailed(
            f"{error.detail}\nit can be built of this host's packages instead: guest image build {entry.name}"
        ) from None


def check(wanted: Wanted) -> None:
    """Raises InvalidArg for what could not be."""
    if not _NAME.fullmatch(wanted.name):
        raise InvalidArg(f"'{wanted.name}' cannot be the name of a guest and a host: letters, digits, '-' and '.'")
    if wanted.cpus < 1:
        raise InvalidArg("a guest has at least one processor")
    if wanted.memory < 64:
        raise InvalidArg(f"{wanted.memory} MiB of memory are too few; was {wanted.memory}G meant?")


def _free_name(conn: Connect, base: str) -> str:
    taken = {guest.name for guest in conn.list_all_domains()}
    base = base.replace("_", "-").replace("+", "-")
    return next(
        name for number in range(1, 1 << 20) if (name := base if number == 1 else f"{base}-{number}") not in taken
    )


def seed(options: argparse.Namespace, image: Image, name: str) -> tuple[CloudInit, str]:
    """What cloud-init is told, and the password that was made up because nobody could get in else ('' if none was)."""
    keys = [key for path in options.ssh_key for key in read_keys(path)]
    if not options.ssh_key:
        keys = [key for path in sorted(Path.home().glob(".ssh/id_*.pub")) for key in read_keys(str(path))]
    config = CloudInit(hostname=name, login=image.login or "root", packages=options.package)
    if keys:
        config.keys[""] = keys
    shown = ""
    if options.password_file:
        config.passwords[""] = passwords.from_file(options.password_file)
    elif not keys and not options.user_data:
        config.passwords[""] = shown = passwords.made_up(12)
    config.also, config.vendor_data = options.user_data, options.vendor_data
    config.network_config = options.network_config
    return config, shown


# -- the others


def ls(options: argparse.Namespace) -> int:
    """guest ls; returns the exit code."""
    import json

    with _open(options) as conn:
        rows: list[dict[str, Any]] = []
        for guest in sorted(conn.list_all_domains(), key=lambda guest: guest.name):
            state = STATES.get(guest.get_state()[0], "?")
            info = guest.get_info()
            found = quick.addresses(guest) if guest.is_active() else []
            row = {"name": guest.name, "state": state, "image": quick.labels(guest).get("image", "")}
            rows.append(row | {"cpus": info.nrVirtCpu, "memory": info.maxMem << 10, "addresses": found})
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("No guests yet. Run one: guest run debian-12 --name web --wait")
        return 0
    table = [("Name", "State", "Image", "CPUs", "Memory", "Address")]
    for row in rows:
        texts = (
            str(row["name"]),
            str(row["state"]),
            str(row["image"]) or "-",
            str(row["cpus"]),
            tables.size(int(row["memory"])),
        )
        table.append((*texts, ", ".join(row["addresses"]) or "-"))
    tables.table(table)
    return 0


def _target(conn: Connect, text: str) -> tuple[str, str, Domain]:
    """Login, address and guest of "[USER@]GUEST"."""
    login, _, name = text.rpartition("@")
    guest = _find(conn, name)
    if not guest.is_active():
        raise OperationFailed(f"'{name}' does not run: virsh start {name}")
    address = quick.wait_for_address(guest, 5)
    return login or quick.labels(guest).get("login") or "root", address, guest


def _ssh_options() -> list[str]:
    """Guests come and go, and with them the keys of their addresses: theirs are kept apart from those of real hosts."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "guesthouse"
    folder.mkdir(parents=True, exist_ok=True)
    return ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={folder / 'known_hosts'}"]


def ssh(options: argparse.Namespace) -> int:
    """guest ssh: becomes ssh."""
    with _open(options) as conn:
        login, address, guest = _target(conn, options.name)
        alias = f"HostKeyAlias={guest.uuid}"
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    argv = ["ssh", *_ssh_options(), "-o", alias, f"{login}@{address}", *words]
    try:
        os.execvp("ssh", argv)
    except OSError as error:
        raise OperationFailed(f"ssh cannot be run: {error.strerror} (apt install openssh-client)") from None


def cp(options: argparse.Namespace) -> int:
    """guest cp; returns scp's exit code."""
    sides = [options.source, options.target]
    remote = [side for side in sides if re.match(r"[^/:]+:", side)]
    if len(remote) != 1:
        raise InvalidArg("one of the two is GUEST:PATH, the other a path of this host")
    with _open(options) as conn:
        name, _, path = remote[0].partition(":")
        login, address, guest = _target(conn, name)
        alias = f"HostKeyAlias={guest.uuid}"
    place = f"{login}@[{address}]:{path}" if ":" in address else f"{login}@{address}:{path}"
    sides = [place if side is remote[0] else side for side in sides]
    flags = ["-r"] if options.recursive else []
    return subprocess.run(["scp", *_ssh_options(), "-o", alias, *flags, "--", *sides]).returncode


def execute(options: argparse.Namespace) -> int:
    """guest exec; returns the program's exit code."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise InvalidArg("what should be run? guest exec GUEST -- PROGRAM [WORD...]")
    with _open(options) as conn:
        guest = _find(conn, options.name)
        try:
            data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
            code, out, err = quick.execute(guest, words, data)
        except GuesthouseError as error:
            if quick.agent_answers(guest):
                raise
            raise OperationFailed(
                f"{error.detail}\nno agent answers in '{options.name}': it needs the package qemu-guest-agent "
                f"(guest run --package qemu-guest-agent), or use guest ssh"
            ) from None
    sys.stdout.buffer.write(out)
    sys.stdout.flush()
    sys.stderr.buffer.write(err)
    return code


def logs(options: argparse.Namespace) -> int:
    """guest logs; returns the exit code."""
    with _open(options) as conn:
        guest = _find(conn, options.name)
        offset = 0
        while True:
            piece = quick.console_log(conn, guest, offset)
            offset += len(piece)
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            if not options.follow or (not piece and not guest.is_active()):
                return 0
            if not piece:
                time.sleep(0.3)


def rm(options: argparse.Namespace) -> int:
    """guest rm; returns the exit code."""
    with _open(options) as conn:
        for name in options.names:
            quick.remove(conn, _find(conn, name), force=options.force)
            print(f"removed {name}")
    return 0
