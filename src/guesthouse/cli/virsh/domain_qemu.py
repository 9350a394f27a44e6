"""Commands for those who know QEMU and its agent: their commands and events as they are."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag, number, rest, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, find_domain
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HMP = 1
_REGEX, _NOCASE = 1, 2
_BLOCK, _DEFAULT, _NOWAIT = -2, -1, 0


def _pretty(text: str) -> str:
    import json

    return json.dumps(json.loads(text), indent=2)


@command(
    "domain",
    "qemu-monitor-command",
    "run a command of QEMU's monitor",
    DOMAIN,
    flag("hmp", "a command for people, not JSON"),
    flag("pretty", "lay the answer out for people"),
    flag("return-value", "only the value of what it returns"),
    string("pass-fds", "descriptors to pass along: N,M,...", named=True),
    rest("cmd", "the command", required=True),
    description="Run a command of QEMU's, which may upset what the daemon knows of the guest.",
)
def monitor_command(shell: Shell, given: Given) -> None:
    given.exclusive("hmp", "pretty")
    given.exclusive("hmp", "return-value")
    words = given.rest()
    guest, _ = domain(shell, given)
    files = given.descriptors()
    cmd = " ".join(words)
    if not given.has("hmp"):
        cmd = _as_json(cmd, words)
    args = {"dom": guest, "cmd": cmd, "flags": _HMP if given.has("hmp") else 0}
    if files:
        result = guest.conn.call_with_files("qemu_domain_monitor_command_with_files", files, **args)
    else:
        result = guest.conn.call("qemu_domain_monitor_command", **args)
    text = str(result.result)
    if given.has("return-value"):
        import json

        answer = json.loads(text)
        if "return" not in answer:
            raise Failed(f"'return' member missing: {text}")
        text = json.dumps(answer["return"], separators=(",", ":"))
        shell.out(_pretty(text) if given.has("pretty") else text)
        return
    shell.out(_pretty(text) if given.has("pretty") else f"{text}\n")


def _as_json(cmd: str, words: list[str]) -> str:
    """A bare command is put into JSON, with what follows as its arguments. Raises Failed."""
    import json

    try:
        json.loads(cmd)
    except ValueError:
        if len(words) == 1:
            return json.dumps({"execute": cmd})
        rest = " ".join(words[1:])
        try:
            arguments = json.loads(rest if rest.startswith("{") else f"{{{rest}}}")
        except ValueError:
            raise Failed(f"failed to wrap arguments '{rest}' into a QMP command wrapper") from None
        return json.dumps({"execute": words[0], "arguments": arguments})
    return cmd


@command(
    "domain",
    "qemu-monitor-event",
    "wait for events of QEMU's",
    string("domain", "only of this guest", "domain"),
    string("event", "only events of this name"),
    flag("pretty", "lay out what belongs to an event for people"),
    flag("loop", "go on after the first event, until the time is over or ^C"),
    number("timeout", "give up after this many seconds"),
    flag("regex", "the name is a regular expression"),
    flag("no-case", "the name in any case"),
    flag("timestamp", "begin each event with the time"),
    description="Wait for an event of QEMU's own and print it.",
)
def monitor_event(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.events import watch

    name = given.text("domain")
    guest = None if name is None else find_domain(shell, name)
    flags = given.flags({"regex": _REGEX, "no-case": _NOCASE})
    wanted = given.text("event")

    def text(event: Any) -> str:
        details = event.details
        if details is not None and given.has("pretty"):
            details = _pretty(details)
        if given.has("timestamp"):
            return f"event {event.event} for domain '{event.dom.name}': {details or '<null>'}\n"
        stamp = f"{event.seconds}.{event.micros:06}"
        return f"event {event.event} at {stamp} for domain '{event.dom.name}': {details or '<null>'}\n"

    watch(
        shell,
        given,
        {0: text},
        lambda _, callback: shell.conn.monitor_event_register(guest, wanted, callback, flags),
    )


@command(
    "domain",
    "qemu-agent-command",
    "run a command of a guest's agent",
    DOMAIN,
    number("timeout", "wait so many seconds for the answer", named=True),
    flag("async", "wait for no answer"),
    flag("block", "wait for ever"),
    flag("pretty", "lay the answer out for people"),
    rest("cmd", "the command, in JSON", required=True),
    description="Run a command of the agent in a guest as it is.",
)
def agent_command(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    timeout = _DEFAULT
    seconds = given.integer("timeout")
    if seconds is not None:
        timeout = seconds
        if timeout < 1:
            raise Failed("timeout must be positive")
    if sum(given.has(name) for name in ("timeout", "async", "block")) > 1:
        raise Failed("timeout, async and block options are exclusive")
    timeout = _NOWAIT if given.has("async") else _BLOCK if given.has("block") else timeout
    cmd = " ".join(given.rest())
    result = guest.conn.call("qemu_domain_agent_command", dom=guest, cmd=cmd, timeout=timeout, flags=0).result
    if result is not None:
        shell.out(f"{_pretty(result) if given.has('pretty') else result}\n")
