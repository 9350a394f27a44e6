"""libvirt-python's module libvirt_qemu: commands of QEMU's monitor and of guests' agents as they are.

``import guesthouse.libvirt.qemu as libvirt_qemu`` serves programs that were written for it.
"""

from __future__ import annotations

import os
from typing import Any

from guesthouse.libvirt import errors
from guesthouse.libvirt.objects import invalid, string, unsigned, wrap

VIR_DOMAIN_QEMU_AGENT_COMMAND_BLOCK = -2
VIR_DOMAIN_QEMU_AGENT_COMMAND_MIN = -2
VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT = -1
VIR_DOMAIN_QEMU_AGENT_COMMAND_NOWAIT = 0
VIR_DOMAIN_QEMU_AGENT_COMMAND_SHUTDOWN = 60
VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT = 0
VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP = 1


def _given(function: str, domain: Any, cmd: str, flags: int) -> dict[str, Any]:
    return {"dom": domain._o.ref, "cmd": string(cmd, function, "cmd"), "flags": unsigned(flags)}


def qemuMonitorCommand(domain: Any, cmd: str, flags: int) -> str:
    """QEMU's answer to a command: in JSON, or with the flag for people."""
    function = "virDomainQemuMonitorCommand"
    args = _given(function, domain, cmd, flags)
    return str(domain._o.session.call(function, "qemu_domain_monitor_command", args).result)


def qemuMonitorCommandWithFiles(
    domain: Any, cmd: str, files: list[int] | tuple[int, ...] = (), flags: int = 0
) -> tuple[str, list[Any]]:
    """The same with open files for the command; returns those that come back, too."""
    function = "virDomainQemuMonitorCommandWithFiles"
    args = _given(function, domain, cmd, flags)
    value, fds = domain._o.session.call_with_files(
        function, "qemu_domain_monitor_command_with_files", args, list(files)
    )
    return str(value.result), [os.fdopen(fd) for fd in fds]


def qemuAgentCommand(domain: Any, cmd: str, timeout: int, flags: int) -> str:
    """The answer of the guest's agent to a command. ``timeout`` is seconds, or one of the constants."""
    function = "virDomainQemuAgentCommand"
    args = _given(function, domain, cmd, flags) | {"timeout": timeout}
    answer = domain._o.session.call(function, "qemu_domain_agent_command", args).result
    if answer is None:
        raise errors.libvirtError(f"{function}() failed")
    return str(answer)


def qemuAttach(conn: Any, pid_value: int, flags: int) -> Any:
    """A guest of a QEMU that somebody else has started, which no daemon of today makes."""
    function = "virDomainQemuAttach"
    if conn._o is None:
        invalid(function, "connection")
    args = {"pid_value": unsigned(pid_value), "flags": unsigned(flags)}
    return wrap(conn, "nonnull_domain", conn._o.call(function, "qemu_domain_attach", args).dom)
