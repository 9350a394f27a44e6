"""The families of a guest's share of the host: memory, processor time, disks, nodes, threads; and of what is passed on
as it is: firmware tables, words for QEMU."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from guesthouse.cli.virt_install.family import FAMILIES, Family, Words, add, need, seen_to_elsewhere
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import numbers_in
from guesthouse.cli.virt_install.suboptions import spelled, switch, unknown
from guesthouse.model.domain import Domain, Smbios
from guesthouse.model.fields import Element
from guesthouse.model.memory import HugePages, MemoryBacking, Numatune
from guesthouse.model.qemu_namespace import Arg, CommandLine, Env, QemuNamespace
from guesthouse.model.sysinfo import Entry, Section, SysInfo
from guesthouse.provision.request import Request, part


def _of_domain(name: str) -> Callable[[Request, Words, str], None]:
    """Words that fill fields or places of the domain itself."""

    def fill(request: Request, words: Words, text: str) -> None:
        if text != "none":
            FAMILIES[name].fill(request.domain, words)

    return fill


def _element(name: str, attribute: str, kind: type[Element]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        if text != "none":
            FAMILIES[name].fill(part(request.domain, attribute, kind), words)

    return fill


def _memorybacking(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    backing = part(request.domain, "memory_backing", MemoryBacking)
    if "hugepages" in words and switch("memorybacking", "hugepages", words.pop("hugepages")):
        backing.hugepages = backing.hugepages or HugePages()
    FAMILIES["memorybacking"].fill(backing, words)


def _qemu(request: Request, words: Words, text: str) -> None:
    """Words as a shell splits them, or ``env=NAME=VALUE``."""
    domain = request.domain
    domain.qemu = domain.qemu or QemuNamespace()
    line = part(domain.qemu, "command_line", CommandLine)
    head, equals, rest = text.partition("=")
    if equals and head == "env":
        name, equals, value = rest.partition("=")
        if not equals:
            raise UsageError(f"--qemu-commandline env: '{rest}' is not NAME=VALUE")
        line.envs.append(Env(name=name, value=value))
        return
    try:
        line.args += [Arg(value=word) for word in shlex.split(rest if equals and head == "args" else text)]
    except ValueError as error:
        raise UsageError(f"--qemu-commandline '{text}': {error}") from None


#: What the sections of SMBIOS tables may say, by their elements' names; the old spellings have an underscore.
_SECTIONS = {
    "bios": ("vendor", "version", "date", "release"),
    "system": ("manufacturer", "product", "version", "serial", "uuid", "sku", "family"),
    "baseBoard": ("manufacturer", "product", "version", "serial", "asset", "location"),
    "chassis": ("manufacturer", "version", "serial", "asset", "sku"),
}
_SYSINFO = tuple(f"{section}.{name}" for section, names in _SECTIONS.items() for name in names)
_ENTRIES = ("oemStrings.entry[0-9]*", "entry[0-9]*", "entry[0-9]*.name", "entry[0-9]*.file")


def _sysinfo(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    family = FAMILIES["sysinfo"]
    kind = need("sysinfo", words, "type")
    if kind in ("host", "emulate") and not words:
        part(request.boot, "smbios", Smbios).mode = kind
        return
    kind = kind or "smbios"
    if kind not in ("smbios", "fwcfg"):
        raise UsageError(f"--sysinfo: unknown type '{kind}'", "There are host, emulate, smbios and fwcfg.")
    if kind == "smbios":
        part(request.boot, "smbios", Smbios).mode = "sysinfo"
    info = SysInfo(type=kind)
    for given, value in words.items():
        key = spelled(given, family.aliases)
        section, _, name = key.partition(".")
        if key in _SYSINFO:
            if value is None:
                raise UsageError(f"--sysinfo {given} needs a value, as in {given}=...")
            if section == "baseBoard":
                info.base_boards = info.base_boards or [Section()]
                at = info.base_boards[0]
            else:
                at = part(info, section, Section)
            at.entries = [entry for entry in at.entries if entry.name != name]
            at.entries.append(Entry(name=name, value=value))
            if key == "system.uuid":
                _uuid(request, value)
            continue
        pattern = next((each for each in _ENTRIES if numbers_in(each, key) is not None), None)
        if pattern is None:
            raise unknown("sysinfo", given, family.keys())
        owner = part(info, "oem_strings", Section) if section == "oemStrings" else info
        (number,) = numbers_in(pattern, key) or (0,)
        while len(owner.entries) <= number:
            owner.entries.append(Entry())
        field = {"name": "name", "file": "file"}.get(pattern.rpartition(".")[2], "value")
        setattr(owner.entries[number], field, value)
    for section, names in _SECTIONS.items():
        found = info.base_boards[0] if section == "baseBoard" and info.base_boards else getattr(info, section, None)
        if found is not None:
            found.entries.sort(key=lambda entry, names=names: names.index(entry.name or ""))  # type: ignore[misc]
    request.domain.sysinfos = [info]


def _uuid(request: Request, text: str) -> None:
    """The guest reads its own UUID in its tables, so both are one."""
    from guesthouse.cli.virt_install.suboptions import apply

    if request.domain.uuid is None:
        apply("sysinfo", request.domain, {"uuid": text})


_LIMITS = ("read_bytes_sec", "write_bytes_sec", "read_iops_sec", "write_iops_sec")
_BLKIO = ("path", "weight", *_LIMITS)
_CPU_TIME = (
    *("shares", "period", "quota", "global_period", "global_quota", "emulator_period", "emulator_quota"),
    *("iothread_period", "iothread_quota"),
    *("vcpupin[0-9]*/@vcpu", "vcpupin[0-9]*/@cpuset", "emulatorpin/@cpuset"),
    *("iothreadpin[0-9]*/@iothread", "iothreadpin[0-9]*/@cpuset"),
    *("vcpusched[0-9]*/@vcpus", "vcpusched[0-9]*/@scheduler", "vcpusched[0-9]*/@priority"),
    *("iothreadsched[0-9]*/@iothreads", "iothreadsched[0-9]*/@scheduler", "iothreadsched[0-9]*/@priority"),
    *("emulatorsched/@scheduler", "emulatorsched/@priority", "cachetune[0-9]*/@vcpus"),
    *(f"cachetune[0-9]*/cache[0-9]*/@{name}" for name in ("id", "level", "type", "size", "unit")),
    *(f"cachetune[0-9]*/monitor[0-9]*/@{name}" for name in ("level", "vcpus")),
    *("memorytune[0-9]*/@vcpus", "memorytune[0-9]*/node[0-9]*/@id", "memorytune[0-9]*/node[0-9]*/@bandwidth"),
)
_CPU_LISTS = (
    *("vcpupin[0-9]*.cpuset", "iothreadpin[0-9]*.cpuset", "emulatorpin.cpuset", "vcpusched[0-9]*.vcpus"),
    *("iothreadsched[0-9]*.iothreads", "cachetune[0-9]*.vcpus", "cachetune[0-9]*.monitor[0-9]*.vcpus"),
    "memorytune[0-9]*.vcpus",
)


def _below(tag: str, places: tuple[str, ...]) -> dict[str, str]:
    """Keys of a domain's raw element ``tag``: their short forms, as aliases of those of the domain."""
    from guesthouse.cli.virt_install.places import key_of

    return {key_of(place): f"{tag}.{key_of(place)}" for place in places}


def _raw(name: str, tag: str, places: tuple[str, ...], first: str = "", **more: object) -> Family:
    """A family of a domain's element that the model keeps as it is."""
    aliases = {**_below(tag, places), **more.pop("aliases", {})}  # type: ignore[dict-item]
    return Family(
        name,
        Domain,
        _of_domain(name),
        first,
        only=(),
        places=tuple(f"{tag}/{place}" for place in places),
        aliases=aliases,
        at=tag,
        own_only=True,
        **more,  # type: ignore[arg-type]
    )


add(
    _raw("memtune", "memtune", ("hard_limit", "soft_limit", "swap_hard_limit", "min_guarantee"), "soft_limit"),
    _raw(
        "blkiotune",
        "blkiotune",
        ("weight", *(f"device[0-9]*/{name}" for name in _BLKIO)),
        "weight",
        aliases={
            "device_path": "blkiotune.device0.path",
            "device_weight": "blkiotune.device0.weight",
            **{name: f"blkiotune.device0.{name}" for name in _LIMITS},
        },
    ),
    _raw("cputune", "cputune", _CPU_TIME, commas=_CPU_LISTS),
    _raw(
        "idmap",
        "idmap",
        tuple(f"{who}/@{what}" for who in ("uid", "gid") for what in ("start", "target", "count")),
        aliases={
            f"{who}_{what}": f"idmap.{who}.{what}" for who in ("uid", "gid") for what in ("start", "target", "count")
        },
    ),
    _raw("keywrap", "keywrap", ("cipher[0-9]*/@name", "cipher[0-9]*/@state")),
    Family(
        "numatune",
        Numatune,
        _element("numatune", "numatune", Numatune),
        "nodeset",
        commas=("memory.nodeset", "nodeset", "memnode[0-9]*.nodeset"),
        aliases={"nodeset": "memory.nodeset", "mode": "memory.mode"},
        at="numatune",
    ),
    Family(
        "memorybacking",
        MemoryBacking,
        _memorybacking,
        extra=("hugepages",),
        commas=("nodeset", "hugepages.page[0-9]*.nodeset"),
        aliases={
            **{name: f"hugepages.page0.{name}" for name in ("size", "unit", "nodeset")},
            "access_mode": "access.mode",
            "source_type": "source.type",
        },
        at="memory_backing",
    ),
    Family(
        "iothreads",
        Domain,
        _of_domain("iothreads"),
        "iothreads",
        only=(
            "iothreads",
            *(f"iothreadids.iothread[0-9]*.{name}" for name in ("id", "thread_pool_min", "thread_pool_max")),
            *(f"defaultiothread.{name}" for name in ("thread_pool_min", "thread_pool_max")),
        ),
        places=tuple(f"iothreadids/iothread[0-9]*/poll/@{name}" for name in ("max", "grow", "shrink")),
    ),
    Family(
        "sysinfo",
        None,
        _sysinfo,
        "type",
        ("type", *_SYSINFO, *_ENTRIES),
        commas=_ENTRIES,
        aliases={key.replace(".", "_"): key for key in _SYSINFO if not key.startswith("chassis")},
        at="sysinfos",
    ),
    Family("qemu-commandline", None, _qemu, extra=("args", "env")),
    Family(
        "xml", None, seen_to_elsewhere, extra=tuple(f"xpath.{name}" for name in ("set", "value", "create", "delete"))
    ),
)
