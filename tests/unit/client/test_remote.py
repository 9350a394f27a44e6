"""Other hosts: what their URIs say, the commands and the logins that are made of it. No network."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from guesthouse.client import programs, sasl, uri
from guesthouse.daemon import sasl as daemon_sasl
from guesthouse.errors import AuthFailed, InvalidArg, NoSupport


@pytest.mark.parametrize(
    ("text", "transport", "user", "host", "port", "name"),
    [
        ("qemu+tcp://far/system", "tcp", "", "far", 16509, "qemu:///system"),
        ("qemu+tcp:///system", "tcp", "", "localhost", 16509, "qemu:///system"),
        ("qemu+tcp://me%40home@far:7/system", "tcp", "me@home", "far", 7, "qemu:///system"),
        ("qemu://far/system", "tls", "", "far", 16514, "qemu:///system"),
        ("qemu+tls://[fe80::1]/session", "tls", "", "fe80::1", 16514, "qemu:///session"),
        ("qemu+tls://[::1]:99/system?pkipath=/x&more=1", "tls", "", "::1", 99, "qemu:///system?more=1"),
        ("qemu+ssh://me@far/system?keyfile=/k&authfile=/a", "ssh", "me", "far", 0, "qemu:///system"),
        ("qemu+ext:///system?command=/c&name=qemu:///session", "ext", "", "localhost", 0, "qemu:///session"),
    ],
)
def test_where_a_uri_leads(text: str, transport: str, user: str, host: str, port: int, name: str) -> None:
    target = uri.parse(text)
    assert (target.transport, target.user, target.host, target.port) == (transport, user, host, port)
    assert target.name == name and target.start is None


@pytest.mark.parametrize("place", ["far:", "far:x", "far:99999", "far:-1", "[::1", "[::1]x", "far:\u0663"])
def test_a_place_that_is_none(place: str) -> None:
    if place == "far:":
        assert uri.parse(f"qemu+tcp://{place}/system").port == 16509
        return
    with pytest.raises(InvalidArg, match="malformed URI"):
        uri.parse(f"qemu+tcp://{place}/system")


def test_transports_that_there_are_not() -> None:
    for name in ("libssh", "libssh2"):
        with pytest.raises(NoSupport, match=f"{name} transport support was not enabled"):
            uri.parse(f"qemu+{name}://far/system")
    with pytest.raises(InvalidArg, match="transport in URL not recognised"):
        uri.parse("qemu+pigeon://far/system")
    with pytest.raises(InvalidArg, match="on this host"):
        uri.parse("qemu+tcp://far/embed?root=/x")


def script(text: str, readonly: bool = False) -> str:
    """What the far side's shell gets to run."""
    command = programs.ssh_command(uri.parse(text), readonly)
    assert command[-3] == "--"
    words = shlex.split(command[-1])
    assert words[:2] == ["sh", "-c"] and len(words) == 3
    return words[2]


def test_nothing_in_a_uri_can_add_to_the_command() -> None:
    evil = "x'; touch /tmp/evil; '$(id)`id`"
    for key in ("netcat", "socket", "name"):
        text = script(f"qemu+ssh://far/system?proxy={'native' if key == 'name' else 'netcat'}&{key}={evil}")
        assert evil in shlex.split(text.split("; exec ")[-1] if key != "name" else text)
    command = programs.ssh_command(uri.parse("qemu+ssh://-oProxyCommand=id/system"), False)
    assert command[-3:-1] == ["--", "-oProxyCommand=id"]


def test_sockets_at_the_far_side() -> None:
    assert script("qemu+ssh://far/system", readonly=True).count("-r qemu:///system") == 1
    assert script("qemu+ssh://far/system?proxy=netcat", readonly=True).endswith("-U /var/run/libvirt/libvirt-sock-ro")
    assert "/run/user/$(id -u)" in script("qemu+ssh://far/session?proxy=netcat")
    assert "virt-ssh-helper" not in script("qemu+ssh://far/system?socket=/s")


# -- logins


def auth(folder: Path, text: str) -> str:
    file = folder / "auth.conf"
    file.write_text(text)
    return f"?authfile={file}"


TWO = """\
# a remark
[credentials-a]
authname=alice
password=100%=#;x
[credentials-b]
username=bob
password=
[auth-libvirt-far]
credentials=a
[auth-libvirt-default]
credentials=b
"""


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = auth(tmp_path, TWO)
    assert sasl.credentials(uri.parse(f"qemu+tcp://far/system{query}"), None) == ("alice", "100%=#;x")
    assert sasl.credentials(uri.parse(f"qemu+tcp://near/system{query}"), None) == ("bob", "")
    assert sasl.credentials(uri.parse(f"qemu+tcp://carol@far/system{query}"), None)[0] == "carol"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LIBVIRT_AUTH_FILE", str(tmp_path / "auth.conf"))
    assert sasl.credentials(uri.parse("qemu+tcp://far/system"), None)[0] == "alice"
    monkeypatch.delenv("LIBVIRT_AUTH_FILE")
    asked: list[str] = []

    def ask(kind: str, prompt: str) -> str:
        asked.append(kind)
        return f"my {kind}"

    assert sasl.credentials(uri.parse("qemu+tcp://far/system"), ask) == ("my name", "my password")
    assert sasl.credentials(uri.parse("qemu+tcp://me@far/system"), ask) == ("me", "my password")
    assert asked == ["name", "password", "password"]
    with pytest.raises(AuthFailed, match="no name and password for 'far'"):
        sasl.credentials(uri.parse("qemu+tcp://far/system"), None)
    with pytest.raises(AuthFailed, match="no name and password for 'far'"):
        sasl.credentials(uri.parse("qemu+tcp://far/system"), lambda kind, prompt: None)
    for text in ("nonsense", "[a]\n[a]\n"):
        with pytest.raises(AuthFailed, match="cannot read"):
            sasl.credentials(uri.parse(f"qemu+tcp://far/system{auth(tmp_path, text)}"), None)


def login(query: str = "", mechanisms: str = "GSSAPI,SCRAM-SHA-256", password: str = "secret") -> sasl.Login:
    target = uri.parse(f"qemu+tcp://alice@far/system{query}")
    return sasl.Login(target, mechanisms, lambda kind, prompt: password)


def test_a_login_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "users"
    daemon_sasl.store(file, "alice", "secret")
    mine, theirs = login(), daemon_sasl.Exchange(file)
    proof = mine.answer(0, theirs.start("SCRAM-SHA-256", mine.first()))
    assert proof is not None
    assert mine.answer(1, theirs.step(proof)) is None and theirs.user == "alice"


def test_a_daemon_that_does_not_know_the_password_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "users"
    daemon_sasl.store(file, "alice", "secret")
    for answers in (
        [(1, b"")],  # let in without a word
        [(1, None)],  # right away after the first message
        [(0, None), (1, b"")],
        [(0, None), (1, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")],
        [(0, None), (1, b"e=other-error")],
        [(0, b"r=mine,s=AAAAAAAAAAAAAAAAAAAAAA==,i=4096")],  # another nonce
        [(0, b"\xff\xfe")],
    ):
        mine, theirs = login(), daemon_sasl.Exchange(file)
        first = theirs.start("SCRAM-SHA-256", mine.first())
        with pytest.raises(AuthFailed):
            for complete, data in answers:
                mine.answer(complete, first if data is None else data)


def test_mechanisms() -> None:
    for mechanisms in ("", "PLAIN", "SCRAM-SHA-1,DIGEST-MD5", "SCRAM-SHA-256-PLUS"):
        with pytest.raises(AuthFailed, match="no SASL mechanism in common"):
            login(mechanisms=mechanisms)
    assert login("?auth=sasl.scram-sha-256").first().startswith(b"n,,n=alice,r=")
    with pytest.raises(AuthFailed, match="SASL mechanism gssapi not supported"):
        login("?auth=sasl.gssapi")
    with pytest.raises(AuthFailed, match="requested authentication type polkit rejected"):
        login("?auth=polkit")
