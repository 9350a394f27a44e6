"""<graphics> and <video> for QEMU: the display server and the guest's card."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.graphics import Graphics, Video
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, virtio
from guesthouse.qemu.parts import Parts, Props, quote

VNC_BASE = 5900


def graphics(device: Graphics) -> Parts:
    """A live display server: port and address are decided. A password is not set here: it goes over the monitor."""
    if device.type not in ("vnc", "spice"):
        raise ConfigUnsupported(f"graphics type '{device.type}' is not supported yet")
    listen = device.listens[0] if device.listens else None
    if listen is not None and listen.type not in (None, "address", "socket", "none", "network"):
        raise ConfigUnsupported(f"graphics listen type '{listen.type}' is not supported yet")
    address = (listen and listen.address) or device.listen or "127.0.0.1"
    if ":" in address:
        address = f"[{address}]"
    if device.type == "vnc":
        if listen is not None and listen.type == "socket":
            where = f"vnc=unix:{quote(listen.socket or '')}"
        elif listen is not None and listen.type == "none":
            where = "none"
        else:
            assert device.port is not None
            where = f"{address}:{device.port - VNC_BASE}"
        options = [where]
        if device.websocket is not None and device.websocket > 0:
            options.append(f"websocket={device.websocket}")
        if device.share_policy:
            options.append(f"share={device.share_policy}")
        if device.passwd is not None:
            options.append("password=on")
        options.append("audiodev=audio1")
        out = ["-vnc", ",".join(options)]
        if device.keymap:
            out += ["-k", device.keymap]
        return Parts(options=out)
    # libvirt's words where spice_tls is off in qemu.conf, as it is unless an administrator has made certificates
    if device.tls_port not in (None, 0, -1):
        raise ConfigUnsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf")
    if device.default_mode == "secure":
        raise ConfigUnsupported("spice defaultMode secure requested in XML configuration, but TLS is not enabled")
    for name in ("channels", "jpeg", "zlib", "playback", "gl"):
        if getattr(device, name) not in (None, []):
            raise ConfigUnsupported(f"<{name}> of spice graphics is not supported yet")
    if listen is not None and listen.type == "socket":
        options = ["unix", f"addr={quote(listen.socket or '')}"]
    elif (listen is not None and listen.type == "none") or device.port is None:
        options = ["port=0"]
    else:
        options = [f"port={device.port}", f"addr={address}"]
    if device.passwd is None:
        options.append("disable-ticketing=on")
    options += _spice_details(device)
    options.append("seamless-migration=on")
    return Parts(options=["-spice", ",".join(options)])


def _spice_details(device: Graphics) -> list[str]:
    """What passes between a spice viewer and the guest, and how."""
    found = []
    if device.mouse is not None and device.mouse.mode is not None:
        found.append(f"agent-mouse={'off' if device.mouse.mode == 'server' else 'on'}")
    if device.image is not None and device.image.compression is not None:
        found.append(f"image-compression={device.image.compression}")
    if device.streaming is not None and device.streaming.mode is not None:
        found.append(f"streaming-video={device.streaming.mode}")
    if device.clipboard is not None and device.clipboard.copypaste is False:
        found.append("disable-copy-paste=on")
    if device.filetransfer is not None and device.filetransfer.enable is False:
        found.append("disable-agent-file-xfer=on")
    return found


_DRIVERS = {
    "vga": ("VGA", "VGA"),
    "cirrus": ("cirrus-vga", "cirrus-vga"),
    "qxl": ("qxl-vga", "qxl"),
    "virtio": ("virtio-vga", "virtio-gpu-pci"),
    "bochs": ("bochs-display", "bochs-display"),
    "vmvga": ("vmware-svga", "vmware-svga"),
    "ramfb": ("ramfb", "ramfb"),
}


def video(domain: Domain, device: Video, index: int) -> Parts:
    """The graphics card; the first is the primary one."""
    model = device.model
    if model is None or model.type == "none":
        return Parts()
    names = _DRIVERS.get(model.type)
    if names is None:
        raise ConfigUnsupported(f"video model '{model.type}' is not supported yet")
    if model.acceleration is not None and model.acceleration.accel3d:
        raise ConfigUnsupported("3D acceleration of video devices is not supported yet")
    props: Props = {"driver": names[0 if index == 0 else 1], "id": (device.alias and device.alias.name) or "video0"}
    if model.type == "qxl":
        props |= {
            "max_outputs": model.heads or 1,
            "ram_size": (model.ram or 65536) * 1024,
            "vram_size": (model.vram or 65536) * 1024,
            "vram64_size_mb": (model.vram64 or 0) // 1024,
            "vgamem_mb": (model.vgamem or 16384) // 1024,
        }
    elif model.type == "virtio":
        props |= virtio(device.driver)
        props["max_outputs"] = model.heads or 1
    elif model.type in ("vga", "vmvga"):
        props["vgamem_mb"] = (model.vram or 16384) // 1024
    elif model.type == "bochs":
        props["vgamem"] = (model.vram or 16384) * 1024
    if model.resolution is not None and model.type in ("vga", "qxl", "virtio", "bochs"):
        props |= {"xres": model.resolution.x, "yres": model.resolution.y}
    if model.type != "ramfb":
        props |= pci(domain, device.address)
    return Parts(devices=[props])
