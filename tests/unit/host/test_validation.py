"""virt-host-validate's checks of machines that there are not; lines and hints are libvirt's."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse.host.checks import Host
from guesthouse.host.kvm import KvmStatus
from guesthouse.host.validation import for_qemu

INTEL = "processor : 0\nflags\t\t: fpu vmx sse\n"
AMD = "flags : svm sev\n"
V2 = {
    "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory\n",
}
WELL = KvmStatus(True, True, "it works")


def made(root: Path, files: dict[str, str], machine: str = "x86_64", status: KvmStatus = WELL, uid: int = 0) -> Host:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            file.mkdir()
        else:
            file.write_text(text)
    return Host(
        root, "me", uid, frozenset(), machine, lambda argv: None, lambda: status, lambda path: 0, lambda path: 0
    )


@pytest.mark.parametrize(
    ("machine", "files", "marks", "hints"),
    [
        (
            "x86_64",
            {"proc/cpuinfo": INTEL, "dev/kvm": "", "dev/vhost-net": "", "dev/net/tun": "", **V2}
            | {"sys/firmware/acpi/tables/DMAR": "", "sys/kernel/iommu_groups/0/": ""},
            "PASS PASS PASS PASS PASS PASS PASS PASS PASS PASS PASS PASS PASS WARN",
            ["Unknown if this platform has Secure Guest support"],
        ),
        (
            "x86_64",
            {"proc/cpuinfo": AMD, "sys/firmware/acpi/tables/IVRS": "", "sys/kernel/iommu_groups/": ""}
            | {"sys/module/kvm_amd/parameters/sev": "N\n", "proc/mounts": "cgroup /c cgroup rw,cpu,cpuacct 0 0\n"},
            "PASS FAIL WARN FAIL PASS PASS WARN WARN WARN WARN PASS WARN WARN",
            ["the 'kvm-intel' or 'kvm-amd' modules", "Add iommu=pt iommu=1 to kernel", "Add kvm_amd.sev=1"],
        ),
        (
            "aarch64",
            {"proc/cpuinfo": "Features : fp asimd\n"},
            "PASS FAIL WARN FAIL WARN WARN WARN WARN WARN WARN WARN WARN",
            ["CPU and firmware supports virtualization and kvm module", "No ACPI IORT table found"],
        ),
        ("s390x", {}, "FAIL WARN FAIL WARN WARN WARN WARN WARN WARN WARN WARN", ["Skipped - PCI support disabled"]),
        ("riscv64", {"dev/kvm": ""}, "PASS PASS WARN FAIL WARN WARN WARN WARN WARN WARN WARN WARN", []),
    ],
)
def test_machines(tmp_path: Path, machine: str, files: dict[str, str], marks: str, hints: list[str]) -> None:
    found = list(for_qemu(made(tmp_path, files, machine)))
    assert [check.mark for check in found] == marks.split()
    told = "\n".join(check.hint for check in found if check.mark != "PASS")
    assert all(hint in told for hint in hints), told


def test_kvm_that_does_not_run_guests(tmp_path: Path) -> None:
    """What libvirt does not look at: one more line, which is no failure."""
    status = KvmStatus(False, True, "it emulates", "switch it off")
    found = list(for_qemu(made(tmp_path, {"proc/cpuinfo": INTEL, "dev/kvm": ""}, status=status)))
    assert (found[3].what, found[3].mark) == ("if KVM runs guests on /dev/kvm", "WARN")
    assert found[3].hint == "it emulates; switch it off"


def test_devices_of_cgroups_are_roots_alone(tmp_path: Path) -> None:
    found = list(for_qemu(made(tmp_path, V2, uid=1000)))
    assert {check.what: check.mark for check in found}["for cgroup 'devices' controller support"] == "WARN"
