"""Commands that plug processors into guests and say where they run."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, flag, number, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.params import show
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InvalidArg
from guesthouse.units import format_cpus, parse_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain

_LIVE, _CONFIG, _MAXIMUM, _GUEST, _HOTPLUGGABLE = 1, 2, 4, 8, 16
# what libvirt's own virsh takes
_CPUS_MOST = 1024
_STATES = ("offline", "running", "blocked")
_LIVE_OPTION, _CONFIG_OPTION, _CURRENT_OPTION = affected()
_AFFECT = (_CONFIG_OPTION, _LIVE_OPTION, _CURRENT_OPTION)
_CPULIST = string("cpulist", "the host's CPUs, as 0-3,^2; r for all of them")


def host_cpus(shell: Shell) -> int:
    """How many CPUs the host has."""
    return int(shell.conn.call("node_get_cpu_map", need_map=0, need_online=0, flags=0).ret)


def read_map(data: bytes) -> set[int]:
    """The numbers of a bitmap."""
    return {8 * index + bit for index, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}


def write_map(cpus: set[int], count: int) -> bytes:
    """The bitmap, as long as ``count`` CPUs need."""
    out = bytearray(-(-max([count, *(cpu + 1 for cpu in cpus)]) // 8))
    for cpu in cpus:
        out[cpu // 8] |= 1 << cpu % 8
    return bytes(out)


def wanted_cpus(text: str, count: int) -> bytes:
    """The bitmap for what a user gave. Raises Failed."""
    if text == "r":
        return write_map(set(range(count)), count)
    try:
        cpus = parse_cpus(text)
        if not cpus or max(cpus) >= _CPUS_MOST:
            raise InvalidArg(f"Failed to parse bitmap '{text}'")
    except InvalidArg as error:
        raise Failed(f"Invalid cpulist '{text}'") from error
    return write_map({cpu for cpu in cpus if cpu < count}, count)


def _table(shell: Shell, rows: list[list[str]]) -> None:
    shell.out(format_table(["VCPU", "CPU Affinity"], rows, header=not shell.quiet))


@command(
    "domain",
    "vcpupin",
    "show or say which of the host's CPUs a virtual processor runs on",
    DOMAIN,
    number("vcpu", "the processor's number"),
    _CPULIST,
    *_AFFECT,
    description="Without a list of CPUs, show where a guest's processors may run; else say where one may.",
)
def pin_vcpu(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    cpulist = given.raw("cpulist")
    guest, _ = domain(shell, given)
    vcpu = given.unsigned("vcpu")
    if cpulist is not None and vcpu is None:
        raise Failed("vcpupin: Missing vCPU number in pin mode.")
    count = host_cpus(shell)
    if cpulist is None:
        _show_pins(shell, guest, vcpu, count, flags)
        return
    flags = flags if flags or given.has("current") else _LIVE
    guest.call("pin_vcpu_flags", vcpu=vcpu, cpumap=wanted_cpus(cpulist, count), flags=flags)


def _show_pins(shell: Shell, guest: Domain, vcpu: int | None, count: int, flags: int) -> None:
    most = _how_many(guest, flags)
    if vcpu is not None and vcpu >= most:
        if guest.is_active() and not flags & _CONFIG:
            raise Failed(f"vcpu {vcpu} is out of range of live cpu count {most}")
        raise Failed(f"vcpu {vcpu} is out of range of persistent cpu count {most}")
    length = -(-count // 8)
    ret = guest.call("get_vcpu_pin_info", ncpumaps=most, maplen=length, flags=flags)
    maps = [ret.cpumaps[at : at + length] for at in range(0, ret.num * length, length)]
    rows = [[str(index), format_cpus(read_map(one))] for index, one in enumerate(maps) if vcpu in (None, index)]
    _table(shell, rows)


def _how_many(guest: Domain, flags: int) -> int:
    active = guest.is_active()
    return guest.get_vcpus_flags((flags or (1 if active else _CONFIG)) | _MAXIMUM)


@command(
    "domain",
    "emulatorpin",
    "show or say which of the host's CPUs the rest of a guest runs on",
    DOMAIN,
    _CPULIST,
    *_AFFECT,
    description="What runs there is everything of a guest but its processors.",
)
def pin_emulator(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    cpulist = given.raw("cpulist")
    guest, _ = domain(shell, given)
    count = host_cpus(shell)
    if cpulist is not None:
        flags = flags if flags or given.has("current") else _LIVE
        guest.call("pin_emulator", cpumap=wanted_cpus(cpulist, count), flags=flags)
        return
    length = -(-count // 8)
    ret = guest.call("get_emulator_pin_info", maplen=length, flags=flags)
    shell.extra("emulator: CPU Affinity\n----------------------------------\n       *: ")
    shell.out(f"{format_cpus(read_map(ret.cpumaps[:length]))}\n")


@command(
    "domain",
    "vcpuinfo",
    "show what a guest's virtual processors do",
    DOMAIN,
    flag("pretty", "name CPUs by number"),
    description="Show for each virtual processor which CPU it is on, how long it has run, and where it may run.",
)
def vcpu_info(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    count = host_cpus(shell)
    length = -(-count // 8)
    most = guest.get_info().nrVirtCpu
    try:
        ret = guest.call("get_vcpus", maxinfo=most, maplen=length)
        infos, maps = list(ret.info), ret.cpumaps
    except GuesthouseError:
        if guest.is_active():
            raise
        pins = guest.call("get_vcpu_pin_info", ncpumaps=most, maplen=length, flags=_CONFIG)
        infos, maps = [None] * pins.num, pins.cpumaps
    for index, info in enumerate(infos):
        if info is None:
            shell.out(f"{'VCPU:':<15} {index}\n{'CPU:':<15} N/A\n{'State:':<15} N/A\n{'CPU time':<15} N/A\n")
        else:
            shell.out(f"{'VCPU:':<15} {info.number}\n{'CPU:':<15} {'N/A' if info.cpu == -1 else info.cpu}\n")
            shell.out(f"{'State:':<15} {_STATES[info.state] if info.state < len(_STATES) else 'no state'}\n")
            if info.cpu_time:
                shell.out(f"{'CPU time:':<15} {info.cpu_time / 1e9:.1f}s\n")
        cpus = read_map(maps[index * length : (index + 1) * length])
        letters = "".join("y" if cpu in cpus else "-" for cpu in range(count))
        shown = f"{format_cpus(cpus)} (out of {count})" if given.has("pretty") else letters
        shell.out(f"{'CPU Affinity:':<15} {shown}\n")
        if index < len(infos) - 1:
            shell.out("\n")


@command(
    "domain",
    "setvcpus",
    "say how many virtual processors a guest has",
    DOMAIN,
    number("count", "how many", required=True),
    flag("maximum", "how many it can have, from its next start on"),
    *_AFFECT,
    flag("guest", "have the guest's agent switch them"),
    flag("hotpluggable", "those that are added can be taken out again"),
    description="Plug processors into a guest or take them out, up to what it can have.",
)
def set_vcpus(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    given.exclusive("guest", "config")
    given.require("maximum", "config")
    guest, _ = domain(shell, given)
    count = given.unsigned("count")
    if not count:
        raise Failed("Can't set 0 processors for a VM")
    bits = given.flags({"maximum": _MAXIMUM, "guest": _GUEST, "hotpluggable": _HOTPLUGGABLE})
    if bits & _GUEST:
        guest.call("set_vcpus_flags", nvcpus=count, flags=_GUEST | flags & 1)
    elif flags or bits or given.has("current"):
        guest.call("set_vcpus_flags", nvcpus=count, flags=flags | bits)
    else:
        guest.call("set_vcpus", nvcpus=count)


@command(
    "domain",
    "setvcpu",
    "plug in or take out single virtual processors",
    DOMAIN,
    data("vcpulist", "their numbers"),
    flag("enable", "plug them in"),
    flag("disable", "take them out"),
    *_AFFECT,
    description="Plug in or take out processors of a guest by number.",
)
def set_vcpu(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    given.exclusive("enable", "disable")
    vcpus = given.need("vcpulist")
    if not given.has("enable") and not given.has("disable"):
        raise Failed("one of --enable, --disable is required")
    guest, _ = domain(shell, given)
    guest.call("set_vcpu", cpumap=vcpus, state=int(given.has("enable")), flags=flags)


@command(
    "domain",
    "guestvcpus",
    "show or switch a guest's processors, as it sees them",
    DOMAIN,
    string("cpulist", "the processors to switch"),
    flag("enable", "use them"),
    flag("disable", "do not use them"),
    description="Ask the guest's agent which processors are in use, or have it use others.",
)
def guest_vcpus(shell: Shell, given: Given) -> None:
    given.exclusive("enable", "disable")
    given.require("enable", "cpulist")
    given.require("disable", "cpulist")
    cpulist = given.text("cpulist")
    if cpulist is not None and not given.has("enable") and not given.has("disable"):
        raise Failed("One of options --enable or --disable is required by option --cpulist")
    guest, _ = domain(shell, given)
    if cpulist is not None:
        guest.call("set_guest_vcpus", cpumap=cpulist, state=int(given.has("enable")), flags=0)
        return
    show(shell, guest.call("get_guest_vcpus", flags=0).params, 15)
