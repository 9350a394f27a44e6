"""Reading a guest's XML."""

from __future__ import annotations

from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from guesthouse.client import Domain


def guest_xml(shell: Shell, guest: Domain, flags: int = 0) -> Element:
    """The root of the guest's XML."""
    from xml.etree.ElementTree import fromstring

    with shell.explain("Failed to get domain description xml"):
        xml = guest.get_xml_desc(flags)
    return fromstring(xml)


def attribute(parent: Element, child: str, *names: str) -> str | None:
    """The first attribute of those ``names`` that the element ``child`` of ``parent`` has; None where empty or none."""
    for found in parent.findall(child):
        for name, value in found.attrib.items():
            if name in names and value:
                return value
    return None
