"""Ways in: TLS, SASL, SSH, programs, rules. C virsh and ours against our daemon, ours against C libvirtd.

What is let in is the smaller part: each wall is tried by those whom it has to stop.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import namespaces
from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd
from support.pki import Authority

C_VIRSH = "/usr/bin/virsh"
OURS = str(BIN / "virsh")
BOTH = pytest.mark.parametrize("virsh", [C_VIRSH, OURS], ids=["C", "ours"])

CONFIG = """\
listen_tls = "127.0.0.1:16514"
listen_tcp = "127.0.0.1:16509"
auth_unix_ro = "sasl"
tls_ca = "{pki}/cacert.pem"
tls_cert = "{pki}/server.pem"
tls_key = "{pki}/server.key"
tls_allowed = ["C=GB,O=Test,CN=*"]
socket_mode = "0777"
keepalive_interval = 1

[[access]]
who = "cert:*,CN=alice"
may = "*"

[[access]]
who = "cert:*,CN=bob"
may = ["connect:getattr", "connect:read", "connect:search-domains", "domain:getattr"]

[[access]]
who = "sasl:carol"
may = ["connect:*", "*:read", "*:getattr"]

[[access]]
who = ["user:daemon", "group:4712"]
may = ["connect:*", "domain:getattr", "domain:read", "domain:start", "network:getattr"]
"""

DOMAIN = """\
<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os></domain>
"""


class Site:
    """Our daemon with every door, and certificates of every kind."""

    def __init__(self, root: Path) -> None:
        self.pki = Authority(root / "pki")
        self.pki.issue("server", "/CN=far", usage="serverAuth", alt="DNS:localhost,IP:127.0.0.1")
        self.other = Authority(root / "other", "Other CA")
        self.clients = {
            "alice": self.pki.client("alice", "/C=GB/O=Test/CN=alice"),
            "bob": self.pki.client("bob", "/C=GB/O=Test/CN=bob"),
            "stranger": self.pki.client("stranger", "/C=GB/O=Test/CN=stranger"),
            "elsewhere": self.pki.client("elsewhere", "/C=GB/O=Else/CN=alice"),
            "forged": self.other.client("forged", "/C=GB/O=Test/CN=alice", ca=self.pki.ca),
            "old": self.pki.client("old", "/C=GB/O=Test/CN=alice", days=-1),
            "distrustful": self.pki.client("distrustful", "/C=GB/O=Test/CN=alice", ca=self.other.ca),
        }
        bare = self.clients["none"] = self.pki.folder / "none.pki"
        bare.mkdir()
        (bare / "cacert.pem").write_bytes(self.pki.ca.read_bytes())
        self.root = root / "d"
        (self.root / "etc").mkdir(parents=True)
        self.config = self.root / "etc/guesthoused.toml"
        self.config.write_text(CONFIG.format(pki=self.pki.folder))
        for name in ("carol", "dave"):
            subprocess.run(
                [BIN / "guesthoused", "--root", self.root, "--passwd", name], input=b"open sesame\n", check=True
            )
        self.daemon = Guesthoused(self.root)

    def log(self) -> str:
        return (self.root / "log/guesthoused.log").read_text()

    def virsh(
        self, virsh: str, uri: str, *args: str, env: dict[str, str] | None = None, stdin: str = "", user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        argv = [virsh, "-c", uri, *args]
        if user:
            argv = ["setpriv", *shlex.split(user), *argv]
        return subprocess.run(
            self.daemon.ns.command(argv),
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
            env={**os.environ, **(env or {})},
        )

    def tls(
        self, virsh: str, client: str, *args: str, host: str = "localhost", more: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.virsh(virsh, f"qemu+tls://{host}/system?pkipath={self.clients[client]}{more}", *args)

    def reload(self, text: str) -> None:
        before = self.log().count("again")
        self.config.write_text(text)
        os.kill(self.daemon.pid, signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.log().count("again") == before:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = namespaces.reachable(tmp_path_factory.mktemp("ways"))
    made = Site(root)
    try:
        file = root / "guest.xml"
        file.write_text(DOMAIN)
        assert made.daemon.run("define", str(file)).returncode == 0
        yield made
    finally:
        made.daemon.close()


# -- TLS


def turned_away(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a virsh did not get in. C virsh may die of saying goodbye to who has closed already."""
    return done.returncode == -signal.SIGPIPE or (
        done.returncode == 1 and "failed to connect to the hypervisor" in done.stderr
    )


@BOTH
def test_tls_lets_in_who_is_known(site: Site, virsh: str) -> None:
    done = site.tls(virsh, "alice", "list", "--all", "--name")
    assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
    assert site.tls(virsh, "alice", "uri", host="127.0.0.1").returncode == 0
    assert "<name>guest</name>" in site.tls(virsh, "alice", "dumpxml", "guest").stdout
    # a large answer comes in many records
    big = site.tls(virsh, "alice", "capabilities")
    assert big.stdout == site.daemon.run("capabilities").stdout
    # and a stream goes both ways
    volume = site.root / "data"
    volume.write_bytes(os.urandom(3_000_000))
    pool = [
        ["pool-define-as", "p", "dir", "--target", str(site.root / "pool")],
        ["pool-build", "p"],
        ["pool-start", "p"],
    ]
    for words in [
        *pool,
        ["vol-create-as", "p", "v", "3000000"],
        ["vol-upload", "v", str(volume), "p"],
        ["vol-download", "v", f"{volume}.back", "p"],
    ]:
        done = site.tls(virsh, "alice", *words)
        assert done.returncode == 0, (words, done.stderr)
    assert Path(f"{volume}.back").read_bytes() == volume.read_bytes()
    for words in (["vol-delete", "v", "p"], ["pool-destroy", "p"], ["pool-undefine", "p"]):
        assert site.tls(virsh, "alice", *words).returncode == 0


@BOTH
@pytest.mark.parametrize("client", ["none", "forged", "old", "elsewhere", "distrustful"])
def test_tls_keeps_out(site: Site, virsh: str, client: str) -> None:
    before = len(site.log())
    # C virsh looks at its own certificates first; here the daemon has to
    done = site.tls(virsh, client, "list", more="&no_sanity=1" if virsh == C_VIRSH else "")
    assert not done.stdout.strip() and turned_away(done), done.stderr
    said = {
        "none": "did not return a certificate",
        "forged": "unable to get local issuer certificate",
        "old": "certificate has expired",
        "elsewhere": "name is not in tls_allowed",
        "distrustful": "TLS handshake failed",
    }[client]
    if client == "distrustful" and virsh == C_VIRSH:  # it looks at the daemon's certificate after the handshake
        return
    assert said in site.log()[before:], site.log()[before:]
    if client == "elsewhere":
        assert "certificate 'C=GB,O=Else,CN=alice'" in site.log()[before:]


@BOTH
def test_tls_the_name_of_the_host_counts(site: Site, virsh: str) -> None:
    assert site.tls(virsh, "alice", "uri", host="127.0.0.2").returncode == 1
    assert site.tls(virsh, "alice", "uri", host="ip6-localhost").returncode == 1


def test_tls_no_verify_is_the_clients_own_choice(site: Site) -> None:
    done = site.tls(OURS, "distrustful", "uri")
    assert (done.returncode == 1 and "self" in done.stderr) or "certificate" in done.stderr
    assert site.tls(OURS, "distrustful", "uri", more="&no_verify=1").returncode == 0
    assert site.tls(OURS, "forged", "uri", more="&no_verify=1").returncode == 1
    missing = site.virsh(OURS, "qemu+tls://localhost/system?pkipath=/absent", "uri")
    assert missing.stderr == site.virsh(C_VIRSH, "qemu+tls://localhost/system?pkipath=/absent", "uri").stderr


@BOTH
def test_tls_rules_by_certificate(site: Site, virsh: str) -> None:
    assert site.tls(virsh, "bob", "list", "--all", "--name").stdout.split() == ["guest"]
    assert site.tls(virsh, "bob", "capabilities").returncode == 0
    for words in (
        ["start", "guest"],
        ["dumpxml", "guest"],
        ["undefine", "guest"],
        ["net-list"],
        ["pool-list"],
        ["nodecpumap"],
    ):
        done = site.tls(virsh, "bob", *words)
        if words == ["nodecpumap"]:
            assert done.returncode == 0
            continue
        assert done.returncode == 1 and "denied access" in done.stderr, (words, done.stderr)
    before = len(site.log())
    done = site.tls(virsh, "stranger", "list")
    assert done.returncode == 1 and "error: access denied: 'QEMU' denied access" in done.stderr
    assert "connect_open needs connect:getattr: from 127.0.0.1:" in site.log()[before:]
    assert "certificate 'C=GB,O=Test,CN=stranger'" in site.log()[before:]


def test_tls_before_the_handshake_nothing_is_said(site: Site) -> None:
    """Plain protocol on the TLS port, TLS on the plain one, and half a handshake that never goes on."""
    code = """if True:
        import socket, ssl, struct, sys
        call = struct.pack(">IIIiIIi", 28, 0x20008086, 1, 66, 0, 0, 0)
        s = socket.create_connection(("127.0.0.1", 16514)); s.settimeout(5); s.sendall(call)
        said = s.recv(100); assert not said or said[0] == 21, said  # a TLS alert
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            t = context.wrap_socket(socket.create_connection(("127.0.0.1", 16514)))
            t.settimeout(5); t.sendall(call)
            said = t.recv(100)  # TLS 1.3: the client learns late that it was not let in
        except (ssl.SSLError, ConnectionError):
            said = b""
        assert said == b"", said
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); old.check_hostname = False; old.verify_mode = ssl.CERT_NONE
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        try:
            old.wrap_socket(socket.create_connection(("127.0.0.1", 16514)))
            sys.exit("TLS 1.1 was taken")
        except (ssl.SSLError, ConnectionError):
            pass"""
    done = subprocess.run(
        site.daemon.ns.command([sys.executable, "-W", "ignore", "-c", code]), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_tls_from_asyncio(site: Site) -> None:
    code = f"""if True:
        import asyncio
        from guesthouse.client import aio
        async def work():
            async with aio.connect("qemu+tls://localhost/system?pkipath={site.clients["alice"]}", keepalive_interval=0.2) as conn:
                texts = await asyncio.gather(*[conn.get_capabilities() for _ in range(20)])
                assert len(set(texts)) == 1
                await asyncio.sleep(0.5)
                print((await conn.list_all_domains())[0].name)
            async with aio.connect("qemu+tcp://localhost/system", ask=lambda kind, prompt: {{"name": "carol", "password": "open sesame"}}[kind]) as conn:
                print((await conn.list_all_domains())[0].name)
        asyncio.run(work())"""
    done = subprocess.run(
        site.daemon.ns.command([sys.executable, "-c", code]), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "guest\nguest\n", done.stderr


# -- SASL


def auth_file(folder: Path, name: str, password: str) -> Path:
    file = folder / f"auth-{name}-{password.replace(' ', '')}.conf"
    file.write_text(f"[credentials-x]\nauthname={name}\npassword={password}\n[auth-libvirt-default]\ncredentials=x\n")
    return file


@BOTH
def test_sasl_on_the_unix_socket(site: Site, virsh: str, tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={site.root}/run/libvirt-sock-ro"
    good = {"LIBVIRT_AUTH_FILE": str(auth_file(tmp_path, "carol", "open sesame"))}
    done = site.virsh(virsh, uri, "-r", "list", "--all", "--name", env=good)
    assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
    done = site.virsh(virsh, uri, "-r", "start", "guest", env=good)
    assert done.returncode == 1 and "read only access prevents" in done.stderr
    for name, password in (("carol", "wrong"), ("nobody", "open sesame"), ("carol", "open sesame ")):
        bad = {"LIBVIRT_AUTH_FILE": str(auth_file(tmp_path, name, password))}
        if password.endswith(" "):
            Path(bad["LIBVIRT_AUTH_FILE"]).write_text("")
        before = len(site.log())
        done = site.virsh(virsh, uri, "-r", "list", env=bad, stdin="carol\nclose sesame\n")
        assert done.returncode == 1 and "authentication failed" in done.stderr, done.stderr
        assert "authentication failed: pid" in site.log()[before:]


def test_sasl_over_tcp(site: Site, tmp_path: Path) -> None:
    uri = "qemu+tcp://localhost/system"
    good = auth_file(tmp_path, "carol", "open sesame")
    done = site.virsh(OURS, f"{uri}?authfile={good}", "list", "--all", "--name")
    assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
    # asked for; the name may be in the URI
    done = site.virsh(OURS, uri, "uri", stdin="carol\nopen sesame\n")
    assert "Please enter your authentication name: Please enter your password: " in done.stdout and done.returncode == 0
    done = site.virsh(OURS, "qemu+tcp://carol@localhost/system", "uri", stdin="open sesame\n")
    assert done.returncode == 0 and done.stdout.startswith("Please enter your password: ")
    for stdin, error in (
        ("carol\nx\n", "authentication failed: authentication failed"),
        ("", "no name and password for 'localhost'"),
    ):
        done = site.virsh(OURS, uri, "list", stdin=stdin)
        assert done.returncode == 1 and error in done.stderr, done.stderr
    # a user that no row names does not get far; one that is named may do what that says
    dave = auth_file(tmp_path, "dave", "open sesame")
    assert "access denied: 'QEMU' denied access" in site.virsh(OURS, f"{uri}?authfile={dave}", "list").stderr
    for words in (
        ["start", "guest"],
        ["undefine", "guest"],
        ["net-create", "/dev/null"],
        ["dumpxml", "--security-info", "guest"],
    ):
        done = site.virsh(OURS, f"{uri}?authfile={good}", *words)
        assert done.returncode == 1, words
        assert "denied access" in done.stderr or words[0] == "net-create", (words, done.stderr)
    # C virsh wants encryption, which SCRAM has not: it does not even begin
    refused = site.virsh(C_VIRSH, f"{uri}?authfile={good}", "list")
    assert refused.returncode == 1 and "SASL" in refused.stderr
    done = site.virsh(OURS, f"{uri}?authfile=/absent", "list")
    assert done.returncode == 1 and "cannot read '/absent'" in done.stderr


def test_sasl_through_tls_and_what_is_revoked(site: Site, tmp_path: Path) -> None:
    """Certificate and password both; C virsh takes SCRAM here, where TLS encrypts."""
    pki = site.pki
    gone = pki.client("gone", "/C=GB/O=Test/CN=gone")
    crl = pki.revoke(gone / "clientcert.pem")
    root = namespaces.reachable(tmp_path) / "d"
    (root / "etc").mkdir(parents=True)
    files = "".join(
        f'tls_{key} = "{pki.folder}/{name}"\n'
        for key, name in (("ca", "cacert.pem"), ("cert", "server.pem"), ("key", "server.key"))
    )
    (root / "etc/guesthoused.toml").write_text(
        f'listen_tls = "[::]:16514"\nauth_tls = "sasl"\n{files}tls_crl = "{crl}"\n'
        '[[access]]\nwho = "cert:*,CN=alice"\nmay = ["connect:*"]\n[[access]]\nwho = "sasl:carol"\nmay = ["domain:getattr"]\n'
    )
    subprocess.run([BIN / "guesthoused", "--root", root, "--passwd", "carol"], input=b"open sesame\n", check=True)
    daemon = Guesthoused(root)
    try:
        assert daemon.run("define", str(site.root.parent / "guest.xml")).returncode == 0
        for virsh in (C_VIRSH, OURS):

            def run(client: Path, password: str, *words: str, virsh: str = virsh) -> subprocess.CompletedProcess[str]:
                file = auth_file(tmp_path, "carol", password)
                uri = f"qemu+tls://localhost/system?pkipath={client}&authfile={file}"
                argv = daemon.ns.command([virsh, "-c", uri, *words])
                return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

            alice = site.clients["alice"]
            done = run(alice, "open sesame", "list", "--all", "--name")
            assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
            assert "denied access" in run(alice, "open sesame", "start", "guest").stderr
            wrong = run(alice, "wrong", "list")
            assert wrong.returncode == 1 and "authentication failed" in wrong.stderr
            # the password alone does not make it, nor does a certificate that was taken back
            assert "denied access" in run(site.clients["bob"], "open sesame", "list").stderr
            before = len((root / "log/guesthoused.log").read_text())
            assert turned_away(run(gone, "open sesame", "list"))
            assert "certificate revoked" in (root / "log/guesthoused.log").read_text()[before:]
            assert turned_away(run(site.clients["none"], "open sesame", "list"))
    finally:
        daemon.close()


def test_passwords_are_kept_out_of_everything(site: Site) -> None:
    for file in [site.root / "etc/sasl.passwd", site.root / "log/guesthoused.log"]:
        assert "sesame" not in file.read_text()
    assert (site.root / "etc/sasl.passwd").stat().st_mode & 0o777 == 0o600
    done = subprocess.run([BIN / "guesthoused", "--root", site.root, "--passwd-remove", "nobody"], capture_output=True)
    assert done.returncode == 1 and b"there is no SASL user 'nobody'" in done.stderr


# -- rules for the users of this host


@BOTH
@pytest.mark.parametrize(
    "user", ["--reuid=daemon --regid=4711 --clear-groups", "--reuid=4711 --regid=4711 --groups=4712"]
)
def test_rules_by_user_and_by_group(site: Site, virsh: str, user: str) -> None:
    site.root.chmod(0o755)
    uri = site.daemon.uri
    env = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    if (
        virsh == OURS
        and subprocess.run(["setpriv", *shlex.split(user), OURS, "--version"], capture_output=True).returncode
    ):
        pytest.skip("other users may not enter this checkout")
    done = site.virsh(virsh, uri, "list", "--all", "--name", user=user, env=env)
    assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
    # networks may be searched; the list shows those that may be seen; pools may not be seen
    assert "default" not in site.virsh(virsh, uri, "pool-list", "--all", user=user, env=env).stdout
    assert site.virsh(virsh, uri, "dumpxml", "guest", user=user, env=env).returncode == 0
    for words in (
        ["undefine", "guest"],
        ["dumpxml", "--security-info", "guest"],
        ["desc", "guest", "x"],
        ["destroy", "guest"],
    ):
        done = site.virsh(virsh, uri, *words, user=user, env=env)
        assert done.returncode == 1 and "denied access" in done.stderr, (words, done.stderr)
    outsider = site.virsh(virsh, uri, "list", user="--reuid=4711 --regid=4711 --clear-groups", env=env)
    assert outsider.returncode == 1 and "access denied" in outsider.stderr, outsider.stderr


def test_rules_are_read_again_and_a_wrong_file_changes_nothing(site: Site) -> None:
    text = site.config.read_text()
    try:
        site.reload(text.replace("CN=bob", "CN=nobody"))
        assert "denied access" in site.tls(C_VIRSH, "bob", "list").stderr
        site.config.write_text(text.replace('may = "*"', 'may = "domain:fly"'))
        os.kill(site.daemon.pid, signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "there is no permission 'domain:fly'" not in site.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert site.tls(C_VIRSH, "alice", "list").returncode == 0
        assert "denied access" in site.tls(C_VIRSH, "bob", "list").stderr
        # a certificate that is not let in any more
        site.reload(text.replace('tls_allowed = ["C=GB,O=Test,CN=*"]', 'tls_allowed = ["C=GB,O=Test,CN=bob"]'))
        assert turned_away(site.tls(C_VIRSH, "alice", "list")) and site.tls(C_VIRSH, "bob", "list").returncode == 0
    finally:
        site.reload(text)
    assert site.tls(C_VIRSH, "alice", "list").returncode == 0


# -- our client against C libvirtd


LIBVIRTD_CONF = """\
listen_tls = 1
listen_tcp = 1
listen_addr = "127.0.0.1"
auth_unix_ro = "sasl"
auth_tcp = "none"
auth_tls = "{auth}"
ca_file = "{pki}/cacert.pem"
cert_file = "{pki}/server.pem"
key_file = "{pki}/server.key"
tls_allowed_dn_list = ["C=GB,O=Test,CN=alice"]
"""


@pytest.mark.parametrize("auth", ["none", "sasl"])
def test_into_c_libvirtd(site: Site, tmp_path: Path, auth: str) -> None:
    folder = namespaces.reachable(tmp_path)
    (folder / "sasl").mkdir()
    database = folder / "sasl/libvirt.db"
    (folder / "sasl/libvirt.conf").write_text(f"mech_list: scram-sha-256\nsasldb_path: {database}\n")
    subprocess.run(["saslpasswd2", "-p", "-a", "libvirt", "-f", database, "carol"], input=b"open sesame", check=True)
    conf = LIBVIRTD_CONF.format(pki=site.pki.folder, auth=auth)
    mount = f"mkdir -p /etc/sasl2; mount --bind {folder}/sasl /etc/sasl2\n"
    daemon = Libvirtd(folder / "d", conf=conf, listen=True, prepare=mount)
    try:

        def run(uri: str, *words: str, virsh: str = OURS, stdin: str = "") -> subprocess.CompletedProcess[str]:
            argv = daemon.ns.command([virsh, "-c", uri, *words])
            return subprocess.run(argv, capture_output=True, text=True, timeout=60, input=stdin)

        good, bad = auth_file(folder, "carol", "open sesame"), auth_file(folder, "carol", "wrong")
        for client, works in (
            ("alice", True),
            ("bob", False),
            ("none", False),
            ("forged", False),
            ("distrustful", False),
        ):
            uri = f"qemu+tls://localhost/system?pkipath={site.clients[client]}&authfile={good}"
            done = run(uri, "version")
            assert done.returncode == (0 if works else 1), (client, done.stderr)
            if works:
                assert done.stdout == run(uri, "version", virsh=C_VIRSH).stdout
            else:
                assert "failed to connect to the hypervisor" in done.stderr
        uri = f"qemu+tls://localhost/system?pkipath={site.clients['alice']}&authfile="
        if auth == "sasl":
            wrong = run(f"{uri}{bad}", "version")
            assert wrong.returncode == 1 and "error: authentication failed: authentication failed" in wrong.stderr
            assert run(f"{uri}{good}&auth=sasl.scram-sha-256", "version").returncode == 0
            other = run(f"{uri}{good}&auth=polkit", "version")
            assert "authentication failed: requested authentication type polkit rejected" in other.stderr
            return
        assert run("qemu+tcp://localhost/system", "version").returncode == 0
        readonly = f"qemu+unix:///system?socket={daemon.root}/run/libvirt-sock-ro&authfile="
        assert run(f"{readonly}{good}", "-r", "version").returncode == 0
        assert run(f"{readonly}{bad}", "-r", "version").returncode == 1
        asked = run(readonly.removesuffix("&authfile="), "-r", "version", stdin="carol\nopen sesame\n")
        assert asked.returncode == 0, asked.stderr
    finally:
        daemon.close()


# -- programs and SSH


def test_ext_and_a_program_in_the_place_of_ssh(site: Site, tmp_path: Path) -> None:
    """The command that ssh gets is run here by a shell, as the far side would."""
    far = tmp_path / "far"
    far.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\n" "$word" >>{tmp_path}/words; done\nfor last; do :; done\nPATH={BIN}:$PATH exec sh -c "$last"\n'
    )
    far.chmod(0o755)
    sock = f"{site.root}/run/libvirt-sock"
    direct = tmp_path / "direct"
    direct.write_text(f"#!/bin/sh\nexec {BIN}/virt-ssh-helper 'qemu+unix:///system?socket={sock}'\n")
    direct.chmod(0o755)
    for virsh in (OURS, C_VIRSH):
        done = site.virsh(virsh, f"qemu+ext:///system?command={direct}", "list", "--all", "--name")
        assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
    # this daemon's socket is not where a helper looks by itself, so it is put there, in the daemon's namespaces
    run = "mkdir -p /run/libvirt && mount -t tmpfs tmpfs /run/libvirt"
    site.daemon.ns.run("sh", "-c", f"{run} && ln -s {sock} {sock}-ro /run/libvirt/")
    netcat = tmp_path / "nc"
    netcat.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "if '-U' not in sys.argv: sys.exit('nc: option requires an argument')\n"
        f"assert sys.argv[1] == '-q0'\n"
        "from guesthouse.cli.ssh_helper import main\nsys.exit(main([f'qemu+unix:///system?socket={sys.argv[-1]}']))\n"
    )
    netcat.chmod(0o755)
    for virsh in (OURS, C_VIRSH):
        for more in (
            "",
            "&proxy=native",
            f"&proxy=netcat&netcat={netcat}",
            f"&netcat={netcat}&socket={sock}&proxy=netcat",
            "&mode=legacy" if virsh == OURS else "",
        ):
            done = site.virsh(
                virsh,
                f"qemu+ssh://me@far:2222/system?command={far}&keyfile=/k&no_verify=1&no_tty=1{more}",
                "list",
                "--all",
                "--name",
            )
            assert (done.returncode, done.stdout.split()) == (0, ["guest"]), (virsh, more, done.stderr)
    done = site.virsh(
        OURS, f"qemu+ssh://far/system?command={far}", "-r", "undefine", "guest", stdin="carol\nopen sesame\n"
    )
    assert done.returncode == 1 and "read only access prevents" in done.stderr
    (tmp_path / "words").unlink()
    words = []
    for virsh in (OURS, C_VIRSH):
        uri = f"qemu+ssh://me@far:2222/system?command={far}&keyfile=/k&no_verify=1&no_tty=1&proxy=native"
        assert site.virsh(virsh, uri, "uri").returncode == 0
        words.append((tmp_path / "words").read_text().splitlines()[:-1])
        (tmp_path / "words").unlink()
    assert sorted(words[0]) == sorted(words[1]) and words[0][-4:] == ["-e", "none", "--", "far"]


def test_what_a_program_says_when_it_fails(site: Site, tmp_path: Path) -> None:
    silent, loud = tmp_path / "silent", tmp_path / "loud"
    silent.write_text("#!/bin/sh\ncat >/dev/null &\nexit 1\n")
    loud.write_text("#!/bin/sh\necho no way in >&2\nexit 1\n")
    for file in (silent, loud):
        file.chmod(0o755)
    for uri, error in (
        (f"qemu+ext:///system?command={loud}", "error: Cannot recv data: no way in: Connection reset by peer"),
        ("qemu+ext:///system?command=/absent", "error: cannot run '/absent': No such file or directory"),
        ("qemu+ext:///system", "error: invalid argument: remote_open: for 'ext' transport, command is required"),
        ("qemu+ssh://h/system?mode=x", "error: invalid argument: Unknown remote mode 'x'"),
        ("qemu+ssh://h/system?proxy=x", "error: invalid argument: Unknown proxy type 'x'"),
        ("qemu+libssh://h/system", "error: this function is not supported by the connection driver: libssh transport"),
        (
            "qemu+libssh2://h/system",
            "error: this function is not supported by the connection driver: libssh2 transport",
        ),
        (
            "qemu+smoke://h/system",
            "remote_open: transport in URL not recognised (should be tls|unix|ssh|ext|tcp|libssh2|",
        ),
        ("qemu+tcp://h:x/system", "error: invalid argument: malformed URI"),
        ("qemu+tls://[::1/system", "error: invalid argument: malformed URI"),
        ("qemu+tcp://127.0.0.1:1/system", "error: unable to connect to server at '127.0.0.1:1': Connection refused"),
    ):
        done = site.virsh(OURS, uri, "list")
        assert done.returncode == 1 and error in done.stderr, (uri, done.stderr)
    helper = str(BIN / "virt-ssh-helper")
    for argv, code in (
        ([helper], 2),
        ([helper, "qemu+tcp://localhost/system"], 1),
        ([helper, "qemu+unix:///system?socket=/absent"], 1),
    ):
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == code and "virt-ssh-helper: " in done.stderr, done


def test_ssh_for_real(site: Site, tmp_path: Path) -> None:
    """A real sshd on loopback in the daemon's namespaces: key accepted, key refused, unknown host refused."""
    folder = namespaces.reachable(tmp_path)
    for name in ("host", "good", "bad"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "good.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:2222\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nPidFile none\n"
        "UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv PATH={BIN}:/usr/bin:/bin\n"
    )
    site.daemon.ns.run(
        "sh", "-c", "mkdir -p /run/sshd; mountpoint -q /run/libvirt || mount --mkdir -t tmpfs tmpfs /run/libvirt"
    )
    for name in ("libvirt-sock", "libvirt-sock-ro"):
        site.daemon.ns.run("ln", "-sf", f"{site.root}/run/{name}", "/run/libvirt/")
    pid = site.daemon.ns.spawn(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.log")
    known, log = folder / "known", folder / "sshd.log"
    command = folder / "ssh"
    command.write_text(f'#!/bin/sh\nexec ssh -F none -o UserKnownHostsFile={known} -o IdentitiesOnly=yes "$@"\n')
    command.chmod(0o755)

    def uri(key: str, more: str = "") -> str:
        return f"qemu+ssh://root@127.0.0.1:2222/system?command={command}&keyfile={folder}/{key}&no_tty=1{more}"

    try:
        deadline = time.monotonic() + 10
        while "listening" not in (log.read_text() if log.exists() else ""):
            assert namespaces.alive(pid) and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        for virsh in (OURS, C_VIRSH):
            unknown = site.virsh(virsh, uri("good"), "list")
            assert unknown.returncode == 1 and "Host key verification failed" in unknown.stderr, unknown.stderr
            refused = site.virsh(virsh, uri("bad", "&no_verify=1"), "list")
            assert refused.returncode == 1 and "Permission denied" in refused.stderr, refused.stderr
            known.unlink()
        known.write_text("[127.0.0.1]:2222 " + (folder / "host.pub").read_text())
        for virsh in (OURS, C_VIRSH):
            done = site.virsh(virsh, uri("good"), "list", "--all", "--name")
            assert (done.returncode, done.stdout.split()) == (0, ["guest"]), done.stderr
            # much both ways
            assert site.virsh(virsh, uri("good"), "capabilities").stdout == site.daemon.run("capabilities").stdout
        # nothing stays behind at the far side
        deadline = time.monotonic() + 10
        while (
            "virt-ssh-helper"
            in subprocess.run(["ps", "-eo", "args", "--ppid", str(pid)], capture_output=True, text=True).stdout
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        namespaces.end(pid)


# -- the daemon's own administration


def test_a_daemon_ends_when_its_administrator_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    daemon = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("ends")) / "root")
    try:
        uri = f"libvirtd+unix:///system?socket={daemon.root}/run/libvirt-admin-sock"
        for seconds in ("3600", "0", "1"):
            argv = daemon.ns.command(["/usr/bin/virt-admin", "-c", uri, "daemon-timeout", "--timeout", seconds])
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
            assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 20
        while daemon.socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "nobody has needed this daemon for 1 s" in (daemon.root / "log/guesthoused.log").read_text()
    finally:
        daemon.close()


def test_virt_admin(site: Site, tmp_path: Path) -> None:
    """Debian's virt-admin against ours, and what it says of libvirtd where that is the same."""
    admin_uri = f"libvirtd+unix:///system?socket={site.root}/run/libvirt-admin-sock"

    def admin(*words: str, user: str = "") -> subprocess.CompletedProcess[str]:
        return site.virsh("/usr/bin/virt-admin", admin_uri, *words, user=user)

    assert admin("srv-list").stdout.split() == ["Id", "Name", "----------------", "0", "libvirtd", "1", "admin"]
    assert "Running against daemon: 9.0.0" in admin("version").stdout
    uris = {
        "tls": f"qemu+tls://localhost/system?pkipath={site.clients['alice']}",
        "tcp": "qemu+tcp://carol@localhost/system",
        "unix": site.daemon.uri,
        "ro": f"qemu+unix:///system?socket={site.root}/run/libvirt-sock-ro",
    }
    running = {}
    try:
        for name, uri in uris.items():
            argv = [OURS, "-c", uri, *(["-r"] if name == "ro" else []), "event", "--event", "lifecycle", "--loop"]
            running[name] = subprocess.Popen(
                site.daemon.ns.command(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            stdin = running[name].stdin
            assert stdin is not None
            stdin.write({"tcp": "open sesame\n", "ro": "carol\nopen sesame\n"}.get(name, ""))
            stdin.flush()
            deadline = time.monotonic() + 20
            while len(admin("client-list", "libvirtd").stdout.splitlines()) < 3 + len(running):
                assert time.monotonic() < deadline and running[name].poll() is None, (
                    name,
                    admin("client-list", "libvirtd"),
                    site.log()[-3000:],
                )
        rows = [line.split() for line in admin("client-list", "libvirtd").stdout.splitlines()[2:] if line]
        assert [row[1] for row in rows] == ["tls", "tcp", "unix", "unix"]
        told = [
            dict(
                (word.strip() for word in line.split(":", 1))
                for line in admin("client-info", "libvirtd", row[0]).stdout.splitlines()
                if line
            )
            for row in rows
        ]
        assert told[0]["tls_x509_dname"] == "C=GB,O=Test,CN=alice" and told[0]["sock_addr"].startswith("127.0.0.1:")
        deadline = time.monotonic() + 10
        while told[1].get("sasl_user_name") != "carol":  # it is about to log in
            assert time.monotonic() < deadline
            text = admin("client-info", "libvirtd", rows[1][0]).stdout
            told[1] = dict((word.strip() for word in line.split(":", 1)) for line in text.splitlines() if line)
        assert (told[2]["unix_user_name"], told[2]["unix_group_id"], told[2]["readonly"]) == ("root", "0", "no")
        assert told[3]["readonly"] == "yes" and "unix_process_id" in told[3]
        limits = admin("srv-clients-info", "libvirtd").stdout
        assert "nclients_max        : 5000\nnclients            : 4\nnclients_unauth_max : 20\n" in limits
        # one is put out, the others stay
        assert admin("client-disconnect", "libvirtd", rows[2][0]).stdout == f"Client '{rows[2][0]}' disconnected\n"
        assert len(admin("client-list", "libvirtd").stdout.splitlines()) == 2 + 3 + 1
        for words, error in (
            (["client-list", "nope"], "error: Server not found: No server named 'nope'"),
            (["client-info", "libvirtd", "99999"], "error: Client not found: No client with matching ID '99999'"),
            (["client-info", "admin", rows[0][0]], "error: Client not found"),
            (
                ["srv-clients-set", "libvirtd", "--max-clients", "7"],
                "error: invalid argument: The overall maximum number",
            ),
            (["daemon-log-filters", "x:y"], "error: invalid argument: Invalid priority 'x' for filter 'x:y'"),
            (
                ["daemon-log-outputs", "1:foo"],
                "error: invalid argument: Invalid log destination 'foo' for log output '1:foo'",
            ),
            (["daemon-log-outputs", "1:file:/etc/passwd"], "error: invalid argument: the daemon writes to"),
            (["server-update-tls", "admin"], "error: internal error: no tls service found, unable to update tls files"),
            (
                ["srv-threadpool-set", "libvirtd", "--min-workers", "90"],
                "error: invalid argument: minWorkers cannot be larger than maxWorkers",
            ),
            (
                ["srv-threadpool-set", "libvirtd", "--max-workers", "0"],
                "error: invalid argument: maxWorkers must not be switched from zero to non-zero and vice versa",
            ),
            (["srv-threadpool-set", "admin", "--priority-workers", "3"], "parameter 'prioWorkers' not supported"),
            (["srv-threadpool-info", "nope"], "error: Server not found: No server named 'nope'"),
        ):
            done = admin(*words)
            assert done.returncode == 1 and error in done.stderr, (words, done.stderr)
        assert admin("srv-clients-set", "libvirtd", "--max-clients", "70", "--max-unauth-clients", "3").returncode == 0
        assert "nclients_max        : 70\n" in admin("srv-clients-info", "libvirtd").stdout
        assert "maxWorkers     : 20\n" in admin("srv-threadpool-info", "libvirtd").stdout
        assert admin("srv-threadpool-set", "libvirtd", "--max-workers", "3").returncode == 0
        assert site.tls(C_VIRSH, "alice", "capabilities").returncode == 0  # which asks other programs, in a thread
        shown = admin("srv-threadpool-info", "libvirtd").stdout.replace(" ", "").split()
        figures = dict(line.split(":") for line in shown)
        assert figures["maxWorkers"] == "3" and figures["minWorkers"] == figures["prioWorkers"] == "0"
        assert 1 <= int(figures["nWorkers"]) <= 3 and figures["freeWorkers"] == figures["nWorkers"]
        assert figures["jobQueueDepth"] == "0"
        assert admin("srv-threadpool-set", "libvirtd", "--max-workers", "20").returncode == 0
        log = f"file:{site.root}/log/guesthoused.log"
        assert admin("daemon-log-outputs").stdout == f" Logging outputs: 2:{log}\n\n"
        assert admin("daemon-log-outputs", f"3:{log}").returncode == 0
        assert admin("daemon-log-outputs").stdout == f" Logging outputs: 3:{log}\n\n"
        assert admin("daemon-log-filters", "1:daemon 4:qemu").returncode == 0
        assert admin("daemon-log-filters").stdout == " Logging filters: 1:daemon 4:qemu\n\n"
        assert admin("server-update-tls", "libvirtd").returncode == 0
        assert site.tls(C_VIRSH, "alice", "list").returncode == 0
        # and nobody but root
        done = admin("srv-list", user="--reuid=daemon --regid=4711 --clear-groups")
        assert done.returncode == 1 and "Permission denied" in done.stderr
        assert (site.root / "run/libvirt-admin-sock").stat().st_mode & 0o777 == 0o700
    finally:
        for client in running.values():
            client.kill()
            client.communicate()
        site.reload(site.config.read_text())
        admin("daemon-log-filters", "")
    assert "nclients_max        : 5000\n" in admin("srv-clients-info", "libvirtd").stdout
