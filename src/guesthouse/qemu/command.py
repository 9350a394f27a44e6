"""A whole guest as a QEMU command line, shaped as libvirt 9.0 shapes it."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.chardev import CharEnd
from guesthouse.model.devices.simple import Rng
from guesthouse.model.domain import Domain
from guesthouse.model.sysinfo import SysInfo
from guesthouse.qemu import board, boot, clock, firmware, memory, pins, processors
from guesthouse.qemu.devices import audio, block, chardev, controller, disk, graphics, interface, redirected, simple
from guesthouse.qemu.devices import filesystem as shares
from guesthouse.qemu.devices import hostdev as hostdevs
from guesthouse.qemu.devices import passt as passts
from guesthouse.qemu.devices import tpm as tpms
from guesthouse.qemu.devices import vsock as vsocks
from guesthouse.qemu.parts import Parts, compact, quote

#: Where the kernel lets caches and memory's bandwidth be shared out.
_RESCTRL = Path("/sys/fs/resctrl/info")
# what is kept in a document but would be silently ignored by a guest: refused instead
_UNSERVED = ("perf",)
# a bus comes before what is plugged into it
_CONTROLLERS = ("pci", "usb", "scsi", "ide", "sata", "virtio-serial", "ccid", "fdc")


@dataclass
class Command:
    """``argv``, the descriptors that it names, which the process must inherit, and variables of its environment."""

    argv: list[str]
    fds: list[int]
    environment: dict[str, str] = field(default_factory=dict)

    def shell(self) -> str:
        """The command as one types it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(self.argv)])


@dataclass
class Wiring:
    """What the host has prepared: the monitor's socket, taps by interface alias, sockets, files and
    logs by character device alias, and what disks need.
    ``incoming``: the guest waits for a saved state. ``paths`` are the sockets of processes beside QEMU, ``vhosts`` what
    the kernel plays, by alias; ``tpm`` is the host's own, with where its commands are cancelled."""

    monitor_fd: int
    taps: dict[str, int] = field(default_factory=dict)
    vhosts: dict[str, int] = field(default_factory=dict)
    sockets: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    incoming: bool = False
    paths: dict[str, str] = field(default_factory=dict)
    tpm: tuple[int, int] | None = None
    #: Where the guest's memory may be, and what the host's firmware says of it.
    memory: memory.Places = field(default_factory=lambda: memory.Places(memory.RAM_FOLDER))
    host: SysInfo | None = None
    disks: block.Prepared = field(default_factory=block.Prepared)
    #: A tap's further queues by interface alias, the accelerators of each, and descriptors of vDPA devices.
    queues: dict[str, list[int]] = field(default_factory=dict)
    accelerators: dict[str, list[int]] = field(default_factory=dict)
    vdpas: dict[str, int] = field(default_factory=dict)
    hostdevs: dict[str, hostdevs.HostdevEnd] = field(default_factory=dict)
    certificates: chardev.Certificates = field(default_factory=chardev.Certificates)


def build(domain: Domain, wiring: Wiring, *, sandbox: bool = True) -> Command:
    """The command for a live document (addresses, aliases, ports and block node numbers decided).

    Raises ConfigUnsupported for anything in the document that the guest would not get.
    """
    check(domain)
    dev = domain.dev
    emulator = dev.emulator or "/usr/bin/qemu-system-x86_64"
    argv = [emulator, "-name", f"guest={quote(domain.name or '')},debug-threads=on", "-S"]
    argv += board.compat_arguments(domain)
    for node in firmware.flash(domain):
        argv += ["-blockdev", compact(node)]
    argv += board.machine_arguments(domain)
    argv += processors.cpu_arguments(domain)
    argv += memory.memory_arguments(domain, wiring.memory)
    argv += ["-smp", processors.smp_argument(domain)]
    argv += board.iothread_arguments(domain)
    argv += memory.numa_arguments(domain, wiring.memory)
    argv += ["-uuid", domain.uuid or ""]
    argv += board.smbios_arguments(domain, wiring.host)
    argv += ["-no-user-config", "-nodefaults"]
    if not any(display.type in graphics.LOCAL for display in dev.graphics):
        argv += ["-display", "none"]
    argv += ["-chardev", f"socket,id=charmonitor,fd={wiring.monitor_fd},server=on,wait=off"]
    argv += ["-mon", "chardev=charmonitor,id=monitor,mode=control"]
    argv += clock.clock_arguments(domain)
    if domain.on_reboot in ("destroy", "preserve"):
        argv += ["-no-reboot"]  # a reboot becomes a shutdown, which the daemon sees
    argv += ["-no-shutdown"]
    argv += boot.pm_arguments(domain)
    argv += boot.boot_arguments(domain)
    parts = Parts(fds=[wiring.monitor_fd])
    parts += device_parts(domain, wiring)
    board.override(domain, parts)
    argv += parts.argv()
    if wiring.incoming:
        argv += ["-incoming", "defer"]
    if sandbox:
        argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    argv += ["-msg", "timestamp=on"]
    own: dict[str, str] = {}
    if domain.qemu is not None:
        argv += domain.qemu.arguments
        own = domain.qemu.environment
    return Command(argv, parts.fds, {**parts.environment, **clock.environment(domain), **own})


def device_parts(domain: Domain, wiring: Wiring) -> Parts:
    """What the devices of a live document come to. Raises ConfigUnsupported for what a guest would not get."""
    parts = Parts()
    dev = domain.dev
    indexes = boot.boot_indexes(domain)
    floppies = {
        (d.address and d.address.unit) or 0: indexes[id(d)] for d in dev.disks if d.bus == "fdc" and id(d) in indexes
    }
    parts += board.devices(domain)
    for bus in sorted(
        dev.controllers, key=lambda bus: _CONTROLLERS.index(bus.type) if bus.type in _CONTROLLERS else 99
    ):
        parts += controller.controller(domain, bus, floppies if bus.type == "fdc" else None)
    for memory_module in dev.memories:
        parts += memory.module(domain, memory_module, wiring.memory)
    for hub in dev.hubs:
        parts += simple.hub(domain, hub)
    parts += block.reservations(domain, wiring.disks)
    fd_sets = block.fd_sets(domain)
    for drive in dev.disks:
        parts += disk.disk(domain, drive, indexes.get(id(drive)), wiring.disks, fd_sets)
    for share in dev.filesystems:
        name = (share.alias and share.alias.name) or ""
        parts += shares.filesystem(domain, share, wiring.paths.get(name))
    sets = itertools.count(len(fd_sets))
    for nic in dev.interfaces:
        alias = (nic.alias and nic.alias.name) or ""
        first = [wiring.taps[alias]] if alias in wiring.taps else []
        vdpa = (next(sets), wiring.vdpas[alias]) if alias in wiring.vdpas else None
        wires = interface.CardEnd(first + wiring.queues.get(alias, []), wiring.accelerators.get(alias, []), vdpa)
        parts += interface.interface(domain, nic, indexes.get(id(nic)), wires)

    def end(device: CharEnd | Rng) -> chardev.HostEnd:
        alias = (device.alias and device.alias.name) or ""
        file, log = wiring.files.get(alias), wiring.logs.get(alias)
        return chardev.HostEnd(
            wiring.sockets.get(alias),
            (next(sets), file) if file is not None else None,
            (next(sets), log) if log is not None else None,
        )

    for serial in dev.serials:
        parts += chardev.character(domain, serial, end(serial), wiring.certificates)
    for parallel in dev.parallels:
        parts += chardev.character(domain, parallel, end(parallel), wiring.certificates)
    for channel in dev.channels:
        parts += chardev.character(domain, channel, end(channel), wiring.certificates)
    for console in dev.consoles:
        if console.target is not None and console.target.type != "serial":
            parts += chardev.character(domain, console, end(console), wiring.certificates)
    for module in dev.tpms:
        name = (module.alias and module.alias.name) or ""
        parts += tpms.tpm(module, wiring.paths.get(name), wiring.tpm, sets)
    for item in dev.inputs:
        parts += simple.input_device(domain, item)
    for system in dev.audios:
        parts += audio.backend(system)
    for display in dev.graphics:
        parts += graphics.graphics(domain, display, wiring.certificates)
    for index, card in enumerate(dev.videos):
        parts += graphics.video(domain, card, index, wiring.sockets.get((card.alias and card.alias.name) or ""))
    for sound in dev.sounds:
        parts += audio.sound(domain, sound)
    for watchdog in dev.watchdogs:
        parts += simple.watchdog(domain, watchdog)
    if domain.genid is not None:
        parts.devices.append({"driver": "vmgenid", "guid": domain.genid, "id": "vmgenid0"})
    if dev.memballoon is not None:
        parts += simple.memballoon(domain, dev.memballoon)
    for rng in dev.rngs:
        parts += simple.rng(domain, rng, end(rng), wiring.certificates)
    for card_ in dev.smartcards:
        parts += redirected.smartcard(domain, card_, end(card_), wiring.certificates)
    for socket in dev.redirdevs:
        parts += redirected.redirdev(domain, socket, end(socket), wiring.certificates)
    node = block.count(domain)
    for device in dev.hostdevs:
        found = wiring.hostdevs.get((device.alias and device.alias.name) or "", hostdevs.HostdevEnd())
        node += device.type == "scsi"
        order = device.boot.order if device.boot is not None else None
        parts += hostdevs.hostdev(domain, device, replace(found, node=node), order)
    for shared in dev.shmems:
        parts += redirected.shmem(domain, shared)
    for vsock in dev.vsocks:
        parts += vsocks.vsock(domain, vsock, wiring.vhosts.get((vsock.alias and vsock.alias.name) or "", 0))
    parts += board.last_devices(domain)
    passts.connect(parts, domain, wiring.paths)
    return parts


def _check_key_wrapping(domain: Domain) -> None:
    """Keys that the machine wraps are those of mainframes."""
    for wrap in domain.extra_nodes:
        for cipher in wrap.findall("cipher") if wrap.tag == "keywrap" else ():
            raise ConfigUnsupported(f"{cipher.get('name')}-key-wrap is not available with this QEMU binary")


def check(domain: Domain) -> None:
    """Raises ConfigUnsupported where the document has something that the guest would not get."""
    if unknown := domain.dev.unmodelled():
        raise ConfigUnsupported(f"device <{unknown[0]}> is not supported yet")
    for name in _UNSERVED:
        if getattr(domain, name) is not None:
            tag = next(s.tag for s in domain.SPECS if s.name == name)
            raise ConfigUnsupported(f"<{tag}> is not supported yet")
    if (unserved := pins.unserved(domain)) is not None:
        if not _RESCTRL.exists():
            raise ConfigUnsupported("Resource control is not supported on this host", domain=ErrorDomain.RESCTRL)
        raise ConfigUnsupported(f"<{unserved}> of <cputune> is not supported yet")
    _check_key_wrapping(domain)
    if domain.extra_nodes:
        raise ConfigUnsupported(f"<{domain.extra_nodes[0].tag}> is not supported yet")
    features = domain.features
    if features is not None and features.extra_nodes:
        raise ConfigUnsupported(f"feature <{features.extra_nodes[0].tag}> is not supported yet")
    for label in domain.seclabels:
        if label.model not in (None, "none", "dac"):
            raise ConfigUnsupported(f"Security driver model '{label.model}' is not available")
        if label.type == "static" or (label.type == "none" and label.model == "dac"):
            raise ConfigUnsupported("guests run as the daemon's configured user: another <seclabel> is not supported")
    for nic in domain.dev.interfaces:
        interface.check(nic)
    for spec in domain.dev.SPECS:
        for device in getattr(domain.dev, spec.name) if spec.form == "children" else ():
            if device.extra_nodes:
                raise ConfigUnsupported(f"<{device.extra_nodes[0].tag}> of <{spec.tag}> is not supported yet")
