"""The families of devices. Ordinary keys derive from the elements' fields; what stands here is the rest: words such
as "none" and "default", and keys that mean more than a field.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from guesthouse.cli.virt_install.family import (
    FAMILIES,
    ON_DEVICES,
    Family,
    Words,
    add,
    need,
    seen_to_elsewhere,
    take_edits,
)
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import edited, numbers_in
from guesthouse.cli.virt_install.suboptions import apply, spelled, switch
from guesthouse.model.devices.audio import Sound
from guesthouse.model.devices.disk import Disk, Transient
from guesthouse.model.devices.graphics import Graphics, Video, VideoModel
from guesthouse.model.devices.interface import Interface, InterfaceSource
from guesthouse.model.devices.simple import Controller, Input, MemBalloon, Watchdog
from guesthouse.model.devices.tpm import Tpm
from guesthouse.model.fields import Element
from guesthouse.provision.defaults import address
from guesthouse.provision.request import Request
from guesthouse.provision.storage import Wish


def disk(request: Request, words: Words, text: str) -> tuple[Disk, Wish] | None:
    """A disk, and what storage it wants; None for "none"."""
    if text == "none":
        return None
    family = FAMILIES["disk"]
    edits = take_edits(words)
    wish = Wish()
    size = need("disk", words, "size")
    if size is not None:
        try:
            wish.size = float(size)
        except ValueError:
            raise UsageError(f"Improper value for 'size': '{size}' is not a number of GiB") from None
    wish.sparse = switch("disk", "sparse", words.pop("sparse", None))
    wish.format = need("disk", words, "format")
    wish.pool = need("disk", words, "pool")
    wish.volume = need("disk", words, "vol")
    wish.backing = need("disk", words, "backing_store")
    wish.backing_format = need("disk", words, "backing_format")
    device = Disk()
    perms = need("disk", words, "perms")
    if perms not in (None, "rw", "ro", "sh"):
        raise UsageError(f"Unknown 'perms' value '{perms}'")
    device.readonly, device.shareable = perms == "ro", perms == "sh"
    if "transient" in words and switch("disk", "transient", words.pop("transient")):
        device.transient = Transient()
    if "type" not in words and any(spelled(key, family.aliases).startswith(_SERVER) for key in words):
        device.type = "network"
    family.fill(device, words)
    if edits:
        device = edited(device, edits)
    return device, wish


_SERVER = ("source.protocol", "source_protocol")


def _network(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("network")
        return
    nic = Interface(type="default")
    source = words.pop("source", None)
    if "type" not in words:
        # "network=default" and "bridge=br0" say what kind it is, too
        if "network" in words or text.partition(",")[0] == "network":
            words["type"] = "network"
        elif "bridge" in words:
            words["type"] = "bridge"
    kind = words.pop("type", None)
    if kind is not None and kind.partition(":")[0] in ("network", "bridge") and ":" in kind:
        kind, _, source = kind.partition(":")
    if kind == "passt":
        kind, words["backend.type"] = "user", "passt"
    for key in ("mac", "mac.address"):
        if words.get(key) == "RANDOM":
            words.pop(key)
    for key in ("link.state", "link_state"):
        if key in words:
            words[key] = {"on": "up", "yes": "up", "off": "down", "no": "down"}.get(words[key] or "", words[key])
    _forwards(nic, words)
    if (name := need("network", words, "hostdev")) is not None:
        kind = kind or "hostdev"
        request.named.append((nic, name))
    if kind not in (None, "default"):
        apply("network", nic, {"type": kind})
    if source is not None:
        field = {"network": "network", "bridge": "bridge"}.get(nic.type, "dev")
        nic.source = InterfaceSource()
        nic.source.set_option(field, source)
    if nic.type == "direct":
        nic.source = nic.source or InterfaceSource()
        nic.source.mode = nic.source.mode or "vepa"
    FAMILIES["network"].fill(nic, words)
    request.domain.dev.interfaces.append(nic)


def _forwards(nic: Interface, words: Words) -> None:
    """``portForward=[ADDRESS:]FROM[:TO][/PROTOCOL]``, a number or a range each."""
    for key in list(words):
        numbers = numbers_in("portForward[0-9]*", key)
        if numbers is None:
            continue
        text = need("network", words, key) or ""
        ports, _, protocol = text.partition("/")
        head, _, target = ports.rpartition(":")
        address, _, start = head.rpartition(":")
        if not head:
            start, target = target, ""
        first, dash, last = start.partition("-")
        name = f"portForward{numbers[0]}"
        said = {f"{name}.proto": protocol or "tcp", f"{name}.address": address.strip("[]")}
        said |= {f"{name}.range0.start": first, f"{name}.range0.end": last if dash else ""}
        said |= {f"{name}.range0.to": target.partition("-")[0]}
        apply("network", nic, dict(said))


def _graphics(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("graphics")
        return
    display = Graphics(type="default")
    kind = words.pop("type", None)
    if kind not in (None, "default"):
        apply("graphics", display, {"type": kind})
    if (words.get("keymap") or "").lower() in ("local", "none"):
        words.pop("keymap")
    for key in ("port", "tlsPort", "tlsport"):
        port = words.get(key)
        if port is not None and port.removeprefix("-").isdigit() and int(port) < _LOWEST_PORT and port != "-1":
            name = "Port" if key == "port" else "TLS Port"
            raise UsageError(f"--graphics: {name} must be above {_LOWEST_PORT}, or -1 for auto allocation")
    listen = words.get("listen")
    if listen == "none":
        words.pop("listen")
        words["listens0.type"] = "none"
    elif listen == "socket":
        words.pop("listen")
        words["listens0.type"] = "socket"
    FAMILIES["graphics"].fill(display, words)
    if display.type == "sdl" and display.xauth is None:
        display.xauth = os.path.expanduser("~/.Xauthority")  # noqa: PTH111
    if display.type == "sdl" and display.display is None:
        display.display = os.environ.get("DISPLAY")
    request.domain.dev.graphics.append(display)


_LOWEST_PORT = 5900


def _controller(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("controller")
        return
    ports = need("controller", words, "num_pcie_root_ports")
    if ports is not None:
        if not ports.removeprefix("-").isdigit():
            raise UsageError(f"--controller num_pcie_root_ports: '{ports}' is not a number")
        request.root_ports = int(ports)
        if not words:
            return
    if words == {"type": "usb2"}:
        from guesthouse.provision.defaults import usb2_controllers

        request.domain.dev.controllers += usb2_controllers()
        return
    if words == {"type": "usb3"}:
        words = {"type": "usb", "model": "qemu-xhci", "ports": "15"}
    place = need("controller", words, "address")
    bus = Controller()
    if place is not None:
        try:
            bus.address = address(place)
        except ValueError:
            raise UsageError(f"--controller address: '{place}' is no PCI address such as 0:0:4.0") from None
    FAMILIES["controller"].fill(bus, words)
    request.domain.dev.controllers.append(bus)


def _video(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("video")
        request.domain.dev.videos.append(Video(model=VideoModel(type="none")))
        return
    card = Video(model=VideoModel(type="default"))
    for key in ("model.type", "model"):
        if words.get(key) == "default":
            words.pop(key)
    FAMILIES["video"].fill(card, words)
    request.domain.dev.videos.append(card)


def _plain(name: str, kind: Callable[[], Element], attribute: str) -> Callable[[Request, Words, str], None]:
    """A device without special cases; "none" leaves the default one out."""

    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        first = str(FAMILIES[name].first)
        if words.get(first) == "default":
            words.pop(first)
        FAMILIES[name].fill(device, words)
        getattr(request.domain.dev, attribute).append(device)

    return fill


def _memballoon(request: Request, words: Words, text: str) -> None:
    balloon = MemBalloon(model="virtio")
    if words.get("model") == "default":
        words.pop("model")
    FAMILIES["memballoon"].fill(balloon, words)
    request.domain.dev.memballoon = balloon


def _watchdog(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    if words.get("model") == "default":
        words["model"] = "i6300esb"
    device = Watchdog(action="reset")
    FAMILIES["watchdog"].fill(device, words)
    request.domain.dev.watchdogs.append(device)


def _tpm(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("tpm")
        return
    first = words.pop("type", None)
    device = Tpm()
    if first is not None and first.startswith("/"):
        first, words["backend.device.path"] = "passthrough", first
    elif "path" in words or "backend.device.path" in words:
        first = first or "passthrough"
    elif first == "default":
        first = "emulator"
    if "backend.type" not in words:
        words["backend.type"] = first or "emulator"
    FAMILIES["tpm"].fill(device, words)
    request.domain.dev.tpms.append(device)


_SECLABEL = {f"seclabel[0-9]*.{name}": f"source.seclabel[0-9]*.{name}" for name in ("model", "relabel", "label")}
_RESERVED = ("managed", "source.type", "source.path", "source.mode")
_PORT = ("type", "managerid", "typeid", "typeidversion", "instanceid", "profileid", "interfaceid")
add(
    Family(
        "disk",
        Disk,
        seen_to_elsewhere,
        "path",
        (
            *("size", "sparse", "format", "pool", "vol", "backing_store", "backing_format", "perms", "transient"),
            "driver.metadata_cache.max_size.unit",
        ),
        commas=("source.seclabel[0-9]*.label", "seclabel[0-9]*.label"),
        places=("blockio/@discard_granularity", *ON_DEVICES),
        aliases={**_SECLABEL, **{f"reservations.{key}": f"source.reservations.{key}" for key in _RESERVED}},
        at="dev.disks",
    ),
    Family(
        "network",
        Interface,
        _network,
        "type",
        ("source", "hostdev", "portForward[0-9]*"),
        places=("backend/@hostname", "backend/@fqdn", *ON_DEVICES),
        aliases={
            "virtualport_type": "virtualport.type",
            **{f"virtualport_{key}": f"virtualport.parameters.{key}" for key in _PORT[1:]},
        },
        at="dev.interfaces",
    ),
    Family(
        "graphics",
        Graphics,
        _graphics,
        "type",
        places=ON_DEVICES,
        aliases={"passwordValidTo": "passwdValidTo"},
        at="dev.graphics",
    ),
    Family(
        "controller",
        Controller,
        _controller,
        "type",
        ("address", "num_pcie_root_ports", "pcihole64.unit"),
        places=("@maxGrantFrames", "target/@memReserve", "serial", *ON_DEVICES),
        aliases={"master": "master.startport", "driver_queues": "driver.queues"},
        at="dev.controllers",
    ),
    Family("video", Video, _video, "model.type", places=ON_DEVICES, at="dev.videos"),
    Family("input", Input, _plain("input", Input, "inputs"), "type", places=ON_DEVICES, at="dev.inputs"),
    Family(
        "sound",
        Sound,
        _plain("sound", Sound, "sounds"),
        "model",
        places=("@multichannel", *ON_DEVICES),
        at="dev.sounds",
    ),
    Family("memballoon", MemBalloon, _memballoon, "model", places=ON_DEVICES, at="dev.memballoon"),
    Family("watchdog", Watchdog, _watchdog, "model", places=ON_DEVICES, at="dev.watchdogs"),
    Family(
        "tpm",
        Tpm,
        _tpm,
        "type",
        places=("backend/@debug", "backend/profile/@source", "backend/profile/@removeDisabled", *ON_DEVICES),
        at="dev.tpms",
    ),
)
