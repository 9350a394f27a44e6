"""Fedora, RHEL and their kin: kickstart, in pykickstart's commands."""

from __future__ import annotations

from guesthouse.provision.answers import Answers, Script
from guesthouse.provision.osinfo import Os


def script(answers: Answers, system: Os) -> Script:
    """/ks.cfg in the initrd's root."""
    old = system.version.partition(".")[0] if system.distro in ("rhel", "centos") else ""
    prefix = "" if old.isdigit() and int(old) < 7 else "inst."
    return Script({"ks.cfg": kickstart(answers, system).encode()}, "initrd", f"{prefix}ks=file:/ks.cfg")


def kickstart(a: Answers, system: Os) -> str:
    """The file."""
    fedora = system.distro in ("fedora", "silverblue")
    lines = [
        "text",
        f"lang {a.locale}.UTF-8",
        f"keyboard {a.keymap}",
        f"timezone {a.timezone} --utc",
        f"network --bootproto=dhcp --activate --hostname={a.hostname}",
        f"rootpw --iscrypted {a.root_hash}" if a.root_hash else "rootpw --lock",
    ]
    if a.user:
        name = f' --gecos="{a.realname}"' if a.realname else ""
        secret = f" --iscrypted --password={a.user_hash}" if a.user_hash else " --lock"
        lines.append(f"user --name={a.user} --groups=wheel{name}{secret}")
    owner = a.user or "root"
    lines += [f'sshkey --username={owner} "{key}"' for key in a.ssh_keys]
    if a.mirror:
        lines.append(f"url --url={a.mirror}" + (f" --proxy={a.proxy}" if a.proxy else ""))
    elif fedora:
        place = "https://mirrors.fedoraproject.org/mirrorlist?repo=fedora-$releasever&arch=$basearch"
        lines.append(f"url --mirrorlist={place}" + (f" --proxy={a.proxy}" if a.proxy else ""))
    drive = a.disk.removeprefix("/dev/")
    lines += [
        f"ignoredisk --only-use={drive}",
        "zerombr",
        f"clearpart --all --initlabel --drives={drive}",
        f"autopart --type={a.layout}",
        f"bootloader --boot-drive={drive}",
        "firstboot --disable",
        "services --enabled=sshd",
        "reboot",
        "%packages",
        "@^workstation-product-environment" if a.desktop and fedora else "@core",
        "openssh-server",
        *a.packages,
        "%end",
    ]
    if a.late:
        lines += ["%post --erroronfail", *a.late, "%end"]
    return "\n".join(lines) + "\n"
