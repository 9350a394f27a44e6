"""What this host is: libvirt's connection and node procedures."""

from __future__ import annotations

import os

from guesthouse.errors import NoSupport
from guesthouse.qemu.capabilities import QemuCapabilities
from guesthouse.services.context import Context

_LIB_VERSION = 9_000_000


class Host:
    """Answers for the host; ``caps`` is what its QEMU can do."""

    def __init__(self, ctx: Context, caps: QemuCapabilities) -> None:
        self._ctx = ctx
        self._caps = caps

    def get_type(self) -> str:
        return "QEMU"

    def get_version(self) -> int:
        return self._caps.version

    def get_lib_version(self) -> int:
        return _LIB_VERSION

    def get_hostname(self) -> str:
        return os.uname().nodename

    def node_get_security_model(self) -> tuple[str, str]:
        raise NoSupport("virNodeGetSecurityModel")
