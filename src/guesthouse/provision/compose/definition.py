"""What a file of guests says: its keys, what they mean, and the values that they must have.

A project is named by the file, by whoever runs it, or after the file's folder. Guests, networks and volumes are called
PROJECT-KEY on the host, where they are not given another ``name``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from guesthouse.model.network import IPAddress, IPInterface
from guesthouse.model.port_forward import PortForward
from guesthouse.provision.compose.document import ComposeError, near
from guesthouse.units import GIB

_SPACE = uuid.UUID("7d2f4a6e-5b0c-4c5e-9a41-3f1f0d6f9b52")


@dataclass
class NetworkWish:
    """A network. ``external`` is one that is there already and is left alone. ``subnets`` are the bridge's own addresses
    (none: a free one is chosen)."""

    key: str
    name: str
    external: bool = False
    mode: str = "nat"
    subnets: list[IPInterface] = field(default_factory=list)
    dhcp: bool = True
    domain: str | None = None
    bridge: str | None = None


@dataclass
class VolumeWish:
    """A disk of its own, beside a guest's first. ``size`` is in bytes."""

    key: str
    name: str
    external: bool = False
    size: int = 0
    pool: str = "default"
    format: str = "qcow2"


@dataclass
class Card:
    """A network card: ``where`` is as ``guest run --network`` has it. ``network`` is the key of one of the file's."""

    where: str
    network: str | None = None
    mac: str | None = None
    address: IPAddress | None = None


@dataclass
class GuestWish:
    """A guest. ``memory`` is in MiB, ``disk`` in GiB (None: as the image); ``waits`` are guests' keys and what makes
    them ready (None: what they say themselves)."""

    key: str
    name: str
    image: str
    arch: str | None = None
    hostname: str = ""
    cpus: int = 2
    memory: int = 1024
    disk: float | None = None
    virt_type: str | None = None
    cards: list[Card] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    publish: list[PortForward] = field(default_factory=list)
    ssh_keys: list[str] | None = None
    password_file: str | None = None
    packages: list[str] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    waits: dict[str, str | None] = field(default_factory=dict)
    ready: str = "started"
    ready_timeout: int = 180
    restart: str = "no"
    autostart: bool = False

    @property
    def crash_action(self) -> str:
        """What the host does when the guest's system crashes."""
        return "destroy" if self.restart == "no" else "restart"

    def made_from(self) -> dict[str, str]:
        """What a guest cannot be given later, as it is kept with the guest: hashes stand for what is long, or might
        be private."""
        found = {"image": self.image, "hostname": self.hostname}
        if self.arch:
            found["arch"] = self.arch
        if self.virt_type:
            found["virt_type"] = self.virt_type
        if self.password_file:
            found["password_file"] = self.password_file
        if self.packages:
            found["packages"] = " ".join(self.packages)
        if self.ssh_keys is not None:
            found["ssh_keys"] = _digest("\n".join(self.ssh_keys))
        for name, text in self.documents.items():
            found[name.replace("-", "_")] = _digest(text)
        return found

    def instance(self, project: str) -> str:
        """What cloud-init knows the guest by: another where it was made from something else."""
        return f"{project}-{self.key}-{_digest(json.dumps(self.made_from(), sort_keys=True))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Project:
    """A file's project. ``guests`` are in the order in which they are made: those that others wait for come first."""

    name: str
    file: str
    networks: dict[str, NetworkWish] = field(default_factory=dict)
    volumes: dict[str, VolumeWish] = field(default_factory=dict)
    guests: dict[str, GuestWish] = field(default_factory=dict)

    def with_needed(self, keys: list[str]) -> list[str]:
        """``keys`` of guests, and of those that they depend on. Raises ComposeError for one that there is not."""
        found: list[str] = []

        def add(key: str) -> None:
            if key not in self.guests:
                raise ComposeError(f"{self.file}: there is no guest '{key}' in it{near(key, self.guests)}")
            if key not in found:
                for other in self.guests[key].waits:
                    add(other)
                found.append(key)

        for key in keys:
            add(key)
        return found

    def document(self) -> dict[str, Any]:
        """The file with everything that it left to others, as plain values."""
        networks: dict[str, Any] = {}
        for net in self.networks.values():
            shown: dict[str, Any] = {"name": net.name}
            if net.external:
                networks[net.key] = shown | {"external": True}
                continue
            shown |= {"mode": net.mode} | ({"bridge": net.bridge} if net.bridge else {})
            if net.mode != "bridge":
                shown |= {"dhcp": net.dhcp} | ({"subnet": [str(each) for each in net.subnets]} if net.subnets else {})
                shown |= {"domain": net.domain} if net.domain else {}
            networks[net.key] = shown
        volumes: dict[str, Any] = {}
        for vol in self.volumes.values():
            shown = {"name": vol.name, "pool": vol.pool, "format": vol.format}
            volumes[vol.key] = shown | ({"external": True} if vol.external else {"size": f"{vol.size / GIB:g}G"})
        whole: dict[str, Any] = {"name": self.name}
        whole |= {"networks": networks} if networks else {}
        whole |= {"volumes": volumes} if volumes else {}
        return whole | {"guests": {guest.key: _shown(guest) for guest in self.guests.values()}}


def _shown(guest: GuestWish) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": guest.name, "hostname": guest.hostname, "image": guest.image}
    shown |= {"arch": guest.arch} if guest.arch else {}
    shown |= {"cpus": guest.cpus, "memory": f"{guest.memory}M"}
    shown |= {"disk": f"{guest.disk:g}G"} if guest.disk is not None else {}
    shown |= {"virt_type": guest.virt_type} if guest.virt_type else {}
    cards = {}
    for card in guest.cards:
        given = {"mac": card.mac, "address": str(card.address) if card.address else None}
        cards[card.network or card.where] = {name: text for name, text in given.items() if text}
    shown["networks"] = cards or "none"
    for name, found in (("volumes", guest.volumes), ("packages", guest.packages), ("ssh_keys", guest.ssh_keys)):
        if found:
            shown[name] = found
    if guest.publish:
        shown["publish"] = [port_text(each) for each in guest.publish]
    shown |= {"password_file": guest.password_file} if guest.password_file else {}
    shown |= {name.replace("-", "_"): text for name, text in guest.documents.items()}
    if guest.waits:
        shown["depends_on"] = {key: {"condition": how} if how else {} for key, how in guest.waits.items()}
    shown["wait"] = {"for": guest.ready, "timeout": guest.ready_timeout}
    return shown | {"restart": guest.restart, "autostart": guest.autostart}


def port_text(forward: PortForward) -> str:
    """A port as ``publish`` has it."""
    address = forward.address
    before = "" if address is None else f"[{address}]:" if address.version == 6 else f"{address}:"
    first, last = forward.host
    behind = f":{forward.port}" if forward.port is not None else ""
    text = f"{before}{first}" + (f"-{last}" if last != first else behind)
    return text + ("" if forward.proto == "tcp" else f"/{forward.proto}")


# -- what is the same each time on one host, and another on others


def uuid_of(host: str, project: str, kind: str, name: str) -> str:
    """The UUID of a project's guest or network called ``name``: by it a network is known to be the project's own."""
    return str(uuid.uuid5(_SPACE, f"{host}/{project}/{kind}/{name}"))


def mac_of(host: str, project: str, guest: GuestWish, card: Card) -> str:
    """A card's MAC address: a guest that is made anew over the disk that it had is known by it."""
    if card.mac is not None:
        return card.mac
    data = hashlib.sha256(f"{host}/{project}/{guest.key}/{card.where}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in data[:3])
