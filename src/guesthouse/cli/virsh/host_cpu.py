"""Commands that compare processors, and find what several have in common."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import read_file
from guesthouse.cli.virsh.shell import Shell

_INCOMPATIBLE, _IDENTICAL, _SUPERSET = range(3)
_FILE = data("file", "a file with the XML of processors, guests or capabilities", "file")
_ERROR = flag("error", "fail with the reason where it does not fit")
_VALIDATE = flag("validate", "check the XML's form too")
_FEATURES = flag("features", "list the features of the model too")
_MIGRATABLE = flag("migratable", "leave out what keeps a guest on its host")
_HYPERVISOR = (
    string("virttype", "for this kind of guest, as in <domain type=...>"),
    string("emulator", "run by this program", "file"),
    string("arch", "of this architecture"),
    string("machine", "with this kind of machine"),
)


def _cpus(path: str) -> list[str]:
    """The processors that a file describes, each a <cpu>. Raises Failed."""
    import re
    from xml.etree.ElementTree import ParseError, fromstring, tostring

    text = re.sub(r"^<\?xml.*?\?>", "", read_file(path), count=1, flags=re.DOTALL)
    try:
        root = fromstring(f"<container>{text}</container>")
    except ParseError as error:
        raise Failed(f"{path}:{error.position[0]}: {error}") from None
    found = [*root.iterfind("cpu"), *root.iterfind("domain/cpu"), *root.iterfind("capabilities/host/cpu")]
    for mode in root.iterfind("domainCapabilities/cpu/mode"):
        if mode.get("name") == "host-model" and mode.get("supported") == "yes":
            mode.tag = "cpu"
            mode.attrib.clear()
            found.append(mode)
    if not found:
        raise Failed(
            f"File '{path}' does not contain any <cpu> element or valid domain XML, host capabilities XML, or domain"
            " capabilities XML"
        )
    for cpu in found:
        cpu.tail = None
    return [tostring(cpu, encoding="unicode") for cpu in found]


def _hypervisor(given: Given) -> dict[str, str | None]:
    return {name: given.text(name) for name in ("virttype", "emulator", "arch", "machine")}


@command(
    "host",
    "cpu-compare",
    "compare a processor with the host's",
    _FILE,
    _ERROR,
    _VALIDATE,
    description="Say whether the host's processor has all that the processor in a file has, and more.",
)
def compare(shell: Shell, given: Given) -> None:
    path = given.need("file")
    cpu = _cpus(path)[0]
    with shell.explain(f"Failed to compare host CPU with {path}"):
        flags = given.flags({"error": 1, "validate": 2})
        result = shell.conn.call("connect_compare_cpu", xml=cpu, flags=flags).result
    if result == _IDENTICAL:
        shell.out(f"CPU described in {path} is identical to host CPU\n")
    elif result == _SUPERSET:
        shell.out(f"Host CPU is a superset of CPU described in {path}\n")
    else:
        shell.out(f"CPU described in {path} is incompatible with host CPU\n")
        raise Failed("")


@command(
    "host",
    "hypervisor-cpu-compare",
    "compare a processor with what guests can have",
    _FILE,
    *_HYPERVISOR,
    _ERROR,
    _VALIDATE,
    description="Say whether the best processor that guests of a kind can have has all that the one in a file has.",
)
def hypervisor_compare(shell: Shell, given: Given) -> None:
    path, hypervisor = given.need("file"), _hypervisor(given)
    cpu = _cpus(path)[0]
    with shell.explain(f"Failed to compare hypervisor CPU with {path}"):
        flags = given.flags({"error": 1, "validate": 2})
        result = shell.conn.call("connect_compare_hypervisor_cpu", xmlCPU=cpu, flags=flags, **hypervisor).result
    if result == _IDENTICAL:
        shell.out(f"CPU described in {path} is identical to the CPU provided by hypervisor on the host\n")
    elif result == _SUPERSET:
        shell.out(f"The CPU provided by hypervisor on the host is a superset of CPU described in {path}\n")
    else:
        shell.out(f"CPU described in {path} is incompatible with the CPU provided by hypervisor on the host\n")
        raise Failed("")


@command(
    "host",
    "cpu-baseline",
    "find the processor that several hosts have in common",
    _FILE,
    _FEATURES,
    _MIGRATABLE,
    description="Print the XML of a processor that guests can have on every host whose capabilities are in a file.",
)
def baseline(shell: Shell, given: Given) -> None:
    flags = given.flags({"features": 1, "migratable": 2})
    cpus = _cpus(given.need("file"))
    shell.out(shell.conn.call("connect_baseline_cpu", xmlCPUs=cpus, flags=flags).cpu)


@command(
    "host",
    "hypervisor-cpu-baseline",
    "find the processor that guests can have on several hosts",
    string("file", "a file with the XML of processors, guests or capabilities", "file"),
    *_HYPERVISOR,
    _FEATURES,
    _MIGRATABLE,
    string("model", "instead of a file: this model alone"),
    description="Print the XML of a processor that guests of a kind can have on every host that is described in a file.",
)
def hypervisor_baseline(shell: Shell, given: Given) -> None:
    flags = given.flags({"features": 1, "migratable": 2})
    path, hypervisor, model = given.text("file"), _hypervisor(given), given.text("model")
    if (path is None) == (model is None):
        if path is None:
            raise Failed("Either --file or --model must be provided")
        raise Failed("Options --file and --model are mutually exclusive")
    if path is not None:
        cpus = _cpus(path)
    else:
        from html import escape

        cpus = [f"<cpu><model>{escape(model or '')}</model></cpu>"]
    shell.out(shell.conn.call("connect_baseline_hypervisor_cpu", xmlCPUs=cpus, flags=flags, **hypervisor).cpu)
