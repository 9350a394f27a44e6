"""UEFI and other firmware: chosen among what the host has (by QEMU's descriptor files), its variables' file made from
the template, and both as QEMU's flash.

A descriptor of a later folder stands before one of the same name in an earlier one; an empty file hides it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from guesthouse.errors import ConfigUnsupported, OperationFailed, OperationUnsupported, SystemFailure
from guesthouse.model.domain import Domain, Loader, Nvram, Smm
from guesthouse.qemu.parts import Props

#: Where descriptors are, in ascending order of precedence.
FOLDERS = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
_INTERFACES = {"efi": "uefi", "bios": "bios"}
# images without a descriptor, and what their variables start from
_PAIRS = {
    "/usr/share/OVMF/OVMF_CODE.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF_CODE.fd": "/usr/share/AAVMF/AAVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF32_CODE.fd": "/usr/share/AAVMF/AAVMF32_VARS.fd",
}
_SEV_ES = 1 << 2


@dataclass(frozen=True)
class Firmware:
    """What a descriptor says of an image. ``mode`` is "split", "combined" or "stateless"."""

    interfaces: frozenset[str]
    device: str
    image: str
    format: str = "raw"
    mode: str = "split"
    template: str | None = None
    template_format: str = "raw"
    features: frozenset[str] = frozenset()
    targets: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Firmware:
        """Raises KeyError or TypeError where it is no descriptor."""
        mapping = data["mapping"]
        flash = mapping["device"] == "flash"
        image = mapping["executable"] if flash else mapping
        template = mapping.get("nvram-template", {}) if flash else {}
        return cls(
            frozenset(data["interface-types"]),
            mapping["device"],
            image["filename"],
            image.get("format", "raw"),
            mapping.get("mode", "split"),
            template.get("filename"),
            template.get("format", "raw"),
            frozenset(data.get("features", ())),
            tuple((target["architecture"], tuple(target["machines"])) for target in data.get("targets", ())),
        )

    def targeted(self, arch: str, machine: str) -> bool:
        """Whether it is for such machines."""
        return any(
            own == arch and any(fnmatchcase(machine, pattern) for pattern in machines) for own, machines in self.targets
        )

    def fits(self, domain: Domain) -> bool:
        """Whether it is what the document asks for."""
        os_ = domain.os
        assert os_ is not None
        loader = os_.loader
        kind = _INTERFACES.get(os_.firmware or "")
        if kind is None and loader is not None:
            kind = "uefi" if loader.type == "pflash" else "bios"
            if self.device != "flash" or loader.path != self.image:
                return False
        if kind not in self.interfaces or not self.targeted(domain.arch, domain.machine):
            return False
        pm = domain.pm
        states = ((pm.suspend_to_mem, "acpi-s3"), (pm.suspend_to_disk, "acpi-s4")) if pm is not None else ()
        if any(state is not None and state.enabled and name not in self.features for state, name in states):
            return False
        for name in ("secure-boot", "enrolled-keys"):
            wish = os_.firmware_features.wish(name) if os_.firmware_features is not None else None
            if wish is not None and wish != (name in self.features):
                return False
        if loader is not None and loader.secure and "requires-smm" not in self.features:
            return False
        stateless = loader is not None and loader.stateless
        if self.device == "flash" and self.mode != ("stateless" if stateless else "split"):
            return False
        security = domain.launch_security
        if security is not None and security.type == "sev":
            encrypted = int(security.policy or "0", 0) & _SEV_ES
            return "amd-sev" in self.features and (not encrypted or "amd-sev-es" in self.features)
        return True


def descriptors(folders: Iterable[Path] = FOLDERS) -> list[Firmware]:
    """What the host has, the most preferred first. Files that are none are passed over."""
    files: dict[str, Path] = {}
    for folder in folders:
        try:
            files |= {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".json")}
        except OSError:
            continue
    found = []
    for name in sorted(files):
        try:
            text = files[name].read_text()
            if text.strip():
                found.append(Firmware.parse(json.loads(text)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def choose(domain: Domain, nvram_folder: Path, folders: Iterable[Path] = FOLDERS, *, reset: bool = False) -> None:
    """Complete the loader and the variables' file of a live document.

    Raises OperationFailed where no firmware of the host is what it asks for, ConfigUnsupported where the document
    forbids what the firmware needs, OperationUnsupported where variables on another machine were to be ``reset``.
    """
    os_ = domain.os
    assert os_ is not None
    loader, nvram = os_.loader, os_.nvram
    automatic = os_.firmware is not None
    if not automatic:
        pflash = loader is not None and loader.type == "pflash" and loader.readonly
        if not pflash or (nvram is not None and nvram.template) or (loader is not None and loader.stateless):
            return
        if nvram is not None and nvram.type == "network":
            if reset:
                raise OperationUnsupported("resetting of nvram is not supported with network backed nvram")
            return
        if nvram is not None and nvram.file is not None and not reset and Path(nvram.file).exists():
            return
    found = next((each for each in descriptors(folders) if each.fits(domain)), None)
    if found is None:
        if automatic:
            raise OperationFailed(f"Unable to find any firmware to satisfy '{os_.firmware}'{_hint(os_.firmware)}")
        return
    _enable(domain, found, nvram_folder)
    os_.firmware = os_.firmware_features = None


def _hint(kind: str | None) -> str:
    return "; install OVMF (package ovmf), or see /usr/share/qemu/firmware for what there is" if kind == "efi" else ""


def _enable(domain: Domain, found: Firmware, nvram_folder: Path) -> None:
    os_ = domain.os
    assert os_ is not None
    if found.device == "kernel":
        os_.kernel = found.image
    else:
        loader = os_.loader = os_.loader or Loader()
        loader.path = found.image
        loader.type = "rom"
        if found.device == "flash":
            loader.type, loader.readonly = "pflash", True
            if found.format != "raw":
                raise OperationUnsupported(f"unsupported flash format '{found.format}'")
            if found.mode == "split":
                if found.template_format != "raw":
                    raise OperationUnsupported(f"unsupported nvram template format '{found.template_format}'")
                os_.nvram = os_.nvram or Nvram()
                os_.nvram.template = found.template
                if os_.nvram.file is None and os_.nvram.type != "network":
                    os_.nvram.path = str(nvram_path(nvram_folder, domain.name or ""))
    if "requires-smm" in found.features:
        assert domain.features is not None
        smm = domain.features.smm
        if smm is not None and smm.state is False:
            raise ConfigUnsupported("domain has SMM turned off but chosen firmware requires it")
        domain.features.smm = smm or Smm()
        domain.features.smm.state = True
        if os_.loader is not None:
            os_.loader.secure = True


def nvram_path(folder: Path, name: str) -> Path:
    """Where the variables of a guest are kept that says nothing else."""
    return folder / f"{name}_VARS.fd"


def make_nvram(domain: Domain, uid: int, gid: int, *, reset: bool = False) -> bool:
    """Make the file of a live document's variables from its template where there is none, or anew on ``reset``; whether
    it did. It belongs to ``uid`` and ``gid``. Raises OperationFailed where there is no template, SystemFailure."""
    os_ = domain.os
    if os_ is None or os_.loader is None or os_.nvram is None or os_.nvram.file is None:
        return False
    target = Path(os_.nvram.file)
    if target.exists() and not reset:
        return False
    template = os_.nvram.template or _PAIRS.get(os_.loader.path or "")
    if template is None:
        raise OperationFailed(f"unable to find any master var store for loader: {os_.loader.path}")
    try:
        data = Path(template).read_bytes()
    except OSError as error:
        raise SystemFailure.from_os(error, f"Failed to open file '{template}'") from None
    fresh = target.with_name(f"{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchown(fd, uid, gid)
        fresh.replace(target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise SystemFailure.from_os(error, f"Failed to create file '{target}'") from None
    return True


# -- flash


def flash(domain: Domain) -> list[Props]:
    """The block nodes of a firmware that is flash, and of its variables."""
    os_ = domain.os
    loader = os_.loader if os_ is not None else None
    if os_ is None or loader is None or loader.type != "pflash":
        return []
    out = _node(
        "libvirt-pflash0", loader.path or "", "file", readonly=loader.readonly is not False and bool(loader.readonly)
    )
    nvram = os_.nvram
    if nvram is None or loader.stateless:
        return out
    if nvram.file is None:
        raise ConfigUnsupported("variables of the firmware on another machine are not supported yet")
    kind = "host_device" if nvram.source is not None and nvram.type == "block" else "file"
    return [*out, *_node("libvirt-pflash1", nvram.file, kind, readonly=False)]


def _node(name: str, path: str, driver: str, *, readonly: bool) -> list[Props]:
    storage = {"driver": driver, "filename": path, "node-name": f"{name}-storage", "auto-read-only": True}
    storage["discard"] = "unmap"
    layer = {"node-name": f"{name}-format", "read-only": readonly, "driver": "raw", "file": f"{name}-storage"}
    return [storage, layer]
