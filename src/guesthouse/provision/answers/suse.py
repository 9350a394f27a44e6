"""openSUSE and SUSE Linux Enterprise: AutoYaST; Agama from Leap and SLE 16 on."""

from __future__ import annotations

import json
from typing import Any

from guesthouse.provision.answers import Answers, Script
from guesthouse.provision.osinfo import Os

_NS = "http://www.suse.com/1.0/yast2ns"
_CONFIG = "http://www.suse.com/1.0/configns"
# lxml calls the default namespace None, which its stubs do not know
_NAMES: Any = {None: _NS, "config": _CONFIG}


def script(answers: Answers, system: Os) -> Script:
    """/autoinst.xml, or /autoinst.json, in the initrd's root."""
    number = system.version.partition(".")[0]
    if number.isdigit() and 16 <= int(number) < 40:  # Leap 42 came before 15
        text = json.dumps(agama(answers, system), indent=1) + "\n"
        return Script({"autoinst.json": text.encode()}, "initrd", "inst.auto=file:///autoinst.json")
    return Script({"autoinst.xml": autoyast(answers)}, "initrd", "autoyast=file:///autoinst.xml")


def autoyast(a: Answers) -> bytes:
    """The profile."""
    from lxml import etree

    profile = etree.Element(f"{{{_NS}}}profile", nsmap=_NAMES)

    def put(owner: Any, name: str, value: Any) -> None:
        each = etree.SubElement(owner, f"{{{_NS}}}{name}")
        if isinstance(value, dict):
            for key, inner in value.items():
                put(each, key, inner)
        elif isinstance(value, list):
            each.set(f"{{{_CONFIG}}}type", "list")
            for inner in value:
                put(each, _ITEMS[name], inner)
        elif isinstance(value, bool):
            each.set(f"{{{_CONFIG}}}type", "boolean")
            each.text = "true" if value else "false"
        else:
            each.text = str(value)

    users: list[dict[str, Any]] = []
    if a.root_hash or not a.user:
        users.append({"username": "root", "user_password": a.root_hash or "!", "encrypted": True} | _keys(a, "root"))
    if a.user:
        own = {"username": a.user, "fullname": a.realname or a.user, "user_password": a.user_hash or "!"}
        users.append(own | {"encrypted": True} | _keys(a, a.user))
    put(profile, "general", {"mode": {"confirm": False, "final_halt": False}})
    put(profile, "language", {"language": f"{a.locale}.UTF-8"})
    put(profile, "keyboard", {"keymap": a.keymap})
    put(profile, "timezone", {"hwclock": "UTC", "timezone": a.timezone})
    put(profile, "networking", {"dns": {"hostname": a.hostname}, "keep_install_network": True})
    if a.proxy:
        put(profile, "proxy", {"enabled": True, "http_proxy": a.proxy, "https_proxy": a.proxy})
    if a.mirror:
        put(profile, "add-on", {"add_on_products": [{"media_url": a.mirror}]})
    drive: dict[str, Any] = {"device": a.disk, "use": "all", "initialize": True}
    if a.layout == "lvm":
        drive["enable_snapshots"] = False
        put(profile, "partitioning", [drive | {"partitions": [{"lvm_group": "system", "size": "max"}]}])
    else:
        put(profile, "partitioning", [drive])
    patterns = ["base", "gnome"] if a.desktop else ["base"]
    put(profile, "software", {"patterns": patterns, "packages": ["openssh", *a.packages]})
    put(profile, "services-manager", {"services": {"enable": ["sshd"]}})
    put(profile, "users", users)
    if a.late:
        put(profile, "scripts", {"chroot-scripts": [{"chrooted": True, "source": "\n".join(["#!/bin/sh", *a.late])}]})
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE profile>\n'
    return head + bytes(etree.tostring(profile, pretty_print=True))


# how the members of a list are called
_ITEMS = {
    "partitioning": "drive",
    "partitions": "partition",
    "patterns": "pattern",
    "packages": "package",
    "users": "user",
    "authorized_keys": "listentry",
    "enable": "service",
    "chroot-scripts": "script",
    "add_on_products": "listentry",
}


def _keys(a: Answers, owner: str) -> dict[str, Any]:
    return {"authorized_keys": a.ssh_keys} if a.ssh_keys and owner == (a.user or "root") else {}


def agama(a: Answers, system: Os) -> dict[str, Any]:
    """The profile for Agama, as its schema has it."""
    product = {"opensuse": "openSUSE_Leap", "sle": "SLES"}.get(system.distro, "Tumbleweed")
    found: dict[str, Any] = {
        "product": {"id": product},
        "hostname": {"static": a.hostname},
        "localization": {"language": f"{a.locale}.UTF-8", "keyboard": a.keymap, "timezone": a.timezone},
        "software": {"packages": ["openssh-server", *a.packages]},
        "storage": {
            "drives": [{"search": a.disk, "partitions": [{"search": "*", "delete": True}, {"generate": "default"}]}]
        },
        "root": {},
    }
    if a.root_hash:
        found["root"] |= {"password": a.root_hash, "hashedPassword": True}
    if a.ssh_keys and not a.user:
        found["root"]["sshPublicKey"] = a.ssh_keys[0]
    if a.user:
        found["user"] = {"userName": a.user, "fullName": a.realname or a.user, "hashedPassword": True}
        found["user"]["password"] = a.user_hash or "!"
    commands = [*(a.key_commands() if a.user else []), *a.late]
    if commands:
        found["scripts"] = {"post": [{"name": "late", "chroot": True, "content": "\n".join(["#!/bin/sh", *commands])}]}
    return found
