"""A device on its own: read from a client's XML, found again in a guest's document, taken in and out of one. Pure.

What counts as the same device, what may be there once, and the words of each refusal are libvirt 9.0's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lxml import etree

from guesthouse.errors import (
    ConfigUnsupported,
    DeviceMissing,
    GuesthouseError,
    InvalidArg,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import addresses
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.chardev import CharDevice
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.simple import Controller
from guesthouse.model.domain import Devices, Domain
from guesthouse.model.fields import BadValue, Spec, parse_document

_CHARACTERS = ("serial", "parallel", "console", "channel")
_ONE = {"watchdog": "domain already has a watchdog", "vsock": "domain already has a vsock device"}
_PERSISTENT = (
    *("disk", "lease", "filesystem", "interface", "input", "sound", "hostdev", "watchdog", "controller", "redirdev"),
    *("chr", "rng", "shmem", "memory", "vsock"),
)


class Device(NamedTuple):
    """A device and its family among those of a guest. ``element`` is a value of the model's."""

    spec: Spec
    element: Any

    @property
    def tag(self) -> str:
        return self.spec.tag

    @property
    def kind(self) -> str:
        """The family as libvirt's messages call it."""
        return "chr" if self.tag in _CHARACTERS else self.tag

    @property
    def alias(self) -> str:
        """The id, "" where it has none."""
        alias = getattr(self.element, "alias", None)
        return (alias and alias.name) or ""

    @property
    def address(self) -> Address | None:
        found: Address | None = getattr(self.element, "address", None)
        return found

    def xml(self) -> str:
        """The device as a document of its own, secrets included."""
        out: list[str] = []
        self.element._write(out, "", self.tag, True)
        return "".join(out)

    def node(self) -> Any:
        """The device as an lxml element."""
        return etree.fromstring(self.xml())

    def copy(self) -> Device:
        return Device(self.spec, self.element.copy())


def parse(xml: str) -> Device:
    """The device that ``xml`` describes, as it stands there. Raises XMLDetail, XMLError; ConfigUnsupported for what is
    no device."""
    node = parse_document(xml, "(device_definition)")
    spec = next((s for s in Devices.SPECS if s.element is not None and s.tag == node.tag), None)
    if spec is None or spec.element is None:
        raise ConfigUnsupported(f"unknown device type '{node.tag}'", domain=ErrorDomain.DOMAIN)
    try:
        return Device(spec, spec.element._parse(node))
    except BadValue as bad:
        bad.path.insert(0, spec.tag)
        raise bad.error() from None


def family(document: Domain, spec: Spec) -> list[Any]:
    """The devices of a family; a change of the list is one of the document only where there may be several."""
    value = getattr(document.dev, spec.name)
    return value if isinstance(value, list) else [value] if value is not None else []


def everything(document: Domain) -> Iterator[Device]:
    """All devices of a document."""
    for spec in Devices.SPECS:
        if spec.element is not None:
            for element in family(document, spec):
                yield Device(spec, element)


def by_alias(document: Domain, alias: str) -> Device | None:
    return next((device for device in everything(document) if device.alias == alias), None)


# -- taking in and out


def insert(document: Domain, device: Device) -> None:
    """Put a device where libvirt puts it: disks by their bus and target, the rest last."""
    if device.spec.form != "children":
        setattr(document.dev, device.spec.name, device.element)
        return
    devices = getattr(document.dev, device.spec.name)
    at = len(devices)
    if isinstance(device.element, Disk):
        bus, number = device.element.bus, _number(device.element)
        same = [i for i, other in enumerate(devices) if other.bus == bus]
        at = next((i for i in same if _number(devices[i]) > number), same[-1] + 1 if same else at)
    elif isinstance(device.element, Controller):
        kind, index = device.element.type, device.element.index or 0
        same = [i for i, other in enumerate(devices) if other.type == kind]
        at = next((i for i in same if (devices[i].index or 0) > index), same[-1] + 1 if same else at)
    devices.insert(at, device.element)


def _number(disk: Disk) -> int:
    try:
        return addresses.disk_index(disk.dev)
    except GuesthouseError:
        return -1


def remove(document: Domain, device: Device) -> None:
    """Take out the very element ``device`` has."""
    if device.spec.form != "children":
        setattr(document.dev, device.spec.name, None)
        return
    devices = getattr(document.dev, device.spec.name)
    devices[:] = [other for other in devices if other is not device.element]


def count_memory(document: Domain, device: Device, sign: int = 1) -> None:
    """A guest has the memory of its memory devices, too: count in one that came, or (``sign`` -1) out one that left."""
    if device.kind == "memory":
        size = sign * int(getattr(device.element, "size", 0))
        document.memory = (document.memory or 0) + size
        document.current_memory = (document.current_memory or 0) + size


def replace(document: Domain, old: Device, new: Any) -> None:
    """Put the element ``new`` in the place of the device ``old``."""
    if old.spec.form != "children":
        setattr(document.dev, old.spec.name, new)
        return
    devices = getattr(document.dev, old.spec.name)
    devices[:] = [new if other is old.element else other for other in devices]


# -- finding


def find(document: Domain, wanted: Device) -> Device | None:
    """The device of ``document`` that ``wanted`` means. Raises DeviceMissing for an interface that there is not, and
    OperationFailed where several could be meant."""
    if isinstance(wanted.element, Interface):
        return _interface(document, wanted)
    same = _SAME.get(wanted.kind, _same_text)
    for element in family(document, wanted.spec):
        other = Device(wanted.spec, element)
        if same(wanted, other):
            return other
    return None


def _interface(document: Domain, wanted: Device) -> Device:
    mac, address, alias = wanted.element.mac_address, wanted.address, wanted.alias
    placed = address is not None and address.is_pci
    found: list[Device] = []
    for element in document.dev.interfaces:
        other = Device(wanted.spec, element)
        if mac and element.mac_address != mac:
            continue
        if placed and not _same_address(address, other.address):
            continue
        if alias and other.alias and other.alias != alias:
            continue
        found.append(other)
    if len(found) > 1:
        text = f"multiple devices matching MAC address {mac} found" if mac else "multiple matching devices found"
        raise OperationFailed(text, domain=ErrorDomain.DOMAIN)
    if not found:
        null = "(<null>)"
        place = null
        if placed and address is not None:
            place = f"{address.domain or 0:04x}:{address.bus or 0:02x}:{address.slot or 0:02x}.{address.function or 0}"
        raise DeviceMissing(
            f"no device found at address '{place}' matching MAC address '{mac or null}' and alias '{alias or null}'",
            domain=ErrorDomain.DOMAIN,
        )
    return found[0]


def _same_address(one: Address | None, other: Address | None) -> bool:
    if one is None or other is None:
        return one is other
    names = [spec.name for spec in Address.SPECS if spec.name != "multifunction"]
    return all((getattr(one, name) or None) == (getattr(other, name) or None) for name in names)


def _placed_alike(wanted: Device, other: Device) -> bool:
    """Whether ``other`` is where ``wanted`` says, if it says that."""
    return wanted.address is None or _same_address(wanted.address, other.address)


def _same_controller(wanted: Device, other: Device) -> bool:
    return bool(wanted.element.type == other.element.type and wanted.element.index == other.element.index)


def _same_character(wanted: Device, other: Device) -> bool:
    one, two = wanted.element, other.element
    if one.type != two.type or _end(one) != _end(two):
        return False
    first, second = one.target, two.target
    if wanted.tag == "channel":
        pair = [(t and t.type, t and t.name, t and t.address, t and t.port) for t in (first, second)]
        return pair[0] == pair[1]
    if wanted.tag == "serial" and ((first and first.type) or "isa-serial") != (
        (second and second.type) or "isa-serial"
    ):
        return False
    return ((first and first.port) or 0) == ((second and second.port) or 0)


def _end(device: CharDevice) -> list[Any]:
    source = device.source
    if source is None:
        return []
    mode = source.mode if device.type in ("unix", "tcp") else None
    found = [source.path, source.host, source.service, source.channel, mode]
    return found if any(found) else []


def _same_input(wanted: Device, other: Device) -> bool:
    one, two = wanted.element, other.element
    bus = one.bus or ("usb" if one.type == "tablet" else "ps2")
    return bool(one.type == two.type and bus == two.bus and _placed_alike(wanted, other))


def _same_rng(wanted: Device, other: Device) -> bool:
    one, two = wanted.element, other.element
    if one.model != two.model or _rate(one) != _rate(two):
        return False
    first, second = one.backend, two.backend
    if (first and first.model) != (second and second.model):
        return False
    if first is not None and first.model == "random" and (first.device or "/dev/random") != second.device:
        return False
    return _placed_alike(wanted, other)


def _rate(rng: Any) -> tuple[int, int]:
    return (rng.rate.bytes or 0, rng.rate.period or 0) if rng.rate is not None else (0, 0)


def _same_hostdev(wanted: Device, other: Device) -> bool:
    one, two = wanted.node(), other.node()
    names = ("mode", "type")
    return [one.get(n) for n in names] == [two.get(n) for n in names] and _host_source(one) & _host_source(two) != set()


def _host_source(node: Any) -> set[tuple[Any, ...]]:
    """By what a device of the host may be known: its place, or who made it."""
    source = node.find("source")
    found: set[tuple[Any, ...]] = set()
    for place in source.findall("address") if source is not None else ():
        numbers = {name: _integer(text) for name, text in place.attrib.items() if name != "type"}
        found.add(("address", *sorted({"domain": 0, **numbers}.items())))
    if source is not None and source.find("vendor") is not None and source.find("product") is not None:
        found.add(("made", *(_integer(source.find(name).get("id") or "0") for name in ("vendor", "product"))))
    return found


def _integer(text: str) -> Any:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _same_watchdog(wanted: Device, other: Device) -> bool:
    return bool(wanted.element.model == other.element.model and _placed_alike(wanted, other))


def _same_text(wanted: Device, other: Device) -> bool:
    """Whether both say the same, apart from where the device is and what it is called."""
    return _bare(wanted) == _bare(other) and _placed_alike(wanted, other)


def _bare(device: Device) -> str:
    node = device.node()
    for child in [*node.findall("alias"), *node.findall("address")]:
        node.remove(child)
    return etree.tostring(node, method="c14n").decode().replace("\n", "").replace(" ", "")


_SAME: dict[str, Callable[[Device, Device], bool]] = {
    "disk": lambda wanted, other: wanted.element.dev == other.element.dev,
    "controller": _same_controller,
    "chr": _same_character,
    "input": _same_input,
    "rng": _same_rng,
    "hostdev": _same_hostdev,
    "watchdog": _same_watchdog,
    "graphics": lambda wanted, other: wanted.element.type == other.element.type,
}


# -- changing a definition


def check_alias(document: Domain, device: Device) -> None:
    """Raises ConfigUnsupported where the user's own alias is another's."""
    if device.alias.startswith("ua-") and by_alias(document, device.alias) is not None:
        raise ConfigUnsupported(f"non unique alias detected: {device.alias}", domain=ErrorDomain.DOMAIN)


def attach(definition: Domain, device: Device) -> None:
    """Put a device into a definition, which is to be prepared afterwards. Raises OperationInvalid where there is one
    already, OperationUnsupported for a kind that cannot be added."""
    kind, element = device.kind, device.element
    if kind not in _PERSISTENT:
        raise OperationUnsupported(f"persistent attach of device '{kind}' is not supported", domain=ErrorDomain.QEMU)
    check_alias(definition, device)
    taken = None
    if isinstance(element, Disk):
        if find(definition, device) is not None:
            taken = f"target {element.dev} already exists"
    elif isinstance(element, Controller):
        if element.index is not None and find(definition, device) is not None:
            taken = f"controller index='{element.index}' already exists"
    elif kind == "chr":
        check_character(definition, device)
    elif kind in _ONE and family(definition, device.spec):
        taken = _ONE[kind]
    elif kind in ("hostdev", "shmem") and find(definition, device) is not None:
        taken = "device is already in the domain configuration"
    elif kind == "filesystem" and _target(device) in [
        _target(Device(device.spec, o)) for o in family(definition, device.spec)
    ]:
        taken = "Target already exists"
    if taken is not None:
        raise OperationInvalid(taken, domain=ErrorDomain.QEMU)
    insert(definition, device)
    count_memory(definition, device)


def _target(device: Device) -> str | None:
    target = device.node().find("target")
    return None if target is None else target.get("dir")


def check_character(document: Domain, device: Device) -> None:
    """Raises OperationUnsupported, OperationInvalid where a character device cannot be added."""
    target = device.element.target
    if device.tag == "console" and (target is None or target.type in (None, "serial")):
        raise OperationUnsupported("attaching serial console is not supported", domain=ErrorDomain.QEMU)
    if find(document, device) is not None:
        raise OperationInvalid("chardev already exists", domain=ErrorDomain.QEMU)


_MISSING = {
    "filesystem": "no matching filesystem device was found",
    "rng": "no matching RNG device was found",
    "memory": "matching memory device was not found",
    "redirdev": "no matching redirdev was not found",
    "shmem": "matching shmem device was not found",
    "watchdog": "domain has no watchdog",
    "input": "matching input device not found",
}


def detach(definition: Domain, wanted: Device) -> None:
    """Take a device out of a definition. Raises DeviceMissing where there is none such, OperationUnsupported for a kind
    that cannot be taken out."""
    kind = wanted.kind
    if kind not in _PERSISTENT:
        raise OperationUnsupported(f"persistent detach of device '{kind}' is not supported", domain=ErrorDomain.QEMU)
    target = getattr(wanted.element, "target", None)
    if wanted.tag == "console" and (target is None or target.type in (None, "serial")):
        raise OperationInvalid("detaching serial console is not supported", domain=ErrorDomain.QEMU)
    if kind == "watchdog":
        found = next((Device(wanted.spec, e) for e in family(definition, wanted.spec)), None)
    else:
        found = find(definition, wanted)
    if found is None:
        if kind == "chr":
            raise InvalidArg("device not present in domain configuration", domain=ErrorDomain.QEMU)
        if kind == "vsock":
            raise OperationFailed("matching vsock device not found", domain=ErrorDomain.QEMU)
        missing = _MISSING.get(kind, "device not present in domain configuration")
        text = f"no target device {wanted.element.dev}" if kind == "disk" else missing
        raise DeviceMissing(text, domain=ErrorDomain.QEMU)
    remove(definition, found)
    count_memory(definition, found, -1)


def update(definition: Domain, device: Device) -> None:
    """Put a device in the place of the one that it means. Raises InvalidArg, DeviceMissing where there is none such,
    OperationUnsupported for a kind that cannot be changed."""
    kind = device.kind
    if kind not in ("disk", "graphics", "interface", "memory"):
        raise OperationUnsupported(f"persistent update of device '{kind}' is not supported", domain=ErrorDomain.QEMU)
    found = same_memory(definition, device) if kind == "memory" else find(definition, device)
    if found is None:
        texts = {
            "disk": f"target {getattr(device.element, 'dev', '')} doesn't exist.",
            "graphics": f"cannot find existing graphics type '{getattr(device.element, 'type', '')}' device to modify",
            "memory": "memory not found",
        }
        raise InvalidArg(texts[kind], domain=ErrorDomain.QEMU)
    if isinstance(device.element, Interface):
        device.element.mac = device.element.mac or found.element.mac
    if hasattr(device.element, "address") and device.element.address is None:
        device.element.address = found.element.address
    replace(definition, found, device.element)


def same_memory(document: Domain, wanted: Device) -> Device | None:
    """The memory device with the same alias or place."""
    others = [Device(wanted.spec, element) for element in family(document, wanted.spec)]
    for other in others:
        if wanted.alias and other.alias == wanted.alias:
            return other
    for other in others:
        if wanted.address is not None and _same_address(wanted.address, other.address):
            return other
    return None
