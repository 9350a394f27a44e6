"""XML of devices as the commands make and change it: the flags that they share, elements, addresses, changed nodes."""

from __future__ import annotations

from guesthouse.cli.virsh.command import flag
from guesthouse.cli.virsh.given import Given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.cli.virsh.command import Option
    from guesthouse.cli.virsh.shell import Shell
    from guesthouse.client import Domain

LIVE, CONFIG = 1, 2
XML_INACTIVE = 2


def change_options() -> tuple[Option, ...]:
    """Which of a guest's documents a change is for."""
    return (
        flag("persistent", "of the guest as it is defined, and as it runs if it does"),
        flag("config", "of the guest as it is defined"),
        flag("live", "of the guest as it runs"),
        flag("current", "of the guest as it is now"),
    )


def change_flags(given: Given) -> int:
    """What the options say; --persistent counts as --config until :func:`with_live`. Raises Failed where they exclude
    each other."""
    given.exclusive("persistent", "current")
    given.exclusive("current", "live")
    given.exclusive("current", "config")
    return (CONFIG if given.has("config") or given.has("persistent") else 0) | (LIVE if given.has("live") else 0)


def with_live(given: Given, guest: Domain, flags: int) -> int:
    """``flags``, and the live guest where --persistent was given and it runs."""
    return flags | LIVE if given.has("persistent") and guest.is_active() else flags


def send(given: Given, guest: Domain, what: str, xml: str, flags: int) -> None:
    """Have a device attached or detached, by the older call where no option says which document is meant."""
    if flags or given.has("current"):
        guest.call(f"{what}_device_flags", xml=xml, flags=flags)
    else:
        guest.call(f"{what}_device", xml=xml)


def element(name: str, attributes: dict[str, str | None], children: str = "") -> str:
    """An element with those attributes that have a value, "" where it would be bare. ``children`` are whole lines."""
    from guesthouse.model.fields import escape

    head = "".join(f" {key}='{escape(value)}'" for key, value in attributes.items() if value is not None)
    if not head and not children:
        return ""
    if not children:
        return f"<{name}{head}/>\n"
    inner = "".join(f"  {line}\n" for line in children.splitlines())
    return f"<{name}{head}>\n{inner}</{name}>\n"


# -- addresses

_DRIVES = ("scsi", "ide", "sata")


def address(text: str, multifunction: bool) -> tuple[str, str] | None:
    """The type that an address as "pci:0000.00.0a.0" begins with, and the element; None for what is none."""
    kind, colon, rest = text.partition(":")
    if not colon:
        return None
    counts = {"pci": 4, "ccw": 3, "usb": 2, **dict.fromkeys(_DRIVES, 3)}
    if kind not in counts:
        return None
    numbers = _numbers(rest, counts[kind], 16 if kind in ("pci", "ccw") else 10)
    if numbers is None:
        return None
    if kind == "pci":
        form = "<address type='pci' domain='0x{:04x}' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'"
        more = " multifunction='on'" if multifunction else ""
        return kind, f"{form.format(*numbers)}{more}/>\n"
    if kind == "ccw":
        return kind, "<address type='ccw' cssid='0x{:02x}' ssid='0x{:01x}' devno='0x{:04x}'/>\n".format(*numbers)
    if kind == "usb":
        return kind, "<address type='usb' bus='{}' port='{}'/>\n".format(*numbers)
    return kind, "<address type='drive' controller='{}' bus='{}' unit='{}'/>\n".format(*numbers)


def _numbers(text: str, count: int, base: int) -> list[int] | None:
    """So many numbers, any one character between each two; None where there are not."""
    digits = "0123456789abcdefABCDEF" if base == 16 else "0123456789"
    found: list[int] = []
    at = 0
    for _ in range(count):
        if base == 16 and text[at : at + 2] in ("0x", "0X"):
            at += 2
        end = at
        while end < len(text) and text[end] in digits:
            end += 1
        if end == at:
            return None
        found.append(int(text[at:end], base))
        at = end + 1
    return found


# -- documents


def document(shell: Shell, guest: Domain, *, inactive: bool) -> Any:
    """The guest's XML, as lxml has it."""
    from lxml import etree

    xml = guest.get_xml_desc(XML_INACTIVE if inactive else 0)
    return etree.fromstring(xml.encode())


def text(node: Any) -> str:
    """The element as libxml2 writes it."""
    from lxml import etree

    return str(etree.tostring(node, encoding="unicode", with_tail=False))


def unlink(node: Any) -> None:
    """Take an element out; the text behind it stays."""
    parent, before = node.getparent(), node.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + (node.tail or "")
    else:
        parent.text = (parent.text or "") + (node.tail or "")
    parent.remove(node)


def value(node: Any, child: str, name: str) -> str | None:
    """The attribute ``name`` of the first ``child``; None where there is none."""
    found = node.find(child)
    return None if found is None else found.get(name)
