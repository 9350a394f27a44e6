"""What ``virt-host-validate`` looks at before guests run on QEMU: libvirt's checks, in its order and with its words.

Unlike :mod:`guesthouse.host.checks`, whose machines these are, it says what is missing and no more: scripts read it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from guesthouse.host.checks import Host

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"

_NO_HARDWARE = (
    "Host not compatible with KVM; HW virtualization CPU features not found. Only emulated CPUs are available;"
    " performance will be significantly limited"
)
_KVM_HINT = "Check that CPU and firmware supports virtualization and kvm module is loaded"
_KVM_HINT_X86 = "Check that the 'kvm-intel' or 'kvm-amd' modules are loaded & the BIOS has enabled virtualization"
_KVM_ACCESS = "Check /dev/kvm is world writable or you are in a group that is allowed to access it"
_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "blkio")
_NO_TABLE = "No ACPI {} table found, IOMMU either disabled in BIOS or not supported by this hardware platform"
_X86 = ("x86_64", "i386", "i486", "i586", "i686")
_PPC = ("ppc64", "ppc64le")


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what to do where it is not well ("" where nothing can be)."""

    what: str
    mark: str
    hint: str = ""


def for_qemu(host: Host) -> Iterator[Check]:
    """libvirt's checks of a host for QEMU. One more follows where they are content with /dev/kvm and it does not run
    guests all the same."""
    flags = _cpu_flags(host)
    yield from _kvm(host, flags)
    yield _exists(
        host, "/dev/vhost-net", WARN, "Load the 'vhost_net' module to improve performance of virtio networking"
    )
    yield _exists(host, "/dev/net/tun", FAIL, "Load the 'tun' module to enable networking for QEMU guests")
    found = _cgroup_controllers(host)
    for name in _CONTROLLERS:
        yield Check(
            f"for cgroup '{name}' controller support",
            PASS if name in found else WARN,
            f"Enable '{name}' in kernel Kconfig file or mount/enable cgroup controller in your system",
        )
    yield from _iommu(host, flags)
    yield _secure_guests(host, flags)


def _exists(host: Host, path: str, mark: str, hint: str) -> Check:
    return Check(f"if device {path} exists", PASS if host.exists(path) else mark, hint)


def _cpu_flags(host: Host) -> set[str]:
    """What /proc/cpuinfo says of the first processor, under whichever name its architecture has for it."""
    match = re.search(r"^(?:flags|Features|features)\s*:(.*)$", host.read("/proc/cpuinfo"), re.MULTILINE)
    return set(match[1].split()) if match else set()


def _kvm(host: Host, flags: set[str]) -> Iterator[Check]:
    machine = host.machine
    known = machine in (*_X86, *_PPC, "s390x", "aarch64")
    able = {"s390x": "sie" in flags}.get(machine, bool(flags & {"vmx", "svm"}) if machine in _X86 else known)
    if known:
        yield Check("for hardware virtualization", PASS if able else FAIL, _NO_HARDWARE)
    if able or not known:
        there = _exists(host, "/dev/kvm", FAIL, _KVM_HINT_X86 if machine in _X86 else _KVM_HINT)
        yield there
        if there.mark == PASS:
            open_to_us = os.access(host.at("/dev/kvm"), os.R_OK | os.W_OK)
            yield Check("if device /dev/kvm is accessible", PASS if open_to_us else FAIL, _KVM_ACCESS)
            status = host.kvm() if open_to_us else None
            if status is not None and not status.usable:
                hint = f"{status.reason}; {status.remedy}" if status.remedy else status.reason
                yield Check("if KVM runs guests on /dev/kvm", WARN, hint)
    if machine in _PPC:
        loaded = re.search(r"^kvm_hv\s", host.read("/proc/modules"), re.MULTILINE)
        yield Check("for PowerPC KVM module loaded", PASS if loaded else WARN, "Load kvm_hv for better performance")


def _cgroup_controllers(host: Host) -> set[str]:
    """Controllers of either version of cgroups, under the names of version 1."""
    found: set[str] = set()
    for line in host.read("/proc/mounts").splitlines():
        words = line.split()
        if len(words) < 4:
            continue
        if words[2] == "cgroup":
            found.update(words[3].split(","))
        elif words[2] == "cgroup2":
            names = host.read(f"{words[1]}/cgroup.controllers").split()
            found.update(names)
            found.update({"io": ["blkio"], "cpu": ["cpuacct"]}.get(name, [""])[0] for name in names)
            if host.uid == 0:  # devices are BPF's there, which root alone may ask
                found.add("devices")
    return found


def _iommu(host: Host, flags: set[str]) -> Iterator[Check]:
    what, argument = "for device assignment IOMMU support", ""
    table = "DMAR" if "vmx" in flags else "IVRS" if "svm" in flags else ""
    if host.machine in _PPC:
        yield Check(what, PASS)
    elif table or host.machine in ("aarch64", "armv7l", "armv6l"):
        hint = (
            _NO_TABLE.format(table)
            if table
            else "No ACPI IORT table found, IOMMU not supported by this hardware platform"
        )
        has = host.exists(f"/sys/firmware/acpi/tables/{table or 'IORT'}")
        yield Check(what, PASS if has else WARN, hint)
        if not has:
            return
        argument = {"DMAR": "intel_iommu=on", "IVRS": "iommu=pt iommu=1"}.get(table, "")
    elif host.machine == "s390x":
        if not host.exists("/sys/bus/pci/devices"):
            yield Check(what, WARN, "Skipped - PCI support disabled")
            return
        if not any(host.at("/sys/bus/pci/devices").iterdir()):
            yield Check(what, WARN, "Skipped - No PCI devices are online")
            return
        yield Check(what, PASS)
    else:
        yield Check(what, WARN, "Unknown if this platform has IOMMU support")
        return
    try:
        state = host.at("/sys/kernel/iommu_groups").stat()
    except OSError:
        return
    if not stat.S_ISDIR(state.st_mode):
        return
    hint = "IOMMU capability not compiled into kernel."
    if argument:
        hint = f"IOMMU appears to be disabled in kernel. Add {argument} to kernel cmdline arguments"
    groups = any(host.at("/sys/kernel/iommu_groups").iterdir())
    yield Check("if IOMMU is enabled by kernel", PASS if groups else WARN, hint)


def _secure_guests(host: Host, flags: set[str]) -> Check:
    what = "for secure guest support"
    if host.machine == "s390x":
        facilities = re.search(r"^facilities\s*:(.*)$", host.read("/proc/cpuinfo"), re.MULTILINE)
        if facilities is None or "158" not in facilities[1].split():
            return Check(what, WARN, "Hardware or firmware does not provide support for IBM Secure Execution")
        if not host.exists("/sys/firmware/uv"):
            return Check(what, WARN, "IBM Secure Execution not supported by the currently used kernel")
        on = re.search(r"(?:^|\s)prot_virt=([1yY]|on)", host.read("/proc/cmdline"))
        hint = "IBM Secure Execution appears to be disabled in kernel. Add prot_virt=1 to kernel cmdline arguments"
        return Check(what, PASS if on else WARN, hint)
    if "sev" not in flags:
        return Check(what, WARN, "Unknown if this platform has Secure Guest support")
    name = "AMD Secure Encrypted Virtualization"
    value = host.read("/sys/module/kvm_amd/parameters/sev").strip()
    if not value:
        return Check(what, WARN, f"{name} not supported by the currently used kernel")
    if value[0] not in "1yY":
        hint = f"{name} appears to be disabled in kernel. Add kvm_amd.sev=1 to the kernel cmdline arguments"
        return Check(what, WARN, hint)
    return Check(what, PASS if host.exists("/dev/sev") else WARN, f"{name} appears to be disabled in firmware.")
