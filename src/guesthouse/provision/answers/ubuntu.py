"""Ubuntu: autoinstall of its server installer (20.04 and later), preseeding before."""

from __future__ import annotations

import json
from typing import Any

from guesthouse.provision.answers import Answers, Script, debian
from guesthouse.provision.osinfo import Os


def script(answers: Answers, system: Os) -> Script:
    """A CD named "cidata", which the installer's cloud-init reads; older ones have Debian's installer."""
    if system.version and system.version.partition(".")[0].isdigit() and int(system.version.partition(".")[0]) < 20:
        return debian.script(answers, system)
    text = f"#cloud-config\n{json.dumps({'autoinstall': autoinstall(answers)}, indent=1)}\n"
    files = {"user-data": text.encode(), "meta-data": b"{}\n"}
    return Script(files, "cdrom", "autoinstall", "cidata")


def autoinstall(a: Answers) -> dict[str, Any]:
    """The document, as the installer's reference has it (version 1)."""
    late = [f"curtin in-target -- sh -c {json.dumps(command)}" for command in a.late]
    found: dict[str, Any] = {
        "version": 1,
        "locale": f"{a.locale}.UTF-8",
        "keyboard": {"layout": a.keymap},
        "timezone": a.timezone,
        "storage": {"layout": {"name": "lvm" if a.layout == "lvm" else "direct", "match": {"path": a.disk}}},
        "ssh": {
            "install-server": True,
            "authorized-keys": a.ssh_keys if a.user else [],
            "allow-pw": bool(a.user_password or a.root_password),
        },
        "packages": [*a.packages, *(["ubuntu-desktop-minimal"] if a.desktop else [])],
        "shutdown": "reboot",
    }
    if a.user:
        hashed = a.user_hash or "!"
        found["identity"] = {
            "hostname": a.hostname,
            "username": a.user,
            "realname": a.realname or a.user,
            "password": hashed,
        }
    else:
        # without an identity the system gets its users from here
        root = {"name": "root", "lock_passwd": not a.root_password, "ssh_authorized_keys": a.ssh_keys}
        found["user-data"] = {"hostname": a.hostname, "disable_root": False, "users": [root]}
    if a.root_hash:
        late.insert(0, f"curtin in-target -- usermod -p '{a.root_hash}' root")
    if late:
        found["late-commands"] = late
    if a.proxy:
        found["proxy"] = a.proxy
    if a.mirror:
        found["apt"] = {"primary": [{"arches": ["default"], "uri": a.mirror}]}
    return found
