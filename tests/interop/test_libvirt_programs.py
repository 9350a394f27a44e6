"""Programs of others with guesthouse.libvirt in libvirt-python's place: virt-install and its kin, libvirtaio."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import guesthouse
from support import tour
from support.guesthoused import Guesthoused
from support.namespaces import reachable

SCRIPT = Path(__file__).with_name("virtinst_with.py")
SOURCES = Path(guesthouse.__file__).parents[1]


def test_they_make_change_and_copy_a_guest(guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory) -> None:
    images = reachable(tmp_path_factory.mktemp("virtinst")) / "images"
    images.mkdir()
    images.chmod(0o777)

    def run(program: str, *args: str) -> str:
        command = ["/usr/bin/python3", str(SCRIPT), str(SOURCES), program, "--connect", guesthoused.uri, *args]
        argv = guesthoused.ns.command(command)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    disk = f"path={images}/made.qcow2,size=0.01"
    try:
        said = run(
            *("virtinstall", "--name", "made", "--memory", "64", "--disk", disk, "--import", "--noautoconsole"),
            *("--osinfo", "generic", "--network", "none", "--graphics", "vnc", "--virt-type", "qemu"),
        )
        assert "Domain creation completed." in said
        assert "running" in guesthoused.run("domstate", "made").stdout
        assert "Domain 'made' defined successfully." in run(
            "virtxml", "made", "--edit", "--metadata", "title=x", "--define"
        )
        assert guesthoused.run("destroy", "made").returncode == 0
        assert "Clone 'copied' created successfully." in run("virtclone", "-o", "made", "-n", "copied", "--auto-clone")
        assert "copied.qcow2" in guesthoused.run("domblklist", "copied").stdout
    finally:
        for name in ("made", "copied"):
            guesthoused.run("destroy", name)
            guesthoused.run("undefine", name)
        guesthoused.run("pool-destroy", "images")
        guesthoused.run("pool-undefine", "images")


def test_libvirtaio_gives_its_loop(guesthoused: Guesthoused, tmp_path: Path) -> None:
    (tmp_path / "guest.xml").write_text(tour.PLAIN)
    script = SCRIPT.with_name("libvirt_asyncio.py")
    command = ["/usr/bin/python3", str(script), str(SOURCES), guesthoused.uri, str(tmp_path / "guest.xml")]
    argv = guesthoused.ns.command(command)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.stdout == "[('plain', 0, 0, 'x'), ('plain', 1, 0, 'x')]\n0\n", done.stderr
