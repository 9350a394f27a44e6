"""What is found below a disk's image, and what is not followed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import OperationInvalid
from guesthouse.model.devices.disk import BackingStore
from guesthouse.services import disk_files


def image(path: Path, *words: str) -> str:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "64k"], check=True)
    return str(path)


def forget_format(path: str) -> None:
    """As images are that name another without its format."""
    data = Path(path).read_bytes()
    assert data.count(b"\xe2\x79\x2a\xca") == 1
    Path(path).write_bytes(data.replace(b"\xe2\x79\x2a\xca", b"\x11\x22\x33\x44"))


def found(path: str) -> list[str]:
    below, out = disk_files._below(path, "file", "qcow2", given=False), []
    while below is not None and below.source is not None:
        assert below.format is not None
        out.append(f"{below.format.type} {below.source.file or below.source.protocol}")
        below = below.backing
    return [*out, "end" if below is not None else "unknown"]


def test_a_chain_is_found_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(65536))
    (tmp_path / "sub").mkdir()
    middle = image(tmp_path / "sub/middle", "-b", "../base", "-F", "raw")
    top = image(tmp_path / "top", "-b", middle, "-F", "qcow2")
    assert found(top) == [f"qcow2 {middle}", f"raw {tmp_path}/sub/../base", "end"]
    assert found(image(tmp_path / "alone")) == ["end"]
    assert found(str(tmp_path / "missing")) == ["unknown"]


def test_storage_of_the_network_may_be_below(tmp_path: Path) -> None:
    top = image(tmp_path / "top", "-u", "-b", "nbd://[::1]:10810/export", "-F", "raw")
    below = disk_files._below(top, "file", "qcow2", given=False)
    assert isinstance(below, BackingStore) and below.source is not None
    assert (below.type, below.source.name, below.source.hosts[0].name, below.source.hosts[0].port) == (
        *("network", "export"),
        *("::1", "10810"),
    )
    assert found(image(tmp_path / "other", "-u", "-b", 'json:{"driver":"ssh"}', "-F", "raw")) == ["unknown"]


def test_a_format_that_is_not_told_is_not_guessed(tmp_path: Path) -> None:
    base = image(tmp_path / "base")
    top = image(tmp_path / "top", "-b", base, "-F", "qcow2")
    forget_format(top)
    with pytest.raises(OperationInvalid, match=f"format of backing image '{base}' of image '{top}' was not specified"):
        found(top)
    Path(base).write_bytes(bytes(65536))
    assert found(top) == [f"raw {base}", "end"]


def test_a_chain_that_does_not_end(tmp_path: Path) -> None:
    one = image(tmp_path / "one", "-u", "-b", str(tmp_path / "two"), "-F", "qcow2")
    image(tmp_path / "two", "-u", "-b", one, "-F", "qcow2")
    with pytest.raises(OperationInvalid, match="does not end"):
        found(one)
