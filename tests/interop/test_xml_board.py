"""Documents of all of a guest but its disks, cards and host devices, put to C libvirtd and to our daemon: what is defined,
what is refused and in which words, what libvirt adds, and the command line are the same but for what is known."""

from __future__ import annotations

import pytest

from support import board_documents, xmldiff
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd


def test_some_documents(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    documents = board_documents.some(10)
    found = xmldiff.differences(documents, c_libvirtd.socket, guesthoused.socket, revive=c_libvirtd.restart)
    unknown = xmldiff.unknown(found, xmldiff.known(board_documents.KNOWN))
    assert not unknown, "\n".join(map(str, unknown[:20]))


@pytest.mark.slow
def test_all_documents(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    found = xmldiff.differences(
        board_documents.whole(), c_libvirtd.socket, guesthoused.socket, revive=c_libvirtd.restart
    )
    rows = xmldiff.known(board_documents.KNOWN)
    unknown = xmldiff.unknown(found, rows)
    assert not unknown, "\n".join(map(str, unknown[:20]))
    assert not xmldiff.stale(found, rows)
