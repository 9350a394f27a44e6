"""What the firmware says of this machine (SMBIOS), as dmidecode reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.sysinfo import Entry, Section, SysInfo

_TYPES = "0,1,2,3,4,11,17"
_TIMEOUT = 20

# dmidecode's heading: dmidecode's line -> libvirt's entry, in libvirt's order
_BIOS = {"Vendor": "vendor", "Version": "version", "Release Date": "date", "BIOS Revision": "release"}
_SYSTEM = {
    "Manufacturer": "manufacturer",
    "Product Name": "product",
    "Version": "version",
    "Serial Number": "serial",
    "UUID": "uuid",
    "SKU Number": "sku",
    "Family": "family",
}
_BASE_BOARD = {
    "Manufacturer": "manufacturer",
    "Product Name": "product",
    "Version": "version",
    "Serial Number": "serial",
    "Asset Tag": "asset",
    "Location In Chassis": "location",
}
_CHASSIS = {
    "Manufacturer": "manufacturer",
    "Version": "version",
    "Serial Number": "serial",
    "Asset Tag": "asset",
    "SKU Number": "sku",
}
_PROCESSOR = {
    "Socket Designation": "socket_destination",
    "Type": "type",
    "Family": "family",
    "Manufacturer": "manufacturer",
    "Signature": "signature",
    "Version": "version",
    "External Clock": "external_clock",
    "Max Speed": "max_speed",
    "Status": "status",
    "Serial Number": "serial_number",
    "Part Number": "part_number",
}
_MEMORY = {
    "Size": "size",
    "Form Factor": "form_factor",
    "Locator": "locator",
    "Bank Locator": "bank_locator",
    "Type": "type",
    "Type Detail": "type_detail",
    "Speed": "speed",
    "Manufacturer": "manufacturer",
    "Serial Number": "serial_number",
    "Part Number": "part_number",
}


def read() -> SysInfo:
    """The host's. Takes some milliseconds, in another process. Raises ConfigUnsupported where there is no dmidecode, or
    it finds no SMBIOS or may not look."""
    program = shutil.which("dmidecode", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is not None:
        argv = [program, "-q", "-t", _TYPES]
        try:
            run = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=True)
        except (OSError, subprocess.SubprocessError):
            pass
        else:
            if (found := parse(run.stdout.decode(errors="replace"))) is not None:
                return found
    raise ConfigUnsupported("Host SMBIOS information is not available")


def parse(text: str) -> SysInfo | None:
    """What dmidecode -q printed; None where it has nothing of use."""
    info = SysInfo(type="smbios")
    found = False
    for heading, lines in _records(text):
        match heading:
            case "BIOS Information":
                info.bios = info.bios or _section(_BIOS, lines)
            case "System Information":
                info.system = info.system or _section(_SYSTEM, lines)
            case "Base Board Information":
                info.base_boards.append(_section(_BASE_BOARD, lines))
            case "Chassis Information":
                info.chassis = info.chassis or _section(_CHASSIS, lines)
            case "Processor Information":
                info.processors.append(_section(_PROCESSOR, lines))
            case "Memory Device":
                # an empty slot has no memory in it to tell of
                if not lines.get("Size", "").startswith("No Module"):
                    info.memory_devices.append(_section(_MEMORY, lines))
            case "OEM Strings":
                strings = [Entry(value=value) for name, value in lines.items() if name.startswith("String ")]
                info.oem_strings = info.oem_strings or Section(entries=strings)
            case _:
                continue
        found = True
    return info if found else None


def _records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Headings stand at the margin, their lines one tab in; deeper ones are details."""
    heading, lines = "", dict[str, str]()
    for line in text.splitlines():
        if line and not line[0].isspace():
            if heading:
                yield heading, lines
            heading, lines = line.strip(), {}
        elif line.startswith("\t") and not line.startswith("\t\t"):
            name, colon, value = line.strip().partition(":")
            if colon and value.strip():
                lines[name] = value.strip()
    if heading:
        yield heading, lines


def _section(names: dict[str, str], lines: dict[str, str]) -> Section:
    return Section(entries=[Entry(name=entry, value=lines[name]) for name, entry in names.items() if name in lines])
