"""<vsock> for QEMU: the kernel's vhost plays it."""

from __future__ import annotations

from guesthouse.model.devices.vsock import Vsock
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Parts, Props


def vsock(domain: Domain, device: Vsock, vhost: int) -> Parts:
    """Sockets between host and guest; ``vhost`` is the descriptor of /dev/vhost-vsock, with the guest's number set."""
    model = (device.model or "virtio").removeprefix("virtio")
    props: Props = {
        "driver": f"vhost-vsock-pci{model}",
        **virtio(device.driver),
        "id": (device.alias and device.alias.name) or "vsock0",
        "guest-cid": (device.cid.address if device.cid is not None else None) or 0,
        "vhostfd": str(vhost),
        **pci(domain, device.address, device.acpi),
    }
    return Parts(devices=[props], fds=[vhost])
