"""<interface> for QEMU: a network backend and the guest's card."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.interface import Interface, InterfaceDriver
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Parts, Props

_TUN, _VHOST = "/dev/net/tun", "/dev/vhost-net"
_PLAIN = ("csum", "gso", "mrg_rxbuf")
_UNSERVED = ("virtualport", "script", "guest")


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
    return props | _offloads(driver)


def _offloads(driver: InterfaceDriver) -> Props:
    """<host> and <guest>: QEMU has csum, gso and mrg_rxbuf of the host's under their own names."""
    props: Props = {}
    for side, prefix in ((driver.host, "host_"), (driver.guest, "guest_")):
        for spec in side.SPECS if side is not None else ():
            if (wish := getattr(side, spec.name)) is not None:
                props[spec.name if prefix == "host_" and spec.name in _PLAIN else prefix + spec.name] = wish
    return props


def _check(device: Interface) -> None:
    """Raises ConfigUnsupported for what the card or its tap would not get."""
    if device.vlan is not None:
        text = f"interface {device.mac_address} - vlan tag not supported for this connection type"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    for name in _UNSERVED:
        if getattr(device, name) is not None:
            raise ConfigUnsupported(f"<{name}> of interface {device.mac_address} is not supported yet")
    if device.filterref is not None and device.type not in ("network", "bridge", "ethernet"):
        text = f"filterref is not supported for network interfaces of type {device.type}"
        raise ConfigUnsupported(text, domain=ErrorDomain.QEMU)
    if device.type == "user" and device.bandwidth is not None:
        raise ConfigUnsupported(f"<bandwidth> of interface {device.mac_address} is not supported for type 'user'")
    backend = device.backend
    if backend is not None and (backend.tap or _TUN, backend.vhost or _VHOST) != (_TUN, _VHOST):
        raise ConfigUnsupported(f"<backend> of interface {device.mac_address} can only be {_TUN} and {_VHOST}")
    if device.type != "user" and device.ips:
        text = "Invalid attempt to set network interface guest-side IP route and/or address info, not supported by QEMU"
        raise ConfigUnsupported(text)
    for element in (device, device.driver, device.source, device.target, device.model, device.backend):
        unknown = [f"<{node.tag}>" for node in element.extra_nodes] if element else []
        unknown += [f"attribute '{name}'" for name in element.extra_attributes] if element else []
        if unknown:
            raise ConfigUnsupported(f"{unknown[0]} of interface {device.mac_address} is not supported yet")


def interface(
    domain: Domain, device: Interface, bootindex: int | None, tap: int | None, vhost: int | None = None
) -> Parts:
    """Backend and card. ``tap`` is the tap's descriptor for types that have one, ``vhost`` the accelerator's."""
    _check(device)
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
            elif ip.family == "ipv6" and ip.address:
                backend["ipv6-prefix"] = ip.address
                if ip.prefix:
                    backend["ipv6-prefixlen"] = ip.prefix
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
