"""``<secret>``: what a password or key is for; its value travels apart from it, and stands in no document."""

from __future__ import annotations

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, XMLError
from guesthouse.model.fields import Attr, Bool, Child, Element, Text, Uuid, parse_document

#: Usage types in the order of libvirt's numbers (virSecretUsageType).
USAGES = ("none", "volume", "ceph", "iscsi", "tls", "vtpm")
_NONE = USAGES[0]

# which element names what a secret is used for, and what libvirt says where it is missing
_IDS = {"volume": "volume", "ceph": "name", "iscsi": "target", "tls": "name", "vtpm": "name"}
_MISSING = {
    "volume": "volume usage specified, but volume path is missing",
    "ceph": "Ceph usage specified, but name is missing",
    "iscsi": "iSCSI usage specified, but target is missing",
    "tls": "TLS usage specified, but name is missing",
    "vtpm": "vTPM usage specified, but name is missing",
}


class Usage(Element, tag="usage"):
    type: str | None = Attr("type")
    volume: str | None = Text("volume")
    name: str | None = Text("name")
    target: str | None = Text("target")


class Secret(Element, tag="secret"):
    """``ephemeral``: the value is never written down. ``private``: no client can have it back."""

    ephemeral: bool = Attr("ephemeral", Bool, default=False)
    private: bool = Attr("private", Bool, default=False)
    uuid: str | None = Text("uuid", Uuid)
    description: str | None = Text("description")
    usage: Usage | None = Child(Usage)

    @property
    def usage_type(self) -> int:
        """libvirt's number of what it is for; 0 for nothing."""
        return USAGES.index(self.usage.type) if self.usage and self.usage.type else 0

    @property
    def usage_id(self) -> str | None:
        """The volume's path, or the name of whatever else it is for; None where it is for nothing."""
        if self.usage is None or self.usage.type is None:
            return None
        found: str | None = getattr(self.usage, _IDS[self.usage.type])
        return found


def parse_secret(text: str) -> Secret:
    """A secret's document from outside; one that has no UUID gets one. Raises libvirt's errors."""
    node = parse_document(text, "(definition_of_secret)")
    if node.tag != Secret.TAG:
        raise XMLError(f"expecting root element of 'secret', not '{node.tag}'", domain=Domain.SECRET)
    for name in ("ephemeral", "private"):
        if node.get(name) not in (None, *Bool.words):
            raise XMLError(f"invalid value of '{name}'", domain=Domain.SECRET)
    uuid = node.findtext("uuid")
    if uuid is not None:
        try:
            units.parse_uuid(uuid)
        except GuesthouseError:
            raise InternalError("malformed uuid element", domain=Domain.SECRET) from None
    secret = Secret.parse(node)
    secret.uuid = secret.uuid or units.new_uuid()
    usage = secret.usage
    if usage is not None:
        if usage.type is None:
            raise XMLError("unknown secret usage type", domain=Domain.SECRET)
        if usage.type not in USAGES:
            raise ConfigUnsupported(f"unknown secret usage type {usage.type}", domain=Domain.SECRET)
        if usage.type == _NONE:
            secret.usage = None
        elif not secret.usage_id:
            raise InternalError(_MISSING[usage.type], domain=Domain.SECRET)
    return secret
