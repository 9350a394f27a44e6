"""<graphics> and <video>: the guest's screen, and who may look."""

from __future__ import annotations

from guesthouse.model.devices.address import Address, Alias, VirtioOptions
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, Int, Raw, Str, UInt


class Listen(Element, tag="listen"):
    type: str | None = Attr("type", Choice("none", "address", "network", "socket"))
    address: str | None = Attr("address", alias=("listen",))
    network: str | None = Attr("network")
    socket: str | None = Attr("socket")


class Graphics(Element, tag="graphics"):
    """A display server. ``passwd`` is a secret; ``port`` -1 is chosen at the start."""

    type: str = Attr("type", Choice("sdl", "vnc", "rdp", "desktop", "spice", "egl-headless", "dbus"), default="vnc")
    port: int | None = Attr("port", Int)
    tls_port: int | None = Attr("tlsPort", Int, alias=("tlsport",))
    autoport: bool | None = Attr("autoport", Bool)
    websocket: int | None = Attr("websocket", Int)
    websocket_generated: str | None = Attr("websocketGenerated")
    listen: str | None = Attr("listen", key="graphics.listen")
    keymap: str | None = Attr("keymap")
    share_policy: str | None = Attr("sharePolicy")
    default_mode: str | None = Attr("defaultMode")
    power_control: str | None = Attr("powerControl")
    wait: str | None = Attr("wait")
    display: str | None = Attr("display")
    xauth: str | None = Attr("xauth")
    fullscreen: str | None = Attr("fullscreen")
    passwd: str | None = Attr("passwd", Str, secret=True, alias=("password",))
    passwd_valid_to: str | None = Attr("passwdValidTo")
    connected: str | None = Attr("connected")
    listens: list[Listen] = Children(Listen)
    channels: object = Raw("channel")
    image: object = Raw("image")
    streaming: object = Raw("streaming")
    clipboard: object = Raw("clipboard")
    mouse: object = Raw("mouse")
    filetransfer: object = Raw("filetransfer")
    gl: object = Raw("gl")


class Acceleration(Element, tag="acceleration"):
    accel2d: bool | None = Attr("accel2d", Bool)
    accel3d: bool | None = Attr("accel3d", Bool)
    rendernode: str | None = Attr("rendernode")


class Resolution(Element, tag="resolution"):
    x: int | None = Attr("x", UInt)
    y: int | None = Attr("y", UInt)


class VideoModel(Element, tag="model"):
    """Memory sizes in KiB."""

    type: str = Attr(
        "type",
        Choice("vga", "cirrus", "vmvga", "xen", "vbox", "qxl", "parallels", "virtio", "gop", "none", "bochs", "ramfb"),
        default="vga",
        alias=("model",),
    )
    ram: int | None = Attr("ram", UInt)
    vram: int | None = Attr("vram", UInt)
    vram64: int | None = Attr("vram64", UInt)
    vgamem: int | None = Attr("vgamem", UInt)
    heads: int | None = Attr("heads", UInt)
    primary: bool | None = Attr("primary", Bool)
    blob: str | None = Attr("blob")
    acceleration: Acceleration | None = Child(Acceleration)
    resolution: Resolution | None = Child(Resolution)


class Video(Element, tag="video"):
    """A graphics card."""

    driver: VirtioOptions | None = Child(VirtioOptions)
    model: VideoModel | None = Child(VideoModel)
    alias: Alias | None = Child(Alias)
    address: Address | None = Child(Address)
