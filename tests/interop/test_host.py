"""What the host is, told by both daemons: the same words, but for what docs/compatibility.md explains."""

from __future__ import annotations

import re
from typing import Any

import pytest
from lxml import etree

from guesthouse import client
from guesthouse.errors import GuesthouseError
from guesthouse.model.capabilities import Capabilities, DomainCapabilities
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

Daemons = tuple[Libvirtd, Guesthoused]


@pytest.fixture
def both(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Daemons:
    return c_libvirtd, guesthoused


def printed(both: Daemons, *args: str) -> tuple[str, str]:
    """What C virsh prints with each, numbers of memory in use left out."""
    texts = []
    for daemon in both:
        done = daemon.run(*args)
        texts.append(re.sub(r"\d{5,} KiB|\d{9,}$", "N", done.stdout + done.stderr, flags=re.MULTILINE))
    return texts[0], texts[1]


@pytest.mark.parametrize(
    "line",
    [
        "nodeinfo",
        "nodecpumap",
        "nodecpumap --pretty",
        "nodememstats",
        "nodememstats 0",
        "nodememstats 9",
        "nodecpustats",
        "nodecpustats 0",
        "nodecpustats 99",
        "freecell",
        "freecell --all",
        "freecell 9",
        "maxvcpus",
        "maxvcpus qemu",
        "maxvcpus foo",
        "version",
        "hostname",
        "cpu-models x86_64",
        "cpu-models i686",
        "cpu-models aarch64",
        "cpu-models ppc64",
        "cpu-models riscv64",
        "cpu-models foo",
        "domcapabilities --virttype foo",
        "domcapabilities --virttype xen",
        "domcapabilities --arch foo",
        "domcapabilities --arch aarch64",
        "domcapabilities --machine foo",
        "domcapabilities --emulatorbin /nonexist",
        "domcapabilities --emulatorbin /etc/passwd",
        "domcapabilities --emulatorbin /usr/bin/qemu-system-i386 --arch x86_64",
        "domcapabilities --emulatorbin /usr/bin/qemu-system-x86_64 --arch aarch64",
    ],
)
def test_lines(both: Daemons, line: str) -> None:
    theirs, ours = printed(both, *line.split())
    assert ours == theirs


def answer(uri: str, name: str, args: dict[str, Any]) -> object:
    with client.connect(uri) as conn:
        try:
            ret = conn.call(name, **args)
        except GuesthouseError as error:
            return error.number, error.domain, error.level, error.int1, error.int2, str(error)
        params = getattr(ret, "params", None)
        return [p.field for p in params] if params else ret


@pytest.mark.parametrize(
    "name, args",
    [
        *(("node_get_cpu_map", {"need_map": m, "need_online": o, "flags": 0}) for m in (0, 1) for o in (0, 1)),
        ("node_get_cpu_map", {"need_map": 1, "need_online": 1, "flags": 1}),
        *(("node_get_cpu_stats", {"cpuNum": c, "nparams": n, "flags": 0}) for c in (-2, -1, 0) for n in (0, 3, 4)),
        *(("node_get_memory_stats", {"cellNum": c, "nparams": n, "flags": 0}) for c in (-2, -1, 0) for n in (0, 2, 4)),
        *(
            ("node_get_cells_free_memory", {"startCell": s, "maxcells": m})
            for s, m in ((-1, 1), (0, 0), (9, 1), (0, 2000))
        ),
        *(("connect_get_max_vcpus", {"type": t}) for t in (None, "qemu", "QEMU", "kqemu", "test")),
        ("connect_get_sysinfo", {"flags": 1}),
        ("connect_get_cpu_model_names", {"arch": "x86_64", "need_results": 0, "flags": 0}),
        ("connect_get_cpu_model_names", {"arch": "x86_64", "need_results": 1, "flags": 1}),
        (
            "connect_get_domain_capabilities",
            {"emulatorbin": None, "arch": None, "machine": None, "virttype": None, "flags": 1},
        ),
        (
            "connect_get_domain_capabilities",
            {"emulatorbin": "", "arch": None, "machine": None, "virttype": None, "flags": 0},
        ),
    ],
)
def test_answers(both: Daemons, name: str, args: dict[str, Any]) -> None:
    theirs, ours = (answer(daemon.uri, name, args) for daemon in both)
    assert ours == theirs


def documents(both: Daemons, *args: str) -> tuple[str, str]:
    theirs, ours = (daemon.run(*args) for daemon in both)
    assert (theirs.returncode, ours.returncode) == (0, 0), ours.stderr
    return theirs.stdout.rstrip("\n") + "\n", ours.stdout.rstrip("\n") + "\n"


def test_libvirts_documents_pass_through_ours(c_libvirtd: Libvirtd) -> None:
    text = c_libvirtd.run("capabilities").stdout.rstrip("\n") + "\n"
    assert Capabilities.from_xml(text).to_xml() == text
    for machine in ("pc", "q35", "isapc"):
        text = c_libvirtd.run("domcapabilities", "--machine", machine).stdout.rstrip("\n") + "\n"
        assert DomainCapabilities.from_xml(text).to_xml() == text


def test_capabilities(both: Daemons) -> None:
    theirs, ours = (Capabilities.from_xml(text) for text in documents(both, "capabilities"))
    assert theirs.host is not None and ours.host is not None
    for found in (theirs, ours):
        assert found.host is not None
        for cell in found.host.topology.cells.cells if found.host.topology and found.host.topology.cells else []:
            cell.memory, cell.pages = None, []
    for name in ("power_management", "iommu", "topology", "cache", "netprefix"):
        assert getattr(ours.host, name) == getattr(theirs.host, name), name
    assert ours.host.cpu is not None and theirs.host.cpu is not None
    ours.host.cpu.counter = None  # KVM knows its rate, and is hidden from libvirt here
    assert ours.host.cpu == theirs.host.cpu
    assert ours.host.security == theirs.host.security
    assert ours.host.migration is None
    for one, other in zip(ours.guests, theirs.guests, strict=True):
        assert one.arch == other.arch
        assert one.features is not None and other.features is not None
        one.features.disksnapshot = other.features.disksnapshot = None
        assert one == other


def shape(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """The enumerations by their path, and all elements' paths."""
    enums: dict[str, list[str]] = {}
    paths = []
    for node in etree.fromstring(text.encode()).iter():
        path = "/".join(str(n.get("name") or n.tag) for n in [*reversed(list(node.iterancestors())), node])
        if node.tag == "enum":
            enums[path] = [value.text or "" for value in node]
        if node.tag not in ("value", "enum", "model", "feature"):
            paths.append(path)
    return enums, paths


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_domain_capabilities(both: Daemons, machine: str) -> None:
    theirs, ours = documents(both, "domcapabilities", "--machine", machine, "--virttype", "qemu")
    (their_enums, their_paths), (our_enums, our_paths) = shape(theirs), shape(ours)
    # no part is missing or elsewhere; what is not supported has no enumerations, and offers nothing that libvirt's lacks
    assert our_paths == their_paths
    assert set(our_enums) <= set(their_enums)
    for path, values in our_enums.items():
        assert values == [value for value in their_enums[path] if value in values], path
    one, other = DomainCapabilities.from_xml(ours), DomainCapabilities.from_xml(theirs)
    for name in ("path", "domain", "machine", "arch", "vcpu"):
        assert getattr(one, name) == getattr(other, name)
    assert one.cpu is not None and one.cpu == other.cpu
