"""Limits of a device, in a namespace of their own: what tc and nft then say, and what gets through."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from guesthouse.errors import InternalError
from guesthouse.model.bandwidth import Bandwidth, Inbound, Outbound
from guesthouse.network import shaping
from support.netns import Host, in_netns, run

SLOW = Bandwidth(inbound=Inbound(average=200, peak=400, burst=64), outbound=Outbound(average=100, burst=300))


def queues(device: str) -> list[dict[str, Any]]:
    return list(json.loads(run("tc", "-j", "qdisc", "show", "dev", device)))


def rules() -> list[Any]:
    shown = json.loads(run("nft", "-j", "list", "table", "netdev", shaping.TABLE))["nftables"]
    return [item["rule"]["expr"][0]["limit"] for item in shown if "rule" in item]


def veth(name: str) -> None:
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")


@in_netns
def test_what_tc_and_nft_then_say() -> None:
    veth("lim0")
    shaping.limit("lim0", SLOW)
    assert queues("lim0")[0]["kind"] == "htb"
    shown = run("tc", "class", "show", "dev", "lim0")
    # in thousands of bytes a second, as libvirt has it
    assert "rate 1600Kbit ceil 3200Kbit burst 64Kb" in shown
    (rule,) = rules()
    # the kernel adds a second's worth to the bucket: 300 KiB in all
    assert (rule["rate"], rule["burst"], rule["inv"]) == (100_000, 300 * 1024 - 100_000, True)
    shaping.limit("lim0", Bandwidth(outbound=Outbound(average=50, peak=70)))
    assert queues("lim0") == []
    assert [rule["rate"] for rule in rules()] == [50_000, 70_000]
    shaping.limit("lim0", None)
    assert rules() == []
    with pytest.raises(InternalError, match=r"Child process \(tc -batch -\) unexpected exit status"):
        shaping.limit("nothere", SLOW)


@in_netns
def test_leftovers_are_swept_and_what_is_in_use_is_not() -> None:
    shaping.sweep()
    veth("gone0")
    veth("here0")
    for name in ("gone0", "here0"):
        shaping.limit(name, Bandwidth(outbound=Outbound(average=100)))
    run("ip", "link", "del", "gone0")
    shaping.sweep()
    shown = run("nft", "list", "table", "netdev", shaping.TABLE)
    assert "here0" in shown and "gone0" not in shown
    # a device of the same name that comes later is bound anew, and only if it is limited
    veth("gone0")
    shaping.limit("gone0", Bandwidth(outbound=Outbound(average=30)))
    assert sorted(rule["rate"] for rule in rules()) == [30_000, 100_000]


def rate(sender: Host, receiver: Host, address: str, seconds: float) -> float:
    """Bytes a second that arrive of a flood of UDP, in the middle of the time: bursts at its start do not count."""
    script = (
        "import socket,sys,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nend=time.time()+float(sys.argv[2])\n"
        "while time.time()<end:\n s.sendto(bytes(1000),(sys.argv[1],9999))\n time.sleep(0.0005)\n"
    )
    count = (
        "import socket,sys,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('',9999))\n"
        "s.settimeout(5)\ns.recv(2000)\nskip=time.time()+1.2\nn=0\nend=skip+float(sys.argv[1])-2\n"
        "while (now:=time.time())<end:\n d=s.recv(2000)\n n+=len(d) if now>skip else 0\nprint(n/(end-skip))\n"
    )
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(receiver.run("python3", "-c", count, str(seconds))))
    reader.start()
    time.sleep(0.3)
    sender.run("python3", "-c", script, address, str(seconds))
    reader.join()
    return float(found[0])


@in_netns
def test_what_gets_through() -> None:
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "up")
    with Host("guest", bridge="br0") as guest, Host("other", bridge="br0") as other:
        guest.run("ip", "address", "add", "10.9.8.2/24", "dev", "eth0")
        other.run("ip", "address", "add", "10.9.8.3/24", "dev", "eth0")
        shaping.limit("guest", Bandwidth(inbound=Inbound(average=200), outbound=Outbound(average=100)))
        assert guest.reaches("10.9.8.3")
        inbound = rate(other, guest, "10.9.8.2", 4)
        outbound = rate(guest, other, "10.9.8.3", 4)
        shaping.limit("guest", None)
        free = rate(guest, other, "10.9.8.3", 4)
    # frames have 42 bytes of head each
    assert 150_000 < inbound < 210_000, inbound
    assert 70_000 < outbound < 110_000, outbound
    assert free > 300_000, free
