"""What a disk's <source> may hold: servers, keys and settings of network storage, encryption, slices, reservations."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Content, Element, Hex, Size, UInt


class SourceHost(Element, tag="host"):
    """A server of network storage."""

    name: str | None = Attr("name", alias=("source_host_name",))
    port: str | None = Attr("port", alias=("source_host_port",))
    transport: str | None = Attr("transport", Choice("tcp", "unix", "rdma"), alias=("source_host_transport",))
    socket: str | None = Attr("socket", alias=("source_host_socket",))


class SourceSnapshot(Element, tag="snapshot"):
    name: str | None = Attr("name")


class SourceConfig(Element, tag="config"):
    """The client's configuration file."""

    file: str | None = Attr("file")


class InitiatorName(Element, tag="iqn"):
    name: str | None = Attr("name")


class Initiator(Element, tag="initiator"):
    iqn: InitiatorName | None = Child(InitiatorName)


class Ssl(Element, tag="ssl"):
    """Whether the server has to prove who it is."""

    verify: bool | None = Attr("verify", Bool)


class Cookie(Element, tag="cookie"):
    name: str | None = Attr("name", required=True)
    value: str | None = Content()


class Cookies(Element, tag="cookies"):
    cookies: list[Cookie] = Children(Cookie)


class ReadAhead(Element, tag="readahead"):
    """Bytes."""

    size: int | None = Attr("size", UInt)


class Timeout(Element, tag="timeout"):
    seconds: int | None = Attr("seconds", UInt)


class Identity(Element, tag="identity"):
    """Whom an NFS server takes the guest for: names, or numbers behind a plus sign."""

    user: str | None = Attr("user")
    group: str | None = Attr("group")


class Slice(Element, tag="slice"):
    """A part of the storage, in bytes."""

    type: str | None = Attr("type", Choice("storage"))
    offset: int | None = Attr("offset", UInt)
    size: int | None = Attr("size", UInt)


class Slices(Element, tag="slices"):
    slices: list[Slice] = Children(Slice)


class SourceSecret(Element, tag="secret"):
    """A secret of the host, by UUID or by what it is for."""

    type: str | None = Attr("type", Choice("passphrase", "iscsi", "ceph", "volume", "tls", "vtpm"))
    usage: str | None = Attr("usage")
    uuid: str | None = Attr("uuid")


class Auth(Element, tag="auth"):
    """Who the guest's storage is opened as."""

    username: str | None = Attr("username")
    secret: SourceSecret | None = Child(SourceSecret)


class EncryptionCipher(Element, tag="cipher"):
    name: str | None = Attr("name")
    size: str | None = Attr("size")
    mode: str | None = Attr("mode")
    hash: str | None = Attr("hash")


class IvGenerator(Element, tag="ivgen"):
    name: str | None = Attr("name")
    hash: str | None = Attr("hash")


class Encryption(Element, tag="encryption", paired=True):
    """How the data are encrypted, and who takes care of it."""

    format: str | None = Attr("format", Choice("default", "qcow", "luks", "luks2"), required=True)
    engine: str | None = Attr("engine", Choice("qemu", "librbd"))
    secrets: list[SourceSecret] = Children(SourceSecret)
    cipher: EncryptionCipher | None = Child(EncryptionCipher)
    ivgen: IvGenerator | None = Child(IvGenerator)


class ReservationSource(Element, tag="source"):
    type: str | None = Attr("type")
    path: str | None = Attr("path")
    mode: str | None = Attr("mode")


class Reservations(Element, tag="reservations"):
    """SCSI persistent reservations: by a helper of ours (``managed``), or one that listens at a socket."""

    managed: bool | None = Attr("managed", Bool)
    source: ReservationSource | None = Child(ReservationSource)


class Reconnect(Element, tag="reconnect"):
    enabled: bool | None = Attr("enabled", Bool)
    timeout: int | None = Attr("timeout", UInt)


class SourceAddress(Element, tag="address"):
    """The PCI address of an NVMe disk of the host."""

    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))


class MetadataCache(Element, tag="metadata_cache"):
    """Of qcow2, in bytes."""

    max_size: int | None = Size("max_size", keep="bytes")
