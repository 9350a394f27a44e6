"""Rules that name objects, against those whom they hold: C virsh as another user and with a certificate, and a client
that speaks the protocol itself and lies about whatever it can."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import namespaces
from support.door import Raw
from support.guesthoused import Guesthoused
from support.pki import Authority

CONFIG = """\
socket_mode = "0777"
listen_tls = "127.0.0.1:16514"
tls_ca = "{pki}/cacert.pem"
tls_cert = "{pki}/server.pem"
tls_key = "{pki}/server.key"

[[access]]
who = "everybody"
may = ["connect:*", "storage-pool:search-storage-vols", "network:search-ports"]

[[access]]
who = ["user:4711", "cert:CN=alice"]
may = "*"
on = ["web-*", "web-*/*", "shared/mine-*", "usage:web-*"]

[[access]]
who = ["user:4711", "cert:CN=alice"]
may = ["*:getattr", "storage-pool:read"]
on = ["shared", "lo"]

[[access]]
who = "user:4712"
may = "domain:*"
on = "uuid:10000000-0000-0000-0000-00000000000d"
"""
DB, WEB, NEW = (f"10000000-0000-0000-0000-00000000000{digit}" for digit in "dea")


def domain(name: str, uuid: str, more: str = "") -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>"
        f"<os><type arch='x86_64'>hvm</type></os>{more}</domain>"
    )


def network(name: str) -> str:
    return f"<network><name>{name}</name><ip address='10.20.{len(name)}.1' netmask='255.255.255.0'/></network>"


def secret(usage: str, uuid: str = "") -> str:
    return f"<secret>{uuid and f'<uuid>{uuid}</uuid>'}<usage type='ceph'><name>{usage}</name></usage></secret>"


def volume(name: str) -> str:
    return f"<volume><name>{name}</name><capacity>1024</capacity></volume>"


class Host:
    def __init__(self, root: Path) -> None:
        pki = Authority(root / "pki")
        pki.issue("server", "/CN=far", usage="serverAuth", alt="DNS:localhost")
        self.clients = {name: pki.client(name, f"/CN={name}") for name in ("alice", "bob")}
        self.root = root / "d"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/guesthoused.toml").write_text(CONFIG.format(pki=pki.folder))
        self.daemon = Guesthoused(self.root)
        self.root.chmod(0o755)
        self.pools = root / "pools"

    def fill(self) -> None:
        with self.raw(0) as boss:
            for name, uuid in (("db-1", DB), ("web-1", WEB)):
                made(boss, "domain_define_xml", xml=domain(name, uuid))
            for name in ("prod-net", "web-net"):
                made(boss, "network_define_xml", xml=network(name))
            for name in ("prod", "shared", "web-pool"):
                target = self.pools / name
                target.mkdir(parents=True)
                xml = f"<pool type='dir'><name>{name}</name><target><path>{target}</path></target></pool>"
                pool = made(boss, "storage_pool_define_xml", xml=xml, flags=0).pool
                made(boss, "storage_pool_create", pool=pool, flags=0)
                for one in ("mine-1", "theirs-1"):
                    made(boss, "storage_vol_create_xml", pool=pool, xml=volume(one), flags=0)
            for usage in ("prod-secret", "web-secret"):
                made(boss, "secret_define_xml", xml=secret(usage), flags=0)

    def raw(self, uid: int) -> Raw:
        """A client that the kernel says is ``uid``."""
        os.seteuid(uid)
        try:
            return Raw(self.daemon.socket)
        finally:
            os.seteuid(0)

    def log(self) -> str:
        return (self.root / "log/guesthoused.log").read_text()

    def virsh(self, who: str, *words: str) -> subprocess.CompletedProcess[str]:
        if who == "user":
            argv = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "virsh", "-c", self.daemon.uri]
        else:
            argv = ["virsh", "-c", f"qemu+tls://localhost/system?pkipath={self.clients[who]}"]
        env = {**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
        command = self.daemon.ns.command([*argv, *words])
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def made(client: Raw, procedure: str, **args: Any) -> Any:
    answer = client.call(procedure, **args)
    assert not hasattr(answer, "code"), (procedure, answer)
    return answer


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    site = Host(namespaces.reachable(tmp_path_factory.mktemp("named")))
    try:
        site.fill()
        yield site
    finally:
        site.daemon.close()


def denied(answer: Any) -> bool:
    return getattr(answer, "code", 0) == 88 and answer.message.endswith("denied access")


@pytest.mark.parametrize("who", ["user", "alice"])
def test_virsh_sees_and_changes_what_is_named(host: Host, who: str) -> None:
    for words, seen in (
        ("list --all --name", ["web-1"]),
        ("domstats --state", ["Domain:", "'web-1'", "state.state=5", "state.reason=0"]),
        ("net-list --all --name", ["web-net"]),
        ("pool-list --all --name", ["shared", "web-pool"]),
        ("nwfilter-list", ["UUID", "Name", "-" * 66]),
        ("nodedev-list", []),
        ("iface-list --all", ["Name", "State", "MAC", "Address", "-" * 38, "lo", "active", "00:00:00:00:00:00"]),
    ):
        done = host.virsh(who, *words.split())
        assert done.returncode == 0, (words, done.stderr)
        assert [word for word in done.stdout.split() if set(word) != {"-"}] == [
            word for word in seen if set(word) != {"-"}
        ], words
    for pool, found in (("shared", "mine-1"), ("web-pool", "mine-1 theirs-1")):
        out = host.virsh(who, "vol-list", pool).stdout.splitlines()[2:]
        assert " ".join(line.split()[0] for line in out if line) == found
    assert [line.split()[2] for line in host.virsh(who, "secret-list").stdout.splitlines()[2:-1]] == ["web-secret"]
    before = len(host.log())
    for words in (
        "dominfo db-1",
        f"domid {DB}",
        "start db-1",
        "net-start prod-net",
        "net-dumpxml prod-net",
        "pool-destroy prod",
        "pool-destroy shared",
        "vol-dumpxml theirs-1 --pool shared",
        f"vol-delete {host.pools}/shared/theirs-1",
        f"vol-pool {host.pools}/prod/mine-1",
        "nodedev-dumpxml computer",
    ):
        done = host.virsh(who, *words.split())
        told = "access denied: '" in done.stderr or "failed to get " in done.stderr  # which virsh makes of a lookup's
        assert done.returncode == 1 and told, (words, done.stdout, done.stderr)
    log = host.log()[before:]
    whose = "uid 4711" if who == "user" else "certificate 'CN=alice'"
    assert f"domain_lookup_by_name needs domain:getattr on 'db-1' '{DB}'" in log
    assert re.search(rf"storage_vol_lookup_by_\w+ needs storage_vol:getattr on 'shared/theirs-1': .*{whose}", log)
    for words in (
        "autostart web-1",
        "autostart --disable web-1",
        "desc web-1 --title mine",
        "net-autostart web-net",
        "vol-resize mine-1 --pool shared 8192",
        "vol-clone mine-1 mine-2 --pool shared",
        "vol-delete mine-2 --pool shared",
    ):
        done = host.virsh(who, *words.split())
        assert done.returncode == 0, (words, done.stderr)


def test_a_certificate_that_no_row_names_sees_nothing(host: Host) -> None:
    assert host.virsh("bob", "list", "--all", "--name").stdout.split() == []
    assert host.virsh("bob", "dominfo", "web-1").returncode == 1


def test_what_a_client_says_of_an_object_does_not_count(host: Host) -> None:
    with host.raw(0) as boss, host.raw(4711) as alice:
        lie = {"name": "web-1", "uuid": DB, "id": -1}
        calls: list[tuple[str, dict[str, Any]]] = [
            ("domain_create", {}),
            ("domain_undefine", {}),
            ("domain_get_xml_desc", {"flags": 0}),
            ("domain_rename", {"new_name": "web-2", "flags": 0}),
            ("domain_attach_device", {"xml": "<watchdog model='i6300esb'/>"}),
            ("qemu_domain_monitor_command", {"cmd": "{}", "flags": 0}),
        ]
        for procedure, args in calls:
            assert denied(alice.call(procedure, dom=lie, **args)), procedure
        # what is called otherwise and is one's own, is one's own
        made(alice, "domain_get_xml_desc", dom={"name": "db-1", "uuid": WEB, "id": 7}, flags=0)
        assert alice.call("domain_create", dom={"name": "web-1", "uuid": NEW, "id": -1}).code == 42
        # volumes are found by their pool and name, whatever their key is said to be
        key = f"{host.pools}/shared/mine-1"
        for pool, name in (("prod", "mine-1"), ("shared", "theirs-1")):
            assert denied(alice.call("storage_vol_delete", vol={"pool": pool, "name": name, "key": key}, flags=0))
        assert alice.call("storage_vol_get_path", vol={"pool": "shared/mine-1", "name": "x", "key": key}).code == 49
        other = {
            pool.name: pool for pool in made(boss, "connect_list_all_storage_pools", need_results=1, flags=0).pools
        }
        lied = {"name": "web-pool", "uuid": other["prod"].uuid}
        assert denied(alice.call("storage_pool_get_xml_desc", pool=lied, flags=0))
        assert denied(alice.call("storage_vol_create_xml", pool=lied, xml=volume("web-9"), flags=0))
        secrets = made(boss, "connect_list_all_secrets", need_results=1, flags=0).secrets
        theirs = next(one for one in secrets if one.usageID == "prod-secret")
        lied = {"uuid": theirs.uuid, "usageType": 2, "usageID": "web-secret"}
        assert denied(alice.call("secret_get_value", secret=lied, flags=0))
        net = made(boss, "network_lookup_by_name", name="prod-net").net
        assert denied(alice.call("network_create", net={"name": "web-net", "uuid": net.uuid}))
        assert denied(alice.call("interface_get_xml_desc", iface={"name": "lo", "mac": ""}, flags=0))
        # nor does a copy tell what may not be read
        call = {
            "pool": {"name": "", "uuid": other["shared"].uuid},
            "xml": volume("mine-9"),
            "clonevol": {"pool": "prod", "name": "mine-1", "key": key},
            "flags": 0,
        }
        assert denied(alice.call("storage_vol_create_xml_from", **call))


def test_documents_are_about_what_they_name(host: Host) -> None:
    with host.raw(4711) as alice:
        shared = made(alice, "storage_pool_lookup_by_name", name="shared").pool
        filter_xml = "<filter name='{}'><rule action='drop' direction='in'/></filter>".format
        pool_xml = "<pool type='dir'><name>{}</name><target><path>/nonexistent/{}</path></target></pool>".format
        for procedure, args in (
            ("domain_define_xml", {"xml": domain("db-2", NEW)}),
            ("domain_define_xml", {"xml": domain("db-1", DB)}),
            ("domain_define_xml_flags", {"xml": domain("xweb-2", NEW), "flags": 0}),
            ("domain_create_xml", {"xml_desc": domain("db-2", NEW), "flags": 0}),
            ("network_define_xml", {"xml": network("prod-2")}),
            ("network_define_xml_flags", {"xml": network("prod-2"), "flags": 0}),
            ("network_create_xml", {"xml": network("prod-2")}),
            ("network_create_xml_flags", {"xml": network("prod-net"), "flags": 0}),
            ("storage_pool_define_xml", {"xml": pool_xml("prod-2", 1), "flags": 0}),
            ("storage_pool_create_xml", {"xml": pool_xml("prod-2", 1), "flags": 0}),
            ("storage_vol_create_xml", {"pool": shared, "xml": volume("theirs-2"), "flags": 0}),
            ("storage_vol_create_xml", {"pool": shared, "xml": volume("theirs-1"), "flags": 0}),
            ("secret_define_xml", {"xml": secret("prod-2"), "flags": 0}),
            ("nwfilter_define_xml", {"xml": filter_xml("prod-filter")}),
            ("nwfilter_define_xml_flags", {"xml": filter_xml("prod-filter"), "flags": 0}),
            ("node_device_define_xml", {"xml_desc": "<device><name>web-d</name></device>", "flags": 0}),
        ):
            assert denied(alice.call(procedure, **args)), (procedure, args)
        # another's UUID with a name of one's own; the name twice
        error = alice.call("domain_define_xml", xml=domain("web-2", DB))
        assert error.code == 9 and alice.call("domain_lookup_by_name", name="web-2").code == 42
        twice = domain("web-2", NEW).replace("</name>", "</name><name>db-2</name>")
        answer = alice.call("domain_define_xml", xml=twice)
        assert hasattr(answer, "code") or answer.dom.name == "web-2"
        if not hasattr(answer, "code"):
            made(alice, "domain_undefine", dom=answer.dom)
        # what is one's own: define, rename within reach, undefine and define anew
        made(alice, "secret_define_xml", xml=secret("web-2"), flags=0)
        made(alice, "nwfilter_define_xml", xml=filter_xml("web-filter"))
        ref = made(alice, "domain_define_xml", xml=domain("web-2", NEW)).dom
        assert denied(alice.call("domain_rename", dom=ref, new_name="db-2", flags=0))
        made(alice, "domain_rename", dom=ref, new_name="web-3", flags=0)
        made(alice, "domain_undefine", dom=ref)
        with host.raw(0) as boss:  # the same UUID is another's guest from now on
            theirs = made(boss, "domain_define_xml", xml=domain("db-2", NEW)).dom
            assert denied(alice.call("domain_get_state", dom=ref, flags=0))
            assert alice.call("domain_define_xml", xml=domain("web-2", NEW)).code == 9
            # and what the administrator renames goes in and out of reach
            made(boss, "domain_rename", dom=theirs, new_name="web-4", flags=0)
            made(alice, "domain_get_state", dom=ref, flags=0)
            made(boss, "domain_rename", dom=theirs, new_name="db-2", flags=0)
            assert denied(alice.call("domain_get_state", dom=ref, flags=0))
            made(boss, "domain_undefine", dom=theirs)


def disk(source: str, kind: str = "file", more: str = "") -> str:
    return f"<disk type='{kind}'><source {source}/><target dev='vda' bus='virtio'/>{more}</disk>"


def with_disks(*disks: str) -> str:
    return domain("web-9", NEW, f"<devices>{''.join(disks)}</devices>")


def test_disks_do_not_bring_what_is_anothers(host: Host) -> None:
    """By the name of a volume, by its path, by other ways to the same file, and as another guest's."""
    shared, links = host.pools / "shared", host.root / "links"
    links.symlink_to(host.pools)
    os.link(shared / "theirs-1", host.root / "hard")
    private = host.root / "private.img"
    private.write_bytes(bytes(4096))
    one = disk(f"file='{private}'")
    theirs = domain("db-1", DB, f"<devices>{one}</devices>")
    with host.raw(0) as boss, host.raw(4711) as alice:
        made(boss, "domain_define_xml", xml=theirs)
        web = {"name": "", "uuid": WEB, "id": -1}
        below = f"<backingStore type='file'><format type='raw'/><source file='{shared}/theirs-1'/></backingStore>"
        bad = [
            disk("pool='shared' volume='theirs-1'", "volume"),
            disk("pool='prod' volume='mine-1'", "volume"),
            disk(f"file='{shared}/theirs-1'"),
            disk(f"file='{shared}/../shared/theirs-1'"),
            disk(f"file='{links}/shared/theirs-1'"),
            disk(f"file='{host.root}/hard'"),
            disk(f"file='{private}'"),
            disk(f"file='{private}'", more="<readonly/>"),
            disk(f"file='{shared}/mine-1'", more=below),
        ]
        for one in bad:
            assert denied(alice.call("domain_define_xml", xml=with_disks(one))), one
            assert denied(alice.call("domain_create_xml", xml_desc=with_disks(one), flags=0)), one
            assert denied(alice.call("domain_attach_device_flags", dom=web, xml=one, flags=2)), one
        # her own
        for one in (disk("pool='shared' volume='mine-1'", "volume"), disk(f"file='{shared}/mine-1'")):
            made(alice, "domain_attach_device_flags", dom=web, xml=one, flags=2)
            for swap in bad[:3]:
                assert denied(alice.call("domain_update_device_flags", dom=web, xml=swap, flags=2)), swap
            made(alice, "domain_detach_device_flags", dom=web, xml=one, flags=2)
        # what became another's since, she starts no more
        late = shared / "theirs-2"
        ref = made(alice, "domain_define_xml", xml=with_disks(disk(f"file='{late}'"))).dom
        pool = made(boss, "storage_pool_lookup_by_name", name="shared").pool
        vol = made(boss, "storage_vol_create_xml", pool=pool, xml=volume("theirs-2"), flags=0).vol
        assert denied(alice.call("domain_create", dom=ref))
        made(boss, "storage_vol_delete", vol=vol, flags=0)
        made(alice, "domain_undefine", dom=ref)
        # an image of hers that stands on another's
        image = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f"{shared}/theirs-1", f"{shared}/mine-3"]
        subprocess.run(image, check=True)
        made(boss, "storage_pool_refresh", pool=pool, flags=0)
        source = disk(f"file='{shared}/mine-3'").replace("<source", "<driver name='qemu' type='qcow2'/><source")
        ref = made(alice, "domain_define_xml", xml=with_disks(source)).dom
        assert denied(alice.call("domain_create", dom=ref)) and not made(boss, "connect_num_of_domains").num
        made(alice, "domain_undefine", dom=ref)
        made(alice, "storage_vol_delete", vol={"pool": "shared", "name": "mine-3", "key": ""}, flags=0)
        made(boss, "domain_undefine", dom={"name": "", "uuid": DB, "id": -1})
        made(boss, "domain_define_xml", xml=domain("db-1", DB))


def test_renamed_at_the_same_time(host: Host) -> None:
    """However calls of two clients fall between each other, nothing of a name that is not one's own is told."""
    with host.raw(0) as boss, host.raw(4711) as alice:
        ref = made(boss, "domain_define_xml", xml=domain("db-3", NEW)).dom
        told = refused = 0
        for turn in range(40):
            boss.request("domain_rename", dom=ref, new_name=("web-3", "db-3")[turn % 2], flags=0)
            for _ in range(3):
                answer = alice.call("domain_get_xml_desc", dom=ref, flags=0)
                told, refused = told + (not denied(answer)), refused + denied(answer)
                assert denied(answer) or "<name>web-3</name>" in answer.xml
            while boss.message()[0][4] != 1:
                pass
        assert told + refused == 120
        # who waits for a guest that is renamed before his turn comes, changes nothing of it
        for turn in range(20):
            made(boss, "domain_rename", dom=ref, new_name="web-3", flags=0)
            boss.request("domain_rename", dom=ref, new_name="db-3", flags=0)
            device = "<watchdog model='i6300esb'/>"
            answer = alice.call("domain_attach_device_flags", dom=ref, xml=device, flags=2)
            while boss.message()[0][4] != 1:
                pass
            xml = made(boss, "domain_get_xml_desc", dom=ref, flags=0).xml
            assert "<watchdog" not in xml or not denied(answer), turn
            if not denied(answer):  # it came first
                made(boss, "domain_detach_device_flags", dom=ref, xml=device, flags=2)
        made(boss, "domain_undefine", dom=ref)


def test_lists_of_old_and_rooms_that_are_small(host: Host) -> None:
    with host.raw(4711) as alice, host.raw(4712) as other:
        assert made(alice, "connect_num_of_defined_domains").num == 1
        assert made(alice, "connect_list_defined_domains", maxnames=1).names == ["web-1"]
        assert made(alice, "connect_num_of_domains").num == 0
        assert made(alice, "connect_list_domains", maxids=5).ids == []
        assert made(alice, "connect_list_defined_networks", maxnames=1).names == ["web-net"]
        assert made(alice, "connect_num_of_storage_pools").num == 2
        assert made(alice, "connect_num_of_secrets").num == 2
        pool = made(alice, "storage_pool_lookup_by_name", name="shared").pool
        assert made(alice, "storage_pool_num_of_volumes", pool=pool).num == 1
        assert made(alice, "storage_pool_list_volumes", pool=pool, maxnames=9).names == ["mine-1"]
        both = [{"name": "", "uuid": uuid, "id": -1} for uuid in (DB, WEB)]
        stats = made(alice, "connect_get_all_domain_stats", doms=both, stats=1, flags=0).retStats
        assert [record.dom.name for record in stats] == ["web-1"]
        listed = made(alice, "connect_list_all_domains", need_results=0, flags=0)
        assert (listed.domains, listed.ret) == ([], 1)
        # by UUID, whatever it is called
        listed = made(other, "connect_list_all_domains", need_results=1, flags=0)
        assert [found.name for found in listed.domains] == ["db-1"]
        made(other, "domain_rename", dom=listed.domains[0], new_name="web-db", flags=0)
        made(other, "domain_rename", dom=listed.domains[0], new_name="db-1", flags=0)


def test_a_guest_runs_and_events_come_of_what_is_seen(host: Host) -> None:
    with host.raw(0) as boss, host.raw(4711) as alice, host.raw(0) as all_ears, host.raw(4711) as ears:
        listening = {"boss": all_ears, "alice": ears}
        for client in listening.values():
            for event in (0, 4):
                made(client, "connect_domain_event_callback_register_any", eventID=event, dom=None)
            made(client, "connect_network_event_register_any", eventID=0, net=None)
        dom = made(alice, "domain_create_xml", xml_desc=domain("web-run", NEW), flags=0).dom
        assert made(alice, "connect_list_domains", maxids=9).ids == [dom.id]
        assert made(alice, "connect_num_of_domains").num == 1
        assert made(alice, "domain_lookup_by_id", id=dom.id).dom.name == "web-run"
        image = host.root / "image"
        made(boss, "domain_create", dom={"name": "", "uuid": DB, "id": -1})
        params = [("file", "string", str(image))]
        made(boss, "domain_save_params", dom={"name": "", "uuid": DB, "id": -1}, params=params, flags=0)
        # another's image, and a document that would make it one's own
        path = {"from": str(image)}
        assert denied(alice.call("domain_restore", **path))
        assert denied(alice.call("domain_save_image_get_xml_desc", file=str(image), flags=0))
        for xml in (domain("web-1", WEB), domain("web-1", DB), domain("db-1", DB)):
            assert denied(alice.call("domain_restore_flags", **path, dxml=xml, flags=0))
            assert denied(alice.call("domain_save_image_define_xml", file=str(image), dxml=xml, flags=0))
        assert denied(alice.call("domain_restore_params", params=params, flags=0))
        made(boss, "domain_restore_params", params=params, flags=0)
        made(boss, "domain_destroy", dom={"name": "", "uuid": DB, "id": -1})
        made(boss, "network_create", net=made(boss, "network_lookup_by_name", name="prod-net").net)
        made(boss, "network_destroy", net=made(boss, "network_lookup_by_name", name="prod-net").net)
        made(alice, "domain_destroy", dom=dom)
        assert names(listening["alice"]) == {"web-run"}
        assert names(listening["boss"]) == {"web-run", "db-1", "prod-net"}


def names(client: Raw) -> set[str]:
    """Whose events have come."""
    serial = client.request("connect_get_type")[2]
    found: set[str] = set()
    while True:
        head, payload = client.message()
        if head[5] == serial:
            return found
        found |= {word.decode() for word in re.findall(rb"web-run|db-\d|web-\d|prod-net", payload)}


def test_rules_that_come_later_hold_for_who_is_there(host: Host) -> None:
    text = (host.root / "etc/guesthoused.toml").read_text()
    with host.raw(4711) as alice:
        made(alice, "domain_lookup_by_name", name="web-1")
        before = host.log().count("again")
        (host.root / "etc/guesthoused.toml").write_text(text.replace('"web-*", ', '"db-*", '))
        os.kill(host.daemon.pid, signal.SIGHUP)
        deadline = time.monotonic() + 10
        while host.log().count("again") == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert denied(alice.call("domain_lookup_by_name", name="web-1"))
        made(alice, "domain_lookup_by_name", name="db-1")
