"""Devices of the host that a guest gets, by the names that people have for them: the node device's (``usb_0_1_2``), a
bus and device (``001.003``), a maker and product (``0781:5151``), a PCI address (``15:0.1``)."""

from __future__ import annotations

import re
from typing import Any

from guesthouse.errors import GuesthouseError, InvalidArg
from guesthouse.model.devices.hostdev import Adapter, Hostdev, HostdevId, HostdevPlace, HostdevSource
from guesthouse.model.devices.interface import Interface, InterfaceSource, SourcePlace
from guesthouse.model.fields import Element, Spelled
from guesthouse.provision.host import Host
from guesthouse.provision.request import part


class HostDeviceError(InvalidArg):
    """There is no such device, or guests cannot have it."""

    prefix = ""


def fill(device: Element, name: str, host: Host) -> None:
    """Make ``device``, a hostdev or a network card, the one that is called ``name``. Raises HostDeviceError."""
    found = _find(name, host)
    capability = found.find("capability")
    kind = capability.get("type") if capability is not None else ""
    if isinstance(device, Interface):
        if kind != "pci":
            raise HostDeviceError(f"Unsupported node device type '{kind}'")
        place = part(part(device, "source", InterfaceSource), "place", SourcePlace)
        place.type = "pci"
        _pci(place, capability)
        device.managed = True if device.managed is None else device.managed
        return
    assert isinstance(device, Hostdev)
    if kind == "net":
        # a card's own device is its parent
        found = _node(host, found.findtext("parent") or "")
        capability = found.find("capability")
        kind = capability.get("type")
    source = part(device, "source", HostdevSource)
    if kind == "pci":
        _pci(part(source, "address", HostdevPlace), capability)
    elif kind == "usb_device":
        _usb(source, capability, host)
        kind = "usb"
    elif kind == "scsi":
        source.adapter = Adapter(name=f"scsi_host{_number(capability, 'host')}")
        bus, target, unit = (_number(capability, tag) for tag in ("bus", "target", "lun"))
        source.address = HostdevPlace(bus=bus, target=target, unit=unit)
        device.managed = False if device.managed is None else device.managed
    elif kind == "mdev":
        source.address = HostdevPlace(uuid=_mdev_uuid(found))
        kinds = {"vfio_ap": "vfio-ap", "vfio_ccw": "vfio-ccw"}
        mdev_type = (capability.find("type").get("id") or "") if capability.find("type") is not None else ""
        device.model = device.model or kinds.get(mdev_type.partition("-")[0], "vfio-pci")
        is_pci = device.model == "vfio-pci"
        device.managed = is_pci if device.managed is None else device.managed
        if is_pci:
            device.display = bool(device.display)
            device.ramfb = bool(device.ramfb)
    else:
        raise HostDeviceError(f"Unsupported node device type '{kind}'")
    device.type = device.type or kind


def complete(device: Hostdev) -> None:
    """PCI and USB devices are taken from the host and given back by the daemon."""
    if device.managed is None:
        device.managed = device.type in ("pci", "usb")


def render_node(host: Host) -> str | None:
    """The graphics card of the host that a screen draws with: a path that outlives a reboot, None where none is told."""
    for node in host.node_devices.values():
        if node.find("capability[@type='drm']") is not None and node.findtext("capability/type") == "render":
            links = [link.text or "" for link in node.findall("devnode[@type='link']")]
            stable = next((link for link in links if "by-path" in link), None)
            return stable or (str(node.findtext("devnode[@type='dev']")) if node.find("devnode") is not None else None)
    return None


def _number(node: Any, tag: str) -> int:
    return int(node.findtext(tag) or "0", 0)


def _pci(place: HostdevPlace | SourcePlace, capability: Any) -> None:
    """In decimal, as virt-install writes it."""
    place.domain, place.bus, place.slot, place.function = (
        Spelled.of(_number(capability, tag), str(_number(capability, tag)))
        for tag in ("domain", "bus", "slot", "function")
    )


def _ids(capability: Any) -> tuple[int, int]:
    return tuple(int(capability.find(tag).get("id") or "0", 16) for tag in ("vendor", "product"))  # type: ignore[return-value]


def _usb(source: HostdevSource, capability: Any, host: Host) -> None:
    vendor, product = _ids(capability)
    source.vendor, source.product = HostdevId(id=vendor), HostdevId(id=product)
    twins = [node for node in _usb_devices(host) if _ids(node.find("capability")) == (vendor, product)]
    if len(twins) > 1:
        source.address = HostdevPlace(bus=_number(capability, "bus"), device=_number(capability, "device"))


def _usb_devices(host: Host) -> list[Any]:
    return [node for node in host.node_devices.values() if node.find("capability[@type='usb_device']") is not None]


def _mdev_uuid(node: Any) -> str:
    uuid = node.findtext("capability/uuid")
    if uuid:
        return str(uuid)
    match = re.match(r"mdev_([0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12})", node.findtext("name") or "")
    if match is None:
        raise HostDeviceError(f"'{node.findtext('name')}' has no UUID")
    return match[1].replace("_", "-")


def _node(host: Host, name: str) -> Any:
    node = host.node_devices.get(name)
    if node is None:
        raise HostDeviceError(f"Did not find a matching node device for '{name}'")
    return node


def _find(name: str, host: Host) -> Any:
    """The node device's document."""
    if name in host.node_devices:
        return host.node_devices[name]
    wanted: dict[str, int] = {}
    if match := re.fullmatch(r"(?:0x)?([0-9a-f]{4}):(?:0x)?([0-9a-f]{4})", name, re.I):
        ids = (int(match[1], 16), int(match[2], 16))
        fits = [node for node in _usb_devices(host) if _ids(node.find("capability")) == ids]
    elif match := re.fullmatch(r"(\d{1,3})\.(\d{1,3})", name):
        wanted = {"bus": int(match[1]), "device": int(match[2])}
        fits = [node for node in _usb_devices(host) if _has(node, wanted)]
    elif match := re.fullmatch(r"(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", name, re.I):
        numbers = [int(text or "0", 16) for text in match.groups()]
        wanted = dict(zip(("domain", "bus", "slot", "function"), numbers, strict=True))
        fits = [
            n for n in host.node_devices.values() if n.find("capability[@type='pci']") is not None and _has(n, wanted)
        ]
    else:
        raise HostDeviceError(f"Unknown hostdev address string format '{name}'")
    if not fits:
        raise HostDeviceError(f"Did not find a matching node device for '{name}'")
    if len(fits) > 1:
        names = ", ".join(str(node.findtext("name")) for node in fits)
        raise HostDeviceError(f"'{name}' corresponds to multiple node devices: {names}")
    return fits[0]


def _has(node: Any, wanted: dict[str, int]) -> bool:
    capability = node.find("capability")
    return all(_number(capability, tag) == value for tag, value in wanted.items())


def documents(host: Host) -> dict[str, Any]:
    """Every node device's document by name, as lxml elements; none where the daemon has no such service."""
    from lxml import etree

    try:
        devices = host.conn.list_all_devices()
    except GuesthouseError:
        return {}
    found = {}
    for device in devices:
        try:
            found[device.name] = etree.fromstring(device.get_xml_desc().encode())
        except GuesthouseError:  # it is gone
            continue
    return found
