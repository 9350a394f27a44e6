"""<os> and <pm>: what a guest boots from, and in which order."""

from __future__ import annotations

from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import quote


def boot_arguments(domain: Domain) -> list[str]:
    os_ = domain.os
    assert os_ is not None
    options = []
    if os_.bootmenu is not None and os_.bootmenu.enable is not None:
        options.append(f"menu={'on' if os_.bootmenu.enable else 'off'}")
    if os_.bios is not None and os_.bios.reboot_timeout is not None:
        options.append(f"reboot-timeout={os_.bios.reboot_timeout}")
    if os_.bootmenu is not None and os_.bootmenu.enable and os_.bootmenu.timeout is not None:
        options.append(f"splash-time={os_.bootmenu.timeout}")
    out = ["-boot", ",".join([*options, "strict=on"])]
    if os_.loader is not None and os_.loader.path and os_.loader.type != "pflash":
        out += ["-bios", os_.loader.path]
    for name in ("kernel", "initrd", "dtb"):
        if path := getattr(os_, name):
            out += [f"-{name}", path]
    if os_.cmdline:
        out += ["-append", os_.cmdline]
    for table in os_.acpi.tables if os_.acpi is not None else []:
        out += ["-acpitable", f"sig={(table.type or '').upper()},file={quote((table.path or '').strip())}"]
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
        kinds = {"hd": ("disk", "lun"), "cdrom": ("cdrom",), "fd": ("floppy",)}.get(boot.dev or "", ())
        matching: list[Disk | Interface] = [d for d in domain.dev.disks if d.device in kinds]
        if boot.dev == "network":
            matching = [*domain.dev.interfaces]
        for device in matching[:1]:
            found.setdefault(id(device), number)
    return found


def pm_arguments(domain: Domain) -> list[str]:
    pm = domain.pm
    if pm is None:
        return []
    device = "ICH9-LPC" if domain.is_q35 else "PIIX4_PM"
    out: list[str] = []
    for state, number in ((pm.suspend_to_mem, 3), (pm.suspend_to_disk, 4)):
        if state is not None and state.enabled is not None:
            out += ["-global", f"{device}.disable_s{number}={0 if state.enabled else 1}"]
    return out
