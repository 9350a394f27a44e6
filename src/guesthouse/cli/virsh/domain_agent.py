"""Commands that talk to the agent inside a guest."""

from __future__ import annotations

import time

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, flag, number, rest, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, read_file
from guesthouse.cli.virsh.params import show
from guesthouse.cli.virsh.shell import Shell

_INFO = ("user", "os", "timezone", "hostname", "filesystem", "disk", "interface")
_INFO_HELP = (
    "who is logged in",
    "the operating system",
    "the time zone",
    "the host name",
    "the file systems",
    "the disks",
    "the network interfaces",
)
_HOSTNAME = {"lease": 1, "agent": 2}
_SUSPEND = ("mem", "disk", "hybrid")
_TIME_SYNC = 1
_KEYS_APPEND, _KEYS_REMOVE = 1, 2


@command(
    "domain",
    "guestinfo",
    "show what a guest's agent tells of it",
    DOMAIN,
    *(flag(name, help) for name, help in zip(_INFO, _INFO_HELP, strict=True)),
    description="Show everything that the agent can tell, or what the options choose.",
)
def info(shell: Shell, given: Given) -> None:
    types = given.flags({name: 1 << bit for bit, name in enumerate(_INFO)})
    guest, _ = domain(shell, given)
    show(shell, guest.call("get_guest_info", types=types, flags=0).params, 20)


@command(
    "domain",
    "domfsinfo",
    "show the file systems that a guest has mounted",
    DOMAIN,
    description="Show mount point, device, type and disk of each file system.",
)
def file_systems(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    with shell.explain("Unable to get filesystem information"):
        found = guest.call("get_fsinfo", flags=0).info
    if not found:
        shell.extra("No filesystems are mounted in the domain\n")
        return
    rows = [[item.mountpoint, item.name, item.fstype, ",".join(item.dev_aliases)] for item in found]
    shell.out(format_table(["Mountpoint", "Name", "Type", "Target"], rows, header=not shell.quiet))


@command(
    "domain",
    "domfsfreeze",
    "have a guest write out its file systems and hold still",
    DOMAIN,
    rest("mountpoint", "only these"),
    description="Freeze a guest's file systems, so that its disks can be copied.",
)
def freeze(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    with shell.explain("Unable to freeze filesystems"):
        count = guest.call("fsfreeze", mountpoints=given.rest(), flags=0).filesystems
    shell.extra(f"Froze {count} filesystem(s)\n")


@command(
    "domain",
    "domfsthaw",
    "let a guest's frozen file systems go on",
    DOMAIN,
    rest("mountpoint", "only these"),
    description="End what domfsfreeze began.",
)
def thaw(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    with shell.explain("Unable to thaw filesystems"):
        count = guest.call("fsthaw", mountpoints=given.rest(), flags=0).filesystems
    shell.extra(f"Thawed {count} filesystem(s)\n")


@command(
    "domain",
    "domfstrim",
    "have a guest give back what its file systems do not use",
    DOMAIN,
    number("minimum", "leave free ranges alone that are smaller (bytes)"),
    string("mountpoint", "only this one"),
    description="Discard the free space of a guest's file systems.",
)
def trim(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    minimum = given.unsigned_long("minimum") or 0
    with shell.explain("Unable to invoke fstrim"):
        guest.call("fstrim", mountPoint=given.text("mountpoint"), minimum=minimum, flags=0)


@command(
    "monitor",
    "domtime",
    "show or set a guest's clock",
    DOMAIN,
    flag("now", "set it to this host's time"),
    flag("pretty", "show it as date and time, in UTC"),
    flag("sync", "set it from the guest's own hardware clock"),
    number("time", "set it to these seconds since 1970"),
    description="Ask the guest's agent what time it is, or have it set the clock.",
)
def clock(shell: Shell, given: Given) -> None:
    given.exclusive("time", "now")
    given.exclusive("time", "sync")
    given.exclusive("now", "sync")
    given.exclusive("pretty", "time")
    given.exclusive("pretty", "now")
    given.exclusive("pretty", "sync")
    seconds = given.integer("time")
    guest, _ = domain(shell, given)
    if given.has("now") or given.has("sync") or seconds is not None:
        when = int(time.time()) if given.has("now") else seconds or 0
        guest.call("set_time", seconds=when, nseconds=0, flags=_TIME_SYNC if given.has("sync") else 0)
        return
    found = guest.call("get_time", flags=0)
    if given.has("pretty"):
        shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found.seconds))
        shell.out(f"Time: {shown}")
    else:
        shell.out(f"Time: {found.seconds}")


@command(
    "domain",
    "domhostname",
    "show a guest's host name",
    DOMAIN,
    string("source", "who is asked: lease or agent", " ".join(_HOSTNAME)),
    description="Ask the guest's agent, or the network's DHCP server, for the guest's host name.",
)
def host_name(shell: Shell, given: Given) -> None:
    source = given.text("source")
    if source is not None and source not in _HOSTNAME:
        raise Failed(f"Unknown data source '{source}'")
    guest, _ = domain(shell, given)
    with shell.explain("failed to get hostname"):
        name = guest.call("get_hostname", flags=_HOSTNAME[source] if source else 0).hostname
    shell.out(f"{name}\n")


@command(
    "domain",
    "set-user-password",
    "set the password of a guest's user",
    DOMAIN,
    data("user", "the user's name"),
    data("password", "the new password"),
    flag("encrypted", "the password is a hash, as the guest keeps it"),
    description="Have the guest's agent set a password.",
)
def set_password(shell: Shell, given: Given) -> None:
    user, password = given.need("user"), given.need("password")
    guest, name = domain(shell, given)
    guest.call("set_user_password", user=user, password=password, flags=int(given.has("encrypted")))
    shell.extra(f"\nPassword set successfully for {user} in {name}")


@command(
    "domain",
    "guest-agent-timeout",
    "say how long a guest's agent is waited for",
    DOMAIN,
    number("timeout", "seconds; -2 for ever, -1 the usual time, 0 not at all", named=True),
    description="Say how long commands wait for an answer of the agent in a guest.",
)
def agent_timeout(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    seconds = given.integer("timeout")
    guest.call("agent_set_response_timeout", timeout=-2 if seconds is None else seconds, flags=0)


@command(
    "domain",
    "get-user-sshkeys",
    "show the SSH keys that a guest's user lets in",
    DOMAIN,
    data("user", "the user's name"),
    description="Ask the guest's agent for a user's authorized_keys.",
)
def ssh_keys(shell: Shell, given: Given) -> None:
    user = given.need("user")
    guest, _ = domain(shell, given)
    for key in guest.call("authorized_ssh_keys_get", user=user, flags=0).keys:
        shell.out(key)


@command(
    "domain",
    "set-user-sshkeys",
    "change the SSH keys that a guest's user lets in",
    DOMAIN,
    data("user", "the user's name"),
    string("file", "a file with the keys, one a line"),
    flag("reset", "these instead of the present ones"),
    flag("remove", "take these away"),
    description="Have the guest's agent add keys to a user's authorized_keys, replace them or take them away.",
)
def set_ssh_keys(shell: Shell, given: Given) -> None:
    given.exclusive("reset", "remove")
    user, path = given.need("user"), given.text("file")
    guest, _ = domain(shell, given)
    if path is None and not given.has("reset"):
        raise Failed("Option --file is required")
    keys: list[str] = []
    if path is not None:
        keys = [line for line in read_file(path).splitlines() if line and not line.startswith("#")]
        if not keys:
            raise Failed(f"File {path} contains no keys")
    flags = _KEYS_REMOVE if given.has("remove") else 0 if given.has("reset") else _KEYS_APPEND
    guest.call("authorized_ssh_keys_set", user=user, keys=keys, flags=flags)


@command(
    "domain",
    "dompmsuspend",
    "have a guest go to sleep",
    DOMAIN,
    data("target", "mem, disk or hybrid"),
    number("duration", "for so many seconds", named=True),
    description="Have the guest's agent suspend it to its memory, to its disk or to both.",
)
def suspend(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    duration = given.unsigned_long("duration") or 0
    target = given.need("target")
    if target not in _SUSPEND:
        raise Failed("Invalid target")
    with shell.explain(f"Domain '{name}' could not be suspended"):
        guest.call("pm_suspend_for_duration", target=_SUSPEND.index(target), duration=duration, flags=0)
    shell.extra(f"Domain '{name}' successfully suspended")


@command(
    "domain",
    "dompmwakeup",
    "wake a sleeping guest",
    DOMAIN,
    description="Wake a guest that went to sleep by itself or by dompmsuspend.",
)
def wake(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    with shell.explain(f"Domain '{name}' could not be woken up"):
        guest.call("pm_wakeup", flags=0)
    shell.extra(f"Domain '{name}' successfully woken up")
