"""Image files in the guest's hands and back: as root, with a user that is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guesthouse.errors import SystemFailure
from guesthouse.qemu import images
from guesthouse.qemu.process import User
from support import namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed")
GUEST = User(65534, 65533, (65533, 54321))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = namespaces.reachable(tmp_path) / "disk.img"
    file.write_bytes(b"data")
    file.chmod(0o600)
    os.chown(file, 1234, 1235)
    return file


def owner(file: Path) -> tuple[int, int]:
    return file.stat().st_uid, file.stat().st_gid


def test_given_and_given_back(image: Path) -> None:
    record = images.plan(str(image), GUEST, writable=True)
    assert record is not None and owner(image) == (1234, 1235), "a plan changes nothing"
    images.apply(record)
    assert owner(image) == (65534, 65533)
    images.restore(record)
    assert owner(image) == (1234, 1235)


def test_a_record_is_plain_data_and_can_be_taken_back_twice(image: Path) -> None:
    record = images.plan(str(image), GUEST, writable=False)
    assert record == {"path": str(image), "uid": 1234, "gid": 1235, "set": 65534, "set_gid": 65533}
    images.apply(record)
    images.restore(record)
    images.restore(record)
    assert owner(image) == (1234, 1235)


def test_a_file_that_got_another_owner_meanwhile_is_left_to_it(image: Path) -> None:
    record = images.plan(str(image), GUEST, writable=True)
    assert record is not None
    images.apply(record)
    os.chown(image, 777, 777)
    images.restore(record)
    assert owner(image) == (777, 777)


def test_a_file_that_is_gone_is_nothing_to_give_back(image: Path) -> None:
    record = images.plan(str(image), GUEST, writable=True)
    assert record is not None
    images.apply(record)
    image.unlink()
    images.restore(record)
    with pytest.raises(SystemFailure, match="unable to set user and group on"):
        images.apply(record)


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "writable", "changes"),
    [
        (0o644, 0, 0, False, False),
        (0o644, 0, 0, True, True),
        (0o666, 0, 0, True, False),
        (0o600, 65534, 0, True, False),
        (0o400, 65534, 0, True, True),
        (0o640, 0, 65533, False, False),
        (0o640, 0, 65533, True, True),
        (0o660, 0, 54321, True, False),
        (0o604, 0, 65533, False, True),
    ],
)
def test_only_what_the_user_may_not_is_changed(
    image: Path, mode: int, uid: int, gid: int, writable: bool, changes: bool
) -> None:
    image.chmod(mode)
    os.chown(image, uid, gid)
    assert (images.plan(str(image), GUEST, writable=writable) is not None) is changes


def test_the_daemon_itself_needs_nothing(image: Path) -> None:
    assert images.plan(str(image), User(), writable=True) is None


def test_a_missing_file_is_libvirts_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure) as caught:
        images.plan(str(tmp_path / "absent"), GUEST, writable=True)
    assert "Cannot access storage file" in str(caught.value) and "(as uid:65534, gid:65533)" in str(caught.value)
    assert "No such file or directory" in str(caught.value)


def test_a_folder_that_may_not_be_entered_is_named_with_the_way_out(image: Path) -> None:
    image.parent.chmod(0o700)
    with pytest.raises(SystemFailure) as caught:
        images.plan(str(image), GUEST, writable=False)
    assert f"may not enter '{image.parent}'; allow it: setfacl -m u:" in str(caught.value)


def test_users_by_name() -> None:
    root = images.find_user("root", "")
    assert (root.uid, root.gid) == (0, 0) and root.same
    assert images.find_user("root", "daemon").gid == 1
    with pytest.raises(KeyError):
        images.find_user("nobody-of-that-name", "")
    with pytest.raises(KeyError):
        images.find_user("root", "no-group-of-that-name")
