"""<interface> for QEMU: a network backend and the guest's card."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Parts, Props

_UNSERVED = ("vlan", "virtualport", "script", "filterref", "bandwidth", "guest")


def _tuning(device: Interface, model: str) -> Props:
    """What <driver> asks of a virtio card. Raises ConfigUnsupported for what needs another backend."""
    driver = device.driver
    if driver is None or not model.startswith("virtio"):
        return {}
    if (driver.queues or 1) > 1:
        raise ConfigUnsupported(f"several queues of interface {device.mac_address} are not supported yet")
    props: Props = {**virtio(driver)}
    if driver.txmode is not None:
        props["tx"] = {"iothread": "bh"}.get(driver.txmode, driver.txmode)
    for name in ("ioeventfd", "event_idx", "rx_queue_size", "tx_queue_size"):
        if (wish := getattr(driver, name)) is not None:
            props[name] = wish
    return props


def interface(
    domain: Domain, device: Interface, bootindex: int | None, tap: int | None, vhost: int | None = None
) -> Parts:
    """Backend and card. ``tap`` is the tap's descriptor for types that have one, ``vhost`` the accelerator's."""
    for name in _UNSERVED:
        if getattr(device, name) is not None:
            raise ConfigUnsupported(f"<{name}> of interface {device.mac_address} is not supported yet")
    parts = Parts()
    alias = (device.alias and device.alias.name) or "net"
    host = f"host{alias}"
    backend: Props
    if tap is not None:
        backend = {"type": "tap", "fd": str(tap), "id": host}
        parts.fds.append(tap)
        if vhost is not None:
            backend |= {"vhost": True, "vhostfd": str(vhost)}
            parts.fds.append(vhost)
    elif device.type == "user":
        backend = {"type": "user", "id": host}
        for ip in device.ips:
            if ip.family in (None, "ipv4") and ip.address:
                backend["net"] = f"{ip.address}/{ip.prefix or 24}"
    else:
        raise ConfigUnsupported(f"interface type '{device.type}' is not supported yet")
    parts.netdevs.append(backend)
    model = (device.model and device.model.type) or "rtl8139"
    driver = {"virtio": "virtio-net-pci", "virtio-transitional": "virtio-net-pci-transitional"}.get(model, model)
    props: Props = {"driver": driver, **_tuning(device, model), "netdev": host, "id": alias, "mac": device.mac_address}
    if bootindex is not None:
        props["bootindex"] = bootindex
    if device.mtu is not None and device.mtu.size and model.startswith("virtio"):
        props["host_mtu"] = device.mtu.size
    if device.rom is not None:
        if device.rom.bar is not None:
            props["rombar"] = int(device.rom.bar)
        if device.rom.enabled is False:
            props["romfile"] = ""
        elif device.rom.file:
            props["romfile"] = device.rom.file
    props |= pci(domain, device.address)
    parts.devices.append(props)
    return parts
