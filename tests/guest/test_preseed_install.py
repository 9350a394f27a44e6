"""Debian's installer from its first screen to a login in the installed system, with virt-install's answers alone.

The mirror that it takes all from is on the guest's own network. The system that is installed is Debian's own, signed by
Debian; the installer checks it as it would the real one, and its components with a key of the test's.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import installer_udebs, namespaces
from support.debian_mirror import Mirror, socket_inside
from support.guesthoused import BIN, Guesthoused

pytestmark = pytest.mark.slow

_PASSWORD = "three blind mice"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGgPeULEWxoPdYSWrYpJkcjSsBMBHnmgK1SnBFnqgnFx mouse@cheese"
_MINUTES = 60


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> installer_udebs.Repository:
    made = installer_udebs.make(tmp_path_factory.mktemp("components"))
    if made.lacks:
        pytest.skip(f"components of the installer are to be had in no way here: {', '.join(made.lacks)}")
    for name, how in made.how.items():
        print(f"{name}: {how}")
    return made


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path) / "root")
    yield guesthoused
    guesthoused.close()


@pytest.fixture
def mirror(daemon: Guesthoused, components: installer_udebs.Repository, tmp_path: Path) -> Iterator[Mirror]:
    made = Mirror(socket_inside(daemon.ns.pid, ("192.168.122.1", 8000)), tmp_path / "mirror", components)
    yield made
    made.close()


def test_debian_installs_itself(daemon: Guesthoused, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{_PASSWORD}\n")
    (tmp_path / "key.pub").write_text(f"{_KEY}\n")
    unattended = (
        f"admin-password-file={tmp_path}/password,user-login=mouse,user-password-file={tmp_path}/password,hostname=cheese,"
        f"locale=zh_CN,timezone=Asia/Shanghai,mirror={mirror.url},tasks=none,packages=tree,ssh-key={tmp_path}/key.pub,"
        "late-command=echo done >/etc/late"
    )
    console = tmp_path / "console.log"
    argv = [
        *(str(BIN / "virt-install"), "--connect", daemon.uri, "--name", "cheese", "--osinfo", "debian11"),
        *("--virt-type", "qemu", "--memory", "1024", "--vcpus", "2", "--disk", "size=4,cache=unsafe"),
        *("--network", "default", "--graphics", "none", "--serial", f"pty,log.file={console}"),
        *("--location", f"{mirror.url}/dists/bookworm", "--unattended", unattended),
        *("--extra-args", f"console=ttyS0 DEBIAN_FRONTEND=text mirror/udeb/suite={installer_udebs.SUITE}"),
        *("--noautoconsole", "--wait", str(_MINUTES)),
    ]
    begin = time.monotonic()
    done = subprocess.run(daemon.ns.command(argv), capture_output=True, text=True, timeout=(_MINUTES + 5) * 60)
    said = console.read_text(errors="replace")[-4000:] if console.exists() else ""
    assert done.returncode == 0, (done.stdout, done.stderr, said)
    assert "Domain creation completed." in done.stdout
    print(f"installed in {time.monotonic() - begin:.0f} s; {len(set(mirror.asked))} files of the mirror")
