"""A live document without what holds for one run alone: ids, ports, ptys, taps. Pure."""

from __future__ import annotations

import re

from guesthouse.model.devices.chardev import CharDevice
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element

_MADE_UP_TAPS = ("vnet", "macvtap", "macvlan")
_OWN_ALIAS = "ua-"
_MADE_UP_IMAGE = ".transient"
# where libvirtd makes channels' sockets
_LIBVIRTS_SOCKET = "/var/lib/libvirt/qemu/channel/target/domain-[^/]+/"


def inactive(live: Domain, definition: Domain | None, made: str) -> Domain:
    """A document with which a guest like ``live`` can be started: the same devices at the same addresses.

    ``definition`` tells what was left open there (None: nothing is known). Sockets below the folder ``made`` were
    named by the daemon.
    """
    out = live.copy()
    for display in out.dev.graphics:
        for listen in display.listens:
            if (listen.socket or "").startswith(f"{made}/"):
                listen.socket = None
    _forget(out, definition, made)
    if definition is None or not definition.seclabels:
        out.seclabels = [label for label in out.seclabels if label.type != "dynamic"]
    return out


def forget_run(document: Domain, made: str) -> None:
    """Likewise with a document from outside, itself: clients send back what they got of a running guest."""
    _forget(document, None, made)
    for display in document.dev.graphics:
        for listen in display.listens:
            if listen.type == "socket" and (listen.socket or "").startswith(f"{made}/"):
                listen.type, listen.socket, display.socket = "address", None, None
    for label in document.seclabels:
        if label.type == "dynamic":
            label.label = label.imagelabel = None


def _forget(out: Domain, definition: Domain | None, made: str) -> None:
    out.id = None
    dev = out.dev
    for spec in dev.SPECS:
        value = getattr(dev, spec.name)
        for device in value if isinstance(value, list) else [value]:
            if isinstance(device, Element):
                _forget_alias(device)
    written = {disk.dev: disk for disk in definition.dev.disks} if definition is not None else {}
    for disk in dev.disks:
        if disk.transient is not None and ((disk.source and disk.source.file) or "").endswith(_MADE_UP_IMAGE):
            _lower(disk)
        found = disk.dev in written and written[disk.dev].backing is None
        if found and disk.backing is not None and disk.backing.source is not None:
            disk.backing = None  # an image that was found when the guest started, and is to be found anew
        if disk.source is not None:
            disk.source.index = None
        below = disk.backing
        while below is not None:
            below.index, below = None, below.backing
    for nic in dev.interfaces:
        _interface(nic)
    for character in [*dev.serials, *dev.parallels, *dev.consoles, *dev.channels]:
        _character(character, made)
    shown = definition.dev.graphics if definition is not None else []
    for number, display in enumerate(dev.graphics):
        _graphics(display, shown[number] if number < len(shown) else None)


def _lower(disk: Disk) -> None:
    """Take away the image that a transient disk wrote into."""
    own = disk.backing
    if own is not None and own.source is not None and disk.driver is not None:
        disk.source, disk.backing = own.source, own.backing
        disk.driver.type = own.format.type if own.format is not None else None


def _forget_alias(device: Element) -> None:
    alias = getattr(device, "alias", None)
    if alias is not None and not (alias.name or "").startswith(_OWN_ALIAS):
        device.alias = None  # type: ignore[attr-defined]


def _interface(nic: Interface) -> None:
    target = nic.target
    if target is not None and target.managed is not False and (target.dev or "").startswith(_MADE_UP_TAPS):
        target.dev = None
        if target.managed is None:
            nic.target = None
    if nic.source is not None:
        nic.source.portid = None
        if nic.type == "network":
            nic.source.bridge = None


def _character(device: CharDevice, made: str) -> None:
    device.tty = None
    source = device.source
    if source is not None and (device.type == "pty" or _named_by_daemon(device, source.path or "", made)):
        device.sources.clear()
    if device.target is not None and device.is_virtio:
        device.target.state = None


def _named_by_daemon(device: CharDevice, path: str, made: str) -> bool:
    name = device.target.name if device.TAG == "channel" and device.target is not None else None
    return path.startswith(f"{made}/") or bool(name and re.fullmatch(_LIBVIRTS_SOCKET + re.escape(name), path))


def _graphics(display: Graphics, defined: Graphics | None) -> None:
    if display.autoport:
        display.port = -1 if display.type == "vnc" else None
        display.tls_port = None
    if defined is not None and defined.websocket == -1:
        display.websocket = -1
    for number, listen in enumerate(display.listens):
        if listen.type == "network":
            listen.address = None
        before = defined.listens[number] if defined is not None and number < len(defined.listens) else None
        if defined is not None and before is not None and before.type == "address" and listen.type == "socket":
            # the daemon's configuration had it listen at a socket
            listen.type, display.socket, display.autoport = "address", defined.socket, defined.autoport
            display.port, display.tls_port, display.websocket = defined.port, defined.tls_port, defined.websocket
        if before is not None and before.type == listen.type and before.address is None:
            listen.address = None
            display.listen = defined.listen if defined is not None else None
