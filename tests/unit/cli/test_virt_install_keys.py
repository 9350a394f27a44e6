"""Every key of every family does something: each is tried alone, with a value that fits its declaration."""

from __future__ import annotations

from typing import Any

import pytest

from guesthouse.cli.virt_install import device_families
from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.family import Family, seen_to_elsewhere
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import NUMBER
from guesthouse.cli.virt_install.suboptions import spelled
from guesthouse.errors import GuesthouseError
from guesthouse.model.domain import Domain
from guesthouse.model.fields import find_option
from guesthouse.provision.request import Request

_VALUES = (
    *("1", "yes", "7", "/some/path", "x", "52:54:00:12:34:56", "11111111-2222-3333-4444-555555555555", "0:0:4.0"),
    *("6000", "65535", "8080:80", "debian11", "no", "ro", "catchup", "static", "connect", "udp", "host", "A=B"),
)
# what says nothing alone, and why
_SILENT = {
    ("boot", "refresh-machine-type"): "of a guest that is there already: virt-xml's",
    ("disk", "driver.metadata_cache.max_size.unit"): "of a size",
    ("controller", "pcihole64.unit"): "of a size",
    ("memory", "maxMemory.slots"): "of a size",
    ("memory", "hotplugmemoryslots"): "of a size",
    ("redirdev", "bus"): "there is one",
    ("cpu", "secure"): "of a model",
}
_XPATH = {"set": "./@made=x", "value": "x", "create": "./made", "delete": "./*"}


def _state(family: Family, text: str) -> tuple[Any, ...]:
    """All that a line with ``text`` says."""
    request = Request(Domain(type="qemu"))
    wish = None
    if family.name == "disk":
        found = device_families.disk(request, family.words(text), text)
        assert found is not None
        request.domain.dev.disks.append(found[0])
        wish = repr(found[1])
    else:
        family.add_to(request, text)
    shown = request.domain.to_xml(secrets=True)
    security = request.security.to_xml() if request.security is not None else None
    extra = (request.uefi, request.cpu_mode, request.cpu_given, request.root_ports, request.os.name)
    return shown, wish, security, extra, sorted(request.without), [name for _, name in request.named]


def _tried(family: Family, key: str) -> list[str]:
    """Values for ``key``, those that its declaration knows first."""
    found = find_option(family.element, spelled(key, family.aliases)) if family.element is not None else None
    words = [word for word in found[0].spec.kind.words if word != "no"] if found is not None else []
    return [*words[-1:], *words[:1], *_VALUES]


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if family.apply is not seen_to_elsewhere or name == "disk"]
)
def test_every_key_does_something(name: str) -> None:
    family = FAMILIES[name]
    blank = _state(family, "")
    silent = []
    for pattern in family.keys():  # noqa: SIM118 - a method of ours
        key = pattern.replace(NUMBER, "0")
        if key.startswith("xpath"):
            continue
        for value in _tried(family, key):
            try:
                changed = _state(family, f"{key}={value}") != blank
            except (UsageError, GuesthouseError, ValueError):
                continue
            if changed:
                break
        else:
            silent.append(key)
    assert [key for key in silent if (name, key) not in _SILENT] == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("boot", "initarg[0-9]*"),
        ("cputune", "vcpupin[0-9]*.vcpu"),
        ("blkiotune", "device[0-9]*.weight"),
        ("keywrap", "cipher[0-9]*.name"),
        ("cpu", "numa.cell[0-9]*.memory"),
        ("cpu", "numa.cell0.distances.sibling[0-9]*.value"),
        ("network", "portForward0.range[0-9]*.start"),
        ("clock", "timer[0-9]*.name"),
    ],
)
def test_numbers_lead_to_items_of_their_own(name: str, key: str) -> None:
    """Two numbers are two items, and what stands before a number that was named is none."""
    request = Request(Domain(type="qemu"))
    FAMILIES[name].add_to(request, f"{key.replace(NUMBER, '3')}=17,{key.replace(NUMBER, '5')}=18")
    tag = key.partition(NUMBER)[0].rpartition(".")[2]
    shown = request.domain.to_xml()
    assert shown.count("17") == shown.count("18") == 1
    assert shown.count(f"<{tag}") == 2


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.at and family.element])
def test_edits_by_xpath(name: str) -> None:
    """Where a family has an element, XPath edits it after its other words."""
    family = FAMILIES[name]
    text = {"hostdev": "type=pci,", "memdev": "model=dimm,", "iommu": "model=intel,"}.get(name, "")
    text += {"shmem": "name=x,", "watchdog": "model=ib700,", "launchSecurity": "type=sev,"}.get(name, "")
    text += {"memtune": "soft_limit=1,", "blkiotune": "weight=100,", "cputune": "shares=1,"}.get(name, "")
    text += {"idmap": "uid.start=1,", "keywrap": "cipher0.name=aes,", "seclabel": "type=none,"}.get(name, "")
    text += {"input": "type=mouse,", "sound": "model=ich6,", "tpm": "type=emulator,"}.get(name, "")
    if name == "disk":
        words = f"{text}xpath.set=./@made=by,xpath1.create=./new/child,xpath2.delete=./new/child"
        found = device_families.disk(Request(Domain(type="qemu")), family.words(words), words)
        assert found is not None
        shown = found[0].to_xml()
    else:
        request = Request(Domain(type="qemu"))
        family.add_to(
            request, f"{text}xpath.set=./@made,xpath.value=by,xpath1.create=./new/child,xpath2.delete=./new/child"
        )
        shown = request.domain.to_xml()
    assert "made='by'" in shown
    assert "<new/>" in shown
    assert "child" not in shown
