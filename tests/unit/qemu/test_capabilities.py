"""What QEMU says of itself, asked once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.qemu import capabilities
from guesthouse.qemu.capabilities import QemuCapabilities, probe

BINARY = shutil.which("qemu-system-x86_64") or ""

needs_qemu = pytest.mark.skipif(not BINARY, reason="no QEMU")


def asked(binary: str, cache: Path, accel: str = "tcg") -> QemuCapabilities:
    return asyncio.run(probe(binary, cache, accel))


@needs_qemu
def test_what_is_found(tmp_path: Path) -> None:
    caps = asked(BINARY, tmp_path)
    listed = subprocess.run([BINARY, "-cpu", "help"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[1] for line in listed.splitlines() if line.startswith("x86 ")}
    assert {c.name for c in caps.cpus} == {
        name for name in names - {"base", "host"} if not name.rpartition("-v")[2].isdigit() or "-v" not in name
    }
    assert caps.arch == "x86_64" and caps.version >= 6002000
    assert caps.default_machine is not None and caps.default_machine.alias == "pc"
    assert "none" not in {m.name for m in caps.machines}
    epyc = caps.cpu("EPYC")
    assert epyc is not None and epyc.vendor == "AMD"
    assert {"lm", "avx2", "svm", "sse4.2", "pclmuldq", "lahf_lm"} <= set(epyc.features)
    assert not epyc.usable and set(epyc.blockers)
    qemu64 = caps.cpu("qemu64")
    assert qemu64 is not None and qemu64.usable and qemu64.vendor == "unknown"
    assert caps.defaults().emulators["x86_64"] == BINARY


@needs_qemu
def test_it_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(BINARY, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(capabilities, "_ask", None)
        assert asked(BINARY, tmp_path) == first
    # a file that another version wrote, or that is damaged, counts for nothing
    (file,) = (tmp_path / "qemu").iterdir()
    saved = json.loads(file.read_text())
    saved["key"][0] -= 1
    saved["value"] = {}
    for text in (json.dumps(saved), "{", "null"):
        file.write_text(text)
        assert asked(BINARY, tmp_path) == first


@needs_qemu
@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm")
def test_kvm_is_another_answer(tmp_path: Path) -> None:
    tcg, kvm = asked(BINARY, tmp_path), asked(BINARY, tmp_path, "kvm")
    assert tcg.cpu("host") is None and kvm.cpu("host") is not None
    assert len(list((tmp_path / "qemu").iterdir())) == 2
    assert tcg.machines == kvm.machines
    for name, vendor in (("EPYC", "AMD"), ("Haswell", "Intel"), ("qemu64", "unknown")):
        models = tcg.cpu(name), kvm.cpu(name)
        assert [model and model.vendor for model in models] == [vendor, vendor]


def test_what_is_no_emulator(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnsupported, match="Cannot check QEMU binary /nonexist: No such file or directory"):
        asked("/nonexist", tmp_path)
    with pytest.raises(InternalError, match="Failed to probe QEMU binary '/bin/true'"):
        asked("/bin/true", tmp_path)
    assert not (tmp_path / "qemu").exists()
