"""Pools on an iSCSI target, without the kernel: C virsh's lines, asked of C libvirtd and of ours, with Debian's tgt as
target on each one's loopback; and a guest with such disks. Pools that need kernels or modules which test machines do
not have (iscsi, scsi, zfs) stand on a /sys of our own and on programs that write down what they are told.

libvirt counts one block less of each LUN (its arithmetic takes the last block's number for their count); C libvirtd 9.0
dies of a discovery that finds several targets, so it is asked for one alone.
"""

from __future__ import annotations

import base64
import json
import re
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
_MARK = "=====\n"
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
SCSI = """\
<pool type='scsi'><name>at{slot}</name>
  <source><adapter type='scsi_host'>
    <parentaddr unique_id='3'><address domain='0x0' bus='0x0' slot='0x0{slot}' function='0x0'/></parentaddr>
  </adapter></source>
  <target><path>/dev/shm/by-path</path></target>
</pool>
"""
FC = """\
<pool type='scsi'><name>fc</name>
  <source><adapter type='fc_host' wwnn='20000000c9831b4b'/></source><target><path>/dev/shm/by-path</path></target>
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
find-storage-pool-sources-as iscsi
find-storage-pool-sources-as iscsi 127.0.0.1
find-storage-pool-sources-as iscsi 127.0.0.1 3261
find-storage-pool-sources-as iscsi ::1 --initiator iqn.x:me
find-storage-pool-sources-as iscsi ::1 --initiator iqn.x:strange
pool-define-as i iscsi --source-host 127.0.0.1 --source-dev {OPEN} --target /dev/shm/by-path
pool-define-as i2 iscsi --source-host 127.0.0.1 --source-dev {OPEN} --target /dev/shm/by-path
pool-start i
vol-list i --details
vol-dumpxml unit:0:0:1 i
vol-upload unit:0:0:1 {{work}}/secret.xml i
vol-download unit:0:0:1 {{work}}/back i --length 20
!cat {{work}}/back
vol-wipe unit:0:0:1 i
vol-create-as i x 1M
vol-delete unit:0:0:1 i
pool-info i --bytes
pool-destroy i
pool-undefine i
pool-create-as i iscsi --source-host h --source-dev {OPEN} --source-initiator iqn.x:new --target /dev/shm/by-path
pool-dumpxml i --xpath /pool/source
pool-destroy i
pool-create-as i iscsi --source-host h --source-dev iqn.x:refused --target /dev/shm/by-path
pool-define-as s scsi --adapter-name scsi_host4 --target /dev/shm/by-path
pool-define-as s2 scsi --adapter-name host4 --target /dev/shm/by-path
pool-build s
pool-start s
vol-list s --details
vol-key unit:0:0:2 s
!cat /sys/class/scsi_host/host4/scan
pool-destroy s
pool-create-as s3 scsi --adapter-name host4 --target /srv
pool-create {{work}}/at5.xml
pool-undefine s
pool-create {{work}}/at5.xml
vol-list at5
pool-create {{work}}/at6.xml
pool-create {{work}}/fc.xml
pool-define-as z zfs --source-name tank
pool-build z
pool-undefine z
pool-define-as z zfs --source-name tank --source-dev /dev/sdx
pool-build z
pool-start z
pool-info z --bytes
pool-dumpxml z --xpath /pool/target
vol-list z --details
vol-dumpxml one z
vol-create-as z two 5M
vol-create-as z three 5000000 --allocation 0
vol-create-as z four 5M --allocation 1M
vol-create-as z four 5M
vol-list z --details
vol-delete two z
vol-resize four 9M z
vol-list z
pool-destroy z
pool-delete z
pool-create-as zf zfs --source-name tank/guests --build
pool-destroy zf
!cat {{work}}/told
find-storage-pool-sources-as scsi
find-storage-pool-sources-as mpath
pool-create-as m mpath --target /dev/mapper
pool-define-as m2 mpath --target /dev/mapper
vol-list m --details
pool-create-as s4 scsi --adapter-name host7 --target /dev/disk/by-path
pool-create-as s4 scsi --adapter-name frob0 --target /dev/disk/by-path
""".splitlines()

# What {work} and the device {loop} stand for is filled in. Of the SCSI host 4: two disks, and what is none; C libvirtd
# waits ten seconds for each disk without a name in the pool's folder.
_SYS = """
mount -t tmpfs tmpfs /sys/class; mount -t tmpfs tmpfs /sys/bus; mount -t tmpfs tmpfs /dev/shm
mkdir -p /sys/class/scsi_host /sys/class/iscsi_session/session7/device/target4:0:0 /sys/bus/scsi/devices /dev/shm/by-path
mkdir -p /sys/bus/pci/0000:00:05.0/host4 && ln -s ../../bus/pci/0000:00:05.0/host4 /sys/class/scsi_host/host4
touch /sys/class/scsi_host/host4/scan; echo 3 >/sys/class/scsi_host/host4/unique_id
unit() { mkdir -p /sys/bus/scsi/devices/$1/block/$3; echo $2 >/sys/bus/scsi/devices/$1/type; }
unit 4:0:0:1 0 {a}; unit 4:0:0:2 0 {b}; unit 4:0:1:0 13 ses; unit 5:0:0:0 0 sdz
ln -s ../../{a} /dev/shm/by-path/ip-lun-1; ln -s ../../{b} /dev/shm/by-path/ip-lun-2
for folder in /usr/bin /usr/sbin /usr/lib/udev; do
    new={work}/over$folder; mkdir -p $new
    mount -t tmpfs tmpfs $new; mkdir $new/upper $new/work
    mount -t overlay overlay -o lowerdir=$folder,upperdir=$new/upper,workdir=$new/work $folder
done
cp {work}/stand-in /usr/bin/iscsiadm; cp {work}/stand-in /usr/lib/udev/scsi_id
cp {work}/stand-in /usr/sbin/zfs; cp {work}/stand-in /usr/sbin/zpool
"""
# open-iscsi's, ZFS' and udev's programs, as far as pools use them; whatever changes something is written down.
_STAND_IN = """\
#!/usr/bin/python3 -IS
import os, sys
work, name, args = "{work}/", os.path.basename(sys.argv[0]), sys.argv[1:]
def kept(what):
    file = work + f"state-{{what}}"
    return open(file).read().splitlines() if os.path.exists(file) else []
def keep(what, lines):
    with open(work + f"state-{{what}}", "w") as file:
        file.writelines(f"{{line}}\\n" for line in lines)
def word(option):
    return args[args.index(option) + 1]
def tell():
    with open(work + "told", "a") as told:
        print(name, *("NEW" if arg.startswith("libvirt-iface-") else arg for arg in args), file=told)
if name == "scsi_id":
    print("serial of", os.path.basename(args[-1]))
elif name == "iscsiadm":
    mode = word("--mode")
    interfaces = kept("iface") or ["default tcp,<empty>,<empty>,<empty>,<empty>", "mine tcp,<empty>,<empty>,,iqn.x:me"]
    if mode == "session" and "-R" not in args:
        for number, target in enumerate(kept("session"), 7):
            print(f"tcp: [{{number}}] 127.0.0.1:3260,1 {{target}} (non-flash)")
        if not kept("session"):
            sys.exit("iscsiadm: No active sessions.")
    elif mode == "iface" and "--op" not in args:
        print(*interfaces, sep="\\n")
    else:
        tell()
        if mode == "iface" and word("--op") == "new":
            keep("iface", [*interfaces, f"{{word('--interface')}} tcp,<empty>,<empty>,<empty>,<empty>"])
        elif mode == "iface":
            keep("iface", [f"{{word('--interface')}} tcp,<empty>,<empty>,<empty>,{{word('--value')}}", *interfaces[:-1]])
        elif mode == "discovery":
            portal = word("--portal")
            if ":3261," in portal:
                print("iscsiadm: cannot make connection to 127.0.0.1: Connection refused", file=sys.stderr)
                sys.exit(4)
            print(f"{{portal}} iqn.a:one\\n{{portal}} iqn.a:two")
        elif "--login" in args:
            if "refused" in word("--targetname"):
                print("iscsiadm: Could not login", file=sys.stderr)
                sys.exit(8)
            keep("session", [word("--targetname")])
        elif "--logout" in args:
            keep("session", [])
elif name == "zpool" and args[0] == "get":
    for key, value in dict(health="ONLINE", size="1000000", free="600000", allocated="400000").items():
        print(args[-1], key, value, "-", sep="\\t")
elif name == "zfs" and args == ["get"]:
    sys.exit(2)
elif name == "zfs" and args[0] == "list":
    print(*(kept("zfs") or ["tank/one\\t1048576\\t1048576"]), sep="\\n")
else:
    tell()
    volumes = kept("zfs") or ["tank/one\\t1048576\\t1048576"]
    if name == "zfs" and "-V" in args:
        size = int(word("-V")[:-1]) * 1024
        reserved = int(word("-o").partition("=")[2][:-1]) * 1024 if "-o" in args else 0 if "-s" in args else size
        keep("zfs", [*volumes, f"{{args[-1]}}\\t{{size}}\\t{{reserved}}"])
    elif name == "zfs" and args[0] == "destroy":
        keep("zfs", [line for line in volumes if not line.startswith(args[-1] + "\\t")])
"""


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
        (self.work / "fc.xml").write_text(FC)
        for slot in (5, 6):
            (self.work / f"at{slot}.xml").write_text(SCSI.format(slot=slot))
        self._loops: list[str] = []
        self._target = 0
        try:
            for name in SIZES:
                (self.work / f"{name}.loop").write_bytes(b"loop" * (MIB // 4))
                argv = ["losetup", "-f", "--show", str(self.work / f"{name}.loop")]
                done = subprocess.run(argv, capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"no loop devices here: {done.stderr}")
                self._loops.append(done.stdout.strip())
            self.daemon = kind(base / "root")
            self._prepare()
        except BaseException:
            self._detach()
            raise

    def _detach(self) -> None:
        for loop in self._loops:
            subprocess.run(["losetup", "-d", loop], check=False)

    def _prepare(self) -> None:
        stand_in = self.work / "stand-in"
        stand_in.write_text(_STAND_IN.format(work=self.work))
        stand_in.chmod(0o755)
        a, b = (Path(loop).name for loop in self._loops)
        self.daemon.ns.run("sh", "-euc", _SYS.replace("{work}", str(self.work)).replace("{a}", a).replace("{b}", b))
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
        text = line.replace("{work}", str(self.work))
        if text.startswith("!"):
            done = self.daemon.ns.run("sh", "-c", text[1:], check=False)
        else:
            done = self.daemon.run(*shlex.split(text))
        said = (done.stdout + done.stderr).replace(str(self.work), "{work}").replace("\0", "")
        for name, loop in zip(SIZES, self._loops, strict=True):
            said = re.sub(rf"{Path(loop).name}\b", f"loop-{name}", said)
        said = re.sub(r"<([acm]time)>[0-9.]+", r"<\1>", said)
        return done.returncode, re.sub("^-+$", "---", re.sub(" +", " ", said), flags=re.M)

    def transcript(self) -> list[str]:
        """What each line says. Many go to one virsh: a process for each would take longer than all that they do."""
        told, batch = [], []
        for line in [*LINES, "!true"]:
            if not line.startswith("!"):
                batch.append(line)
                continue
            if batch:
                _, text = self.say(shlex.quote("; ".join(f"{each}; echo {_MARK.strip()}" for each in batch)))
                said = text.split(_MARK)
                assert len(said) == len(batch) + 1, text
                told += [f"$ {each}\n{words}" for each, words in zip(batch, said, strict=False)]
            batch = []
            if line == "!chap":
                self.add_chap()
            else:
                told.append(f"$ {line}\n{self.say(line)[1]}")
        return told

    def close(self) -> None:
        namespaces.end(self._target, signal.SIGKILL)
        self.daemon.close()
        self._detach()


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
    assert sum("error:" not in text for text in want) > len(LINES) / 2
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
    assert f"Capacity: {16 * MIB}\n" in text
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
