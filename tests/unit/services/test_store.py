"""The store: two databases, what each promises, and what a reboot drops."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.services import store as module
from guesthouse.services.store import Definition, Store

_UUID = "8a7d1c00-52a4-4f0e-9c55-0000000001{:02x}"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("state", "run"):
        (tmp_path / name).mkdir()
    return tmp_path / "state", tmp_path / "run"


@pytest.fixture
def store(folders: tuple[Path, Path]) -> Iterator[Store]:
    opened = Store(*folders)
    yield opened
    opened.close()


def test_definitions(store: Store) -> None:
    store.put("domain", _UUID.format(2), "b", "<domain/>")
    store.put("domain", _UUID.format(1), "a", "<domain a='1'/>", autostart=True)
    store.put("network", _UUID.format(1), "a", "<network/>")
    assert [d.name for d in store.all("domain")] == ["a", "b"]
    assert store.get("domain", _UUID.format(1)) == Definition(_UUID.format(1), "a", "<domain a='1'/>", True)
    assert store.get("pool", _UUID.format(1)) is None
    store.set_autostart("domain", _UUID.format(1), False)
    store.put("domain", _UUID.format(2), "c", "<domain c='1'/>")
    assert [(d.name, d.autostart) for d in store.all("domain")] == [("a", False), ("c", False)]
    store.delete("domain", _UUID.format(1))
    assert [d.name for d in store.all("domain")] == ["c"] and len(store.all("network")) == 1


def test_a_name_is_taken_once_a_kind(store: Store) -> None:
    store.put("domain", _UUID.format(1), "a", "<domain/>")
    with pytest.raises(sqlite3.IntegrityError):
        store.put("domain", _UUID.format(2), "a", "<domain/>")
    assert [d.uuid for d in store.all("domain")] == [_UUID.format(1)]


def test_runtime_rows(store: Store) -> None:
    store.put_runtime("domain", _UUID.format(1), {"phase": "starting"})
    store.put_runtime("domain", _UUID.format(1), {"phase": "running", "pid": 7})
    store.put_runtime("network", _UUID.format(1), {"bridge": "virbr0"})
    assert store.get_runtime("domain", _UUID.format(1)) == {"phase": "running", "pid": 7}
    assert store.all_runtime("domain") == {_UUID.format(1): {"phase": "running", "pid": 7}}
    store.delete_runtime("domain", _UUID.format(1))
    assert store.get_runtime("domain", _UUID.format(1)) is None
    assert list(store.all_runtime("network")) == [_UUID.format(1)]


def test_both_outlive_the_daemon(folders: tuple[Path, Path]) -> None:
    first = Store(*folders)
    assert first.first_since_boot
    first.put("domain", _UUID.format(1), "a", "<domain/>")
    first.put_runtime("domain", _UUID.format(1), {"pid": 7})
    assert [first.next_id(), first.next_id()] == [1, 2]
    first.close()
    second = Store(*folders)
    assert not second.first_since_boot
    assert len(second.all("domain")) == 1 and second.all_runtime("domain") == {_UUID.format(1): {"pid": 7}}
    assert second.next_id() == 3
    second.close()


def test_a_reboot_drops_runtime_rows_alone(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = Store(*folders)
    first.put("domain", _UUID.format(1), "a", "<domain/>")
    first.put_runtime("domain", _UUID.format(1), {"pid": 7})
    first.next_id()
    first.close()
    read_text = Path.read_text

    def another_boot(path: Path, *args: str) -> str:
        return "another boot\n" if path.name == "boot_id" else read_text(path, *args)

    monkeypatch.setattr(module.Path, "read_text", another_boot)
    second = Store(*folders)
    assert second.first_since_boot
    assert second.all_runtime("domain") == {} and len(second.all("domain")) == 1
    assert second.next_id() == 1
    second.close()


def test_pragmas_are_set(store: Store) -> None:
    def pragma(db: sqlite3.Connection, name: str) -> object:
        return db.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma(store._state, "journal_mode") == pragma(store._run, "journal_mode") == "wal"
    assert pragma(store._state, "synchronous") == 2  # FULL
    assert pragma(store._run, "synchronous") == 0  # OFF


def test_files_are_for_their_owner_alone(folders: tuple[Path, Path], store: Store) -> None:
    store.put("domain", _UUID.format(1), "a", "<domain/>")
    store.put_runtime("domain", _UUID.format(1), {})
    files = [file for folder in folders for file in folder.iterdir()]
    assert {file.name for file in files} >= {"guesthouse.db", "guesthouse.db-wal", "runtime.db", "runtime.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_what_was_put_is_there_after_a_kill(folders: tuple[Path, Path]) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from guesthouse.services.store import Store\n"
        "store = Store(Path(sys.argv[1]), Path(sys.argv[2])); store.put('domain', 'u', 'a', '<domain/>')\n"
        "store.put_runtime('domain', 'u', {'pid': 7}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, *map(str, folders)])
    assert run.returncode == -9
    store = Store(*folders)
    assert store.get("domain", "u") is not None and store.get_runtime("domain", "u") == {"pid": 7}
    store.close()
