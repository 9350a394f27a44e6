"""Devices that another process, or the kernel, serves beside the emulator: shared folders, TPMs, vsock. What libvirt
adds to them in a document, and what it refuses. Pure; the rules are libvirt 9.0's."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, GuesthouseError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.disk import FORMATS
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.tpm import Tpm
from guesthouse.model.devices.vsock import Cid, Vsock
from guesthouse.model.domain import Domain

_FIRST_CID = 3
_MOST_RIGHTS = 0o777


class NoSource(GuesthouseError):
    """libvirt error 19: a device that does not say what it is in the host."""

    code = 19
    bare = "missing source information for device"
    prefix = "missing source information for device "
    default_domain = ErrorDomain.DOMAIN


class NoTarget(GuesthouseError):
    """libvirt error 20: a device that does not say what it is in the guest."""

    code = 20
    bare = "missing target information for device"
    prefix = "missing target information for device "
    default_domain = ErrorDomain.DOMAIN


def prepare(domain: Domain) -> None:
    """Complete these devices of a document from outside. Raises what libvirt raises for those that cannot be."""
    for device in domain.dev.filesystems:
        _filesystem(device)
    shared = [d.target.dir for d in domain.dev.filesystems if d.is_virtiofs and d.target is not None]
    for tag in shared:
        if shared.count(tag) > 1:
            raise _unsupported(f"filesystem target '{tag}' specified twice")
    if shared:
        require_shared_memory(domain, "virtiofs")
    for tpm in domain.dev.tpms:
        _tpm(tpm, domain.dev.emulator or "")
    if len(domain.dev.tpms) > 1:
        raise ConfigUnsupported("only a single TPM non-proxy device is supported")
    if len(domain.dev.vsocks) > 1:
        raise XMLError("only a single vsock device is supported", domain=ErrorDomain.DOMAIN)
    for vsock in domain.dev.vsocks:
        _vsock(vsock)


def require_shared_memory(domain: Domain, what: str) -> None:
    """Raises ConfigUnsupported where a process beside QEMU could not see the guest's memory."""
    backing = domain.memory_backing
    usual = backing.access.mode if backing is not None and backing.access is not None else None
    if any(mode != "shared" for mode in [cell.mem_access or usual for cell in domain.cells] or [usual]):
        raise ConfigUnsupported(f"'{what}' requires shared memory")


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def _filesystem(device: Filesystem) -> None:
    source, driver = device.source, device.driver
    tag = device.target.dir if device.target is not None else None
    if source is None or not (source.dir or source.socket or device.type not in ("mount", "bind")):
        raise NoSource(tag or "")
    if not tag:
        raise NoTarget(source.dir or source.socket or "")
    for name in ("fmode", "dmode"):
        if (mode := getattr(device, name) or 0) > _MOST_RIGHTS:
            raise XMLError(f"invalid {name}: '0{mode:o}'", domain=ErrorDomain.DOMAIN)
    if source is not None:
        own = "socket" if source.socket else "dir"
        for spec in source.SPECS if device.type == "mount" else ():
            if spec.name != own:
                setattr(source, spec.name, None)
    if driver is not None:
        if driver.format not in (None, *FORMATS):
            raise _unsupported(f"unknown driver format value '{driver.format}'")
        driver.queue = driver.queue or None
        driver.type = None if driver.type == "default" else driver.type
        driver.wrpolicy = None if driver.wrpolicy == "default" else driver.wrpolicy
        if driver.type is None:
            # libvirt writes these of a named driver only
            driver.format = driver.wrpolicy = None
        if not device.is_virtiofs:
            driver.queue = None
        if driver.to_xml() == "<driver/>\n":
            device.driver = None
    if not device.is_virtiofs:
        device.binary = None
    device.space_hard_limit, device.space_soft_limit = device.space_hard_limit or None, device.space_soft_limit or None
    device.multidevs = None if device.multidevs == "default" else device.multidevs
    if device.accessmode is None and not device.socket:
        device.accessmode = "passthrough"
    if device.boot is not None and not device.is_virtiofs:
        raise _unsupported("boot order is only supported for virtiofs")
    _what_goes_together(device)


def _what_goes_together(device: Filesystem) -> None:
    driver = device.driver
    if device.type != "mount":
        raise ConfigUnsupported("only supports mount filesystem type")
    modes = bool(device.fmode or device.dmode)
    if modes and device.accessmode != "mapped":
        raise ConfigUnsupported("fmode and dmode must be used with accessmode=mapped")
    kind = driver.type if driver is not None else None
    if kind == "handle" and device.accessmode != "passthrough":
        raise ConfigUnsupported("only supports passthrough accessmode")
    if kind in ("loop", "nbd", "ploop"):
        raise ConfigUnsupported("Filesystem driver type not supported")
    if not device.is_virtiofs or driver is None:
        return
    refused = (
        (not device.socket and device.readonly, "virtiofs does not yet support read-only mode"),
        (not device.socket and device.accessmode != "passthrough", "virtiofs only supports passthrough accessmode"),
        (not device.socket and driver.wrpolicy, "virtiofs does not support wrpolicy"),
        (device.model, "virtiofs does not support model"),
        (driver.format, "virtiofs does not support format"),
        (device.multidevs, "virtiofs does not support multidevs"),
        (modes, "virtiofs does not support fmode and dmode"),
    )
    for wrong, text in refused:
        if wrong:
            raise ConfigUnsupported(text)


def _tpm(device: Tpm, emulator: str) -> None:
    backend = device.backend
    if backend is None:
        raise XMLError("missing TPM device backend", domain=ErrorDomain.DOMAIN)
    device.model = device.model or "tpm-tis"
    if device.model in ("tpm-spapr", "spapr-tpm-proxy"):
        raise ConfigUnsupported(f"The QEMU executable {emulator} does not support TPM model {device.model}")
    if backend.type == "passthrough":
        backend.version = backend.persistent_state = backend.encryption = backend.active_pcr_banks = None
        backend.source = None
        if backend.device is None or not backend.device.path:
            backend.set_option("device.path", "/dev/tpm0")
        return
    if backend.type == "external":
        source = backend.source
        if source is None or source.type is None:
            raise XMLError("missing external TPM backend type", domain=ErrorDomain.DOMAIN)
        if source.type != "unix":
            raise XMLError("only source type 'unix' is supported for external TPM device", domain=ErrorDomain.DOMAIN)
        if source.mode == "bind":
            raise XMLError("only 'client' mode is supported for external TPM device", domain=ErrorDomain.DOMAIN)
        if not source.path:
            raise XMLError("missing socket path for external TPM device", domain=ErrorDomain.DOMAIN)
        source.mode = "connect"
        return
    backend.device = backend.source = None
    backend.persistent_state = backend.persistent_state or None
    if backend.version is None:
        backend.version = "2.0" if device.model == "tpm-crb" else "1.2"
    banks = backend.active_pcr_banks
    if banks is not None:
        if banks.extra_nodes:
            raise _unsupported(f"Unsupported PCR banks '{banks.extra_nodes[0].tag}'")
        if not banks.names:
            backend.active_pcr_banks = None
        elif backend.version != "2.0":
            raise XMLError("<active_pcr_banks/> requires TPM version '2.0'", domain=ErrorDomain.DOMAIN)
    if backend.version == "1.2" and device.model == "tpm-crb":
        raise ConfigUnsupported("Unsupported interface 'tpm-crb' for TPM 1.2")


def _vsock(device: Vsock) -> None:
    device.model = device.model or "virtio"
    cid = device.cid = device.cid or Cid()
    if cid.address is not None and cid.address < _FIRST_CID:
        raise _unsupported("guest CIDs must be >= 3")
    if cid.auto is None:
        cid.auto = not cid.address
    if cid.auto:
        cid.address = None
