"""The two lives of a guest: the first boot from installation media, and all later ones from its disk.

An installation has two documents. The first is started and not kept: it boots the CD, the network or a kernel, and a
reboot ends it. The second is defined, boots the disk, and no longer has the CD. So a guest reboots into the installed
system even where nobody waited for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from guesthouse.client import Connect, Domain
from guesthouse.errors import ConfigUnsupported, GuesthouseError
from guesthouse.model import domain as model
from guesthouse.model.devices.address import Boot
from guesthouse.model.devices.disk import Disk, DiskSource
from guesthouse.model.devices.interface import Interface
from guesthouse.model.sysinfo import Entry, Section, SysInfo
from guesthouse.provision.request import Request, part


@dataclass
class Install:
    """How a guest is installed. ``cdrom`` is the path of a CD; ``bootdev`` boots "cdrom", "network", "hd" or "fd" the
    first time; ``kernel``, ``initrd`` and ``args`` boot a kernel. ``none`` says that there is nothing to install.
    ``answers`` is the path of a CD that the first boot finds besides, such as cloud-init's; ``serial`` is what the guest
    reads as its serial number meanwhile. ``again`` installs a guest that is there already."""

    cdrom: str | None = None
    bootdev: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    args: str | None = None
    none: bool = False
    answers: str | None = None
    serial: str | None = None
    again: bool = False
    disk: Disk | None = field(default=None, repr=False)
    answers_disk: Disk | None = field(default=None, repr=False)

    @property
    def has_phase(self) -> bool:
        """Whether there is a first boot unlike the others."""
        return bool(self.answers) or (not self.none and bool(self.cdrom or self.bootdev or self.kernel))

    @property
    def specified(self) -> bool:
        """Whether somebody said how to install."""
        return self.none or self.has_phase


def add_cdroms(request: Request, install: Install) -> None:
    """Put the installation CD before all others, so that it is the one that boots, and that of the answers behind."""
    if install.answers is not None and install.answers_disk is None:
        install.answers_disk = Disk(type="file", device="cdrom", readonly=True, source=DiskSource(file=install.answers))
        request.domain.dev.disks.append(install.answers_disk)
    if install.cdrom is None or install.disk is not None:
        return
    disk = Disk(type="file", device="cdrom", readonly=True, source=DiskSource(file=install.cdrom))
    disks = request.domain.dev.disks
    at = next((i for i, other in enumerate(disks) if other.device == "cdrom"), len(disks))
    disks.insert(at, disk)
    install.disk = disk


def documents(request: Request, install: Install) -> tuple[model.Domain | None, model.Domain]:
    """The document of the first boot (None where there is none of its own) and the one that is kept."""
    final = request.domain
    by_device = any(device.boot is not None and device.boot.order is not None for device in _bootable(final))
    first = final.copy()
    boot_later = not by_device and not (final.os is not None and (final.os.kernel or final.os.boots))
    if boot_later:
        _set_order(final, _later_device(final, install))
    if not install.has_phase:
        return None, final
    first.on_reboot = "destroy"
    boot = part(first, "os", model.Os)
    if install.serial is not None and boot.smbios is None and not first.sysinfos:
        boot.smbios = model.Smbios(mode="sysinfo")
        entry = Section(entries=[Entry(name="serial", value=install.serial)])
        first.sysinfos.append(SysInfo(type="smbios", system=entry))
    if install.kernel and not install.none:
        boot.kernel, boot.initrd = install.kernel, install.initrd
        boot.cmdline = install.args or boot.cmdline
    boot.boots.clear()
    if install.bootdev and not boot.kernel and not by_device:
        _set_order(first, install.bootdev)
    if not request.os.is_windows:  # which needs its CD at later boots, too
        _take_out(install.disk, final)
    _take_out(install.answers_disk, final)
    return first, final


def _later_device(domain: model.Domain, install: Install) -> str:
    disks = domain.dev.disks
    if install.cdrom and install.none:
        return "cdrom"
    if install.bootdev:
        return "hd" if any(disk.device == "disk" for disk in disks) else install.bootdev
    first = disks[0].device if disks else "disk"
    return {"cdrom": "cdrom", "floppy": "fd"}.get(first, "hd")


def _bootable(domain: model.Domain) -> list[Disk | Interface]:
    return [*domain.dev.disks, *domain.dev.interfaces]


def _set_order(domain: model.Domain, first: str) -> None:
    """Boot ``first``, then the disk: a disk in the order is one that firmware and installers see as bootable."""
    kinds = [first, "hd"] if first != "hd" else ["hd"]
    number = 0
    for kind in kinds:
        device: Disk | Interface | None
        if kind == "network":
            device = next(iter(domain.dev.interfaces), None)
        else:
            wanted = {"hd": "disk", "cdrom": "cdrom", "fd": "floppy"}[kind]
            device = next((disk for disk in domain.dev.disks if disk.device == wanted), None)
        if device is not None:
            number += 1
            part(device, "boot", Boot).order = number


def _take_out(medium: Disk | None, domain: model.Domain) -> None:
    """Take a CD out; the drive stays, empty."""
    if medium is None:
        return
    disk = next((d for d in domain.dev.disks if d.device == "cdrom" and d.path == medium.path), None)
    if disk is not None:
        disk.source = disk.driver = None
        disk.type = "file"


def create(
    conn: Connect,
    first: model.Domain | None,
    final: model.Domain,
    *,
    start: bool,
    transient: bool,
    autostart: bool,
    before: str | None = None,
    proceed: Callable[[], None] = lambda: None,
) -> Domain:
    """Start the guest with its first document and define the other; ``proceed`` is called after each step. Where a
    step fails, or ``proceed`` raises, the guest is ended and undefined again, and the error raised. ``before`` is how it
    was defined before, where it was: it is so again then."""
    started: Domain | None = None
    defined: Domain | None = None
    try:
        if transient or start or first is not None:
            started = conn.create_xml((first or final).to_xml(secrets=True))
            proceed()
        if transient:
            assert started is not None
            return started
        defined = conn.define_xml(final.to_xml(secrets=True))
        proceed()
        if autostart:
            defined.set_autostart(True)
            proceed()
    except BaseException:
        back = (lambda: conn.define_xml(before)) if before is not None else defined and defined.undefine
        for undo in (started and started.destroy, defined and back):
            if undo:
                try:
                    undo()
                except GuesthouseError:  # it has ended by itself, or the daemon is gone
                    pass
        raise
    return defined


def check(request: Request) -> None:
    """Raises what a daemon would, where the document shows it already: before anything is made."""
    for display in request.domain.dev.graphics:
        length = len(display.passwd or "")
        if display.type == "vnc" and length > 8:
            raise ConfigUnsupported(f"VNC password is {length} characters long, only 8 permitted")
