"""Answers for installers, read by the installers' own checkers and by what reads their languages."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from guesthouse.errors import ConfigUnsupported, InvalidArg
from guesthouse.provision import osinfo
from guesthouse.provision.answers import Answers, Script, debian, script_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here"
WANTED = Answers(
    hostname="web",
    user="alice",
    realname="Alice Liddell",
    user_password="wonder land'1",
    root_password="r00t",
    ssh_keys=[KEY],
    locale="zh_CN",
    timezone="Asia/Shanghai",
    layout="lvm",
    packages=["vim", "curl"],
    proxy="http://proxy:3128",
    late=["echo 'it is done' >/etc/done"],
)
ROOT = Answers(root_password="r00t", locale="de_DE", mirror="http://192.0.2.7/debian")
SYSTEMS = ("debian11", "ubuntu18.04", "ubuntu22.04", "fedora37", "rhel9.1", "centos6.10", "almalinux9", "rocky9")
SYSTEMS += ("opensuse15.4", "sle15sp4", "alpinelinux3.17", "win10", "win2k22")


def script(name: str, answers: Answers) -> Script:
    return script_for(osinfo.find(name), answers)


def text(name: str, answers: Answers) -> str:
    return next(iter(script(name, answers).files.values())).decode()


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_password_is_in_the_clear_where_the_installer_takes_a_hash(name: str) -> None:
    found = script(name, WANTED)
    contents = [b"".join(_unpacked(c)) if c.startswith(b"\x1f\x8b") else c for c in found.files.values()]
    whole = b"".join(contents)
    assert b"wonder land" not in whole and b"r00t" not in whole and b"web" in whole
    assert "wonder" not in repr(found) and "r00t" not in repr(WANTED)


def _unpacked(content: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [file.read() for member in tar if member.isreg() and (file := tar.extractfile(member)) is not None]


@pytest.mark.parametrize("answers", [WANTED, ROOT], ids=["all", "root"])
def test_debian(answers: Answers, tmp_path: Path) -> None:
    found = script("debian11", answers)
    assert found.place == "initrd" and list(found.files) == ["preseed.cfg"]
    file = tmp_path / "preseed.cfg"
    file.write_bytes(found.files["preseed.cfg"])
    done = subprocess.run(["debconf-set-selections", "-c", file], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = file.read_text().splitlines()
    if answers is WANTED:
        assert "d-i passwd/username string alice" in lines and "d-i partman-auto/method string lvm" in lines
        assert "d-i debian-installer/locale string zh_CN.UTF-8" in lines
        (late,) = [line for line in lines if "late_command" in line]
        command = late.partition("string ")[2].replace("in-target ", "")
        subprocess.run(["sh", "-n", "-c", command], check=True)
    else:
        assert "d-i passwd/make-user boolean false" in lines
        assert "d-i mirror/http/hostname string 192.0.2.7" in lines
        assert "d-i mirror/http/directory string /debian" in lines


@pytest.mark.parametrize("answers", [WANTED, ROOT], ids=["all", "root"])
@pytest.mark.parametrize(("name", "version"), [("fedora37", "F37"), ("rhel9.1", "RHEL9"), ("almalinux9", "RHEL9")])
def test_kickstart(answers: Answers, name: str, version: str) -> None:
    from pykickstart.parser import KickstartParser
    from pykickstart.version import makeVersion

    found = script(name, answers)
    handler = makeVersion(version)
    KickstartParser(handler).readKickstartFromString(found.files["ks.cfg"].decode())
    assert found.args == "inst.ks=file:/ks.cfg"
    assert handler.rootpw.isCrypted and handler.rootpw.password.startswith("$6$")
    assert handler.autopart.type is not None and handler.timezone.timezone == answers.timezone
    if answers is WANTED:
        assert handler.user.userList[0].name == "alice" and handler.sshkey.sshUserList[0].key == KEY
        assert {"vim", "curl", "openssh-server"} <= set(handler.packages.packageList)
        assert handler.scripts[0].script == "echo 'it is done' >/etc/done\n"


def test_ubuntu() -> None:
    found = script("ubuntu22.04", WANTED)
    assert (found.place, found.args, found.label) == ("cdrom", "autoinstall", "cidata")
    head, _, body = found.files["user-data"].decode().partition("\n")
    wish = json.loads(body)["autoinstall"]
    assert head == "#cloud-config" and wish["version"] == 1
    assert wish["identity"]["username"] == "alice" and wish["identity"]["password"].startswith("$6$")
    assert wish["storage"]["layout"] == {"name": "lvm", "match": {"path": "/dev/vda"}}
    assert wish["ssh"]["authorized-keys"] == [KEY] and wish["packages"] == ["vim", "curl"]
    alone = json.loads(text("ubuntu22.04", ROOT).partition("\n")[2])["autoinstall"]
    assert alone["late-commands"][0].startswith("curtin in-target -- usermod -p '$6$")
    assert alone["apt"]["primary"][0]["uri"] == "http://192.0.2.7/debian"
    assert list(script("ubuntu18.04", WANTED).files) == ["preseed.cfg"]


def test_autoyast() -> None:
    found = script("opensuse15.4", WANTED)
    assert found.args == "autoyast=file:///autoinst.xml"
    root = etree.fromstring(found.files["autoinst.xml"])
    ns = {"y": "http://www.suse.com/1.0/yast2ns"}

    def values(path: str) -> list[str]:
        return [each.text for each in root.xpath(path, namespaces=ns)]

    assert values("y:users/y:user/y:username") == ["root", "alice"]
    assert values("y:users/y:user[2]/y:authorized_keys/y:listentry") == [KEY]
    assert values("y:software/y:packages/y:package") == ["openssh", "vim", "curl"]
    assert values("y:partitioning/y:drive/y:device") == ["/dev/vda"]
    assert values("y:timezone/y:timezone") == ["Asia/Shanghai"]


def test_alpine(tmp_path: Path) -> None:
    found = script("alpinelinux3.17", WANTED)
    with tarfile.open(fileobj=io.BytesIO(found.files["guesthouse.apkovl.tar.gz"])) as tar:
        tar.extractall(tmp_path, filter="fully_trusted")
    subprocess.run(["sh", "-n", tmp_path / "etc/local.d/guesthouse.start"], check=True)
    read = subprocess.run(
        ["sh", "-c", f'. {tmp_path}/etc/guesthouse/answers; echo "$HOSTNAMEOPTS|$DISKOPTS|$USERSSHKEY|$PROXYOPTS"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout == f"web|-m sys -L /dev/vda|{KEY}|http://proxy:3128\n"


@pytest.mark.parametrize("efi", [False, True])
def test_windows(efi: bool) -> None:
    root = etree.fromstring(script("win10", replace(WANTED, efi=efi)).files["autounattend.xml"])
    ns = {"u": "urn:schemas-microsoft-com:unattend"}

    def value(path: str) -> str:
        (found,) = root.xpath(f"//{path}", namespaces=ns)
        return str(found.text)

    secret = base64.b64decode(value("u:LocalAccount/u:Password/u:Value")).decode("utf-16-le")
    assert secret == "wonder land'1Password"
    assert value("u:TimeZone") == "China Standard Time" and value("u:ComputerName") == "web"
    assert value("u:SetupUILanguage/u:UILanguage") == "zh-CN"
    assert value("u:InstallTo/u:PartitionID") == ("3" if efi else "1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "root"}, "'root' cannot be the name of a user"),
        ({"user": "Alice B"}, "'Alice B' cannot be a login"),
        ({"hostname": "a_b"}, "'a_b' cannot be a host name"),
        ({"locale": "german"}, "'german' cannot be a locale"),
        ({"layout": "zfs"}, "unknown disk layout 'zfs'"),
        ({"packages": ["vim\nd-i evil"]}, "more than one line"),
        ({"user": None, "root_password": None, "ssh_keys": []}, "nobody could log in"),
        ({"user_password": None, "ssh_keys": []}, "alice could not log in"),
    ],
)
def test_what_no_installer_would_take(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArg, match=words):
        script("debian11", replace(WANTED, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["freebsd13.1", "winxp", "generic"])
def test_systems_without_a_known_installer(name: str) -> None:
    with pytest.raises(ConfigUnsupported, match="unattended installation of"):
        script(name, WANTED)


def test_debian_tasks() -> None:
    """The usual ones, those that were asked for, or the base system alone, for which no menu is run."""
    wanted = Answers(root_password="secret")
    assert "tasksel tasksel/first multiselect standard\n" in debian.preseed(wanted)
    wanted.tasks = ["ssh-server", "web-server"]
    assert "tasksel tasksel/first multiselect ssh-server, web-server\n" in debian.preseed(wanted)
    wanted.tasks = []
    text = debian.preseed(wanted)
    assert "d-i pkgsel/run_tasksel boolean false\n" in text and "tasksel tasksel/first multiselect\n" in text
