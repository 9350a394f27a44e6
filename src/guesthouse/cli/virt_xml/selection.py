"""Which parts of a guest an option is about, and which of them a selector such as "target=vda" means."""

from __future__ import annotations

from typing import Any

from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element, find_option
from guesthouse.provision.host import Host


def is_list(name: str) -> bool:
    """Whether a guest may have several of what ``--name`` says, as it may of devices."""
    at = FAMILIES[name].at
    return at.startswith("dev.") or at == "seclabels"


def place(domain: Domain, name: str) -> tuple[Element, str]:
    """The owner of what ``--name`` says and the field that it is in."""
    head, _, field = FAMILIES[name].at.rpartition(".")
    return (domain.dev if head == "dev" else domain), field


def parts(domain: Domain, name: str) -> list[Any]:
    """What the guest has of it now."""
    owner, field = place(domain, name)
    value = getattr(owner, field)
    if isinstance(value, list):
        return list(value)
    return [] if value is None else [value]


def remove(domain: Domain, name: str, part: Any) -> None:
    owner, field = place(domain, name)
    value = getattr(owner, field)
    if isinstance(value, list):
        value[:] = [other for other in value if other is not part]
    else:
        setattr(owner, field, None)


def replace(domain: Domain, name: str, part: Any, by: Any) -> None:
    owner, field = place(domain, name)
    value = getattr(owner, field)
    if isinstance(value, list):
        value[:] = [by if other is part else other for other in value]
    else:
        setattr(owner, field, by)


def select(domain: Domain, name: str, action: str, selector: str, host: Host) -> list[Any]:
    """The parts that ``selector`` means: "" the first, a number (from 1; from the end where negative), "all", or
    sub-options that they match. Raises UsageError where there is none such."""
    found = parts(domain, name)
    if selector == "all":
        return found
    if selector == "" or selector.removeprefix("-").isdigit():
        number = int(selector or "1")
        if number == 0:
            raise UsageError(f"Invalid --edit option '{selector}'")
        if not found:
            raise UsageError(f"No --{name} objects found in the XML")
        if len(found) < abs(number):
            verb, plural = ("'s", "") if len(found) == 1 else (" are", "s")
            raise UsageError(
                f"'--edit {number}' requested but there{verb} only {len(found)} --{name} object{plural} in the XML"
            )
        return [found[number - 1 if number > 0 else number]]
    words = FAMILIES[name].words(selector)
    chosen = [part for part in found if all(_matches(name, part, key, text, host) for key, text in words.items())]
    if not chosen:
        raise UsageError(f"No matching objects found for --{action} {selector}")
    return chosen


def _matches(name: str, part: Element, key: str, text: str | None, host: Host) -> bool:
    from guesthouse.cli.virt_install.suboptions import spelled, unknown

    if name == "disk" and key == "path" and isinstance(part, Disk):
        return part.path == (text or None)
    if name == "hostdev" and key == "name":
        return _is_hostdev(part, text or "", host)
    key = {"path": "backend.device.path"}.get(key, key) if name == "tpm" else key
    key = spelled(key, FAMILIES[name].aliases)
    option = find_option(type(part), key)
    if option is None:
        value = _undeclared(name, part, key)
        if value is not None:
            return value == [text] if text else not value
        known = FAMILIES[name].keys()
        if key in known:  # one that only means something for what is made
            raise UsageError(f"Don't know how to match device type '{name}' property '{key}'")
        raise unknown(name, key, known)
    want = type(part)()
    if text:
        want.set_option(key, text)
    return bool(read(part, key) == read(want, key))


def _undeclared(name: str, part: Element, key: str) -> list[str] | None:
    """What is at a place that the model does not declare; None where ``key`` is no such."""
    from guesthouse.cli.virt_install.places import NUMBER, key_of, numbers_in

    for path in FAMILIES[name].places:
        numbers = numbers_in(key_of(path), key)
        if numbers is None:
            continue
        for number in numbers:
            path = path.replace(NUMBER, f"[{number + 1}]", 1)
        found = part.node().xpath(path.rstrip("/"))
        return [str(each) if isinstance(each, str) else each.text or "" for each in found]
    return None


def read(part: Element, key: str) -> Any:
    """The value at ``key`` of ``part``; None where it has none."""
    option = find_option(type(part), key)
    if option is None:
        return None
    numbers = iter(option[1])
    at: Any = part
    for step in option[0].path:
        if step == "0":
            index = next(numbers)
            at = at[index] if index < len(at) else None
        else:
            at = getattr(at, step)
        if at is None:
            return None
    return at


def _is_hostdev(part: Any, text: str, host: Host) -> bool:
    """Whether a host device is the one that people call ``text``: its numbers as USB (1d6b:2, 1.2) or PCI (0:1f.3)."""
    from guesthouse.cli.virt_xml.edits import made

    twin = made("hostdev", FAMILIES["hostdev"].words(text), text, None, host)
    return bool(twin is not None and twin.source == part.source)
