"""Commands that act on a running guest from outside: keys, interrupts, dumps, jobs."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number, rest, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.objects import DOMAIN, domain, read_file
from guesthouse.cli.virsh.params import show
from guesthouse.cli.virsh.shell import Shell

_CODESETS = ("linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum")
_KEYS_MOST = 16
_USHORT_MAX = 0xFFFF
_DUMP = {"crash": 1, "live": 2, "bypass-cache": 4, "reset": 8, "memory-only": 16}
_FORMATS = ("elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp")
_SIGNALS = (
    *("nop", "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2", "pipe", "alrm"),
    *("term", "stkflt", "chld", "cont", "stop", "tstp", "ttin", "ttou", "urg", "xcpu", "xfsz", "vtalrm", "prof"),
    *("winch", "poll", "pwr", "sys"),
)
_LIFECYCLE = ("poweroff", "reboot", "crash")
_ACTIONS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart")
_DIRTY = {"page-sampling": 1, "dirty-bitmap": 2, "dirty-ring": 4}
_POSTCOPY = 1
_SECRET_MOST = 64 * 1024
_LIVE, _CONFIG, _CURRENT = affected()


@command(
    "domain",
    "send-key",
    "press keys of a guest's keyboard",
    DOMAIN,
    string("codeset", "what the codes mean; linux where it is not given", " ".join(_CODESETS), named=True),
    number("holdtime", "hold the keys for so many milliseconds", named=True),
    rest("keycode", "the keys, by name or number", required=True),
    description="Press keys together, as KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE.",
)
def send_key(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    codeset = given.text("codeset") or "linux"
    holdtime = given.unsigned("holdtime") or 0
    # QEMU's numbers came to the world as RFB's
    codeset = {"rfb": "qnum"}.get(codeset, codeset)
    if codeset not in _CODESETS:
        raise Failed(f"unknown codeset: '{codeset}'")
    codes: list[int] = []
    for word in given.rest():
        if len(codes) == _KEYS_MOST:
            raise Failed("too many keycodes")
        codes.append(_code(codeset, word))
    guest.call("send_key", codeset=_CODESETS.index(codeset), holdtime=holdtime, keycodes=codes, flags=0)


def _code(codeset: str, word: str) -> int:
    code = int(word, 0) if word[:2].lower() == "0x" and word[2:].isalnum() else parse_number(word)
    if code is not None and 0 <= code <= _USHORT_MAX:
        return code
    from guesthouse.cli.virsh.keynames import find

    found = find(codeset, word)
    if found is None:
        raise Failed(f"invalid keycode: '{word}'")
    return found


@command("domain", "inject-nmi", "interrupt a guest's processors", DOMAIN, description="Inject an NMI into a guest.")
def inject_nmi(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    guest.call("inject_nmi", flags=0)


@command(
    "domain",
    "dump",
    "write a guest's memory to a file",
    DOMAIN,
    data("file", "the file"),
    flag("live", "let the guest go on meanwhile"),
    flag("crash", "end the guest afterwards"),
    flag("bypass-cache", "past the host's cache"),
    flag("reset", "reset the guest afterwards"),
    flag("verbose", "show how far it is"),
    flag("memory-only", "the memory alone, for tools that look into crashes"),
    string("format", "how the memory alone is written", " ".join(_FORMATS)),
    description="Dump a guest's memory to a file on the host where it runs.",
)
def dump(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    path = given.need("file")
    flags = given.flags(_DUMP)
    format = 0
    if given.has("format"):
        word = given.text("format") or ""
        if not given.has("memory-only"):
            raise Failed("--format only works with --memory-only")
        if word not in _FORMATS:
            raise Failed(
                f"format '{word}' is not supported, expecting 'kdump-zlib', 'kdump-lzo', 'kdump-snappy', 'win-dmp' or"
                " 'elf'"
            )
        format = _FORMATS.index(word)
    with shell.explain(f"Failed to core dump domain '{name}' to {path}"):
        if format:
            guest.call("core_dump_with_format", to=_absolute(path), dumpformat=format, flags=flags)
        else:
            guest.call("core_dump", to=_absolute(path), flags=flags)
    if given.has("verbose"):
        shell.out("Dump: [100 %]")
    shell.extra(f"\nDomain '{name}' dumped to {path}\n")


def _absolute(path: str) -> str:
    import os

    return os.path.abspath(path)  # noqa: PTH100


@command(
    "domain",
    "send-process-signal",
    "send a signal to a process in a guest",
    DOMAIN,
    data("pid", "the process's id"),
    data("signame", "the signal, by name or number"),
    description="Signal a process inside a guest, where the hypervisor can.",
)
def send_signal(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    pid, name = parse_number(given.need("pid")), given.need("signame")
    if pid is None:
        raise Failed(f"Numeric value '{given.raw('pid')}' for <pid> option is malformed or out of range")
    guest.call("send_process_signal", pid_value=pid, signum=_signal(name), flags=0)


def _signal(name: str) -> int:
    word = name.lower().removeprefix("vir_domain_process_signal_").removeprefix("sig")
    number = parse_number(name)
    if number is not None and number >= 0:
        return number
    if word in _SIGNALS:
        return _SIGNALS.index(word)
    if word.startswith("rt") and word[2:].isdigit() and int(word[2:]) <= 32:
        return len(_SIGNALS) + int(word[2:])
    raise Failed(f"malformed signal name: {name}")


@command(
    "domain",
    "set-lifecycle-action",
    "say what becomes of a guest that ends",
    DOMAIN,
    data("type", "when: poweroff, reboot or crash", " ".join(_LIFECYCLE)),
    data("action", "what happens then", " ".join(_ACTIONS)),
    _CONFIG,
    _LIVE,
    _CURRENT,
    description="Say what happens when a guest powers off, reboots or crashes.",
)
def set_lifecycle_action(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    kind, action = given.need("type"), given.need("action")
    if kind not in _LIFECYCLE:
        raise Failed(f"Invalid lifecycle type '{kind}'.")
    if action not in _ACTIONS:
        raise Failed(f"Invalid lifecycle action '{action}'.")
    guest, _ = domain(shell, given)
    guest.call("set_lifecycle_action", type=_LIFECYCLE.index(kind), action=_ACTIONS.index(action), flags=flags)


@command(
    "domain",
    "domlaunchsecinfo",
    "show how a guest's memory is protected",
    DOMAIN,
    description="Show what is known of the encryption of a guest's memory.",
)
def launch_security(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    with shell.explain("Unable to get launch security parameters"):
        params = guest.call("get_launch_security_info", flags=0).params
    show(shell, params, 15)


@command(
    "domain",
    "domsetlaunchsecstate",
    "put a secret into a guest's protected memory",
    DOMAIN,
    string("secrethdr", "the file with the secret's header", "file", named=True),
    string("secret", "the file with the secret", "file", named=True),
    number("set-address", "the address in the guest's memory where it is put"),
    description="Put a secret into the encrypted memory of a guest that has not run yet.",
)
def set_launch_security(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    header, secret = given.text("secrethdr"), given.text("secret")
    if header is None or secret is None:
        raise Failed("Both secret and the secret header are required")
    params: dict[str, tuple[str, str | int]] = {
        "sev-secret-header": ("string", read_file(header, _SECRET_MOST)),
        "sev-secret": ("string", read_file(secret, _SECRET_MOST)),
    }
    if (address := given.unsigned_long("set-address")) is not None:
        params["sev-secret-set-address"] = ("ullong", address)
    with shell.explain("Unable to set launch security state"):
        guest.call("set_launch_security_state", params=params, flags=0)


@command(
    "domain",
    "dom-fd-associate",
    "give a guest open files for its disks",
    DOMAIN,
    data("name", "the name of the group, as <source fdgroup> has it"),
    data("pass-fds", "the numbers of the open files: N,M,..."),
    flag("seclabel-writable", "label the files for writing"),
    flag("seclabel-restore", "give the files their labels back afterwards"),
    description="Hand open files to the daemon for a guest's disks; they are the guest's while this virsh is connected.",
)
def fd_associate(shell: Shell, given: Given) -> None:
    flags = given.flags({"seclabel-writable": 2, "seclabel-restore": 1})
    guest, _ = domain(shell, given)
    name = given.need("name")
    files = given.descriptors()
    guest.conn.call_with_files("domain_fd_associate", files, dom=guest, name=name, flags=flags)


@command(
    "domain",
    "domdirtyrate-calc",
    "measure how fast a guest changes its memory",
    DOMAIN,
    number("seconds", "for how long, 1 to 60; 1 where it is not given"),
    string("mode", "how", " ".join(_DIRTY)),
    description="Begin to measure; domstats --dirtyrate shows the outcome.",
)
def dirty_rate(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    seconds = given.integer("seconds")
    mode = given.text("mode")
    if mode is not None and mode not in _DIRTY:
        raise Failed(f"Unknown calculation mode '{mode}'")
    guest.call("start_dirty_rate_calc", seconds=1 if seconds is None else seconds, flags=_DIRTY[mode] if mode else 0)
    shell.extra("Start to calculate domain's memory dirty rate successfully.\n")


@command(
    "domain",
    "domjobabort",
    "give up what is being done to a guest",
    DOMAIN,
    flag("postcopy", "a migration that has begun on the other side"),
    description="Give up a job that takes long: a save, a dump, a migration.",
)
def abort_job(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    if given.has("postcopy"):
        guest.call("abort_job_flags", flags=_POSTCOPY)
    else:
        guest.call("abort_job")
