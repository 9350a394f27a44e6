"""Which cloud images there are: a data file beside this module, and one of the administrator's or the user's own.

A file is JSON, ``{"images": [...]}``: ``name``, ``aliases``, ``title``, ``osinfo`` (names of the system in osinfo-db, the
best first), ``login`` (the image's own user), and ``files`` by architecture: ``url``, ``sums`` (the URL of a file of
checksums; empty for a local file's), ``signature`` (a URL, or "inline"), ``keyring`` (below /usr/share/keyrings or
/usr/share) and ``keys`` (the package that has it).
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg

#: A file that is read besides, the first of those that name an image counts.
VARIABLE = "GUEST_CATALOGUE"
_ARCHES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le"}


@dataclass(frozen=True)
class Source:
    """Where an image for one architecture is, and what proves that it is the right one."""

    url: str
    sums: str = ""
    signature: str = ""
    keyring: str = ""
    keys: str = ""

    @property
    def file_name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """An image of the catalogue."""

    name: str
    title: str
    aliases: tuple[str, ...]
    osinfo: tuple[str, ...]
    login: str
    files: dict[str, Source]

    def source(self, arch: str) -> Source:
        """The image for ``arch`` ("x86_64" or "amd64"). Raises InvalidArg where there is none."""
        found = self.files.get(_ARCHES.get(arch, arch))
        if found is None:
            raise InvalidArg(f"there is no image '{self.name}' for {arch}; there is one for: {', '.join(self.files)}")
        return found


def _places() -> list[Path]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = [Path(found)] if (found := os.environ.get(VARIABLE)) else []
    names = [config / "guesthouse/images.json", Path("/etc/guesthouse/images.json")]
    return [*own, *(path for path in names if path.is_file()), Path(__file__).with_name("catalogue.json")]


def entries() -> list[Entry]:
    """All images, by name. Raises InvalidArg for a catalogue that cannot be read."""
    found: dict[str, Entry] = {}
    for path in _places():
        try:
            rows: list[dict[str, Any]] = json.loads(path.read_text())["images"]
            for row in rows:
                files = {arch: Source(**source) for arch, source in row["files"].items()}
                texts = (tuple(row.get("aliases", ())), tuple(row.get("osinfo", ())), row.get("login", ""))
                entry = Entry(row["name"], row.get("title", row["name"]), *texts, files)
                found.setdefault(entry.name, entry)
        except OSError as error:
            raise InvalidArg(f"the catalogue {path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArg(f"{path} is no catalogue of images: {error}") from None
    return sorted(found.values(), key=lambda entry: entry.name)


def find(name: str) -> Entry:
    """The image called ``name``, by an alias, too. Raises InvalidArg with those that come near."""
    known = entries()
    for entry in known:
        if name.lower() in (entry.name, *entry.aliases):
            return entry
    words = [word for entry in known for word in (entry.name, *entry.aliases)]
    near = difflib.get_close_matches(name.lower(), words, n=3) or [word for word in words if name.lower() in word][:3]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise InvalidArg(f"there is no image '{name}' in the catalogue{hint} (guest image search)")


def search(words: str) -> list[Entry]:
    """The images that have all ``words`` in their names."""
    parts = words.lower().split()
    return [
        entry
        for entry in entries()
        if all(part in " ".join((entry.name, entry.title, *entry.aliases)).lower() for part in parts)
    ]
