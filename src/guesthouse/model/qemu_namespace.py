"""What a document says to QEMU itself, in libvirt's own namespace for it: arguments, environment, properties of
devices, capabilities, deprecation."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import InternalError, XMLError
from guesthouse.model.fields import Attr, Child, Children, Choice, Element

_URI = "http://libvirt.org/schemas/domain/qemu/1.0"
_IN = f"{{{_URI}}}"


class Arg(Element, tag=f"{_IN}arg"):
    value: str | None = Attr("value", required=True)


class Env(Element, tag=f"{_IN}env"):
    name: str | None = Attr("name", required=True)
    value: str | None = Attr("value")


class CommandLine(Element, tag=f"{_IN}commandline"):
    args: list[Arg] = Children(Arg)
    envs: list[Env] = Children(Env)


class Capability(Element):
    capability: str | None = Attr("capability", required=True)


class Capabilities(Element, tag=f"{_IN}capabilities"):
    adds: list[Capability] = Children(Capability, f"{_IN}add")
    dels: list[Capability] = Children(Capability, f"{_IN}del")


class Property(Element, tag=f"{_IN}property"):
    name: str | None = Attr("name", required=True)
    type: str | None = Attr("type", Choice("signed", "unsigned", "bool", "string", "remove"), required=True)
    value: str | None = Attr("value")

    @property
    def plain(self) -> Any:
        """The value as QEMU gets it. Raises ValueError where it is no number."""
        if self.type in ("signed", "unsigned"):
            return int(self.value or "", 0)
        return self.value == "true" if self.type == "bool" else self.value


class Frontend(Element, tag=f"{_IN}frontend", hollow=True):
    properties: list[Property] = Children(Property)


class DeviceOverride(Element, tag=f"{_IN}device"):
    alias: str | None = Attr("alias", required=True)
    frontend: Frontend | None = Child(Frontend)


class Override(Element, tag=f"{_IN}override"):
    devices: list[DeviceOverride] = Children(DeviceOverride)


class Deprecation(Element, tag=f"{_IN}deprecation"):
    behavior: str | None = Attr("behavior", required=True)


class QemuNamespace(Element, tag="qemu"):
    """All of it, in libvirt's order."""

    URI: ClassVar[str] = _URI

    command_line: CommandLine | None = Child(CommandLine)
    capabilities: Capabilities | None = Child(Capabilities)
    override: Override | None = Child(Override)
    deprecation: Deprecation | None = Child(Deprecation)

    @classmethod
    def take(cls, nodes: list[Any]) -> Self | None:
        """What of ``nodes`` belongs here, taken out of the list; None where nothing does, or it says nothing."""
        ours = [node for node in nodes if node.tag in cls._elements]
        nodes[:] = [node for node in nodes if node not in ours]
        ours = [node for node in ours if len(node) or node.attrib]
        if not ours:
            return None
        self = cls()
        for node in ours:
            self._take(cls._elements[node.tag], node)
        self._check()
        return self

    def _check(self) -> None:
        for env in self.command_line.envs if self.command_line is not None else ():
            name = env.name or ""
            if not re.match(r"[A-Za-z_]", name):
                text = "Invalid environment name, it must begin with a letter or underscore"
                raise InternalError(text, domain=ErrorDomain.QEMU)
            if not re.fullmatch(r"[A-Za-z0-9_]*", name):
                text = "Invalid environment name, it must contain only alphanumerics and underscore"
                raise InternalError(text, domain=ErrorDomain.QEMU)
        for device in self.override.devices if self.override is not None else ():
            for wish in device.frontend.properties if device.frontend is not None else ():
                if wish.type != "remove" and wish.value is None:
                    raise XMLError("missing 'value' attribute for 'qemu:property'", domain=ErrorDomain.QEMU)

    @property
    def arguments(self) -> list[str]:
        return [arg.value or "" for arg in self.command_line.args] if self.command_line is not None else []

    @property
    def environment(self) -> dict[str, str]:
        envs = self.command_line.envs if self.command_line is not None else []
        return {env.name or "": env.value or "" for env in envs}

    def lines(self, indent: str) -> str:
        """The elements as they stand at the end of a document."""
        out: list[str] = []
        super()._write(out, indent[2:], self.TAG, False)
        return "".join(out[1:-1]).replace(_IN, "qemu:")
