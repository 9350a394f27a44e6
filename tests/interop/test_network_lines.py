"""Networks changed in place, their ports and limits: one transcript of any client with either daemon."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from support import lines
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

SCRIPT = Path(__file__).with_name("network_calls.py")
_PLACE = re.compile(r" \(at [^)\n]*\)'")


def calls(daemon: Libvirtd | Guesthoused) -> str:
    argv = daemon.ns.command(["/usr/bin/python3", str(SCRIPT), daemon.uri])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return _PLACE.sub("'", done.stdout)


def test_updates_and_ports_over_the_library(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> None:
    assert calls(guesthoused).splitlines() == calls(c_libvirtd).splitlines()


LAN = """<network><name>lan</name><uuid>11111113-2222-4333-8444-555555555555</uuid><bridge name='lanbr' stp='off'/>
<mac address='52:54:00:0a:0b:0d'/><ip address='10.9.2.1' netmask='255.255.255.0'><dhcp>
<range start='10.9.2.10' end='10.9.2.20'/></dhcp></ip></network>"""
UUID = "7ae53100-022b-49e0-9ca0-6e5d6ec2d3e4"
GUEST = """<domain type='qemu'><name>plugged</name><memory>65536</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{}</devices></domain>"""
FILES: dict[str, str | bytes] = {
    "lan.xml": LAN,
    "host.xml": "<host mac='52:54:00:00:00:07' ip='10.9.2.7'/>",
    "tuned.xml": GUEST.replace("plugged", "tuned").format(
        "<interface type='user'><mac address='52:54:00:7b:35:01'/></interface>"
        "<interface type='network'><mac address='52:54:00:7b:35:02'/><source network='lan'/></interface>"
    ),
    "port.xml": f"<networkport><uuid>{UUID}</uuid><owner><name>d</name><uuid>{UUID}</uuid></owner>"
    "<mac address='52:54:00:00:00:09'/></networkport>",
}
LINES = [
    "net-define {work}/lan.xml",
    "net-port-list lan",
    "net-port-create lan {work}/port.xml",
    "net-update lan add ip-dhcp-host {work}/host.xml --live",
    "net-update lan add ip-dhcp-host {work}/host.xml --config",
    "net-update lan add ip-dhcp-host {work}/host.xml",
    "net-start lan",
    "net-update lan add ip-dhcp-host {work}/host.xml --current",
    "net-update lan add-last ip-dhcp-host {work}/host.xml --live --config",
    "net-update lan delete ip-dhcp-host \"<host ip='10.9.2.7'/>\" --live --config",
    "net-update lan add bridge <bridge/>",
    "net-update lan add bogus <bridge/>",
    "net-update lan bogus bridge <bridge/>",
    "net-dumpxml lan",
    "net-dumpxml lan --inactive",
    "net-port-list lan",
    "net-port-create lan {work}/port.xml",
    "net-port-create lan {work}/port.xml --validate",
    "net-port-create lan {work}/missing.xml",
    "net-port-create lan {work}/host.xml",
    "net-port-list lan",
    "net-port-list lan --uuid",
    "net-port-list lan --uuid --table",
    f"net-port-dumpxml lan {UUID}",
    f"net-port-dumpxml lan {UUID} --xpath //mac",
    "net-port-dumpxml lan what",
    "net-port-dumpxml lan f25c9a26-5b5a-4b52-bb4e-0d3a6fa0a4c2",
    "net-port-dumpxml nope what",
    "net-dumpxml lan --xpath /network/@connections",
    f"net-port-delete lan {UUID}",
    f"net-port-delete lan {UUID}",
    "net-port-list nope",
    "net-list --all --name",
    "net-list --persistent --name",
    "net-list --transient --name",
    "net-undefine lan",
    "net-list --transient --name",
    "net-autostart lan",
    "net-update lan add ip-dhcp-host {work}/host.xml --config",
    "net-destroy lan",
    "net-info lan",
    "define {work}/tuned.xml",
    *(
        f"domiftune tuned {words}"
        for words in (
            "52:54:00:7b:35:01",
            "52:54:00:7b:35:02",
            "nope --inbound 4",
            "52:54:00:7b:35:01 --inbound 10",
            "52:54:00:7b:35:02 --inbound 10,20,30,40",
            "52:54:00:7b:35:02 --inbound 10,,30 --outbound 1,2,3 --config",
            "52:54:00:7b:35:02",
            "52:54:00:7b:35:02 --inbound x",
            "52:54:00:7b:35:02 --inbound 1,2,3,4,5",
            "52:54:00:7b:35:02 --inbound ,5",
            "52:54:00:7b:35:02 --outbound 1,2,3,4",
            "52:54:00:7b:35:02 --outbound ,5",
            "52:54:00:7b:35:02 --outbound 5,x",
            "52:54:00:7b:35:02 --inbound 0",
            "52:54:00:7b:35:02 --current",
            "52:54:00:7b:35:02 --live",
            "52:54:00:7b:35:02 --live --outbound 4",
            "52:54:00:7b:35:02 --live --current",
        )
    ),
    "dumpxml tuned --xpath //bandwidth",
    "undefine tuned",
]


def test_virsh_lines(c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory) -> None:
    work = tmp_path_factory.mktemp("networks")
    lines.write(work, FILES)
    asked = [line for line in LINES if not line.startswith("net-list") or "transient" in line]
    want = answers(c_libvirtd, "c", work, asked)
    for daemon, program in ((c_libvirtd, "ours"), (guesthoused, "c"), (guesthoused, "ours")):
        lines.compare(asked, want, answers(daemon, program, work, asked))


def answers(daemon: Libvirtd | Guesthoused, program: str, work: Path, asked: list[str]) -> list[lines.Answer]:
    """C virsh exits with 0 where it finds no such port, which ours does not: there only the first words count."""
    said = lines.run(daemon, program, work, asked)
    lost = [
        line.startswith(("net-port-dumpxml", "net-port-delete")) and bool(answer.err)
        for line, answer in zip(asked, said, strict=True)
    ]
    return [
        lines.Answer(0, answer.out, answer.err.splitlines()[0]) if is_lost else answer
        for answer, is_lost in zip(said, lost, strict=True)
    ]


def test_a_guest_is_a_port_and_gets_what_its_group_says(guesthoused: Guesthoused, tmp_path: Path) -> None:
    """C libvirtd cannot do this on a kernel without tc's police action."""
    group = "<portgroup name='slow'><bandwidth><inbound average='100'/><outbound average='50'/></bandwidth></portgroup>"
    lan = LAN.replace("<ip ", "<bandwidth><inbound average='900'/></bandwidth><ip ", 1).replace("</network>", group)
    source = "<interface type='network'>{}<source network='lan' portgroup='slow'/></interface>"
    files: dict[str, str | bytes] = {
        "lan.xml": lan + "</network>",
        "guest.xml": GUEST.format(source.format("<mac address='52:54:00:00:00:0a'/>")),
        "second.xml": GUEST.replace("plugged", "second").format(source.format("")),
        "taggd.xml": GUEST.format(source.format("<vlan><tag id='4'/></vlan>")),
        "floor.xml": GUEST.format(source.format("<bandwidth><inbound floor='4'/></bandwidth>")),
        "odd.xml": GUEST.format(source.format("<guest dev='eth7'/>")),
        "zone.xml": lan.replace("stp='off'", "zone='public'") + "</network>",
        "new.xml": lan.replace("<ip ", "<tea/><ip ", 1) + "</network>",
    }
    lines.write(tmp_path, files)

    def say(*words: str, fails: bool = False) -> str:
        done = guesthoused.run(*words)
        assert (done.returncode != 0) == fails, done
        return (done.stderr if fails else done.stdout).strip()

    for name, refusal in {
        "zone": "zone public requested for network lan but firewalld is not active",
        "new": "<tea> of network 'lan' is not supported",
    }.items():
        said = say("net-create", f"{tmp_path}/{name}.xml", fails=True)
        assert said.endswith(f"unsupported configuration: {refusal}"), said
    say("net-create", f"{tmp_path}/lan.xml")
    try:
        for name, refusal in {
            "taggd": "vlan tag not supported for this connection type",
            "floor": "'floor' in <bandwidth> of interface",
            "odd": "<guest> of ",
        }.items():
            assert refusal in say("create", f"{tmp_path}/{name}.xml", fails=True)
        assert say("net-port-list", "lan", "--uuid") == ""
        say("create", f"{tmp_path}/guest.xml")
        (uuid,) = say("net-port-list", "lan", "--uuid").split()
        live = say("dumpxml", "plugged")
        assert f"portgroup='slow' portid='{uuid}' bridge='lanbr'" in live and "<outbound average='50'/>" in live
        port = say("net-port-dumpxml", "lan", uuid)
        for part in ("<name>plugged</name>", "<group>slow</group>", "<plug type='network' bridge='lanbr'/>"):
            assert part in port
        # the first line of a table's rows: Interface, Type, Source, Model, MAC
        tap = say("domiflist", "plugged").splitlines()[2].split()[0]

        def limits(device: str) -> tuple[str, list[int]]:
            shown = guesthoused.ns.run("tc", "class", "show", "dev", device, check=False).stdout
            table = json.loads(guesthoused.ns.run("nft", "-j", "list", "table", "netdev", "guesthouse").stdout)
            rules = [item["rule"] for item in table["nftables"] if "rule" in item]
            rates = [rule["expr"][0]["limit"]["rate"] for rule in rules if rule["chain"] == f"ingress_{device}"]
            return shown, rates

        assert "rate 800Kbit" in limits(tap)[0] and limits(tap)[1] == [50_000]
        assert "rate 7200Kbit" in limits("lanbr")[0] and limits("lanbr")[1] == []
        say("domiftune", "plugged", tap, "--inbound", "60,70", "--outbound", "30")
        assert "rate 480Kbit ceil 560Kbit" in limits(tap)[0] and limits(tap)[1] == [30_000]
        assert "<outbound average='30'/>" in say("net-port-dumpxml", "lan", uuid)
        say("domiftune", "plugged", tap, "--inbound", "0")
        assert limits(tap) == ("", [30_000])
        assert "'floor' in <bandwidth>" in say("domiftune", "plugged", tap, "--inbound", "5,0,0,4", fails=True)
        assert limits(tap) == ("", [30_000])
        guesthoused.kill()
        guesthoused.start()
        assert say("net-port-list", "lan", "--uuid") == uuid and limits(tap)[1] == [30_000]
        assert "<outbound average='30'/>" in say("dumpxml", "plugged")
        # a limit that a daemon left which was killed before its guest had a row of its own
        guesthoused.ns.run("ip", "link", "add", "vnet9", "type", "bridge")
        chain = "{ type filter hook ingress device vnet9 priority 0; }"
        guesthoused.ns.run("nft", f"add chain netdev guesthouse ingress_vnet9 {chain}")
        guesthoused.ns.run("ip", "link", "del", "vnet9")
        say("create", f"{tmp_path}/second.xml")
        assert "ingress_vnet9" not in guesthoused.ns.run("nft", "list", "table", "netdev", "guesthouse").stdout
        assert len(say("net-port-list", "lan", "--uuid").split()) == 2
        say("destroy", "second")
        say("destroy", "plugged")
        assert say("net-port-list", "lan", "--uuid") == "" and limits(tap)[1] == []
    finally:
        for name in ("plugged", "second"):
            guesthoused.run("destroy", name)
        guesthoused.run("net-destroy", "lan")
