"""Files for a first boot: read back by programs that we did not write."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import InvalidArg
from guesthouse.provision import cloudinit, injection, passwords

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here"


def test_cd_image(tmp_path: Path) -> None:
    path = injection.cd_image({"user-data": b"one", "a rather long name.txt": b"two"}, "cidata", "seed.iso")
    try:
        out = tmp_path / "out"
        subprocess.run(
            ["xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out], capture_output=True, check=True
        )
        assert (out / "user-data").read_bytes() == b"one"
        assert (out / "a rather long name.txt").read_bytes() == b"two"
        label = subprocess.run(["blkid", "-o", "value", "-s", "LABEL", path], capture_output=True, text=True).stdout
        assert label == "cidata\n"
        assert Path(path).stat().st_mode & 0o777 == 0o600
    finally:
        Path(path).unlink()


def test_files_behind_an_initrd(tmp_path: Path) -> None:
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(b"odd")
    path = injection.add_to_initrd(str(initrd), {"preseed.cfg": b"d-i", "etc/deep/x": b"y" * 5000})
    try:
        whole = Path(path).read_bytes()
    finally:
        Path(path).unlink()
    assert whole.startswith(b"odd\0")
    archive = subprocess.run(["gzip", "-dc"], input=whole[4:], capture_output=True, check=True).stdout
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "preseed.cfg").read_bytes() == b"d-i" and (tmp_path / "etc/deep/x").read_bytes() == b"y" * 5000


def test_names_of_injected_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.cfg"
    file.write_text("x")
    assert injection.read_files([str(file), f"{file}=preseed.cfg"]) == {"mine.cfg": b"x", "preseed.cfg": b"x"}
    with pytest.raises(InvalidArg, match="No such file"):
        injection.read_files([str(tmp_path / "none")])


def test_passwords() -> None:
    password = passwords.made_up()
    hashed = passwords.hashed(password)
    salt = hashed.split("$")[2]
    other = subprocess.run(["openssl", "passwd", "-6", "-salt", salt, password], capture_output=True, text=True).stdout
    assert hashed == other.strip()
    assert len({passwords.made_up() for _ in range(50)}) == 50


def test_user_data() -> None:
    config = cloudinit.CloudInit(
        disable=True, passwords={"root": "secret"}, keys={"root": [KEY], "": [KEY]}, hostname="web"
    )
    files = config.files("i-1")
    head, _, body = files["user-data"].decode().partition("\n")
    data = json.loads(body)
    assert head == "#cloud-config" and b"secret" not in files["user-data"]
    assert re.match(r"root:\$6\$", data["chpasswd"]["list"][0]) and data["chpasswd"]["expire"] is False
    assert data["users"] == ["default", {"name": "root", "ssh_authorized_keys": [KEY]}]
    assert data["ssh_authorized_keys"] == [KEY] and data["disable_root"] is False
    assert data["runcmd"] == [["touch", "/etc/cloud/cloud-init.disabled"]]
    assert json.loads(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}
    assert "secret" not in repr(config)


def test_files_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text("#!/bin/sh\n")
    files = cloudinit.CloudInit(user_data=str(file), network_config=str(file)).files("i-1")
    assert files["user-data"] == files["network-config"] == b"#!/bin/sh\n" and "meta-data" in files
    with pytest.raises(InvalidArg, match="meta-data '/none' cannot be read"):
        cloudinit.CloudInit(meta_data="/none").files("i-1")


def test_keys(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(f"# mine\n{KEY}\n")
    assert cloudinit.read_keys(str(file)) == [KEY]
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(InvalidArg, match=r"is a private key: give the public one, '.*key\.pub\.pub'"):
        cloudinit.read_keys(str(file))
    file.write_text("\n")
    with pytest.raises(InvalidArg, match="holds no key"):
        cloudinit.read_keys(str(file))
