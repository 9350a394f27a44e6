"""Command lines: golden ones of our own domains, and libvirt's own test cases compared as meaning."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.defaults import GuestDefaults
from guesthouse.qemu import command
from support import argv, domains, qemuxml
from support.reference import needs_reference

Golden = Callable[[Path, str], None]

GOLDEN = (
    *("minimal-pc", "minimal-q35", "typical-pc", "typical-q35", "disks-pc", "disks-q35", "interfaces-pc"),
    *("disks-more", "disks-network", "devices-host", "devices-ends", "characters-more", "screens-spice-options"),
    *("interfaces-q35", "screens-vnc", "screens-socket", "screens-none", "screens-anywhere", "screens-spice"),
    *("characters", "console-alone", "console-virtio", "controllers-pc", "controllers-q35", "small-devices-pc"),
    *(
        "small-devices-q35",
        "os-kernel",
        "os-boot",
        "cpu-custom",
        "clock-localtime",
        "clock-absolute",
        "features-windows",
        "features-kvm",
        "cpu-cache",
        "described",
        "board-pc",
        "board-q35",
        "board-uefi",
        "clock-timezone",
        "cpu-cells",
        "features",
        "os-uefi",
        "shares",
        "virtio-options",
    ),
)
#: The golden domains that a guest would not get as they ask: each is refused, in words that name what.
REFUSED = {
    "cpu-host-model": "",
    "interfaces-more": "vlan tag not supported for this connection type",
    "tuned": "another <seclabel> is not supported",
}


def build(xml: str, host: GuestDefaults = domains.HOST) -> list[str]:
    live = domains.live(domains.define(xml, host))
    return command.build(live, domains.wiring(live)).argv


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Golden) -> None:
    golden(domains.DATA / "qemu" / f"{name}.args", argv.pretty(build(domains.text(name))))


def test_every_golden_domain_is_given_or_refused() -> None:
    assert {*GOLDEN, *REFUSED, "clock-variable"} == set(domains.names())


def test_a_variable_clock_is_set_when_the_guest_starts() -> None:
    [base] = re.findall(r"base=([\dT:-]+)", " ".join(build(domains.text("clock-variable"))))
    ahead = calendar.timegm(time.strptime(base, "%Y-%m-%dT%H:%M:%S")) - time.time()
    assert 123400 < ahead <= 123456


@pytest.mark.parametrize("name", [name for name, words in REFUSED.items() if words])
def test_what_is_not_served_is_refused(name: str) -> None:
    with pytest.raises(ConfigUnsupported, match=REFUSED[name]):
        build(domains.text(name))


def test_no_password_is_on_a_command_line() -> None:
    for name in ("screens-vnc", "screens-spice"):
        assert "secret12" in domains.text("screens-vnc") and "long spice" in domains.text("screens-spice")
        line = " ".join(build(domains.text(name)))
        assert "secret12" not in line and "long spice" not in line


def test_descriptors_that_are_named_are_inherited() -> None:
    live = domains.live(domains.define(domains.text("typical-pc")))
    wiring = domains.wiring(live)
    wiring.accelerators = {"net0": [9]}
    built = command.build(live, wiring)
    assert sorted(built.fds) == [3, 9, 1729, 1729]
    assert '"vhostfd":"9"' in built.shell()


def test_commas_are_doubled() -> None:
    xml = domains.text("minimal-pc").replace("<name>minimal-pc", "<name>a,b")
    assert "guest=a,,b,debug-threads=on" in build(xml)


# -- libvirt's own test cases


@needs_reference
def test_reference_command_lines_mean_the_same() -> None:
    for kind, cases in (("arguments", qemuxml.with_arguments()), ("old arguments", qemuxml.with_old_arguments())):
        different = {case["name"] for case in cases if qemuxml.arguments_differ(case)}
        known = set(qemuxml.known()[kind])
        assert not different - known, "these meant the same before"
        assert not known - different, "these mean the same now: run tests/support/qemuxml.py --write"
