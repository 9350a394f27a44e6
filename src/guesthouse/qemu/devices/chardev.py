"""Character devices for QEMU: the host's end and the guest's."""

from __future__ import annotations

from dataclasses import dataclass

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.chardev import CharDevice, CharEnd, CharSource, CharTarget
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import bus_of, pci, usb
from guesthouse.qemu.parts import Chardev, Parts, Props

_SPICE_AGENT = "com.redhat.spice.0"


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


@dataclass(frozen=True)
class Certificates:
    """Folders of the certificates that QEMU shows, and whether its clients have to show theirs. ``vnc`` and ``spice``
    are empty where that screen is not encrypted; a character device's own ``tls`` decides where it says so."""

    vnc: str = ""
    vnc_verify: bool = False
    spice: str = ""
    chardev: str = "/etc/pki/qemu"
    chardev_always: bool = False
    chardev_verify: bool = True


def chardev(device: CharEnd, end: HostEnd, alias: str | None = None, *, wait: bool = False) -> Chardev:
    """The host's end. ``wait``: the guest does not start before somebody has called at a listening socket."""
    alias = alias or (device.alias and device.alias.name) or ""
    kind, source = device.type, device.source or CharSource()
    options: dict[str, str] = {}
    files: list[tuple[int, int, str]] = []
    listens = {"server": "on"} if wait else {"server": "on", "wait": "off"}
    if kind in ("pty", "null", "vc", "stdio"):
        backend = kind
    elif kind == "unix":
        backend = "socket"
        options = {"fd": str(end.socket)} if end.socket is not None else {"path": source.path or ""}
        if source.mode in ("bind", "server") or (end.socket is not None and source.mode is None):
            options |= listens
        options |= _reconnect(source)
    elif kind == "tcp":
        backend = "socket"
        options = {"host": source.host or "127.0.0.1", "port": source.service or "0"}
        if device.protocol is not None and device.protocol.type == "telnet":
            options["telnet"] = "on"
        if source.mode in ("bind", "server"):
            options |= listens
        options |= _reconnect(source)
        if source.tls == "yes":
            options["tls-creds"] = f"objchar{alias}_tls0"
    elif kind == "udp":
        backend = "udp"
        to = next((s for s in device.sources if s.mode not in ("bind", "server")), CharSource())
        at = next((s for s in device.sources if s.mode in ("bind", "server")), CharSource())
        options = {"host": to.host or "", "port": to.service or ""}
        options |= {"localaddr": at.host or "", "localport": at.service or "0"}
    elif kind == "file":
        backend = "file"
        if end.file is not None:
            # emptied when it was opened, if that was asked for
            options = {"path": f"/dev/fdset/{end.file[0]}", "append": "on"}
            files.append((*end.file, f"{alias}-source"))
        else:
            options = {"path": source.path or ""}
            if source.append is not None:
                options["append"] = "on" if source.append else "off"
    elif kind == "dev":
        backend, options = "parallel" if device.TAG == "parallel" else "serial", {"path": source.path or ""}
    elif kind == "pipe":
        backend, options = "pipe", {"path": source.path or ""}
    elif kind == "spicevmc":
        name = {"redirdev": "usbredir", "smartcard": "smartcard"}.get(device.TAG, "vdagent")
        backend, options = "spicevmc", {"name": name}
    elif kind in ("spiceport", "dbus"):
        backend, options = kind, {"name": source.channel or ""}
    elif kind == "qemu-vdagent":
        backend, options = "qemu-vdagent", {"name": "vdagent"}
        if source.clipboard is not None and source.clipboard.copypaste is not None:
            options["clipboard"] = "on" if source.clipboard.copypaste else "off"
        if source.mouse is not None and source.mouse.mode is not None:
            options["mouse"] = "off" if source.mouse.mode == "server" else "on"
    else:
        raise ConfigUnsupported(f"unsupported chardev '{kind}'")
    if device.log is not None and device.log.file:
        if end.log is not None:
            options |= {"logfile": f"/dev/fdset/{end.log[0]}", "logappend": "on"}
            files.append((*end.log, f"{alias}-log"))
        else:
            options["logfile"] = device.log.file
            options["logappend"] = "off" if device.log.append is False else "on"
    return Chardev(f"char{alias}", backend, options, files)


def _reconnect(source: CharSource) -> dict[str, str]:
    """Whether a client calls again; nothing where the document leaves it to QEMU."""
    if source.reconnect is None or source.reconnect.enabled is None:
        return {}
    return {"reconnect": str(source.reconnect.timeout or 0) if source.reconnect.enabled else "0"}


def host_end(device: CharEnd, end: HostEnd, certificates: Certificates, alias: str | None = None) -> Parts:
    """The host's end with what it needs before it: the certificates of an encrypted connection."""
    parts = Parts(chardevs=[chardev(device, end, alias)], fds=end.fds)
    source = device.source
    if device.type == "tcp" and source is not None and source.tls == "yes":
        listens = source.mode in ("bind", "server")
        creds = {
            "qom-type": "tls-creds-x509",
            "id": f"obj{parts.chardevs[0].id}_tls0",
            "dir": certificates.chardev,
            "endpoint": "server" if listens else "client",
            "verify-peer": certificates.chardev_verify if listens else True,
        }
        parts.objects.append(creds)
    return parts


def character(
    domain: Domain, device: CharDevice, end: HostEnd | None = None, certificates: Certificates | None = None
) -> Parts:
    """Both ends of a serial port, parallel port, virtio console or channel."""
    end = end or HostEnd()
    if device.type == "spiceport" and not any(screen.type == "spice" for screen in domain.dev.graphics):
        return Parts()  # nobody could ever call
    parts = host_end(device, end, certificates or Certificates())
    alias = (device.alias and device.alias.name) or ""
    target = device.target or CharTarget()
    props: Props = {"chardev": f"char{alias}", "id": alias}
    kind = target.type or ""
    if device.TAG == "serial":
        driver = (target.model and target.model.name) or kind
        if driver not in ("isa-serial", "usb-serial", "pci-serial", "isa-debugcon"):
            raise ConfigUnsupported(f"'{driver}' is not supported in this QEMU binary")
        props = {"driver": driver, **props}
        if driver == "isa-serial":
            props["index"] = target.port or 0
        props |= _serial_place(domain, driver, device.address)
    elif device.TAG == "parallel":
        props = {"driver": "isa-parallel", **props}
    elif kind == "virtio":
        props = {"driver": "virtconsole" if device.TAG == "console" else "virtserialport"}
        if device.address is not None:
            number = device.address.controller or 0
            bus = bus_of(domain, "virtio-serial", number, f"virtio-serial{number}") + ".0"
            props |= {"bus": bus, "nr": int(device.address.port or 0)}
        props |= {"chardev": f"char{alias}", "id": alias}
        if device.TAG == "channel" and (target.name or device.type == "spicevmc"):
            props["name"] = target.name or _SPICE_AGENT
            if device.type == "spicevmc" and props["name"] != _SPICE_AGENT:
                raise ConfigUnsupported(f"Unsupported spicevmc target name '{target.name}'")
    elif kind == "guestfwd":
        forward = f"tcp:{target.address}:{target.port or 0}-chardev:char{alias}"
        parts.netdevs.append({"type": "user", "guestfwd": [{"str": forward}], "id": alias})
        return parts
    else:
        raise ConfigUnsupported(f"unsupported {device.TAG} target type {kind}")
    parts.devices.append(props)
    return parts


def _serial_place(domain: Domain, driver: str, address: Address | None) -> Props:
    if driver == "usb-serial":
        return usb(domain, address)
    if driver == "pci-serial":
        return pci(domain, address)
    if address is None or address.type != "isa":
        return {}
    place = {"iobase": address.iobase, "irq": address.irq}
    return {name: int(value, 0) for name, value in place.items() if value is not None}
