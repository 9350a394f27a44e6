"""Documents of disks, controllers, filesystems, cards and host devices, and boards of many devices, put to both daemons.

What differs and is to stay is tests/data/xmldiff/devices.json, a row each with its reason; devices-pairs.json has what
only comes up where bases and changes meet that do not belong together.
"""

from __future__ import annotations

import pytest

from support import xml_devices, xmldiff
from support.domains import DATA
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

# a volume without a name is libvirtd's end, and a new one takes its time
_DEADLY = "@type=volume"
KNOWN = xmldiff.known(DATA / "xmldiff/devices.json")


def compared(
    documents: list[xmldiff.Document], theirs: Libvirtd, ours: Guesthoused, *, start: bool = False
) -> list[xmldiff.Difference]:
    return xmldiff.differences(documents, theirs.socket, ours.socket, start=start, revive=theirs.restart)


def told(found: list[xmldiff.Difference]) -> str:
    return "\n".join(map(str, found[:40])) + (f"\n... {len(found)} in all" if found else "")


def test_every_value_of_the_schema_and_some_boards(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    documents = [*xml_devices.dense(), *xml_devices.boards(80), *xml_devices.others()]
    documents = [each for each in documents if not each[0].endswith(_DEADLY)]
    assert not told(xmldiff.unknown(compared(documents, c_libvirtd, guesthoused), KNOWN))


@pytest.mark.slow
def test_every_value_in_every_base_and_pairs(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    documents = [*xml_devices.everything(pairs=300), *xml_devices.boards(2000), *xml_devices.others()]
    found = compared(documents, c_libvirtd, guesthoused)
    known = [*KNOWN, *xmldiff.known(DATA / "xmldiff/devices-pairs.json")]
    assert not told(xmldiff.unknown(found, known))
    assert xmldiff.stale(found, known) == []
