"""``<sysinfo>``: what a machine's firmware says of it (SMBIOS), in libvirt 9.0's vocabulary and element order."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Child, Children, Content, Element


class Entry(Element, tag="entry"):
    """``file`` holds the value of a fw_cfg entry that has none of its own."""

    name: str | None = Attr("name")
    file: str | None = Attr("file")
    value: str | None = Content()


class Section(Element, tag="section"):
    entries: list[Entry] = Children(Entry)

    def __getitem__(self, name: str) -> str | None:
        return next((entry.value for entry in self.entries if entry.name == name), None)


class SysInfo(Element, tag="sysinfo"):
    type: str | None = Attr("type")
    bios: Section | None = Child(Section, "bios")
    system: Section | None = Child(Section, "system")
    base_boards: list[Section] = Children(Section, "baseBoard")
    chassis: Section | None = Child(Section, "chassis")
    processors: list[Section] = Children(Section, "processor")
    memory_devices: list[Section] = Children(Section, "memory_device")
    oem_strings: Section | None = Child(Section, "oemStrings")
    entries: list[Entry] = Children(Entry)
