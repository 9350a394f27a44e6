from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, SystemFailure
from guesthouse.model.devices.interface import Interface
from guesthouse.network import macvtap
from guesthouse.network.netlink import Netlink
from guesthouse.services.macvtaps import Macvtaps
from guesthouse.services.store import Store
from support.netns import Host, in_netns, run

MAC = "52:54:00:aa:bb:cc"
_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def own_sys() -> None:
    """Let this thread's /sys show its own network."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    assert libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None) == 0


def frame(source: str, destination: str, payload: bytes) -> bytes:
    return bytes.fromhex(destination.replace(":", "") + source.replace(":", "") + "88b5") + payload.ljust(64, b".")


@in_netns
def test_frames_go_through_a_device_of_the_hosts() -> None:
    own_sys()
    with Host("lower0") as far:
        far.run("ip", "address", "add", "10.9.0.2/24", "dev", "eth0")
        first = macvtap.create("macvtap0", "lower0", MAC, "bridge", vnet_hdr=False)
        second = macvtap.create("macvtap1", "lower0", "52:54:00:aa:bb:dd", "bridge", vnet_hdr=False)
        assert macvtap.free_name() == "macvtap2"
        details = run("ip", "-d", "link", "show", "macvtap0")
        assert "macvtap mode bridge" in details and MAC in details and ",UP" in details
        os.set_blocking(second.fds[0], False)
        os.write(first.fds[0], frame(MAC, "52:54:00:aa:bb:dd", b"to my neighbour"))
        seen = b""
        while b"to my neighbour" not in seen:
            seen = os.read(second.fds[0], 2048)
        request = bytes.fromhex("0001080006040001" + MAC.replace(":", "") + "0a090001" + "000000000000" + "0a090002")
        os.write(first.fds[0], bytes.fromhex("ff" * 6 + MAC.replace(":", "") + "0806") + request)
        answer = b""
        while answer[12:14] != b"\x08\x06" or answer[20:22] != b"\0\2":
            answer = os.read(first.fds[0], 2048)
        assert answer[28:32] == bytes([10, 9, 0, 2])
        for made in (first, second):
            made.close()
            macvtap.delete(made.name, MAC)
        with Netlink() as netlink:
            assert netlink.link("macvtap0") is None
            # another's, by its address
            assert netlink.link("macvtap1") is not None


@in_netns
def test_queues_modes_and_refusals() -> None:
    own_sys()
    run("ip", "link", "add", "lower0", "type", "veth", "peer", "name", "far0")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SystemFailure, match="Unable to get index for interface none0: No such device"):
        macvtap.create("macvtap0", "none0", MAC, "vepa")
    made = macvtap.create("tap-x", "lower0", MAC, "private", queues=3)
    assert len(made.fds) == 3 and not os.get_inheritable(made.fds[0])
    assert "mode private" in run("ip", "-d", "link", "show", "tap-x")
    with pytest.raises(SystemFailure) as raised:
        macvtap.create("tap-x", "lower0", MAC, "private")
    assert raised.value.int1 == errno.EEXIST
    assert str(raised.value).startswith(f"error creating macvtap interface tap-x@lower0 ({MAC}): File exists")
    with pytest.raises(SystemFailure, match="error creating macvtap interface pass0@lower0"):
        macvtap.create("pass0", "lower0", MAC, "passthrough")
    again = macvtap.open_queues("tap-x", 1, vnet_hdr=False)
    again.close()
    made.close()
    # no node of its own in /dev: by the number
    with Netlink() as netlink:
        link = netlink.link("tap-x")
    assert link is not None
    number = macvtap._number(link)
    assert number is not None
    os.close(macvtap._open_number("/dev/tap0", number))
    assert not list(Path("/dev").glob(".guesthouse-*"))
    macvtap.delete("tap-x", MAC)
    macvtap.delete("tap-x", MAC)
    macvtap.delete("lower0", MAC)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@in_netns
def test_a_card_that_is_passed_through_gets_its_address_back(tmp_path: Path) -> None:
    own_sys()
    run("ip", "link", "add", "lower0", "type", "veth", "peer", "name", "far0")
    own = macvtap.current_mac("lower0")
    for folder in ("state", "run"):
        (tmp_path / folder).mkdir()
    store = Store(tmp_path / "state", tmp_path / "run")
    taps = Macvtaps(store)
    xml = f"<interface type='direct'><mac address='{MAC}'/><source dev='lower0' mode='passthrough'/></interface>"
    iface = Interface.from_xml(xml)
    made = asyncio.run(taps.plug(iface, "lower0", "passthrough"))
    assert made.name == "macvtap0" and macvtap.current_mac("lower0") == MAC
    assert store.all_runtime("macvtap") == {"macvtap0": {"device": "lower0", "mac": MAC, "former": own}}
    with pytest.raises(SystemFailure):
        asyncio.run(taps.plug(iface, "lower0", "passthrough"))
    named = Interface.from_xml(xml.replace("<source", "<target dev='tap-x'/><source"))
    store.put_runtime("macvtap", "tap-x", {"device": "lower0", "mac": "52:54:00:00:00:01", "former": None})
    with pytest.raises(SystemFailure, match=r"tap-x@lower0 .*: File exists"):
        asyncio.run(taps.plug(named, "lower0", "bridge"))
    assert store.get_runtime("macvtap", "tap-x") is not None
    store.delete_runtime("macvtap", "tap-x")
    made.close()
    # a successor takes away what nobody has
    asyncio.run(Macvtaps(store).sweep(["macvtap0"]))
    assert macvtap.current_mac("macvtap0") == MAC
    asyncio.run(Macvtaps(store).sweep([]))
    assert macvtap.current_mac("lower0") == own and store.all_runtime("macvtap") == {}
    for text, mode in (("vlan tag not supported for this connection type", "bridge"), ("is not a VF", "passthrough")):
        tagged = Interface.from_xml(xml.replace("<source", "<vlan><tag id='4'/></vlan><source"))
        with pytest.raises(ConfigUnsupported, match=text):
            asyncio.run(taps.plug(tagged, "lower0", mode))
    assert macvtap.current_mac("lower0") == own and store.all_runtime("macvtap") == {}
    store.close()
