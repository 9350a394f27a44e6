"""One private C libvirtd and one guesthoused for all the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd


@pytest.fixture(scope="session")
def c_libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    daemon = Libvirtd(_open(tmp_path_factory.mktemp("libvirtd")))
    yield daemon
    daemon.close()


@pytest.fixture(scope="session")
def guesthoused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    daemon = Guesthoused(_open(tmp_path_factory.mktemp("guesthoused")))
    yield daemon
    daemon.close()


def _open(path: Path) -> Path:
    # pytest makes its folders 0700; the unprivileged user that QEMU runs as must pass through them
    for folder in (path, path.parent, path.parent.parent):
        folder.chmod(0o755)
    return path
