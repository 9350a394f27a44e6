"""The families that say what a guest is: memory, processors, booting, platform, what it is called."""

from __future__ import annotations

from collections.abc import Callable

from guesthouse.cli.virt_install import suboptions
from guesthouse.cli.virt_install.family import FAMILIES, Family, Words, add, need, seen_to_elsewhere
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.suboptions import apply, switch, words_of
from guesthouse.model.domain import (
    Apic,
    BootDevice,
    Clock,
    Cpu,
    CpuFeature,
    Domain,
    Features,
    Os,
    Pm,
    Resource,
    Seclabel,
    Smbios,
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
        domain.max_memory = MaxMemory(slots=int(slots or 16), unit="KiB", value=limit)


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
    if words:
        raise suboptions.unknown("vcpus", next(iter(words)), FAMILIES["vcpus"].keys())
    if topology:
        apply("vcpus", part(part(domain, "cpu", Cpu), "topology", Topology), topology)


def _metadata(request: Request, words: Words, text: str) -> None:
    name = need("metadata", words, "os_name") or need("metadata", words, "os_full_id")
    if name is not None:
        request.os = osinfo.find(name)
    _limited("metadata", request.domain, words)


def _events(request: Request, words: Words, text: str) -> None:
    _limited("events", request.domain, words)


def _limited(option: str, domain: Domain, words: Words) -> None:
    known = FAMILIES[option].keys()
    for key in words:
        if key not in known:
            raise suboptions.unknown(option, key, known)
    apply(option, domain, words)


def _boot(request: Request, words: Words, text: str) -> None:
    boot = request.boot
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
        request.domain.type = kind
    emulator = need("boot", words, "emulator")
    if emulator is not None:
        request.domain.dev.emulator = emulator
    for key in [key for key in words if key.startswith("firmware.") and not key.startswith("firmware.feature")]:
        # firmware.secure-boot=yes is a feature by its name
        number = len(boot.firmware_features.features) if boot.firmware_features is not None else 0
        on = switch("boot", key, words.pop(key))
        apply("boot", boot, {f"firmware.feature{number}.name": key.partition(".")[2]})
        apply("boot", boot, {f"firmware.feature{number}.enabled": "yes" if on else "no"})
    args = [value for key in ("cmdline", "kernel_args", "extra_args") if (value := words.pop(key, None)) is not None]
    if args:
        boot.cmdline = args[-1]
    apply("boot", boot, words, FAMILIES["boot"].extra)


def _cpu(request: Request, words: Words, text: str) -> None:
    request.cpu_given = True
    if text == "none":
        return
    cpu = part(request.domain, "cpu", Cpu)
    for word in words_of("cpu", text, "model"):
        policy, name = word.key, word.value
        if word.value is None and word.key[:1] in "+-" and len(word.key) > 1:
            policy, name = ("force" if word.key[0] == "+" else "disable"), word.key[1:]
        if policy in ("force", "require", "optional", "disable", "forbid"):
            words.pop(word.key, None)
            cpu.features.append(CpuFeature(policy=policy, name=name))
    words.pop("secure", None)
    model = words.pop("model", None)
    if model is not None:
        if model == "host":
            request.cpu_mode = "host-model"
        elif model in (
            "host-model",
            "host-passthrough",
            "maximum",
            "host-model-only",
            "host-copy",
            "hv-default",
            "clear",
        ):
            request.cpu_mode = model
        elif model == "default":
            request.cpu_given = False
        else:
            cpu.mode, cpu.match = "custom", cpu.match or "exact"
            apply("cpu", cpu, {"model": model})
    apply("cpu", cpu, words, FAMILIES["cpu"].extra)


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
    short = {
        **{f"hyperv_{name}": f"hyperv.{name}.state" for name in ("reset", "vapic", "relaxed", "spinlocks", "synic")},
        "hyperv_spinlocks_retries": "hyperv.spinlocks.retries",
        "kvm_hidden": "kvm.hidden.state",
        **{name: f"{name}.state" for name in ("pmu", "smm", "vmport", "pvspinlock", "vmcoreinfo")},
    }
    apply("features", features, {short.get(key, key): value for key, value in words.items()}, [*short, "acpi", "apic"])


def _clock(request: Request, words: Words, text: str) -> None:
    clock = part(request.domain, "clock", Clock)
    for key in list(words):
        name, underscore, what = key.rpartition("_")
        if underscore and what in ("present", "tickpolicy") and name in _TIMERS:
            timer = next((t for t in clock.timers if t.name == name), None)
            if timer is None:
                timer = Timer(name=name)
                clock.timers.append(timer)
            apply("clock", timer, {what: words.pop(key)})
    apply("clock", clock, words, FAMILIES["clock"].extra)


_TIMERS = ("platform", "hpet", "hypervclock", "kvmclock", "pit", "rtc", "tsc")


def _element(name: str, kind: type[Element]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        apply(name, part(request.domain, name, kind), words)

    return fill


def _seclabel(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    label = Seclabel()
    apply("seclabel", label, words)
    request.domain.seclabels.append(label)


def _launch_security(request: Request, words: Words, text: str) -> None:
    security = LaunchSecurity()
    apply("launchSecurity", security, words)
    request.security = security


def _sysinfo(request: Request, words: Words, text: str) -> None:
    kind = words.pop("type", None)
    if kind not in ("host", "emulate") or words:
        raise UsageError("--sysinfo: only 'host' and 'emulate' are supported yet")
    part(request.boot, "smbios", Smbios).mode = kind


_BOOT_EXTRA = ("hd", "cdrom", "fd", "network", "uefi", "domain_type", "emulator")
_TOPOLOGY = ("sockets", "dies", "cores", "threads")
add(
    Family(
        "memory",
        None,
        _memory,
        "memory",
        ("memory", "currentMemory", "maxmemory", "maxMemory", "maxMemory.slots", "hugepages"),
    ),
    Family(
        "vcpus",
        None,
        _vcpus,
        "vcpu",
        ("vcpu", "vcpus", "maxvcpus", "vcpu.current", "vcpu.cpuset", "cpuset", "vcpu.placement", *_TOPOLOGY),
        commas=("cpuset", "vcpu.cpuset"),
    ),
    Family(
        "metadata",
        Domain,
        _metadata,
        only=("name", "title", "uuid", "description"),
        extra=("os_name", "os_full_id"),
        commas=("name", "title", "description"),
    ),
    Family("events", Domain, _events, only=("on_poweroff", "on_reboot", "on_crash", "on_lockfailure")),
    Family("boot", Os, _boot, extra=_BOOT_EXTRA, commas=("cmdline", "kernel_args", "extra_args")),
    Family(
        "cpu",
        Cpu,
        _cpu,
        "model",
        ("force", "require", "optional", "disable", "forbid", "secure"),
    ),
    Family("features", Features, _features, extra=("acpi", "apic", "pae", "pmu", "smm", "vmport", "kvm_hidden")),
    Family(
        "clock",
        Clock,
        _clock,
        extra=(*(f"{name}_present" for name in _TIMERS), "rtc_tickpolicy", "pit_tickpolicy"),
    ),
    Family("pm", Pm, _element("pm", Pm)),
    Family("resource", Resource, _element("resource", Resource), "partition"),
    Family("seclabel", Seclabel, _seclabel, "type"),
    Family("launchSecurity", LaunchSecurity, _launch_security, "type"),
    Family("sysinfo", None, _sysinfo, "type", ("type",)),
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
            *("mirror", "proxy", "late-command"),
        ),
        commas=("late-command",),
    ),
    Family("location", None, seen_to_elsewhere, "location", ("location", "kernel", "initrd")),
)
