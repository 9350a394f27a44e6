"""Interfaces out of a made-up sysfs: bonds and VLANs, which not every kernel can make."""

from __future__ import annotations

import pytest

from guesthouse.host.interfaces import Interfaces
from guesthouse.model.interface import Interface
from support.sysfs import FakeSysfs


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Interfaces:
    fake = FakeSysfs(tmp_path_factory.mktemp("sysfs"))

    def add(name: str, kind: str = "", state: str = "up", **attributes: str) -> None:
        plain = {
            "ifindex": "1\n",
            "address": f"52:54:00:00:00:0{len(name)}\n",
            "mtu": "1500\n",
            "operstate": f"{state}\n",
        }
        fake.device(f"/devices/virtual/net/{name}", "/class/net", uevent=f"DEVTYPE={kind}\n" if kind else "",
                    **{**plain, **attributes})  # fmt: skip

    add("e0", speed="1000\n")
    add("e1", state="down")
    mii = {
        "bonding__miimon": "100\n",
        "bonding__updelay": "10\n",
        "bonding__downdelay": "0\n",
        "bonding__use_carrier": "1\n",
    }
    add("bond0", "bond", bonding__mode="active-backup 1\n", bonding__slaves="e1 e0\n", speed="1000\n", **mii)
    arp = {"bonding__arp_interval": "200\n", "bonding__arp_ip_target": "10.0.0.1 10.0.0.2\n"}
    add("bond1", "bond", bonding__mode="802.3ad 4\n", bonding__arp_validate="active 1\n", state="down", **arp)
    add("bond0.42", "vlan", state="lowerlayerdown")
    fake.file("proc/net/vlan/bond0.42", "bond0.42  VID: 42\t REORDER_HDR: 1\nDevice: bond0\n")
    add("br0", "bridge", bridge__stp_state="0\n", bridge__forward_delay="200\n")
    for port in ("bond0.42", "bond1"):
        fake.link(f"/devices/virtual/net/br0/brif/{port}", f"/devices/virtual/net/{port}/brport")
        fake.file(f"sys/devices/virtual/net/{port}/brport/state", "3\n")
    add("tap0", tun_flags="0x1002\n")
    return Interfaces(fake.sysfs)


def test_which_are_listed(host: Interfaces) -> None:
    assert host.names() == ["bond0", "br0", "e0", "e1"]
    assert [host.exists(name) for name in ("tap0", "bond1", "", ".", "../net/e0", "x")] == [True, True] + [False] * 4
    assert (host.mac("e0"), host.mac("x"), host.state("e1")) == ("52:54:00:00:00:02", "", "down")


@pytest.mark.parametrize(
    "name, wanted",
    [
        (
            "bond0",
            """\
<interface type='bond' name='bond0'>
  <mtu size='1500'/>
  <protocol family='ipv6'>
    <ip address='fd00::1' prefix='64'/>
  </protocol>
  <link speed='1000' state='up'/>
  <bond mode='active-backup'>
    <miimon freq='100' updelay='10' carrier='netif'/>
    <interface type='ethernet' name='e1'>
      <link state='down'/>
      <mac address='52:54:00:00:00:02'/>
    </interface>
    <interface type='ethernet' name='e0'>
      <link speed='1000' state='up'/>
      <mac address='52:54:00:00:00:02'/>
    </interface>
  </bond>
</interface>
""",
        ),
        (
            "br0",
            """\
<interface type='bridge' name='br0'>
  <mtu size='1500'/>
  <protocol family='ipv6'>
    <ip address='fd00::1' prefix='64'/>
  </protocol>
  <bridge stp='off' delay='200'>
    <interface type='vlan' name='bond0.42'>
      <link state='lowerlayerdown'/>
      <vlan tag='42'>
        <interface name='bond0'/>
      </vlan>
    </interface>
    <interface type='bond' name='bond1'>
      <link state='down'/>
      <bond mode='802.3ad'>
        <arpmon interval='200' target='10.0.0.1' validate='active'/>
      </bond>
    </interface>
  </bridge>
</interface>
""",
        ),
    ],
)
def test_documents(host: Interfaces, name: str, wanted: str) -> None:
    document = host.document(name, {"ipv6": [("fd00::1", 64)]})
    assert document.to_xml() == wanted
    assert Interface.from_xml(wanted) == document
