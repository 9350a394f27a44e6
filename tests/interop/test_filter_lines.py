"""Network filters over virsh: C libvirtd and guesthoused say the same, and a guest's card has its filter's rules."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

from support import lines, namespaces
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
STANDARD = [
    "allow-arp",
    "allow-dhcp",
    "allow-dhcp-server",
    "allow-dhcpv6",
    "allow-dhcpv6-server",
    "allow-incoming-ipv4",
    "allow-incoming-ipv6",
    "allow-ipv4",
    "allow-ipv6",
    "clean-traffic",
    "clean-traffic-gateway",
    "no-arp-ip-spoofing",
    "no-arp-mac-spoofing",
    "no-arp-spoofing",
    "no-ip-multicast",
    "no-ip-spoofing",
    "no-ipv6-multicast",
    "no-ipv6-spoofing",
    "no-mac-broadcast",
    "no-mac-spoofing",
    "no-other-l2-traffic",
    "no-other-rarp-traffic",
    "qemu-announce-self",
    "qemu-announce-self-rarp",
]
_BINDING = """<filterbinding><owner><name>vm</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>
<portdev name='{}'/><mac address='52:54:00:7b:35:93'/><filterref filter='{}'>{}</filterref></filterbinding>"""
_OTHER = "a5e8a9a9-2f0b-4d2e-8a3e-5bd6cc0f3e5a"
FILES: dict[str, str | bytes] = {
    "web.xml": f"<filter name='web'><uuid>{_OTHER}</uuid><filterref filter='allow-arp'/>"
    "<rule action='accept' direction='in'><tcp srcipaddr='$A[@1]' dstportstart='80' state='NEW'/></rule></filter>",
    "web2.xml": f"<filter name='web' chain='ipv4-w'><uuid>{_OTHER}</uuid></filter>",
    "taken.xml": f"<filter name='other'><uuid>{_OTHER}</uuid></filter>",
    "twice.xml": "<filter name='web'/>",
    "loop.xml": f"<filter name='web'><uuid>{_OTHER}</uuid><filterref filter='user'/></filter>",
    "user.xml": "<filter name='user'><filterref filter='web'><parameter name='B' value='2'/></filterref></filter>",
    "bad.xml": "<filter name='bad'><rule action='drop' direction='in'><tcp dscp='64'/></rule></filter>",
    "none.xml": _BINDING.format("lo", "clean-traffic", "<parameter name='CTRL_IP_LEARNING' value='none'/>"),
    "how.xml": _BINDING.format("lo", "clean-traffic", "<parameter name='CTRL_IP_LEARNING' value='guess'/>"),
    "gateway.xml": _BINDING.format("lo", "clean-traffic-gateway", ""),
    "missing.xml": _BINDING.format("lo", "nobody", ""),
    "gone.xml": _BINDING.format("gone0", "clean-traffic", "<parameter name='X' value='1'/>"),
    "half.xml": "<filterbinding><portdev name='a'/></filterbinding>",
}
# of several commands in one line each is run, whatever became of the one before
LINES = [
    "nwfilter-list",
    " ; ".join(f"nwfilter-dumpxml {name}" for name in [*STANDARD, "nobody", _OTHER]),
    " ; ".join(
        f"nwfilter-define {{work}}/{name}.xml" for name in ("web", "taken", "twice", "user", "loop", "bad", "lost")
    ),
    f"nwfilter-define {{work}}/web.xml --validate; nwfilter-dumpxml {_OTHER}; nwfilter-dumpxml user",
    "nwfilter-dumpxml user --xpath //parameter",
    "nwfilter-define {work}/web2.xml; nwfilter-dumpxml web",
    "nwfilter-undefine web; nwfilter-undefine web; nwfilter-undefine user",
    "nwfilter-binding-list; nwfilter-binding-dumpxml gone0",
    *(f"nwfilter-binding-create {{work}}/{name}.xml" for name in ("none", "how", "gateway", "missing", "half")),
    "nwfilter-binding-create {work}/gone.xml; nwfilter-binding-create {work}/gone.xml; nwfilter-binding-list",
    "nwfilter-binding-delete gone0; nwfilter-binding-delete gone0",
]


def _even(text: str) -> str:
    """Each host makes up UUIDs of its own."""
    return _UUID.sub(lambda match: match[0] if match[0] == _OTHER else "UUID", text)


def test_virsh_lines(c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path: Path) -> None:
    work = tmp_path / "work"
    lines.write(work, FILES)
    said = lines.run_all(c_libvirtd, guesthoused, work, [shlex.quote(line) for line in LINES], _even)
    want = said.pop(next(iter(said)))
    assert want[1].out.count("<filter name=") == len(STANDARD)
    for have in said.values():
        lines.compare(LINES, want, have)


GUEST = """<domain type='qemu'><name>filtered</name><memory>65536</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><interface type='bridge'><mac address='52:54:00:00:00:0a'/>
<source bridge='fbr0'/><filterref filter='{}'>{}</filterref></interface></devices></domain>"""
IP = "<parameter name='IP' value='10.0.0.5'/>"


def test_a_guests_card_has_its_filter(guesthoused: Guesthoused, tmp_path: Path) -> None:
    lines.write(
        tmp_path,
        {
            "guest.xml": GUEST.format("mine", IP),
            "bad.xml": GUEST.format("nobody", ""),
            "user.xml": GUEST.format("mine", IP)
            .replace("type='bridge'", "type='user'")
            .replace("<source bridge='fbr0'/>", ""),
            "mine.xml": "<filter name='mine'><filterref filter='no-ip-spoofing'/></filter>",
        },
    )

    def say(*words: str, fails: bool = False) -> str:
        done = guesthoused.run(*words)
        assert (done.returncode != 0) == fails, done
        return (done.stderr if fails else done.stdout).strip()

    def rules() -> str:
        return guesthoused.ns.run("nft", "list", "table", "bridge", "guesthouse", check=False).stdout

    guesthoused.ns.run("ip", "link", "add", "fbr0", "type", "bridge")
    say("nwfilter-define", f"{tmp_path}/mine.xml")
    try:
        before = rules()
        assert "referenced filter 'nobody' is missing" in say("create", f"{tmp_path}/bad.xml", fails=True)
        say("create", f"{tmp_path}/user.xml")
        assert "filterref" not in say("dumpxml", "filtered"), "libvirt, too, drops it where there is no tap"
        say("destroy", "filtered")
        assert "vnet" not in rules() and not guesthoused.runtime_rows("nwfilter-binding")
        say("create", f"{tmp_path}/guest.xml")
        (tap,) = (line.split()[0] for line in say("nwfilter-binding-list").splitlines()[2:])
        shown = say("nwfilter-binding-dumpxml", tap)
        assert "<name>filtered</name>" in shown and IP in shown and "52:54:00:00:00:0a" in shown
        assert f'"{tap}" : jump' in rules() and "ip saddr 10.0.0.5 return" in rules()
        assert IP in say("dumpxml", "filtered")
        # another address for a card that is plugged in; what cannot be leaves it as it is
        for name, address, fails in (
            ("mine", "10.0.0.6", False),
            ("nobody", "10.0.0.7", True),
            ("mine", "10.0.0.5", False),
        ):
            card = GUEST.partition("<devices>")[2].partition("</devices>")[0]
            card = card.format(name, IP.replace("10.0.0.5", address))
            lines.write(tmp_path, {"card.xml": card})
            said = say("update-device", "filtered", f"{tmp_path}/card.xml", "--live", fails=fails)
            assert not fails or "referenced filter 'nobody' is missing" in said
            kept = "10.0.0.6" if fails else address
            assert rules().count(" return") == 2 and f"ip saddr {kept} return" in rules()
            assert f"value='{kept}'" in say("dumpxml", "filtered")
        # what runs keeps its filter: nobody takes it away, and what cannot be is not taken
        (uuid,) = _UUID.findall(say("nwfilter-dumpxml", "mine"))
        lines.write(
            tmp_path, {"broken.xml": f"<filter name='mine'><uuid>{uuid}</uuid><filterref filter='lost'/></filter>"}
        )
        assert "referenced filter 'lost' is missing" in say("nwfilter-define", f"{tmp_path}/broken.xml", fails=True)
        assert "nwfilter is in use" in say("nwfilter-undefine", "no-ip-spoofing", fails=True)
        # a daemon that comes back puts the rules back
        guesthoused.kill()
        guesthoused.ns.run("nft", "delete", "table", "bridge", "guesthouse")
        guesthoused.start()
        assert "ip saddr 10.0.0.5 return" in rules()
        say("destroy", "filtered")
        assert "10.0.0.5" not in rules() and tap not in rules()
        assert rules().count("chain ") == 4 or before == rules()
        assert not guesthoused.runtime_rows("nwfilter-binding")
        # a guest that ends while nobody looks takes its filter along
        say("create", f"{tmp_path}/guest.xml")
        guesthoused.kill()
        for pid in guesthoused.qemu_pids():
            namespaces.end(pid, signal.SIGKILL)
        guesthoused.start()
        assert "10.0.0.5" not in rules() and not guesthoused.runtime_rows("nwfilter-binding")
    finally:
        guesthoused.run("destroy", "filtered")
        guesthoused.run("nwfilter-undefine", "mine")
        guesthoused.ns.run("ip", "link", "del", "fbr0")
