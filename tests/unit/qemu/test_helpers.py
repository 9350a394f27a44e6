"""What the programs beside QEMU are told, and which program it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.graphics import Video
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.tpm import Tpm
from guesthouse.qemu import helpers, vhost_user


def test_passt() -> None:
    xml = """<interface type='user'><mac address='52:54:00:00:00:01'/><source dev='eth0'/>
      <ip address='172.17.2.4' family='ipv4' prefix='24'/><ip address='2001:db8::2' family='ipv6'/>
      <portForward proto='tcp' address='2001:db8:0:0::10' dev='eth0'>
        <range start='2022' end='2030' to='22'/><range start='2025' exclude='yes'/></portForward>
      <portForward proto='udp' address='1.2.3.4'/><portForward proto='udp'><range start='80'/></portForward>
      <backend type='passt' logFile='/log'/><mtu size='1400'/></interface>"""
    argv = helpers.passt("net0", Interface.from_xml(xml), Path("/s")).argv
    assert argv[:6] == ["passt", "--foreground", "--one-off", "--socket", "/s", "--mac-addr"]
    assert argv[7:] == [
        *("--mtu", "1400", "--interface", "eth0", "--log-file", "/log"),
        *("--address", "172.17.2.4", "--netmask", "24", "--address", "2001:db8::2"),
        *("--tcp-ports", "2001:db8::10%eth0/2022-2030:22-30,~2025"),
        *("--udp-ports", "1.2.3.4/all", "--udp-ports", "80"),
    ]


@pytest.mark.parametrize(
    "binary, options, more",
    [
        ("", "source=/a,,b", []),
        ("<cache mode='none'/><sandbox mode='chroot'/>", "source=/a,,b,cache=none,sandbox=chroot", []),
        ("<lock posix='on' flock='off'/>", "source=/a,,b,no_flock,posix_lock", []),
        ("<thread_pool size='0'/>", "source=/a,,b", ["--thread-pool-size=0"]),
    ],
)
def test_virtiofsd(binary: str, options: str, more: list[str]) -> None:
    xml = f"<filesystem><binary>{binary}</binary><source dir='/a,b'/></filesystem>"
    helper = helpers.virtiofsd("fs0", Filesystem.from_xml(xml), "/v", 5)
    assert helper.argv == ["/v", "--fd=5", "-o", options, *more]
    assert helper.as_root and helper.fds == [5]
    xml = "<filesystem><binary xattr='off'/><source dir='/a'/></filesystem>"
    assert helpers.virtiofsd("fs0", Filesystem.from_xml(xml), "/v", 5).argv[3] == "source=/a,no_xattr"


def test_swtpm() -> None:
    plain = Tpm.from_xml("<tpm><backend type='emulator' version='1.2'/></tpm>").backend
    banks = "<active_pcr_banks><sha1/><sha384/></active_pcr_banks>"
    new = Tpm.from_xml(f"<tpm><backend type='emulator' version='2.0'>{banks}</backend></tpm>").backend
    assert plain is not None and new is not None
    old = helpers.swtpm("tpm0", plain, Path("/state"), Path("/s"), 4, [])
    assert "--tpm2" not in old.argv and "--key" not in old.argv and old.fds == [4]
    helper = helpers.swtpm("tpm0", new, Path("/state"), Path("/s"), 4, [5, 6])
    assert helper.argv[-5:] == [
        *("--tpm2", "--key", "pwdfd=5,mode=aes-256-cbc", "--migration-key", "pwdfd=6,mode=aes-256-cbc"),
    ]
    assert helper.fds == [4, 5, 6]
    made = helpers.swtpm_setup(new, Path("/c"), Path("/state"), "a:b", "root", 7)
    assert made[:3] == ["swtpm_setup", "--runas", "root"] and made[-7:-4] == ["--pcr-banks", "sha1,sha384", "--tpm2"]
    assert "--runas" not in helpers.swtpm_setup(plain, Path("/c"), Path("/state"), "a:b", None, None)


def test_a_graphics_process() -> None:
    video = "<video><model type='virtio'><acceleration accel3d='yes' rendernode='/r'/></model></video>"
    assert helpers.gpu("video0", Video.from_xml(video), "/g", 3).argv == ["/g", "--fd=3", "--virgl", "--render-node=/r"]


def test_descriptors(tmp_path: Path) -> None:
    vendor, admin = tmp_path / "vendor", tmp_path / "admin"
    vendor.mkdir()
    admin.mkdir()
    for name, binary in (("50-a", "/a"), ("60-b", "/b"), ("70-c", "/c")):
        (vendor / f"{name}.json").write_text(f'{{"type": "fs", "binary": "{binary}"}}')
    (vendor / "10-gpu.json").write_text('{"type": "gpu", "binary": "/g"}')
    (admin / "50-a.json").write_text("")  # hides the vendor's
    (admin / "70-c.json").write_text('{"type": "fs", "binary": "/ours"}')
    found = [described["binary"] for described in vhost_user.programs("fs", (vendor, admin))]
    assert found == ["/b", "/ours"]
    assert vhost_user.programs("block", (vendor, admin)) == []
