"""Commands about the daemon and its host."""

from __future__ import annotations

import time

from guesthouse.cli.virsh.command import command, data, flag, number, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import row
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

_ALL_CPUS = _ALL_CELLS = -1
_LIBRARY = 9000000  # the libvirt that this virsh is compatible with
_TIMES = ("user", "system", "idle", "iowait")


@command("host", "capabilities", "print what host and hypervisor can do", description="Print the capabilities as XML.")
def capabilities(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get capabilities"):
        shell.out(f"{shell.conn.get_capabilities()}\n")


@command(
    "host",
    "domcapabilities",
    "print what guests can have",
    string("virttype", "of this kind of guest, as in <domain type=...>"),
    string("emulatorbin", "run by this program", "file"),
    string("arch", "of this architecture"),
    string("machine", "with this kind of machine"),
    description="Print as XML what guests of a kind can have on this host.",
)
def domain_capabilities(shell: Shell, given: Given) -> None:
    virttype, emulator = given.text("virttype"), given.text("emulatorbin")
    arch, machine = given.text("arch"), given.text("machine")
    with shell.explain("failed to get emulator capabilities"):
        shell.out(f"{shell.conn.get_domain_capabilities(emulator, arch, machine, virttype)}\n")


@command(
    "host",
    "cpu-models",
    "list the models of processors",
    data("arch", "of this architecture"),
    description="List the processor models that guests of an architecture can have.",
)
def cpu_models(shell: Shell, given: Given) -> None:
    arch = given.need("arch")
    with shell.explain("failed to get CPU model names"):
        ret = shell.conn.call("connect_get_cpu_model_names", arch=arch, need_results=1, flags=0)
    if not ret.models:
        shell.out("all CPU models are accepted\n")
    for model in ret.models:
        shell.out(f"{model}\n")


@command(
    "host",
    "freecell",
    "show the host's free memory",
    number("cellno", "only of this NUMA cell"),
    flag("all", "of each NUMA cell"),
    description="Show how much memory of the host is free, in all or by NUMA cell.",
)
def free_memory(shell: Shell, given: Given) -> None:
    given.exclusive("all", "cellno")
    cell = given.integer("cellno")
    if given.has("all"):
        _free_of_all(shell)
    elif cell is not None:
        free = shell.conn.call("node_get_cells_free_memory", startCell=cell, maxcells=1).cells
        shell.out(f"{cell}: {free[0] // 1024} KiB\n")
    else:
        shell.out(f"Total: {shell.conn.call('node_get_free_memory').freeMem // 1024} KiB\n")


def _free_of_all(shell: Shell) -> None:
    with shell.explain("unable to get node capabilities"):
        xml = shell.conn.get_capabilities()
    cells = _cells(xml)
    if not cells:
        raise Failed("could not get information about NUMA topology")
    found = []
    for cell in cells:
        with shell.explain(f"failed to get free memory for NUMA node number: {cell}"):
            found.append(shell.conn.call("node_get_cells_free_memory", startCell=cell, maxcells=1).cells[0] // 1024)
    for cell, free in zip(cells, found, strict=True):
        shell.out(f"{cell:>5}: {free:>10} KiB\n")
    shell.out(f"{'-' * 20}\n{'Total':>5}: {sum(found):>10} KiB\n")


def _cells(capabilities: str) -> list[int]:
    from xml.etree.ElementTree import fromstring

    root: Element = fromstring(capabilities)
    return [int(cell.get("id", "0")) for cell in root.iterfind("host/topology/cells/cell")]


@command("host", "hostname", "print the host's name")
def hostname(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get hostname"):
        shell.out(f"{shell.conn.get_hostname()}\n")


@command(
    "host",
    "maxvcpus",
    "show how many processors a guest can have",
    string("type", "a guest of this kind, as in <domain type=...>"),
    description="Show the largest number of virtual processors that a guest can have.",
)
def max_vcpus(shell: Shell, given: Given) -> None:
    kind = given.text("type")
    most = _max_of_domain(shell, kind)
    shell.out(f"{shell.conn.get_max_vcpus(kind) if most is None else most}\n")


def _max_of_domain(shell: Shell, kind: str | None) -> str | None:
    """What the domain capabilities say, which know the machine; None where there are none to be had."""
    from xml.etree.ElementTree import fromstring

    try:
        xml = shell.conn.get_domain_capabilities(virttype=kind)
    except GuesthouseError:
        return None
    vcpu = fromstring(xml).find("vcpu")
    return None if vcpu is None else vcpu.get("max")


@command(
    "host",
    "nodecpumap",
    "show which of the host's processors are online",
    flag("pretty", "as ranges of numbers"),
    description="Show how many processors the host has, how many are online, and which.",
)
def cpu_map(shell: Shell, given: Given) -> None:
    with shell.explain("Unable to get cpu map"):
        ret = shell.conn.call("node_get_cpu_map", need_map=1, need_online=1, flags=0)
    online = [bool(ret.cpumap[cpu // 8] >> cpu % 8 & 1) for cpu in range(ret.ret)]
    shell.out(row("CPUs present:", ret.ret))
    shell.out(row("CPUs online:", ret.online))
    if given.has("pretty"):
        text = ranges(cpu for cpu, on in enumerate(online) if on)
    else:
        text = "".join("y" if on else "-" for on in online)
    shell.out(row("CPU map:", text))


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in rising order as libvirt writes sets of them: "0-2,5"."""
    spans: list[list[int]] = []
    for one in numbers:
        if spans and spans[-1][1] == one - 1:
            spans[-1][1] = one
        else:
            spans.append([one, one])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


@command(
    "host",
    "nodecpustats",
    "show what the host's processors have done",
    number("cpu", "only of this processor"),
    flag("percent", "in percent, over one second"),
    description="Show the time in nanoseconds that the host's processors have spent in each mode.",
)
def cpu_stats(shell: Shell, given: Given) -> None:
    cpu = given.integer("cpu")
    cpu = _ALL_CPUS if cpu is None else cpu
    times = _cpu_times(shell, cpu)
    if not given.has("percent"):
        for name in (*_TIMES, "intr"):
            if name in times:
                shell.out(f"{name + ':':<15} {times[name]:>20}\n")
        if "utilization" in times:
            shell.out(f"{'usage:':<15} {float(times['utilization']):>5.1f}%\n")
        return
    if "utilization" in times:
        shell.out(f"{'usage:':<15} {float(times['utilization']):>5.1f}%\n")
        return
    time.sleep(1)
    after = _cpu_times(shell, cpu)
    spent = {name: after.get(name, 0) - times.get(name, 0) for name in _TIMES}
    total = sum(spent.values()) or 1
    shell.out(f"{'usage:':<15} {(spent['user'] + spent['system']) / total * 100:>5.1f}%\n")
    for name, value in spent.items():
        if name in times:
            shell.out(f"{name + ':':<15} {value / total * 100:>5.1f}%\n")


def _cpu_times(shell: Shell, cpu: int) -> dict[str, int]:
    with shell.explain("Unable to get number of cpu stats"):
        count = shell.conn.call("node_get_cpu_stats", cpuNum=cpu, nparams=0, flags=0).nparams
    with shell.explain("Unable to get node cpu stats"):
        ret = shell.conn.call("node_get_cpu_stats", cpuNum=cpu, nparams=count, flags=0)
    return {("system" if param.field == "kernel" else param.field): param.value for param in ret.params}


@command("host", "nodeinfo", "show the host's processors and memory", description="Show what the host is made of.")
def node_info(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get node information"):
        info = shell.conn.node_get_info()
    for label, value in (
        ("CPU model:", info.model),
        ("CPU(s):", info.cpus),
        ("CPU frequency:", f"{info.mhz} MHz"),
        ("CPU socket(s):", info.sockets),
        ("Core(s) per socket:", info.cores),
        ("Thread(s) per core:", info.threads),
        ("NUMA cell(s):", info.nodes),
        ("Memory size:", f"{info.memory} KiB"),
    ):
        shell.out(f"{label:<20} {value}\n")


@command(
    "host",
    "nodememstats",
    "show how the host's memory is used",
    number("cell", "only of this NUMA cell"),
    description="Show in KiB what the host's memory is used for.",
)
def memory_stats(shell: Shell, given: Given) -> None:
    cell = given.integer("cell")
    cell = _ALL_CELLS if cell is None else cell
    with shell.explain("Unable to get number of memory stats"):
        count = shell.conn.call("node_get_memory_stats", nparams=0, cellNum=cell, flags=0).nparams
    with shell.explain("Unable to get memory stats"):
        ret = shell.conn.call("node_get_memory_stats", nparams=count, cellNum=cell, flags=0)
    for param in ret.params:
        shell.out(f"{param.field:<7}: {param.value:>20} KiB\n")


@command("host", "sysinfo", "print what the host's firmware tells of it", description="Print the host's SMBIOS as XML.")
def system_info(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get sysinfo"):
        shell.out(shell.conn.call("connect_get_sysinfo", flags=0).sysinfo)


@command("host", "uri", "print the URI of the connection")
def show_uri(shell: Shell, given: Given) -> None:
    shell.out(f"{shell.conn.get_uri()}\n")


@command(
    "host",
    "version",
    "show versions",
    flag("daemon", "the daemon's too"),
    description="Show the versions of all that works together here.",
)
def version(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get hypervisor type"):
        kind = shell.conn.get_type()
    shell.out(f"Compiled against library: libvirt {_dotted(_LIBRARY)}\n")
    shell.out(f"Using library: libvirt {_dotted(_LIBRARY)}\n")
    shell.out(f"Using API: {kind} {_dotted(_LIBRARY)}\n")
    with shell.explain("failed to get the hypervisor version"):
        hypervisor = shell.conn.get_version()
    if hypervisor:
        shell.out(f"Running hypervisor: {kind} {_dotted(hypervisor)}\n")
    else:
        shell.out(f"Cannot extract running {kind} hypervisor version\n")
    if given.has("daemon"):
        with shell.explain("failed to get the daemon version"):
            shell.out(f"Running against daemon: {_dotted(shell.conn.get_lib_version())}\n")


def _dotted(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
