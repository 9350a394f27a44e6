"""The families of devices with a character device at their other end: serial ports, channels, smartcards, random
numbers, redirected USB."""

from __future__ import annotations

from collections.abc import Callable

from guesthouse.cli.virt_install.family import FAMILIES, ON_DEVICES, Family, Words, add, need
from guesthouse.model.devices.chardev import (
    Channel,
    CharDevice,
    CharEnd,
    CharSource,
    CharTarget,
    Console,
    Parallel,
    Serial,
)
from guesthouse.model.devices.redirected import Redirdev, Smartcard
from guesthouse.model.devices.simple import Rng, RngBackend
from guesthouse.provision.request import Request, part

_ENDS = tuple(f"source.{end}_{what}" for end in ("bind", "connect") for what in ("host", "service"))
_LOCALHOST = "127.0.0.1"


def _address(text: str) -> tuple[str, str | None]:
    """A host and a port out of "host:port", either of which may be missing."""
    host, colon, port = text.rpartition(":")
    return (host or _LOCALHOST, port) if colon else (text, None)


def _ends(option: str, device: CharEnd, words: Words, *, prefix: str = "") -> None:
    """The two ends of a socket: where it is bound, and what it connects to."""
    found: dict[str, CharSource] = {}
    for mode, keys in (("bind", ("bind_host",)), ("connect", ("host", "server"))):
        for key in (*keys, f"source.{mode}_host", f"{mode}_host"):
            value = need(option, words, prefix + key) if prefix or key in FAMILIES[option].extra else None
            if value is not None:
                end = found.setdefault(mode, CharSource(mode=mode))
                end.host, port = _address(value)
                end.service = port if port is not None else end.service
        for key in (f"source.{mode}_service", f"{mode}_service"):
            value = need(option, words, prefix + key) if prefix or key in FAMILIES[option].extra else None
            if value is not None:
                found.setdefault(mode, CharSource(mode=mode)).service = value
    device.sources.extend(found.values())


def _target(device: CharDevice, words: Words, option: str) -> None:
    """Where the guest finds it: guestfwd's address comes with its port."""
    for key in ("target_address", "target.address"):
        value = need(option, words, key)
        if value is not None:
            target = part(device, "target", CharTarget)
            host, _, port = value.rpartition(":")
            target.address = host or value
            target.port = int(port) if host and port.isdigit() else target.port


def _chars(name: str, kind: type[CharDevice]) -> Callable[[Request, Words, str], None]:
    def fill(request: Request, words: Words, text: str) -> None:
        if text == "none":
            request.without.add(name)
            return
        device = kind()
        udp = "udp" in (words.get("type"), words.get("char_type"))
        _ends(name, device, words)
        _target(device, words, name)
        if len(device.sources) > 1 and not udp:
            del device.sources[0]
        for key in ("mode", "source.mode"):
            if key in words and device.sources and not udp:
                device.sources[-1].mode = words.pop(key)
        FAMILIES[name].fill(device, words)
        getattr(request.domain.dev, f"{name}s").append(device)

    return fill


def _smartcard(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("smartcard")
        return
    device = Smartcard(mode="passthrough")
    if words.get("mode") == "default":
        words.pop("mode")
    _ends("smartcard", device, words)
    FAMILIES["smartcard"].fill(device, words)
    device.type = device.type or ("spicevmc" if device.mode == "passthrough" else "tcp")
    request.domain.dev.smartcards.append(device)


def _redirdev(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("redirdev")
        return
    device = Redirdev(bus="usb")
    for key in ("bus", "type"):
        if words.get(key) == "default":
            words.pop(key)
    _ends("redirdev", device, words)
    for end in device.sources:
        end.mode = None if end.mode == "connect" else end.mode
    FAMILIES["redirdev"].fill(device, words)
    device.type = device.type or "spicevmc"
    request.domain.dev.redirdevs.append(device)


def _rng(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("rng")
        return
    backend = RngBackend()
    device = Rng(backend=backend)
    kind = words.pop("type", None) or words.pop("backend.model", None)
    if kind == "default":
        kind, words["device"] = "random", "/dev/urandom"
    if kind is not None and kind.startswith("/"):
        words["device"], kind = kind, "random"
    if kind is None:
        kind = "egd" if any(key.startswith(("backend_", "backend.source")) for key in words) else "random"
    words["backend.model"] = kind
    for key in ("backend_host", "backend_service", "backend_mode", "backend_type"):
        if key in words:
            name = key.partition("_")[2]
            words["backend.type" if name == "type" else f"backend.source.{name}"] = words.pop(key)
    for key in ("host", "service"):
        value = words.pop(f"backend_connect_{key}", None) or words.pop(f"backend.source.connect_{key}", None)
        if value is not None and f"backend.source.{key}" not in words:
            words[f"backend.source.{key}"] = value
            words.setdefault("backend.source.mode", "connect")
    _ends("rng", backend, words, prefix="backend.")
    if words.pop("backend", None) is not None or "device" in words:
        words["device"] = words.get("device") or _after(text, "backend=")
    FAMILIES["rng"].fill(device, words)
    if backend.model == "egd" and backend.type is None:
        backend.type = "udp"
    request.domain.dev.rngs.append(device)


def _after(text: str, key: str) -> str:
    return text.partition(key)[2].partition(",")[0]


_SOURCE = ("source/@master", "source/@slave")
_LABELS = ("source.seclabel[0-9]*.label",)
add(
    *(
        Family(
            name,
            kind,
            _chars(name, kind),
            "type",
            ("host", "bind_host", *_ENDS),
            commas=_LABELS,
            places=(*_SOURCE, *ON_DEVICES),
            aliases={"char_type": "type", "target_address": "target.address"},
            at=f"dev.{name}s",
        )
        for name, kind in (("serial", Serial), ("parallel", Parallel), ("channel", Channel), ("console", Console))
    ),
    Family(
        "smartcard",
        Smartcard,
        _smartcard,
        "mode",
        _ENDS,
        commas=(*_LABELS, "database", "certificate[0-9]*"),
        places=(*_SOURCE, *ON_DEVICES),
        at="dev.smartcards",
    ),
    Family(
        "redirdev",
        Redirdev,
        _redirdev,
        "bus",
        ("server", *_ENDS),
        commas=_LABELS,
        places=(*_SOURCE, *ON_DEVICES),
        at="dev.redirdevs",
    ),
    Family(
        "rng",
        Rng,
        _rng,
        "type",
        (
            *("type", "backend_host", "backend_service", "backend_mode", "backend_type"),
            *("backend_connect_host", "backend_connect_service"),
            *(f"backend.{key}" for key in _ENDS),
        ),
        commas=(f"backend.{_LABELS[0]}",),
        places=(*(f"backend/{place}" for place in _SOURCE), *ON_DEVICES),
        aliases={"rate_bytes": "rate.bytes", "rate_period": "rate.period"},
        at="dev.rngs",
    ),
)
