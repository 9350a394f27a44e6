"""The board that a guest runs on: the options of its machine, its I/O threads, and the devices that are part of it."""

from __future__ import annotations

import json

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import board
from guesthouse.model.domain import Domain
from guesthouse.model.sysinfo import Section, SysInfo
from guesthouse.qemu import memory
from guesthouse.qemu.devices import common
from guesthouse.qemu.parts import Parts, Props, compact, quote

_IRQCHIPS = {"kvm": "on", "qemu": "split"}
_DEPRECATION = {"omit": None, "reject": "reject", "crash": "crash"}


def _switch(on: bool) -> str:
    return "on" if on else "off"


def machine_arguments(domain: Domain) -> list[str]:
    """-machine, -accel and what belongs to them."""
    features, os_ = domain.features, domain.os
    options = [domain.machine, "usb=off"]
    for name in ("vmport", "smm"):
        feature = getattr(features, name) if features is not None else None
        if feature is not None and feature.state is not None:
            options.append(f"{name}={_switch(feature.state)}")
    if features is not None and features.ioapic is not None and features.ioapic.driver is not None:
        options.append(f"kernel_irqchip={_IRQCHIPS[features.ioapic.driver]}")
    options += _memory_options(domain)
    if domain.launch_security is not None:
        options.append("confidential-guest-support=lsec0")
    loader = os_.loader if os_ is not None else None
    if loader is not None and loader.type == "pflash":
        options.append("pflash0=libvirt-pflash0-format")
        if os_ is not None and os_.nvram is not None and not loader.stateless:
            options.append("pflash1=libvirt-pflash1-format")
    if domain.cpu is not None and domain.cpu.numa is not None and domain.cpu.numa.has_hmat:
        options.append("hmat=on")
    if os_ is not None and os_.bios is not None and os_.bios.use_serial:
        options.append("graphics=off")
    for timer in domain.clock.timers if domain.clock is not None else []:
        if timer.name == "hpet" and timer.present is not None:
            options.append(f"hpet={_switch(timer.present)}")
    if features is None or not features.acpi:
        options.append("acpi=off")
    out = ["-machine", ",".join(options), "-accel", _accelerator(domain)]
    smm = features.smm if features is not None else None
    if smm is not None and smm.state and smm.tseg is not None:
        size = units.scale(smm.tseg.value or 0, smm.tseg.unit, "MiB") >> 20
        out += ["-global", f"mch.extended-tseg-mbytes={size}"]
    if loader is not None and loader.type == "pflash" and loader.secure:
        out += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return out


def _memory_options(domain: Domain) -> list[str]:
    options = [f"dump-guest-core={_switch(bool(domain.dump_core))}"]
    if domain.memory_backing is not None and domain.memory_backing.nosharepages:
        options.append("mem-merge=off")
    modules = domain.dev.memories
    if any(module.model == "nvdimm" for module in modules):
        options.append("nvdimm=on")
    for number, module in enumerate(module for module in modules if module.model == "sgx-epc"):
        alias = (module.alias and module.alias.name) or ""
        options.append(f"sgx-epc.{number}.memdev=mem{alias},sgx-epc.{number}.node={module.cell or 0}")
    if not domain.cells:
        options.append(f"memory-backend={memory.ram_id(domain)}")
    return options


def _accelerator(domain: Domain) -> str:
    features = domain.features
    if domain.type == "kvm":
        ring = features.kvm.dirty_ring if features is not None and features.kvm is not None else None
        return f"kvm,dirty-ring-size={ring.size}" if ring is not None and ring.state else "kvm"
    cache = features.tcg.tb_cache if features is not None and features.tcg is not None else None
    return f"tcg,tb-size={cache.value >> 10}" if cache is not None and cache.value else "tcg"


def compat_arguments(domain: Domain) -> list[str]:
    """What becomes of what QEMU will not have for ever."""
    wish = domain.qemu.deprecation if domain.qemu is not None else None
    if wish is None or wish.behavior not in _DEPRECATION:
        return []
    props = {"deprecated-output": "hide"}
    if (given := _DEPRECATION[wish.behavior]) is not None:
        props["deprecated-input"] = given
    return ["-compat", json.dumps(props, separators=(",", ":"))]


def iothread_arguments(domain: Domain) -> list[str]:
    out: list[str] = []
    for thread in board.iothread_ids(domain):
        props: Props = {"qom-type": "iothread", "id": f"iothread{thread.id}"}
        out += ["-object", compact(props | _pool(thread.pool_min, thread.pool_max))]
    main = domain.default_iothread
    if main is not None:
        props = {"qom-type": "main-loop", "id": "main-loop"}
        out += ["-object", compact(props | _pool(main.pool_min, main.pool_max))]
    return out


def _pool(low: int | None, high: int | None) -> Props:
    sizes = {"thread-pool-min": low, "thread-pool-max": high}
    return {name: size for name, size in sizes.items() if size is not None and size >= 0}


# -- what the firmware's tables say

_BIOS = (("vendor", "vendor"), ("version", "version"), ("date", "date"), ("release", "release"))
_SYSTEM = (
    *(("manufacturer", "manufacturer"), ("product", "product"), ("version", "version"), ("serial", "serial")),
    *(("uuid", "uuid"), ("sku", "sku"), ("family", "family")),
)
_BASE = (
    *(("manufacturer", "manufacturer"), ("product", "product"), ("version", "version"), ("serial", "serial")),
    *(("asset", "asset"), ("location", "location")),
)
_CHASSIS = (
    *(("manufacturer", "manufacturer"), ("version", "version"), ("serial", "serial"), ("asset", "asset")),
    ("sku", "sku"),
)


def smbios_arguments(domain: Domain, host: SysInfo | None) -> list[str]:
    """The tables that the guest reads: its document's, or the ``host``'s own but for the UUID. Raises ConfigUnsupported
    where the host has none."""
    mode = domain.os.smbios.mode if domain.os is not None and domain.os.smbios is not None else None
    info: SysInfo | None = None
    if mode == "host":
        if host is None:
            raise ConfigUnsupported("Host SMBIOS information is not available")
        info = host
    elif mode == "sysinfo":
        info = next((info for info in domain.sysinfos if info.type == "smbios"), None)
        if info is None:
            raise XMLError(f"Domain '{domain.name}' sysinfo are not available", domain=ErrorDomain.QEMU)
    out: list[str] = []
    if info is not None:
        system = tuple(item for item in _SYSTEM if mode != "host" or item[0] != "uuid")
        if len(info.base_boards) > 1:
            raise ConfigUnsupported("qemu does not support more than one entry to Type 2 in SMBIOS table")
        out += _table(0, info.bios, _BIOS) + _table(1, info.system, system)
        for base in info.base_boards:
            out += _table(2, base, _BASE)
        out += _table(3, info.chassis, _CHASSIS)
        if info.oem_strings is not None:
            values = "".join(f",value={quote(entry.value or '')}" for entry in info.oem_strings.entries)
            out += ["-smbios", f"type=11{values}"]
    for own in domain.sysinfos:
        for entry in own.entries if own.type == "fwcfg" else []:
            what = f"string={quote(entry.value)}" if entry.value else f"file={quote(entry.file or '')}"
            out += ["-fw_cfg", f"name={entry.name},{what}"]
    return out


def _table(number: int, section: Section | None, names: tuple[tuple[str, str], ...]) -> list[str]:
    if section is None:
        return []
    words = [f"type={number}"]
    words += [f"{option}={quote(value)}" for name, option in names if (value := section[name]) is not None]
    return ["-smbios", ",".join(words)]


# -- devices


def devices(domain: Domain) -> Parts:
    """The IOMMU, which comes before all that goes through it, and whether PCI devices come and go on the first bus."""
    parts = Parts()
    for bus in domain.dev.controllers:
        hotplug = bus.target.hotplug if bus.target is not None else None
        if bus.type == "pci" and bus.model == "pci-root" and hotplug is not None:
            parts.options += ["-global", f"PIIX4_PM.acpi-root-pci-hotplug={_switch(hotplug)}"]
    for iommu in domain.dev.iommus:
        alias = (iommu.alias and iommu.alias.name) or "iommu0"
        if iommu.model == "virtio":
            parts.devices.append(
                {"driver": "virtio-iommu", "id": alias, **common.pci(domain, iommu.address, iommu.acpi)}
            )
            continue
        props: Props = {"driver": "intel-iommu", "id": alias}
        driver = iommu.driver
        if driver is not None:
            words = (("intremap", driver.intremap), ("eim", driver.eim))
            switches = (("caching-mode", driver.caching_mode), ("device-iotlb", driver.iotlb))
            props |= {name: _switch(value) for name, value in words if value is not None}
            props |= {name: value for name, value in switches if value is not None}
            if driver.aw_bits:
                props["aw-bits"] = driver.aw_bits
        parts.devices.append(props)
    return parts


def last_devices(domain: Domain) -> Parts:
    """What tells the host of crashes, and what makes memory secret."""
    parts = Parts()
    features = domain.features
    if features is not None and features.vmcoreinfo is not None and features.vmcoreinfo.state:
        parts.devices.append({"driver": "vmcoreinfo"})
    for panic in domain.dev.panics:
        if panic.model == "isa":
            props: Props = {"driver": "pvpanic"}
            if panic.address is not None and panic.address.iobase is not None:
                props["ioport"] = int(panic.address.iobase, 0)
            parts.devices.append(props)
        elif panic.model == "pvpanic":
            alias = (panic.alias and panic.alias.name) or ""
            parts.devices.append(
                {"driver": "pvpanic-pci", "id": alias, **common.pci(domain, panic.address, panic.acpi)}
            )
    security = domain.launch_security
    if security is not None:
        parts.objects.append(_secret_memory(domain))
    return parts


def _secret_memory(domain: Domain) -> Props:
    security = domain.launch_security
    assert security is not None
    if security.type != "sev":
        raise ConfigUnsupported(f"launch security type '{security.type}' is not supported with this QEMU binary")
    if security.dh_cert or security.session:
        raise ConfigUnsupported("<dhCert> and <session> of <launchSecurity> are not supported yet")
    props: Props = {
        "qom-type": "sev-guest",
        "id": "lsec0",
        "cbitpos": security.cbitpos,
        "reduced-phys-bits": security.reduced_phys_bits,
        "policy": int(security.policy or "0", 0),
        "kernel-hashes": security.kernel_hashes,
    }
    return {name: value for name, value in props.items() if value is not None}


def override(domain: Domain, parts: Parts) -> None:
    """Give devices the properties that the document has for QEMU itself. Raises InternalError for a number that is
    none."""
    overrides = domain.qemu.override.devices if domain.qemu is not None and domain.qemu.override is not None else []
    for wish in overrides:
        device = next((props for props in parts.devices if props.get("id") == wish.alias), None)
        if device is None:
            continue
        for prop in wish.frontend.properties if wish.frontend is not None else []:
            device.pop(prop.name or "", None)
            try:
                if prop.type != "remove":
                    device[prop.name or ""] = prop.plain
            except ValueError:
                raise InternalError(f"failed to parse value '{prop.value}' of property '{prop.name}'") from None
