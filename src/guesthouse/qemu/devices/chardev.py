"""Character devices for QEMU: the host's end and the guest's."""

from __future__ import annotations

from dataclasses import dataclass

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.chardev import CharDevice
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import Chardev, Parts, Props


@dataclass
class HostEnd:
    """What the daemon has prepared: the listening socket of a unix one, the open file of a file one, and the open log;
    files are (number of QEMU's descriptor set, descriptor)."""

    socket: int | None = None
    file: tuple[int, int] | None = None
    log: tuple[int, int] | None = None

    @property
    def fds(self) -> list[int]:
        found = [self.socket, self.file and self.file[1], self.log and self.log[1]]
        return [fd for fd in found if fd is not None]


def chardev(device: CharDevice, end: HostEnd) -> Chardev:
    """The host's end."""
    alias = (device.alias and device.alias.name) or ""
    name = f"char{alias}"
    source = device.source
    kind = device.type
    options: dict[str, str] = {}
    files: list[tuple[int, int, str]] = []
    path = (source and source.path) or ""
    if kind in ("pty", "null", "stdio"):
        backend = kind
    elif kind == "unix":
        backend = "socket"
        if end.socket is not None:
            options = {"fd": str(end.socket), "server": "on", "wait": "off"}
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
        backend = "file"
        if end.file is not None:
            # emptied when it was opened, if that was asked for
            options = {"path": f"/dev/fdset/{end.file[0]}", "append": "on"}
            files.append((*end.file, f"{alias}-source"))
        else:
            options = {"path": path}
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
        if end.log is not None:
            options |= {"logfile": f"/dev/fdset/{end.log[0]}", "logappend": "on"}
            files.append((*end.log, f"{alias}-log"))
        else:
            options["logfile"] = device.log.file
            options["logappend"] = "off" if device.log.append is False else "on"
    return Chardev(name, backend, options, files)


def character(domain: Domain, device: CharDevice, end: HostEnd | None = None) -> Parts:
    """Both ends of a serial port, parallel port, virtio console or channel."""
    end = end or HostEnd()
    parts = Parts(chardevs=[chardev(device, end)], fds=end.fds)
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
