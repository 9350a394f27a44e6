"""The families of devices. Ordinary keys derive from the elements' fields; what stands here is the rest: words such
as "none" and "default", and keys that mean more than a field.
"""

from __future__ import annotations

from collections.abc import Callable

from guesthouse.cli.virt_install import suboptions
from guesthouse.cli.virt_install.family import FAMILIES, Family, Words, add, need, seen_to_elsewhere
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.suboptions import apply, switch
from guesthouse.model.devices.audio import Sound
from guesthouse.model.devices.chardev import Channel, CharDevice, CharSource, Console, Parallel, Serial
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics, Video, VideoModel
from guesthouse.model.devices.interface import Interface, InterfaceSource
from guesthouse.model.devices.platform import Panic
from guesthouse.model.devices.redirected import Redirdev
from guesthouse.model.devices.simple import (
    Controller,
    Input,
    MemBalloon,
    Rng,
    RngBackend,
    Watchdog,
)
from guesthouse.model.devices.tpm import Tpm
from guesthouse.model.fields import Element
from guesthouse.provision.defaults import address
from guesthouse.provision.request import Request
from guesthouse.provision.storage import Wish


def disk(request: Request, words: Words, text: str) -> tuple[Disk, Wish] | None:
    """A disk, and what storage it wants; None for "none"."""
    if text == "none":
        return None
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
    apply("disk", device, words, FAMILIES["disk"].extra)
    return device, wish


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
    if words.get("mac") == "RANDOM":
        words.pop("mac")
    if "link.state" in words:
        words["link.state"] = {"on": "up", "yes": "up", "off": "down", "no": "down"}.get(
            words["link.state"] or "", words["link.state"]
        )
    if kind not in (None, "default"):
        apply("network", nic, {"type": kind})
    if source is not None:
        field = {"network": "network", "bridge": "bridge"}.get(nic.type, "dev")
        nic.source = InterfaceSource()
        nic.source.set_option(field, source)
    if nic.type == "direct":
        nic.source = nic.source or InterfaceSource()
        nic.source.mode = nic.source.mode or "vepa"
    apply("network", nic, words, FAMILIES["network"].extra)
    request.domain.dev.interfaces.append(nic)


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
    listen = words.get("listen")
    if listen == "none":
        words.pop("listen")
        words["listens0.type"] = "none"
    elif listen == "socket":
        words.pop("listen")
        words["listens0.type"] = "socket"
    apply("graphics", display, words)
    request.domain.dev.graphics.append(display)


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
    apply("controller", bus, words, FAMILIES["controller"].extra)
    request.domain.dev.controllers.append(bus)


def _video(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("video")
        request.domain.dev.videos.append(Video(model=VideoModel(type="none")))
        return
    card = Video(model=VideoModel(type="default"))
    if words.get("model.type") == "default":
        words.pop("model.type")
    apply("video", card, words)
    request.domain.dev.videos.append(card)


def _chars(name: str, kind: type[CharDevice]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        for key, mode in (("host", "connect"), ("bind_host", "bind")):
            value = need(name, words, key)
            if value is None:
                continue
            host, _, port = value.rpartition(":")
            host = host or "127.0.0.1"
            if words.get("type") == "udp" or key == "host":
                device.sources.insert(0, CharSource(host=host, service=port))
            else:
                device.sources.append(CharSource(mode=mode, host=host, service=port))
        if words.get("type") == "tcp" and device.sources and "mode" not in words:
            device.sources[0].mode = device.sources[0].mode or "connect"
        apply(name, device, words, FAMILIES[name].extra)
        getattr(request.domain.dev, f"{name}s").append(device)

    return fill


def _plain(name: str, kind: Callable[[], Element], attribute: str) -> Callable[[Request, Words, str], None]:
    """A device without special cases; "none" leaves the default one out."""

    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        if words.get(FAMILIES[name].first) == "default":
            words.pop(FAMILIES[name].first)
        apply(name, device, words, FAMILIES[name].extra)
        getattr(request.domain.dev, attribute).append(device)

    return fill


def _memballoon(request: Request, words: Words, text: str) -> None:
    balloon = MemBalloon(model="virtio")
    apply("memballoon", balloon, words)
    request.domain.dev.memballoon = balloon


def _rng(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("rng")
        return
    device = Rng(backend=RngBackend(model="random"))
    assert device.backend is not None
    kind = words.pop("type", None) or words.pop("backend.model", None)
    if kind is not None and kind.startswith("/"):
        words["device"], kind = kind, "random"
    if kind is not None:
        apply("rng", device.backend, {"model": kind})
    if device.backend.model == "random" and "device" not in words:
        words["device"] = "/dev/urandom"
    apply("rng", device, words, FAMILIES["rng"].extra)
    request.domain.dev.rngs.append(device)


def _watchdog(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    if words.get("model") == "default":
        words["model"] = "i6300esb"
    device = Watchdog(action="reset")
    apply("watchdog", device, words)
    request.domain.dev.watchdogs.append(device)


def _tpm(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("tpm")
        return
    first = words.pop("path", None)
    kind = "emulator"
    if first is not None and first.startswith("/"):
        kind, words["backend.device.path"] = "passthrough", first
    elif first not in (None, "default"):
        kind = str(first)
    words["backend.type"] = words.pop("type", None) or words.get("backend.type") or kind
    device = Tpm()
    apply("tpm", device, words, FAMILIES["tpm"].extra)
    request.domain.dev.tpms.append(device)


def _panic(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    model = words.pop("model", None)
    if words:
        raise suboptions.unknown("panic", next(iter(words)), FAMILIES["panic"].extra)
    request.domain.dev.panics.append(Panic(model=None if model in (None, "default") else str(model)))


def _redirdev(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("redirdev")
        return
    kind = words.pop("type", None) or "spicevmc"
    bus = words.pop("bus", None) or "usb"
    if words:
        raise suboptions.unknown("redirdev", next(iter(words)), FAMILIES["redirdev"].extra)
    request.domain.dev.redirdevs.append(Redirdev(bus=bus, type=kind))


add(
    Family(
        "disk",
        Disk,
        seen_to_elsewhere,
        "path",
        ("size", "sparse", "format", "pool", "vol", "backing_store", "backing_format", "perms"),
    ),
    Family("network", Interface, _network, "type", ("source",)),
    Family("graphics", Graphics, _graphics, "type"),
    Family("controller", Controller, _controller, "type", ("address", "num_pcie_root_ports")),
    Family("video", Video, _video, "model.type"),
    *(
        Family(name, kind, _chars(name, kind), "type", ("host", "bind_host"))
        for name, kind in (("serial", Serial), ("parallel", Parallel), ("channel", Channel), ("console", Console))
    ),
    Family("input", Input, _plain("input", Input, "inputs"), "type"),
    Family("sound", Sound, _plain("sound", Sound, "sounds"), "model"),
    Family("memballoon", MemBalloon, _memballoon, "model"),
    Family("rng", Rng, _rng, "type", ("type",)),
    Family("watchdog", Watchdog, _watchdog, "model"),
    Family("tpm", Tpm, _tpm, "path", ("path", "type")),
    Family("panic", None, _panic, "model", ("model",)),
    Family("redirdev", None, _redirdev, "bus", ("bus", "type")),
)
