"""What the daemon must not forget, in SQLite: definitions for ever, runtime rows until the host reboots.

Definitions are on disk when :meth:`Store.put` returns (WAL, synchronous FULL). Runtime rows live in a database of
their own in the run folder: they outlive the daemon, but describe processes, so they are dropped when the boot id
changes, and need no fsync. Both files are for the daemon's user alone. Calls are synchronous and short.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

#: The format of runtime rows; rows of another version are given up (their processes are found and ended by reattach).
RUNTIME_VERSION = 1

_DEFINITIONS = """
CREATE TABLE IF NOT EXISTS definition (
  kind TEXT NOT NULL, uuid TEXT NOT NULL, name TEXT NOT NULL, xml TEXT NOT NULL, autostart INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, uuid), UNIQUE (kind, name)
);
CREATE TABLE IF NOT EXISTS secret_value (uuid TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_RUNTIME = """
CREATE TABLE IF NOT EXISTS runtime (
  kind TEXT NOT NULL, uuid TEXT NOT NULL, version INTEGER NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (kind, uuid)
);
CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Definition(NamedTuple):
    """A persistent object: its inactive XML, secrets included."""

    uuid: str
    name: str
    xml: str
    autostart: bool


class Store:
    """``state`` holds the definitions, ``run`` the runtime rows; both folders must exist."""

    def __init__(self, state: Path, run: Path) -> None:
        self._state = _open(state / "guesthouse.db", _DEFINITIONS, "FULL")
        self._run = _open(run / "runtime.db", _RUNTIME, "OFF")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        #: Whether this is the first daemon on this folder since the host booted (or the run folder was emptied).
        self.first_since_boot = self._run_fact("boot") != boot
        if self.first_since_boot:
            with self._run:
                self._run.execute("DELETE FROM runtime")
                self._run.execute("DELETE FROM fact")
                self._run.execute("INSERT INTO fact VALUES ('boot', ?)", (boot,))

    def close(self) -> None:
        self._state.close()
        self._run.close()

    # -- definitions

    def put(self, kind: str, uuid: str, name: str, xml: str, autostart: bool = False) -> None:
        """Write a definition down, in place of the one with the same UUID."""
        with self._state:
            self._state.execute(
                "INSERT INTO definition VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, uuid) DO UPDATE"
                " SET name = excluded.name, xml = excluded.xml, autostart = excluded.autostart",
                (kind, uuid, name, xml, int(autostart)),
            )

    def get(self, kind: str, uuid: str) -> Definition | None:
        row = self._state.execute(
            "SELECT uuid, name, xml, autostart FROM definition WHERE kind = ? AND uuid = ?", (kind, uuid)
        ).fetchone()
        return Definition(row[0], row[1], row[2], bool(row[3])) if row else None

    def all(self, kind: str) -> list[Definition]:
        """All definitions of a kind, by name."""
        rows = self._state.execute(
            "SELECT uuid, name, xml, autostart FROM definition WHERE kind = ? ORDER BY name", (kind,)
        )
        return [Definition(uuid, name, xml, bool(autostart)) for uuid, name, xml, autostart in rows]

    def delete(self, kind: str, uuid: str) -> None:
        with self._state:
            self._state.execute("DELETE FROM definition WHERE kind = ? AND uuid = ?", (kind, uuid))

    def set_autostart(self, kind: str, uuid: str, on: bool) -> None:
        with self._state:
            self._state.execute(
                "UPDATE definition SET autostart = ? WHERE kind = ? AND uuid = ?", (int(on), kind, uuid)
            )

    # -- values of secrets, as they are: the file's mode alone protects them

    def put_secret_value(self, uuid: str, value: bytes) -> None:
        with self._state:
            self._state.execute("INSERT OR REPLACE INTO secret_value VALUES (?, ?)", (uuid, value))

    def secret_values(self) -> dict[str, bytes]:
        """UUID of a secret -> its value."""
        return dict(self._state.execute("SELECT uuid, value FROM secret_value"))

    def delete_secret_value(self, uuid: str) -> None:
        """Forget a value, so that the file does not hold it any more once the journal is written back."""
        with self._state:
            self._state.execute("DELETE FROM secret_value WHERE uuid = ?", (uuid,))

    # -- runtime rows

    def put_runtime(self, kind: str, uuid: str, doc: dict[str, Any]) -> None:
        """Write down what runs, in place of the row with the same UUID."""
        with self._run:
            self._run.execute(
                "INSERT OR REPLACE INTO runtime VALUES (?, ?, ?, ?)", (kind, uuid, RUNTIME_VERSION, json.dumps(doc))
            )

    def get_runtime(self, kind: str, uuid: str) -> dict[str, Any] | None:
        row = self._run.execute("SELECT doc FROM runtime WHERE kind = ? AND uuid = ?", (kind, uuid)).fetchone()
        return dict(json.loads(row[0])) if row else None

    def all_runtime(self, kind: str) -> dict[str, dict[str, Any]]:
        """UUID -> row, of all of a kind."""
        rows = self._run.execute("SELECT uuid, doc FROM runtime WHERE kind = ?", (kind,))
        return {uuid: json.loads(doc) for uuid, doc in rows}

    def delete_runtime(self, kind: str, uuid: str) -> None:
        with self._run:
            self._run.execute("DELETE FROM runtime WHERE kind = ? AND uuid = ?", (kind, uuid))

    def _run_fact(self, key: str) -> str | None:
        row = self._run.execute("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def next_id(self) -> int:
        """The next domain id: counts up from 1 since the host booted."""
        number = int(self._run_fact("domain-id") or 0) + 1
        with self._run:
            self._run.execute("INSERT OR REPLACE INTO fact VALUES ('domain-id', ?)", (str(number),))
        return number


def _open(file: Path, schema: str, synchronous: str) -> sqlite3.Connection:
    file.touch(mode=0o600)
    db = sqlite3.connect(file, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA secure_delete = ON")
    db.executescript(schema)
    return db
