"""Image files in the hands of the guest's user while it runs, and back in their owner's afterwards; and those that are
there for one run alone."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any

from guesthouse.errors import InternalError, SystemFailure
from guesthouse.qemu.process import User

#: How the name of an image ends that is thrown away with the run it is for.
TRANSIENT = ".transient"


def plan(path: str, user: User, *, writable: bool) -> dict[str, Any] | None:
    """What :func:`apply` must do so that ``user`` can use ``path``, and :func:`restore` undoes; None where nothing.

    A file that the user may read already is left alone if it is only read. Nothing is changed here. Raises
    SystemFailure in libvirt's words where the file is not there, or a folder on the way may not be passed (with the
    command that opens it).
    """
    who = f"(as uid:{user.uid if not user.same else os.geteuid()}, gid:{user.gid if not user.same else os.getegid()})"
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise SystemFailure.from_os(error, f"Cannot access storage file '{path}' {who}") from None
    if user.same:
        return None
    for folder in Path(path).resolve().parents:
        entry = folder.stat()
        if not _may(entry, user, stat.S_IXOTH):
            failure = SystemFailure.from_os(
                PermissionError(13, "Permission denied"), f"Cannot access storage file '{path}' {who}"
            )
            name = _name(user.uid)
            failure.message += f"\nuser '{name}' may not enter '{folder}'; allow it: setfacl -m u:{name}:x '{folder}'"
            failure.args = (failure.message,)
            raise failure
    if stat.S_ISBLK(info.st_mode) or stat.S_ISREG(info.st_mode):
        enough = _may(info, user, stat.S_IROTH) and (not writable or _may(info, user, stat.S_IWOTH))
        if not enough:
            return {"path": path, "uid": info.st_uid, "gid": info.st_gid, "set": user.uid, "set_gid": user.gid}
    return None


def apply(record: dict[str, Any]) -> None:
    """Give a file to the guest's user, and make it first where the record says so. Raises SystemFailure."""
    if (make := record.get("make")) is not None:
        _make(record["path"], make["below"], make["format"])
        if record["set"] is None:
            return
    try:
        os.chown(record["path"], record["set"], record["set_gid"])
    except OSError as error:
        raise SystemFailure.from_os(error, f"unable to set user and group on '{record['path']}'") from None


def restore(record: dict[str, Any]) -> None:
    """Give a file back, unless it has been given to somebody else meanwhile, or is gone; one that was made goes."""
    path = record["path"]
    if "make" in record:
        Path(path).unlink(missing_ok=True)
        return
    try:
        if os.stat(path).st_uid == record["set"]:  # noqa: PTH116
            os.chown(path, record["uid"], record["gid"])
    except OSError:
        pass


def _make(path: str, below: str, form: str) -> None:
    Path(path).parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", form, "-b", below, path]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InternalError(f"cannot make the image of a transient disk: {error}") from None
    if done.returncode:
        raise InternalError(f"cannot make the image of a transient disk: {done.stderr.strip()}")


def _may(info: os.stat_result, user: User, other: int) -> bool:
    if info.st_uid == user.uid:
        return bool(info.st_mode & (other << 6))
    if info.st_gid == user.gid or info.st_gid in user.groups:
        return bool(info.st_mode & (other << 3))
    return bool(info.st_mode & other)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_user(user: str, group: str) -> User:
    """Ids of a user and group by name, with the kvm group where there is one. Without a group the one of the user's
    name counts, as on Debian, and the user's own where there is none. Raises KeyError for unknown names."""
    entry = pwd.getpwnam(user)
    try:
        gid = grp.getgrnam(group or user).gr_gid
    except KeyError:
        if group:
            raise
        gid = entry.pw_gid
    groups = []
    try:
        groups.append(grp.getgrnam("kvm").gr_gid)
    except KeyError:
        pass
    return User(entry.pw_uid, gid, tuple({gid, *groups}))
