"""The families that say what a guest is: memory, processors, booting, platform, what it is called."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable

from guesthouse.cli.virt_install import suboptions
from guesthouse.cli.virt_install.family import FAMILIES, Family, Words, add, need, seen_to_elsewhere
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import put
from guesthouse.cli.virt_install.suboptions import apply, switch, words_of
from guesthouse.model.domain import (
    Apic,
    BootDevice,
    Clock,
    Cpu,
    CpuFeature,
    Domain,
    Features,
    Firmware,
    FirmwareFeature,
    Os,
    Pm,
    Resource,
    Seclabel,
    State,
    Timer,
    Topology,
    Vcpu,
)
from guesthouse.model.fields import Element
from guesthouse.model.launch_security import LaunchSecurity
from guesthouse.model.memory import HugePages, MaxMemory, MemoryBacking
from guesthouse.provision import osinfo
from guesthouse.provision.request import Request, part


def _memory(request: Request, words: Words, text: str) -> None:
    """ "memory" is what the guest starts with and "maxmemory" what it may grow to; with "currentMemory", "memory" is
    the latter, as in the document."""

    def mib(key: str) -> int | None:
        value = need("memory", words, key)
        if value is None:
            return None
        try:
            return int(float(value) * 1024)
        except ValueError:
            raise UsageError(f"--memory {key}: '{value}' is not a number of MiB") from None

    domain = request.domain
    current, top, memory = mib("currentMemory"), mib("maxmemory"), mib("memory")
    slots = need("memory", words, "maxMemory.slots") or need("memory", words, "hotplugmemoryslots")
    limit = mib("maxMemory") or mib("hotplugmemorymax")
    if "hugepages" in words and switch("memory", "hugepages", words.pop("hugepages")):
        domain.memory_backing = MemoryBacking(hugepages=HugePages())
    if words:
        raise suboptions.unknown("memory", next(iter(words)), FAMILIES["memory"].keys())
    if current is None:
        current = memory
        memory = top
    else:
        memory = top or memory
    if current is not None:
        domain.current_memory = current
    domain.memory = max(memory or 0, domain.current_memory or 0) or None
    if limit is not None:
        domain.max_memory = MaxMemory(slots=int(slots or 16), value=limit)


def _vcpus(request: Request, words: Words, text: str) -> None:
    domain = request.domain
    vcpu = part(domain, "vcpu", Vcpu)

    def number(*keys: str) -> int | None:
        for key in keys:
            value = need("vcpus", words, key)
            if value is not None:
                if not value.isdigit():
                    raise UsageError(f"--vcpus {key}: '{value}' is not a number")
                return int(value)
        return None

    count, top, current = number("vcpu", "vcpus"), number("maxvcpus"), number("vcpu.current", "current")
    if current is None and top is not None:
        current, count = count, top
    elif top is not None:
        count = top
    if count is not None:
        vcpu.value = count
    if current is not None:
        vcpu.current = current
    cpuset = need("vcpus", words, "vcpu.cpuset") or need("vcpus", words, "cpuset")
    if cpuset == "auto":
        vcpu.placement = "auto"
    elif cpuset is not None:
        vcpu.cpuset = cpuset
    placement = need("vcpus", words, "vcpu.placement") or need("vcpus", words, "placement")
    if placement is not None:
        apply("vcpus", vcpu, {"placement": placement})
    topology: Words = {key: words.pop(key) for key in _TOPOLOGY if key in words}
    single: Words = {key: words.pop(key) for key in list(words) if key.startswith("vcpus.vcpu")}
    if single:
        apply("vcpus", domain, single)
    if words:
        raise suboptions.unknown("vcpus", next(iter(words)), FAMILIES["vcpus"].keys())
    if topology:
        apply("vcpus", part(part(domain, "cpu", Cpu), "topology", Topology), topology)


def _metadata(request: Request, words: Words, text: str) -> None:
    name = need("metadata", words, "os_name") or need("metadata", words, "os_full_id")
    if name is not None:
        request.os = osinfo.find(name)
    if "genid_enable" in words and switch("metadata", "genid_enable", words.pop("genid_enable")):
        # an empty one: the daemon makes it up
        request.domain.genid = request.domain.genid or ""
    FAMILIES["metadata"].fill(request.domain, words)


def _events(request: Request, words: Words, text: str) -> None:
    FAMILIES["events"].fill(request.domain, words)


def _boot(request: Request, words: Words, text: str) -> None:
    boot, domain = request.boot, request.domain
    order = [key for key in words if key in ("hd", "cdrom", "fd", "network")]
    for device in order:
        words.pop(device)
    if order:
        boot.boots[:] = [BootDevice(dev=device) for device in order]
    if "uefi" in words:
        value = words.pop("uefi")
        request.uefi = switch("boot", "uefi", value)
    kind = need("boot", words, "domain_type")
    if kind is not None:
        domain.type = kind
    emulator = need("boot", words, "emulator")
    if emulator is not None:
        domain.dev.emulator = emulator
    for key in ("bootloader", "bootloader_args"):
        if (value := need("boot", words, key)) is not None:
            put(domain, key, (), value)
    if (value := need("boot", words, "initargs")) is not None:
        for number, word in enumerate(shlex.split(value)):
            put(boot, "initarg[0-9]*", (number,), word)
    words.pop("refresh-machine-type", None)
    _firmware(boot, words)
    args = [value for key in ("cmdline", "kernel_args", "extra_args") if (value := words.pop(key, None)) is not None]
    if args:
        boot.cmdline = args[-1]
    for key in ("kernel", "initrd", "dtb", "nvram", "acpi.table"):
        if (value := words.get(key)) and "://" not in value:
            words[key] = os.path.abspath(value)  # noqa: PTH100
    FAMILIES["boot"].fill(boot, words)


def _firmware(boot: Os, words: Words) -> None:
    """What the firmware is to have: ``secure-boot=yes``, ``firmware.enrolled-keys=no``."""
    for key in list(words):
        # secure boot is on where its keys are enrolled
        name = "enrolled-keys" if key == "secure-boot" else key.removeprefix("firmware.")
        if key != "secure-boot" and (name == key or name.startswith("feature")):
            continue
        on = switch("boot", key, words.pop(key))
        features = part(boot, "firmware_features", Firmware).features
        known = next((feature for feature in features if feature.name == name), None)
        if known is None:
            features.append(FirmwareFeature(name=name, enabled=on))
        else:
            known.enabled = on


def _cpu(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.cpu_given = True
        return
    cpu = part(request.domain, "cpu", Cpu)
    said: list[tuple[int, str, str | None]] = []
    for word in words_of("cpu", text, "model"):
        rank, policy, name = 0, word.key, word.value
        if word.value is None and word.key[:1] in "+-" and len(word.key) > 1:
            rank, policy, name = 1, ("force" if word.key[0] == "+" else "disable"), word.key[1:]
        if policy in _POLICIES:
            words.pop(word.key, None)
            said.append((2 * _POLICIES.index(policy) + rank, policy, name))
    # virt-install's order: by what is said of them; the last word on a feature counts
    for _, policy, name in sorted(said, key=lambda item: item[0]):
        known = next((feature for feature in cpu.features if feature.name == name), None)
        if known is None:
            cpu.features.append(CpuFeature(policy=policy, name=name))
        else:
            known.policy = policy
    if "secure" in words:
        request.cpu_secure = switch("cpu", "secure", words.pop("secure"))
    model = words.pop("model", None)
    if model == "host":
        request.cpu_mode = "host-model"
    elif model in _MODES:
        request.cpu_mode = model
    elif model not in (None, "default"):
        cpu.mode, cpu.match = "custom", cpu.match or "exact"
        apply("cpu", cpu, {"model": model})
    FAMILIES["cpu"].fill(cpu, words)
    request.cpu_given = request.cpu_mode is not None or cpu.mode is not None or cpu.model is not None


_MODES = ("host-model", "host-passthrough", "maximum", "host-model-only", "host-copy", "hv-default", "clear")
_POLICIES = ("force", "require", "optional", "disable", "forbid")


def _features(request: Request, words: Words, text: str) -> None:
    features = part(request.domain, "features", Features)
    for key in ("acpi", "apic", "pae"):
        if key in words:
            on = switch("features", key, words.pop(key))
            request.without.add(key)
            if key == "apic":
                features.apic = Apic() if on else None
            else:
                setattr(features, key, on)
    if "hap" in words:
        features.hap = State() if switch("features", "hap", words.pop("hap")) else None
    FAMILIES["features"].fill(features, words)


_SHORT = {
    **{f"hyperv_{name}": f"hyperv.{name}.state" for name in ("reset", "vapic", "relaxed", "spinlocks", "synic")},
    "hyperv_spinlocks_retries": "hyperv.spinlocks.retries",
    "kvm_hidden": "kvm.hidden.state",
    **{name: f"{name}.state" for name in ("pmu", "smm", "vmport", "pvspinlock", "vmcoreinfo")},
}


def _clock(request: Request, words: Words, text: str) -> None:
    clock = part(request.domain, "clock", Clock)
    short = [*_TICKS, *(f"{name}_present" for name in _TIMERS)]
    for key in sorted(words, key=lambda key: short.index(key) if key in short else 0):
        name, underscore, what = key.rpartition("_")
        if underscore and what in ("present", "tickpolicy") and name in _TIMERS:
            timer = next((t for t in clock.timers if t.name == name), None)
            if timer is None:
                timer = Timer(name=name)
                clock.timers.append(timer)
            apply("clock", timer, {what: words.pop(key)})
    FAMILIES["clock"].fill(clock, words)


_TICKS = ("pit_tickpolicy", "rtc_tickpolicy")
_TIMERS = ("platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock")


def _element(name: str, kind: type[Element]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        if text != "none":
            FAMILIES[name].fill(part(request.domain, name, kind), words)

    return fill


def _seclabel(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    label = Seclabel()
    FAMILIES["seclabel"].fill(label, words)
    request.domain.seclabels.append(label)


def _launch_security(request: Request, words: Words, text: str) -> None:
    security = LaunchSecurity()
    FAMILIES["launchSecurity"].fill(security, words)
    request.security = security


_BOOT_EXTRA = (
    *("hd", "cdrom", "fd", "network", "uefi", "domain_type", "emulator", "bootloader", "bootloader_args"),
    *("initargs", "refresh-machine-type", "secure-boot", "firmware.secure-boot", "firmware.enrolled-keys"),
)
_INIT = ("init", "initarg[0-9]*", "initenv[0-9]*", "initenv[0-9]*/@name", "initdir", "inituser", "initgroup")
_CELL = ("id", "cpus", "memory", "distances.sibling[0-9]*.id", "distances.sibling[0-9]*.value")
_TOPOLOGY = ("sockets", "dies", "cores", "threads")
add(
    Family(
        "memory",
        None,
        _memory,
        "memory",
        (
            *("memory", "currentMemory", "maxmemory", "maxMemory", "maxMemory.slots", "hugepages"),
            *("hotplugmemorymax", "hotplugmemoryslots"),
        ),
    ),
    Family(
        "vcpus",
        None,
        _vcpus,
        "vcpu",
        (
            *("vcpu", "vcpus", "maxvcpus", "vcpu.current", "current", "vcpu.cpuset", "cpuset", "vcpu.placement"),
            *("placement", *_TOPOLOGY),
            *(f"vcpus.vcpu[0-9]*.{name}" for name in ("id", "enabled", "hotpluggable", "order")),
        ),
        commas=("cpuset", "vcpu.cpuset"),
    ),
    Family(
        "metadata",
        Domain,
        _metadata,
        only=("name", "title", "uuid", "description", "genid"),
        extra=("os_name", "os_full_id", "genid_enable"),
        commas=("name", "title", "description"),
    ),
    Family("events", Domain, _events, only=("on_poweroff", "on_reboot", "on_crash", "on_lockfailure")),
    Family(
        "boot",
        Os,
        _boot,
        extra=_BOOT_EXTRA,
        commas=("cmdline", "kernel_args", "extra_args"),
        places=(*_INIT, "nvram/@templateFormat"),
        at="os",
    ),
    Family(
        "cpu",
        Cpu,
        _cpu,
        "model",
        ("force", "require", "optional", "disable", "forbid", "secure"),
        commas=("numa.cell[0-9]*.cpus", "cell[0-9]*.cpus"),
        places=("numa/interconnects/latency[0-9]*/@unit",),
        aliases={f"cell[0-9]*.{key}": f"numa.cell[0-9]*.{key}" for key in _CELL},
        at="cpu",
    ),
    Family(
        "features",
        Features,
        _features,
        extra=("acpi", "apic", "pae", "hap"),
        places=("viridian/",),
        aliases=_SHORT,
        at="features",
    ),
    Family(
        "clock",
        Clock,
        _clock,
        extra=(*(f"{name}_present" for name in _TIMERS), "rtc_tickpolicy", "pit_tickpolicy"),
        places=tuple(f"timer[0-9]*/catchup/@{name}" for name in ("threshold", "slew", "limit")),
        at="clock",
    ),
    Family(
        "pm",
        Pm,
        _element("pm", Pm),
        aliases={f"suspend_to_{place}": f"suspend_to_{place}.enabled" for place in ("mem", "disk")},
        at="pm",
    ),
    Family(
        "resource",
        Resource,
        _element("resource", Resource),
        "partition",
        commas=("fibrechannel.appid",),
        places=("fibrechannel/@appid",),
        at="resource",
    ),
    Family("seclabel", Seclabel, _seclabel, "type", commas=("label", "baselabel"), at="seclabels"),
    Family(
        "launchSecurity",
        LaunchSecurity,
        _launch_security,
        "type",
        places=("mrConfigId", "mrOwner", "mrOwnerConfig", "quoteGenerationService/@path"),
        aliases={"quoteGenerationSocket": "quoteGenerationService.path"},
    ),
    Family("osinfo", None, seen_to_elsewhere, "name", ("name", "short-id", "id", "detect", "require")),
    Family(
        "install",
        None,
        seen_to_elsewhere,
        "os",
        ("os", "bootdev", "kernel", "initrd", "kernel_args", "kernel_args_overwrite", "no_install"),
        commas=("kernel_args",),
    ),
    Family(
        "cloud-init",
        None,
        seen_to_elsewhere,
        extra=(
            *("disable", "root-password-generate", "root-password-file", "root-ssh-key", "clouduser-ssh-key"),
            *("ssh-key", "user-data", "meta-data", "network-config"),
        ),
    ),
    Family(
        "unattended",
        None,
        seen_to_elsewhere,
        "profile",
        (
            *("profile", "admin-password-file", "user-login", "user-password-file", "product-key", "reg-login"),
            *("realname", "hostname", "locale", "keyboard", "timezone", "disk", "layout", "ssh-key", "packages"),
            *("tasks", "mirror", "proxy", "late-command"),
        ),
        commas=("late-command",),
    ),
    Family("location", None, seen_to_elsewhere, "location", ("location", "kernel", "initrd")),
)
