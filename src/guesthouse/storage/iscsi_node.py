"""What open-iscsi keeps of a target that asks who we are."""

from __future__ import annotations

import os
from pathlib import Path

from guesthouse.errors import Domain, InternalError, SystemFailure
from guesthouse.storage.work import in_thread, run

#: Where open-iscsi keeps its records; Debian's first.
NODES = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes")
_AUTH = "node.session.auth."
_ISCSIADM = "/usr/bin/iscsiadm"


async def write_secret(portal: str, target: str, user: str, password: bytes) -> None:
    """Have the record of a node, which must be there, say how to log in. The password goes into the record's file: the
    program takes it on its command line alone, where every user of this host could read it. Raises InternalError where
    there is no record, SystemFailure."""
    node = ("--mode", "node", "--portal", portal, "--target", target, "--op", "update")
    await run(_ISCSIADM, *node, "--name", f"{_AUTH}authmethod", "--value", "CHAP")
    await run(_ISCSIADM, *node, "--name", f"{_AUTH}username", "--value", user)
    if b"\n" in password or b"\0" in password:
        raise InternalError("an iSCSI password cannot have more than one line", domain=Domain.STORAGE)
    files = [file for folder in NODES for file in _records(Path(folder), portal, target)]
    if not files:
        raise InternalError(f"Failed to update '{_AUTH}password' of node mode for target '{target}'")
    for file in files:
        await in_thread(lambda check, file=file: _put(file, password))  # type: ignore[misc]


def _records(folder: Path, portal: str, target: str) -> list[Path]:
    """The files of a node: one, or a folder with one an interface. "[::1]:3260,1" has the name "::1,3260,1"."""
    host, _, rest = portal.rpartition(":")
    place = folder / target / f"{host.strip('[]')},{rest}"
    if place.is_dir():
        return sorted(place.iterdir())
    return [place] if place.is_file() else []


def _put(file: Path, password: bytes) -> None:
    try:
        lines = [line for line in file.read_bytes().splitlines() if not line.startswith(f"{_AUTH}password ".encode())]
        at = next((n for n, line in enumerate(lines) if line.startswith(b"# END RECORD")), len(lines))
        lines.insert(at, f"{_AUTH}password = ".encode() + password)
        new = file.with_name(f".{file.name}.new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(b"\n".join(lines) + b"\n")
        new.rename(file)
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot write '{file}'", domain=Domain.STORAGE) from None
