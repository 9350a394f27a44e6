"""QEMU command lines as meaning: options as a multiset, JSON as values, descriptors as one word."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence

#: Options that take no value.
_ALONE = {"-S", "-no-user-config", "-nodefaults", "-no-shutdown", "-no-reboot", "-no-acpi", "-no-hpet"}
_ALONE |= {"-usb", "-mem-prealloc", "-full-screen"}
_FD = re.compile(r"\b(fd|vhostfd)=\d+|\"(fd|vhostfd)\": \"-?\d+\"")

Meaning = Counter[tuple[str, str]]


def read(text: str) -> list[str]:
    """The arguments of a file as libvirt's tests have them, behind its environment settings."""
    words = shlex.split(text.replace("\\\n", " "))
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def pretty(argv: Sequence[str]) -> str:
    """One option a line, as one types it."""
    lines: list[str] = []
    for word in argv:
        if word.startswith("-") or not lines or lines[-1].split(" ")[0] in _ALONE or " " in lines[-1]:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines) + "\n"


def _newer(option: str, value: str) -> tuple[str, str]:
    """The same in the spelling of QEMU 8 where there are two."""
    if option == "-m" and value.isdigit():
        return option, f"size={int(value) * 1024}k"
    if option == "-watchdog-action":
        return "-action", f"watchdog={value}"
    if option == "-cpu":
        return option, ",".join(sorted(value.split(",")))
    if option == "-spice":  # libvirt's tests have a password in the configuration
        return option, value.replace("disable-ticketing=on,", "")
    if option in ("-no-acpi", "-no-hpet"):
        return "-machine", f"{option.removeprefix('-no-')}=off"
    return option, value


def _by_file(argv: Sequence[str]) -> list[str]:
    """Block nodes named by their files, not by their numbers."""
    names = {}
    for word in argv:
        if word.startswith("{") and "filename" in (node := json.loads(word)) and "node-name" in node:
            names[node["node-name"].removesuffix("-storage")] = node["filename"].replace("/", "+")
    return [re.sub(r"libvirt-\d+(?=-(storage|format))", lambda m: names.get(m[0], m[0]), word) for word in argv]


def meaning(argv: Sequence[str]) -> Meaning:
    found: Meaning = Counter()
    words = _by_file(argv[1:])
    while words:
        option = words.pop(0)
        value = "" if option in _ALONE or not words else words.pop(0)
        if value.startswith("{"):
            value = json.dumps(json.loads(value), sort_keys=True)
        value = _FD.sub("fd", value)
        option, value = _newer(option, value)
        if option == "-object" and '"qom-type": "secret"' in value:
            value = json.dumps({"secret": json.loads(value)["id"]})  # how it gets there is the daemon's own
        # what stands on every line of one side: libvirt's key for secrets, which nothing uses; no local display
        if "masterKey0" in value or (option, value) == ("-display", "none"):
            continue
        for word in ("acpi=off", "hpet=off"):
            if option == "-machine" and f",{word}" in value:
                found["-machine", word] += 1
                value = value.replace(f",{word}", "")
        found[option, value] += 1
    return found


# what an old QEMU was not told, or was told in a way of its own: memory as an object, sandboxes, times in the log, the
# default processor, its own USB controller
_NOT_OLD = re.compile(
    r"-sandbox .*|-msg .*|-usb |-cpu qemu(32|64)|-global PIIX4_PM\.disable_s[34]=.*"
    r"|-object id=(pc\.ram|ram-node\d+),.*|-object .*,id=ram-node\d+,.*|-mem-prealloc |-mem-path .*|-device .*driver=piix3-usb-uhci,.*id=usb(,.*)?"
)
_NEWER_WORDS = (",memory-backend=pc.ram", ",migratable=on", ",l3-cache=off", ",host-cache-info=off", ",dies=1")
_NEWER_WORDS += (",vgamem_mb=8", ",vgamem_mb=16", ",vram64_size_mb=0", ",rendernode=/dev/dri/foo")
_WORDS = {"yes": "on", "no": "off"}
# what stands first, without a name
_KINDS = {"-device": "driver", "-netdev": "type", "-object": "qom-type"}


def old_meaning(argv: Sequence[str]) -> Meaning:
    """The same for features that QEMU had long ago: of what both kinds can say, in the words of the old."""
    found: Meaning = Counter()
    for (option, value), times in meaning(argv).items():
        if option in _KINDS and value.startswith("{"):
            value = ",".join(f"{name}={_old(word)}" for name, word in json.loads(value).items())
        if option in _KINDS:
            words = value.split(",")
            words[0] = words[0] if "=" in words[0] else f"{_KINDS[option]}={words[0]}"
            value = ",".join(sorted(_plain(word) for word in words))
        elif option == "-numa" and value.startswith("node,"):
            value = re.sub(r",(mem|memdev)=[^,]*", ",mem", value)
        for word in _NEWER_WORDS:
            value = value.replace(word, "")
        if not _NOT_OLD.fullmatch(f"{option} {value}"):
            found[option, value] += times
    return found


def _old(word: object) -> str:
    return {True: "on", False: "off"}[word] if isinstance(word, bool) else str(word)


def _plain(word: str) -> str:
    """Numbers in one notation, booleans in one word."""
    name, _, value = word.partition("=")
    if re.fullmatch(r"0x[0-9a-f]+", value):
        value = str(int(value, 16))
    return f"{name}={_WORDS.get(value, value)}"
