"""Command lines: golden ones of our own domains, and libvirt's own test cases compared as meaning."""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError
from guesthouse.model.defaults import GuestDefaults
from guesthouse.qemu import command
from support import argv, domains
from support.reference import REFERENCE, needs_reference

Golden = Callable[[Path, str], None]

GOLDEN = (
    *("minimal-pc", "minimal-q35", "typical-pc", "typical-q35", "disks-pc", "disks-q35", "interfaces-pc"),
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
        "virtio-options",
    ),
)
#: The golden domains that a guest would not get as they ask: each is refused, in words that name what.
REFUSED = {
    "characters-more": "character device type 'udp'",
    "clock-timezone": "clock offset 'timezone'",
    "cpu-cells": "NUMA cells",
    "cpu-host-model": "",
    "disks-more": "<auth> of disk 'vda'|disk type 'network'",
    "features": "feature <hap>",
    "interfaces-more": "vlan tag not supported for this connection type",
    "os-uefi": "",
    "screens-spice-options": "<channels> of spice",
    "tuned": "<blkiotune>",
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
    wiring.vhosts = {"net0": 9}
    built = command.build(live, wiring)
    assert sorted(built.fds) == [3, 9, 1729, 1729]
    assert '"vhostfd":"9"' in built.shell()


def test_commas_are_doubled() -> None:
    xml = domains.text("minimal-pc").replace("<name>minimal-pc", "<name>a,b")
    assert "guest=a,,b,debug-threads=on" in build(xml)


# -- libvirt's own test cases

CASES = REFERENCE / "xml/qemuxml"

#: At least so many command lines mean the same; the number may only rise.
FLOOR = 70
#: The others, each with its reason.
DIFFERENT = {
    "audio-file-best": "refused: settings of <audio>",
    "audio-file-full": "refused: settings of <audio>",
    "audio-none-best": "refused: settings of <audio>",
    "audio-pulseaudio-best": "refused: settings of <audio>",
    "audio-pulseaudio-minimal": "refused: audio backend 'pulseaudio'",
    "audio-spice-best": "refused: settings of <audio>",
    "audio-spice-full": "refused: settings of <audio>",
    "channel-qemu-vdagent": "refused: character device type 'qemu-vdagent'",
    "channel-unix-guestfwd": "refused: channel target type 'guestfwd'",
    "cpu-host-model": "libvirt's test has a made-up host processor",
    "disk-cdrom": "write-cache of an empty drive",
    "disk-geometry": "refused: <geometry> of disk 'hda'",
    "disk-scsi": "refused: SCSI controller model 'ibmvscsi'",
    "disk-serial": "refused: disk bus 'sd' (disk 'sda')",
    "disk-source-fd": "files as descriptors",
    "disk-source-pool": "refused: disk type 'volume' (disk 'hda')",
    "disk-transient": "refused: transient disk 'vda'",
    "firmware-auto-bios-stateless": "firmware is not chosen here",
    "firmware-auto-efi-no-secboot": "refused: UEFI firmware",
    "firmware-auto-efi-secboot": "refused: UEFI firmware",
    "firmware-manual-bios-rw-implicit": "refused: UEFI firmware",
    "firmware-manual-efi-nvram-file": "refused: UEFI firmware",
    "firmware-manual-efi-stateless": "refused: UEFI firmware",
    "genid-auto": "libvirt's test has a fixed random number",
    "graphics-spice-auto-socket-cfg": "a setting of qemu.conf",
    "graphics-spice-compression": "refused: <jpeg> of spice graphics",
    "graphics-spice-qxl-vga": "refused: <channels> of spice graphics",
    "graphics-spice-timeout": "refused: <script> of interface 52:54:00:71:70:89",
    "graphics-spice-usb-redir": "refused: device <redirdev>",
    "graphics-spice": "refused: <channels> of spice graphics",
    "graphics-vnc-auto-socket-cfg": "a setting of qemu.conf",
    "hugepages-default-system-size": "refused: <memoryBacking>",
    "hyperv-panic": "refused: device <panic>",
    "intel-iommu-eim": "refused: device <iommu>",
    "intel-iommu": "refused: device <iommu>",
    "iothreads-ids-pool-sizes": "refused: <iothreadids>",
    "iothreads-virtio-scsi-pci": "refused: <iothreads>",
    "mlock-on": "refused: <memoryBacking>",
    "net-virtio-rss": "refused: could not find capabilities for arch=i686 domaintype=qemu",
    "numatune-memnode-restrictive-mode": "refused: <numatune>",
    "pages-discard": "refused: <memoryBacking>",
    "panic-double": "refused: device <panic>",
    "panic-no-address": "refused: device <panic>",
    "pc-i440fx-acpi-root-hotplug-enable": "hot plug on the root bus",
    "qemu-ns": "refused: <qemu:commandline>",
    "serial-vc-chardev": "refused: character device type 'vc'",
    "usb-redir-unix": "refused: device <redirdev>",
    "video-virtio-vga-gpu-gl": "refused: 3D acceleration of video devices",
    "virtio-lun": "refused: disk device='lun' (disk 'vda')",
}


def reference_cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    cases = json.loads((CASES / "cases.json").read_text())["cases"]
    return [case for case in cases if case["plain_host"] and case["caps"] == "x86_64-latest"]


def means_the_same(case: dict[str, Any]) -> bool:
    wanted = argv.meaning(argv.read((CASES / case["args"]).read_text()))
    try:
        return argv.meaning(build((CASES / case["xml"]).read_text(), domains.REFERENCE_HOST)) == wanted
    except GuesthouseError:
        return False


@needs_reference
def test_reference_command_lines_mean_the_same() -> None:
    same = {case["name"]: means_the_same(case) for case in reference_cases()}
    equal = [name for name, is_same in same.items() if is_same]
    different = [name for name, is_same in same.items() if not is_same]
    print(f"{len(equal)} of {len(same)} reference command lines mean the same")
    assert not set(different) - set(DIFFERENT), "these meant the same before"
    assert not set(DIFFERENT) & set(equal), "these mean the same now: take them off the list and raise the floor"
    assert len(equal) >= FLOOR
