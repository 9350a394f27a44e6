"""The command that takes a picture of a guest's screen."""

from __future__ import annotations

import os
import time

from guesthouse.cli.virsh.command import command, number, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell

_CHUNK = 1 << 18
_ENDINGS = {"image/png": ".png", "image/x-portable-pixmap": ".ppm"}


@command(
    "domain",
    "screenshot",
    "save a picture of a guest's screen",
    DOMAIN,
    string("file", "the file to save to; without it, one named after guest and time", "file"),
    number("screen", "which of its screens, counted from 0"),
    description="Save what a guest's screen shows.",
)
def save_screenshot(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    path = given.text("file")
    screen = given.unsigned("screen") or 0
    with shell.explain(f"could not take a screenshot of {name}"):
        mime, stream = guest.screenshot(screen)
    if path is None:
        # no name of the guest's may lead out of the current folder
        stem = guest.name.replace("/", "_")
        path = f"{stem}-{time.strftime('%Y-%m-%d-%H:%M:%S')}{_ENDINGS.get(mime, '')}"
    new = True
    try:
        try:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            new = False
            target = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError:
        stream.abort()
        raise Failed(f"cannot create file {path}") from None
    whole = False
    try:
        with shell.explain(f"could not receive data from domain '{name}'"), open(target, "wb") as file:
            while block := stream.recv(_CHUNK):
                file.write(block)
        with shell.explain(f"cannot close stream on domain '{name}'"):
            stream.finish()
        whole = True
    except OSError as error:
        stream.abort()
        raise Failed(f"cannot close file {path}: {error.strerror}") from None
    finally:
        if new and not whole:
            os.unlink(path)  # noqa: PTH108 - pathlib costs start-up
    shell.extra(f"Screenshot saved to {path}, with type of {mime}")
