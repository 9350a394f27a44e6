"""Reads a file of guests: its keys, and the values that they must have; says all that is wrong with it at once."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from guesthouse import units
from guesthouse.errors import GuesthouseError, InvalidArg
from guesthouse.model.network import IPInterface
from guesthouse.model.port_forward import PortForward
from guesthouse.provision import cloudinit
from guesthouse.provision.compose.definition import Card, GuestWish, NetworkWish, Project, VolumeWish
from guesthouse.provision.compose.document import ComposeError, Value, Wrong, near, parse
from guesthouse.provision.words import published, size
from guesthouse.units import GIB, MIB

#: Where a file is looked for, in this order.
FILES = ("guests.yaml", "guests.yml")
MODES = ("nat", "route", "open", "isolated", "bridge")
#: What makes a guest ready for those that depend on it; besides, "port:N".
READY = ("started", "address", "agent")
_RESTART = ("no", "on-failure", "always", "unless-stopped")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_GUEST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_OWN_WORDS = ("user", "none")


def read(path: Path, variables: Mapping[str, str], name: str | None = None) -> Project:
    """The project in the file ``path``; ``name`` stands instead of its own. Raises ComposeError with all that is
    wrong."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ComposeError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ComposeError(f"{path} is no text") from None
    return from_text(text, path, variables, name)


def from_text(text: str, path: Path, variables: Mapping[str, str], name: str | None = None) -> Project:
    """As :func:`read`, of a text; files that it names are beside ``path``."""
    root = parse(text, str(path), variables)
    try:
        project = _Reader(root, path, name).project()
    except Wrong as problem:
        root.source.note(problem)
        root.source.check()
        raise
    root.source.check()
    return project


def project_name(text: str) -> str:
    """Raises InvalidArg where ``text`` cannot be the name of a project."""
    if not _PROJECT.fullmatch(text):
        raise InvalidArg(f"'{text}' cannot be the name of a project: small letters, digits, '-' and '_'")
    return text


def _from_folder(path: Path) -> str:
    found = re.sub(r"[^a-z0-9_-]", "", path.absolute().parent.name.lower()).lstrip("-_")[:40]
    return found or "guests"


class _Reader:
    def __init__(self, root: Value, path: Path, name: str | None) -> None:
        self._root, self._path, self._given = root, path, name
        self._whole = Project(name or _from_folder(path), str(path))

    def project(self) -> Project:
        entries = self._root.entries()
        whole = self._whole
        if "name" in entries and self._given is None:
            whole.name = entries["name"].made(project_name)
        parts: dict[str, Callable[[Value], Any]] = {
            "name": lambda value: value.made(project_name),
            "networks": lambda value: self._each(value, self._network, whole.networks),
            "volumes": lambda value: self._each(value, self._volume, whole.volumes),
            "guests": lambda value: value.entries(),
        }
        found = self._root.read(
            parts, {"services": "guests", "machines": "guests", "vms": "guests", "disks": "volumes"}
        )
        if "guests" not in found:
            if not self._root.source.problems:
                raise self._root.wrong("there is nothing below 'guests:'")
            return whole
        self._each(entries["guests"], self._guest, whole.guests)
        self._names(whole.networks, entries.get("networks"))
        self._names(whole.volumes, entries.get("volumes"))
        self._names(whole.guests, entries["guests"])
        self._ports(entries["guests"])
        self._in_order(entries["guests"])
        return whole

    def _each(self, value: Value, read: Callable[[str, Value], Any], into: dict[str, Any]) -> None:
        for key, each in value.entries().items():
            if key.startswith("x-"):
                continue
            try:
                if not _KEY.fullmatch(key):
                    raise each.wrong("cannot be a name: letters, digits, '.', '_' and '-'")
                into[key] = read(key, each)
            except Wrong as problem:
                self._root.source.note(problem)

    def _names(self, wishes: Mapping[str, Any], value: Value | None) -> None:
        """No two are called the same."""
        seen: dict[str, str] = {}
        for key, wish in wishes.items():
            if wish.name in seen and value is not None:
                problem = value.entries()[key].wrong(f"is called '{wish.name}' on the host, as '{seen[wish.name]}' is")
                self._root.source.note(problem)
            seen[wish.name] = key

    def _called(self, key: str) -> str:
        return f"{self._whole.name}-{key}"

    # -- networks and volumes

    def _network(self, key: str, value: Value) -> NetworkWish:
        wish = NetworkWish(key, self._called(key))
        if not value.kind:
            return wish
        entries = value.entries()
        found = value.read(
            {
                "name": Value.word,
                "external": Value.truth,
                "mode": lambda each: each.choice(*MODES),
                "subnet": lambda each: [item.made(_subnet) for item in each.items()],
                "dhcp": Value.truth,
                "domain": Value.word,
                "bridge": Value.word,
            },
            {"driver": "mode", "ipam": "subnet", "subnets": "subnet", "forward": "mode", "type": "mode"},
        )
        if found.get("external"):
            self._alone(entries, found, ("name", "external"))
            return NetworkWish(key, found.get("name", key), external=True)
        found["subnets"] = found.pop("subnet", [])
        for name, given in found.items():
            setattr(wish, name, given)
        if wish.mode == "bridge":
            self._alone(entries, found, ("name", "external", "mode", "bridge"))
            if not wish.bridge:
                raise value.wrong("mode bridge needs 'bridge:', the name of a bridge of the host")
        return wish

    def _alone(self, entries: dict[str, Value], found: dict[str, Any], allowed: tuple[str, ...]) -> None:
        for name in entries:
            if name not in allowed and name in found:
                why = "an external one is left as it is" if found.get("external") else "the host's bridge decides that"
                self._root.source.note(entries[name].wrong(f"cannot be said here: {why}"))

    def _volume(self, key: str, value: Value) -> VolumeWish:
        wish = VolumeWish(key, "")
        found = value.read(
            {
                "name": Value.word,
                "external": Value.truth,
                "size": lambda each: each.made(lambda text: int(size(text, GIB) * GIB)),
                "pool": Value.word,
                "format": lambda each: each.choice("qcow2", "raw"),
            },
            {"driver": "pool", "capacity": "size", "type": "format"},
        )
        for name, given in found.items():
            setattr(wish, name, given)
        if wish.external:
            wish.name = wish.name or key
        elif "size" not in value.entries():
            raise value.wrong("a volume needs a size, such as 'size: 10G'")
        wish.name = wish.name or f"{self._called(key)}.{'img' if wish.format == 'raw' else 'qcow2'}"
        return wish

    # -- guests

    def _guest(self, key: str, value: Value) -> GuestWish:
        readers: dict[str, Callable[[Value], Any]] = {
            "image": Value.word,
            "name": lambda each: each.made(_guest_name),
            "hostname": lambda each: each.made(_guest_name),
            "arch": Value.word,
            "cpus": Value.number,
            "memory": lambda each: each.made(_memory),
            "disk": lambda each: each.made(lambda text: size(text, GIB)),
            "networks": self._cards,
            "volumes": lambda each: [self._known(item, self._whole.volumes, "volumes") for item in each.items()],
            "publish": lambda each: each.items(),
            "ssh_keys": lambda each: [found for item in each.items() for found in self._keys(item)],
            "password_file": lambda each: self._file(each),
            "packages": Value.words,
            "user_data": lambda each: self._document("user-data", each),
            "vendor_data": lambda each: self._document("vendor-data", each),
            "network_config": lambda each: self._document("network-config", each),
            "depends_on": self._waits,
            "wait": self._ready,
            "restart": lambda each: each.choice(*_RESTART),
            "autostart": Value.truth,
            "virt_type": lambda each: each.choice("kvm", "qemu"),
        }
        found = value.read(readers, _FOREIGN)
        entries = value.entries()
        if "image" not in entries:
            raise value.wrong(
                "a guest needs an image, such as 'image: debian-12' (guest image list, guest image search)"
            )
        name = found.pop("name", self._called(key))
        if not _GUEST.fullmatch(name):
            raise value.wrong(f"'{name}' cannot be the name of a guest and a host: letters, digits, '-' and '.'")
        wish = GuestWish(
            key,
            name,
            found.pop("image", ""),
            hostname=found.pop("hostname", name if name != self._called(key) else key),
        )
        if not _GUEST.fullmatch(wish.hostname):
            raise value.wrong(f"'{wish.hostname}' cannot be the name of a host: give one by 'hostname:'")
        wish.cards = found.pop("networks", [Card("default")])
        wish.waits = found.pop("depends_on", {})
        wish.ready, wish.ready_timeout = found.pop("wait", (wish.ready, wish.ready_timeout))
        for port in found.pop("publish", []):
            try:
                wish.publish.append(port.made(lambda text: published(text, name)))
            except Wrong as problem:
                self._root.source.note(problem)
        for document in ("user_data", "vendor_data", "network_config"):
            if document in found:
                wish.documents[document.replace("_", "-")] = found.pop(document)
        for field_name, given in found.items():
            setattr(wish, field_name, given)
        if "autostart" not in found:
            wish.autostart = wish.restart in ("always", "unless-stopped")
        if wish.publish and not any(
            card.where.startswith("network=") or card.where == "default" for card in wish.cards
        ):
            raise entries["publish"].wrong("ports can be published on a virtual network alone")
        return wish

    def _known(self, value: Value, wishes: Mapping[str, Any], where: str) -> str:
        key = value.word()
        if key not in wishes:
            raise value.wrong(f"there is no '{key}' below '{where}:'{near(key, wishes)}")
        return key

    def _cards(self, value: Value) -> list[Card]:
        if value.kind in ("text", "list"):
            cards = [self._card(item.word(), item) for item in value.items()]
        else:
            cards = []
            for word, each in value.entries().items():
                card = self._card(word, each)
                if each.kind:
                    found = each.read(
                        {"mac": lambda item: item.made(_mac), "address": lambda item: item.made(ipaddress.ip_address)},
                        {"ipv4_address": "address", "ipv6_address": "address", "mac_address": "mac", "ip": "address"},
                    )
                    card.mac, card.address = found.get("mac"), found.get("address")
                    self._fits(card, each)
                cards.append(card)
        places = [card.where for card in cards]
        if len(set(places)) != len(places):
            raise value.wrong("a guest is on each network once")
        if "none" in places:
            if len(cards) > 1:
                raise value.wrong("'none' stands alone")
            return []
        return cards

    def _card(self, word: str, value: Value) -> Card:
        if word in self._whole.networks:
            return Card(f"network={self._whole.networks[word].name}", word)
        if word == "default" or word in _OWN_WORDS or re.fullmatch(r"bridge=[^\s/]{1,15}", word):
            return Card(word)
        others = ", ".join(("default", "bridge=NAME", *_OWN_WORDS))
        raise value.wrong(
            f"there is no '{word}' below 'networks:'{near(word, self._whole.networks)}; besides: {others}"
        )

    def _fits(self, card: Card, value: Value) -> None:
        if card.address is None:
            return
        network = self._whole.networks.get(card.network or "")
        if network is None or network.external or not network.dhcp or network.mode == "bridge":
            raise value.wrong("an address can be given on a network of this file that has DHCP")
        if not any(card.address in subnet.network for subnet in network.subnets):
            raise value.wrong(f"the address {card.address} is in no subnet of '{card.network}'")
        if any(card.address == subnet.ip for subnet in network.subnets):
            raise value.wrong(f"the address {card.address} is the host's own")

    def _beside(self, text: str) -> Path:
        return self._path.absolute().parent / Path(text).expanduser()

    def _file(self, value: Value) -> str:
        path = self._beside(value.word())
        if not path.is_file():
            raise value.wrong(f"there is no file '{path}'")
        return str(path)

    def _keys(self, value: Value) -> list[str]:
        text = value.word()
        if re.match(r"(ssh|ecdsa|sk)-\S+ ", text):
            return [text]
        return list(value.made(lambda word: cloudinit.read_keys(str(self._beside(word)))))

    def _document(self, name: str, value: Value) -> str:
        """A document of cloud-init's: as it stands here, or in a file."""
        if value.kind == "map":
            try:
                text = json.dumps(value.plain(), indent=1, default=str)
            except (ValueError, RecursionError) as error:
                raise value.wrong(f"cannot be given to cloud-init: {error}") from None
            return ("" if name == "network-config" else "#cloud-config\n") + text + "\n"
        text = value.raw()
        if "\n" not in text.strip() and not text.startswith("#"):
            path = self._beside(value.text())
            try:
                text = path.read_text()
            except OSError as error:
                raise value.wrong(f"the file '{path}' cannot be read: {error.strerror}") from None
        if name != "network-config":
            try:
                cloudinit.check_user_data(text)
            except InvalidArg as error:
                raise value.wrong(error.detail) from None
        return text

    def _waits(self, value: Value) -> dict[str, str | None]:
        if value.kind in ("text", "list"):
            return {item.word(): None for item in value.items()}
        found: dict[str, str | None] = {}
        for key, each in value.entries().items():
            given = each.read({"condition": lambda item: item.made(_condition)}, {}) if each.kind else {}
            found[key] = given.get("condition")
        return found

    def _ready(self, value: Value) -> tuple[str, int]:
        if value.kind == "text":
            return value.made(_condition), GuestWish.ready_timeout
        found = value.read({"for": lambda item: item.made(_condition), "timeout": Value.number}, {"until": "for"})
        return found.get("for", "address"), found.get("timeout", GuestWish.ready_timeout)

    # -- all of them together

    def _ports(self, value: Value) -> None:
        seen: list[tuple[PortForward, str]] = []
        for key, guest in self._whole.guests.items():
            for forward in guest.publish:
                other = next((name for each, name in seen if each.overlaps(forward)), None)
                if other is not None:
                    place = value.entries()[key].entries()["publish"]
                    self._root.source.note(place.wrong(f"port {forward} is published twice, by '{other}' as well"))
                seen.append((forward, key))

    def _in_order(self, value: Value) -> None:
        guests, ordered, path = self._whole.guests, dict[str, GuestWish](), list[str]()

        def add(key: str) -> None:
            if key in ordered:
                return
            place = value.entries()[key].entries().get("depends_on", value)
            if key in path:
                circle = " -> ".join([*path[path.index(key) :], key])
                raise place.wrong(f"guests wait for each other: {circle}")
            path.append(key)
            for other in guests[key].waits:
                if other in guests:
                    add(other)
                elif other not in value.entries():
                    raise place.wrong(f"there is no guest '{other}'{near(other, guests)}")
            path.pop()
            ordered[key] = guests[key]

        for key in list(guests):
            try:
                add(key)
            except Wrong as problem:
                self._root.source.note(problem)
                return
        self._whole.guests = ordered


# other files' words, and what they are called here
_FOREIGN = {
    "ports": "publish",
    "expose": "publish",
    "container_name": "name",
    "domainname": "hostname",
    "mem_limit": "memory",
    "ram": "memory",
    "mem": "memory",
    "cpu": "cpus",
    "vcpus": "cpus",
    "cores": "cpus",
    "cpu_count": "cpus",
    "network": "networks",
    "volume": "volumes",
    "disks": "volumes",
    "size": "disk",
    "keys": "ssh_keys",
    "ssh_key": "ssh_keys",
    "ssh_authorized_keys": "ssh_keys",
    "cloud_init": "user_data",
    "cloud_config": "user_data",
    "userdata": "user_data",
    "platform": "arch",
    "healthcheck": "wait",
    "password": "password_file",
}


def _guest_name(text: str) -> str:
    if not _GUEST.fullmatch(text):
        raise InvalidArg(f"'{text}' cannot be the name of a guest and a host: letters, digits, '-' and '.'")
    return text


def _memory(text: str) -> int:
    found = int(size(text, MIB))
    if found < 64:
        raise InvalidArg(f"{found} MiB of memory are too few; was {found}G meant?")
    return found


def _mac(text: str) -> str:
    try:
        return units.parse_mac(text)
    except GuesthouseError as error:
        raise InvalidArg(error.detail) from None


def _subnet(text: str) -> IPInterface:
    """ "192.168.130.0/24" or, with the host's own address, "192.168.130.1/24"."""
    found = ipaddress.ip_interface(text)
    if found.network.num_addresses < 4:
        raise InvalidArg(f"'{text}' has no room for guests, such as 192.168.130.0/24 has")
    if found.ip == found.network.network_address:
        found = ipaddress.ip_interface(f"{found.network[1]}/{found.network.prefixlen}")
    return found


def _condition(text: str) -> str:
    text = {"service_started": "started", "service_healthy": "agent"}.get(text, text)
    kind, _, number = text.partition(":")
    if text in READY or (kind == "port" and number.isdigit() and 0 < int(number) < 65536):
        return text
    raise InvalidArg(f"'{text}' is not one of: {', '.join(READY)}, port:NUMBER{near(text, READY)}")
