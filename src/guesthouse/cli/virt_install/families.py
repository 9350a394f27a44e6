"""The families of sub-options: which element a family fills, and the keys that mean more than one field.

A family's ordinary keys derive from its element's fields. What stands here is the rest: the first word, keys with a
meaning of their own, and words such as "none" and "default".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guesthouse.cli.virt_install import suboptions
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.suboptions import apply, as_dict, switch, words_of
from guesthouse.model.devices.chardev import Channel, CharDevice, CharSource, Console, Parallel, Serial
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics, Video, VideoModel
from guesthouse.model.devices.interface import Interface, InterfaceSource
from guesthouse.model.devices.simple import (
    Controller,
    Input,
    MemBalloon,
    Rng,
    RngBackend,
    Sound,
    Watchdog,
)
from guesthouse.model.domain import (
    Apic,
    BootDevice,
    Clock,
    Cpu,
    CpuFeature,
    Domain,
    Features,
    MaxMemory,
    Os,
    Pm,
    Resource,
    Timer,
    Topology,
    Vcpu,
)
from guesthouse.model.fields import Element
from guesthouse.provision import osinfo
from guesthouse.provision.defaults import address, other
from guesthouse.provision.request import Request, part
from guesthouse.provision.storage import Wish

Words = dict[str, str | None]


@dataclass(frozen=True)
class Family:
    """A family. ``apply`` gets the request and the words; ``only`` limits the element's keys to some; ``extra`` are
    the keys that ``apply`` sees to; ``rename`` maps a key that people know to the element's."""

    name: str
    element: type[Element] | None
    apply: Callable[[Request, Words, str], None]
    first: str = ""
    extra: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    commas: tuple[str, ...] = ()

    def keys(self) -> list[str]:
        """Every key, aliases included."""
        if self.only:
            return [*self.only, *self.extra]
        own = list(self.element.options()) if self.element is not None else []
        return [key for key in own if key not in _HIDDEN] + list(self.extra)

    def words(self, text: str) -> Words:
        return as_dict(words_of(self.name, text, self.first, self.keys(), self.commas))


_HIDDEN = {""}


def need(option: str, words: Words, key: str) -> str | None:
    """Take ``key`` out of ``words``: its value, None where it is not there. Raises UsageError where it has none."""
    if key not in words:
        return None
    value = words.pop(key)
    if value is None:
        raise UsageError(f"--{option} {key} needs a value, as in {key}=...")
    return value


# -- the guest as a whole


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
        from lxml import etree

        backing = etree.Element("memoryBacking")
        etree.SubElement(backing, "hugepages")
        domain.memory_backing = backing
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
        if request.uefi is False:
            boot.firmware = boot.firmware or "bios"
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
        if model in ("host", "host-passthrough"):
            request.cpu_mode = "host-passthrough"
        elif model in ("host-model", "maximum", "host-model-only", "host-copy", "hv-default", "clear"):
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
        **{name: f"{name}.state" for name in ("pmu", "smm", "vmport", "pvspinlock")},
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


# -- devices


def disk(request: Request, words: Words, text: str) -> tuple[Disk, Wish] | None:
    """A disk, and what storage it wants; None for "none"."""
    if text == "none":
        return None
    wish = Wish()
    size = need("disk", words, "size")
    if size is not None:
        try:
            wish.size = float(size)
        except ValueError:
            raise UsageError(f"Improper value for 'size': '{size}' is not a number of GiB") from None
    wish.sparse = switch("disk", "sparse", words.pop("sparse", None))
    wish.format = need("disk", words, "format")
    wish.pool = need("disk", words, "pool")
    wish.volume = need("disk", words, "vol")
    wish.backing = need("disk", words, "backing_store")
    wish.backing_format = need("disk", words, "backing_format")
    device = Disk()
    perms = need("disk", words, "perms")
    if perms not in (None, "rw", "ro", "sh"):
        raise UsageError(f"Unknown 'perms' value '{perms}'")
    device.readonly, device.shareable = perms == "ro", perms == "sh"
    apply("disk", device, words, FAMILIES["disk"].extra)
    return device, wish


def _network(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("network")
        return
    nic = Interface(type="default")
    source = words.pop("source", None)
    if "type" not in words:
        # "network=default" and "bridge=br0" say what kind it is, too
        if "network" in words or text.partition(",")[0] == "network":
            words["type"] = "network"
        elif "bridge" in words:
            words["type"] = "bridge"
    kind = words.pop("type", None)
    if kind is not None and kind.partition(":")[0] in ("network", "bridge") and ":" in kind:
        kind, _, source = kind.partition(":")
    if words.get("mac") == "RANDOM":
        words.pop("mac")
    if "link.state" in words:
        words["link.state"] = {"on": "up", "yes": "up", "off": "down", "no": "down"}.get(
            words["link.state"] or "", words["link.state"]
        )
    if kind not in (None, "default"):
        apply("network", nic, {"type": kind})
    if source is not None:
        field = {"network": "network", "bridge": "bridge"}.get(nic.type, "dev")
        nic.source = InterfaceSource(**{field: source})
    if nic.type == "direct":
        nic.source = nic.source or InterfaceSource()
        nic.source.mode = nic.source.mode or "vepa"
    apply("network", nic, words, FAMILIES["network"].extra)
    request.domain.dev.interfaces.append(nic)


def _graphics(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("graphics")
        return
    display = Graphics(type="default")
    kind = words.pop("type", None)
    if kind not in (None, "default"):
        apply("graphics", display, {"type": kind})
    if (words.get("keymap") or "").lower() in ("local", "none"):
        words.pop("keymap")
    listen = words.get("listen")
    if listen == "none":
        words.pop("listen")
        words["listens0.type"] = "none"
    elif listen == "socket":
        words.pop("listen")
        words["listens0.type"] = "socket"
    apply("graphics", display, words)
    request.domain.dev.graphics.append(display)


def _controller(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("controller")
        return
    ports = need("controller", words, "num_pcie_root_ports")
    if ports is not None:
        if not ports.removeprefix("-").isdigit():
            raise UsageError(f"--controller num_pcie_root_ports: '{ports}' is not a number")
        request.root_ports = int(ports)
        if not words:
            return
    if words == {"type": "usb2"}:
        from guesthouse.provision.defaults import usb2_controllers

        request.domain.dev.controllers += usb2_controllers()
        return
    if words == {"type": "usb3"}:
        words = {"type": "usb", "model": "qemu-xhci", "ports": "15"}
    place = need("controller", words, "address")
    bus = Controller()
    if place is not None:
        try:
            bus.address = address(place)
        except ValueError:
            raise UsageError(f"--controller address: '{place}' is no PCI address such as 0:0:4.0") from None
    apply("controller", bus, words, FAMILIES["controller"].extra)
    request.domain.dev.controllers.append(bus)


def _video(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("video")
        request.domain.dev.videos.append(Video(model=VideoModel(type="none")))
        return
    card = Video(model=VideoModel(type="default"))
    if words.get("model.type") == "default":
        words.pop("model.type")
    apply("video", card, words)
    request.domain.dev.videos.append(card)


def _chars(name: str, kind: type[CharDevice]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        for key, mode in (("host", "connect"), ("bind_host", "bind")):
            value = need(name, words, key)
            if value is None:
                continue
            host, _, port = value.rpartition(":")
            host = host or "127.0.0.1"
            if words.get("type") == "udp" or key == "host":
                device.sources.insert(0, CharSource(host=host, service=port))
            else:
                device.sources.append(CharSource(mode=mode, host=host, service=port))
        if words.get("type") == "tcp" and device.sources and "mode" not in words:
            device.sources[0].mode = device.sources[0].mode or "connect"
        apply(name, device, words, FAMILIES[name].extra)
        getattr(request.domain.dev, f"{name}s").append(device)

    return fill


def _plain(name: str, kind: Callable[[], Element], attribute: str) -> Callable[[Request, Words, str], None]:
    """A device without special cases; "none" leaves the default one out."""

    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        if words.get(FAMILIES[name].first) == "default":
            words.pop(FAMILIES[name].first)
        apply(name, device, words, FAMILIES[name].extra)
        getattr(request.domain.dev, attribute).append(device)

    return fill


def _memballoon(request: Request, words: Words, text: str) -> None:
    balloon = MemBalloon(model="virtio")
    apply("memballoon", balloon, words)
    request.domain.dev.memballoon = balloon


def _rng(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("rng")
        return
    device = Rng(backend=RngBackend(model="random"))
    assert device.backend is not None
    kind = words.pop("type", None) or words.pop("backend.model", None)
    if kind is not None and kind.startswith("/"):
        words["device"], kind = kind, "random"
    if kind is not None:
        apply("rng", device.backend, {"model": kind})
    if device.backend.model == "random" and "device" not in words:
        words["device"] = "/dev/urandom"
    apply("rng", device, words, FAMILIES["rng"].extra)
    request.domain.dev.rngs.append(device)


def _watchdog(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    if words.get("model") == "default":
        words["model"] = "i6300esb"
    device = Watchdog(action="reset")
    apply("watchdog", device, words)
    request.domain.dev.watchdogs.append(device)


def _tpm(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("tpm")
        return
    first = words.pop("path", None)
    backend = {"type": "emulator"}
    if first is not None and first.startswith("/"):
        backend["type"] = "passthrough"
    elif first not in (None, "default"):
        backend["type"] = str(first)
    backend["type"] = words.pop("backend.type", None) or words.pop("type", None) or backend["type"]
    version = words.pop("backend.version", None) or words.pop("version", None)
    if version is not None:
        backend["version"] = version
    model = words.pop("model", None) or ("tpm-tis" if backend["type"] == "passthrough" else "tpm-crb")
    if words:
        raise suboptions.unknown("tpm", next(iter(words)), FAMILIES["tpm"].extra)
    request.domain.dev.tpms.append(other("tpm", {"model": model}, ("backend", backend)))


def _redirdev(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("redirdev")
        return
    kind = words.pop("type", None) or "spicevmc"
    bus = words.pop("bus", None) or "usb"
    if words:
        raise suboptions.unknown("redirdev", next(iter(words)), FAMILIES["redirdev"].extra)
    request.domain.dev.redirdevs.append(other("redirdev", {"bus": bus, "type": kind}))


def _never(request: Request, words: Words, text: str) -> None:
    raise AssertionError("seen to elsewhere")


_BOOT_EXTRA = ("hd", "cdrom", "fd", "network", "uefi", "domain_type", "emulator")
_TOPOLOGY = ("sockets", "dies", "cores", "threads")
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
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
        Family(
            "disk",
            Disk,
            _never,
            "path",
            ("size", "sparse", "format", "pool", "vol", "backing_store", "backing_format", "perms"),
        ),
        Family("network", Interface, _network, "type", ("source",)),
        Family("graphics", Graphics, _graphics, "type"),
        Family("controller", Controller, _controller, "type", ("address", "num_pcie_root_ports")),
        Family("video", Video, _video, "model.type"),
        *(
            Family(name, kind, _chars(name, kind), "type", ("host", "bind_host"))
            for name, kind in (("serial", Serial), ("parallel", Parallel), ("channel", Channel), ("console", Console))
        ),
        Family("input", Input, _plain("input", Input, "inputs"), "type"),
        Family("sound", Sound, _plain("sound", Sound, "sounds"), "model"),
        Family("memballoon", MemBalloon, _memballoon, "model"),
        Family("rng", Rng, _rng, "type", ("type",)),
        Family("watchdog", Watchdog, _watchdog, "model"),
        Family("tpm", None, _tpm, "path", ("path", "type", "model", "version", "backend.type", "backend.version")),
        Family("redirdev", None, _redirdev, "bus", ("bus", "type")),
        Family("osinfo", None, _never, "name", ("name", "short-id", "id", "detect", "require")),
        Family(
            "install",
            None,
            _never,
            "os",
            ("os", "bootdev", "kernel", "initrd", "kernel_args", "kernel_args_overwrite", "no_install"),
            commas=("kernel_args",),
        ),
        Family("location", None, _never, "location", ("location", "kernel", "initrd")),
    )
}
