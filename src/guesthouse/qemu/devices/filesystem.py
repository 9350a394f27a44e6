"""<filesystem> for QEMU: a folder by 9p, which QEMU serves itself, or by virtiofs, which a process beside it serves."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.companions import require_shared_memory
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Chardev, Parts, Props, quote

_SECURITY = {"passthrough": "passthrough", "mapped": "mapped", "squash": "none"}


def filesystem(domain: Domain, device: Filesystem, socket: str | None) -> Parts:
    """A shared folder; ``socket`` is where its virtiofsd listens. Raises ConfigUnsupported."""
    alias = (device.alias and device.alias.name) or "fs0"
    tag = (device.target and device.target.dir) or ""
    if device.is_virtiofs:
        require_shared_memory(domain, "virtiofs")
        if not (device.socket or socket):
            raise ConfigUnsupported("virtiofs cannot come to a running guest yet")
        chardev = Chardev(f"chr-vu-{alias}", "socket", {"path": device.socket or socket or ""})
        props: Props = {"driver": "vhost-user-fs-pci", **virtio(device.driver), "id": alias, "chardev": chardev.id}
        if device.driver is not None and device.driver.queue:
            props["queue-size"] = device.driver.queue
        props["tag"] = tag
        if device.boot is not None and device.boot.order is not None:
            props["bootindex"] = device.boot.order
        return Parts(chardevs=[chardev], devices=[{**props, **pci(domain, device.address, device.acpi)}])
    if device.driver is not None and device.driver.type == "handle":
        raise ConfigUnsupported("filesystem driver type 'handle' is not supported with this QEMU binary")
    for name in ("space_hard_limit", "space_soft_limit"):
        if getattr(device, name) is not None:
            raise ConfigUnsupported(f"<{name}> of <filesystem> is not supported")
    model = (device.model or "virtio").removeprefix("virtio")
    props = {"driver": f"virtio-9p-pci{model}", **virtio(device.driver), "id": alias}
    props |= {"fsdev": f"fsdev-{alias}", "mount_tag": tag, **pci(domain, device.address, device.acpi)}
    return Parts(options=["-fsdev", _fsdev(device, alias)], devices=[props])


def _fsdev(device: Filesystem, alias: str) -> str:
    options = ["local"]
    if device.accessmode is not None:
        options.append(f"security_model={_SECURITY[device.accessmode]}")
    if device.multidevs is not None:
        options.append(f"multidevs={device.multidevs}")
    options += [f"{name}={mode:04o}" for name in ("fmode", "dmode") if (mode := getattr(device, name))]
    if device.driver is not None and device.driver.wrpolicy is not None:
        options.append(f"writeout={device.driver.wrpolicy}")
    options += [f"id=fsdev-{alias}", f"path={quote((device.source and device.source.dir) or '')}"]
    if device.readonly:
        options.append("readonly")
    return ",".join(options)
