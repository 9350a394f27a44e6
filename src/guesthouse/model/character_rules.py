"""What libvirt makes of a document's character devices when it is defined, and what of them it refuses. Pure; the rules
are libvirt 9.0's (domain_conf.c, domain_postparse.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

import ipaddress
import itertools
import re

from guesthouse.errors import ConfigUnsupported, InternalError, InvalidArg, SystemFailure, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import DeviceSeclabel
from guesthouse.model.devices.chardev import (
    Channel,
    CharDevice,
    CharEnd,
    CharModel,
    CharProtocol,
    CharSource,
    CharTarget,
    Console,
    Serial,
)
from guesthouse.model.domain import Domain

_SERIALS = ("isa-serial", "usb-serial", "pci-serial", "spapr-vio-serial", "system-serial", "sclp-serial", "isa-debug")
_CONSOLES = ("serial", "xen", "uml", "virtio", "lxc", "openvz", "sclp", "sclplm")
_CHANNELS = ("guestfwd", "virtio", "xen")
#: A serial port's models -> the type of target that each belongs to.
_MODELS = {
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "spapr-vty": "spapr-vio-serial",
    "pl011": "system-serial",
    "16550a": "system-serial",
    "sclpconsole": "sclp-serial",
    "sclplmconsole": "sclp-serial",
    "isa-debugcon": "isa-debug",
}
_USUAL_MODEL = {"isa-serial": "isa-serial", "pci-serial": "pci-serial", "usb-serial": "usb-serial"}
_USUAL_MODEL |= {"isa-debug": "isa-debugcon", "spapr-vio-serial": "spapr-vty", "sclp-serial": "sclpconsole"}
#: The kind of address that a type of target may have; none where it has none.
_ADDRESSES = {"isa-serial": "isa", "isa-debug": "isa", "usb-serial": "usb", "pci-serial": "pci"}
_ADDRESSES |= {"spapr-vio-serial": "spapr-vio"}
#: Types of serial port whose first is the guest's console, too.
_LIKE_A_CONSOLE = (None, "isa-serial", "spapr-vio-serial", "system-serial", "sclp-serial")
#: What of a <source> counts for each type of host's end.
_COUNTS = {
    "file": ("path", "append", "seclabels"),
    "dev": ("path", "seclabels"),
    "pipe": ("path", "seclabels"),
    "unix": ("mode", "path", "seclabels", "reconnect"),
    "tcp": ("mode", "host", "service", "tls", "reconnect"),
    "udp": ("mode", "host", "service"),
    "spiceport": ("channel",),
    "dbus": ("channel",),
    "nmdm": ("master", "slave"),
    "qemu-vdagent": ("clipboard", "mouse"),
}
_ISA_PORTS = 4
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9._:-]*")
_NO_ADDRESS_FAMILY = "Name or service not known"


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def complete(domain: Domain) -> None:
    """The four kinds of character devices, numbered; the first serial port is the first console."""
    dev = domain.dev
    for serial in dev.serials:
        _known(serial, _SERIALS)
        name = serial.target.model.name if serial.target is not None and serial.target.model is not None else None
        if name is not None and name not in _MODELS:
            raise _unsupported(f"unknown target model '{name}' specified for character device")
    for console in dev.consoles:
        _known(console, _CONSOLES)
    for channel in dev.channels:
        _channel(channel)
    for parallel in dev.parallels:
        if parallel.target is not None:
            parallel.target.type = parallel.target.name = parallel.target.address = parallel.target.model = None
    every: tuple[CharDevice, ...] = (*dev.serials, *dev.parallels, *dev.consoles, *dev.channels)
    for device in every:
        tidy(device)
        second = device in dev.channels and device.is_virtio
        if device.type == "spicevmc" and not second:
            raise _unsupported("spicevmc device type only supports virtio")
    _number(domain)


def _known(device: Serial | Console, types: tuple[str, ...]) -> None:
    target = device.target
    if target is None:
        return
    if target.type is not None and target.type not in types:
        raise _unsupported(f"unknown target type '{target.type}' specified for character device")
    target.name = target.address = target.state = None
    if isinstance(device, Console):
        target.model = None


def _channel(channel: Channel) -> None:
    target = channel.target
    if target is None or not target.type:
        raise XMLError("target type must be specified for channel device", domain=ErrorDomain.DOMAIN)
    if target.type not in _CHANNELS:
        raise _unsupported(f"unknown target type '{target.type}' specified for character device")
    target.state = target.model = None
    if target.type != "guestfwd":
        target.address = target.port = None
        return
    target.name = None
    if target.address is None:
        raise XMLError("guestfwd channel does not define a target address", domain=ErrorDomain.DOMAIN)
    try:
        found = ipaddress.ip_address(target.address)
    except ValueError:
        text = f"Cannot parse socket address '{target.address}': {_NO_ADDRESS_FAMILY}"
        raise SystemFailure(text, domain=ErrorDomain.NONE) from None
    if found.version != 4:
        raise _unsupported("guestfwd channel only supports IPv4 addresses")
    if target.port is None:
        raise XMLError("Missing required attribute 'port' in element 'target'")


def tidy(device: CharEnd) -> None:
    """Leave of a host's end what counts for its type, with the words that libvirt adds. Raises for values that do not
    fit."""
    sources = device.sources
    if len(sources) > 1 and device.type != "udp":
        raise XMLError("only one source element is allowed for character device", domain=ErrorDomain.DOMAIN)
    if len(sources) > 2:
        raise XMLError("only two source elements are allowed for character device", domain=ErrorDomain.DOMAIN)
    counts = _COUNTS.get(device.type or "", ())
    for source in sources:
        for spec in CharSource.SPECS:
            if spec.name not in counts:
                setattr(source, spec.name, [] if spec.form == "children" else None)
        source.seclabels = [label for label in source.seclabels if _labels(device, label)]
        source.extra_nodes.clear()
        source.extra_attributes.clear()
        if "mode" in counts and source.mode not in (None, "connect", "bind"):
            raise XMLError(f"Invalid value for attribute 'mode' in element 'source': '{source.mode}'.")
        again = source.reconnect
        if again is not None and again.enabled and again.timeout is None:
            raise XMLError("Missing required attribute 'timeout' in element 'reconnect'")
        if again is not None and not again.enabled:
            again.timeout = None
            source.reconnect = None if again.enabled is None else again
        for name, attribute in (("clipboard", "copypaste"), ("mouse", "mode")):
            element = getattr(source, name)
            if element is not None and getattr(element, attribute) is None:
                raise XMLError(f"Missing required attribute '{attribute}' in element '{name}'")
        if "mode" in counts and source.mode is None and (device.type != "unix" or source.path):
            source.mode = "connect"
    if device.type == "udp":
        sources.sort(key=lambda source: source.mode != "bind")
    if device.type == "tcp":
        device.protocol = device.protocol or CharProtocol()
        device.protocol.type = device.protocol.type or "raw"
    else:
        device.protocol = None
    if device.log is not None and device.log.file is None:
        device.log = None
    empty = ("pty", "null", "vc", "stdio", "spicevmc", None)
    if device.type in empty or (sources and device.type != "tcp" and sources[0].to_xml(secrets=True) == "<source/>\n"):
        sources.clear()
    if device.type == "unix" and sources and not sources[0].path:
        sources.clear()  # bound to a path of the host's choice at each start


def _labels(device: CharEnd, label: DeviceSeclabel) -> bool:
    """Whether libvirt keeps what the document says of a host's end's label."""
    if not isinstance(device, CharDevice) or "labelskip" in label.extra_attributes:
        return False
    label.relabel = label.relabel is not False
    label.label = label.label if label.relabel else None
    return True


def _number(domain: Domain) -> None:
    dev = domain.dev
    first = max((s.target.port for s in dev.serials if s.target and s.target.port is not None), default=-1)
    ports = itertools.count(first + 1)
    for console in dev.consoles[1:]:
        if console.target is not None and console.target.type == "serial":
            raise _unsupported("Only the first console can be a serial port")
    kind = dev.consoles[0].target.type if dev.consoles and dev.consoles[0].target is not None else None
    is_serial = bool(dev.consoles) and kind in (None, "serial")
    for index, console in enumerate(dev.consoles):
        if console.target is None:
            console.target = CharTarget()
        console.target.type = console.target.type or "serial"
        console.target.port = index
    if is_serial and not dev.serials:
        # a console alone stands for a serial port
        alone = dev.consoles[0]
        serial = Serial(
            type=alone.type, sources=[s.copy() for s in alone.sources], log=alone.log, protocol=alone.protocol
        )
        serial.address = alone.address
        dev.serials.append(serial)
    # only those count that say that they are ISA's
    isa = [s.target for s in dev.serials if s.target is not None and s.target.type == "isa-serial"]
    if len(isa) > _ISA_PORTS or any((target.port or 0) >= _ISA_PORTS for target in isa):
        text = f"Maximum supported number of ISA serial ports is '{_ISA_PORTS}'"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)
    for serial in dev.serials:
        _serial(serial, next(ports) if serial.target is None or serial.target.port is None else serial.target.port)
    like = dev.serials[0].target.type in _LIKE_A_CONSOLE if dev.serials and dev.serials[0].target else False
    if like and not is_serial:
        dev.consoles.insert(0, Console(target=CharTarget(type="serial")))
        is_serial = True
    if dev.serials and is_serial:
        twin, serial = dev.consoles[0], dev.serials[0]
        assert twin.target is not None and serial.target is not None
        twin.target.port = serial.target.port
        twin.type = serial.type
        twin.sources = [s.copy() for s in serial.sources]
        twin.log = serial.log.copy() if serial.log else None
        twin.protocol = serial.protocol.copy() if serial.protocol else None
        twin.tty = None
        twin.address = None
    for index, parallel in enumerate(dev.parallels):
        if parallel.target is None:
            parallel.target = CharTarget()
        if parallel.target.port is None:
            parallel.target.port = index


def _serial(serial: Serial, index: int) -> None:
    if serial.target is None:
        serial.target = CharTarget()
    target = serial.target
    if target.type is None:
        address = serial.address.type if serial.address is not None else None
        target.type = {"usb": "usb-serial", "pci": "pci-serial"}.get(address or "", "isa-serial")
    if target.port is None:
        target.port = index
    if target.model is None or target.model.name is None:
        name = _USUAL_MODEL.get(target.type)
        target.model = CharModel(name=name) if name is not None else None


# -- what does not go


def check(domain: Domain) -> None:
    """Raises what libvirt raises for host's ends that are not told enough, and targets that the guest has not."""
    dev = domain.dev
    _check_consoles(domain)
    for device in (*dev.serials, *dev.parallels, *dev.consoles, *dev.channels):
        check_end(device, domain)
    for serial in dev.serials:
        _check_serial(serial)


def _check_consoles(domain: Domain) -> None:
    for console in domain.dev.consoles:
        kind = console.target.type if console.target is not None else None
        if kind in ("sclp", "sclplm"):
            raise ConfigUnsupported(f"{kind}console is not supported in this QEMU binary")
        if kind not in ("virtio", "serial"):
            raise ConfigUnsupported(f"unsupported console target type {kind}")


def check_end(device: CharEnd, domain: Domain) -> None:
    """Likewise, of one host's end."""
    kind, source = device.type, device.source
    if kind in ("file", "dev", "pipe") and (source is None or source.path is None):
        raise InternalError("Missing source path attribute for char device", domain=ErrorDomain.DOMAIN)
    if kind == "nmdm" and source is not None and (source.master is None) != (source.slave is None):
        text = "Should define both master and slave path attributes for nmdm device"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)
    if kind == "tcp" and (source is None or source.host is None):
        raise InternalError("Missing source host attribute for char device", domain=ErrorDomain.DOMAIN)
    if kind == "tcp" and source is not None and source.service is None:
        raise InternalError("Missing source service attribute for char device", domain=ErrorDomain.DOMAIN)
    if kind == "udp" and not any(each.mode != "bind" and each.service is not None for each in device.sources):
        raise InternalError("Missing source service attribute for char device", domain=ErrorDomain.DOMAIN)
    if kind == "unix" and (source is None or source.path is None):
        chosen = isinstance(device, Channel) and device.target is not None and device.target.type in ("virtio", "xen")
        if not chosen:
            raise InternalError("Missing source path attribute for char device", domain=ErrorDomain.DOMAIN)
    again = source.reconnect if source is not None else None
    if kind in ("tcp", "unix") and source is not None and again is not None:
        if source.mode == "bind" and again.enabled:
            text = "chardev reconnect is possible only for connect mode"
            raise InternalError(text, domain=ErrorDomain.DOMAIN)
        if again.enabled and again.timeout == 0:
            raise InvalidArg("chardev reconnect source timeout cannot be '0'", domain=ErrorDomain.QEMU)
    if kind in ("spiceport", "dbus"):
        name = source.channel if source is not None else None
        if name is None:
            raise _unsupported("Missing source channel attribute for char device")
        if not _CHANNEL_NAME.fullmatch(name):
            raise InvalidArg("Invalid character in source channel for char device", domain=ErrorDomain.DOMAIN)
    if kind in ("spicevmc", "spiceport") and not any(screen.type == "spice" for screen in domain.dev.graphics):
        raise ConfigUnsupported(f"chardev '{kind}' not supported without spice graphics")


def _check_serial(serial: Serial) -> None:
    target = serial.target
    assert target is not None
    kind, address = target.type or "", serial.address.type if serial.address is not None else None
    model = target.model.name if target.model is not None else None
    if kind in _ADDRESSES and address not in (None, _ADDRESSES[kind]):
        raise ConfigUnsupported(f"Target type '{kind}' requires address type '{_ADDRESSES[kind]}'")
    if kind not in _ADDRESSES and address is not None:
        raise ConfigUnsupported(f"Target type '{kind}' cannot have an associated address")
    if model is not None and _MODELS[model] != kind:
        raise ConfigUnsupported(f"Target model '{model}' requires target type '{_MODELS[model]}'")
    here = kind in ("isa-serial", "usb-serial", "pci-serial", "isa-debug") or (
        kind == "system-serial" and model is None
    )
    if not here:
        raise ConfigUnsupported(
            f"Serial device with target type '{kind}' and target model '{model or 'none'}' not compatible with guest"
            " architecture or machine type"
        )
