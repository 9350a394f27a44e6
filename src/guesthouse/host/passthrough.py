"""Giving a PCI function of the host to a guest: from its driver to VFIO's, back, and a reset."""

from __future__ import annotations

import os

from guesthouse.errors import ArgumentUnsupported, Domain, InternalError, InvalidArg, SystemFailure
from guesthouse.host.sysfs import Sysfs

_STUB = "vfio-pci"


def vfio_works(sysfs: Sysfs) -> bool:
    """Whether this host can give devices to guests: it has an IOMMU, and VFIO's driver is there."""
    return bool(sysfs.names("/kernel/iommu_groups")) and os.path.exists(f"{sysfs.root}/dev/vfio/vfio")  # noqa: PTH110


def check_driver(sysfs: Sysfs, driver: str | None) -> None:
    """Raises libvirt's errors for a driver that devices cannot be given to here; None means VFIO's."""
    match driver:
        case None | "vfio":
            if not vfio_works(sysfs):
                raise ArgumentUnsupported("VFIO device assignment is currently not supported on this system")
        case "kvm":
            raise ArgumentUnsupported("KVM device assignment is no longer supported on this system")
        case _:
            raise InvalidArg(f"unknown driver name '{driver}'")


def detach(sysfs: Sysfs, path: str) -> None:
    """Take the function at ``path`` from its driver to VFIO's. Raises SystemFailure; it has its old driver then."""
    try:
        _bind(sysfs, path, _STUB)
        if _driver(sysfs, path) != _STUB:
            raise OSError(os.strerror(16))
    except OSError as error:
        reattach(sysfs, path)
        raise SystemFailure(
            f"Failed to bind PCI device '{_leaf(path)}' to {_STUB}: {error.strerror or error}"
        ) from None


def reattach(sysfs: Sysfs, path: str) -> None:
    """Give it back to the host's driver; nothing happens to one that VFIO does not have. Raises SystemFailure."""
    if _driver(sysfs, path) != _STUB and not (sysfs.text(f"{path}/driver_override") or "").startswith(_STUB):
        return
    try:
        _bind(sysfs, path, "")
    except OSError as error:
        raise SystemFailure(f"Failed to re-attach PCI device '{_leaf(path)}': {error.strerror}") from None


def reset(sysfs: Sysfs, path: str) -> None:
    """Reset it, in the best way that the kernel knows for it. Raises InternalError where it knows none."""
    if not sysfs.exists(f"{path}/reset"):
        text = f"Unable to reset PCI device {_leaf(path)}: no FLR, PM reset or bus reset available"
        raise InternalError(text, domain=Domain.NONE)
    try:
        sysfs.write(f"{path}/reset", "1")
    except OSError as error:
        text = f"Unable to reset PCI device {_leaf(path)}: {error.strerror}"
        raise InternalError(text, domain=Domain.NONE) from None


def _bind(sysfs: Sysfs, path: str, driver: str) -> None:
    """Have ``driver`` take the function, "" for the one that would by itself."""
    sysfs.write(f"{path}/driver_override", f"{driver}\n")
    if sysfs.exists(f"{path}/driver"):
        sysfs.write(f"{path}/driver/unbind", _leaf(path))
    sysfs.write("/bus/pci/drivers_probe", _leaf(path))


def _driver(sysfs: Sysfs, path: str) -> str:
    return (sysfs.target(f"{path}/driver") or "").rpartition("/")[2]


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]
