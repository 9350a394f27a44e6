"""Who may do what: the rows of the configuration, against every procedure and every permission."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.daemon import admin, auth, config, main, sasl
from guesthouse.daemon.auth import Identity, Rules
from guesthouse.daemon.server import Entrance
from guesthouse.errors import AccessDenied, AuthFailed, InvalidArg
from guesthouse.services.context import Config
from guesthouse.services.refs import DomainRef
from guesthouse.wire import permissions, tls
from guesthouse.wire.procedures import ADMIN, BY_NAME
from support.door import UUID, Door, Raw

NOBODY = Identity(uid=4711, gid=4711, pid=1)
REF = {"name": "d", "uuid": UUID, "id": -1}


def may(*rows: tuple[object, object]) -> Rules:
    return Rules([{"who": who, "may": allowed} for who, allowed in rows])


# -- the table


def test_every_procedure_says_what_it_needs() -> None:
    for row in BY_NAME.values():
        if row.access != "event" and row.program != ADMIN:
            assert permissions.needs(row) is not None, row.name
    assert "domain:start" in permissions.every_permission() and len(permissions.every_permission()) > 90


def test_what_changes_something_needs_more_than_looking() -> None:
    looking = {p for p in permissions.every_permission() if p.split(":")[1] in ("read", "getattr", "read_secure")}
    looking |= {p for p in permissions.every_permission() if ":search_" in p}
    for row in BY_NAME.values():
        needed = {need.permission for need in permissions.needs(row) or ()}
        if row.access == "write" and row.program != ADMIN:
            assert needed, row.name
            assert needed - looking or "secret:read_secure" in needed, row.name


@pytest.mark.parametrize("permission", sorted(permissions.every_permission()))
def test_each_permission_is_refused_to_who_has_all_others(permission: str) -> None:
    """For every procedure that needs it, with the arguments that make it count."""
    granted = permissions.every_permission() - {permission}
    concerned = 0
    for row in BY_NAME.values():
        for need in permissions.needs(row) or ():
            if need.permission != permission:
                continue
            concerned += 1
            args = {need.argument: 0 if need.without else need.bits} if need.argument else {}
            with pytest.raises(AccessDenied) as caught:
                auth.check(row, args, granted, NOBODY)
            assert caught.value.number == 88 and str(caught.value).endswith("' denied access")
            auth.check(row, args, permissions.every_permission(), NOBODY)
            auth.check(row, args, None, NOBODY)
        if permissions.shown_by(row) == permission:
            concerned += 1
            assert auth.shown(row, [1, 2], granted) == [] and auth.shown(row, 2, granted) == 0
            assert auth.shown(row, [1, 2], permissions.every_permission()) == [1, 2]
    assert concerned


def test_conditions_are_libvirts() -> None:
    xml = BY_NAME["domain_get_xml_desc"]
    read = frozenset({"domain:read"})
    auth.check(xml, {"flags": 2}, read, NOBODY)
    for secret in (1, 8, 9):
        with pytest.raises(AccessDenied):
            auth.check(xml, {"flags": secret}, read, NOBODY)
    attach = BY_NAME["domain_attach_device_flags"]
    write = frozenset({"domain:write"})
    auth.check(attach, {"flags": 1}, write, NOBODY)  # of the running guest alone
    for saved in (0, 2, 3):
        with pytest.raises(AccessDenied):
            auth.check(attach, {"flags": saved}, write, NOBODY)
    addresses = BY_NAME["domain_interface_addresses"]
    auth.check(addresses, {"source": 0, "flags": 0}, read, NOBODY)
    auth.check(addresses, {"source": 2, "flags": 0}, read, NOBODY)
    with pytest.raises(AccessDenied):
        auth.check(addresses, {"source": 1, "flags": 0}, read, NOBODY)


def test_the_part_that_says_no_is_named() -> None:
    for name, driver in (
        ("domain_create", "QEMU"),
        ("connect_open", "QEMU"),
        ("network_create", "network"),
        ("connect_list_all_storage_pools", "storage"),
        ("node_device_reset", "nodedev"),
        ("secret_get_value", "secret"),
        ("nwfilter_undefine", "nwfilter"),
        ("interface_create", "interface"),
    ):
        with pytest.raises(AccessDenied, match=f"^access denied: '{driver}' denied access$"):
            auth.check(BY_NAME[name], {}, frozenset(), NOBODY)


# -- whom a row means


def test_without_rows_everybody_may_everything() -> None:
    assert Rules().granted(NOBODY) is None


def test_root_and_the_daemons_user_are_never_shut_out() -> None:
    rules = may(("user:4711", "domain:start"))
    assert rules.granted(Identity(uid=0)) is None
    assert rules.granted(Identity(uid=os.geteuid())) is None
    assert rules.granted(Identity(uid=-1)) == frozenset()


@pytest.mark.parametrize(
    ("who", "identity", "meant"),
    [
        ("user:4711", NOBODY, True),
        ("user:4712", NOBODY, False),
        ("user:daemon", Identity(uid=pwd.getpwnam("daemon").pw_uid), True),
        ("user:daemon", NOBODY, False),
        ("user:no-such-user", Identity(uid=-1), False),
        ("group:4711", Identity(uid=3, groups=frozenset({5, 4711})), True),
        ("group:4711", Identity(uid=3, gid=4711), False),  # what the kernel says of groups has the first one in it
        ("group:daemon", Identity(uid=3, groups=frozenset({grp.getgrnam("daemon").gr_gid})), True),
        ("group:no-such-group", Identity(uid=3, groups=frozenset({5})), False),
        ("sasl:alice", Identity(sasl="alice"), True),
        ("sasl:alice", Identity(sasl="malice"), False),
        ("sasl:*", Identity(certificate="CN=alice"), False),
        ("sasl:*", NOBODY, False),
        ("cert:C=GB,*,CN=alice", Identity(certificate="C=GB,O=Test,CN=alice"), True),
        ("cert:C=GB,*,CN=alice", Identity(certificate="C=GB,O=Test,CN=bob"), False),
        ("cert:*", Identity(sasl="CN=alice"), False),
        ("cert:*", NOBODY, False),
        (["user:1", "sasl:alice"], Identity(sasl="alice"), True),
        ("everybody", NOBODY, True),
    ],
)
def test_who_is_meant(who: object, identity: Identity, meant: bool) -> None:
    granted = may((who, "domain:start")).granted(identity)
    assert granted == ({"domain:start"} if meant else frozenset())


def test_rows_add_up_and_patterns_spread() -> None:
    rules = may(("everybody", ["*:getattr", "*:read"]), ("sasl:alice", "domain:*"), ("sasl:bob", "domain:send-input"))
    everybody = rules.granted(NOBODY)
    assert everybody is not None and "network:read" in everybody and "domain:read_secure" not in everybody
    alice = rules.granted(Identity(sasl="alice"))
    assert alice is not None and {"domain:delete", "network:read"} <= alice and "network:write" not in alice
    bob = rules.granted(Identity(sasl="bob"))
    assert bob is not None and bob - everybody == {"domain:send_input"}


def test_a_name_cannot_pose_as_another() -> None:
    subject = ((("countryName", "GB"),), (("organizationName", "Test"),), (("commonName", "x,CN=root"),))
    name = tls.distinguished_name(subject)
    assert name == "C=GB,O=Test,CN=x\\2CCN\\3Droot"
    assert not auth.allowed_name(["*,CN=root"], name) and auth.allowed_name(["C=GB,*"], name)
    assert auth.allowed_name([], name)
    assert tls.distinguished_name(((("userId", "a"), ("x", "b+\n")),)) == "UID=a+x=b\\2B\\0A"


# -- over a socket


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path) as opened:
        yield opened


class Strangers:
    """Makes the clients of a door look like a user who is not root: the kernel's word is what it is in a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Identity, "of", classmethod(lambda cls, sock: Identity(4711, 4711, 1, frozenset({4711}))))


def test_calls_lists_and_events(door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    Strangers(monkeypatch)
    door.domains.list_all = lambda flags: [DomainRef("d", UUID, -1)]  # type: ignore[attr-defined]
    rules = may(("user:4711", ["connect:getattr", "connect:read", "connect:search_domains", "domain:read"]))
    door.call(lambda: door.server.set_rules(rules))
    with Raw(door.path) as client:
        assert client.call("connect_get_type").type == "QEMU"
        assert client.call("domain_get_xml_desc", dom=REF, flags=0).xml == ""
        with caplog.at_level(logging.WARNING):
            error = client.call("domain_destroy", dom=REF)
        assert (error.code, error.message) == (88, "access denied: 'QEMU' denied access")
        assert "domain_destroy needs domain:stop: pid 1, uid 4711" in caplog.text
        assert client.call("network_lookup_by_name", name="n").code == 88
        assert client.call("domain_lookup_by_name", name="slow").code == 88
        listed = client.call("connect_list_all_domains", need_results=1, flags=0)
        assert (listed.domains, listed.ret) == ([], 0)
        assert client.call("connect_domain_event_callback_register_any", eventID=0, dom=None).callbackID > 0
        door.emit(1)
        assert client.silent()
        # other rules count at once, for those that are connected, too
        more = ["connect:*", "domain:getattr", "domain:stop"]
        door.call(lambda: door.server.set_rules(may(("user:4711", more))))
        assert client.call("domain_destroy", dom=REF) is None and door.done == 1
        assert client.call("domain_get_xml_desc", dom=REF, flags=0).code == 88
        listed = client.call("connect_list_all_domains", need_results=1, flags=0)
        assert (len(listed.domains), listed.ret) == (1, 1)
        door.emit(1)
        assert client.message()[0][3] == BY_NAME["domain_event_callback_lifecycle"].number
        door.call(lambda: door.server.set_rules(may(("user:1", "*"))))
        assert client.call("connect_get_type").code == 88
    with Raw(door.path, opened=False) as client:
        assert client.call("auth_list").types == [0]
        assert client.call("connect_open", name="qemu:///system", flags=0).code == 88
    door.call(lambda: door.server.set_rules(Rules()))
    with Raw(door.path) as client:
        assert client.call("connect_get_type").type == "QEMU"


def test_the_kernel_says_who_it_is(door: Door) -> None:
    code = """if True:
        import os, socket
        os.setgroups(range(5000, 5100)); os.setgid(4712); os.setuid(4711)
        s = socket.socket(socket.AF_UNIX); s.connect("sock"); s.recv(1)"""
    folder = door.path.parent
    folder.chmod(0o755)
    door.path.chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder) as other:
        try:
            door.until(lambda: door.server.client_count == 1)
            (client,) = door.call(lambda: list(door.server._clients))
            identity = client.identity
            assert (identity.uid, identity.gid, identity.pid) == (4711, 4712, other.pid)
            assert identity.groups == {4712, *range(5000, 5100)}
        finally:
            other.kill()


# -- SASL


def prove(client: Raw, name: str, password: str) -> Any:
    """Go through SCRAM; the error, or None."""
    from scramp import ScramClient

    assert client.call("auth_list").types == [1]
    assert client.call("auth_sasl_init").mechlist == "SCRAM-SHA-256"
    scram = ScramClient(["SCRAM-SHA-256"], name, password)
    first = client.call("auth_sasl_start", mech="SCRAM-SHA-256", nil=0, data=scram.get_client_first())
    if hasattr(first, "code"):
        return first
    scram.set_server_first(first.data.decode())
    last = client.call("auth_sasl_step", nil=0, data=scram.get_client_final())
    if hasattr(last, "code"):
        return last
    assert last.complete == 1
    scram.set_server_final(last.data.decode())
    return None


@pytest.fixture
def guarded(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The TCP port of a door that asks for SASL."""
    file = tmp_path / config.PASSWORDS
    sasl.store(file, "alice", "wonderland")
    door.server.passwords = file
    monkeypatch.setattr("guesthouse.daemon.session._REFUSAL_DELAY", 0.1)
    return int(door.call(lambda: door.server.listen_tcp("127.0.0.1", 0)))


def test_sasl_lets_in_who_knows_the_password(door: Door, guarded: int, caplog: pytest.LogCaptureFixture) -> None:
    door.call(lambda: door.server.set_rules(may(("sasl:alice", ["connect:*"]))))
    with Raw(guarded, opened=False) as client:
        assert client.call("connect_open", name="qemu:///system", flags=0).message == "authentication required"
        assert client.call("domain_destroy", dom=REF).message == "authentication required"
        assert caplog.text.count("refused a call before the login: from 127.0.0.1:") == 2
        assert prove(client, "alice", "wonderland") is None
        assert client.call("auth_list").types == [0]
        assert client.call("connect_open", name="qemu:///system", flags=0) is None
        assert client.call("connect_get_type").type == "QEMU"
        assert client.call("domain_destroy", dom=REF).code == 88
        assert client.call("auth_sasl_init").code == 45
        assert client.closed()
    assert door.done == 0


@pytest.mark.parametrize(("name", "password"), [("alice", "x"), ("bob", "wonderland"), ("alice", "Wonderland")])
def test_sasl_refuses(door: Door, guarded: int, name: str, password: str, caplog: pytest.LogCaptureFixture) -> None:
    with Raw(guarded, opened=False) as client:
        error = prove(client, name, password)
        assert (error.code, error.message) == (45, "authentication failed: authentication failed")
        assert client.closed()
    assert "authentication failed: from 127.0.0.1:" in caplog.text
    door.until(lambda: door.server.client_count == 0)


def test_without_a_file_of_users_nobody_is_let_in(door: Door, guarded: int) -> None:
    door.server.passwords = None
    with Raw(guarded, opened=False) as client:
        assert client.call("connect_open", name="qemu:///system", flags=0).message == "authentication required"
        assert client.call("auth_list").types == [1]
        assert client.call("auth_sasl_init").code == 45
        assert client.closed()


def test_rules_that_change_let_nobody_in_who_waits_at_the_door(door: Door, guarded: int) -> None:
    with Raw(guarded, opened=False) as client:
        assert client.call("auth_list").types == [1]
        door.call(lambda: door.server.set_rules(may(("everybody", "*"))))
        door.call(lambda: door.server.set_rules(Rules()))
        (waiting,) = door.call(lambda: list(door.server.anonymous))
        assert waiting.session.granted == frozenset()
        assert client.call("connect_open", name="qemu:///system", flags=0).message == "authentication required"


def test_after_a_wrong_password_no_second_try(door: Door, guarded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from scramp import ScramClient

    monkeypatch.setattr("guesthouse.daemon.session._REFUSAL_DELAY", 5)
    with Raw(guarded, opened=False) as client:
        client.call("auth_sasl_init")
        scram, right = (
            ScramClient(["SCRAM-SHA-256"], "alice", word, c_nonce="x" * 24) for word in ("no", "wonderland")
        )
        first = client.call("auth_sasl_start", mech="SCRAM-SHA-256", nil=0, data=scram.get_client_first())
        right.get_client_first()
        for each in (scram, right):
            each.set_server_first(first.data.decode())
        client.request("auth_sasl_step", nil=0, data=scram.get_client_final())
        assert client.call("auth_sasl_step", nil=0, data=right.get_client_final()).code == 45
        assert client.closed()


def test_sasl_out_of_order(door: Door, guarded: int) -> None:
    calls: list[list[tuple[str, dict[str, Any]]]] = [
        [("auth_sasl_step", {"nil": 0, "data": b"c=biws,r=x,p=eHg="})],
        [("auth_sasl_start", {"mech": "SCRAM-SHA-256", "nil": 0, "data": b"n,,n=alice,r=abc"})],
        [("auth_sasl_init", {}), ("auth_sasl_step", {"nil": 0, "data": b""})],
        [("auth_sasl_init", {}), ("auth_sasl_init", {})],
        [("auth_sasl_init", {}), ("auth_sasl_start", {"mech": "PLAIN", "nil": 0, "data": b"\0alice\0wonderland"})],
        [("auth_sasl_init", {}), ("auth_sasl_start", {"mech": "ANONYMOUS", "nil": 1, "data": b""})],
        [("auth_sasl_init", {}), ("auth_sasl_start", {"mech": "SCRAM-SHA-256", "nil": 0, "data": b"\xff\0nonsense"})],
        [
            ("auth_sasl_init", {}),
            *[("auth_sasl_start", {"mech": "SCRAM-SHA-256", "nil": 0, "data": b"n,,n=alice,r=a"})] * 2,
        ],
    ]
    for attempt in calls:
        with Raw(guarded, opened=False) as client:
            answers = [client.call(name, **args) for name, args in attempt]
            assert answers[-1].code == 45, attempt
            assert client.closed()
    with Raw(guarded, opened=False) as client:  # polkit is no way around it
        assert client.call("auth_polkit").code == 45
        assert client.closed()


def test_who_does_not_say_who_it_is_takes_no_room(door: Door, guarded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    most = door.server.limits.max_anonymous_clients
    waiting = [Raw(guarded, opened=False) for _ in range(most)]
    door.until(lambda: len(door.server.anonymous) == most)
    with Raw(guarded, opened=False) as late, Raw(door.path) as local:
        assert late.closed()
        assert local.call("connect_get_type").type == "QEMU"
    for client in waiting:
        client.sock.close()
    door.until(lambda: not door.server.anonymous)
    with Raw(guarded, opened=False) as client:  # nor may it make the daemon keep much
        client.send((1 << 20).to_bytes(4, "big") + bytes(64))
        assert client.closed()
    monkeypatch.setattr("guesthouse.daemon.server._AUTH_TIMEOUT", 0.1)
    with Raw(guarded, opened=False) as client:
        assert client.call("auth_list").types == [1]
        assert client.closed()


def test_the_file_of_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / config.PASSWORDS
    sasl.store(file, "alice", "one")
    sasl.store(file, "bob@example.org", "two")
    old = file.read_text()
    sasl.store(file, "alice", "three")
    assert set(sasl._read(file)) == {"alice", "bob@example.org"} and "three" not in file.read_text() != old
    assert file.stat().st_mode & 0o777 == 0o600
    sasl.store(file, "alice", None)
    assert set(sasl._read(file)) == {"bob@example.org"}
    for name, password in (("alice", None), ("", "x"), ("a:b", "x"), ("a\nb", "x"), ("#a", "x"), ("carol", "")):
        with pytest.raises(InvalidArg):
            sasl.store(file, name, password)
    file.write_text("# users\n" + file.read_text() + "carol:SCRAM-SHA-256$4096:AA==$short:keys\nnonsense\n")
    file.chmod(0o600)
    assert set(sasl._read(file)) == {"bob@example.org"}
    assert "line 3: expected NAME:SCRAM" in caplog.text
    file.chmod(0o640)
    assert sasl._read(file) == {} and "must belong to the daemon's user and have mode 0600" in caplog.text
    with pytest.raises(AuthFailed):
        sasl.Exchange(tmp_path / "absent").step(b"")


# -- sockets of a service manager


def test_sockets_of_a_service_manager_are_what_their_names_say(tmp_path: Path) -> None:
    settings = Config(auth_unix_rw="sasl", auth_tls="sasl", listen_tls="127.0.0.1:16514")
    for name, expected in (
        ("libvirt-sock", Entrance(auth="sasl")),
        ("libvirt-sock-ro", Entrance(readonly=True)),
        ("libvirt-admin-sock", Entrance(admin=True)),
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / name))
            assert main._entrance(sock, False, settings) == expected
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert main._entrance(sock, False, settings) == Entrance(auth="sasl")
        assert main._entrance(sock, True, settings) == Entrance(auth="sasl", tls=True)
        with pytest.raises(InvalidArg, match="set listen_tls"):
            main._entrance(sock, True, Config())


# -- the administration


def test_administration_is_apart(door: Door, tmp_path: Path) -> None:
    """Its socket serves nothing else, and nobody else serves it; it must be opened first."""
    path = tmp_path / "admin"
    administration = admin.Administration(door.server, log=tmp_path / "log", files=lambda: None)

    def listen() -> None:
        door.server.administration = administration
        door.server.listen_unix(path, mode=0o700, entrance=Entrance(admin=True))

    door.call(listen)
    with Raw(door.path) as client, Raw(door.readonly_path) as looking, Raw(path, opened=False) as boss:
        for other in (client, looking):
            for call in ("admin_connect_open", "admin_connect_list_servers"):
                error = other.call(call, **({"flags": 0} | ({"need_results": 1} if "list" in call else {})))
                assert error.message == f"Cannot find program {ADMIN} version 1"
        assert boss.call("connect_open", name=None, flags=0).message.startswith("Cannot find program")
        assert boss.call("domain_destroy", dom=REF).message.startswith("Cannot find program")
        assert boss.call("admin_connect_list_servers", need_results=1, flags=0).message.endswith("connection not open")
        assert boss.call("admin_connect_open", flags=0) is None
        assert boss.call("admin_connect_get_lib_version").libVer == 9_000_000
        listed = boss.call("admin_server_list_clients", srv=("libvirtd",), need_results=1, flags=0)
        assert (len(listed.clients), listed.ret) == (2, 2)
        assert boss.call("admin_server_list_clients", srv=("libvirtd",), need_results=0, flags=0).clients == []
        assert boss.call("admin_client_close", clnt=listed.clients[0], flags=0) is None
        assert client.closed() and not looking.buffer
        assert boss.call("admin_client_close", clnt=listed.clients[0], flags=0).code == 96
        assert boss.call("admin_server_list_clients", srv=("x",), need_results=1, flags=0).code == 95
        assert boss.call("admin_server_list_clients", srv=("libvirtd",), need_results=1, flags=1).code == 8
        wrong = [("nclients", ("uint", 3))]
        assert boss.call("admin_server_set_client_limits", srv=("libvirtd",), params=wrong, flags=0).code == 8
    assert door.done == 0
