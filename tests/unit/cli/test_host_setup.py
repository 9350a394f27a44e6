"""What ``guest host setup`` would do on hosts that do not exist; on a real one it is tests/guest/test_bare_host.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guesthouse.cli.guest.host_setup import PACKAGES, steps
from guesthouse.errors import OperationFailed
from guesthouse.host.checks import Host
from guesthouse.host.kvm import KvmStatus

HOME = Path("/opt/g/bin")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A Debian with nothing but our commands, in an environment of theirs; no systemd, no daemon."""
    for program in ("usr/bin/apt-get", "opt/g/bin/guesthoused", "opt/g/bin/guest", "opt/g/bin/virsh"):
        put(tmp_path, program)
    return Host(
        root=tmp_path,
        user="root",
        uid=0,
        groups=frozenset({0}),
        machine="x86_64",
        run=lambda argv: None,
        kvm=lambda: KvmStatus(False, False, "", ""),
        listener=lambda path: 0,
        free=lambda path: 1 << 40,
    )


def put(root: Path, path: str, text: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def plan(host: Host, *users: str) -> list[str]:
    return [step.text for step in steps(host, users, HOME)]


def carry_out(host: Host, word: str) -> None:
    for step in steps(host, [], HOME):
        if word in step.text:
            step.do()


def test_a_bare_debian(host: Host) -> None:
    update, install, *rest = plan(host, "alice")
    assert update == "apt-get update -qq"
    names = install.split()[5:]
    assert install.startswith("apt-get install -y -qq --no-install-recommends ")
    assert names == ["qemu-system-x86", *(debian for _, debian, _ in PACKAGES)]
    assert rest == [
        "groupadd --system kvm",
        "groupadd --system libvirt",
        "usermod -aG kvm,libvirt alice",
        "link guesthoused, guest, virsh of /opt/g/bin into /usr/local/bin",
        "start guesthoused (no systemd here: after a boot, root's first command starts it)",
    ]


def test_what_is_there_is_left_alone(host: Host) -> None:
    put(host.root, "etc/group", "kvm:x:104:alice\nlibvirt:x:105:bob,alice\n")
    put(host.root, "usr/bin/qemu-system-x86_64")
    for sign, _, _ in PACKAGES:
        put(host.root, sign.lstrip("/") if sign.startswith("/") else f"usr/bin/{sign}")
    carry_out(host, "link guesthoused")
    assert (host.root / "usr/local/bin/virsh").readlink() == HOME / "virsh"
    answering = replace(host, listener=lambda path: 7)
    assert plan(answering, "alice") == []
    assert plan(answering, "carol", "bob") == ["usermod -aG kvm,libvirt carol", "usermod -aG kvm bob"]


def test_anothers_virsh_stays_and_an_older_installations_does_not(host: Host) -> None:
    put(host.root, "usr/bin/virsh")
    assert "link guesthoused, guest of /opt/g/bin into /usr/local/bin" in plan(host)
    put(host.root, "opt/old/bin/guesthoused")
    (host.root / "usr/local/bin").mkdir(parents=True)
    (host.root / "usr/local/bin/virsh").symlink_to("/opt/old/bin/virsh")
    assert "link guesthoused, guest, virsh of /opt/g/bin into /usr/local/bin" in plan(host)
    put(host.root, "usr/local/bin/guest")
    with pytest.raises(OSError, match="/usr/local/bin/guest is a file already"):
        carry_out(host, "link guesthoused")


def test_packages_of_other_systems(host: Host) -> None:
    (host.root / "usr/bin/apt-get").rename(host.root / "usr/bin/dnf")
    assert plan(host)[0].startswith("dnf install -y -q qemu-kvm qemu-img dnsmasq nftables ")
    (host.root / "usr/bin/dnf").unlink()
    with pytest.raises(OperationFailed, match="install what these packages hold: qemu-system-x86 qemu-utils"):
        plan(host)


def test_spice_is_a_package_where_the_mirror_has_one(host: Host) -> None:
    spice = "qemu-system-modules-spice"
    with_one = replace(host, run=lambda argv: "Package" if argv == ["apt-cache", "show", spice] else None)
    assert plan(with_one)[1].endswith(f" {spice}")
    put(host.root, "usr/lib/x86_64-linux-gnu/qemu/ui-spice-core.so")
    assert spice not in plan(with_one)[1]


def test_units_name_the_commands_and_a_daemon_by_hand_makes_room(host: Host) -> None:
    (host.root / "run/systemd/system").mkdir(parents=True)
    put(host.root, "run/guesthouse/guesthoused.pid", "4711\n")
    managed = replace(host, listener=lambda path: 4711)
    assert plan(managed)[-5:] == [
        "write /etc/systemd/system/guesthouse-machines.service",
        "write /etc/systemd/system/guesthoused.service",
        "systemctl daemon-reload",
        "end the guesthoused that a command started (pid 4711); its guests go on",
        "systemctl enable --now guesthouse-machines.service guesthoused.service",
    ]
    carry_out(managed, "write /etc/systemd")
    assert "ExecStart=/opt/g/bin/guesthoused" in (host.root / "etc/systemd/system/guesthoused.service").read_text()
    states = {"is-active": "active\n", "is-enabled": "enabled\n"}
    settled = replace(managed, run=lambda argv: states.get(argv[1]))
    assert not [text for text in plan(settled) if "systemctl" in text or "write" in text or "end " in text]
