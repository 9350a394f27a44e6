"""Documents as QEMU's own command lines."""

from __future__ import annotations

from guesthouse.errors import InvalidArg, check_flags
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.domain import Domain
from guesthouse.services.lifecycle import Runner

_FORMAT = "qemu-argv"


class Native:
    """Tells what a document comes to. ``defaults`` completes it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.defaults = GuestDefaults()

    async def domain_xml_to_native(self, nativeFormat: str, domainXml: str, flags: int) -> str:
        check_flags(flags, 0, "qemuConnectDomainXMLToNative")
        if nativeFormat != _FORMAT:
            raise InvalidArg(f"unsupported config type {nativeFormat}")
        domain = Domain.from_xml(domainXml, "(domain_definition)")
        prepare(domain, self.defaults)
        await self._runner.processors.settle(domain)
        return self._runner.command_line(domain)
