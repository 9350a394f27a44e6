"""<serial>, <parallel>, <console>, <channel>: character devices and their host ends."""

from __future__ import annotations

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import XMLError
from guesthouse.model.devices.address import AcpiIndex, Address, Alias, DeviceSeclabel
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, OnOff, UInt32

TYPES = (
    *("null", "vc", "pty", "dev", "file", "pipe", "stdio", "udp", "tcp", "unix", "spicevmc", "spiceport", "nmdm"),
    *("qemu-vdagent", "dbus"),
)


def _port(text: str) -> int:
    try:
        value: int = UInt32.parse(text)
    except ValueError:
        raise XMLError(f"Invalid port number: {text}", domain=ErrorDomain.DOMAIN) from None
    return value


_PORT = UInt32._replace(parse=_port)


class Reconnect(Element, tag="reconnect"):
    """Whether, and after how many seconds, a client that was cut off calls again."""

    enabled: bool | None = Attr("enabled", Bool)
    timeout: int | None = Attr("timeout", UInt32)


class Clipboard(Element, tag="clipboard"):
    copypaste: bool | None = Attr("copypaste", Bool)


class Mouse(Element, tag="mouse"):
    mode: str | None = Attr("mode", Choice("server", "client"))


class CharSource(Element, tag="source"):
    """The host's end; which attributes count depends on the device's type."""

    mode: str | None = Attr("mode", alias=("mode",))
    host: str | None = Attr("host")
    service: str | None = Attr("service")
    path: str | None = Attr("path", alias=("path",))
    append: bool | None = Attr("append", OnOff)
    channel: str | None = Attr("channel")
    master: str | None = Attr("master")
    slave: str | None = Attr("slave")
    tls: str | None = Attr("tls")
    clipboard: Clipboard | None = Child(Clipboard)
    mouse: Mouse | None = Child(Mouse)
    seclabels: list[DeviceSeclabel] = Children(DeviceSeclabel)
    reconnect: Reconnect | None = Child(Reconnect)


class CharLog(Element, tag="log"):
    """A file that gets a copy of the output."""

    file: str | None = Attr("file")
    append: bool | None = Attr("append", OnOff)


class CharProtocol(Element, tag="protocol", hollow=True):
    type: str | None = Attr("type", Choice("raw", "telnet", "telnets", "tls"), alias=("protocol",))


class CharModel(Element, tag="model"):
    name: str | None = Attr("name")


class CharTarget(Element, tag="target"):
    """The guest's end."""

    type: str | None = Attr("type", alias=("target_type",))
    name: str | None = Attr("name", alias=("name",))
    state: str | None = Attr("state")
    address: str | None = Attr("address")
    port: int | None = Attr("port", _PORT)
    model: CharModel | None = Child(CharModel)


class CharEnd(Element):
    """Whatever has a host's end: its ``type``, one or two sources, a protocol and a log."""

    type: str | None
    sources: list[CharSource]
    protocol: CharProtocol | None
    log: CharLog | None
    alias: Alias | None = None

    @property
    def source(self) -> CharSource | None:
        """The (first) host end."""
        return self.sources[0] if self.sources else None

    def end(self) -> CharSource:
        """The host end, made where there is none."""
        if not self.sources:
            self.sources.append(CharSource())
        return self.sources[0]


class CharDevice(CharEnd):
    """What the four have."""

    type: str = Attr("type", Choice(*TYPES), default="pty")
    tty: str | None = Attr("tty")
    sources: list[CharSource] = Children(CharSource)
    protocol: CharProtocol | None = Child(CharProtocol)
    log: CharLog | None = Child(CharLog)
    target: CharTarget | None = Child(CharTarget)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def is_virtio(self) -> bool:
        return self.target is not None and self.target.type == "virtio"


class Serial(CharDevice, tag="serial"):
    pass


class Parallel(CharDevice, tag="parallel"):
    pass


class Console(CharDevice, tag="console"):
    pass


class Channel(CharDevice, tag="channel"):
    pass
