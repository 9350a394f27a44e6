"""The options of the command line, a row each, and the parser that the rows drive.

The grammar is argparse's, which virt-install's users know: ``--name demo``, ``--name=demo``, ``-n demo``, ``-ndemo``,
and beginnings of names that mean one option only. Without argparse, because its import costs more than the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# how an option takes a value: not at all, always, always and any number of times, if one follows
FLAG, VALUE, LIST, MAYBE = "flag", "value", "list", "maybe"


class Option(NamedTuple):
    """A row. ``names`` are without their dashes, the first is the one that help shows; ``constant`` is what a MAYBE
    option means without a value; an empty ``help`` keeps it out of the help text."""

    names: tuple[str, ...]
    kind: str
    help: str = ""
    group: str = ""
    constant: str = ""
    family: bool = False

    @property
    def name(self) -> str:
        return self.names[0]


def _rows() -> tuple[Option, ...]:
    general, install, system = "General options", "Installation", "Guest operating system"
    device, guest, platform = "Devices", "Guest configuration", "Virtualization platform"
    misc = "Miscellaneous"

    def family(name: str, text: str, group: str, *more: str, kind: str = LIST, constant: str = "") -> Option:
        return Option((name, *more), kind, text, group, constant, True)

    return (
        Option(("connect",), VALUE, "daemon to make the guest on (a libvirt URI)", general),
        Option(("name", "n"), VALUE, "name of the guest", general),
        family("memory", "memory in MiB: --memory 2048", general),
        Option(("ram", "r"), VALUE),
        family("vcpus", "processors: --vcpus 4", general),
        family("metadata", "title, description and the like", general),
        Option(("uuid", "u"), VALUE, "UUID of the guest", general),
        Option(("title",), VALUE, "a line that says what the guest is for", general),
        Option(("description",), VALUE, "a text about the guest", general),
        Option(("cdrom", "c"), VALUE, "CD image to install from", install),
        Option(("location", "l"), VALUE, "tree, folder or CD image whose installer's kernel is booted", install),
        Option(("pxe",), FLAG, "boot the installer over the network", install),
        Option(("import",), FLAG, "there is a system on the disk already", install),
        Option(("livecd",), FLAG),
        Option(("extra-args", "x"), LIST, "more words for the installer's kernel (with --location)", install),
        Option(("initrd-inject",), LIST, "put a file into the installer's initrd (with --location)", install),
        family("install", "finer points: os=, bootdev=, kernel=, initrd=, no_install=", install, kind=VALUE),
        family(
            "unattended",
            "answer the installer's questions: --unattended admin-password-file=FILE,user-login=NAME,...",
            install,
            kind=MAYBE,
            constant="1",
        ),
        family(
            "cloud-init",
            "what cloud-init in an image finds at the first boot; alone: a new password for root",
            install,
            kind=MAYBE,
            constant="1",
        ),
        Option(("reinstall",), VALUE, "install an existing guest again, as it is defined", install),
        family("boot", "what to boot after installation: --boot hd,menu=on", install),
        family(
            "osinfo",
            "operating system that is installed: --osinfo debian12 (list: --osinfo list)",
            system,
            "os-variant",
        ),
        Option(("os-type",), VALUE),
        family("disk", "storage: --disk size=20, --disk /path/image.qcow2", device),
        family("network", "network card: --network bridge=br0,model=virtio", device, "w"),
        family("graphics", "screen: --graphics vnc,listen=0.0.0.0", device),
        family("controller", "bus: --controller scsi,model=virtio-scsi", device),
        family("input", "keyboard, mouse or tablet", device),
        family("serial", "serial port", device),
        family("parallel", "parallel port", device),
        family("channel", "channel to a program in the guest", device),
        family("console", "text console", device),
        family("sound", "sound card", device, "soundhw", kind=MAYBE, constant="default"),
        family("video", "graphics card", device),
        family("watchdog", "watchdog", device),
        family("memballoon", "memory balloon", device),
        family("rng", "random numbers: --rng /dev/urandom", device),
        family("tpm", "trusted platform module", device),
        family("panic", "panic notifier", device),
        family("redirdev", "USB devices of the viewer's machine", device),
        family("hostdev", "device of the host that the guest gets: --hostdev 001.003", device, "host-device"),
        family("filesystem", "folder that host and guest share: --filesystem /srv,tag", device),
        family("smartcard", "smartcard reader", device),
        family("audio", "sound system of the host that cards play to", device),
        family("memdev", "memory module: --memdev dimm,target.size=1024", device),
        family("shmem", "memory that guests share: --shmem name=shared", device),
        family("vsock", "sockets between host and guest: --vsock cid.auto=yes", device),
        family("iommu", "IOMMU: --iommu model=intel", device),
        family("pstore", "where a kernel that crashes leaves its last words", device),
        family("features", "platform features: --features acpi=off", guest),
        family("clock", "clock and timers", guest),
        family("cpu", "processor that the guest sees: --cpu host-model", guest),
        family("events", "what follows a power-off, a reboot, a crash", guest),
        family("pm", "sleep states", guest),
        family("resource", "cgroup partition", guest),
        family("seclabel", "security label of the guest", guest, "security"),
        family("launchSecurity", "encrypted memory: --launchSecurity sev", guest, "launchsecurity"),
        family("sysinfo", "what the guest reads in its SMBIOS tables: --sysinfo host", guest),
        family("iothreads", "number of threads for disks", guest),
        family("memorybacking", "where the guest's memory comes from: --memorybacking hugepages=on", guest),
        family("memtune", "limits of memory", guest),
        family("blkiotune", "shares and limits of disks", guest),
        family("cputune", "processors that the guest's may use, shares of time", guest),
        family("numatune", "the host's nodes that memory may come from", guest),
        family("keywrap", "wrapping of keys on S390", guest),
        family("idmap", "users in a container", guest),
        family("qemu-commandline", "words for QEMU itself: --qemu-commandline='-device foo'", guest),
        family("xml", "edit the finished document by XPath: --xml ./cpu/@mode=host-passthrough", guest),
        Option(("cpuset",), VALUE),
        Option(("check-cpu",), FLAG),
        Option(("hvm", "v"), FLAG, "a fully virtualized guest", platform),
        Option(("paravirt", "p"), FLAG, "a paravirtualized guest (Xen)", platform),
        Option(("container",), FLAG, "a container", platform),
        Option(("init",), VALUE),
        Option(("virt-type",), VALUE, "hypervisor: kvm or qemu", platform),
        Option(("arch",), VALUE, "architecture of the guest", platform),
        Option(("machine",), VALUE, "machine type", platform),
        Option(("noapic",), FLAG),
        Option(("noacpi",), FLAG),
        Option(("accelerate",), FLAG),
        Option(("autostart",), FLAG, "start the guest when the host boots", misc),
        Option(("transient",), FLAG, "forget the guest when it ends", misc),
        Option(("destroy-on-exit",), FLAG, "end the guest when its console is closed", misc),
        Option(("wait",), MAYBE, "minutes to wait for the installation to end (none: for ever)", misc, "-1"),
        Option(("autoconsole",), VALUE, "console to open: text, graphical, none, default", misc),
        Option(("noautoconsole",), FLAG, "open no console", misc),
        Option(("noreboot",), FLAG, "do not start the guest again after installation", misc),
        Option(("print-xml",), MAYBE, "show the guest's document (of step 1, 2 or all) and make nothing", misc, "all"),
        Option(("print-step",), VALUE),
        Option(("dry-run",), FLAG, "do all that can be done without making anything", misc),
        Option(("check",), LIST, "leave checks out: --check path_in_use=off, disk_size=off, all=off", misc),
        Option(("quiet", "q"), FLAG, "only errors", misc),
        Option(("debug", "d"), FLAG, "tell more, and show where an error came from", misc),
        Option(("prompt",), FLAG),
        Option(("force",), FLAG),
        Option(("version",), FLAG, "print the version", misc),
        Option(("help", "h"), FLAG, "print this text", misc),
        # spellings of old
        Option(("file", "f"), LIST),
        Option(("file-size", "s"), LIST),
        Option(("nonsparse",), FLAG),
        Option(("nodisks",), FLAG),
        Option(("nonetworks",), FLAG),
        Option(("bridge", "b"), LIST),
        Option(("mac", "m"), LIST),
        Option(("vnc",), FLAG),
        Option(("vncport",), VALUE),
        Option(("vnclisten",), VALUE),
        Option(("keymap", "k"), VALUE),
        Option(("sdl",), FLAG),
        Option(("nographics",), FLAG),
        Option(("test-media-detection",), VALUE),
    )


class UsageError(Exception):
    """A command line that means nothing; ``hint`` may say what was meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Options:
    """What was given: the values of each option in their order, flags as empty strings."""

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def add(self, name: str, value: str) -> None:
        self.given.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        return self.given.get(name, [])

    def last(self, name: str) -> str | None:
        values = self.given.get(name)
        return values[-1] if values else None


OPTIONS: tuple[Option, ...] = _rows()


def parse(argv: list[str], rows: Sequence[Option] | None = None, words: int = 0) -> Options:
    """The options in ``argv``, which are ``rows`` (by default virt-install's). Up to ``words`` words may stand by
    themselves; they are found under "". Raises UsageError."""
    by_name = {name: option for option in (OPTIONS if rows is None else rows) for name in option.names}
    options = Options()
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            option = _long(name, by_name)
            if option.kind == FLAG:
                if equals:
                    raise UsageError(f"option --{name} takes no value")
                options.add(option.name, "")
            elif equals:
                options.add(option.name, value)
            else:
                position = _take(options, option, f"--{name}", argv, position)
            continue
        if not word.startswith("-") or len(word) < 2:
            if len(options.all("")) >= words:
                raise UsageError(f"unrecognized arguments: {word}")
            options.add("", word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            found = by_name.get(letter)
            if found is None or letter not in found.names[1:]:
                raise UsageError(f"unrecognized arguments: {word}")
            if found.kind == FLAG:
                options.add(found.name, "")
                continue
            if letters:
                options.add(found.name, letters.removeprefix("="))
            else:
                position = _take(options, found, f"-{letter}", argv, position)
            break
    return options


def _take(options: Options, option: Option, spelled: str, argv: list[str], position: int) -> int:
    """Take the word at ``position`` as the option's value; returns the place behind it."""
    follows = position < len(argv) and (not argv[position].startswith("-") or _is_number(argv[position]))
    if option.kind == MAYBE and not follows:
        options.add(option.name, option.constant)
        return position
    if position >= len(argv) or (argv[position].startswith("--") and not follows):
        raise UsageError(f"argument {spelled}: expected one argument")
    options.add(option.name, argv[position])
    return position + 1


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _long(name: str, by_name: dict[str, Option]) -> Option:
    found = by_name.get(name)
    if found is not None and len(name) > 1:
        return found
    begins = {
        option.name: option
        for known, option in by_name.items()
        if len(known) > 1 and len(name) > 1 and known.startswith(name)
    }
    if len(begins) == 1:
        return next(iter(begins.values()))
    if begins:
        raise UsageError(f"ambiguous option: --{name} could match {', '.join(f'--{each}' for each in begins)}")
    import difflib

    near = difflib.get_close_matches(name, [known for known in by_name if len(known) > 1], n=1)
    raise UsageError(f"unrecognized arguments: --{name}", f"Did you mean --{near[0]}?" if near else "")
