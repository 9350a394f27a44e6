"""What QEMU can do: asked once, remembered while the binary is the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.qemu.capabilities import QemuCapabilities, probe

QEMU = shutil.which("qemu-system-x86_64")
needs_qemu = pytest.mark.skipif(QEMU is None, reason="QEMU is not installed")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """QEMU behind a script that counts its runs."""
    script = tmp_path / "qemu-system-x86_64"
    script.write_text(f'#!/bin/sh\necho run >>{tmp_path}/runs\nexec {QEMU} "$@"\n')
    script.chmod(0o755)
    return script


def runs(binary: Path) -> int:
    file = binary.parent / "runs"
    return len(file.read_text().split()) if file.exists() else 0


def ask(binary: Path) -> QemuCapabilities:
    return asyncio.run(probe(str(binary), binary.parent / "cache"))


@needs_qemu
def test_asked_of_the_binary_itself(binary: Path) -> None:
    found = ask(binary)
    assert found.arch == "x86_64" and found.version >= 7_000_000 and found.binary == str(binary)
    aliases = {machine.alias for machine in found.machines}
    assert {"pc", "q35"} <= aliases and found.machine("q35").name.startswith("pc-q35-")
    assert found.machine(found.machine("pc").name).default
    assert {"virtio-blk-pci", "usb-tablet", "pcie-root-port"} <= set(found.devices)
    assert "qemu64" in {model.name for model in found.cpus}
    refused = subprocess.run([found.binary, "-spice", "help"], check=False, capture_output=True, text=True).stderr
    spice = "no option group" not in refused
    assert found.displays == (["vnc", "spice"] if spice else ["vnc"])
    defaults = found.defaults()
    assert defaults.emulators["x86_64"] == str(binary) and defaults.machines["pc"] == found.machine("pc").name
    with pytest.raises(ConfigUnsupported, match="does not support machine type 'ps5'"):
        found.machine("ps5")


@needs_qemu
def test_asked_once(binary: Path) -> None:
    first = ask(binary)
    assert runs(binary) == 1
    assert ask(binary) == first
    assert runs(binary) == 1


@needs_qemu
def test_another_binary_is_asked_anew(binary: Path) -> None:
    ask(binary)
    before = binary.stat()
    os.utime(binary, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    ask(binary)
    assert runs(binary) == 2
    binary.write_text(binary.read_text() + "# longer\n")
    os.utime(binary, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    ask(binary)
    assert runs(binary) == 3


@needs_qemu
@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"key": 1}'])
def test_a_spoilt_memory_is_asked_anew(binary: Path, rubbish: str) -> None:
    first = ask(binary)
    [file] = (binary.parent / "cache/qemu").iterdir()
    file.write_text(rubbish)
    assert ask(binary) == first
    assert runs(binary) == 2


def test_no_binary(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnsupported, match=r"No such file or directory.*apt-get install"):
        ask(tmp_path / "qemu-absent")


def test_a_binary_that_is_no_qemu(tmp_path: Path) -> None:
    script = tmp_path / "qemu-system-x86_64"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(InternalError, match="Failed to probe QEMU binary"):
        ask(script)
    assert not (tmp_path / "cache/qemu").exists()
