"""Answers to the questions of installers: one description of the wanted system, a script for each family of installers.

``Answers`` says what is wanted; :func:`script_for` finds who writes it for a system. Passwords are hashed, but for
Windows, which takes none: there they are in the file alone, which goes when the installation has begun.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from guesthouse.errors import ConfigUnsupported, InvalidArg
from guesthouse.provision import passwords
from guesthouse.provision.osinfo import Os

_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOCALE = re.compile(r"[a-z]{2,3}_[A-Z]{2}")
# keyboards of countries that do not go by their own name
_KEYBOARDS = {"en_US": "us", "en_GB": "gb", "zh_CN": "cn", "zh_TW": "tw", "ja_JP": "jp", "ko_KR": "kr", "da_DK": "dk"}


@dataclass
class Answers:
    """The system that is wanted.

    ``user`` None: root (or Administrator) alone. ``locale`` is "de_DE", ``timezone`` "Europe/Berlin", ``disk`` the
    device that is wiped and installed to. ``layout`` is "plain" (one file system) or "lvm". ``mirror`` and ``proxy``
    are URLs. ``late`` are shell commands that run in the installed system. ``desktop`` asks for a graphical one.
    ``tasks`` are Debian's collections of packages by tasksel's names (none: the base system alone; None: the usual).
    """

    hostname: str = "localhost"
    user: str | None = None
    realname: str | None = None
    user_password: str | None = field(default=None, repr=False)
    root_password: str | None = field(default=None, repr=False)
    ssh_keys: list[str] = field(default_factory=list)
    locale: str = "en_US"
    keyboard: str | None = None
    timezone: str = "Etc/UTC"
    disk: str = "/dev/vda"
    layout: str = "plain"
    packages: list[str] = field(default_factory=list)
    tasks: list[str] | None = None
    mirror: str | None = None
    proxy: str | None = None
    late: list[str] = field(default_factory=list)
    desktop: bool = False
    efi: bool = False
    product_key: str | None = field(default=None, repr=False)
    arch: str = "x86_64"

    def check(self) -> None:
        """Raises InvalidArg for what no installer would take."""
        if self.user == "root":
            raise InvalidArg("'root' cannot be the name of a user of its own; give root's password alone")
        for what, value, pattern in (
            ("login", self.user, _LOGIN),
            ("host name", self.hostname, _HOST),
            ("locale", self.locale, _LOCALE),
        ):
            if value is not None and not pattern.fullmatch(value):
                raise InvalidArg(f"'{value}' cannot be a {what}")
        if self.layout not in ("plain", "lvm"):
            raise InvalidArg(f"unknown disk layout '{self.layout}': there are plain and lvm")
        if not self.user and not self.root_password and not self.ssh_keys:
            raise InvalidArg("nobody could log in: give a password for root, or a user")
        if self.user and not self.user_password and not self.ssh_keys:
            raise InvalidArg(f"{self.user} could not log in: give a password or a key")
        for value in (
            *self.ssh_keys,
            *self.packages,
            *(self.tasks or ()),
            self.mirror,
            self.proxy,
            self.timezone,
            self.realname,
        ):
            if value is not None and "\n" in value:
                raise InvalidArg("a value has more than one line")

    @property
    def keymap(self) -> str:
        return self.keyboard or _KEYBOARDS.get(self.locale, self.locale.partition("_")[0])

    @property
    def root_hash(self) -> str | None:
        return passwords.hashed(self.root_password) if self.root_password else None

    @property
    def user_hash(self) -> str | None:
        return passwords.hashed(self.user_password) if self.user_password else None

    def key_commands(self) -> list[str]:
        """Shell commands that let the holders of the keys in, as the user or as root."""
        if not self.ssh_keys:
            return []
        home, owner = (f"/home/{self.user}", self.user) if self.user else ("/root", "root")
        lines = "\\n".join(key.replace("'", "") for key in self.ssh_keys)
        return [
            f"mkdir -p -m 700 {home}/.ssh",
            f"printf '{lines}\\n' >{home}/.ssh/authorized_keys",
            f"chmod 600 {home}/.ssh/authorized_keys",
            f"chown -R {owner}: {home}/.ssh",
        ]


@dataclass(frozen=True)
class Script:
    """What an installer is given: ``files`` (name -> content), where it looks for them ("initrd": in its initrd's root;
    "cdrom": on a CD with ``label``), and what its kernel is told."""

    files: dict[str, bytes] = field(repr=False)
    place: str
    args: str = ""
    label: str = "OEMDRV"


Writer = Callable[[Answers, Os], Script]


def script_for(system: Os, answers: Answers) -> Script:
    """The script for ``system``. Raises ConfigUnsupported where its installer is not known, InvalidArg as
    :meth:`Answers.check`."""
    answers.check()
    return _writer(system)(answers, system)


def _writer(system: Os) -> Writer:
    from guesthouse.provision.answers import alpine, debian, kickstart, suse, ubuntu, windows

    if system.is_windows:
        return windows.script
    for writer, names in (
        (ubuntu.script, ("ubuntu",)),
        (debian.script, ("debian",)),
        (
            kickstart.script,
            ("fedora", "silverblue", "rhel", "centos", "almalinux", "rocky", "ol", "eurolinux", "circle"),
        ),
        (suse.script, ("opensuse", "sle", "sles", "sled")),
        (alpine.script, ("alpinelinux",)),
    ):
        if system.distro in names:
            return writer
    raise ConfigUnsupported(
        f"unattended installation of {system.name} is not known; install it by hand, or use an image"
    )
