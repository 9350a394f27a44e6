"""Commands of C virsh that no daemon serves for QEMU's guests: scripts get the error that they know."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, rest
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell


@command(
    "domain",
    "qemu-attach",
    "take over a QEMU that somebody else has started",
    data("pid", "the number of its process"),
    description="Make a guest of a QEMU process that already runs. No daemon of today can.",
)
def qemu_attach(shell: Shell, given: Given) -> None:
    pid = given.unsigned("pid")
    with shell.explain(f"Failed to attach to pid {pid}"):
        name = shell.conn.call("qemu_domain_attach", pid_value=pid, flags=0).dom.name
    shell.extra(f"Domain '{name}' attached to pid {pid}\n")


@command(
    "domain",
    "lxc-enter-namespace",
    "run a command in a container",
    DOMAIN,
    flag("noseclabel", "leave the process its own security label"),
    rest("cmd", "the command", required=True),
    description="Run a command inside a guest that is a container. QEMU's guests are none.",
)
def lxc_enter_namespace(shell: Shell, given: Given) -> None:
    domain(shell, given)
    raise Failed("this function is not supported by the connection driver: virDomainLxcOpenNamespace")
