"""Changing a guest's document: parts that are edited, added, removed or made for themselves.

virt-install's families make new parts, with defaults of their own; what an edit says is put over a part that is there
instead, and nothing else of it changes.
"""

from __future__ import annotations

from typing import Any

from guesthouse.cli.virt_install import device_families
from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.family import Words, take_edits
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import Edit, edited
from guesthouse.cli.virt_install.suboptions import spelled, switch, unknown
from guesthouse.cli.virt_xml import selection
from guesthouse.model.devices.chardev import Console, Serial
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics, Video
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.redirected import Redirdev
from guesthouse.model.domain import Cpu, CpuModel, Domain, Seclabel
from guesthouse.model.fields import Element, find_option
from guesthouse.provision import defaults, host_devices
from guesthouse.provision.host import Host, Offer
from guesthouse.provision.request import Request
from guesthouse.provision.storage import NewVolume, Planner, StorageError, Wish

_PASSED = ("host-passthrough", "host-model", "maximum")


class Editor:
    """Changes ``request.domain``. Disks that are added may want volumes: ``request.volumes``, which are yet to be
    made."""

    def __init__(self, request: Request, host: Host, planner: Planner) -> None:
        self.request = request
        self.host = host
        self.planner = planner

    @property
    def domain(self) -> Domain:
        return self.request.domain

    # -- edit

    def edit(self, name: str, selector: str, texts: list[str]) -> list[Element]:
        """Do what ``texts`` say of the parts that ``selector`` means; returns them as they are now. Raises UsageError
        and the model's errors."""
        family = FAMILIES.get(name)
        if name == "xml" or family is None:
            return self._edit_document(name, selector, texts)
        if not family.at:
            if selector not in ("", "1", "all"):
                raise UsageError(f"'--edit {selector}' doesn't make sense with --{name}, just use empty '--edit'")
            for text in texts:
                if "clearxml" in family.words(text):
                    raise UsageError(f"Don't know how to clearxml for --{name}")
                self._edit_guest(name, text)
            return []
        if not selection.is_list(name) and not selection.parts(self.domain, name):
            selected: list[Any] = [None]
            if selector not in ("", "1", "all"):
                selected = selection.select(self.domain, name, "edit", selector, self.host)
        else:
            selected = selection.select(self.domain, name, "edit", selector, self.host)
        found = []
        for part in selected:
            for text in texts:
                part = self._edit_part(name, part, text)
            if part is not None:
                found.append(part)
        return found

    def _edit_document(self, name: str, selector: str, texts: list[str]) -> list[Element]:
        """--xml: edits by XPath of the whole document."""
        if name != "xml":
            raise UsageError(f"--{name} cannot be edited yet")
        if selector not in ("", "1", "all"):
            raise UsageError(f"'--edit {selector}' doesn't make sense with --xml, just use empty '--edit'")
        from guesthouse.cli.virt_install.suboptions import words_of

        keys = ("xpath.set", "xpath.value", "xpath.create", "xpath.delete")
        edits = []
        for text in texts:
            if not text.startswith("xpath."):
                edits.append(Edit(set=text))
                continue
            words = dict(words_of("xml", text, "", keys, keys))
            for key in words:
                if key not in keys:
                    raise unknown("xml", key, keys)
            edits.append(Edit(**{key.partition(".")[2]: value or "" for key, value in words.items()}))
        self.request.domain = edited(self.domain, edits)
        return []

    def _edit_guest(self, name: str, text: str) -> None:
        """What is no part of its own: memory, processors, events, what the guest is called."""
        family = FAMILIES[name]
        words = family.words(text)
        empty = [key for key, value in words.items() if value == ""]
        for key in empty:
            del words[key]
            _unset(self.domain, spelled(key, family.aliases))
        system = self.request.os
        backing = self.domain.memory_backing
        if backing is not None and "hugepages" in words and not switch(name, "hugepages", words["hugepages"]):
            backing.hugepages = None
        family.apply(self.request, words, text)
        if self.request.os is not system:
            self._name_system()

    def _name_system(self) -> None:
        """Write down which operating system it is, in the place of what was written there."""
        from guesthouse.provision import osinfo

        metadata: Any = self.domain.metadata
        box = metadata.find(f"{{{osinfo.NAMESPACE}}}libosinfo") if metadata is not None else None
        if box is not None:
            box.getparent().remove(box)
        twin = Request(Domain(type=""), self.request.os)
        defaults.fill_metadata(twin)
        made_here: Any = twin.domain.metadata
        if metadata is None or made_here is None:
            self.domain.metadata = metadata if made_here is None else made_here
        else:
            metadata.extend(list(made_here))

    def _edit_part(self, name: str, part: Any, text: str) -> Any:
        """Edit one part (None: one that the guest does not have yet); returns it, None where it is gone."""
        family = FAMILIES[name]
        words = _without_clear(name, text)
        clear = words.pop("clearxml", None) == "yes"
        edits = take_edits(words)
        empty = [key for key, value in words.items() if value == ""]
        said = {key: value for key, value in words.items() if value != ""}
        if clear and part is not None:
            if not words and not edits:
                selection.remove(self.domain, name, part)
                return None
            blank = type(part)()
            selection.replace(self.domain, name, part, blank)
            part = blank
        for key in empty:
            if part is None:
                continue
            if name == "disk" and key == "path":
                part.source = None
            elif find_option(type(part), spelled(key, family.aliases)) is not None:
                _unset(part, spelled(key, family.aliases))
            else:
                known = family.keys()
                if key not in known:
                    raise unknown(name, key, known)
        if said:
            if selection.is_list(name) or (isinstance(part, Element) and family.at.startswith("dev.")):
                self._put_over(name, part, said, text)
            else:
                family.apply(self.request, dict(said), text)
                self._finish_single(name)
                found = selection.parts(self.domain, name)
                part = found[0] if found else None
        if edits and part is not None:
            changed = edited(part, edits)
            selection.replace(self.domain, name, part, changed)
            part = changed
        return part

    def _put_over(self, name: str, part: Any, words: Words, text: str) -> None:
        """Set what ``words`` say on ``part``."""
        family = FAMILIES[name]
        before = part.copy()
        planner = self.planner if name == "disk" else None
        new = made(name, dict(words), text, planner, self.host)
        if new is None:
            raise UsageError(f"--{name} {text}: there is nothing to set")
        base = made(name, {}, "", None) or type(part)()
        for key in words:
            key = spelled(key, family.aliases)
            option = find_option(type(part), key)
            value = selection.read(new, key) if option is not None else None
            if option is None or value is None:
                continue
            try:
                _write(part, key, value)
            except KeyError:
                continue
        _overlay(part, base, new)
        order = getattr(part, "boot", None)
        if order is not None and order.order is not None and order != getattr(before, "boot", None):
            self._make_room(part, order.order)
        if isinstance(part, Interface):
            if part.type != before.type or (part.source is not None and "source" in words):
                part.source = new.source
        elif isinstance(part, Disk):
            _finish_disk(part, new, words)
        elif isinstance(part, Graphics):
            self._finish_graphics(part, before, words)
        elif isinstance(part, Video):
            kinds = [each.model.type if each.model is not None else None for each in (before, part)]
            if kinds[0] == "qxl" != kinds[1] and part.model is not None:
                part.model.ram = part.model.vram64 = part.model.vgamem = None
        elif isinstance(part, Redirdev):
            if "server" in words and part.sources:
                part.sources[0].mode = part.sources[0].mode or "connect"
        elif hasattr(part, "sources") and getattr(part, "type", None) != getattr(before, "type", None):
            part.sources = new.sources

    def _make_room(self, part: Any, order: int) -> None:
        """Let the devices that were to boot at ``order`` and right behind it do so later. Orders of devices and the
        list of kinds of devices exclude each other."""
        if self.domain.os is not None:
            self.domain.os.boots = []
        dev = self.domain.dev
        bootable: list[Any] = [*dev.disks, *dev.interfaces, *dev.redirdevs, *dev.hostdevs]
        others = [device for device in bootable if device is not part]
        taken = {device.boot.order: device for device in others if device.boot is not None}
        moved: list[Any] = []
        while order + len(moved) in taken:
            moved.append(taken[order + len(moved)].boot)
        for boot in moved:
            boot.order += 1

    def _finish_single(self, name: str) -> None:
        """What virt-install does of such options once the whole guest is known."""
        request = self.request
        if name == "cpu" and request.cpu_mode is not None:
            mode, request.cpu_mode = request.cpu_mode, None
            old = self.domain.cpu
            if mode in _PASSED:
                self.domain.cpu = Cpu(mode=mode, check=old.check if old is not None and mode != "maximum" else None)
                if old is not None:
                    new = self.domain.cpu
                    new.topology, new.numa, new.cache = old.topology, old.numa, old.cache
                    new.match = None
                    new.features = [feature for feature in old.features if feature.policy is not None]
            elif mode in ("host-model-only", "host-copy") and self.host.cpu_model:
                self.domain.cpu = Cpu(mode="custom", match="exact", model=CpuModel(name=self.host.cpu_model))
            else:
                self.domain.cpu = None
        if name == "cpu" and self.domain.cpu is not None:
            latest = {feature.name: feature for feature in self.domain.cpu.features}
            self.domain.cpu.features = [latest[feature_name] for feature_name in latest]
        if name == "launchSecurity" and request.security is not None:
            self.domain.launch_security = request.security
        if name == "boot" and request.uefi is not None:
            boot = request.boot
            if request.uefi:
                boot.firmware, boot.loader, boot.nvram = "efi", None, None
            else:
                boot.firmware = boot.firmware_features = boot.loader = boot.nvram = None

    def _finish_graphics(self, part: Graphics, before: Graphics, words: Words) -> None:
        if part.listens and part.listens[0].type == "none" and before.listens != part.listens:
            part.port = part.tls_port = part.autoport = part.listen = None
            part.listens = [type(part.listens[0])(type="none")]
        elif {"port", "tlsport", "tlsPort"} & words.keys() and (part.port or 0, part.tls_port or -1) != (-1, -1):
            part.autoport = None
        if before.type == "spice" and part.type != "spice":
            self._without_spice()
        elif before.type != "spice" and part.type == "spice":
            request = self.request
            request.offer = request.offer or _offer_of(self.domain, self.host)
            defaults.fill_spice(request, self.host.domain_caps(request.offer, request.machine or None))

    def _without_spice(self) -> None:
        """What goes with a spice display goes with the last one."""
        dev = self.domain.dev
        if self.request.has_spice:
            return
        dev.channels = [channel for channel in dev.channels if channel.type not in ("spicevmc", "spiceport")]
        dev.redirdevs = [device for device in dev.redirdevs if device.type != "spicevmc"]
        dev.audios = [audio for audio in dev.audios if audio.type != "spice"]
        dev.smartcards = [card for card in dev.smartcards if card.type != "spicevmc"]

    # -- add and remove

    def add(self, name: str, texts: list[str]) -> list[Element]:
        """Add what ``texts`` say, complete; returns it. Raises UsageError and what defaults raise."""
        before = {id(part) for part in selection.parts(self.domain, name)}
        for text in texts:
            if name == "disk":
                self._add_disk(text)
            else:
                FAMILIES[name].add_to(self.request, text)
        added = [part for part in selection.parts(self.domain, name) if id(part) not in before]
        self.complete(added)
        return added

    def complete(self, parts: list[Element]) -> None:
        """Fill in what virt-install would."""
        request = self.request
        request.has_virtio = self.host.is_qemu
        request.offer = request.offer or _offer_of(self.domain, self.host)
        caps = self.host.domain_caps(request.offer, request.machine or None)
        for device, named in request.named:
            host_devices.fill(device, named, self.host)
        request.named.clear()
        for part in parts:
            if isinstance(part, Seclabel):
                part.type = part.type or ("static" if part.label else "dynamic")
            elif isinstance(part, Hostdev):
                host_devices.complete(part)
            defaults.fill_device(request, self.host, caps, part)

    def _add_disk(self, text: str) -> None:
        family = FAMILIES["disk"]
        words = family.words(text)
        edits = take_edits(words)
        found = device_families.disk(self.request, words, text)
        if found is None:
            return
        disk, wish = found
        _attach(self.planner, disk, wish, self.domain.name or "", self.request.volumes)
        self.domain.dev.disks.append(edited(disk, edits) if edits else disk)

    def remove(self, name: str, text: str) -> list[Element]:
        """Remove what ``text`` selects; returns it."""
        chosen = selection.select(self.domain, name, "remove-device", text, self.host)
        for part in list(chosen):
            twin = self._twin(part)
            if twin is not None:
                chosen.append(twin)
        for part in chosen:
            for each in ("console",) if isinstance(part, Console) else (name,):
                selection.remove(self.domain, each, part)
        if name == "graphics":
            self._without_spice()
        return chosen

    def _twin(self, part: Element) -> Console | None:
        """The console that libvirt shows beside a serial port: the same thing once more."""
        consoles = self.domain.dev.consoles
        if not isinstance(part, Serial) or not consoles:
            return None
        kind = consoles[0].target.type if consoles[0].target is not None else None
        return consoles[0] if consoles[0].type == part.type and kind in (None, "serial") else None

    def build(self, name: str, texts: list[str]) -> list[Element]:
        """What ``texts`` give by themselves."""
        if selection.is_list(name):
            return self.add(name, texts)
        twin = Editor(Request(Domain(type=self.domain.type), self.request.os), self.host, self.planner)
        for text in texts:
            FAMILIES[name].add_to(twin.request, text)
            twin._finish_single(name)
        return selection.parts(twin.domain, name)


def made(name: str, words: Words, text: str, planner: Planner | None, host: Host | None = None) -> Any:
    """What the family ``name`` makes of ``words`` by itself; None where that is nothing. ``host`` has the devices that
    are named."""
    request = Request(Domain(type=""))
    if name == "disk":
        wanted = dict(words)
        path = wanted.get("path")
        found = device_families.disk(request, wanted, text)
        if found is None:
            return None
        disk, wish = found
        if planner is not None and path:
            wish.size = wish.size or 0.001  # one that is not there yet is only named here
            _attach(planner, disk, wish, "", [])
        return disk
    try:
        FAMILIES[name].apply(request, dict(words), text)
    except UsageError:
        if words:
            raise
        return None
    if host is not None:
        for device, named in request.named:
            host_devices.fill(device, named, host)
    found_parts = selection.parts(request.domain, name)
    return found_parts[-1] if found_parts else None


def _attach(planner: Planner, disk: Disk, wish: Wish, guest: str, volumes: list[NewVolume]) -> None:
    try:
        planner.attach(disk, wish, guest, volumes)
    except StorageError as error:
        raise UsageError(f"Error: --disk: {error.detail}") from None


def _offer_of(domain: Domain, host: Host) -> Offer:
    """What the host offers to guests of this kind; one that offers none such is asked no more."""
    from guesthouse.errors import GuesthouseError

    kind = domain.os.type if domain.os is not None else None
    try:
        return host.choose(kind.value if kind else None, domain.arch, domain.type, domain.machine or None)
    except GuesthouseError:
        return Offer("hvm", domain.arch, domain.type or "", domain.dev.emulator or "", {}, frozenset())


def _without_clear(name: str, text: str) -> Words:
    """The words of ``text``, "clearxml" as "yes" or not there."""
    family = FAMILIES[name]
    words = family.words(text)
    if "clearxml" in words and not switch(name, "clearxml", words.pop("clearxml")):
        return words
    if "clearxml" in family.words(text):
        words["clearxml"] = "yes"
    return words


def _finish_disk(part: Disk, new: Disk, words: Words) -> None:
    """Another path takes the old one's place, and with it the way that it is stored."""
    if "path" in words:
        part.type = new.type
        source, old = new.source, part.source
        if source is not None and old is not None:
            old.file, old.dev, old.dir = source.file, source.dev, source.dir
            old.protocol = old.name = old.pool = old.volume = None
            old.hosts = []
    perms = words.get("perms")
    if perms is not None:
        part.readonly, part.shareable = new.readonly, new.shareable


def _unset(part: Element, key: str) -> None:
    """Take back what is at ``key``, and what becomes empty with it. Raises UsageError for no such key."""
    found = find_option(type(part), key)
    if found is None:
        raise UsageError(f"Unknown option '{key}'")
    option, numbers = found
    _take(part, option.path, iter(numbers))


def _take(at: Any, path: tuple[str, ...], numbers: Any) -> None:
    field, *rest = path
    if not rest:
        setattr(at, field, at._defaults.get(field))
        return
    below = getattr(at, field)
    if rest[0] == "0":
        index = next(numbers)
        if index < len(below):
            item = below[index]
            _take(item, tuple(rest[1:]), numbers)
            if item == type(item)():
                below.remove(item)
        return
    if below is None:
        return
    _take(below, tuple(rest), numbers)
    if below == type(below)():
        setattr(at, field, None)


def _write(part: Element, key: str, value: Any) -> None:
    """Set the value at ``key`` as it is, making what is missing on the way."""
    found = find_option(type(part), key)
    assert found is not None
    option, numbers = found
    indices = iter(numbers)
    at: Any = part
    for field in option.path[:-1]:
        if field == "0":
            continue
        below = getattr(at, field)
        spec = next(spec for spec in at.SPECS if spec.name == field)
        assert spec.element is not None
        if spec.form == "children":
            index = next(indices)
            while len(below) <= index:
                below.append(spec.element())
            below = below[index]
        elif below is None:
            below = spec.element()
            setattr(at, field, below)
        at = below
    setattr(at, option.path[-1], value)


def _overlay(part: Any, base: Any, new: Any) -> None:
    """Put on ``part`` what ``new`` has otherwise than ``base``."""
    for spec in part.SPECS:
        ours, theirs = getattr(base, spec.name, None), getattr(new, spec.name)
        if theirs == ours or theirs is None or theirs == []:
            continue
        if spec.form == "child":
            mine = getattr(part, spec.name)
            if mine is None:
                setattr(part, spec.name, theirs.copy())
            else:
                _overlay(mine, ours if ours is not None else type(theirs)(), theirs)
        elif spec.form == "children":
            mine = getattr(part, spec.name)
            for index, item in enumerate(theirs):
                if index >= len(mine):
                    mine.append(item.copy())
                else:
                    was = ours[index] if ours and index < len(ours) else type(item)()
                    _overlay(mine[index], was, item)
        else:
            setattr(part, spec.name, theirs)
    for name, text in new.extra_attributes.items():
        if base.extra_attributes.get(name) != text:
            part.extra_attributes[name] = text
    for node in new.extra_nodes:
        others = [other for other in part.extra_nodes if other.tag == node.tag]
        for other in others:
            part.extra_nodes.remove(other)
        part.extra_nodes.append(node)
