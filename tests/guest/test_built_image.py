"""An image built of Debian's packages, and a guest made from it: cloud-init, its agent and ssh, as their real programs
answer. One build, one boot by BIOS that serves all checks, one by UEFI as far as the kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import namespaces
from support.guesthoused import BIN, Guesthoused

pytestmark = pytest.mark.slow

_BOOT_S = 900


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("built")))
    yield guesthoused
    guesthoused.close()


def _guest(daemon: Guesthoused, env: dict[str, str], *words: str, code: int | None = 0, inside: bool = True) -> str:
    argv = [str(BIN / "guest"), words[0], *words[1:]]
    done = subprocess.run(
        daemon.ns.command(argv) if inside else argv,
        capture_output=True,
        text=True,
        env=env,
        timeout=1800,
        stdin=subprocess.DEVNULL,
    )
    assert code is None or done.returncode == code, done
    return str(done.stdout + done.stderr)


def _until(what: str, look: Callable[[], bool], timeout: float = _BOOT_S) -> None:
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(1)


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home with a key, which an agent has, since ssh looks for keys in the user's own home alone."""
    made = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    made["SSH_AUTH_SOCK"] = str(tmp_path / "agent")
    (tmp_path / ".ssh").mkdir(mode=0o700)
    key = tmp_path / ".ssh/id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", made["SSH_AUTH_SOCK"]], stdout=subprocess.DEVNULL)
    _until("no ssh-agent", (tmp_path / "agent").exists, 10)
    subprocess.run(["ssh-add", "-q", key], env=made, check=True)
    yield made
    agent.kill()
    agent.wait()


def test_build_run_exec_ssh(daemon: Guesthoused, env: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / ".ssh/id_ed25519"
    (tmp_path / "password").write_text("three blind mice\n")
    uri = ("-c", daemon.uri)

    def guest(command: str, *words: str, code: int | None = 0) -> str:
        return _guest(daemon, env, command, *uri, *words, code=code)

    def virsh(*words: str) -> str:
        done = daemon.ours(*words)
        assert done.returncode == 0, done
        return str(done.stdout)

    # packages come over the host's network, which the daemon's namespaces do not have
    said = _guest(daemon, env, "image", "build", *uri, "debian-12", inside=False)
    assert "making it bootable" in said and "debian-12: 2.07 GiB" in said
    assert "there is an image 'debian-12'" in _guest(
        daemon, env, "image", "build", *uri, "debian-12", code=1, inside=False
    )

    guest("run", "debian-12", "--name", "web", "--disk", "3G", "--password-file", f"{tmp_path}/password")
    _until("no agent", lambda: guest("exec", "web", "--", "hostname", code=None) in ("web\n", "localhost\n"))
    assert "status: done" in guest("exec", "web", "--", "cloud-init", "status", "--wait")
    assert guest("exec", "web", "--", "sh", "-c", "echo out; exit 3", code=3) == "out\n"

    # the way in, by the key that was there
    assert "debian\nweb" in guest("ssh", "web", "id -un; hostname")
    (tmp_path / "file").write_text("copied")
    guest("cp", f"{tmp_path}/file", "web:/tmp/file")
    assert guest("exec", "web", "--", "cat", "/tmp/file") == "copied"
    shadow = guest("exec", "web", "--", "grep", "^debian:", "/etc/shadow")
    assert shadow.startswith("debian:$6$")
    # the root file system has grown to the disk
    size = int(guest("exec", "web", "--", "findmnt", "-bno", "SIZE", "/"))
    assert size > 2.7 * (1 << 30)

    # what libvirt's calls get from a real agent
    info = virsh("guestinfo", "web")
    assert (
        "os.id               : debian" in info
        and "fs.0.disk.0.alias   : vda" in info
        and "hostname            : web" in info
    )
    assert "/            vda1   ext4   vda" in virsh("domfsinfo", "web")
    assert "192.168.122." in virsh("domifaddr", "web", "--source", "agent")
    assert virsh("domhostname", "web", "--source", "agent").strip() == "web"
    assert abs(int(virsh("domtime", "web").split()[-1]) - time.time()) < 30
    virsh("domtime", "web", "--sync")
    assert "Froze 1 filesystem(s)" in virsh("domfsfreeze", "web")
    assert "Thawed 1 filesystem(s)" in virsh("domfsthaw", "web")
    virsh("domfstrim", "web")
    virsh("guest-agent-timeout", "web", "--timeout", "20")
    virsh("set-user-password", "web", "debian", "another")
    assert guest("exec", "web", "--", "grep", "^debian:", "/etc/shadow") != shadow
    assert key.with_suffix(".pub").read_text().split()[1] in virsh("get-user-sshkeys", "web", "debian")
    virsh("shutdown", "web", "--mode", "agent")
    _until("it does not end", lambda: "shut off" in virsh("domstate", "web"), 300)

    # the same image by UEFI: its own boot loader finds the kernel
    virsh("destroy", "web") if "running" in virsh("domstate", "web") else None
    argv = [
        *(str(BIN / "virt-install"), "--connect", daemon.uri, "--name", "uefi", "--import"),
        # what is built is not signed
        *("--boot", "firmware=efi,firmware.feature0.enabled=no,firmware.feature0.name=secure-boot"),
        *("--osinfo", "debian11", "--virt-type", "qemu", "--memory", "512", "--graphics", "none", "--noautoconsole"),
        *("--network", "none", "--disk", "size=3,backing_store=" + _path(virsh("vol-list", "guest-images"))),
        *("--serial", f"pty,log.file={tmp_path}/uefi.log"),
    ]
    done = subprocess.run(daemon.ns.command(argv), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    log = tmp_path / "uefi.log"
    _until("no kernel by UEFI", lambda: log.exists() and "efi: EFI v2" in log.read_text(errors="replace"), 300)
    virsh("destroy", "uefi")
    guest("rm", "web")


def _path(listing: str) -> str:
    return next(word for word in listing.split() if word.startswith("/") and word.endswith(".qcow2"))
