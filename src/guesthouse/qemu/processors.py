"""<cpu>, <vcpu> and what the CPU tells of the hypervisor, as QEMU's -cpu and -smp."""

from __future__ import annotations

import platform

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.domain import Domain, Spinlocks, Switch, SyntheticTimer, TlbFlush, VendorId
from guesthouse.qemu.parts import quote

# QEMU retries this often where the document does not say
_SPINLOCK_RETRIES = 0xFFF

# libvirt's names of features that QEMU calls otherwise
_FEATURES = {
    "cmp_legacy": "cmp-legacy",
    "ds_cpl": "ds-cpl",
    "fxsr_opt": "fxsr-opt",
    "kvm_pv_eoi": "kvm-pv-eoi",
    "kvm_pv_unhalt": "kvm-pv-unhalt",
    "lahf_lm": "lahf-lm",
    "nodeid_msr": "nodeid-msr",
    "pclmuldq": "pclmulqdq",
    "perfctr_core": "perfctr-core",
    "perfctr_nb": "perfctr-nb",
    "tsc_adjust": "tsc-adjust",
}
_NAMES = {theirs: ours for ours, theirs in _FEATURES.items()}


def from_qemu(feature: str) -> str:
    """libvirt's name of what QEMU calls ``feature``."""
    return _NAMES.get(feature, feature)


def _cache(mode: str, cpu: str) -> list[str]:
    """What the guest is told of caches."""
    words = {"emulate": ["l3-cache=on"], "passthrough": ["host-cache-info=on"], "disable": []}[mode]
    if mode != "passthrough" and cpu in ("host-passthrough", "maximum"):
        words = [*words, "host-cache-info=off"]
    return words if mode == "emulate" else [*words, "l3-cache=off"]


def cpu_arguments(domain: Domain) -> list[str]:
    cpu = domain.cpu
    if cpu is None:
        return []
    if cpu.mode == "host-passthrough" and domain.type != "kvm":
        raise ConfigUnsupported(
            f"CPU mode 'host-passthrough' for {domain.arch} {domain.type} domain on {platform.machine()} host"
            " is not supported by hypervisor"
        )
    if cpu.mode == "custom":
        name = (cpu.model and cpu.model.name) or "qemu64"
    elif cpu.mode == "host-passthrough" or (cpu.mode == "host-model" and domain.type == "kvm"):
        name = "host"
    else:
        name = "max"
    words = [name]
    if cpu.mode in ("host-passthrough", "maximum") and cpu.migratable is not None:
        words.append(f"migratable={'on' if cpu.migratable else 'off'}")
    if cpu.model is not None and cpu.model.vendor_id:
        words.append(f"vendor={cpu.model.vendor_id}")
    for feature in cpu.features:
        if feature.policy != "optional":
            on = feature.policy in ("force", "require")
            words.append(f"{_FEATURES.get(feature.name or '', feature.name)}={'on' if on else 'off'}")
    features = domain.features
    if features is not None and features.pmu is not None and features.pmu.state is not None:
        words.append(f"pmu={'on' if features.pmu.state else 'off'}")
    if features is not None and features.apic is not None and features.apic.eoi is not None:
        words.append(f"kvm-pv-eoi={'on' if features.apic.eoi else 'off'}")
    words += _enlightenments(domain)
    if cpu.cache is not None and cpu.cache.mode is not None:
        words += _cache(cpu.cache.mode, cpu.mode or "")
    if cpu.maxphysaddr is not None:
        emulated = cpu.maxphysaddr.mode == "emulate"
        words.append(f"phys-bits={cpu.maxphysaddr.bits}" if emulated else "host-phys-bits=on")
    return ["-cpu", ",".join(words)]


def _kvm_features(domain: Domain) -> list[str]:
    features = domain.features
    if features is None:
        return []
    words = []
    if features.pvspinlock is not None and features.pvspinlock.state is not None:
        words.append(f"kvm-pv-unhalt={'on' if features.pvspinlock.state else 'off'}")
    kvm = features.kvm
    if kvm is None:
        return words
    if kvm.extra_nodes:
        raise ConfigUnsupported(f"kvm feature <{kvm.extra_nodes[0].tag}> is not supported yet")
    wishes = [(kvm.hidden, "kvm=off"), (kvm.hint_dedicated, "kvm-hint-dedicated=on")]
    wishes.append((kvm.poll_control, "kvm-poll-control=on"))
    words += [word for wish, word in wishes if wish is not None and wish.state]
    off = kvm.pv_ipi is not None and kvm.pv_ipi.state is False
    return [*words, "kvm-pv-ipi=off"] if off else words


def _enlightenments(domain: Domain) -> list[str]:
    """What the CPU tells of the hypervisor: paravirtual clocks, and what Windows finds on Hyper-V."""
    words = []
    for timer in domain.clock.timers if domain.clock is not None else []:
        if timer.name == "kvmclock" and timer.present is not None:
            words.append(f"kvmclock={'on' if timer.present else 'off'}")
        elif timer.name == "hypervclock" and timer.present:
            words.append("hv-time=on")
        elif timer.name == "tsc" and timer.frequency:
            words.append(f"tsc-frequency={timer.frequency}")
    words += _kvm_features(domain)
    hyperv = domain.features.hyperv if domain.features is not None else None
    if any(panic.model == "hyperv" for panic in domain.dev.panics):
        words.append("hv-crash")
    if hyperv is None:
        return words
    if hyperv.mode == "passthrough":
        words.append("hv-passthrough=on")
    for spec in hyperv.SPECS:
        feature = getattr(hyperv, spec.name)
        if not isinstance(feature, Switch) or not feature.state:
            continue
        name = spec.tag.replace("_", "-")
        if isinstance(feature, Spinlocks):
            words.append(f"hv-spinlocks={feature.retries or _SPINLOCK_RETRIES:#x}")
        elif isinstance(feature, VendorId):
            words.append(f"hv-vendor-id={quote(feature.value or '')}")
        else:
            words.append(f"hv-{name}=on")
        if isinstance(feature, SyntheticTimer | TlbFlush) and feature.direct is not None and feature.direct.state:
            words.append("hv-stimer-direct=on" if isinstance(feature, SyntheticTimer) else "hv-tlbflush-direct=on")
        if isinstance(feature, TlbFlush) and feature.extended is not None and feature.extended.state:
            words.append("hv-tlbflush-ext=on")
    return words


def smp_argument(domain: Domain) -> str:
    count = domain.cpu_count
    current = (domain.vcpu and domain.vcpu.current) or count
    if domain.vcpus is not None:  # the others are plugged in before the guest runs
        current = sum(1 for vcpu in domain.vcpus.vcpus if vcpu.enabled and not vcpu.hotpluggable)
    topology = domain.cpu.topology if domain.cpu else None
    sockets, dies, cores, threads = count, 1, 1, 1
    if topology is not None:
        sockets, dies = topology.sockets or 1, topology.dies or 1
        cores, threads = topology.cores or 1, topology.threads or 1
    first = f"{current},maxcpus={count}" if current != count else str(count)
    middle = f",dies={dies}" if topology is not None else ""
    return f"{first},sockets={sockets}{middle},cores={cores},threads={threads}"
