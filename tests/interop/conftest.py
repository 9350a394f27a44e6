"""One private C libvirtd and one guesthoused for all the tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable


@pytest.fixture(scope="session")
def c_libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    daemon = Libvirtd(reachable(tmp_path_factory.mktemp("libvirtd")))
    yield daemon
    daemon.close()


@pytest.fixture(scope="session")
def guesthoused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    daemon = Guesthoused(reachable(tmp_path_factory.mktemp("guesthoused")))
    yield daemon
    daemon.close()
