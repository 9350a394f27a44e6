"""Firmware is chosen by what documents ask for; a board that cannot be is refused in libvirt's words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, OperationFailed
from guesthouse.model.domain import Domain
from guesthouse.qemu import firmware
from support import domains

DESCRIPTORS = domains.DATA / "qemu" / "firmware"
DOMAIN = """<domain type='qemu'><name>b</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>{rest}
<os {os}><type machine='{machine}'>hvm</type>{inner}</os><features><acpi/>{features}</features><devices>{devices}</devices>
</domain>"""
SECURE = "<firmware><feature enabled='yes' name='secure-boot'/></firmware>"
NO_KEYS = "<firmware><feature enabled='no' name='enrolled-keys'/></firmware>"


def define(machine: str = "q35", os: str = "", inner: str = "", **parts: str) -> Domain:
    given = {"rest": "", "features": "", "devices": "", **parts}
    return domains.define(DOMAIN.format(machine=machine, os=os, inner=inner, **given))


@pytest.mark.parametrize(
    ("machine", "inner", "image", "template", "smm"),
    [
        ("pc", "", "OVMF_CODE.fd", "OVMF_VARS.fd", None),
        ("q35", "", "OVMF_CODE.secboot.fd", "OVMF_VARS.secboot.fd", True),
        ("q35", NO_KEYS, "OVMF_CODE.secboot.fd", "OVMF_VARS.fd", True),
        ("q35", "<nvram>/x/vars.fd</nvram>" + NO_KEYS, "OVMF_CODE.secboot.fd", "OVMF_VARS.fd", True),
    ],
)
def test_chosen(machine: str, inner: str, image: str, template: str, smm: bool | None) -> None:
    domain = define(machine, "firmware='efi'", inner)
    firmware.choose(domain, Path("/n"), [DESCRIPTORS])
    assert domain.os is not None and domain.os.loader is not None and domain.os.nvram is not None
    assert domain.os.loader.path == f"/usr/share/OVMF/{image}"
    assert domain.os.nvram.template == f"/usr/share/OVMF/{template}"
    assert domain.os.nvram.file == ("/x/vars.fd" if "nvram" in inner else "/n/b_VARS.fd")
    assert domain.features is not None and (domain.features.smm and domain.features.smm.state) == smm


def test_none_fits() -> None:
    with pytest.raises(OperationFailed, match="Unable to find any firmware to satisfy 'efi'"):
        firmware.choose(define("pc", "firmware='efi'", SECURE), Path("/n"), [DESCRIPTORS])
    with pytest.raises(ConfigUnsupported, match="domain has SMM turned off but chosen firmware requires it"):
        domain = define("q35", "firmware='efi'", SECURE, features="<smm state='off'/>")
        firmware.choose(domain, Path("/n"), [DESCRIPTORS])


def test_a_later_folder_hides_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "40-uefi-secure-keys.json").touch()
    shutil.copy(DESCRIPTORS / "60-uefi.json", tmp_path / "50-uefi-secure.json")
    (tmp_path / "70-broken.json").write_text("{")
    found = firmware.descriptors([DESCRIPTORS, tmp_path])
    assert [Path(each.image).name for each in found] == ["bios-256k.bin", "OVMF_CODE.fd", "OVMF_CODE.fd"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"rest": "<cpu><numa><cell cpus='0' memory='1'/><cell cpus='0' memory='1'/></numa></cpu>"},
            "overlapping vCPU",
        ),
        ({"rest": "<cpu><numa><cell cpus='0-5' memory='1'/></numa></cpu>"}, "exceeds the <vcpu> count"),
        ({"rest": "<numatune><memnode cellid='0' nodeset='0'/></numatune>"}, "without any guest NUMA cells"),
        ({"rest": "<maxMemory slots='1' unit='GiB'>1</maxMemory>"}, "At least one numa node"),
        ({"rest": "<vcpus><vcpu id='0' enabled='no'/></vcpus>"}, "vcpu 0 can't be offline"),
        ({"rest": "<iothreadids><iothread id='0'/></iothreadids>"}, "invalid iothread id value '0'"),
        ({"devices": "<memory model='dimm'><target><size>1</size></target></memory>"}, "'maxMemory' is not defined"),
        ({"devices": "<iommu model='intel'><driver intremap='on'/></iommu>"}, "split I/O APIC"),
        ({"devices": "<panic model='s390'/>"}, "only S390 guests"),
        ({"inner": "<loader readonly='yes'>/x</loader>", "os": "firmware='efi'"}, "'readonly' cannot be specified"),
        ({"inner": "<bios useserial='yes'/>"}, "need at least one serial port"),
        ({"features": "<kvm><dirty-ring state='on' size='5'/></kvm>"}, "dirty ring must be power of 2"),
    ],
)
def test_refused_when_it_is_defined(parts: dict[str, str], words: str) -> None:
    with pytest.raises(GuesthouseError, match=words):
        define(**parts)
