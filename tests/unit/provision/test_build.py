"""Building images: what is put where on the disk, and what is said before anything is done."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import InvalidArg, OperationFailed
from guesthouse.provision.images import build


def test_which_releases() -> None:
    for name in ("debian-12", "debian12", "Debian-12", "bookworm"):
        assert build.version(name) == "bookworm"
    with pytest.raises(InvalidArg, match="'fedora-40' cannot be built here: there are debian-11, debian-12"):
        build.version("fedora-40")


def test_sources_are_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (
        "http://a.test/debian/ bookworm\nhttp://a.test/debian/ bookworm-updates\nhttp://s.test/sec/ bookworm-security\n"
    )
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, asked))  # type: ignore[attr-defined]
    assert [line.partition("] ")[2] for line in build.sources("trixie")] == [
        "http://a.test/debian trixie main",
        "http://a.test/debian trixie-updates main",
        "http://s.test/sec trixie-security main",
    ]
    assert [line.partition("] ")[2] for line in build.sources("sid", "http://own.test/d")] == [
        "http://own.test/d sid main"
    ]
    # nobody's mirror: Debian's
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 100, ""))  # type: ignore[attr-defined]
    assert build.sources("bookworm")[0].endswith(" http://deb.debian.org/debian bookworm main")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name in ("mmdebstrap", "mformat") else name)  # type: ignore[attr-defined]
    monkeypatch.setattr(build, "_NEEDS", {"mmdebstrap": "mmdebstrap", "mformat": "mtools", "/none/boot": "grub-x"})
    with pytest.raises(InvalidArg, match="this host needs: sudo apt install mmdebstrap mtools grub-x"):
        build.build(build.Recipe("bookworm"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_grub_finds_itself() -> None:
    boot = build.boot_sector(bytes(range(256)) * 2)
    assert len(boot) == 440 and boot[0x5C:0x64] == (2048).to_bytes(8, "little") and boot[0x66:0x68] == b"\x90\x90"
    assert boot[:0x5C] == bytes(range(0x5C))
    core = build.core_image(bytes(512 * 3 + 7))
    # behind the first sector are three more, the last of them not full
    assert core[0x1F4:0x1FE] == (2049).to_bytes(8, "little") + (3).to_bytes(2, "little") and len(core) == 512 * 3 + 7
    with pytest.raises(OperationFailed, match="too large"):
        build.core_image(bytes((1 << 20) + 1))


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as out:
        out.seek(8 << 20)
        out.write(b"here")
        out.truncate(64 << 20)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT)
    try:
        build.copy_sparse(source, descriptor, 1 << 20)
    finally:
        os.close(descriptor)
    with target.open("rb") as made:
        made.seek(9 << 20)
        assert made.read(4) == b"here"
    assert target.stat().st_blocks * 512 < 1 << 20
