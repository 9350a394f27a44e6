"""<interface> for QEMU: a network backend and the guest's card."""

from __future__ import annotations

from dataclasses import dataclass, field

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.interface import Interface, InterfaceDriver
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio, virtio_driver
from guesthouse.qemu.devices.hostdev import card, rom_props
from guesthouse.qemu.parts import Chardev, Parts, Props

_TUN, _VHOST = "/dev/net/tun", "/dev/vhost-net"
_PLAIN = ("csum", "gso", "mrg_rxbuf")
_UNSERVED = ("guest",)
_TAPS = ("network", "bridge", "direct", "ethernet")
_SIZED = ("network", "bridge", "ethernet", "vhostuser")
_QUEUED = (*_TAPS, "vhostuser", "vdpa")


@dataclass
class CardEnd:
    """What the daemon has prepared for a card: a tap's descriptors, a queue each, the accelerator's, and for vDPA the
    number of QEMU's descriptor set and the descriptor."""

    taps: list[int] = field(default_factory=list)
    vhosts: list[int] = field(default_factory=list)
    vdpa: tuple[int, int] | None = None


def _tuning(device: Interface, model: str) -> Props:
    """What a virtio card has that others have not."""
    driver = device.driver or InterfaceDriver()
    if not model.startswith("virtio"):
        return {}
    props: Props = {**virtio(driver)}
    if driver.txmode is not None:
        props["tx"] = {"iothread": "bh"}.get(driver.txmode, driver.txmode)
    for name in ("ioeventfd", "event_idx"):
        if (wish := getattr(driver, name)) is not None:
            props[name] = wish
    props |= _offloads(driver)
    queues = driver.queues or 1
    if queues > 1:
        # an interrupt a queue and direction, one for the settings and one for control
        props |= {"mq": True, "vectors": 2 * queues + 2}
    sizes = {"rx_queue_size": driver.rx_queue_size, "tx_queue_size": driver.tx_queue_size}
    props |= {name: size for name, size in sizes.items() if size}
    wishes = {"rss": driver.rss, "hash": driver.rss_hash_report}
    props |= {name: wish for name, wish in wishes.items() if wish is not None}
    if device.mtu is not None and device.mtu.size:
        props["host_mtu"] = device.mtu.size
    if device.teaming is not None and device.teaming.type == "persistent":
        props["failover"] = True
    return props


def _offloads(driver: InterfaceDriver) -> Props:
    """<host> and <guest>: QEMU has csum, gso and mrg_rxbuf of the host's under their own names."""
    props: Props = {}
    for side, prefix in ((driver.host, "host_"), (driver.guest, "guest_")):
        for spec in side.SPECS if side is not None else ():
            if (wish := getattr(side, spec.name)) is not None:
                props[spec.name if prefix == "host_" and spec.name in _PLAIN else prefix + spec.name] = wish
    return props


def check(device: Interface) -> None:
    """Raises ConfigUnsupported for what the card or its tap would not get."""
    mac = device.mac_address
    source = device.source
    passthrough = device.type == "direct" and source is not None and source.mode == "passthrough"
    if device.vlan is not None and not (device.type == "hostdev" or passthrough):
        text = f"interface {mac} - vlan tag not supported for this connection type"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if device.filterref is not None and device.type not in ("network", "bridge", "ethernet"):
        text = f"filterref is not supported for network interfaces of type {device.type}"
        raise ConfigUnsupported(text, domain=ErrorDomain.QEMU)
    if device.coalesce is not None and device.type not in ("network", "bridge"):
        raise ConfigUnsupported(f"coalesce settings on interface type {device.type} are not supported")
    passt = device.backend is not None and device.backend.type == "passt"
    if device.mtu is not None and device.type not in _SIZED and not passt:
        raise ConfigUnsupported(f"setting MTU on interface type {device.type} is not supported yet")
    if device.port is not None and device.port.isolated and device.type not in ("network", "bridge"):
        text = (
            f"interface {mac} - <port isolated='yes'/> is not supported for network interfaces with"
            f" type='{device.type}'"
        )
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if device.target is not None and device.target.managed is False and device.type != "ethernet":
        text = f"unmanaged target dev is not supported on interfaces of type '{device.type}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    for name in _UNSERVED:
        if getattr(device, name) is not None:
            raise ConfigUnsupported(f"<{name}> of interface {mac} is not supported yet")
    if device.driver is not None and device.driver.queues and device.type not in _QUEUED:
        text = f"interface {mac} - multiqueue is not supported for network interfaces of type {device.type}"
        raise ConfigUnsupported(text)
    if device.teaming is not None and device.teaming.type == "transient" and device.type != "hostdev":
        text = f"interface {mac} - teaming transient device must be type='hostdev', not '{device.type}'"
        raise ConfigUnsupported(text)
    if (device.script is not None or device.downscript is not None) and device.type != "ethernet":
        raise ConfigUnsupported(f"scripts are not supported on interfaces of type {device.type}")
    backend = device.backend
    if backend is not None and (backend.tap or _TUN, backend.vhost or _VHOST) != (_TUN, _VHOST):
        raise ConfigUnsupported(f"<backend> of interface {mac} can only be {_TUN} and {_VHOST}")
    if device.routes or (source is not None and (source.ips or source.routes)):
        what = "ip" if source is not None and source.ips else "route"
        raise ConfigUnsupported(f"<{what}> of interface {mac} is not supported yet")
    if device.type != "user" and device.ips:
        text = "Invalid attempt to set network interface guest-side IP route and/or address info, not supported by QEMU"
        raise ConfigUnsupported(text)
    for element in (device, device.driver, device.source, device.target, device.model, device.backend):
        unknown = [f"<{node.tag}>" for node in element.extra_nodes] if element else []
        unknown += [f"attribute '{name}'" for name in element.extra_attributes] if element else []
        if unknown:
            raise ConfigUnsupported(f"{unknown[0]} of interface {mac} is not supported yet")


def interface(domain: Domain, device: Interface, bootindex: int | None, end: CardEnd) -> Parts:
    """Backend and card."""
    check(device)
    if device.type == "hostdev":
        return card(domain, device, bootindex)
    alias = (device.alias and device.alias.name) or "net"
    host = f"host{alias}"
    parts = _backend(device, alias, end)
    for netdev in parts.netdevs:
        netdev["id"] = host
    model = (device.model and device.model.type) or "rtl8139"
    driver = virtio_driver("virtio-net-pci", model) if model.startswith("virtio") else model
    props: Props = {"driver": driver, **_tuning(device, model), "netdev": host, "id": alias, "mac": device.mac_address}
    if bootindex is not None:
        props["bootindex"] = bootindex
    props |= pci(domain, device.address)
    if device.acpi is not None and device.acpi.index:
        props["acpi-index"] = device.acpi.index
    parts.devices.append(props | rom_props(device.rom))
    return parts


def _backend(device: Interface, alias: str, end: CardEnd) -> Parts:
    """The host's end, but for its id."""
    kind, source = device.type, device.source
    queues = (device.driver and device.driver.queues) or 1
    if kind in _TAPS:
        return _tap(device, end)
    if kind == "user":
        return Parts(netdevs=[_user(device)])
    if kind == "internal":
        return Parts(netdevs=[{"type": "user"}])
    if kind == "vhostuser":
        assert source is not None
        options = {"path": source.path or ""}
        if source.mode in ("server", "bind"):
            options["server"] = "on"
        elif source.reconnect is not None and source.reconnect.enabled is not None:
            options["reconnect"] = str((source.reconnect.enabled and source.reconnect.timeout) or 0)
        netdev: Props = {"type": "vhost-user", "chardev": f"char{alias}"}
        if queues > 1:
            netdev["queues"] = queues
        return Parts(chardevs=[Chardev(f"char{alias}", "socket", options)], netdevs=[netdev])
    if kind == "vdpa":
        assert end.vdpa is not None
        number, fd = end.vdpa
        netdev = {"type": "vhost-vdpa", "vhostdev": f"/dev/fdset/{number}"}
        if queues > 1:
            netdev["queues"] = queues
        return Parts(options=["-add-fd", f"set={number},fd={fd},opaque={alias}-vdpa"], netdevs=[netdev], fds=[fd])
    if kind in ("server", "client", "mcast", "udp"):
        assert source is not None
        verb = {"server": "listen", "client": "connect"}.get(kind, kind)
        netdev = {"type": "socket", verb: f"{source.address or ''}:{source.port or 0}"}
        if kind == "udp":
            local = source.local
            netdev["localaddr"] = f"{(local and local.address) or ''}:{(local and local.port) or 0}"
        return Parts(netdevs=[netdev])
    raise ConfigUnsupported(f"interface type '{kind}' is not supported by QEMU")


def _tap(device: Interface, end: CardEnd) -> Parts:
    if not end.taps:
        raise ConfigUnsupported(f"interface {device.mac_address} of type '{device.type}' has no tap")
    netdev: Props = {"type": "tap", **_descriptors("fd", end.taps)}
    if end.vhosts:
        netdev |= {"vhost": True, **_descriptors("vhostfd", end.vhosts)}
    if device.tune is not None and device.tune.sndbuf is not None:
        netdev["sndbuf"] = device.tune.sndbuf
    return Parts(netdevs=[netdev], fds=[*end.taps, *end.vhosts])


def _descriptors(name: str, fds: list[int]) -> Props:
    """One queue's descriptor, or those of several."""
    return {name: str(fds[0])} if len(fds) == 1 else {f"{name}s": ":".join(map(str, fds))}


def _user(device: Interface) -> Props:
    backend: Props = {"type": "user"}
    for ip in device.ips:
        if ip.family in (None, "ipv4") and ip.address:
            backend["net"] = f"{ip.address}/{ip.prefix}" if ip.prefix else ip.address
        elif ip.family == "ipv6" and ip.address:
            backend["ipv6-prefix"] = ip.address
            if ip.prefix:
                backend["ipv6-prefixlen"] = ip.prefix
    return backend
