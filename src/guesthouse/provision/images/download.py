"""Fetching an image: what was cut off goes on, and nothing counts before its checksum, and its signature, were right."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg, OperationFailed
from guesthouse.provision.images.catalogue import Source

#: Called with the bytes that are there and all there will be (None where nobody knows).
Progress = Callable[[int, "int | None"], None]
_CHUNK = 1 << 20
_TIMEOUT_S = 60
_TRIES = 4
_SUM = re.compile(
    r"^(?:SHA(?:256|512) \((?P<bsd>[^)]+)\) = (?P<sum1>[0-9a-f]+)|(?P<sum2>[0-9a-f]{64,128})(?:\s+\*?(?P<gnu>\S+))?)$"
)
_KINDS = {64: "sha256", 128: "sha512"}
_KEYRINGS = (Path("/usr/share/keyrings"), Path("/usr/share"))


@dataclass(frozen=True)
class Verified:
    """``checksum`` is "sha512:..."; ``signed`` whether a signature was checked, ``why_not`` says why it was not."""

    checksum: str
    signed: bool
    why_not: str = ""


def _open(url: str, start: int = 0) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "guesthouse"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def _text(url: str) -> str:
    try:
        with _open(url) as answer:
            return str(answer.read(1 << 22).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        raise OperationFailed(f"cannot fetch {url}: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server says {error.code} {error.reason}"
    reason = getattr(error, "reason", None)
    return str(getattr(reason, "strerror", None) or reason or getattr(error, "strerror", None) or error)


def fetch(url: str, target: Path, progress: Progress = lambda done, whole: None) -> None:
    """Fetch ``url`` into ``target``. What is in ``target``.part already is not fetched again.

    Raises OperationFailed; the part that came stays then, for the next time.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _TRIES + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            if _go_on(url, part, progress):
                part.replace(target)
                return
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # the part is all of it, or another file's
                part.unlink()
                continue
            raise OperationFailed(f"cannot fetch {url}: {_why(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            came = (part.stat().st_size if part.exists() else 0) > before
            if attempt == _TRIES or not came:
                raise OperationFailed(f"cannot fetch {url}: {_why(error)}") from None
    raise OperationFailed(f"cannot fetch {url}: the connection is cut again and again; what came is kept")


def _go_on(url: str, part: Path, progress: Progress) -> bool:
    """Take the rest; whether all is there."""
    have = part.stat().st_size if part.exists() else 0
    with _open(url, have) as answer:
        if answer.status != 206:
            have = 0  # the server begins anew
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length is not None else None
        with part.open("r+b" if have else "wb") as out:
            out.seek(have)
            out.truncate()
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                have += len(chunk)
                progress(have, whole)
            out.flush()
            os.fsync(out.fileno())
    return whole is None or have == whole


def checksums(text: str) -> dict[str, str]:
    """A file of checksums, in either of the usual forms: file name -> checksum. One without names has the key ''."""
    found = {}
    for line in text.splitlines():
        match = _SUM.match(line.strip())
        if match:
            name = (match["bsd"] or match["gnu"] or "").rpartition("/")[2]
            found[name] = match["sum1"] or match["sum2"]
    return found


def verify(source: Source, file: Path) -> Verified:
    """Check ``file`` against what the publisher says. Raises OperationFailed where it is another one, and then the file
    is gone, or where the publisher's signature is wrong."""
    text = _text(source.sums)
    signed, why_not = _signed(source, text)
    sums = checksums(text)
    wanted = sums.get(source.file_name) or (sums.get("") if len(sums) == 1 else None)
    if wanted is None or len(wanted) not in _KINDS:
        raise OperationFailed(f"{source.sums} has no checksum of {source.file_name}")
    kind = _KINDS[len(wanted)]
    with file.open("rb") as data:
        found = hashlib.file_digest(data, kind).hexdigest()
    if found != wanted:
        file.unlink()
        raise OperationFailed(
            f"{source.file_name} is not the file that its publisher has: {kind} {found[:16]}... instead of "
            f"{wanted[:16]}...; it was removed, try again"
        )
    return Verified(f"{kind}:{found}", signed, why_not)


def _signed(source: Source, text: str) -> tuple[bool, str]:
    """Whether the checksums' signature was checked. Raises OperationFailed for a wrong one."""
    if not source.signature:
        return False, "its publisher does not sign it"
    keyring = next((place / source.keyring for place in _KEYRINGS if (place / source.keyring).is_file()), None)
    if Path(source.keyring).is_absolute() and Path(source.keyring).is_file():
        keyring = Path(source.keyring)
    if keyring is None:
        return False, f"the publisher's key is missing (apt install {source.keys})"
    if not shutil.which("gpgv"):
        return False, "gpgv is missing (apt install gpgv)"
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        folder = Path(name)
        (folder / "sums").write_text(text)
        files = [folder / "sums"]
        if source.signature != "inline":
            (folder / "sums.sig").write_bytes(_bytes(source.signature))
            files.insert(0, folder / "sums.sig")
        ring = _binary(keyring, folder / "ring.gpg")
        done = subprocess.run(["gpgv", "--keyring", ring, *files], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise OperationFailed(f"the signature of {source.sums} is wrong: {said[-1] if said else 'gpgv refuses it'}")
    return True, ""


def _bytes(url: str) -> bytes:
    try:
        with _open(url) as answer:
            return bytes(answer.read(1 << 20))
    except (OSError, http.client.HTTPException) as error:
        raise OperationFailed(f"cannot fetch {url}: {_why(error)}") from None


def _binary(keyring: Path, target: Path) -> Path:
    """A keyring as gpgv takes it: packets, not their armour."""
    import base64

    raw = keyring.read_bytes()
    if not raw.startswith(b"-----BEGIN"):
        return keyring
    body = raw.decode("ascii", "replace").partition("\n\n")[2].partition("\n-----END")[0]
    lines = [line for line in body.splitlines() if not line.startswith("=")]
    target.write_bytes(base64.b64decode("".join(lines)))
    return target


def unpack(file: Path) -> Path:
    """``file`` without its compression (.xz, .gz, .bz2), beside it; the packed one is gone then. Others as they are.

    Raises InvalidArg where it is damaged; then nothing is left of the unpacked one.
    """
    import bz2
    import gzip

    openers: dict[str, Callable[[Path], Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
    opener = openers.get(file.suffix)
    if opener is None:
        return file
    target = file.with_suffix("")
    try:
        with opener(file) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, _CHUNK)
    except (OSError, EOFError, lzma.LZMAError) as error:
        with contextlib.suppress(OSError):
            target.unlink()
        raise InvalidArg(f"{file.name} cannot be unpacked: {error}") from None
    file.unlink()
    return target
