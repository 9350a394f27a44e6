"""From options to a request: the guest, its storage, and how it is installed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from guesthouse.cli.virt_install import device_families, old
from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.family import take_edits
from guesthouse.cli.virt_install.options import Options, UsageError
from guesthouse.cli.virt_install.places import Edit, edited
from guesthouse.cli.virt_install.report import Report
from guesthouse.cli.virt_install.suboptions import apply, switch, unknown
from guesthouse.errors import GuesthouseError, XMLError
from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Domain
from guesthouse.provision import defaults, installer, network, osinfo
from guesthouse.provision.host import Host
from guesthouse.provision.installer import Install
from guesthouse.provision.request import Request
from guesthouse.provision.storage import Planner, StorageError, Wish, space_problem

_METHODS = "--location URL, --cdrom CD/ISO, --pxe, --import, --boot hd|cdrom|..."
#: Families that are applied in this order, each as often as it was given; the rest has steps of its own.
_PLAIN = (
    *("memory", "vcpus", "cpu", "features", "clock", "events", "pm", "resource", "network", "graphics"),
    *("controller", "input", "serial", "parallel", "channel", "console", "sound", "video", "watchdog"),
    *("memballoon", "rng", "tpm", "redirdev", "panic", "seclabel", "launchSecurity", "sysinfo"),
    *("hostdev", "filesystem", "smartcard", "audio", "memdev", "shmem", "vsock", "iommu", "pstore"),
    *("iothreads", "memorybacking", "memtune", "blkiotune", "cputune", "numatune", "keywrap", "idmap"),
    "qemu-commandline",
)
_ENVIRONMENT = "VIRTINSTALL_OSINFO_DISABLE_REQUIRE"


@dataclass
class OsChoice:
    """What --osinfo says. ``require`` is None where it says nothing about that."""

    name: str | None = None
    detect: bool = True
    require: bool | None = None


@dataclass
class Plan:
    """All that is to happen. ``disks`` are those of the command line with what they want of the host's storage;
    ``temporary`` are files that go when all has happened. ``before`` is the document of a guest that is installed again;
    ``password_shown`` says that somebody should have the time to write one down."""

    request: Request
    install: Install
    choice: OsChoice
    checks: dict[str, bool]
    disks: list[tuple[Disk, Wish]] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    before: str | None = None
    password_shown: bool = False


def read(options: Options, report: Report) -> Plan:
    """What the command line says, before any host is asked. Raises UsageError."""
    old.convert(options, report)
    request = Request(Domain(type=""))
    _basics(options, request)
    for name in ("boot", "metadata", *_PLAIN):
        family = FAMILIES[name]
        for text in options.all(name):
            family.add_to(request, text)
    plan = Plan(request, Install(), _os_choice(options), _checks(options))
    for text in options.all("disk"):
        parsed = device_families.disk(request, FAMILIES["disk"].words(text), text)
        if parsed is not None:
            plan.disks.append(parsed)
    return plan


def build(options: Options, host: Host, report: Report, plan: Plan, planner: Planner) -> None:
    """Complete ``plan`` for ``host``. Raises UsageError and the errors of the packages below; nothing was made then but
    files in ``plan.temporary``."""
    from guesthouse.cli.virt_install import first_boot

    request, install = plan.request, plan.install
    if "reinstall" in options:
        first_boot.take_existing(options, host, plan, report)
        _method(options, host, plan)
        _choose_os(options, host, request, install, plan.choice, report)
        if not install.has_phase:
            raise UsageError(f"An install method must be specified\n({_METHODS})")
        first_boot.prepare(options, host, plan, report)
        _cdroms(plan, planner)
        for disk in (install.disk, install.answers_disk):
            if disk is not None:
                defaults.fill_disk(request, host, disk)
        return
    defaults.choose(request, host)
    if request.default_type and host.is_qemu and request.is_x86 and request.domain.type != "kvm":
        report.warn(f"KVM acceleration not available, using '{request.domain.type}'")
    _method(options, host, plan)
    _choose_os(options, host, request, install, plan.choice, report)
    if request.domain.name is None:
        request.domain.name = _free_name(request, host)
        report.say(f"Using default --name {request.domain.name}")
    elif "print-xml" not in options and host.has_domain(request.domain.name):
        raise UsageError(f"Guest name '{request.domain.name}' is already in use.")
    _disks(options, plan, planner, report)
    _memory(plan, report)
    first_boot.prepare(options, host, plan, report)
    _cdroms(plan, planner)
    defaults.fill(request, host)
    _required(options, plan)
    _check_storage(plan, planner)
    _check_network(request, host, plan.checks)
    installer.check(request)
    if "pxe" in options and not any(network.can_boot(nic, host) for nic in request.domain.dev.interfaces):
        report.warn("The guest's network configuration may not support PXE")
    _warn(request, report)


def documents(options: Options, plan: Plan) -> tuple[Domain | None, Domain]:
    """The guest's documents, of the installation (None where there is none) and for ever, with what --xml edits. Raises
    UsageError."""
    first, final = installer.documents(plan.request, plan.install)
    edits = [_edit(text) for text in options.all("xml")]
    if not edits:
        return first, final
    try:
        return edited(first, edits) if first is not None else None, edited(final, edits)
    except XMLError as error:
        raise UsageError(f"--xml: {error.detail}") from None


def _edit(text: str) -> Edit:
    """What --xml says: a path and its new value, or xpath keys."""
    if not text.startswith("xpath."):
        return Edit(set=text)
    words = FAMILIES["xml"].words(text)
    found = take_edits(words)
    if words or not found:
        raise unknown("xml", next(iter(words), text), FAMILIES["xml"].keys())
    return found[0]


def _cdroms(plan: Plan, planner: Planner) -> None:
    installer.add_cdroms(plan.request, plan.install)
    for disk in (plan.install.disk, plan.install.answers_disk):
        if disk is not None:
            planner.attach(disk, Wish(), "", [])


def _basics(options: Options, request: Request) -> None:
    domain, kind = request.domain, request.kind
    domain.name = options.last("name")
    for name in ("title", "description"):
        if name in options:
            setattr(domain, name, options.last(name))
    if (uuid := options.last("uuid")) is not None:
        apply("metadata", domain, {"uuid": uuid})
    domain.type = options.last("virt-type")
    kind.arch, kind.machine = options.last("arch"), options.last("machine")
    for name, value in (("hvm", "hvm"), ("paravirt", "xen"), ("container", "exe")):
        if name in options:
            kind.value = value


def _checks(options: Options) -> dict[str, bool]:
    known = ("path_in_use", "disk_size", "mac_in_use", "path_exists", "all")
    found: dict[str, bool] = {}
    for text in options.all("check"):
        for item in text.split(","):
            key, _, value = item.partition("=")
            if key not in known:
                raise UsageError(f"Unknown --check options: ['{key}']", f"There are {', '.join(known)}.")
            found[key] = switch("check", key, value or None)
    return found


def _on(checks: dict[str, bool], name: str) -> bool:
    return checks.get(name, checks.get("all", True))


# -- the operating system


def _os_choice(options: Options) -> OsChoice:
    choice = OsChoice()
    text = options.last("osinfo")
    if text is None:
        return choice
    words = FAMILIES["osinfo"].words(text)
    choice.name = words.pop("name", None) or words.pop("short-id", None) or words.pop("id", None)
    # naming a system says that it is known, unless detection is asked for, too
    choice.detect = switch("osinfo", "detect", words.pop("detect", None)) if "detect" in words else choice.name is None
    if "require" in words:
        choice.require = switch("osinfo", "require", words.pop("require"))
    if words:
        raise unknown("osinfo", next(iter(words)), FAMILIES["osinfo"].keys())
    if choice.name in ("auto", "detect"):
        choice.name, choice.detect = None, True
    elif choice.name == "none":
        choice.name, choice.detect = None, False
        choice.require = False
    return choice


def _choose_os(
    options: Options, host: Host, request: Request, install: Install, choice: OsChoice, report: Report
) -> None:
    named = choice.name is not None
    if choice.name is not None:
        request.os = osinfo.find(choice.name)
    detected = None
    source = install.cdrom or options.last("location")
    if choice.detect and source is not None and not host.is_remote:
        from guesthouse.provision import media, trees

        place = source.partition(",")[0]
        detected = trees.Tree(place).identify() if trees.is_url(place) else media.identify(place)
    if detected is not None:
        request.os = detected
    if named or detected is not None or not request.is_hvm:
        return
    message = "--os-variant/--osinfo OS name is required, but no value was\nset or detected."
    if choice.require is True:
        raise UsageError(message)
    if choice.require is False:
        return
    generic = [name for name in osinfo.short_ids() if name[:5] == "linux" and name[5:].isdigit()]
    text = (
        f"\n{message}\n\nSay which system is installed: its guests are fast and safe only with devices that suit it.\n"
    )
    if source is not None:
        text += "\nIf it should have been detected, name one to fall back to:\n\n  --osinfo detect=on,name=OSNAME\n"
    text += "\nAll names are listed by:\n\n  virt-install --osinfo list\n"
    if generic:
        text += f"\nFor a Linux system that is not among them take one of: {', '.join(generic)}\n"
    text += f"\nTo go on without one:\n\n  --osinfo detect=on,require=off\n\nor export {_ENVIRONMENT}=1\n"
    if _ENVIRONMENT in os.environ:
        report.warn(text)
        report.warn(f"{_ENVIRONMENT} set. Skipping fatal error.")
        return
    raise UsageError(text)


def _free_name(request: Request, host: Host) -> str:
    base = request.os.name
    base = base.removesuffix("-unknown")
    numbered, separator = False, "-"
    if request.os.is_generic:
        base, numbered, separator = "vm", True, ""
    if request.arch != host.arch:
        base += f"-{ {'armv7l': 'arm'}.get(request.arch, request.arch) }".replace(" ", "")
        numbered, separator = False, "-"
    number = 1
    while True:
        name = f"{base}{separator}{number}" if numbered or number > 1 else base
        if not host.has_domain(name):
            return name
        number += 1


# -- how to install


def _method(options: Options, host: Host, plan: Plan) -> None:
    install = plan.install
    extra = " ".join(options.all("extra-args"))
    text = options.last("install")
    words = FAMILIES["install"].words(text) if text is not None else {}
    known = FAMILIES["install"].keys()
    for key in words:
        if key not in known:
            raise unknown("install", key, known)
    if "no_install" in words:
        install.none = switch("install", "no_install", words["no_install"])
    install.bootdev = words.get("bootdev")
    install.kernel, install.initrd, install.args = words.get("kernel"), words.get("initrd"), words.get("kernel_args")
    if words.get("os"):
        raise UsageError(
            "--install os=: fetching an installer by its system's name is not supported yet; use --location"
        )
    given = [name for name in ("cdrom", "location", "pxe", "import") if name in options]
    if len(given) > 1:
        raise UsageError(f"Cannot use --{given[0]} and --{given[1]} at the same time")
    if (cdrom := options.last("cdrom")) is not None:
        if "://" in cdrom and cdrom.startswith(("qemu", "xen", "test", "lxc")):
            raise UsageError("-c specified with what looks like a libvirt URI. Did you mean to use --connect?")
        _check_media(cdrom, host, "--cdrom", plan)
        install.cdrom = cdrom if "://" in cdrom or host.is_remote else os.path.abspath(cdrom)  # noqa: PTH100
        install.bootdev = "cdrom"
        install.none = install.none or "livecd" in options
    elif (location := options.last("location")) is not None:
        _location(location, host, plan)
    elif "pxe" in options:
        install.bootdev = "network"
    elif text is None and (
        "import" in options or "print-xml" in options or "dry-run" in options or options.all("boot")
    ):
        install.none = True
    if extra:
        if not install.kernel:
            raise UsageError("Kernel arguments are only supported with location or kernel installs.")
        install.args = f"{install.args} {extra}" if install.args else extra


def _check_media(path: str, host: Host, option: str, plan: Plan) -> None:
    """Raises UsageError where there is no such image that guests could have."""
    if "://" in path:
        raise UsageError(f"{option} {path}: media from the network are not supported yet; fetch the file first")
    if host.is_remote or os.path.exists(path):  # noqa: PTH110
        return
    from guesthouse.errors import NoStorageVol

    try:
        host.conn.storage_vol_lookup_by_path(os.path.abspath(path))  # noqa: PTH100
    except (NoStorageVol, GuesthouseError):
        raise UsageError(f"Validating install media '{path}' failed: there is no such file") from None


def _location(text: str, host: Host, plan: Plan) -> None:
    words = FAMILIES["location"].words(text)
    place = words.pop("location", None)
    kernel, initrd = words.pop("kernel", None), words.pop("initrd", None)
    if words:
        raise unknown("location", next(iter(words)), FAMILIES["location"].keys())
    if place is None:
        raise UsageError("--location needs a folder, a tree or an image")
    from guesthouse.provision import media, trees

    if not trees.is_url(place):
        _check_media(place, host, "--location", plan)
    if host.is_remote:
        raise UsageError("--location with a daemon on another host is not supported yet; use --cdrom")
    named = osinfo.find(plan.choice.name) if plan.choice.name is not None else None
    if trees.is_url(place):
        tree = trees.Tree(place)
        found = tree.boot_files(plan.request.arch, named or tree.identify(), kernel, initrd)
    else:
        found = media.boot_files(place, plan.request.arch, named, kernel, initrd)
    plan.temporary += found.temporary
    plan.install.kernel, plan.install.initrd, plan.install.args = found.kernel, found.initrd, found.args
    if found.cdrom is not None:
        plan.install.cdrom = found.cdrom


# -- storage, memory, checks


def _disks(options: Options, plan: Plan, planner: Planner, report: Report) -> None:
    """Give the disks their storage, in their order: names that are free depend on it."""
    request = plan.request
    storage = request.os.recommended(request.arch).storage
    if not options.all("disk") and storage:
        size = storage // 2**30
        report.say(f"Using {request.os.name} default --disk size={size}")
        options.add("disk", f"size={size}")
        plan.disks.append((Disk(), Wish(size=size)))
    for disk, wish in plan.disks:
        try:
            planner.attach(disk, wish, request.domain.name or "", request.volumes)
        except StorageError as error:
            raise UsageError(f"Error: --disk: {error.detail}") from None
        request.domain.dev.disks.append(disk)


def _memory(plan: Plan, report: Report) -> None:
    """Memory where none was given."""
    request = plan.request
    wanted = request.os.recommended(request.arch).ram
    if request.domain.memory is None and wanted:
        report.say(f"Using {request.os.name} default --memory {wanted / 2**20:g}")
        request.domain.memory = request.domain.current_memory = wanted // 1024


def _required(options: Options, plan: Plan) -> None:
    message = ""
    if plan.request.domain.memory is None:
        message += "\n--memory amount in MiB is required"
    if not options.all("disk"):
        message += "\n--disk storage must be specified (override with --disk none)"
    if not plan.install.specified:
        message += f"\nAn install method must be specified\n({_METHODS})"
    if message:
        raise UsageError(message)


def _check_storage(plan: Plan, planner: Planner) -> None:
    checks = plan.checks
    for disk in plan.request.domain.dev.disks:
        names = planner.conflicts(disk) if _on(checks, "path_in_use") else []
        if names:
            raise UsageError(
                f"Disk {disk.path} is already in use by other guests {names}.",
                "(Use --check path_in_use=off or --check all=off to override)",
            )
    problem = space_problem(planner, plan.request.volumes) if _on(checks, "disk_size") else None
    if problem is not None:
        if any(volume.allocation for volume in plan.request.volumes):
            raise UsageError(problem)
        raise UsageError(problem, "(Use --check disk_size=off or --check all=off to override)")


def _check_network(request: Request, host: Host, checks: dict[str, bool]) -> None:
    """Cards whose network there is not, or whose address somebody else has."""
    for nic in request.domain.dev.interfaces:
        name = nic.source.network if nic.source is not None else None
        if nic.type == "network" and name:
            host.conn.network_lookup_by_name(name)
        if not _on(checks, "mac_in_use"):
            continue
        taken = network.macs(host).get(nic.mac_address)
        if taken is not None:
            raise UsageError(
                f"The MAC address '{nic.mac_address}' is in use by another virtual machine ('{taken}').",
                "(Use --check mac_in_use=off or --check all=off to override)",
            )


def _warn(request: Request, report: Report) -> None:
    if request.os.is_generic and request.is_hvm:
        report.warn(
            f"Using --osinfo {request.os.name}, VM performance may suffer. Specify an accurate OS for optimal results."
        )
    memory = (request.domain.current_memory or 0) // 1024
    least = request.os.minimum(request.arch).ram
    if least and least // 2**20 > memory:
        report.warn(
            f"Requested memory {memory} MiB is less than the recommended {least // 2**20} MiB for OS {request.os.name}"
        )
    elif not least and memory < 17:
        report.warn(f"Requested memory {memory} MiB is abnormally low. Were you trying to specify GiB?")
