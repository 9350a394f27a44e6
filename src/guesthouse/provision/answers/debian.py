"""Debian's installer: preseeding, as its manual's appendix B has it."""

from __future__ import annotations

from guesthouse.provision.answers import Answers, Script
from guesthouse.provision.osinfo import Os


def script(answers: Answers, system: Os) -> Script:
    """/preseed.cfg in the initrd's root is read before the first question."""
    return Script({"preseed.cfg": preseed(answers).encode()}, "initrd", "auto=true priority=critical")


def preseed(a: Answers) -> str:
    """The file. Questions and types are those of the installer's templates."""
    lines = [
        f"d-i debian-installer/locale string {a.locale}.UTF-8",
        f"d-i keyboard-configuration/xkb-keymap select {a.keymap}",
        "d-i netcfg/choose_interface select auto",
        f"d-i netcfg/hostname string {a.hostname}",
        f"d-i netcfg/get_hostname string {a.hostname}",
        "d-i netcfg/get_domain string",
        "d-i hw-detect/load_firmware boolean false",
        "d-i clock-setup/utc boolean true",
        f"d-i time/zone string {a.timezone}",
        *_mirror(a),
        *_users(a),
        *_disk(a),
        "d-i base-installer/install-recommends boolean true",
        "popularity-contest popularity-contest/participate boolean false",
        *_tasks(a),
        f"d-i pkgsel/include string {' '.join(['openssh-server', *a.packages])}",
        "d-i pkgsel/upgrade select none",
        "d-i grub-installer/only_debian boolean true",
        f"d-i grub-installer/bootdev string {a.disk}",
        "d-i finish-install/reboot_in_progress note",
        "d-i cdrom-detect/eject boolean true",
    ]
    commands = [*a.key_commands(), *a.late]
    if commands:
        joined = "; ".join(f"in-target sh -c {_quoted(command)}" for command in commands)
        lines.append(f"d-i preseed/late_command string {joined}")
    return "\n".join(lines) + "\n"


def _tasks(a: Answers) -> list[str]:
    tasks = a.tasks
    if tasks is None:
        tasks = ["standard", "desktop"] if a.desktop else ["standard"]
    chosen = f"tasksel tasksel/first multiselect {', '.join(tasks)}".rstrip()
    return [chosen] if tasks else ["d-i pkgsel/run_tasksel boolean false", chosen]


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def _mirror(a: Answers) -> list[str]:
    proxy = f"d-i mirror/http/proxy string {a.proxy or ''}".rstrip()
    if a.mirror is None:
        return ["d-i mirror/country string manual", *_place("deb.debian.org", "/debian"), proxy]
    host, slash, folder = a.mirror.partition("://")[2].rstrip("/").partition("/")
    # a mirror of one's own has no twin for security updates, and its key may be one's own
    services = "d-i apt-setup/services-select multiselect"
    return ["d-i mirror/country string manual", *_place(host, f"{slash}{folder}" or "/debian"), proxy, services]


def _place(host: str, folder: str) -> list[str]:
    return [
        "d-i mirror/protocol string http",
        f"d-i mirror/http/hostname string {host}",
        f"d-i mirror/http/directory string {folder}",
    ]


def _users(a: Answers) -> list[str]:
    lines = [f"d-i passwd/root-login boolean {'true' if a.root_password or not a.user else 'false'}"]
    if a.root_hash:
        lines.append(f"d-i passwd/root-password-crypted password {a.root_hash}")
    elif not a.user:
        lines.append("d-i passwd/root-password-crypted password !")
    if a.user is None:
        return [*lines, "d-i passwd/make-user boolean false"]
    return [
        *lines,
        "d-i passwd/make-user boolean true",
        f"d-i passwd/user-fullname string {a.realname or a.user}",
        f"d-i passwd/username string {a.user}",
        f"d-i passwd/user-password-crypted password {a.user_hash or '!'}",
    ]


def _disk(a: Answers) -> list[str]:
    lvm = a.layout == "lvm"
    lines = [
        f"d-i partman-auto/disk string {a.disk}",
        f"d-i partman-auto/method string {'lvm' if lvm else 'regular'}",
        "d-i partman-auto/choose_recipe select atomic",
        "d-i partman-lvm/device_remove_lvm boolean true",
        "d-i partman-md/device_remove_md boolean true",
        "d-i partman-partitioning/confirm_write_new_label boolean true",
        "d-i partman/choose_partition select finish",
        "d-i partman/confirm boolean true",
        "d-i partman/confirm_nooverwrite boolean true",
    ]
    if lvm:
        lines += [
            "d-i partman-auto-lvm/guided_size string max",
            "d-i partman-lvm/confirm boolean true",
            "d-i partman-lvm/confirm_nooverwrite boolean true",
        ]
    return lines
