"""The <host> part of <capabilities>: node and processor in libvirt's words."""

from __future__ import annotations

from collections.abc import Sequence

from guesthouse.host.cpu import HostCpu, describe_host
from guesthouse.host.node import Cell, Node, format_list
from guesthouse.model.capabilities import (
    Bank,
    BaseLabel,
    Cache,
    CellCpu,
    CellCpus,
    CellPages,
    Cells,
    Counter,
    Cpu,
    CpuTopology,
    Distances,
    Feature,
    HostSection,
    Iommu,
    MaxPhysAddr,
    PageSize,
    PowerManagement,
    SecurityModel,
    Sibling,
    Signature,
    Topology,
    Version,
)
from guesthouse.model.capabilities import Cell as CellElement

_SLEEP = ("suspend_mem", "suspend_disk", "suspend_hybrid")


def describe(
    node: Node, cpu: HostCpu, *, uuid: str, label: str | None, tsc: tuple[int, bool] | None = None
) -> HostSection:
    """The host. ``label`` is whom guests run as ("+64055:+64055"), None where that is the daemon's own user; ``tsc`` the
    frequency of the time stamp counter, and whether it can be scaled, where they are known."""
    sleep = node.sleep_states()
    cells = node.cells()
    return HostSection(
        uuid=uuid,
        cpu=_cpu(node, cpu, cells, tsc),
        power_management=PowerManagement(**{name: name in sleep for name in _SLEEP}),
        iommu=Iommu(support=node.iommu()),
        topology=Topology(cells=Cells(num=len(cells), cells=[_cell(cell) for cell in cells])),
        cache=_cache(node),
        security=_security(label),
    )


#: Name and domain of interpretation of the mandatory access control that keeps guests apart: there is none.
SECURITY_MODEL = ("none", "0")


def _security(label: str | None) -> list[SecurityModel]:
    """The models in force: beside mandatory access control, that guests are another user than the daemon."""
    name, doi = SECURITY_MODEL
    models = [SecurityModel(model=name, doi=doi)]
    if label is not None:
        labels = [BaseLabel(type=kind, label=label) for kind in ("kvm", "qemu")]
        models.append(SecurityModel(model="dac", doi="0", baselabels=labels))
    return models


def _cpu(node: Node, cpu: HostCpu, cells: Sequence[Cell], tsc: tuple[int, bool] | None) -> Cpu:
    info = node.info()
    named = describe_host(cpu)
    places = {(c.socket, c.die) for cell in cells for c in cell.cpus}
    dies = max(1, len(places) // max(1, len({socket for socket, _ in places})))
    if info.cores % dies:
        dies = 1
    topology = CpuTopology(sockets=info.sockets, dies=dies, cores=info.cores // dies, threads=info.threads)
    return Cpu(
        arch=info.model,
        model=named.model if named is not None else None,
        vendor=cpu.vendor or None,
        microcode=Version(version=cpu.microcode) if cpu.microcode else None,
        signature=Signature(family=cpu.family, model=cpu.model, stepping=cpu.stepping) if cpu.family else None,
        counter=Counter(name="tsc", frequency=tsc[0], scaling=tsc[1]) if tsc is not None else None,
        topology=topology,
        maxphysaddr=MaxPhysAddr(mode="emulate", bits=cpu.address_bits) if cpu.address_bits else None,
        features=[Feature(name=name) for name in (named.features if named is not None else ())],
        pages=[PageSize(unit="KiB", size=size) for size in node.page_sizes()],
    )


def _cell(cell: Cell) -> CellElement:
    cpus = [
        CellCpu(id=c.id, socket_id=c.socket, die_id=c.die, core_id=c.core, siblings=format_list(c.siblings))
        for c in cell.cpus
    ]
    return CellElement(
        id=cell.id,
        memory=cell.memory,
        pages=[CellPages(unit="KiB", size=size, count=count) for size, count in cell.pages.items()],
        distances=Distances(siblings=[Sibling(id=id, value=value) for id, value in cell.distances.items()]),
        cpus=CellCpus(num=len(cpus), cpus=cpus),
    )


def _cache(node: Node) -> Cache | None:
    banks = []
    for bank in node.banks():
        size, unit = (bank.size // 1024, "MiB") if bank.size % 1024 == 0 else (bank.size, "KiB")
        banks.append(
            Bank(id=bank.id, level=bank.level, type=bank.type, size=size, unit=unit, cpus=format_list(bank.cpus))
        )
    return Cache(banks=banks) if banks else None
