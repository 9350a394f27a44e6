"""What a guest finds at its first boot besides the medium: cloud-init's answers, and files behind the installer's initrd."""

from __future__ import annotations

import os
import re
import uuid

from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.family import Words, need
from guesthouse.cli.virt_install.guest import Plan
from guesthouse.cli.virt_install.options import Options, UsageError
from guesthouse.cli.virt_install.report import Report
from guesthouse.cli.virt_install.suboptions import switch, unknown
from guesthouse.errors import GuesthouseError
from guesthouse.model.domain import Domain
from guesthouse.provision import answers, injection, passwords
from guesthouse.provision.answers import Answers
from guesthouse.provision.cloudinit import CloudInit, read_keys
from guesthouse.provision.host import Host

_TIME_TO_READ_S = 10
_SECURE, _INACTIVE = 1, 2
_PARTS = ("disk", "memory", "vcpus", "network", "graphics", "cpu", "controller")
#: What virt-install means by --cloud-init alone.
_ALONE = "root-password-generate=on,disable=on"


def prepare(options: Options, host: Host, plan: Plan, report: Report) -> None:
    """Make the files, which are gone when virt-install ends (``plan.temporary``). Raises UsageError and InvalidArg."""
    if (text := options.last("unattended")) is not None:
        _unattended(text, host, plan)
    if (texts := options.all("initrd-inject")) and plan.install.initrd is None:
        raise UsageError("Install method does not support initrd injections.")
    if texts and plan.install.initrd is not None:
        plan.install.initrd = injection.add_to_initrd(plan.install.initrd, injection.read_files(texts))
        plan.temporary.append(plan.install.initrd)
    text = options.last("cloud-init")
    if text is None:
        return
    if host.is_remote:
        raise UsageError("--cloud-init with a daemon on another host is not supported: the image cannot be sent there")
    config = read(_ALONE if text == "1" else text)
    config.hostname = plan.request.domain.name
    if config.passwords and config.must_change:
        report.say(f"Password for first root login is: {config.passwords['root']}")
        report.say("Installation will continue in 10 seconds (press Enter to skip)...")
        plan.password_shown = True
    plan.install.answers = config.image(plan.request.domain.uuid or str(uuid.uuid4()))
    plan.temporary.append(plan.install.answers)
    if host.is_qemu and plan.request.is_x86:
        # cloud-init need not look for other sources of data, which takes it minutes
        plan.install.serial = "ds=nocloud"


def read(text: str) -> CloudInit:
    """The words of --cloud-init. Raises UsageError and InvalidArg."""
    words: Words = FAMILIES["cloud-init"].words(text)
    config = CloudInit()
    if "disable" in words:
        config.disable = switch("cloud-init", "disable", words.pop("disable"))
    if "root-password-generate" in words and switch("cloud-init", "generate", words.pop("root-password-generate")):
        config.passwords["root"], config.must_change = passwords.made_up(), True
    if (path := need("cloud-init", words, "root-password-file")) is not None:
        config.passwords["root"], config.must_change = passwords.from_file(path), False
    for key, user in (("root-ssh-key", "root"), ("clouduser-ssh-key", ""), ("ssh-key", "")):
        if (path := need("cloud-init", words, key)) is not None:
            config.keys.setdefault(user, []).extend(read_keys(path))
    config.user_data = need("cloud-init", words, "user-data")
    config.meta_data = need("cloud-init", words, "meta-data")
    config.network_config = need("cloud-init", words, "network-config")
    if words:
        raise unknown("cloud-init", next(iter(words)), FAMILIES["cloud-init"].keys())
    return config


def _unattended(text: str, host: Host, plan: Plan) -> None:
    """Give the installer its answers: behind its initrd, or on a CD."""
    if host.is_remote:
        raise UsageError("--unattended with a daemon on another host is not supported: the files cannot be sent there")
    request, install = plan.request, plan.install
    if not install.has_phase or install.bootdev == "network":
        raise UsageError("--unattended needs the installer: give --location or --cdrom")
    script = answers.script_for(request.os, answers_of("" if text == "1" else text, plan))
    if install.kernel is None and (script.place == "initrd" or script.args):
        # a CD that boots by itself asks; its kernel, booted directly, can be told
        from guesthouse.provision import media

        found = media.boot_files(install.cdrom or "", request.arch, request.os)
        plan.temporary += found.temporary
        install.kernel, install.initrd, install.bootdev = found.kernel, found.initrd, None
    if script.place == "initrd":
        if install.initrd is None:
            raise UsageError("--unattended: the installer has no initrd that answers could be put into")
        install.initrd = injection.add_to_initrd(install.initrd, script.files)
        plan.temporary.append(install.initrd)
    else:
        install.answers = injection.cd_image(script.files, script.label, "unattended.iso")
        plan.temporary.append(install.answers)
    if script.args:
        install.args = f"{install.args} {script.args}" if install.args else script.args


def answers_of(text: str, plan: Plan) -> Answers:
    """The words of --unattended. Raises UsageError and InvalidArg."""
    words: Words = FAMILIES["unattended"].words(text)
    request = plan.request
    windows = request.os.is_windows
    wanted = Answers(hostname=re.sub(r"[^A-Za-z0-9-]+", "-", request.domain.name or "localhost").strip("-")[:63])
    wanted.arch, wanted.efi = request.arch, bool(request.uefi) or request.is_uefi
    wanted.disk = "/dev/vda" if request.virtio("virtio-block") else "/dev/sda"
    wanted.locale, wanted.timezone = _host_locale(), _host_timezone()
    profile = need("unattended", words, "profile")
    if profile not in (None, "jeos", "desktop"):
        raise UsageError(f"--unattended: unknown profile '{profile}'", "There are jeos and desktop.")
    wanted.desktop = profile == "desktop"
    if (path := need("unattended", words, "admin-password-file")) is not None:
        wanted.root_password = passwords.from_file(path)
    if (path := need("unattended", words, "user-password-file")) is not None:
        wanted.user_password = passwords.from_file(path)
        wanted.user = _host_user()
    if (path := need("unattended", words, "ssh-key")) is not None:
        wanted.ssh_keys = read_keys(path)
    wanted.user = need("unattended", words, "user-login") or wanted.user
    if wanted.user and not wanted.user_password and not wanted.ssh_keys and windows:
        wanted.user_password = wanted.root_password
    need("unattended", words, "reg-login")
    for key, name in (
        *(("realname", "realname"), ("hostname", "hostname"), ("keyboard", "keyboard"), ("disk", "disk")),
        *(("layout", "layout"), ("mirror", "mirror"), ("proxy", "proxy"), ("product-key", "product_key")),
        *(("locale", "locale"), ("timezone", "timezone")),
    ):
        if (value := need("unattended", words, key)) is not None:
            setattr(wanted, name, value.partition(".")[0] if key == "locale" else value)
    if (value := need("unattended", words, "packages")) is not None:
        wanted.packages = value.split()
    if (value := need("unattended", words, "tasks")) is not None:
        wanted.tasks = [] if value == "none" else value.replace(",", " ").split()
    if (value := need("unattended", words, "late-command")) is not None:
        wanted.late = [value]
    if words:
        raise unknown("unattended", next(iter(words)), FAMILIES["unattended"].keys())
    return wanted


def _host_user() -> str | None:
    import getpass

    name = getpass.getuser()
    return None if name == "root" else name


def _host_locale() -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        found = os.environ.get(name, "").partition(".")[0]
        if re.fullmatch(r"[a-z]{2,3}_[A-Z]{2}", found):
            return found
    return "en_US"


def _host_timezone() -> str:
    found = os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    return found if found and found != "UTC" else "Etc/UTC"


def let_read() -> None:
    """Give somebody at a terminal the time to write the password down; Enter ends it."""
    import select
    import sys

    if sys.stdin.isatty():
        ready, _, _ = select.select([sys.stdin], [], [], _TIME_TO_READ_S)
        if ready:
            sys.stdin.readline()


def take_existing(options: Options, host: Host, plan: Plan, report: Report) -> None:
    """Let ``plan`` be about the guest of --reinstall, as it is defined. Raises UsageError where there is none, or where
    it runs and is to be started."""
    name = options.last("reinstall") or ""
    try:
        guest = host.conn.lookup_by_name(name)
        plan.before = guest.get_xml_desc(_INACTIVE | _SECURE)
        runs = guest.is_active()
    except GuesthouseError as error:
        raise UsageError(f"Could not find domain '{name}': {error.message}") from None
    if runs and not {"print-xml", "dry-run"} & options.given.keys():
        raise UsageError(f"domain '{name}' is already active", f"End it first: virsh shutdown {name}")
    ignored = [other for other in (*_PARTS, "name", "uuid") if other in options]
    if ignored:
        report.warn(f"--reinstall takes the guest as it is: --{', --'.join(ignored)} ignored (see virt-xml)")
    request = plan.request
    request.domain = Domain.from_xml(plan.before)
    if (found := re.search(r"libosinfo:os id=[\"']([^\"']+)", plan.before)) is not None and plan.choice.name is None:
        plan.choice.name = found[1]
