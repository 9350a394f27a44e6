"""Character devices for QEMU: the host's end and the guest's."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.chardev import CharDevice
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import Chardev, Parts, Props


def chardev(device: CharDevice, socket_fd: int | None = None) -> Chardev:
    """The host's end. ``socket_fd`` is the listening socket of a unix one that the daemon has bound."""
    alias = (device.alias and device.alias.name) or ""
    name = f"char{alias}"
    source = device.source
    kind = device.type
    options: dict[str, str] = {}
    path = (source and source.path) or ""
    if kind in ("pty", "null", "stdio"):
        backend = kind
    elif kind == "unix":
        backend = "socket"
        if socket_fd is not None:
            options = {"fd": str(socket_fd), "server": "on", "wait": "off"}
        else:
            options = {"path": path}
            if source is not None and source.mode in ("bind", "server"):
                options |= {"server": "on", "wait": "off"}
    elif kind == "tcp":
        assert source is not None
        backend = "socket"
        options = {"host": source.host or "127.0.0.1", "port": source.service or "0"}
        if device.protocol is not None and device.protocol.type == "telnet":
            options["telnet"] = "on"
        if source.mode in ("bind", "server"):
            options |= {"server": "on", "wait": "off"}
    elif kind == "file":
        backend, options = "file", {"path": path}
        if source is not None and source.append is not None:
            options["append"] = "on" if source.append else "off"
    elif kind == "dev":
        backend, options = "serial", {"path": path}
    elif kind == "pipe":
        backend, options = "pipe", {"path": path}
    elif kind == "spicevmc":
        target = (device.target and device.target.name) or ""
        backend, options = "spicevmc", {"name": "usbredir" if "redir" in target else "vdagent"}
    else:
        raise ConfigUnsupported(f"character device type '{kind}' is not supported yet")
    if device.log is not None and device.log.file:
        options["logfile"] = device.log.file
        options["logappend"] = "off" if device.log.append is False else "on"
    return Chardev(name, backend, options)


def character(domain: Domain, device: CharDevice, socket_fd: int | None = None) -> Parts:
    """Both ends of a serial port, parallel port, virtio console or channel."""
    parts = Parts(chardevs=[chardev(device, socket_fd)])
    if socket_fd is not None:
        parts.fds.append(socket_fd)
    alias = (device.alias and device.alias.name) or ""
    target = device.target
    props: Props = {"chardev": f"char{alias}", "id": alias}
    kind = (target and target.type) or ""
    if device.TAG == "serial":
        if kind == "isa-serial":
            props = {"driver": "isa-serial", **props, "index": (target and target.port) or 0}
        else:
            raise ConfigUnsupported(f"serial target type '{kind}' is not supported yet")
    elif device.TAG == "parallel":
        props = {"driver": "isa-parallel", **props}
    elif kind == "virtio":
        address = device.address
        driver = "virtconsole" if device.TAG == "console" else "virtserialport"
        if address is not None:
            bus, nr = f"virtio-serial{address.controller or 0}.0", int(address.port or 0)
            props = {"driver": driver, "bus": bus, "nr": nr, **props}
        else:
            props = {"driver": driver, **props}
        if driver == "virtserialport" and target is not None and target.name:
            props["name"] = target.name
    else:
        raise ConfigUnsupported(f"{device.TAG} target type '{kind}' is not supported yet")
    parts.devices.append(props)
    return parts
