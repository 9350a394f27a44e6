"""The processor of a guest: what a start makes of the <cpu> that was asked for, and of what QEMU then gave.

Both change the <cpu> of a live document, as libvirt does: clients read there what the guest really has, and a saved
guest is brought back with that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

from guesthouse.errors import ConfigUnsupported, CpuIncompatible, InternalError, OperationFailed
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host.cpu import Hypervisor, Named, Processor, describe, whole
from guesthouse.host.cpu_choice import HOST_ONLY, Described, compare
from guesthouse.host.x86 import FEATURES, MODELS, Model
from guesthouse.model.domain import Cpu, CpuFeature, CpuModel

X86 = ("x86_64", "i686")
#: What QEMU counts among a processor's features, and libvirt among the hypervisor's.
PV_UNHALT = "kvm_pv_unhalt"
_WHOLE_MODES = ("host-passthrough", "maximum")
_NOTHING = Model("", "", frozenset())


def settle(cpu: Cpu, hypervisor: Hypervisor, *, kind: str, arch: str, host_arch: str) -> None:
    """Make of ``cpu`` what guests of ``kind`` are started with: the host's model where that was asked for, features that
    are optional on or off, a model that the hypervisor has.

    Raises CpuIncompatible where ``check`` finds that the host cannot give it, ConfigUnsupported, and InternalError for a
    model or feature that nobody knows.
    """
    for feature in cpu.features:
        if feature.name not in FEATURES:
            raise ConfigUnsupported(f"unknown CPU feature: {feature.name}", domain=ErrorDomain.CPU)
    if cpu.is_default:
        return
    mode = cpu.mode or "custom"
    if not _supported(mode, hypervisor, kind):
        raise ConfigUnsupported(
            f"CPU mode '{mode}' for {arch} {kind} domain on {host_arch} host is not supported by hypervisor"
        )
    if cpu.check != "none" and hypervisor.full is not None:
        _forbidden(cpu, hypervisor.full)
    features = _policies(cpu)
    if mode not in _WHOLE_MODES:
        if cpu.check == "partial":
            name = cpu.model.name if cpu.model is not None else None
            compare(hypervisor.full, Described(None, cpu.match == "strict", name, cpu.vendor, features), fail=True)
        features = update(cpu, hypervisor.migratable)
        features = _translated(cpu, features, hypervisor)
        assert cpu.model is not None
        cpu.model.fallback = "forbid"
    off = ("disable", "forbid")
    _put(
        cpu,
        {
            name: policy
            for name, policy in features.items()
            # what QEMU has not heard of is off without being told
            if name not in HOST_ONLY and not (hypervisor.known and policy in off and name not in hypervisor.known)
        },
    )


def update(cpu: Cpu, host: Named | None) -> dict[str, str]:
    """Resolve in ``cpu`` what depends on the host: a model that is the host's, or at least ours, and features that are
    optional; returns its features with policies, which are in the document too."""
    features = _policies(cpu)
    mode = cpu.mode or "custom"
    if mode in _WHOLE_MODES:
        return features
    if mode == "host-model" or cpu.match == "minimum" or "optional" in features.values():
        if host is None:
            raise ConfigUnsupported("unknown host CPU model", domain=ErrorDomain.CPU)
        have = host.whole()
        for name, policy in features.items():
            if policy == "optional":
                if name not in FEATURES:
                    raise InternalError(f"unknown CPU feature {name}", domain=ErrorDomain.CPU)
                features[name] = "require" if name in have else "disable"
        if mode == "host-model" or cpu.match == "minimum":
            model = cpu.model or CpuModel(fallback="allow")
            model.name, cpu.model = host.model, model
            if mode == "host-model":
                cpu.vendor = host.vendor or None
            cpu.mode, cpu.match = "custom", "exact"
            features = host.features | features
    for name in _known(cpu).removed:
        features.setdefault(name, "disable")
    _put(cpu, features)
    return features


def verify(cpu: Cpu | None, enabled: Collection[str], *, spinlocks: bool = False) -> None:
    """Raises ConfigUnsupported where QEMU gave not what a guest was promised: that its clock never changes its rate, or
    ``spinlocks`` that let others run."""
    if spinlocks and PV_UNHALT not in enabled:
        raise ConfigUnsupported("host doesn't support paravirtual spinlocks")
    if cpu is None or cpu.is_default:
        return
    if "invtsc" in _wanted(cpu) and "invtsc" not in enabled:
        raise ConfigUnsupported("host doesn't support invariant TSC")


def confirm(cpu: Cpu | None, enabled: Collection[str], disabled: Collection[str]) -> bool:
    """Write into ``cpu`` what QEMU made of it: ``enabled`` are the features that the guest has, ``disabled`` those that
    QEMU was asked for and could not give. Returns whether that differs from what was there.

    Raises OperationFailed where it differs and the whole was to be checked.
    """
    if cpu is None or cpu.is_default:
        return False
    mode = cpu.mode or "custom"
    strict = cpu.check == "full"
    if mode != "custom" and not strict:
        return False
    wanted, features = _wanted(cpu), _policies(cpu)
    told_off = {name for name, policy in features.items() if policy == "disable"}
    found = {}
    for name in FEATURES:
        unwanted = name not in wanted and (mode not in _WHOLE_MODES or name in told_off)
        if unwanted and name in enabled:
            found[name] = "require"
        if name in disabled or (name in wanted and name not in enabled):
            found[name] = "disable"
    if strict and (found or PV_UNHALT in disabled):
        _differs(found)
    changed = features | found
    if mode not in _WHOLE_MODES:
        for name in _known(cpu).removed:
            changed.setdefault(name, "disable")
    _put(cpu, changed)
    cpu.check = "full"
    return changed != features


def _differs(found: dict[str, str]) -> NoReturn:
    parts = []
    for words, policy in (("extra", "require"), ("missing", "disable")):
        named = ",".join(name for name, is_ in found.items() if is_ == policy)
        if named:
            parts.append(f"{words} features: {named}")
    text = "guest CPU doesn't match specification"
    raise OperationFailed(f"{text}: {', '.join(parts)}" if parts else text, domain=ErrorDomain.CPU)


def _supported(mode: str, hypervisor: Hypervisor, kind: str) -> bool:
    match mode:
        case "host-passthrough":
            return kind == "kvm" and "host" in hypervisor.models
        case "host-model":
            return hypervisor.reported is not None
        case "maximum":
            return "max" in hypervisor.models
    return bool(hypervisor.models)


def _forbidden(cpu: Cpu, host: Named) -> None:
    for feature in cpu.features:
        name = feature.name or ""
        if feature.policy == "forbid" and host.features.get(name, "disable") != "disable":
            raise CpuIncompatible(f"Host CPU provides forbidden feature '{name}'")


def _translated(cpu: Cpu, features: dict[str, str], hypervisor: Hypervisor) -> dict[str, str]:
    """The features beside a model that the hypervisor has: another one where it has not the one that was asked for."""
    model = _known(cpu)
    if model.name in hypervisor.models:
        return features
    assert cpu.model is not None
    if cpu.model.fallback == "forbid":
        raise ConfigUnsupported(f"CPU model {model.name} is not supported by hypervisor", domain=ErrorDomain.CPU)
    family, number, steppings = model.signatures[0] if model.signatures else (0, 0, range(1))
    asked = Processor(whole(model, features), model.vendor, (family, number, steppings[0]))
    found = describe(asked, hypervisor.models)
    cpu.model.name = found.model
    return found.features | features


def _known(cpu: Cpu) -> Model:
    name = cpu.model.name if cpu.model is not None else None
    if name not in MODELS:
        raise InternalError(f"Unknown CPU model {name}", domain=ErrorDomain.CPU)
    return MODELS[name]


def _wanted(cpu: Cpu) -> set[str]:
    model = _known(cpu) if cpu.mode not in _WHOLE_MODES else _NOTHING
    features = _policies(cpu)
    for name, policy in features.items():
        if name not in FEATURES and policy != "optional":
            raise InternalError(f"Unknown CPU feature {name}", domain=ErrorDomain.CPU)
    return whole(model, features)


def _policies(cpu: Cpu) -> dict[str, str]:
    return {feature.name or "": feature.policy or "require" for feature in cpu.features}


def _put(cpu: Cpu, features: dict[str, str]) -> None:
    cpu.features = [CpuFeature(policy=policy, name=name) for name, policy in features.items()]
