"""<graphics> and <video> for QEMU: the display server and the guest's card."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.graphics import SPICE_CHANNELS, Graphics, Listen, Video
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.audio import audio_id
from guesthouse.qemu.devices.chardev import Certificates
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Chardev, Parts, Props, quote

_PORT_MAX = 65535
_VNC_TLS = "vnc-tls-creds0"

VNC_BASE = 5900
#: Screens that are QEMU's one display of its own, not servers beside it.
LOCAL = ("sdl", "egl-headless", "dbus")


def graphics(domain: Domain, device: Graphics, certificates: Certificates | None = None) -> Parts:
    """A live display server: port and address are decided. A password is not set here: it goes over the monitor."""
    certificates = certificates or Certificates()
    if device.type == "vnc":
        return _vnc(domain, device, certificates)
    if device.type == "spice":
        return _spice(device, certificates)
    if device.type == "sdl":
        return _sdl(device)
    words = [device.type]
    if device.type == "dbus":
        if not device.p2p and not device.address:
            raise ConfigUnsupported("graphics of type 'dbus' need p2p='yes' or the address of a bus")
        words.append("p2p=on" if device.p2p else f"addr={quote(device.address or '')}")
        if device.gl is not None and device.gl.enable is not None:
            words.append(f"gl={'on' if device.gl.enable else 'off'}")
    elif device.type != "egl-headless":
        raise ConfigUnsupported(f"unsupported graphics type '{device.type}'")
    if device.gl is not None and device.gl.rendernode:
        words.append(f"rendernode={quote(device.gl.rendernode)}")
    if device.type == "dbus" and device.audio is not None and device.audio.id:
        words.append(f"audiodev={audio_id(domain, device.audio.id)}")
    return Parts(options=["-display", ",".join(words)])


def _sdl(device: Graphics) -> Parts:
    """A window on the host's own screen."""
    environment = {"XAUTHORITY": device.xauth, "DISPLAY": device.display}
    options = ["-full-screen"] if device.fullscreen else []
    words = "sdl"
    if device.gl is not None and device.gl.enable is not None:
        words += f",gl={'on' if device.gl.enable else 'off'}"
    return Parts(
        options=[*options, "-display", words], environment={name: value for name, value in environment.items() if value}
    )


def _vnc(domain: Domain, device: Graphics, certificates: Certificates) -> Parts:
    listen = device.listens[0] if device.listens else Listen(type="address", address=device.listen)
    parts = Parts()
    if listen.type == "socket":
        options = [f"vnc=unix:{quote(listen.socket or '')}"]
    elif listen.type == "none":
        options = ["none"]
    else:
        port = device.port or 0
        if not device.autoport and not VNC_BASE <= port <= _PORT_MAX:
            raise ConfigUnsupported("vnc port must be in range [5900,65535]")
        options = [f"{_bracketed(listen.address)}:{port - VNC_BASE}"]
        if device.websocket is not None and device.websocket > 0:
            options.append(f"websocket={device.websocket}")
    if device.share_policy:
        options.append(f"share={device.share_policy}")
    if device.passwd is not None:
        options.append("password=on")
    if certificates.vnc:
        creds = {"qom-type": "tls-creds-x509", "id": _VNC_TLS, "dir": certificates.vnc, "endpoint": "server"}
        parts.objects.append({**creds, "verify-peer": certificates.vnc_verify})
        options.append(f"tls-creds={_VNC_TLS}")
    if device.power_control is not None:
        options.append(f"power-control={'on' if device.power_control else 'off'}")
    options.append(f"audiodev={audio_id(domain, device.audio.id if device.audio is not None else None)}")
    parts.options = ["-vnc", ",".join(options)]
    if device.keymap:
        parts.options += ["-k", device.keymap]
    return parts


def _bracketed(address: str | None) -> str:
    address = address or "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def _spice(device: Graphics, certificates: Certificates) -> Parts:
    listen = device.listens[0] if device.listens else Listen(type="address", address=device.listen)
    port, tls_port = device.port or 0, device.tls_port or 0
    secure, plain = False, True
    if tls_port > 0 and not certificates.spice:
        raise ConfigUnsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf")
    if listen.type == "socket":
        options = ["unix", f"addr={quote(listen.socket or '')}"]
    elif listen.type == "none" or (port <= 0 and tls_port <= 0):
        options = ["port=0"]
    else:
        secure, plain = tls_port > 0, port > 0
        options = [f"port={port}"] if plain else []
        options += [f"tls-port={tls_port}"] if secure else []
        options.append(f"addr={listen.address or '127.0.0.1'}")
    if device.mouse is not None and device.mouse.mode is not None:
        options.append(f"agent-mouse={'off' if device.mouse.mode == 'server' else 'on'}")
    if device.passwd is None:
        options.append("disable-ticketing=on")
    if secure:
        options.append(f"x509-dir={quote(certificates.spice)}")
    options += _spice_channels(device, secure, plain)
    options += _spice_details(device)
    options.append("seamless-migration=on")
    keymap = ["-k", device.keymap] if device.keymap else []
    return Parts(options=["-spice", ",".join(options), *keymap])


def _spice_channels(device: Graphics, secure: bool, plain: bool) -> list[str]:
    """Which channels must, and which must not, be encrypted."""
    found = []
    whole = f"spice defaultMode {device.default_mode} requested in XML configuration"
    wishes = [("default", device.default_mode, whole)]
    modes = {channel.name: channel.mode for channel in device.channels}
    for name in SPICE_CHANNELS:
        wishes.append((name, modes.get(name), f"spice {modes.get(name)} channels set in XML configuration"))
    for name, mode, where in wishes:
        if mode == "secure":
            if not secure:
                raise ConfigUnsupported(f"{where}, but TLS connection is not available")
            found.append(f"tls-channel={name}")
        elif mode == "insecure":
            if not plain:
                raise ConfigUnsupported(f"{where}, but plaintext connection is not available")
            found.append(f"plaintext-channel={name}")
    return found


def _spice_details(device: Graphics) -> list[str]:
    """What passes between a spice viewer and the guest, and how."""
    compression = {"image": "image", "jpeg": "jpeg-wan", "zlib": "zlib-glz-wan"}
    found = []
    for name, option in compression.items():
        element = getattr(device, name)
        if element is not None and element.compression is not None:
            found.append(f"{option}-compression={element.compression}")
    if device.playback is not None and device.playback.compression is not None:
        found.append(f"playback-compression={'on' if device.playback.compression else 'off'}")
    if device.streaming is not None and device.streaming.mode is not None:
        found.append(f"streaming-video={device.streaming.mode}")
    if device.clipboard is not None and device.clipboard.copypaste is False:
        found.append("disable-copy-paste=on")
    if device.filetransfer is not None and device.filetransfer.enable is False:
        found.append("disable-agent-file-xfer=on")
    if device.gl is not None and device.gl.enable:
        found.append("gl=on")
        if device.gl.rendernode:
            found.append(f"rendernode={quote(device.gl.rendernode)}")
    return found


# the first card, and others
_DRIVERS = {
    "vga": ("VGA", "VGA"),
    "cirrus": ("cirrus-vga", "cirrus-vga"),
    "qxl": ("qxl-vga", "qxl"),
    "virtio": ("virtio-vga", "virtio-gpu-pci"),
    "bochs": ("bochs-display", "bochs-display"),
    "vmvga": ("vmware-svga", "vmware-svga"),
    "ramfb": ("ramfb", "ramfb"),
}
_VHOST_USER = ("vhost-user-vga", "vhost-user-gpu-pci")
_GL = ("virtio-vga-gl", "virtio-gpu-gl-pci")


def video(domain: Domain, device: Video, index: int, vhost_user: int | None = None) -> Parts:
    """The graphics card; the first is the primary one. ``vhost_user``: the socket of the process that draws it."""
    model = device.model
    if model is None or model.type == "none":
        return Parts()
    names = _DRIVERS.get(model.type)
    if names is None:
        raise ConfigUnsupported(f"domain configuration does not support video model '{model.type}'")
    alias = (device.alias and device.alias.name) or "video0"
    parts = Parts()
    beside = device.driver is not None and device.driver.name == "vhostuser"
    if beside:
        names = _VHOST_USER
        if vhost_user is None:
            raise ConfigUnsupported("<driver name='vhostuser'> of <video> is not supported yet")
        parts.chardevs.append(Chardev(f"chr-vu-{alias}", "socket", {"fd": str(vhost_user)}))
        parts.fds.append(vhost_user)
    elif model.type == "virtio" and model.acceleration is not None and model.acceleration.accel3d:
        names = _GL
    props: Props = {"driver": names[0 if index == 0 else 1]}
    if model.type == "virtio" and not (beside and index == 0):
        props |= virtio(device.driver)
    props["id"] = alias
    if model.type == "qxl":
        props |= {
            "max_outputs": model.heads or 1,
            "ram_size": (model.ram or 65536) * 1024,
            "vram_size": (model.vram or 65536) * 1024,
            "vram64_size_mb": (model.vram64 or 0) // 1024,
            "vgamem_mb": (model.vgamem or 16384) // 1024,
        }
    elif model.type == "virtio":
        props["max_outputs"] = model.heads or 1
        if beside:
            props["chardev"] = f"chr-vu-{alias}"
        if model.blob is not None:
            props["blob"] = model.blob
    elif model.type in ("vga", "vmvga"):
        props["vgamem_mb"] = (model.vram or 16384) // 1024
    elif model.type == "bochs":
        props["vgamem"] = (model.vram or 16384) * 1024
    if model.resolution is not None:
        props |= {"xres": model.resolution.x, "yres": model.resolution.y}
    if model.type != "ramfb":
        props |= pci(domain, device.address, device.acpi)
    parts.devices.append(props)
    return parts
