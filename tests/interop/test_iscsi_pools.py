"""Pools on an iSCSI target, without the kernel: C virsh's lines, asked of C libvirtd and of ours, with Debian's tgt as
target on each one's loopback; and a guest with such disks.

libvirt counts one block less of each LUN (its arithmetic takes the last block's number for their count); C libvirtd 9.0
dies of a discovery that finds several targets, so it is asked for one alone.
"""

from __future__ import annotations

import base64
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import namespaces
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable

MIB = 1 << 20
SIZES = {"a": 16 * MIB, "b": 8 * MIB}
OPEN, CHAP = "iqn.2024-01.test:open", "iqn.2024-01.test:chap"
PASSWORD = "opensesame123"
_SECRET = "0e6b1a2c-6f6a-4d0e-9a48-7f0f2f4c6d11"

SECRET = f"""\
<secret ephemeral='no' private='yes'><uuid>{_SECRET}</uuid><usage type='iscsi'><target>lab</target></usage></secret>
"""
POOL = f"""\
<pool type='iscsi-direct'><name>chap</name>
  <source><host name='127.0.0.1' port='3260'/><device path='{CHAP}'/><initiator><iqn name='iqn.x:me'/></initiator>
    <auth type='chap' username='joe'><secret usage='lab'/></auth></source>
</pool>
"""
LINES = f"""\
pool-define-as one iscsi-direct --source-host 127.0.0.1 --source-dev {OPEN}
pool-define-as one iscsi-direct --source-host 127.0.0.1 --source-dev {OPEN} --source-initiator iqn.x:me
pool-build one
pool-start one
pool-info one --bytes
pool-dumpxml one --xpath /pool/source
vol-list one --details
vol-dumpxml unit:0:0:0 one
vol-dumpxml unit:0:0:1 one
vol-info unit:0:0:2 one --bytes
vol-create-as one x 1M
vol-delete unit:0:0:1 one
vol-resize unit:0:0:1 20M one
vol-clone unit:0:0:1 z one
vol-upload unit:0:0:1 /etc/hostname one
vol-download unit:0:0:1 /dev/null one
vol-wipe unit:0:0:2 one --algorithm random
vol-wipe unit:0:0:2 one
pool-refresh one
vol-pool ip-127.0.0.1:3260-iscsi-{OPEN}-lun-1
find-storage-pool-sources-as iscsi-direct
find-storage-pool-sources-as iscsi-direct 127.0.0.1
find-storage-pool-sources-as iscsi-direct 127.0.0.1 --initiator iqn.x:me
pool-create-as two iscsi-direct --source-host 127.0.0.1 --source-dev iqn.x:none --source-initiator iqn.x:me
pool-create-as two iscsi-direct --source-host 127.0.0.1 --source-dev {OPEN} --source-initiator iqn.x:me
!chap
pool-create-as three iscsi-direct --source-host 127.0.0.1 --source-dev {CHAP} --source-initiator iqn.x:me
secret-define {{work}}/secret.xml
pool-create {{work}}/chap.xml
secret-set-value {_SECRET} {base64.b64encode(b"wrong").decode()}
pool-create {{work}}/chap.xml
secret-set-value {_SECRET} {base64.b64encode(PASSWORD.encode()).decode()}
pool-create {{work}}/chap.xml
vol-list chap --details
pool-dumpxml chap --xpath /pool/source
pool-delete one
pool-destroy one
pool-delete one
find-storage-pool-sources-as scsi
find-storage-pool-sources-as mpath
pool-create-as m mpath --target /dev/mapper
pool-define-as m2 mpath --target /dev/mapper
vol-list m --details
pool-create-as s scsi --adapter-name host7 --target /dev/disk/by-path
pool-create-as s scsi --adapter-name frob0 --target /dev/disk/by-path
""".splitlines()


class Host:
    """A daemon, and an iSCSI target that only it sees."""

    def __init__(self, base: Path, kind: type[Libvirtd] | type[Guesthoused]) -> None:
        self.work = base / "work"
        self.work.mkdir(parents=True)
        reachable(self.work)
        for name, size in SIZES.items():
            (self.work / name).write_bytes(b"data" * (size // 4))
        (self.work / "secret.xml").write_text(SECRET)
        (self.work / "chap.xml").write_text(POOL)
        self.daemon = kind(base / "root")
        self._env = {"TGT_IPC_SOCKET": str(self.work / "tgt")}
        argv = ["tgtd", "-f", "-C", "0", "--iscsi", "portal=127.0.0.1:3260"]
        self._target = self.daemon.ns.spawn(argv, self.work / "tgtd.log", self._env)
        deadline = time.monotonic() + 20
        while self._administer("--mode sys --op show", check=False):
            assert time.monotonic() < deadline and namespaces.alive(self._target), "tgtd does not start"
            time.sleep(0.05)
        self._administer(f"--mode target --op new --tid 1 --targetname {OPEN}")
        for number, name in enumerate(SIZES, 1):
            self._administer(f"--mode logicalunit --op new --tid 1 --lun {number} -b {self.work}/{name}")
        self._administer("--mode target --op bind --tid 1 -I ALL")

    def _administer(self, words: str, *, check: bool = True) -> int:
        argv = ["env", f"TGT_IPC_SOCKET={self.work}/tgt", "tgtadm", "-C", "0", "--lld", "iscsi", *words.split()]
        done = subprocess.run(self.daemon.ns.command(argv), capture_output=True, text=True, timeout=20)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.returncode

    def add_chap(self) -> None:
        self._administer(f"--mode target --op new --tid 2 --targetname {CHAP}")
        self._administer(f"--mode logicalunit --op new --tid 2 --lun 1 -b {self.work}/b")
        self._administer(f"--mode account --op new --user joe --password {PASSWORD}")
        self._administer("--mode account --op bind --tid 2 --user joe")
        self._administer("--mode target --op bind --tid 2 -I ALL")

    def say(self, line: str) -> tuple[int, str]:
        done = self.daemon.run(*shlex.split(line.replace("{work}", str(self.work))))
        return done.returncode, (done.stdout + done.stderr).replace(str(self.work), "{work}")

    def transcript(self) -> list[str]:
        told = []
        for line in LINES:
            if line == "!chap":
                self.add_chap()
                continue
            code, text = self.say(line)
            told.append(f"$ {line}\n{text}{code}")
        return told

    def close(self) -> None:
        namespaces.end(self._target, signal.SIGKILL)
        self.daemon.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    reachable(tmp_path)
    return tmp_path


@pytest.fixture
def ours(base: Path) -> Iterator[Host]:
    host = Host(base / "ours", Guesthoused)
    yield host
    host.close()


def _whole(text: str) -> str:
    """C's text with all blocks counted."""
    for size in (*SIZES.values(), sum(SIZES.values())):
        short = size - 512 * (2 if size == sum(SIZES.values()) else 1)
        text = text.replace(str(short), str(size))
    return text


def _uuids(texts: list[str]) -> list[str]:
    return ["\n".join(line for line in text.splitlines() if not line.startswith("UUID:")) for text in texts]


GUEST = """\
<domain type='qemu'>
  <name>g</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='volume' device='disk'>
      <source pool='two' volume='unit:0:0:1'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='volume' device='lun'>
      <source pool='chap' volume='unit:0:0:1' mode='direct'/>
      <target dev='sda' bus='scsi'/>
    </disk>
  </devices>
</domain>
"""


def test_one_transcript_and_a_guest(base: Path, ours: Host) -> None:
    theirs = Host(base / "c", Libvirtd)
    try:
        want = [_whole(text) for text in theirs.transcript()]
        wiped = (theirs.work / "b").read_bytes()[: 8 * MIB - 512]
    finally:
        theirs.close()
    have = ours.transcript()
    differ = [f"want {a}\nhave {b}" for a, b in zip(_uuids(want), _uuids(have), strict=True) if a != b]
    assert not differ, "\n\n".join(differ)
    assert sum(text.endswith("\n0") for text in want) > len(LINES) / 2
    assert not any(wiped) and not any((ours.work / "b").read_bytes())
    code, text = ours.say("find-storage-pool-sources-as iscsi-direct 127.0.0.1 3260 --initiator iqn.x:me")
    assert code == 0 and text.count("<source>") == 2 and CHAP in text and OPEN in text
    code, text = ours.say("find-storage-pool-sources-as iscsi-direct 127.0.0.1 3261 --initiator iqn.x:me")
    assert code == 1 and "internal error: Failed to connect: " in text and "Connection refused" in text

    # a daemon that comes later asks the target again; QEMU logs in by itself, with the password of the secret
    assert isinstance(ours.daemon, Guesthoused)
    ours.daemon.kill()
    ours.daemon.start()
    (ours.work / "guest.xml").write_text(GUEST)
    code, text = ours.say("create {work}/guest.xml --paused")
    assert code == 0, text
    code, text = ours.say("domblkinfo g vda")
    assert f"Capacity:       {16 * MIB}\n" in text
    code, text = ours.say(
        """qemu-monitor-command g '{"execute":"query-named-block-nodes","arguments":{"flat":true}}'"""
    )
    nodes = {node["file"]: node for node in json.loads(text)["return"] if node["drv"] == "iscsi"}
    assert sorted(node["image"]["virtual-size"] for node in nodes.values()) == [8 * MIB, 16 * MIB]
    (pid,) = ours.daemon.qemu_pids()
    argv = Path(f"/proc/{pid}/cmdline").read_text()
    assert PASSWORD not in argv and base64.b64encode(PASSWORD.encode()).decode() not in argv
    assert '"driver":"iscsi","portal":"127.0.0.1:3260"' in argv
    assert "<source pool='chap' volume='unit:0:0:1' mode='direct'" in ours.say("dumpxml g")[1]
    code, text = ours.say("destroy g")
    assert code == 0, text
