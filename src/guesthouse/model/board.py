"""What libvirt makes of a document's memory, nodes, threads, firmware and board devices when it is defined, and what of
them it refuses. Pure.

The rules are libvirt 9.0's (domain_postparse.c, domain_validate.c, numa_conf.c, qemu_domain.c, qemu_validate.c). Each
function completes its part in place, or raises the error that libvirtd gives.
"""

from __future__ import annotations

import re

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError, XMLDetail, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.platform import Memory
from guesthouse.model.domain import Domain, Nvram
from guesthouse.model.memory import NumaMemory, Numatune
from guesthouse.model.numa import Bandwidth, Cell, CellDistances, CellSibling, Latency, Numa
from guesthouse.model.threads import DefaultIoThread, IoThread, OneVcpu

_KIB = 1024
_LOCAL, _REMOTE = 10, 20
_BLOCK_MIN = 2048
_LABEL_MIN = 128


def _kib(value: int, unit: str | None) -> int:
    return -(-units.scale(value, unit, "KiB") // _KIB)


def _cpus(text: str) -> str:
    """A list of numbers as libvirt writes it."""
    return units.format_cpus(units.parse_cpus(text))


# -- memory and nodes


def memory(domain: Domain) -> None:
    """Sizes in KiB, and the whole memory as the sum of the nodes and modules where there are nodes."""
    if domain.cpu is not None and domain.cpu.numa is not None:
        _numa(domain.cpu.numa)
    _pages(domain)
    _numatune(domain)
    for module in domain.dev.memories:
        _module(module)
    modules = sum(module.size for module in domain.dev.memories)
    if cells := sum(cell.memory or 0 for cell in domain.cells):
        domain.memory = cells + modules
    elif modules > (domain.memory or 0):
        raise ConfigUnsupported("Total size of memory devices exceeds the total memory size", domain=ErrorDomain.DOMAIN)
    limit = domain.max_memory
    if limit is not None:
        limit.value, limit.unit = _kib(limit.value or 0, limit.unit), "KiB"
        if not limit.value or not limit.slots:
            raise XMLError("both maximum memory size and memory slot count must be specified")
        if limit.value < (domain.memory or 0):
            raise XMLError("maximum memory size must be equal or greater than the actual memory size")


def _pages(domain: Domain) -> None:
    backing = domain.memory_backing
    if backing is None or backing.hugepages is None:
        return
    for page in backing.hugepages.pages:
        page.size, page.unit = _kib(page.size or 0, page.unit), "KiB"
        if not page.size:
            raise XMLDetail("hugepage size can't be zero")
        if page.nodeset is not None:
            page.nodeset = _cpus(page.nodeset)
            beyond = [node for node in units.parse_cpus(page.nodeset) if node >= len(domain.cells) and node]
            if beyond:
                raise XMLDetail(f"hugepages: node {min(beyond)} not found", domain=ErrorDomain.DOMAIN)
    if backing.allocation is not None and backing.allocation.mode == "ondemand":
        raise ConfigUnsupported("hugepages are not allowed with memory allocation ondemand")
    if backing.source is not None and backing.source.type == "anonymous":
        raise ConfigUnsupported("hugepages are not allowed with anonymous memory source")


def _numa(numa: Numa) -> None:
    cells = numa.cells
    for number, cell in enumerate(cells):
        cell.id = number if cell.id is None else cell.id
        if cell.id >= len(cells):
            raise XMLError("Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not"
                           " starting from 0 are not allowed")  # fmt: skip
        cell.memory, cell.unit = _kib(cell.memory or 0, cell.unit), "KiB"
        cell.cpus = _cpus(cell.cpus) or None if cell.cpus is not None else None
        for cache in cell.caches:
            if cache.size is not None:
                cache.size.value, cache.size.unit = _kib(cache.size.value or 0, cache.size.unit), "KiB"
            for name in ("associativity", "policy"):
                if getattr(cache, name) is None:
                    text = f"Missing '{name}' attribute in cache element for NUMA node {cell.id}"
                    raise XMLError(text, domain=ErrorDomain.DOMAIN)
            if cache.line is not None:  # of which libvirt does not read the unit
                cache.line.unit = "B"
    if len({cell.id for cell in cells}) < len(cells):
        again = next(cell.id for i, cell in enumerate(cells) if cell.id in [other.id for other in cells[:i]])
        raise XMLError(f"Duplicate NUMA cell info for cell id '{again}'")
    cells.sort(key=lambda cell: cell.id or 0)
    seen: dict[int, int] = {}
    for cell in cells:
        for cpu in units.parse_cpus(cell.cpus) if cell.cpus else ():
            if cpu in seen:
                raise XMLError(f"NUMA cells {seen[cpu]} and {cell.id} have overlapping vCPU ids")
            seen[cpu] = cell.id or 0
    _distances(cells)
    _interconnects(numa)


def _distances(cells: list[Cell]) -> None:
    """What is said of one way holds for the way back, where nothing is said of that."""
    known: dict[int, dict[int, int]] = {}
    for cell in cells:
        here = cell.id or 0
        for sibling in cell.distances.siblings if cell.distances is not None else []:
            there, value = sibling.id or 0, sibling.value or 0
            if there >= len(cells):
                raise XMLError(f"'sibling_id {there}' does not refer to a valid cell within NUMA 'cell id {here}'")
            if (here == there and value != _LOCAL) or not _LOCAL <= value <= 255:
                raise XMLError(f"'value {value}' is invalid for 'sibling id {there}' under NUMA 'cell id {here}'")
            known.setdefault(here, {here: _LOCAL})[there] = value
            known.setdefault(there, {there: _LOCAL}).setdefault(here, value)
    for cell in cells:
        if (ways := known.get(cell.id or 0)) is not None:
            siblings = [CellSibling(id=there, value=ways[there]) for there in sorted(ways)]
            cell.distances = CellDistances(siblings=siblings)


def distance(cell: Cell, other: int) -> int:
    """From ``cell`` to the node of number ``other``."""
    for sibling in cell.distances.siblings if cell.distances is not None else []:
        if sibling.id == other:
            return sibling.value or 0
    return _LOCAL if cell.id == other else _REMOTE


def _interconnects(numa: Numa) -> None:
    for cell in numa.cells:
        levels = [cache.level or 0 for cache in cell.caches]
        for level in levels:
            if level > 3:
                raise XMLError("Ain't nobody heard of that much cache level")
            if levels.count(level) > 1:
                raise XMLError(f"Cache level '{level}' already defined")
    if numa.interconnects is None:
        return
    for bandwidth in numa.interconnects.bandwidths:
        bandwidth.value, bandwidth.unit = _kib(bandwidth.value or 0, bandwidth.unit), "KiB"
    ways: list[Latency | Bandwidth] = [*numa.interconnects.latencies, *numa.interconnects.bandwidths]
    for way in ways:
        for name, number in (("initiator", way.initiator), ("target", way.target)):
            if (number or 0) >= len(numa.cells):
                raise XMLError(f"'{name}' refers to a non-existent NUMA node")
        if not numa.cells[way.initiator or 0].cpus:
            raise XMLError("NUMA nodes without CPUs can't be initiator")
        if way.cache and way.cache not in [cache.level for cache in numa.cells[way.target or 0].caches]:
            raise XMLError("'cache' refers to a non-existent NUMA node cache")


def _numatune(domain: Domain) -> None:
    """Where the host is to choose, it chooses for processors and for memory, unless either is said."""
    fixed = domain.vcpu is None or domain.vcpu.placement != "auto"
    tune = domain.numatune
    if tune is None:
        if fixed:
            return
        tune = domain.numatune = Numatune()
    if tune.memory is None and not fixed:
        tune.memory = NumaMemory(placement="auto")
    cells, memory = len(domain.cells), tune.memory
    if memory is not None and memory.mode is None and memory.nodeset is None and memory.placement is None:
        tune.memory = memory = None
    if memory is not None:
        memory.mode = memory.mode or "strict"
        if memory.placement is None:
            memory.placement = "static" if memory.nodeset is not None or fixed else "auto"
        if memory.placement == "static" and memory.nodeset is None:
            text = "nodeset for NUMA memory tuning must be set if 'placement' is 'static'"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
        if memory.placement == "auto":
            memory.nodeset = None
            if _nowhere_said(domain) and domain.vcpu is not None:
                domain.vcpu.placement = "auto"
        elif memory.nodeset is not None:
            memory.nodeset = _cpus(memory.nodeset)
            memory.placement = None
    for node in tune.nodes:
        if tune.memory is not None and tune.memory.placement == "auto":
            raise ConfigUnsupported("Per-node binding is not compatible with automatic NUMA placement.")
        if not cells:
            raise XMLError("Element 'memnode' is invalid without any guest NUMA cells")
        if (node.cellid or 0) >= cells:
            raise XMLError("Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell")
        node.mode = node.mode or "strict"
        node.nodeset = _cpus(node.nodeset or "")
    tune.nodes.sort(key=lambda node: node.cellid or 0)
    numbers = [node.cellid for node in tune.nodes]
    for number in numbers:
        if numbers.count(number) > 1:
            raise XMLError(f"Multiple memnode elements with cellid {number}")
    restrictive = tune.memory is not None and tune.memory.mode == "restrictive"
    if restrictive and any(node.mode != "restrictive" for node in tune.nodes):
        raise XMLError("'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element")


def _nowhere_said(domain: Domain) -> bool:
    """Whether no processor and no thread of the guest has its place in the host."""
    tune = domain.cputune
    pins = tune is not None and (tune.vcpupins or tune.emulatorpins or tune.iothreadpins)
    return not pins and not (domain.vcpu is not None and domain.vcpu.cpuset)


# -- memory modules


def _module(module: Memory) -> None:
    if module.target is None or module.target.size is None:
        raise XMLError(
            "missing or invalid size of memory device target" if module.target else "missing memory device target"
        )
    if module.source is not None and module.source.nodemask is not None:
        module.source.nodemask = _cpus(module.source.nodemask)
    if module.model == "virtio-pmem" and module.access is None:
        module.access = "shared"
    label = module.target.label
    if label is not None and module.model == "nvdimm":
        if not label.size or label.size < _LABEL_MIN:
            raise XMLError("nvdimm label must be at least 128KiB", domain=ErrorDomain.DOMAIN)
        if label.size >= module.target.size:
            raise XMLError("label size must be smaller than NVDIMM size", domain=ErrorDomain.DOMAIN)
    if module.model != "virtio-mem":
        module.target.block = module.target.requested = None
    if module.model == "virtio-mem":
        module.target.requested = module.target.requested or 0
    module.target.current = None


def modules(domain: Domain) -> None:
    """Slots for memory modules that have none, and whether all of them fit together."""
    taken = {m.address.slot for m in domain.dev.memories if m.address is not None and m.address.type == "dimm"}
    for module in domain.dev.memories:
        _check_module(domain, module)
        dimm = module.model in ("dimm", "nvdimm")
        if dimm and (module.address is None or module.address.type is None):
            slot = next(n for n in range(len(taken) + 1) if n not in taken)
            taken.add(slot)
            module.address = Address(type="dimm", slot=slot)
    limit = domain.max_memory
    if limit is None:
        if domain.dev.memories:
            raise ConfigUnsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined")
        return
    if not domain.cells:
        raise ConfigUnsupported("At least one numa node has to be configured when enabling memory hotplug")
    slots = limit.slots or 0
    if len(domain.dev.memories) > slots:
        raise ConfigUnsupported(f"memory device count '{len(domain.dev.memories)}' exceeds slots count '{slots}'")
    numbers = [m.address.slot or 0 for m in domain.dev.memories if m.address is not None and m.address.type == "dimm"]
    for number in numbers:
        if number >= slots:
            raise ConfigUnsupported(f"memory device slot '{number}' exceeds slots count '{slots}'")
        if numbers.count(number) > 1:
            raise ConfigUnsupported(f"memory device slot '{number}' is already being used by another memory device")
    if sum(m.size for m in domain.dev.memories) > (limit.value or 0) - domain.initial_memory:
        raise ConfigUnsupported("memory device total size exceeds hotplug space")


def _check_module(domain: Domain, module: Memory) -> None:
    if module.model == "sgx-epc" and domain.type != "kvm":
        raise ConfigUnsupported("sgx epc isn't supported by this QEMU binary")
    node, nodes, model = module.cell, len(domain.cells), module.model
    if node is not None and not nodes:
        raise XMLDetail("can't add memory backend as guest has no NUMA nodes configured")
    if node is not None and node >= nodes:
        raise XMLDetail(
            f"can't add memory backend for guest node '{node}' as the guest has only '{nodes}' NUMA nodes configured"
        )
    if model in ("dimm", "nvdimm", "virtio-mem") and nodes and node is None:
        raise ConfigUnsupported("target NUMA node needs to be specified for memory device")
    if model in ("nvdimm", "virtio-pmem"):
        if not module.path:
            raise XMLDetail(f"path is required for model '{model}'")
        if module.discard:
            what = "nvdimms" if model == "nvdimm" else "model 'virtio-pmem'"
            raise ConfigUnsupported(f"discard is not supported for {what}")
    if model == "nvdimm" and module.uuid:
        raise ConfigUnsupported("UUID is not supported for NVDIMM device")
    if model == "virtio-pmem" and module.access != "shared":
        raise ConfigUnsupported("shared access mode required for virtio-pmem device")
    if model == "virtio-pmem" and node is not None:
        raise ConfigUnsupported("virtio-pmem does not support NUMA nodes")
    target = module.target
    if model == "virtio-mem" and target is not None:
        requested, block = target.requested or 0, target.block or 0
        if requested > module.size:
            raise XMLDetail(f"requested size must be smaller than or equal to @size ({module.size}KiB)")
        if not block or block & (block - 1):
            raise XMLDetail("block size must be a power of two")
        if block < _BLOCK_MIN:
            raise XMLDetail(f"block size too small, must be at least {_BLOCK_MIN}KiB")
        if requested % block:
            raise XMLDetail("requested size must be an integer multiple of block size")
    address = module.address.type if module.address is not None else None
    wanted = {"dimm": "dimm", "nvdimm": "dimm", "virtio-pmem": "pci", "virtio-mem": "pci"}.get(model or "")
    if address is not None and address != wanted:
        if wanted is None:
            raise ConfigUnsupported(f"memory device address is not supported for model '{model}'")
        name = "pc-dimm" if wanted == "dimm" else model
        raise ConfigUnsupported(f"only '{wanted}' addresses are supported for the {name} device")


# -- threads


def threads(domain: Domain) -> None:
    """Each processor's state where the document speaks of single ones, the numbers of I/O threads, and processors of
    no node in the first."""
    _vcpus(domain)
    ids = domain.iothreadids
    count = max(domain.iothreads or 0, len(ids.threads) if ids is not None else 0)
    domain.iothreads = count or None
    if ids is not None and not ids.threads:
        domain.iothreadids = ids = None
    if ids is not None:
        numbers = [thread.id or 0 for thread in ids.threads]
        for number in numbers:
            if number == 0:
                raise XMLError("invalid iothread id value '0'")
            if numbers.count(number) > 1:
                raise XMLError("duplicate iothread id")
        free = [number for number in range(1, count + 1) if number not in numbers]
        ids.threads += [IoThread(id=number) for number in free[: count - len(numbers)]]
    pools: list[IoThread | DefaultIoThread] = list(ids.threads) if ids is not None else []
    if domain.default_iothread is not None:
        pools.append(domain.default_iothread)
    for thread in pools:
        for name in ("pool_min", "pool_max"):
            if getattr(thread, name) == -1:
                setattr(thread, name, None)
        if thread.pool_max == 0:
            raise ConfigUnsupported("thread_pool_max must be a positive integer", domain=ErrorDomain.DOMAIN)
        if thread.pool_min is not None and thread.pool_min > (-1 if thread.pool_max is None else thread.pool_max):
            text = "thread_pool_min must be smaller or equal to thread_pool_max"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    usual = domain.default_iothread
    if usual is not None and usual.pool_min is None and usual.pool_max is None:
        domain.default_iothread = None
    cells = domain.cells
    if cells:
        placed = {cpu for cell in cells if cell.cpus for cpu in units.parse_cpus(cell.cpus)}
        if len(placed) > domain.cpu_count:
            raise InternalError("Number of CPUs in <numa> exceeds the <vcpu> count", domain=ErrorDomain.DOMAIN)
        if any(cpu >= domain.cpu_count for cpu in placed):
            raise InternalError("CPU IDs in <numa> exceed the <vcpu> count", domain=ErrorDomain.DOMAIN)
        rest = set(range(domain.cpu_count)) - placed
        if rest:
            first = units.parse_cpus(cells[0].cpus) if cells[0].cpus else set()
            cells[0].cpus = units.format_cpus(first | rest)


def iothread_ids(domain: Domain) -> list[IoThread]:
    """All I/O threads, numbered."""
    if domain.iothreadids is not None:
        return domain.iothreadids.threads
    return [IoThread(id=number) for number in range(1, (domain.iothreads or 0) + 1)]


def _vcpus(domain: Domain) -> None:
    if domain.vcpus is None or domain.vcpu is None:
        return
    if not domain.vcpus.vcpus:
        domain.vcpus = None
        return
    given = {vcpu.id: vcpu for vcpu in domain.vcpus.vcpus}
    for number in given:
        if (number or 0) >= domain.cpu_count:
            text = f"vcpu id '{number}' is out of range of maximum vcpu count"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
    everyone = []
    for number in range(domain.cpu_count):
        # where single ones are spoken of, the others are not there
        vcpu = given.get(number) or OneVcpu(id=number, enabled=False)
        if vcpu.hotpluggable is None:
            vcpu.hotpluggable = not vcpu.enabled
        elif not vcpu.hotpluggable and not vcpu.enabled:
            raise XMLError(f"vcpu '{number}' is both offline and not hotpluggable")
        everyone.append(vcpu)
    domain.vcpus.vcpus[:] = everyone
    if not everyone[0].enabled:
        raise ConfigUnsupported("vcpu 0 can't be offline")
    enabled = sum(1 for vcpu in everyone if vcpu.enabled)
    domain.vcpu.current = enabled if enabled < domain.cpu_count else None
    first = everyone[0]
    if first.hotpluggable:
        raise ConfigUnsupported("vcpu0 can't be hotpluggable")
    if first.order not in (None, 0, 1):
        raise ConfigUnsupported("vcpu0 must be enabled first")
    before = first
    for vcpu in everyone[1:]:
        if vcpu.enabled and bool(vcpu.order) != bool(first.order):
            raise ConfigUnsupported("all vcpus must have either set or unset order")
        if not vcpu.hotpluggable:
            if before.hotpluggable:
                raise ConfigUnsupported("online non-hotpluggable vcpus need to be ordered prior to hotplugable vcpus")
            if (before.order or 0) > (vcpu.order or 0):
                raise ConfigUnsupported("online non-hotpluggable vcpus must be ordered in ascending order")
        before = vcpu


# -- firmware


def firmware(domain: Domain, nvram_folder: str) -> None:
    """The variables of a UEFI that is given by its path are kept in ``nvram_folder``, unless it is said where."""
    os_ = domain.os
    assert os_ is not None
    loader, nvram = os_.loader, os_.nvram
    if os_.bios is not None and os_.bios.use_serial and not domain.dev.serials and not domain.dev.consoles:
        raise XMLError("need at least one serial port to use BIOS serial output", domain=ErrorDomain.DOMAIN)
    if loader is None and nvram is not None and os_.firmware is None:
        raise XMLDetail("no loader path specified and firmware auto selection disabled")
    if nvram is not None and nvram.path is not None:
        nvram.path = nvram.path.strip() or None
    if nvram is not None and nvram.source is not None:
        nvram.type = nvram.type or "file"
    if os_.firmware is not None:
        _automatic(domain)
    else:
        if os_.firmware_features is not None:
            raise XMLDetail("cannot use feature-based firmware autoselection when firmware autoselection is disabled")
        if loader is None:
            return
        if not loader.path:
            raise XMLDetail("no loader path specified and firmware auto selection disabled")
        loader.type = loader.type or "rom"
    acpi = domain.features is not None and domain.features.acpi
    if (os_.firmware == "efi" or (loader is not None and loader.type == "pflash")) and not acpi:
        raise ConfigUnsupported("UEFI requires ACPI on this architecture")
    if loader is None:
        return
    if loader.type == "pflash" and loader.readonly and nvram is None and not loader.stateless:
        os_.nvram = nvram = Nvram(path=f"{nvram_folder}/{domain.name}_VARS.fd")
    if loader.stateless:
        if nvram is not None and nvram.template:
            raise XMLDetail("NVRAM template is not permitted when loader is stateless")
        if nvram is not None:
            raise XMLDetail("NVRAM is not permitted when loader is stateless")
    elif loader.stateless is False:
        if os_.firmware is None and loader.type != "pflash":
            raise XMLDetail("Only pflash loader type permits NVRAM")
        if os_.firmware == "bios":
            raise XMLDetail("Only EFI firmware permits NVRAM")
    if loader.secure:
        smm = domain.features.smm if domain.features is not None else None
        if not domain.is_q35:
            raise ConfigUnsupported("Secure boot is supported with q35 machine types only")
        if domain.arch != "x86_64":
            raise ConfigUnsupported("Secure boot is supported for x86_64 architecture only")
        if os_.firmware is None and (smm is None or not smm.state):
            raise ConfigUnsupported("Secure boot requires SMM feature enabled")


def _automatic(domain: Domain) -> None:
    assert domain.os is not None
    loader, nvram = domain.os.loader, domain.os.nvram
    enabled = "when firmware autoselection is enabled"
    if loader is not None:
        if loader.readonly is not None:
            raise XMLDetail(f"loader attribute 'readonly' cannot be specified {enabled}")
        if loader.type is not None:
            raise XMLDetail(f"loader attribute 'type' cannot be specified {enabled}")
        if loader.path:
            raise XMLDetail(f"loader path cannot be specified {enabled}")
        if loader.secure is False:
            raise XMLDetail(f"loader attribute 'secure' cannot be specified {enabled}")
    if nvram is not None:
        if nvram.template:
            raise XMLDetail(f"nvram attribute 'template' cannot be specified {enabled}")
        if domain.os.firmware != "efi":
            raise XMLDetail(f"firmware type '{domain.os.firmware}' does not support nvram")


# -- devices and descriptions


def devices(domain: Domain) -> None:
    dev = domain.dev
    for panic in dev.panics:
        panic.model = panic.model or "isa"
        if panic.model in ("s390", "pseries"):
            words = "S390 guests support panic device of model 's390'"
            if panic.model == "pseries":
                words = "pSeries guests support panic device of model 'pseries'"
            raise ConfigUnsupported(f"only {words}")
        address = panic.address.type if panic.address is not None else None
        if panic.model == "hyperv" and address is not None:
            raise ConfigUnsupported("setting the panic device address is not supported for model 'hyperv'")
        if panic.model == "isa" and address not in (None, "isa"):
            raise ConfigUnsupported("panic is supported only with ISA address type")
    for iommu in dev.iommus:
        _iommu(domain, iommu.model or "")
    if len(dev.iommus) > 1:
        raise XMLError("only a single IOMMU device is supported")
    eim = any(iommu.driver is not None and iommu.driver.eim for iommu in dev.iommus)
    if domain.cpu_count > 255 and domain.arch == "x86_64":
        if not domain.is_q35:
            raise ConfigUnsupported("more than 255 vCPUs are only supported on q35-based machine types")
        if not eim:
            raise ConfigUnsupported("more than 255 vCPUs require extended interrupt mode enabled on the iommu device")


def _iommu(domain: Domain, model: str) -> None:
    iommu = domain.dev.iommus[0]
    driver = iommu.driver
    if driver is not None:
        driver.aw_bits = driver.aw_bits or None
        if driver.to_xml() == "<driver/>\n":
            driver = iommu.driver = None
    if model in ("smmuv3", "virtio") and driver is not None:
        raise XMLError(f"iommu model '{model}' doesn't support additional attributes", domain=ErrorDomain.DOMAIN)
    if model in ("smmuv3", "intel") and iommu.address is not None:
        raise XMLError(f"iommu model '{model}' can't have address", domain=ErrorDomain.DOMAIN)
    if model == "smmuv3":
        raise ConfigUnsupported("IOMMU device: 'smmuv3' is only supported with ARM Virt machines")
    if not domain.is_q35 and model == "intel":
        raise ConfigUnsupported(f"IOMMU device: '{model}' is only supported with Q35 machines")
    if model == "virtio":
        if not domain.is_q35:
            raise ConfigUnsupported("IOMMU device: 'virtio' is only supported with Q35 and ARM Virt machines")
        if not (domain.features is not None and domain.features.acpi):
            raise ConfigUnsupported("IOMMU device: 'virtio' requires ACPI")
    ioapic = domain.features.ioapic if domain.features is not None else None
    if driver is not None and driver.intremap and (ioapic is None or ioapic.driver != "qemu"):
        raise ConfigUnsupported("IOMMU interrupt remapping requires split I/O APIC (ioapic driver='qemu')")
    if driver is not None and driver.eim and not driver.intremap:
        raise ConfigUnsupported("IOMMU eim requires interrupt remapping to be enabled")


def _is_date(text: str) -> bool:
    """Month, day and year of the Gregorian calendar's time."""
    found = re.fullmatch(r"(\d+)/(\d+)/(\d+)", text)
    if found is None:
        return False
    month, day, year = (int(part) for part in found.groups())
    year += 1900 if year < 100 else 0
    return 1 <= month <= 12 and 1 <= day <= 31 and year >= 1900


def sysinfo(domain: Domain) -> None:
    """The UUID that the guest reads in its tables is its own."""
    for info in domain.sysinfos:
        if info.type not in ("smbios", "fwcfg"):
            raise XMLError(f"Invalid value for attribute 'type' in element 'sysinfo': '{info.type}'.")
        own = info.system["uuid"] if info.system is not None else None
        date = info.bios["date"] if info.bios is not None else None
        if date is not None and not _is_date(date):
            raise XMLDetail("Invalid BIOS 'date' format", domain=ErrorDomain.DOMAIN)
        try:
            same = own is None or units.parse_uuid(own) == domain.uuid
        except XMLError:
            raise XMLDetail("malformed <sysinfo> uuid element", domain=ErrorDomain.DOMAIN) from None
        if not same:
            raise XMLError("UUID mismatch between <uuid> and <sysinfo>", domain=ErrorDomain.DOMAIN)
        for entry in info.entries if info.type == "fwcfg" else []:
            if not entry.name:
                raise XMLError("Firmware entry is missing 'name' attribute")
            if not entry.name.startswith("opt/"):
                raise ConfigUnsupported("Invalid firmware name")
            if entry.name.startswith(("opt/ovmf/", "opt/org.qemu/")):
                raise ConfigUnsupported("That firmware name is reserved")
            if not entry.value and not entry.file:
                raise XMLError("Firmware entry must have either value or 'file' attribute")
