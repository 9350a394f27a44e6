"""Alpine: setup-alpine's answer file, run at the live system's start by an overlay that its initramfs finds on any disk."""

from __future__ import annotations

import io
import shlex
import tarfile

from guesthouse.provision.answers import Answers, Script
from guesthouse.provision.osinfo import Os


def script(answers: Answers, system: Os) -> Script:
    """A CD with an apkovl, which has the answers and a service that installs."""
    return Script({"guesthouse.apkovl.tar.gz": overlay(answers)}, "cdrom", "", "APKOVL")


def answer_file(a: Answers) -> str:
    """The file that setup-alpine reads: shell variables."""
    values = {
        "KEYMAPOPTS": f"{a.keymap} {a.keymap}",
        "HOSTNAMEOPTS": a.hostname,
        "DEVDOPTS": "mdev",
        "INTERFACESOPTS": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
        "TIMEZONEOPTS": a.timezone,
        "PROXYOPTS": a.proxy or "none",
        "APKREPOSOPTS": a.mirror or "-1",
        "USEROPTS": f"-a -u -g audio,video,netdev {a.user}" if a.user else "none",
        "SSHDOPTS": "openssh",
        "NTPOPTS": "chrony",
        "DISKOPTS": f"-m sys {'-L ' if a.layout == 'lvm' else ''}{a.disk}",
        "LBUOPTS": "none",
        "APKCACHEOPTS": "none",
    }
    if a.ssh_keys:
        values["USERSSHKEY" if a.user else "ROOTSSHKEY"] = "\n".join(a.ssh_keys)
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def installer(a: Answers) -> str:
    """The script that runs once in the live system: it installs, sets what the answer file cannot, and reboots."""
    last = "3" if a.disk[-1].isdigit() is False else "p3"
    root = "/dev/vg0/lv_root" if a.layout == "lvm" else f"{a.disk}{last}"
    lines = [
        "#!/bin/sh",
        "set -e",
        f"export ERASE_DISKS={a.disk}",
        "setup-alpine -e -f /etc/guesthouse/answers",
        f"mount {root} /mnt",
    ]
    if a.root_hash:
        lines.append(f"echo {shlex.quote('root:' + a.root_hash)} | chroot /mnt chpasswd -e")
    if a.user and a.user_hash:
        lines.append(f"echo {shlex.quote(f'{a.user}:{a.user_hash}')} | chroot /mnt chpasswd -e")
    if a.packages:
        lines.append(f"chroot /mnt apk add {' '.join(map(shlex.quote, a.packages))}")
    lines += [f"chroot /mnt sh -c {shlex.quote(command)}" for command in a.late]
    return "\n".join([*lines, "umount /mnt", "reboot"]) + "\n"


def overlay(a: Answers) -> bytes:
    """The apkovl: a tar archive of /etc."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text, mode in (
            ("etc/guesthouse/answers", answer_file(a), 0o600),
            ("etc/local.d/guesthouse.start", installer(a), 0o700),
            ("etc/apk/world", "alpine-base\n", 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("etc/runlevels/default/local")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/init.d/local"
        tar.addfile(link)
    return out.getvalue()
