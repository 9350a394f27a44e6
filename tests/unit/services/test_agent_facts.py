"""What a guest agent answers, in libvirt's words; which of the definition's disks it means."""

from __future__ import annotations

from typing import Any

from guesthouse.model.domain import Domain
from guesthouse.services import agent_facts
from guesthouse.services.domain_stats import Params

DOMAIN = Domain.from_xml("""
<domain type='qemu'><name>g</name><devices>
  <disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/>
    <address type='pci' domain='0' bus='0' slot='6' function='0'/></disk>
  <disk type='file' device='disk'><source file='/b'/><target dev='sda' bus='sata'/>
    <address type='drive' controller='0' bus='0' target='0' unit='1'/></disk>
  <controller type='sata' index='0'><address type='pci' domain='0' bus='0' slot='5' function='0'/></controller>
  <interface type='user'><mac address='52:54:00:00:00:01'/></interface>
</devices></domain>""")


def place(slot: int, unit: int = 0) -> dict[str, Any]:
    return {
        "bus": 0,
        "target": 0,
        "unit": unit,
        "pci-controller": {"domain": 0, "bus": 0, "slot": slot, "function": 0},
    }


def group(number: int, answer: Any) -> Params:
    out: Params = {}
    agent_facts.GROUPS[number][1](out, answer, DOMAIN)
    return out


def test_disks_are_found_by_their_address() -> None:
    assert agent_facts.target_of(DOMAIN, place(6)) == "vda"
    assert agent_facts.target_of(DOMAIN, place(5, 1)) == "sda"
    assert agent_facts.target_of(DOMAIN, place(5, 2)) is None
    assert agent_facts.target_of(DOMAIN, place(7)) is None


def test_file_systems() -> None:
    answer = [
        {
            "name": "vda1",
            "mountpoint": "/",
            "type": "ext4",
            "total-bytes": 9,
            "disk": [{**place(6), "dev": "/dev/vda1"}],
        },
        {"name": "tmpfs", "mountpoint": "/tmp", "type": "tmpfs", "disk": []},
    ]
    assert agent_facts.filesystems(DOMAIN, answer) == [("/", "vda1", "ext4", ["vda"]), ("/tmp", "tmpfs", "tmpfs", [])]
    told = group(4, answer)
    assert told["fs.count"] == ("uint", 2)
    assert told["fs.0.disk.0.alias"] == ("string", "vda") and told["fs.0.disk.0.device"] == ("string", "/dev/vda1")
    assert told["fs.0.total-bytes"] == ("ullong", 9) and "fs.1.total-bytes" not in told


def test_users_and_clock() -> None:
    told = group(0, [{"user": "root", "login-time": 1.5}])
    assert told == {
        "user.count": ("uint", 1),
        "user.0.name": ("string", "root"),
        "user.0.login-time": ("ullong", 1500),
    }
    assert group(2, {"offset": -3600}) == {"timezone.offset": ("int", -3600)}


def test_interfaces_with_their_aliases() -> None:
    address = {"ip-address-type": "ipv4", "ip-address": "192.0.2.1", "prefix": 24}
    answer = [
        {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": [address]},
        {"name": "eth0:1", "ip-addresses": [{**address, "ip-address": "192.0.2.2"}]},
        {"name": "lo"},
    ]
    found = agent_facts.interfaces(answer)
    assert [(item["name"], len(item["addrs"])) for item in found] == [("eth0", 2), ("lo", 0)]
    assert group(6, answer)["if.0.addr.1.addr"] == ("string", "192.0.2.2")


def test_neighbours() -> None:
    table = (
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "192.0.2.9        0x1         0x2         52:54:00:00:00:01     *        br0\n"
        "192.0.2.8        0x1         0x0         52:54:00:00:00:01     *        br0\n"
    )
    assert [item["addrs"] for item in agent_facts.neighbours(DOMAIN, table)] == [[(0, "192.0.2.9", 0)]]
