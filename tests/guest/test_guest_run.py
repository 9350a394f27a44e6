"""guest run from an image to an address, and what one does with such a guest afterwards: one boot, one daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import media, namespaces
from support.guesthoused import BIN, Guesthoused


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("run")))
    yield guesthoused
    guesthoused.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.bootable_disk(tmp_path_factory.mktemp("image"))


def test_run_and_the_rest(daemon: Guesthoused, image: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "scp"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tools / name).chmod(0o755)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text("ssh-ed25519 AAAA me@here\n")
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    env.pop("XDG_DATA_HOME", None)

    def guest(command: str, *words: str, code: int = 0) -> str:
        argv = daemon.ns.command([str(BIN / "guest"), command, "-c", daemon.uri, *words])
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    def virsh(*words: str) -> str:
        argv = daemon.ns.command([str(BIN / "virsh"), "-q", "-c", daemon.uri, *words])
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    argv = [
        str(BIN / "guest"),
        "image",
        "import",
        str(image),
        "--name",
        "tiny",
        "--osinfo",
        "linux2020",
        "--login",
        "tim",
    ]
    subprocess.run(daemon.ns.command([*argv, "-c", daemon.uri]), check=True, capture_output=True, env=env)

    # what cannot be leaves nothing
    assert "no image 'none', here (tiny)" in guest("run", "none", code=1)
    for words, text in (
        (("--memory", "8"), "8 MiB of memory are too few; was 8G meant?"),
        (("--name", "a b"), "cannot be the name of a guest and a host"),
        (("--disk", "1M"), "the image needs"),
        (("--network", "nope"), "Network not found"),
        (("--memory", "lots"), "'lots' is no size"),
        (("--publish", "8080:80", "--network", "user"), "ports can be published on a virtual network alone"),
        (("--publish", "80-81:80"), "several ports lead to the same ones of the guest: 80-81"),
        (("--publish", "80:80/sctp"), "is no port to publish, such as 8080:80"),
        (("--publish", "9x:8080:80"), "'9x' is no IP address of this host"),
        (("--publish", "70000"), "ports are 1 to 65535"),
        (("--ssh-key", "/none"), "the key's file '/none' cannot be read"),
    ):
        assert text in guest("run", "tiny", *words, code=1)
    assert virsh("vol-list", "default").strip() == "" and virsh("list", "--all", "--name").strip() == ""

    more = tmp_path / "more"
    more.write_text("#cloud-config\npackages: [vim]\n")
    taken = "<forwards><portForward host='99' guest='192.168.122.9'/></forwards>"
    virsh("net-metadata", "default", "urn:guesthouse:network:1", "--key", "g", "--set", taken, "--live", "--config")
    options = ("--publish", "8080:80", "-p", "127.0.0.1:53/udp")
    ran = guest(
        "run", "tiny", "--name", "web", "--memory", "256M", "--wait", "--user-data", str(more), *options, "--timing"
    )
    address = re.search(r"web has the address (192\.168\.\d+\.\d+) \(", ran)
    assert address is not None and "get in: guest ssh web" in ran and re.search(r"overlay +\d+\.\d ms", ran), ran
    assert "password" not in ran  # there was a key
    (row,) = json.loads(guest("ls", "--json"))
    assert row == {
        "name": "web",
        "state": "running",
        "image": "tiny",
        "cpus": 2,
        "memory": 256 << 20,
        "addresses": [address[1]],
    }
    assert re.search(rf"^web +running +tiny +2 +256 MiB +{re.escape(address[1])}$", guest("ls"), re.M)

    # what is published leads to the address that it got
    deadline = time.monotonic() + 5
    while f"tcp dport 8080 dnat ip to {address[1]}:80" not in (rules := daemon.ns.run("nft", "list", "ruleset").stdout):
        assert time.monotonic() < deadline, rules
        time.sleep(0.1)
    assert f"ip daddr 127.0.0.1 fib daddr type local udp dport 53 dnat ip to {address[1]}" in rules
    assert 'guest="web"' in virsh("net-dumpxml", "default")
    assert "port tcp 8080 is forwarded twice" in guest("run", "tiny", "--name", "two", "--publish", "8080:1", code=1)

    # the seed is what cloud-init would read
    path = virsh("vol-path", "web-seed.iso", "default").strip()
    out = tmp_path / "seed"
    subprocess.run(["xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out], check=True, capture_output=True)
    data = (out / "user-data").read_text()
    assert "multipart/mixed" in data and "ssh-ed25519 AAAA me@here" in data and "packages: [vim]" in data
    mac = virsh("domiflist", "web").split()[-1]
    network = json.loads((out / "network-config").read_text())
    assert network["ethernets"]["card0"] == {
        "match": {"macaddress": mac},
        "dhcp4": True,
        "dhcp6": True,
        "optional": False,
    }
    assert json.loads((out / "meta-data").read_text())["local-hostname"] == "web"

    deadline = time.monotonic() + 60
    while "guest ready" not in guest("logs", "web"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert re.fullmatch(rf"ssh .*HostKeyAlias=\S+ tim@{address[1]} uptime\n", guest("ssh", "web", "uptime"))
    assert "scp -o StrictHostKeyChecking=accept-new" in guest("cp", "-r", "x", "root@web:/tmp")
    assert f"root@{address[1]}:/tmp" in guest("cp", "x", "root@web:/tmp")
    assert "one of the two is GUEST:PATH" in guest("cp", "x", "y", code=1)
    assert "it needs the package qemu-guest-agent" in guest("exec", "web", "--", "true", code=1)

    assert "there is a guest 'web' already" in guest("run", "tiny", "--name", "web", code=1)
    assert "'web' runs: shut it down first" in guest("rm", "web", code=1)
    assert "there is no guest 'nope'" in guest("rm", "nope", code=1)
    assert guest("rm", "--force", "web") == "removed web\n"
    for options in ((), ("--inactive",)):
        text = virsh("net-dumpxml", "default", *options)
        assert "web" not in text and 'guest="192.168.122.9"' in text, "others' ports stay"
    assert "dport 8080" not in daemon.ns.run("nft", "list", "ruleset").stdout
    assert virsh("vol-list", "default").strip() == "" and "No guests yet" in guest("ls")
