"""What libvirt makes of a document's screens and graphics cards when it is defined, and what of them it refuses. Pure;
the rules are libvirt 9.0's (domain_conf.c, domain_postparse.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

import re

from guesthouse.errors import ConfigUnsupported, InternalError, Overflow, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.graphics import Graphics, Listen, Video, VideoModel
from guesthouse.model.domain import Domain

_MOMENT = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_VNC_PASSWORD_MAX = 8
# where libvirt makes sockets of its own choice: they are not the user's wish
_GENERATED = "/var/lib/libvirt/qemu/"
_MIB = 1024
_UINT_MAX = 2**32 - 1
# cards that QEMU has not; those that may stand beside another; those whose resolution can be said
_UNKNOWN_CARDS = ("xen", "vbox", "parallels", "gop")
_SECONDARY = ("qxl", "virtio")
_RESOLUTIONS = ("vga", "qxl", "virtio", "bochs")
_VIRTIO_WORDS = {"iommu": "iommu driver option", "ats": "ats driver option", "packed": "packed driver option"}
_VIRTIO_WORDS["page_per_vq"] = "page_per_vq option"
# elements of a spice screen that must say something
_MUST_SAY = {"image": "compression", "jpeg": "compression", "zlib": "compression", "playback": "compression"}
_MUST_SAY |= {"streaming": "mode", "clipboard": "copypaste", "filetransfer": "enable", "mouse": "mode", "gl": "enable"}
# what counts for each type of screen, beside its type
_OF_TYPE = {
    "vnc": (
        *("port", "autoport", "websocket", "websocket_generated", "socket", "listen", "keymap", "share_policy"),
        *("power_control", "audio", "passwd", "passwd_valid_to", "connected"),
    ),
    "spice": (
        *("port", "tls_port", "autoport", "listen", "keymap", "default_mode", "passwd", "passwd_valid_to"),
        *("connected", *_MUST_SAY),
    ),
    "sdl": ("display", "xauth", "fullscreen", "gl"),
    "egl-headless": ("gl",),
    "dbus": ("p2p", "address", "gl", "audio"),
}
_KEPT_BY_ALL = ("type", "listens", "channels")


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def complete(domain: Domain) -> None:
    """Screens, and a card where there is one without; raises what libvirt raises for those that cannot be."""
    dev = domain.dev
    for graphics in dev.graphics:
        _graphics(graphics)
    if dev.graphics and not dev.videos:
        dev.videos.append(Video(model=VideoModel(type="cirrus")))
    for video in dev.videos:
        if video.model is None:
            video.model = VideoModel(type="cirrus")
        _must_say(video)
    primary = [video for video in dev.videos if video.model is not None and video.model.primary]
    if len(primary) > 1:
        raise _unsupported("Only one primary video device is supported")
    if primary:
        dev.videos.insert(0, dev.videos.pop(next(i for i, v in enumerate(dev.videos) if v is primary[0])))
    for index, video in enumerate(dev.videos):
        _video(video, primary=index == 0)


# -- screens


def _graphics(graphics: Graphics) -> None:
    for name, attribute in _MUST_SAY.items():
        element = getattr(graphics, name)
        if element is not None and graphics.type not in ("egl-headless", "vnc") and getattr(element, attribute) is None:
            raise XMLError(f"Missing required attribute '{attribute}' in element '{name}'")
    if graphics.audio is not None and graphics.type in ("vnc", "dbus") and graphics.audio.id is None:
        raise XMLError("Missing required attribute 'id' in element 'audio'")
    own = _OF_TYPE.get(graphics.type)
    if own is not None:
        for spec in graphics.SPECS:
            if spec.name not in own and spec.name not in _KEPT_BY_ALL:
                setattr(graphics, spec.name, [] if spec.form == "children" else spec.default)
    if graphics.type != "spice":
        graphics.channels = []
    if graphics.type == "sdl":
        graphics.fullscreen = graphics.fullscreen or None
    if graphics.type == "egl-headless" and graphics.gl is not None:
        graphics.gl.enable = None
    if graphics.type not in ("vnc", "spice"):
        graphics.listens = [] if own is not None else graphics.listens
        return
    _password(graphics)
    graphics.channels = [channel for channel in graphics.channels if channel.mode != "any"]
    if graphics.default_mode == "any":
        graphics.default_mode = None
    _listens(graphics)


def _password(graphics: Graphics) -> None:
    if graphics.passwd is None:
        graphics.passwd_valid_to = graphics.connected = None
        return
    if graphics.passwd_valid_to is not None and not _MOMENT.fullmatch(graphics.passwd_valid_to):
        raise InternalError(
            f"cannot parse password validity time '{graphics.passwd_valid_to}', expect YYYY-MM-DDTHH:MM:SS",
            domain=ErrorDomain.DOMAIN,
        )
    if graphics.connected not in (None, "keep", "fail", "disconnect"):
        raise _unsupported(f"unknown connected value {graphics.connected}")
    if graphics.type == "vnc" and graphics.connected not in (None, "keep"):
        raise _unsupported("VNC supports connected='keep' only")


def _listens(graphics: Graphics) -> None:
    for number, listen in enumerate(graphics.listens):
        if listen.type is None:
            raise XMLError("Missing required attribute 'type' in element 'listen'")
        if number == 0:
            _agree(graphics, listen)
        if listen.network and listen.type != "network":
            text = "'network' attribute is valid only for listen type 'network'"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
        if listen.socket and listen.type != "socket":
            text = "'socket' attribute is valid only for listen type 'socket'"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
        if listen.type != "address":
            listen.address = None  # that of a network is found anew at each start
    if graphics.type == "vnc" and graphics.socket is not None:
        first = graphics.listens[0] if graphics.listens else None
        if first is None or first.type in ("address", "network"):
            graphics.listens[:1] = [Listen(type="socket", socket=graphics.socket)]
    for listen in graphics.listens:
        if listen.type == "socket" and (listen.socket or "").startswith(_GENERATED):
            listen.type, listen.socket, graphics.socket = "address", None, None
    address = graphics.listen or None
    if not graphics.listens:
        graphics.listens.append(Listen(type="address", address=address))
    if graphics.type == "spice":
        _spice_ports(graphics)
    else:
        if graphics.port == -1:
            graphics.port = None
        if graphics.autoport is None or graphics.port is None:
            # a port of 0 is one that was asked for, and there is none
            graphics.autoport = graphics.port is None and graphics.autoport is not False
        graphics.port = -1 if graphics.autoport else (graphics.port or None)
    first = graphics.listens[0]
    if first.type in ("socket", "none"):
        graphics.port = graphics.tls_port = graphics.autoport = graphics.listen = None
        graphics.socket = first.socket if graphics.type == "vnc" else None
        return
    graphics.socket = None
    graphics.listen = first.address if first.type == "address" else None


def _agree(graphics: Graphics, first: Listen) -> None:
    """The attributes of an older form beside the first element of the new one."""
    pairs = (("address", graphics.listen, first.address), ("socket", graphics.socket, first.socket))
    for kind, old, new in pairs:
        if first.type != kind:
            continue
        attribute = "listen" if kind == "address" else "socket"
        if old is not None and new is not None and old != new:
            raise _unsupported(
                f"graphics '{attribute}' attribute '{old}' must match '{kind}' attribute of first listen element"
                f" (found '{new}')"
            )
        if new is None:
            setattr(first, kind, old)


def _spice_ports(graphics: Graphics) -> None:
    """-1 for both, or for the plain port alone, is the host's choice; without any there is nothing to listen at."""
    if graphics.port == -1 and graphics.tls_port in (None, 0, -1):
        graphics.autoport = True
    graphics.port = None if graphics.port in (0, -1) else graphics.port
    graphics.tls_port = None if graphics.tls_port in (0, -1) else graphics.tls_port
    graphics.autoport = bool(graphics.autoport)
    if graphics.autoport:
        graphics.port = graphics.tls_port = None
    elif graphics.port is None and graphics.tls_port is None and graphics.listens[0].type != "socket":
        graphics.listens[:] = [Listen(type="none")]


def check(domain: Domain) -> None:
    """Raises what libvirt raises for screens and cards that QEMU has not, or has not together."""
    screens = domain.dev.graphics
    headless = any(screen.type == "egl-headless" for screen in screens)
    for graphics in screens:
        if graphics.type in ("rdp", "desktop"):
            raise ConfigUnsupported(f"{graphics.type} graphics are not supported with this QEMU")
        if headless and graphics.type not in ("egl-headless", "vnc", "spice"):
            raise ConfigUnsupported(
                "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types"
            )
        if headless and graphics.type == "spice" and graphics.gl is not None and graphics.gl.enable:
            raise ConfigUnsupported("multiple OpenGL displays are not supported by QEMU")
        if graphics.type == "vnc" and len(graphics.passwd or "") > _VNC_PASSWORD_MAX:
            raise ConfigUnsupported(
                f"VNC password is {len(graphics.passwd or '')} characters long, only {_VNC_PASSWORD_MAX} permitted"
            )
        if graphics.audio is not None:
            kinds = [audio.type for audio in domain.dev.audios if audio.id == graphics.audio.id]
            if not kinds:
                raise XMLError(f"no audio device with ID {graphics.audio.id}", domain=ErrorDomain.DOMAIN)
            if graphics.type == "dbus" and kinds[0] != "dbus":
                raise ConfigUnsupported("The associated audio is not of 'dbus' kind.")
    for video in domain.dev.videos:
        _check_video(domain, video)


# -- cards


def _must_say(video: Video) -> None:
    model = video.model
    if model is None:
        return
    accel = model.acceleration
    if accel is not None and accel.accel2d is None and accel.accel3d is None and accel.rendernode is None:
        raise _unsupported("missing values for acceleration")
    for name in ("x", "y") if model.resolution is not None else ():
        if getattr(model.resolution, name) is None:
            raise XMLError(f"Missing required attribute '{name}' in element 'resolution'")


def _video(video: Video, primary: bool) -> None:
    model = video.model
    assert model is not None
    if video.driver is not None and video.driver.vgaconf == "io":
        video.driver.vgaconf = None  # the usual
    if model.type == "none":
        model.heads = model.ram = model.vram = model.vram64 = model.vgamem = model.primary = None
        return
    if model.type == "qxl":
        model.ram = _rounded(model.ram or 65536)
        model.vram = _rounded(model.vram or 65536)
        model.vgamem = model.vgamem or 16384
        model.vram64 = _rounded(model.vram64) if model.vram64 else None
    elif model.type in ("vga", "cirrus", "vmvga", "bochs"):
        model.vram = model.vram or 16384
    model.heads = model.heads or 1
    model.primary = True if primary else None


def _rounded(size: int) -> int:
    """To a power of two, as the card itself does."""
    return 1 << max(size - 1, 0).bit_length()


def _check_video(domain: Domain, video: Video) -> None:
    model, driver = video.model or VideoModel(), video.driver
    beside = driver is not None and driver.name == "vhostuser"
    accel = model.acceleration
    if model.type == "none" and len(domain.dev.videos) > 1:
        raise _unsupported("a 'none' video type must be the only video device defined for the domain")
    if any(other.model is not None and other.model.type == "none" for other in domain.dev.videos if other is not video):
        raise _unsupported("a 'none' video type must be the only video device defined for the domain")
    if beside and model.type != "virtio":
        raise _unsupported("'vhostuser' driver is only supported with 'virtio' device")
    if not beside and accel is not None and accel.rendernode is not None:
        raise _unsupported("unsupported rendernode accel attribute without 'vhostuser'")
    if model.resolution is not None and not (model.resolution.x and model.resolution.y):
        raise _unsupported("video resolution values must be greater than 0")
    for name in ("ram", "vram64", "vgamem") if model.type != "qxl" else ():
        if getattr(model, name):
            raise _unsupported(f"{name} attribute only supported for video type qxl")
    if model.type == "ramfb" and video.address is not None:
        raise _unsupported("address not supported for video type ramfb")
    if model.type != "virtio" and driver is not None:
        for name, words in _VIRTIO_WORDS.items():
            if getattr(driver, name) is not None:
                raise _unsupported(f"{words} is only supported for virtio devices")
    if model.type == "none":
        return
    if model.type in _UNKNOWN_CARDS:
        raise ConfigUnsupported(f"domain configuration does not support video model '{model.type}'")
    if model.type not in _SECONDARY and not model.primary:
        raise ConfigUnsupported(f"video type '{model.type}' is only valid as primary video device")
    if model.type not in _SECONDARY and model.heads != 1:
        raise ConfigUnsupported(f"video type '{model.type}' doesn't support multiple 'heads'")
    if accel is not None and accel.accel2d:
        raise ConfigUnsupported("qemu does not support the accel2d setting")
    _check_sizes(model)
    if model.type not in _RESOLUTIONS and model.resolution is not None:
        raise XMLError("model resolution is not supported", domain=ErrorDomain.QEMU)
    if not beside and accel is not None and accel.accel3d and model.type != "virtio":
        raise ConfigUnsupported("3d acceleration is supported only with 'virtio' video device")


def _check_sizes(model: VideoModel) -> None:
    if model.type == "qxl":
        for name in ("vram", "ram"):
            if (getattr(model, name) or 0) > _UINT_MAX // 1024:
                raise Overflow(f"value for '{name}' must be less than '{_UINT_MAX // 1024}'", domain=ErrorDomain.QEMU)
        if (model.vgamem or _MIB) < _MIB:
            raise ConfigUnsupported("value for 'vgamem' must be at least 1 MiB (1024 KiB)")
        if model.vgamem and model.vgamem & (model.vgamem - 1):
            raise ConfigUnsupported("value for 'vgamem' must be power of two")
    if model.type in ("vga", "vmvga") and (model.vram or _MIB) < _MIB:
        raise ConfigUnsupported("value for 'vram' must be at least 1 MiB (1024 KiB)")
