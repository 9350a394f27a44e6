"""What a guest's document limits holds for every way in which a guest or a disk comes to be: a start, a saved guest that
goes on, a disk that is plugged in, another medium in a drive. QEMU itself is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import namespaces
from support.guesthoused import Guesthoused

DOMAIN = """\
<domain type='qemu'>
  <name>held</name>
  <memory unit='MiB'>64</memory>
  <vcpu placement='static' current='2'>3</vcpu>
  <vcpus>
    <vcpu id='0' enabled='yes' hotpluggable='no'/>
    <vcpu id='1' enabled='yes' hotpluggable='yes'/>
    <vcpu id='2' enabled='no' hotpluggable='yes'/>
  </vcpus>
  <cputune><emulatorpin cpuset='0'/></cputune>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{image}'/><target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>1000000</total_bytes_sec><total_iops_sec>50</total_iops_sec></iotune>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='hdc' bus='ide'/><readonly/>
      <iotune><read_bytes_sec>2000000</read_bytes_sec></iotune>
    </disk>
    <memballoon model='virtio'><stats period='7'/></memballoon>
  </devices>
</domain>
"""
PLUGGED = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='{image}'/><target dev='vdb' bus='virtio'/>
  <iotune><write_iops_sec>70</write_iops_sec><group_name>slow</group_name></iotune>
</disk>
"""
PERIOD = '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/balloon0","property":"guest-stats-polling-interval"}}'


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("held")) / "root")
    yield guesthoused
    guesthoused.close()


def test_limits_hold_however_a_guest_or_a_disk_comes(daemon: Guesthoused) -> None:
    base: Path = daemon.root.parent
    images = [base / name for name in ("a.img", "b.img", "c.iso")]
    for image in images:
        image.write_bytes(bytes(1 << 20))
    (base / "held.xml").write_text(DOMAIN.format(image=images[0]))
    (base / "disk.xml").write_text(PLUGGED.format(image=images[1]))

    def ok(*args: str) -> str:
        done = daemon.ours(*args)
        assert done.returncode == 0, (args, done.stderr, daemon.output()[-2000:])
        return str(done.stdout)

    def limits(dev: str) -> dict[str, str]:
        found = dict(re.findall(r"^(\w+) *: (\S+)$", ok("blkdeviotune", "held", dev), re.M))
        return {name: value for name, value in found.items() if value != "0"}

    def all_hold() -> None:
        assert limits("vda").items() >= {"total_bytes_sec": "1000000", "total_iops_sec": "50"}.items()
        assert limits("hdc")["read_bytes_sec"] == "2000000"
        assert limits("vdb") == {"write_iops_sec": "70", "group_name": "slow"}
        assert ok("emulatorpin", "held").split()[-1] == "0"
        assert '"return":7' in ok("qemu-monitor-command", "held", PERIOD).replace(" ", "")
        assert ok("vcpucount", "held", "--live", "--current").strip() == "2"

    ok("define", str(base / "held.xml"))
    ok("start", "held", "--paused")
    ok("attach-device", "held", str(base / "disk.xml"), "--live")
    ok("change-media", "held", "hdc", str(images[2]), "--insert", "--live")
    all_hold()
    ok("save", "held", str(base / "held.save"))
    ok("restore", str(base / "held.save"), "--paused")
    all_hold()
