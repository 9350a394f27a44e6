"""<domainsnapshot>: the reference documents come out as libvirt writes them; what is wrong is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guesthouse.errors import XMLError
from guesthouse.model.snapshot import Snapshot, parse_snapshot
from support.reference import REFERENCE, needs_reference

FOLDER = REFERENCE / "xml/domainsnapshot"


def cases() -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / "cases.json").read_text())["cases"]) if FOLDER.exists() else []


@needs_reference
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_reference_documents(case: dict[str, Any]) -> None:
    text = (FOLDER / case["xml"]).read_text()
    assert Snapshot.from_xml(text).to_xml() == Snapshot.from_xml(Snapshot.from_xml(text).to_xml()).to_xml()
    if "out" not in case:
        # nothing is lost, and nothing added
        assert "".join(Snapshot.from_xml(text).to_xml().split()) == "".join(text.split())
        return
    wanted = (FOLDER / case["out"]).read_text()
    made = parse_snapshot(text, redefine="<creationTime>" in text, now=1555419243)
    assert made.to_xml() == wanted


DISKS = """\
<domainsnapshot>
  <name>s1</name>
  <memory snapshot='external' file='/srv/m'/>
  <disks>
    <disk name='vda' snapshot='external' type='file'>
      <driver type='qcow2'/>
      <source file='/srv/a.s1'/>
    </disk>
    <disk name='vdb' snapshot='no'/>
  </disks>
</domainsnapshot>
"""


def test_disks() -> None:
    assert Snapshot.from_xml(DISKS).to_xml() == DISKS
    made = parse_snapshot("<domainsnapshot><parent><name>x</name></parent></domainsnapshot>", now=17)
    assert (made.name, made.parent, made.created) == ("17", None, 17)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("s1", "a/b"), "invalid snapshot name 'a/b'"),
        (("snapshot='external' file='/srv/m'", "snapshot='internal' file='/srv/m'"), "requires external snapshot"),
        ((" file='/srv/m'", ""), "external memory snapshots require a filename"),
        (("/srv/m'", "srv/m'"), "must be absolute"),
        (("'external' type", "'elsewhere' type"), "elsewhere"),
    ],
)
def test_refused(change: tuple[str, str], words: str) -> None:
    with pytest.raises(XMLError, match=words):
        parse_snapshot(DISKS.replace(*change))


@pytest.mark.parametrize("left_out", ["name", "creationTime", "state"])
def test_one_that_was_written_before_is_whole(left_out: str) -> None:
    parts = {"name": "s1", "state": "running", "creationTime": "17"}
    text = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items() if name != left_out)
    with pytest.raises(XMLError):
        parse_snapshot(f"<domainsnapshot>{text}</domainsnapshot>", redefine=True)
