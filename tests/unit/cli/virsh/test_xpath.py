"""What --xpath of the dumpxml commands finds."""

from __future__ import annotations

import pytest

from guesthouse.cli.virsh.given import Failed
from guesthouse.cli.virsh.xpath import find

XML = """\
<domain type='qemu'>
  <name>a &amp; b</name>
  <devices>
    <disk type='file'>
      <target dev='vda'/>
    </disk>
    <disk type='block'/>
  </devices>
</domain>
"""


def test_elements_are_indented_on_their_own() -> None:
    assert find(XML, "//disk", wrap=False) == [
        '<disk type="file">\n  <target dev="vda"/>\n</disk>',
        '<disk type="block"/>',
    ]


def test_attributes_and_text() -> None:
    assert find(XML, "//disk/@type", wrap=False) == [' type="file"', ' type="block"']
    assert find(XML, "//name/text()", wrap=False) == ["a &amp; b"]


def test_wrapped_it_is_one_document() -> None:
    assert find(XML, "//disk", wrap=True) == [
        '<nodes>\n  <disk type="file">\n    <target dev="vda"/>\n  </disk>\n  <disk type="block"/>\n</nodes>'
    ]


def test_nothing_found() -> None:
    assert find(XML, "//absent", wrap=False) == []


@pytest.mark.parametrize("expression", ["//[", "count(//disk)", "nope()"])
def test_what_finds_no_nodes(expression: str) -> None:
    with pytest.raises(Failed):
        find(XML, expression, wrap=False)
