"""What the host's own configuration systems are given for a bridge: as text, and as the systems themselves read it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import OperationFailed
from guesthouse.network.hostbridge.systems import Wish, Written, ruling
from guesthouse.network.netlink import Link

ETH0 = Link(index=2, name="eth0", mac="52:54:00:00:00:05", mtu=1500, up=True, master=0, kind="")
KEEP = Wish()
OTHER = Wish(False, False, ("192.0.2.9/24", "2001:db8::9/64"), ("192.0.2.1", "2001:db8::1"), ("192.0.2.53",))


def written(root: Path, name: str, wish: Wish = KEEP, *, stp: bool = False) -> Written:
    system = ruling(root, ETH0)
    assert system.name == name
    return system.write(root, "br0", ETH0, wish, stp)


def put(root: Path, path: str, text: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root / path


def only(found: Written) -> str:
    (text,) = found.files.values()
    assert text is not None
    return text


# -- ifupdown

INTERFACES = """\
source-directory interfaces.d
auto lo eth0
iface lo inet loopback

iface eth0 inet dhcp
    hostname web # sent along
"""


def test_ifupdown_keeps_what_the_port_had(tmp_path: Path) -> None:
    put(tmp_path, "etc/network/interfaces", INTERFACES)
    text = only(written(tmp_path, "ifupdown"))
    assert text.startswith("source-directory interfaces.d\nauto br0\nauto lo\niface lo inet loopback\n\n")
    assert "iface eth0 inet manual\n\niface br0 inet dhcp\n    pre-up " in text
    assert text.endswith("    hostname web # sent along\n")


def test_ifupdown_with_bridge_utils(tmp_path: Path) -> None:
    (tmp_path / "lib/bridge-utils").mkdir(parents=True)
    file = put(tmp_path, "etc/network/interfaces.d/eth0", "allow-hotplug eth0\niface eth0 inet dhcp\n")
    put(tmp_path, "etc/network/interfaces", "source /etc/network/interfaces.d/*\n")
    found = written(tmp_path, "ifupdown", stp=True)
    assert list(found.files) == [file]
    assert "    bridge_ports eth0\n    bridge_stp on\n    bridge_hw 52:54:00:00:00:05\n" in only(found)


def test_ifupdown_reads_other_addresses(tmp_path: Path) -> None:
    put(tmp_path, "etc/network/interfaces", INTERFACES)
    text = only(written(tmp_path, "ifupdown", OTHER))
    assert "dhcp" not in text and "hostname" not in text
    file = put(tmp_path, "written", text.replace("source-directory interfaces.d\n", ""))
    read = subprocess.run(["ifquery", "-i", str(file), "br0"], capture_output=True, text=True, check=True).stdout
    assert "address: 192.0.2.9\n" in read and "address: 2001:db8::9\n" in read and "netmask: 64\n" in read
    assert read.count("gateway: ") == 2 and "dns-nameservers: 192.0.2.53\n" in read


def test_a_dhcp_client_goes_along(tmp_path: Path) -> None:
    put(tmp_path, "etc/network/interfaces", INTERFACES)
    put(tmp_path, "run/dhclient.eth0.pid", "17\n")
    assert [words[0:2] for words in written(tmp_path, "ifupdown").commands] == [["dhclient", "-x"], ["dhclient", "-nw"]]


# -- systemd-networkd


def test_networkd(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/netif").mkdir(parents=True)
    put(tmp_path, "etc/systemd/network/90-any.network", "[Match]\nName=*\n\n[Network]\nDHCP=no\n")
    own = "[Match]\nName=en* eth*\n\n[Link]\nMTUBytes=9000\n\n[Network]\n# by DHCP\nDHCP=ipv4\n\n[DHCPv4]\nUseDNS=no\n"
    put(tmp_path, "etc/systemd/network/20-wired.network", own)
    found = {path.name: text for path, text in written(tmp_path, "systemd-networkd").files.items()}
    assert found["05-guesthouse-br0.netdev"] == (
        "[NetDev]\nName=br0\nKind=bridge\nMACAddress=52:54:00:00:00:05\n\n[Bridge]\nSTP=no\nForwardDelaySec=0\n"
    )
    assert found["05-guesthouse-br0.network"] == ("[Match]\nName=br0\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nUseDNS=no\n")
    assert "Bridge=br0" in (found["05-guesthouse-br0-eth0.network"] or "")
    other = {path.name: text for path, text in written(tmp_path, "systemd-networkd", OTHER).files.items()}
    assert other["05-guesthouse-br0.network"] == (
        "[Match]\nName=br0\n\n[Network]\n\n[Network]\nAddress=192.0.2.9/24\nAddress=2001:db8::9/64\n"
        "Gateway=192.0.2.1\nGateway=2001:db8::1\nDNS=192.0.2.53\n"
    )


# -- netplan

NETPLAN = """\
# made by hand
network:
  version: 2
  ethernets:
    eth0:
      match: {macaddress: "52:54:00:00:00:05"}
      addresses: [192.0.2.5/24]  # the host
      routes:
      - {to: default, via: 192.0.2.1}
"""


def generated(root: Path) -> dict[str, str]:
    """What netplan itself makes of the files below ``root``."""
    done = subprocess.run(["netplan", "generate", "--root-dir", root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_text() for file in (root / "run/systemd/network").iterdir()}


def test_netplan(tmp_path: Path) -> None:
    put(tmp_path, "etc/netplan/10-static.yaml", NETPLAN)
    put(tmp_path, "etc/netplan/50-cloud-init.yaml", "network: {ethernets: {eth0: {mtu: 1400, dhcp4: true}}}\n")
    for file, text in written(tmp_path, "netplan").files.items():
        put(tmp_path, str(file.relative_to(tmp_path)), text or "")
    # the last file that has the port is changed, and cloud-init kept from writing it anew
    assert (tmp_path / "etc/cloud/cloud.cfg.d/99-guesthouse-network.cfg").is_file()
    (tmp_path / "etc/netplan/50-cloud-init.yaml").unlink()
    found = written(tmp_path, "netplan")
    text = only(found)
    assert text.startswith("# made by hand\n") and "# the host" in text
    put(tmp_path, "etc/netplan/10-static.yaml", text)
    made = generated(tmp_path)
    assert "Address=192.0.2.5/24" in made["10-netplan-br0.network"] and "192.0.2.1" in made["10-netplan-br0.network"]
    assert "Bridge=br0" in made["10-netplan-eth0.network"] and "192.0.2.5" not in made["10-netplan-eth0.network"]
    assert "MACAddress=52:54:00:00:00:05" in made["10-netplan-br0.netdev"]


def test_netplan_with_other_addresses(tmp_path: Path) -> None:
    file = put(tmp_path, "etc/netplan/10-static.yaml", NETPLAN)
    file.write_text(only(written(tmp_path, "netplan", OTHER)))
    made = generated(tmp_path)["10-netplan-br0.network"]
    assert "192.0.2.5/" not in made and "Address=192.0.2.9/24" in made and "DNS=192.0.2.53" in made


def test_netplan_that_is_no_yaml(tmp_path: Path) -> None:
    put(tmp_path, "etc/netplan/10-static.yaml", "network: [")
    with pytest.raises(OperationFailed, match="is no YAML"):
        ruling(tmp_path, ETH0)


# -- NetworkManager


def test_networkmanager(tmp_path: Path) -> None:
    uuid = "5b1ea1f4-1d26-4a0f-9d2b-52f2b6e6a8a1"
    put(tmp_path, "run/NetworkManager/devices/2", f"[device]\nmanaged=true\nconnection-uuid={uuid}\n")
    keyfile = f"[connection]\nid=Wired\nuuid={uuid}\ntype=ethernet\n\n[ipv4]\naddress1=192.0.2.5/24,192.0.2.1\nmethod=manual\n"
    put(tmp_path, "etc/NetworkManager/system-connections/Wired.nmconnection", keyfile)
    found = {path.name: text or "" for path, text in written(tmp_path, "NetworkManager").files.items()}
    assert "autoconnect=false" in found["Wired.nmconnection"] and uuid in found["Wired.nmconnection"]
    bridge = found["br0.nmconnection"]
    assert "type=bridge\ninterface-name=br0\n" in bridge and "mac-address=52:54:00:00:00:05\n" in bridge
    assert "[ipv4]\naddress1=192.0.2.5/24,192.0.2.1\nmethod=manual\n" in bridge
    assert "master=br0\nslave-type=bridge\n" in found["br0-eth0.nmconnection"]
    other = {path.name: text or "" for path, text in written(tmp_path, "NetworkManager", OTHER).files.items()}
    assert (
        "[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\ngateway=192.0.2.1\ndns=192.0.2.53;\n"
        in other["br0.nmconnection"]
    )


def test_nobody_configures_it(tmp_path: Path) -> None:
    with pytest.raises(OperationFailed, match="--temporary"):
        ruling(tmp_path, ETH0)
