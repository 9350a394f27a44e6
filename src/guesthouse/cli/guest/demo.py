"""guest demo: a small real guest from nothing to nothing, with what happens on the way."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from guesthouse.cli.guest import sandbox
from guesthouse.cli.guest.console import Console
from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.states import STATES
from guesthouse.client import Connect, Domain, Network, StorageVol, connect
from guesthouse.errors import GuesthouseError, OperationFailed, SystemFailure
from guesthouse.host import kvm
from guesthouse.provision import tiny

_NAME = "demo"
_MAC = "52:54:00:67:68:01"
_WIDTH = 76
_START_PAUSED = 1
_LIST_ALL = 3
_SHUT_OFF = 5
_DAEMON_TIMEOUT, _BOOT_TIMEOUT, _SHUTDOWN_TIMEOUT = 30.0, 90.0, 15.0

_GUEST = """
<domain type='{kind}'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 loglevel=6</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    {interface}
    <serial type='pty'/>
    <console type='pty'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""
_ON_NETWORK = (
    f"<interface type='network'><mac address='{_MAC}'/><source network='default'/><model type='virtio'/></interface>"
)
_ON_QEMU = f"<interface type='user'><mac address='{_MAC}'/><model type='virtio'/></interface>"
_POOL = "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"
_VOLUME = """
<volume><name>{name}.qcow2</name><capacity unit='GiB'>1</capacity><target><format type='qcow2'/></target></volume>
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """The options of "guest demo"."""
    parser.description = (
        "Start a daemon of its own on a temporary folder and in a network namespace of its own, run a small Linux guest on"
        " it, and take everything down again. The host's guests and networks are not touched."
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, with its logs, for a look")


def run(options: argparse.Namespace) -> int:
    """Show the whole life of a guest; 0 where all of it went well. Leaves nothing behind (but the folder, if ``keep``),
    also when it fails or is interrupted; a kernel that had to be fetched stays in the cache."""
    keep: bool = options.keep
    begun = time.monotonic()
    if platform.machine() != "x86_64":
        raise OperationFailed("the demonstration's guest is made for x86_64 hosts")
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("qemu-img", "qemu-utils")):
        if shutil.which(program) is None:
            raise SystemFailure(f"{program} is missing; install the package {package} ('guest doctor' tells more)")
    _say("A small real guest, from nothing to nothing.\n")
    with _terminable(), contextlib.ExitStack() as undo:
        # the paths of Unix sockets, which have 108 bytes, lie below
        place = None if len(tempfile.gettempdir()) < 40 else "/tmp"
        root = Path(tempfile.mkdtemp(prefix="guesthouse-demo-", dir=place))
        if not keep:
            undo.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)  # QEMU's unprivileged user passes through
        _prepare(root)
        code = _on_a_stage(root)
    took = time.monotonic() - begun
    if root.exists():
        _say(f"\nThe folder {root} is kept: it has configuration and logs.")
    what = "All else" if root.exists() else "All of it"
    if code == 0:
        _say(f"\nDone in {took:.1f} s. {what} is gone again.")
    elif code == 130:
        _say(f"\nInterrupted. {what} is gone again.")
    elif not keep:
        _say("\n'guest demo --keep' keeps the logs; 'guest doctor' says what is amiss on this host.")
    return code


def _on_a_stage(root: Path) -> int:
    try:
        return sandbox.call(lambda: _in_sandbox(root))
    except sandbox.Unavailable as reason:
        _say(f"{'host':11} no namespaces can be made here ({reason}):")
        _say(f"{'':11} a session daemon runs instead, and the guest uses QEMU's own network,")
        _say(f"{'':11} without a bridge; nothing of this host's network is touched\n")
    return _show(_Stage(root, private=False))


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """The first request to end, of whatever kind, is a KeyboardInterrupt; later ones do not disturb the taking down."""
    interrupt = sandbox.Interrupt()
    former = {number: signal.signal(number, interrupt) for number in sandbox.ENDING}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


# -- what is printed


def _say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def _step(topic: str) -> Iterator[Callable[[str], None]]:
    """A line for a step, with the time that it took; the step tells what to say by calling what it is given."""
    begun = time.monotonic()
    words = [""]

    def tell(text: str) -> None:
        words[0] = text

    yield tell
    _say(f"{topic:11} {words[0]:70} {time.monotonic() - begun:6.2f} s")


def _indented(text: str, mark: str = "  ") -> None:
    for line in text.rstrip("\n").split("\n"):
        shown = line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
        _say(f"{'':11} {mark}{shown}".rstrip())


# -- the stage


def _cache(root: Path) -> Path:
    """Where a kernel that had to be fetched is kept; in ``root`` where the user has no such place."""
    if os.geteuid() == 0:
        folder = Path("/var/cache/guesthouse")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guesthouse"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return root / "kernels"


def _prepare(root: Path) -> None:
    """Kernel, initramfs and the daemon's configuration, in ``root``."""
    with _step("kernel") as tell:
        kernel = tiny.kernel(_cache(root))
        tell(f"Debian's cloud kernel {kernel.name.removeprefix('vmlinuz-')}")
    with _step("initramfs") as tell:
        boot = root / "boot"
        boot.mkdir()
        tiny.initramfs(boot / "initrd.img", kernel)
        shutil.copyfile(kernel, boot / "vmlinuz")
        tell(f"busybox and drivers, {(boot / 'initrd.img').stat().st_size / 1e6:.1f} MB")


class _Stage:
    """Where the guest lives: ``private`` in namespaces, with a system daemon on ``root``; else with a session daemon
    whose folders are all in ``root``."""

    def __init__(self, root: Path, *, private: bool) -> None:
        self.root = root
        self.private = private
        self.log = root / "daemon.out"

    @property
    def socket(self) -> Path:
        return self.root / ("run/libvirt-sock" if self.private else "run/guesthouse/libvirt-sock")

    @property
    def uri(self) -> str:
        return f"qemu+unix:///{'system' if self.private else 'session'}?socket={self.socket}"

    def start_daemon(self) -> subprocess.Popen[bytes]:
        script = Path(sys.executable).parent / "guesthoused"
        argv = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "guesthouse.daemon.main"]
        env = dict(os.environ)
        config = self.root / ("etc" if self.private else "etc/guesthouse")
        config.mkdir(parents=True)
        # a user that exists everywhere, so that a daemon of root's need not make one
        (config / "guesthoused.toml").write_text('user = "nobody"\n')
        if self.private:
            argv += ["--root", str(self.root)]
        else:
            argv.append("--session")
            for name, folder in (("CONFIG_HOME", "etc"), ("DATA_HOME", "lib"), ("CACHE_HOME", "cache")):
                env[f"XDG_{name}"] = str(self.root / folder)
            env["XDG_RUNTIME_DIR"] = str(self.root / "run")
            (self.root / "run").mkdir(mode=0o700)
        with open(self.log, "wb") as log:
            # a session of its own: Ctrl-C is for the demonstration, which then takes the guest down in order
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True
            )

    def connect(self, daemon: subprocess.Popen[bytes]) -> Connect:
        """A connection, once the daemon accepts any. Raises SystemFailure with its last words where it does not."""
        deadline = time.monotonic() + _DAEMON_TIMEOUT
        while True:
            try:
                return connect(self.uri)
            except GuesthouseError as error:
                if daemon.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                said = self.log.read_text(errors="replace").strip()[-2000:]
                raise SystemFailure(f"guesthoused does not start: {said or error}") from None


def _in_sandbox(root: Path) -> int:
    _say(f"{'host':11} a network of its own: nothing of this host's is touched\n")
    return _show(_Stage(root, private=True))


# -- the story


def _show(stage: _Stage) -> int:
    """The guest's life on ``stage``; all that was made is taken down at the end, whatever comes between."""
    try:
        with contextlib.ExitStack() as undo:
            try:
                _live(stage, undo)
            except BaseException:
                # from here on nobody waits: a step of the taking down that hangs is left for the next
                signal.signal(signal.SIGALRM, _give_up)
                signal.setitimer(signal.ITIMER_REAL, 10, 10)
                raise
        return 0
    except GuesthouseError as error:
        print(f"\nguest: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            words = stage.log.read_text(errors="replace").strip()
            print(f"The daemon's last words:\n{words[-1500:]}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _give_up(*_: object) -> None:
    raise OperationFailed("taking the demonstration down took too long")


def _live(stage: _Stage, undo: contextlib.ExitStack) -> None:
    with _step("daemon") as tell:
        daemon = stage.start_daemon()
        undo.callback(_end, daemon)
        conn = stage.connect(daemon)
        undo.callback(conn.close)
        qemu = conn.get_version()
        tell(f"guesthoused answers, over QEMU {qemu // 1000000}.{qemu // 1000 % 1000}.{qemu % 1000}")
    network = None
    if stage.private:
        with _step("network") as tell:
            network = conn.network_lookup_by_name("default")
            if not network.is_active():
                network.create()
            undo.callback(_quietly, network.destroy)
            tell(f"{network.name}: {_described(network.get_xml_desc())}")
    with _step("volume") as tell:
        volume = _make_volume(conn, stage.root / "images", undo)
        tell(
            f"{volume.name}, {volume.get_info().capacity >> 30} GiB, {volume.get_info().allocation >> 10} KiB of them used"
        )
    with _step("define") as tell:
        guest, words = _define(conn, stage, volume, network)
        undo.callback(_remove, guest)
        tell(words)
    with _step("start") as tell:
        guest.create_with_flags(_START_PAUSED)  # so that no word on the console is missed
        console = Console(guest, lambda line: _indented(line, "| "))
        guest.resume()
        tell(f"QEMU runs{_as_whom(stage.root)}; the guest's serial console:")
    with _step("boot") as tell:
        console.show_until(tiny.READY, _BOOT_TIMEOUT)
        tell("the guest is up")
    with _step("console") as tell:
        console.wait_for_prompt()
        for line in ("uname -sr", "cat /proc/partitions", *(["ping -c 1 " + _gateway(network)] if network else [])):
            console.ask(line)
        tell("its shell answers")
    _say("")
    _indented(_guests(conn))
    _say("")
    if network is not None:
        with _step("address") as tell:
            tell(_lease(network))
    with _step("shutdown") as tell:
        console.close()
        tell(_shut_down(conn, guest))
    with _step("undefine") as tell:
        guest.undefine()
        left = len(conn.list_all_domains(_LIST_ALL))
        tell(f"guests now: {left}")
    with _step("take down") as tell:
        undo.close()
        tell("volume, network and daemon")


def _described(xml: str) -> str:
    """A network in a few words, from its document."""
    found = [
        re.search(pattern, xml) for pattern in (r"<bridge name='([^']*)'", r"<ip address='([^']*)'", r"mode='(\w+)'")
    ]
    bridge, address, mode = (match[1] if match else "?" for match in found)
    return f"bridge {bridge}, {address}, {mode.upper()}, DHCP and DNS by dnsmasq"


def _gateway(network: Network) -> str:
    match = re.search(r"<ip address='([^']*)'", network.get_xml_desc())
    return match[1] if match else "localhost"


def _make_volume(conn: Connect, folder: Path, undo: contextlib.ExitStack) -> StorageVol:
    folder.mkdir()
    folder.chmod(0o755)
    pool = conn.storage_pool_define_xml(_POOL.format(name=_NAME, path=folder))
    undo.callback(_quietly, pool.undefine)
    pool.create()
    undo.callback(_quietly, pool.destroy)
    volume = pool.vol_create_xml(_VOLUME.format(name=_NAME))
    undo.callback(_quietly, volume.delete)
    return volume


def _define(conn: Connect, stage: _Stage, volume: StorageVol, network: Network | None) -> tuple[Domain, str]:
    status = kvm.usable()
    xml = _GUEST.format(
        kind="kvm" if status.usable else "qemu",
        name=_NAME,
        kernel=stage.root / "boot/vmlinuz",
        initrd=stage.root / "boot/initrd.img",
        disk=volume.get_path(),
        interface=_ON_NETWORK if network else _ON_QEMU,
    )
    engine = "KVM" if status.usable else "QEMU's emulator (see 'guest doctor')"
    return conn.define_xml(xml), f"{_NAME}: 1 CPU, 256 MiB, by {engine}"


def _as_whom(root: Path) -> str:
    """Whom the guest's QEMU runs as, as the kernel says."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError):
            command = (folder / "cmdline").read_bytes()
            if b"qemu-system" in command.split(b"\0")[0] and bytes(root) in command:
                return f" as the user {pwd.getpwuid(folder.stat().st_uid).pw_name}"
    return ""


def _guests(conn: Connect) -> str:
    rows = []
    for guest in conn.list_all_domains(_LIST_ALL):
        rows.append(["-" if guest.id == -1 else str(guest.id), guest.name, STATES[guest.get_state()[0]]])
    return format_table(["Id", "Name", "State"], rows)


def _lease(network: Network) -> str:
    for lease in network.get_dhcp_leases(_MAC):
        return f"{lease.ipaddr}/{lease.prefix}, leased to {lease.mac} by the network {network.name}"
    raise OperationFailed(f"the network has no lease for {_MAC}")


def _shut_down(conn: Connect, guest: Domain) -> str:
    guest.shutdown()
    deadline = time.monotonic() + _SHUTDOWN_TIMEOUT
    while guest.get_state()[0] != _SHUT_OFF:
        if time.monotonic() > deadline:
            guest.destroy()
            return f"the guest did not react to its ACPI button in {_SHUTDOWN_TIMEOUT:.0f} s and was ended by force"
        time.sleep(0.02)
    return "by its ACPI power button"


# -- taking down


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(GuesthouseError):
        call()


def _remove(guest: Domain) -> None:
    _quietly(guest.destroy)
    _quietly(guest.undefine)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(15)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
