"""<serial>, <parallel>, <console>, <channel>: character devices and their host ends."""

from __future__ import annotations

from guesthouse.model.devices.address import Address, Alias, DeviceSeclabel
from guesthouse.model.fields import Attr, Child, Children, Choice, Element, OnOff, UInt

TYPES = (
    *("null", "vc", "pty", "dev", "file", "pipe", "stdio", "udp", "tcp", "unix", "spicevmc", "spiceport", "nmdm"),
    *("qemu-vdagent", "dbus"),
)


class CharSource(Element, tag="source"):
    """The host's end; which attributes count depends on the device's type."""

    mode: str | None = Attr("mode", Choice("connect", "bind", "client", "server"), alias=("mode",))
    host: str | None = Attr("host")
    service: str | None = Attr("service")
    path: str | None = Attr("path", alias=("path",))
    append: bool | None = Attr("append", OnOff)
    channel: str | None = Attr("channel")
    tls: str | None = Attr("tls")
    seclabels: list[DeviceSeclabel] = Children(DeviceSeclabel)


class CharLog(Element, tag="log"):
    """A file that gets a copy of the output."""

    file: str | None = Attr("file")
    append: bool | None = Attr("append", OnOff)


class CharProtocol(Element, tag="protocol"):
    type: str | None = Attr("type", Choice("raw", "telnet", "telnets", "tls"), alias=("protocol",))


class CharModel(Element, tag="model"):
    name: str | None = Attr("name")


class CharTarget(Element, tag="target"):
    """The guest's end."""

    type: str | None = Attr("type", alias=("target_type",))
    name: str | None = Attr("name", alias=("name",))
    state: str | None = Attr("state")
    address: str | None = Attr("address")
    port: int | None = Attr("port", UInt)
    model: CharModel | None = Child(CharModel)


class CharDevice(Element):
    """What the four have."""

    type: str = Attr("type", Choice(*TYPES), default="pty")
    tty: str | None = Attr("tty")
    sources: list[CharSource] = Children(CharSource)
    protocol: CharProtocol | None = Child(CharProtocol)
    log: CharLog | None = Child(CharLog)
    target: CharTarget | None = Child(CharTarget)
    alias: Alias | None = Child(Alias)
    address: Address | None = Child(Address)

    @property
    def is_virtio(self) -> bool:
        return self.target is not None and self.target.type == "virtio"

    @property
    def source(self) -> CharSource | None:
        """The (first) host end."""
        return self.sources[0] if self.sources else None

    def end(self) -> CharSource:
        """The host end, made where there is none."""
        if not self.sources:
            self.sources.append(CharSource())
        return self.sources[0]


class Serial(CharDevice, tag="serial"):
    pass


class Parallel(CharDevice, tag="parallel"):
    pass


class Console(CharDevice, tag="console"):
    pass


class Channel(CharDevice, tag="channel"):
    pass
