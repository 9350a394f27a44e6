"""What libvirt makes of a document's features, clocks, power management and actions when it is defined, and what of them
it refuses. Pure; the rules are libvirt 9.0's (domain_conf.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

import re

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Clock, Domain, Features, Hyperv, KvmFeatures

_KIB = 1024
_TIMERS = ("platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock", "armvtimer")
_RING_SIZES = tuple(1 << n for n in range(10, 17))
_SPINLOCK_RETRIES_MIN = 4095
_VENDOR_MAX = 12
# features of POWER machines: those that must say their state, and those that say it by another attribute
_POWER = {"htm": "state", "nested-hv": "state", "ccf-assist": "state"}
_POWER_OPTIONAL = {"cfpc": "value", "sbbc": "value", "ibs": "value"}
_NEVER = 253402300799


def _missing(attribute: str, element: str) -> XMLError:
    return XMLError(f"Missing required attribute '{attribute}' in element '{element}'")


def features(domain: Domain) -> None:
    """Elements that may leave out their state are on; what says nothing, or does not count where it stands, goes."""
    features = domain.features
    if features is None:
        return
    for feature in (
        features.hap,
        features.pvspinlock,
        features.pmu,
        features.vmport,
        features.smm,
        features.vmcoreinfo,
    ):
        if feature is not None and feature.state is None:
            feature.state = True
    if features.smm is not None and not features.smm.state:
        features.smm.tseg = None
    if features.tcg is not None and features.tcg.tb_cache is not None:
        cache = features.tcg.tb_cache
        cache.value, cache.unit = -(-units.scale(cache.value or 0, cache.unit, "KiB") // _KIB), "KiB"
    container = features.capabilities
    if container is not None:
        container.policy = container.policy or "default"
        if container.policy == "default" and not container.extra_nodes:
            features.capabilities = None
    if features.xen is not None and features.xen.extra_nodes:
        raise ConfigUnsupported(
            f"unsupported Xen feature: {features.xen.extra_nodes[0].tag}", domain=ErrorDomain.DOMAIN
        )
    if features.vmport is not None and not (domain.is_q35 or domain.is_i440fx or domain.machine == "isapc"):
        raise ConfigUnsupported("vmport is not available with this QEMU binary")
    if features.kvm is not None:
        _kvm(features.kvm)
    if features.hyperv is not None:
        _hyperv(features.hyperv)
    _of_other_machines(domain, features)
    _memory_of_smm(domain, features)


def _of_other_machines(domain: Domain, features: Features) -> None:
    where = f"is not supported for architecture '{domain.arch}' or machine type '{domain.machine}'"
    kept = []
    for node in features.extra_nodes:
        tag = str(node.tag)
        if tag not in _POWER and tag not in _POWER_OPTIONAL:
            raise ConfigUnsupported(f"unexpected feature '{tag}'", domain=ErrorDomain.DOMAIN)
        if tag in _POWER and node.get("state") is None:
            raise _missing("state", tag)
        if tag in _POWER or node.get(_POWER_OPTIONAL[tag]) is not None:
            kept.append(tag)
    if features.hpt is not None and (features.hpt.resizing or features.hpt.maxpagesize):
        kept.insert(0, "hpt")
    if features.gic is not None:
        kept.insert(0, "gic")
    if kept:
        raise ConfigUnsupported(f"The '{kept[0]}' feature {where}")
    features.hpt = None
    features.extra_nodes.clear()
    tcg = features.tcg
    if tcg is not None and tcg.tb_cache is not None:
        if domain.type != "qemu":
            raise ConfigUnsupported(f"TCG features are incompatible with domain type '{domain.type}'")
        if (tcg.tb_cache.value or 0) % _KIB:
            raise ConfigUnsupported("tb-cache size must be an integer multiple of MiB")


def _memory_of_smm(domain: Domain, features: Features) -> None:
    smm = features.smm
    if smm is None or smm.tseg is None:
        return
    if not domain.is_q35:
        raise ConfigUnsupported("SMM TSEG is only supported with q35 machine type")
    size = units.scale(smm.tseg.value or 0, smm.tseg.unit, "MiB")
    if size % (1 << 20):
        raise ConfigUnsupported("SMM TSEG size must be divisible by 1 MiB")
    shown, unit = units.pretty_size(size)
    if shown == int(shown):
        smm.tseg.value, smm.tseg.unit = int(shown), unit
    else:
        smm.tseg.value, smm.tseg.unit = size >> 20, "MiB"


def _kvm(kvm: KvmFeatures) -> None:
    if kvm.extra_nodes:
        raise ConfigUnsupported(f"unsupported KVM feature: {kvm.extra_nodes[0].tag}", domain=ErrorDomain.DOMAIN)
    ring = kvm.dirty_ring
    if ring is not None and not ring.state:
        ring.size = None
    elif ring is not None:
        if ring.size is None:
            raise _missing("size", "dirty-ring")
        if ring.size not in _RING_SIZES:
            raise XMLError("dirty ring must be power of 2 and ranges [1024, 65536]", domain=ErrorDomain.DOMAIN)


def _hyperv(hyperv: Hyperv) -> None:
    hyperv.mode = hyperv.mode or "custom"
    if hyperv.extra_nodes:
        raise ConfigUnsupported(
            f"unsupported HyperV Enlightenment feature: {hyperv.extra_nodes[0].tag}", domain=ErrorDomain.DOMAIN
        )
    locks, vendor, timer = hyperv.spinlocks, hyperv.vendor_id, hyperv.stimer
    if timer is not None and not timer.state:
        timer.direct = None
    if locks is not None and not locks.state:
        locks.retries = None
    elif locks is not None:
        if locks.retries is None:
            raise _missing("retries", "spinlocks")
        if locks.retries < _SPINLOCK_RETRIES_MIN:
            text = f"HyperV spinlock retry count must be at least {_SPINLOCK_RETRIES_MIN}"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if vendor is not None and not vendor.state:
        vendor.value = None
    elif vendor is not None:
        if vendor.value is None:
            raise XMLError("missing 'value' attribute for HyperV feature 'vendor_id'", domain=ErrorDomain.DOMAIN)
        if len(vendor.value) > _VENDOR_MAX:
            text = f"HyperV vendor_id value must not be more than {_VENDOR_MAX} characters."
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
        if "," in vendor.value:
            raise XMLError("HyperV vendor_id value is invalid", domain=ErrorDomain.DOMAIN)


def clock(domain: Domain) -> None:
    """A clock that is ahead of another is one of its own kind; attributes of other kinds go."""
    domain.clock = clock = domain.clock or Clock()
    clock.offset = clock.offset or "utc"
    ahead = clock.adjustment
    if clock.offset in ("utc", "localtime"):
        clock.basis = None
        if ahead is not None and ahead != "reset":
            if not re.fullmatch(r"[+-]?\d{1,18}", ahead):
                raise XMLError(f"unknown clock adjustment '{ahead}'", domain=ErrorDomain.DOMAIN)
            clock.basis, clock.offset = clock.offset, "variable"
    elif clock.offset == "variable":
        if ahead is not None and not re.fullmatch(r"[+-]?\d{1,18}", ahead):
            text = f"Invalid value for attribute 'adjustment' in element 'clock': '{ahead}'. Expected long long integer value"
            raise XMLError(text)
        clock.basis = clock.basis or "utc"
    else:
        clock.adjustment = clock.basis = None
    if clock.offset == "variable":
        clock.adjustment = str(int(clock.adjustment or 0))
    if clock.offset == "timezone" and clock.timezone is None:
        text = "missing 'timezone' attribute for clock with offset='timezone'"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)
    if clock.offset == "absolute" and clock.start is None:
        raise _missing("start", "clock")
    clock.timezone = clock.timezone if clock.offset == "timezone" else None
    clock.start = clock.start if clock.offset == "absolute" else None
    _timers(domain, clock)
    if clock.start is not None and clock.start > _NEVER:
        text = f"The maximum 'start' value for <clock offset='absolute'> is {_NEVER}"
        raise ConfigUnsupported(text)


def _timers(domain: Domain, clock: Clock) -> None:
    for timer in clock.timers:
        if timer.name not in _TIMERS:
            text = f"Invalid value for attribute 'name' in element 'timer': '{timer.name}'."
            raise XMLError(text)
        timer.frequency = timer.frequency or None
        if timer.name == "platform":
            raise ConfigUnsupported("unsupported timer type (name) 'platform'")
        if timer.name == "armvtimer":
            raise ConfigUnsupported(
                f"Configuring the 'armvtimer' timer is not supported for virtType={domain.type} arch={domain.arch}"
                f" machine={domain.machine} guests"
            )
        if timer.name == "rtc" and timer.track == "boot":
            raise ConfigUnsupported("unsupported rtc timer track 'boot'")
        if timer.name == "rtc" and timer.tickpolicy in ("merge", "discard"):
            raise ConfigUnsupported(f"unsupported rtc timer tickpolicy '{timer.tickpolicy}'")
        if timer.name == "pit" and timer.tickpolicy == "merge":
            raise ConfigUnsupported("unsupported pit tickpolicy 'merge'")


def actions(domain: Domain) -> None:
    """What is to happen when the guest goes down, and that QEMU's driver can do it."""
    domain.on_poweroff = domain.on_poweroff or "destroy"
    domain.on_reboot = domain.on_reboot or "restart"
    domain.on_crash = domain.on_crash or "destroy"
    if "rename-restart" in (domain.on_poweroff, domain.on_reboot, domain.on_crash):
        raise ConfigUnsupported(
            "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
        )
    if "preserve" in (domain.on_poweroff, domain.on_reboot):
        raise ConfigUnsupported("qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'")
    if domain.on_poweroff == "restart" and domain.on_reboot == "destroy":
        raise ConfigUnsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'"
        )
