"""A whole guest as a QEMU command line, shaped as libvirt 9.0 shapes it."""

from __future__ import annotations

import itertools
import shlex
import time
from dataclasses import dataclass, field

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.chardev import CharDevice
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain, Spinlocks, State, SyntheticTimer, TlbFlush, VendorId
from guesthouse.qemu import pins
from guesthouse.qemu.devices import chardev, disk, graphics, interface, simple
from guesthouse.qemu.parts import Parts, compact, quote

# what is kept in a document but would be silently ignored by a guest: refused instead
_UNSERVED = (
    *("blkiotune", "memtune", "memory_backing", "vcpus", "iothreadids", "numatune", "sysinfo", "perf"),
    *("launch_security", "max_memory"),
)
# a bus comes before what is plugged into it
_CONTROLLERS = ("pci", "usb", "scsi", "ide", "sata", "virtio-serial", "ccid", "fdc")
# QEMU retries this often where the document does not say
_SPINLOCK_RETRIES = 0xFFF
_UNSERVED_FEATURES = ("hap", "xen", "gic", "ioapic", "vmcoreinfo")

_CPU_CACHE = {
    "emulate": ["l3-cache=on"],
    "passthrough": ["host-cache-info=on", "l3-cache=off"],
    "disable": ["host-cache-info=off", "l3-cache=off"],
}


@dataclass
class Command:
    """``argv`` and the descriptors that it names, which the process must inherit."""

    argv: list[str]
    fds: list[int]

    def shell(self) -> str:
        """The command as one types it."""
        return shlex.join(self.argv)


@dataclass
class Wiring:
    """What the host has prepared: the monitor's socket, taps by interface alias, sockets, files and
    logs by character device alias.
    ``incoming``: the guest waits for a saved state."""

    monitor_fd: int
    taps: dict[str, int] = field(default_factory=dict)
    vhosts: dict[str, int] = field(default_factory=dict)
    sockets: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    incoming: bool = False


def build(domain: Domain, wiring: Wiring, *, sandbox: bool = True) -> Command:
    """The command for a live document (addresses, aliases, ports and block node numbers decided).

    Raises ConfigUnsupported for anything in the document that the guest would not get.
    """
    check(domain)
    parts = Parts(fds=[wiring.monitor_fd])
    dev = domain.dev
    emulator = dev.emulator or "/usr/bin/qemu-system-x86_64"
    argv = [emulator, "-name", f"guest={quote(domain.name or '')},debug-threads=on", "-S"]
    argv += _machine(domain)
    argv += _cpu(domain)
    argv += _memory(domain)
    argv += ["-smp", _smp(domain)]
    argv += ["-uuid", domain.uuid or "", "-no-user-config", "-nodefaults", "-display", "none"]
    argv += ["-chardev", f"socket,id=charmonitor,fd={wiring.monitor_fd},server=on,wait=off"]
    argv += ["-mon", "chardev=charmonitor,id=monitor,mode=control"]
    argv += _clock(domain)
    if domain.on_reboot in ("destroy", "preserve"):
        argv += ["-no-reboot"]  # a reboot becomes a shutdown, which the daemon sees
    argv += ["-no-shutdown"]
    argv += _pm(domain)
    argv += _boot(domain)
    indexes = boot_indexes(domain)
    floppies = {
        (d.address and d.address.unit) or 0: indexes[id(d)] for d in dev.disks if d.bus == "fdc" and id(d) in indexes
    }
    for bus in sorted(
        dev.controllers, key=lambda bus: _CONTROLLERS.index(bus.type) if bus.type in _CONTROLLERS else 99
    ):
        parts += simple.controller(domain, bus, floppies if bus.type == "fdc" else None)
    for hub in dev.hubs:
        parts += simple.hub(hub)
    for drive in dev.disks:
        parts += disk.disk(domain, drive, indexes.get(id(drive)))
    for nic in dev.interfaces:
        alias = (nic.alias and nic.alias.name) or ""
        parts += interface.interface(
            domain, nic, indexes.get(id(nic)), wiring.taps.get(alias), wiring.vhosts.get(alias)
        )

    sets = itertools.count()

    def end(device: CharDevice) -> chardev.HostEnd:
        alias = (device.alias and device.alias.name) or ""
        file, log = wiring.files.get(alias), wiring.logs.get(alias)
        return chardev.HostEnd(
            wiring.sockets.get(alias),
            (next(sets), file) if file is not None else None,
            (next(sets), log) if log is not None else None,
        )

    for serial in dev.serials:
        parts += chardev.character(domain, serial, end(serial))
    for parallel in dev.parallels:
        parts += chardev.character(domain, parallel, end(parallel))
    for channel in dev.channels:
        parts += chardev.character(domain, channel, end(channel))
    for console in dev.consoles:
        if console.target is not None and console.target.type != "serial":
            parts += chardev.character(domain, console, end(console))
    for item in dev.inputs:
        parts += simple.input_device(domain, item)
    parts.options += ["-audiodev", compact({"id": "audio1", "driver": _audio(domain)})]
    for display in dev.graphics:
        parts += graphics.graphics(display)
    for index, card in enumerate(dev.videos):
        parts += graphics.video(domain, card, index)
    for sound in dev.sounds:
        parts += simple.sound(domain, sound)
    for watchdog in dev.watchdogs:
        parts += simple.watchdog(domain, watchdog)
    if domain.genid is not None:
        parts.devices.append({"driver": "vmgenid", "guid": domain.genid, "id": "vmgenid0"})
    if dev.memballoon is not None:
        parts += simple.memballoon(domain, dev.memballoon)
    for rng in dev.rngs:
        parts += simple.rng(domain, rng)
    argv += parts.argv()
    if wiring.incoming:
        argv += ["-incoming", "defer"]
    if sandbox:
        argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    argv += ["-msg", "timestamp=on"]
    return Command(argv, parts.fds)


def check(domain: Domain) -> None:
    """Raises ConfigUnsupported where the document has something that the guest would not get."""
    if unknown := domain.dev.unmodelled():
        raise ConfigUnsupported(f"device <{unknown[0]}> is not supported yet")
    for name in _UNSERVED:
        if getattr(domain, name) is not None:
            tag = next(s.tag for s in domain.SPECS if s.name == name)
            raise ConfigUnsupported(f"<{tag}> is not supported yet")
    if (unserved := pins.unserved(domain)) is not None:
        raise ConfigUnsupported(f"<{unserved}> of <cputune> is not supported yet")
    if domain.iothreads:
        raise ConfigUnsupported("<iothreads> is not supported yet")
    if domain.extra_nodes:
        raise ConfigUnsupported(f"<{domain.extra_nodes[0].tag}> is not supported yet")
    features = domain.features
    if features is not None:
        for name in _UNSERVED_FEATURES:
            if getattr(features, name) is not None:
                raise ConfigUnsupported(f"feature <{name}> is not supported yet")
        if features.extra_nodes:
            raise ConfigUnsupported(f"feature <{features.extra_nodes[0].tag}> is not supported yet")
    if domain.os is not None:
        loader = domain.os.loader
        if domain.os.firmware == "efi" or (loader is not None and loader.type == "pflash"):
            raise ConfigUnsupported("UEFI firmware is not supported yet; leave <loader> and firmware='efi' out")
        if domain.os.smbios is not None and domain.os.smbios.mode in ("host", "sysinfo"):
            raise ConfigUnsupported(f"SMBIOS mode '{domain.os.smbios.mode}' is not supported yet")
    if domain.cpu is not None and domain.cpu.numa is not None:
        raise ConfigUnsupported("guest NUMA cells are not supported yet")
    for label in domain.seclabels:
        if label.model not in (None, "none", "dac"):
            raise ConfigUnsupported(f"Security driver model '{label.model}' is not available")
        if label.type == "static" or (label.type == "none" and label.model == "dac"):
            raise ConfigUnsupported("guests run as the daemon's configured user: another <seclabel> is not supported")
    for spec in domain.dev.SPECS:
        for device in getattr(domain.dev, spec.name) if spec.form == "children" else ():
            if device.extra_nodes:
                raise ConfigUnsupported(f"<{device.extra_nodes[0].tag}> of <{spec.tag}> is not supported yet")


def _machine(domain: Domain) -> list[str]:
    options = [domain.machine, "usb=off"]
    features = domain.features
    if features is not None and features.vmport is not None and features.vmport.state is not None:
        options.append(f"vmport={'on' if features.vmport.state else 'off'}")
    if features is not None and features.smm is not None and features.smm.state is not None:
        options.append(f"smm={'on' if features.smm.state else 'off'}")
    options += ["dump-guest-core=off", "memory-backend=pc.ram"]
    if any(t.name == "hpet" and t.present is False for t in (domain.clock.timers if domain.clock else [])):
        options.append("hpet=off")
    if domain.os is not None and domain.os.bios is not None and domain.os.bios.use_serial:
        options.append("graphics=off")
    if features is None or not features.acpi:
        options.append("acpi=off")
    return ["-machine", ",".join(options), "-accel", "kvm" if domain.type == "kvm" else "tcg"]


def _cpu(domain: Domain) -> list[str]:
    cpu = domain.cpu
    if cpu is None:
        return []
    if cpu.mode == "custom":
        name = (cpu.model and cpu.model.name) or "qemu64"
    elif cpu.mode == "host-passthrough" or (cpu.mode == "host-model" and domain.type == "kvm"):
        name = "host"
    else:
        name = "max"
    words = [name]
    if cpu.mode in ("host-passthrough", "maximum") and cpu.migratable is not None and domain.type == "kvm":
        words.append(f"migratable={'on' if cpu.migratable else 'off'}")
    for feature in cpu.features:
        on = feature.policy in ("force", "require", "optional")
        words.append(f"{feature.name}={'on' if on else 'off'}")
    features = domain.features
    if features is not None and features.pmu is not None and features.pmu.state is not None:
        words.append(f"pmu={'on' if features.pmu.state else 'off'}")
    if features is not None and features.apic is not None and features.apic.eoi is not None:
        words.append(f"kvm-pv-eoi={'on' if features.apic.eoi else 'off'}")
    words += _enlightenments(domain)
    if cpu.cache is not None and cpu.cache.mode is not None:
        words += _CPU_CACHE[cpu.cache.mode]
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
    return words + [word for wish, word in wishes if wish is not None and wish.state]


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
    if hyperv is None:
        return words
    if hyperv.extra_nodes:
        raise ConfigUnsupported(f"hyperv feature <{hyperv.extra_nodes[0].tag}> is not supported yet")
    if hyperv.mode == "passthrough":
        return [*words, "hv-passthrough=on"]
    for spec in hyperv.SPECS:
        feature = getattr(hyperv, spec.name)
        if not isinstance(feature, State) or not feature.state:
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


def _memory(domain: Domain) -> list[str]:
    kib = domain.memory or 0
    mib = -(-kib // 1024)  # QEMU counts whole MiB, as libvirt rounds
    backend = {"qom-type": "memory-backend-ram", "id": "pc.ram", "size": mib * 1024 * 1024}
    return ["-m", f"size={mib * 1024}k", "-object", compact(backend), "-overcommit", "mem-lock=off"]


def _smp(domain: Domain) -> str:
    count = domain.cpu_count
    current = (domain.vcpu and domain.vcpu.current) or count
    topology = domain.cpu.topology if domain.cpu else None
    sockets, dies, cores, threads = count, 1, 1, 1
    if topology is not None:
        sockets, dies = topology.sockets or 1, topology.dies or 1
        cores, threads = topology.cores or 1, topology.threads or 1
    first = f"{current},maxcpus={count}" if current != count else str(count)
    middle = f",dies={dies}" if topology is not None else ""
    return f"{first},sockets={sockets}{middle},cores={cores},threads={threads}"


def _clock(domain: Domain) -> list[str]:
    clock = domain.clock
    base, track, drift = "utc", "", ""
    out: list[str] = []
    if clock is not None:
        if clock.offset == "localtime":
            base = "localtime"
        elif clock.offset == "absolute":
            base = _moment(clock.start or 0)
        elif clock.offset == "variable":
            local = clock.basis == "localtime"
            base = _moment(time.time() + int(clock.adjustment or 0) + (time.localtime().tm_gmtoff if local else 0))
        elif clock.offset not in (None, "utc"):
            raise ConfigUnsupported(f"clock offset '{clock.offset}' is not supported yet")
        for timer in clock.timers:
            if timer.name == "rtc" and timer.track in ("guest", "wall"):
                track = ",clock=vm" if timer.track == "guest" else ",clock=host"
            if timer.name == "rtc" and timer.tickpolicy == "catchup":
                drift = ",driftfix=slew"
            elif timer.name == "pit" and timer.tickpolicy == "delay":
                out += ["-global", "kvm-pit.lost_tick_policy=delay"]
            elif timer.name == "tsc" and timer.present is not None:
                raise ConfigUnsupported(f"timer '{timer.name}' is not supported yet")
    return ["-rtc", f"base={base}{track}{drift}", *out]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _pm(domain: Domain) -> list[str]:
    pm = domain.pm
    if pm is None:
        return []
    device = "ICH9-LPC" if domain.is_q35 else "PIIX4_PM"
    out: list[str] = []
    for state, number in ((pm.suspend_to_mem, 3), (pm.suspend_to_disk, 4)):
        if state is not None and state.enabled is not None:
            out += ["-global", f"{device}.disable_s{number}={0 if state.enabled else 1}"]
    return out


def _boot(domain: Domain) -> list[str]:
    os_ = domain.os
    assert os_ is not None
    options = []
    if os_.bootmenu is not None and os_.bootmenu.enable is not None:
        options.append(f"menu={'on' if os_.bootmenu.enable else 'off'}")
    if os_.bios is not None and os_.bios.reboot_timeout is not None:
        options.append(f"reboot-timeout={os_.bios.reboot_timeout}")
    if os_.bootmenu is not None and os_.bootmenu.enable and os_.bootmenu.timeout:
        options.append(f"splash-time={os_.bootmenu.timeout}")
    out = ["-boot", ",".join([*options, "strict=on"])]
    if os_.loader is not None and os_.loader.path:
        out += ["-bios", os_.loader.path]
    for name in ("kernel", "initrd", "dtb"):
        if path := getattr(os_, name):
            out += [f"-{name}", path]
    if os_.cmdline:
        out += ["-append", os_.cmdline]
    return out


def boot_indexes(domain: Domain) -> dict[int, int]:
    """id() of a device -> its place in the boot order, from the devices' own orders or from <os>'s list, which names
    the first disk, CD, floppy and network card."""
    devices: list[Disk | Interface] = [*domain.dev.disks, *domain.dev.interfaces]
    own = {id(d): d.boot.order for d in devices if d.boot is not None and d.boot.order is not None}
    if own or domain.os is None:
        return own
    found: dict[int, int] = {}
    for number, boot in enumerate(domain.os.boots, 1):
        kind = {"hd": "disk", "cdrom": "cdrom", "fd": "floppy"}.get(boot.dev or "")
        matching: list[Disk | Interface] = [d for d in domain.dev.disks if d.device == kind]
        if boot.dev == "network":
            matching = [*domain.dev.interfaces]
        for device in matching[:1]:
            found.setdefault(id(device), number)
    return found


def _audio(domain: Domain) -> str:
    kind = domain.dev.audios[0].type if domain.dev.audios else "none"
    if domain.dev.audios and domain.dev.audios[0].extra_nodes:
        raise ConfigUnsupported("settings of <audio> are not supported yet")
    if kind not in ("none", "spice"):
        raise ConfigUnsupported(f"audio backend '{kind}' is not supported yet")
    return kind
