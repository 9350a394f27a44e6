"""<graphics> and <video>: the guest's screen, and who may look."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias, VirtioOptions
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, Int, OnOff, Positive, Str, UInt

SPICE_CHANNELS = ("main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir")


class Listen(Element, tag="listen"):
    type: str | None = Attr("type", Choice("none", "address", "network", "socket"))
    address: str | None = Attr("address")
    network: str | None = Attr("network")
    socket: str | None = Attr("socket")


class SpiceChannel(Element, tag="channel"):
    """Whether one of spice's channels must be encrypted."""

    name: str | None = Attr("name", Choice(*SPICE_CHANNELS), required=True)
    mode: str | None = Attr("mode", Choice("any", "secure", "insecure"), required=True)


class Image(Element, tag="image"):
    """How spice compresses pictures."""

    compression: str | None = Attr(
        "compression",
        Choice("auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
        alias=("image_compression",),
    )


class Jpeg(Element, tag="jpeg"):
    compression: str | None = Attr("compression", Choice("auto", "never", "always"))


class Zlib(Element, tag="zlib"):
    compression: str | None = Attr("compression", Choice("auto", "never", "always"))


class Playback(Element, tag="playback"):
    compression: bool | None = Attr("compression", OnOff)


class GraphicsAudio(Element, tag="audio"):
    """Which of the host's sound systems the screen's viewers hear."""

    id: int | None = Attr("id", Positive)


class Streaming(Element, tag="streaming"):
    mode: str | None = Attr("mode", Choice("filter", "all", "off"), alias=("streaming_mode",))


class Clipboard(Element, tag="clipboard"):
    copypaste: bool | None = Attr("copypaste", Bool, alias=("clipboard_copypaste",))


class Mouse(Element, tag="mouse"):
    mode: str | None = Attr("mode", Choice("server", "client"), alias=("mouse_mode",))


class FileTransfer(Element, tag="filetransfer"):
    enable: bool | None = Attr("enable", Bool, alias=("filetransfer_enable",))


class Gl(Element, tag="gl", hollow=True):
    enable: bool | None = Attr("enable", Bool, alias=("gl",))
    rendernode: str | None = Attr("rendernode", alias=("rendernode",))


class Graphics(Element, tag="graphics"):
    """A display server. ``passwd`` is a secret; ``port`` -1 is chosen at the start."""

    type: str = Attr("type", Choice("sdl", "vnc", "rdp", "desktop", "spice", "egl-headless", "dbus"), default="vnc")
    port: int | None = Attr("port", Int)
    tls_port: int | None = Attr("tlsPort", Int, alias=("tlsport",))
    autoport: bool | None = Attr("autoport", Bool)
    websocket: int | None = Attr("websocket", Int)
    websocket_generated: str | None = Attr("websocketGenerated")
    socket: str | None = Attr("socket")
    listen: str | None = Attr("listen")
    keymap: str | None = Attr("keymap")
    share_policy: str | None = Attr("sharePolicy", Choice("allow-exclusive", "force-shared", "ignore"))
    default_mode: str | None = Attr("defaultMode", Choice("any", "secure", "insecure"))
    power_control: bool | None = Attr("powerControl", Bool)
    wait: str | None = Attr("wait")
    display: str | None = Attr("display")
    xauth: str | None = Attr("xauth")
    fullscreen: bool | None = Attr("fullscreen", Bool)
    p2p: bool | None = Attr("p2p", Bool)
    address: str | None = Attr("address")
    passwd: str | None = Attr("passwd", Str, secret=True, alias=("password",))
    passwd_valid_to: str | None = Attr("passwdValidTo", alias=("passwordValidTo",))
    connected: str | None = Attr("connected")
    listens: list[Listen] = Children(Listen, key="listens")
    channels: list[SpiceChannel] = Children(SpiceChannel)
    image: Image | None = Child(Image)
    jpeg: Jpeg | None = Child(Jpeg)
    zlib: Zlib | None = Child(Zlib)
    playback: Playback | None = Child(Playback)
    streaming: Streaming | None = Child(Streaming)
    mouse: Mouse | None = Child(Mouse)
    clipboard: Clipboard | None = Child(Clipboard)
    filetransfer: FileTransfer | None = Child(FileTransfer)
    gl: Gl | None = Child(Gl)
    audio: GraphicsAudio | None = Child(GraphicsAudio)

    @property
    def gl_node_missing(self) -> bool:
        """Whether it draws with the host's graphics card, and the document does not say with which."""
        if self.type not in ("spice", "egl-headless", "dbus") or (self.gl is not None and self.gl.rendernode):
            return False
        return self.type == "egl-headless" or bool(self.gl is not None and self.gl.enable)


class Acceleration(Element, tag="acceleration"):
    accel2d: bool | None = Attr("accel2d", Bool)
    accel3d: bool | None = Attr("accel3d", Bool, alias=("accel3d",))
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
    ram: int | None = Attr("ram", UInt, alias=("ram",))
    vram: int | None = Attr("vram", UInt, alias=("vram",))
    vram64: int | None = Attr("vram64", UInt, alias=("vram64",))
    vgamem: int | None = Attr("vgamem", UInt, alias=("vgamem",))
    heads: int | None = Attr("heads", UInt, alias=("heads",))
    primary: bool | None = Attr("primary", Bool)
    blob: bool | None = Attr("blob", OnOff)
    acceleration: Acceleration | None = Child(Acceleration)
    resolution: Resolution | None = Child(Resolution)


class VideoDriver(VirtioOptions, tag="driver"):
    """``name`` says who plays the card: QEMU, or a process beside it ("vhostuser")."""

    vgaconf: str | None = Attr("vgaconf", Choice("io", "on", "off"))
    name: str | None = Attr("name", Choice("qemu", "vhostuser"))


class Video(Element, tag="video"):
    """A graphics card."""

    driver: VideoDriver | None = Child(VideoDriver)
    model: VideoModel | None = Child(VideoModel)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
