"""The file of a saved guest: written whole or not at all, and changed in place without a moment of neither."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guesthouse.errors import OperationFailed, SystemFailure
from guesthouse.qemu import save_image
from guesthouse.qemu.save_image import Draft, Saved

STREAM = b"what QEMU wrote" * 1000


def write(path: Path, xml: str = "<domain/>", running: bool = True) -> Path:
    draft = Draft(path, "mark")
    try:
        draft.begin(Saved(xml, running))
        os.write(draft.fd, STREAM)
        draft.flush(drop=True)
        draft.commit()
    finally:
        draft.close()
    return path


def stream(path: Path) -> bytes:
    fd, _ = save_image.open_image(path)
    with open(fd, "rb") as file:
        return file.read()


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    xml = "<domain>" + "é" * 100_000 + "</domain>"  # more than the least that is set aside
    path = write(tmp_path / "image", xml, running=False)
    assert save_image.read(path) == Saved(xml, False)
    assert stream(path) == STREAM
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_changes_nothing_until_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_text("old")
    draft = Draft(path, "mark")
    draft.begin(Saved("<domain/>", True))
    assert path.read_text() == "old"
    draft.discard()
    draft.close()
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


def test_a_leftover_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    save_image.draft_path(tmp_path / "image", "mark").symlink_to(victim)
    write(tmp_path / "image")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("times", [1, 2, 5])
def test_the_document_can_be_changed_again_and_again(tmp_path: Path, times: int) -> None:
    path = write(tmp_path / "image")
    for number in range(times):
        save_image.rewrite(path, Saved(f"<domain>{number}</domain>", bool(number % 2)))
    assert save_image.read(path) == Saved(f"<domain>{times - 1}</domain>", bool((times - 1) % 2))
    assert stream(path) == STREAM


def test_a_change_that_was_cut_off_leaves_the_old(tmp_path: Path) -> None:
    path = write(tmp_path / "image")
    save_image.rewrite(path, Saved("<new/>", True))
    with open(path, "r+b") as file:  # the second slot holds the change
        file.seek(4096 + 64 * 1024 + 20)
        file.write(b"#")
    assert save_image.read(path) == Saved("<domain/>", True)


def test_a_document_must_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "image")
    with pytest.raises(OperationFailed, match="new xml too large to fit in file"):
        save_image.rewrite(path, Saved("x" * 100_000, True))
    assert save_image.read(path) == Saved("<domain/>", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "failed to read qemu header"),
        (b"short", "failed to read qemu header"),
        (b"LibvirtQemudSave" + bytes(100), "image magic is incorrect"),
        (b"GuesthouseSaved\n\x02" + bytes(100), r"image version is not supported \(2 > 1\)"),
        (b"GuesthouseSaved\n\x01" + bytes(10_000), "failed to read XML"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OperationFailed, match=words):
        save_image.open_image(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_where_nothing_can_be(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=r"Failed to open file '.*nofile': No such file or directory"):
        save_image.read(tmp_path / "nofile")
    with pytest.raises(SystemFailure, match=r"Failed to create file '.*': No such file or directory"):
        Draft(tmp_path / "nofolder/image", "mark")
    with pytest.raises(SystemFailure, match=r"Failed to create file '.*': Is a directory"):
        Draft(tmp_path, "mark")
