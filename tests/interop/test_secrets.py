"""Secrets: one transcript of any virsh with any daemon; where their values are kept, and where they must never be."""

from __future__ import annotations

import base64
import os
import pty
import re
import subprocess
import time
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.errors import InvalidArg, InvalidSecret, NoSecret
from support import lines, namespaces
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable

_UUID = "f52a81b2-424e-490c-823d-6bd4235bc5"
NONE, TLS, CEPH, ISCSI, VTPM, EPHEMERAL, VOLUME = (f"{_UUID}{number}" for number in range(70, 77))


def _secret(uuid: str, usage: str = "", *, attributes: str = "", more: str = "") -> str:
    return f"<secret {attributes}><uuid>{uuid}</uuid>{usage}{more}</secret>"


def _usage(kind: str, tag: str, name: str) -> str:
    return f"<usage type='{kind}'><{tag}>{name}</{tag}></usage>"


FILES: dict[str, str | bytes] = {
    "none.xml": _secret(NONE, "<usage type='none'/>", more="<description>d &amp; e</description>"),
    "tls.xml": _secret(TLS, _usage("tls", "name", "mumblyfratz")),
    "private.xml": _secret(TLS, _usage("tls", "name", "mumblyfratz"), attributes="private='yes'"),
    "ceph.xml": _secret(CEPH, _usage("ceph", "name", "client.admin secret"), attributes="private='no'"),
    "other.xml": _secret(CEPH, _usage("ceph", "name", "other")),
    "taken.xml": _secret(f"{_UUID}79", _usage("ceph", "name", "client.admin secret")),
    "nouse.xml": _secret(CEPH),
    "newuse.xml": _secret(NONE, _usage("tls", "name", "x")),
    "iscsi.xml": _secret(ISCSI, _usage("iscsi", "target", "libvirtiscsi")),
    "vtpm.xml": _secret(VTPM, _usage("vtpm", "name", "VTPM_example")),
    "ephemeral.xml": _secret(EPHEMERAL, attributes="ephemeral='yes'"),
    "volume.xml": _secret(VOLUME, _usage("volume", "volume", "/images/it's.img"), attributes="ephemeral='no'"),
    "badusage.xml": "<secret><usage type='bogus'/></secret>",
    "nousage.xml": "<secret><usage/></secret>",
    **{
        f"no{kind}.xml": f"<secret><usage type='{kind}'/></secret>"
        for kind in ("volume", "ceph", "iscsi", "tls", "vtpm")
    },
    "badephemeral.xml": "<secret ephemeral='maybe'/>",
    "badprivate.xml": "<secret private='maybe'/>",
    "baduuid.xml": "<secret><uuid>xx</uuid></secret>",
    "notxml.xml": "<secret",
    "domain.xml": "<domain/>",
    "value": b"hello",
    "binary": bytes(range(256)),
    "base64": b"aGVs\nbG8=\n",
    "empty": b"",
    "full": b"x" * 1024,
    "big": b"x" * 1025,
}

LINES = f"""\
secret-list
secret-define {{work}}/none.xml
secret-define {{work}}/iscsi.xml
secret-define {{work}}/vtpm.xml
secret-define {{work}}/vtpm.xml
secret-define {{work}}/ephemeral.xml
secret-define {{work}}/tls.xml
secret-define {{work}}/ceph.xml --validate
secret-define {{work}}/volume.xml
secret-define {{work}}/taken.xml
secret-define {{work}}/other.xml
secret-define {{work}}/nouse.xml
secret-define {{work}}/newuse.xml
secret-define {{work}}/badusage.xml
secret-define {{work}}/nousage.xml
secret-define {{work}}/novolume.xml
secret-define {{work}}/noceph.xml
secret-define {{work}}/noiscsi.xml
secret-define {{work}}/notls.xml
secret-define {{work}}/novtpm.xml
secret-define {{work}}/badephemeral.xml
secret-define {{work}}/badprivate.xml
secret-define {{work}}/baduuid.xml
secret-define {{work}}/notxml.xml
secret-define {{work}}/domain.xml
secret-define {{work}}/absent.xml
secret-list
-q secret-list --ephemeral
secret-list --no-ephemeral
secret-list --private
secret-list --no-private --ephemeral
secret-dumpxml {NONE}
secret-dumpxml {TLS}
secret-dumpxml {CEPH}
secret-dumpxml {ISCSI}
secret-dumpxml {VTPM}
secret-dumpxml {EPHEMERAL}
secret-dumpxml {VOLUME}
secret-dumpxml {TLS} --xpath //name
secret-dumpxml {_UUID}ff
secret-dumpxml nonsense
-d 0 secret-dumpxml nonsense
secret-get-value {TLS}
secret-get-value {TLS} --plain
secret-set-value {TLS}
secret-set-value {TLS} aGVsbG8=
secret-get-value {TLS}
secret-get-value {TLS} --plain
secret-set-value {TLS} 'not base 64'
secret-get-value {TLS}
secret-set-value {TLS} %%%
secret-get-value {TLS}
secret-set-value {TLS} aGVsbG8
secret-get-value {TLS} --plain
secret-set-value {TLS} aG=sbG8h
secret-get-value {TLS}
secret-set-value {TLS} aGVs!bG8h
secret-get-value {TLS} --plain
secret-set-value {TLS} --base64 aGVsbG8h
-q secret-set-value {TLS} --file {{work}}/value
secret-get-value {TLS}
secret-set-value {TLS} --file {{work}}/value --plain
secret-get-value {TLS} --plain
secret-set-value {TLS} --file {{work}}/base64
secret-get-value {TLS} --plain
secret-set-value {TLS} --file {{work}}/binary --plain
secret-get-value {TLS}
secret-set-value {TLS} --file {{work}}/full --plain
secret-get-value {TLS}
secret-set-value {TLS} --file {{work}}/empty
secret-set-value {TLS} --file {{work}}/empty --plain
secret-set-value {TLS} --file {{work}}/big --plain
secret-set-value {TLS} --file {{work}}/absent --plain
secret-set-value {TLS} --file {{work}}
secret-set-value {TLS} --file {{work}}/value --interactive
secret-set-value {TLS} --file {{work}}/value aGVsbG8=
secret-set-value {TLS} --interactive aGVsbG8=
secret-set-value {TLS} --interactive --plain
secret-set-value {TLS} --plain hello
secret-set-value {TLS} ''
secret-set-value nonsense aGVsbG8=
secret-define {{work}}/private.xml
secret-get-value {TLS}
secret-set-value {TLS} aGVsbG8=
secret-define {{work}}/tls.xml
secret-dumpxml {TLS}
secret-get-value {EPHEMERAL}
secret-set-value {EPHEMERAL} aGVsbG8=
secret-define {{work}}/ephemeral.xml
secret-get-value {EPHEMERAL}
secret-undefine {EPHEMERAL}
secret-undefine {EPHEMERAL}
-q secret-undefine {VTPM}
secret-undefine nonsense
secret-undefine
-r secret-list
-r secret-get-value {TLS}
-r secret-set-value {TLS} aGVsbG8=
-r secret-define {{work}}/ephemeral.xml
-r secret-undefine {TLS}
secret-event
secret-event --list
secret-event --event bogus
secret-event --event lifecycle --timeout 1
secret-event --secret {TLS} --event value-changed --timeout 1
secret-undefine {NONE}
secret-undefine {TLS}
secret-undefine {CEPH}
secret-undefine {ISCSI}
secret-undefine {VOLUME}
secret-list
""".splitlines()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = reachable(tmp_path_factory.mktemp("secrets"))
    lines.write(folder, FILES)
    return folder


@pytest.fixture(scope="module")
def answers(c_libvirtd: Libvirtd, guesthoused: Guesthoused, work: Path) -> dict[tuple[str, str], list[lines.Answer]]:
    return lines.run_all(c_libvirtd, guesthoused, work, LINES)


@pytest.mark.parametrize("who", [("c", "ours"), ("ours", "c"), ("ours", "ours")], ids="-".join)
def test_daemon_and_virsh_say_the_same(
    answers: dict[tuple[str, str], list[lines.Answer]], who: tuple[str, str]
) -> None:
    lines.compare(LINES, answers["c", "c"], answers[who])


def _watch(daemon: Libvirtd | Guesthoused, program: str, *words: str) -> subprocess.Popen[str]:
    argv = daemon.ns.command([lines.PROGRAMS[program], "-c", daemon.uri, *words])
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _events(daemon: Libvirtd | Guesthoused, programs: list[str], work: Path) -> list[list[str]]:
    """What each program tells while a secret lives its life, beside another one."""
    options = ("--loop", "--timeout", "3")
    kinds = ("lifecycle", "value-changed")
    watchers = [
        [_watch(daemon, program, "secret-event", "--event", kind, *options) for kind in kinds] for program in programs
    ]
    time.sleep(1)
    for line in (
        f"secret-define {work}/tls.xml",
        f"secret-define {work}/ephemeral.xml",
        f"secret-set-value {TLS} aGVsbG8=",
        f"secret-set-value {EPHEMERAL} aGVsbG8=",
        f"secret-define {work}/tls.xml",
        f"secret-undefine {TLS}",
        f"secret-undefine {EPHEMERAL}",
    ):
        assert daemon.run(*line.split()).returncode == 0
    return [[watcher.communicate(timeout=30)[0] for watcher in each] for each in watchers]


def test_events_are_the_same(c_libvirtd: Libvirtd, guesthoused: Guesthoused, work: Path) -> None:
    want = _events(c_libvirtd, ["c"], work)[0]
    assert "events received: 5" in want[0] and "events received: 2" in want[1]
    assert _events(guesthoused, ["c", "ours"], work) == [want, want]


def test_a_value_typed_on_a_terminal(guesthoused: Guesthoused, work: Path) -> None:
    guesthoused.ours("secret-define", f"{work}/tls.xml")
    pid, terminal = pty.fork()
    if pid == 0:
        virsh = lines.PROGRAMS["ours"]
        os.execv(virsh, [virsh, "-c", guesthoused.uri, "secret-set-value", TLS, "--interactive"])
    seen = b""
    deadline = time.monotonic() + 20
    while b"Enter new value for secret:" not in seen and time.monotonic() < deadline:
        seen += os.read(terminal, 1000)
    time.sleep(0.3)  # the echo goes off after the prompt
    os.write(terminal, b"tiptop secret\n")
    try:
        while chunk := os.read(terminal, 1000):
            seen += chunk
    except OSError:
        pass  # the other side is closed
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"tiptop" not in seen and seen.split() == b"Enter new value for secret: Secret value set".split()
    assert guesthoused.run("secret-get-value", TLS, "--plain").stdout == "tiptop secret\n"
    guesthoused.ours("secret-undefine", TLS)


def test_what_outlives_the_daemon_and_where_values_are(tmp_path: Path) -> None:
    daemon = Guesthoused(reachable(tmp_path) / "root")
    try:
        with client.connect(daemon.uri) as conn:
            kept = conn.secret_define_xml(str(FILES["tls.xml"]))
            kept.set_value(b"sixteen tons of coal")
            gone = conn.secret_define_xml(str(FILES["ephemeral.xml"]))
            gone.set_value(b"never on any disk")
            turned = conn.secret_define_xml(str(FILES["iscsi.xml"]))
            turned.set_value(b"no longer on the disk")
            conn.secret_define_xml(str(FILES["iscsi.xml"]).replace("<secret ", "<secret ephemeral='yes' "))
            assert turned.get_value() == b"no longer on the disk"
            private = conn.secret_define_xml(str(FILES["private.xml"]).replace(TLS, VTPM).replace("mumblyfratz", "p"))
            private.set_value(b"for guests alone")
            with pytest.raises(InvalidSecret):
                private.get_value()
            assert conn.secret_lookup_by_usage(4, "mumblyfratz").uuid == TLS
            for usage in ((0, ""), (1, "mumblyfratz"), (4, "x")):
                with pytest.raises(NoSecret):
                    conn.secret_lookup_by_usage(*usage)
            assert conn.call("connect_num_of_secrets").num == 4
            assert conn.call("connect_list_secrets", maxuuids=2).uuids == sorted([TLS, VTPM, EPHEMERAL, ISCSI])[:2]
            with pytest.raises(InvalidArg):
                kept.get_value(flags=1)
        namespaces.end(daemon.pid)
        database = daemon.root / "lib/guesthouse.db"
        assert database.stat().st_mode & 0o777 == 0o600
        content = b"".join(file.read_bytes() for file in database.parent.glob("guesthouse.db*"))
        assert b"sixteen tons" in content and b"for guests" in content
        assert b"never on" not in content and b"no longer" not in content
        daemon.start()
        with client.connect(daemon.uri) as conn:
            assert {secret.uuid for secret in conn.list_all_secrets()} == {TLS, VTPM}
            assert conn.secret_lookup_by_uuid(TLS).get_value() == b"sixteen tons of coal"
            conn.secret_lookup_by_uuid(TLS).undefine()
        namespaces.end(daemon.pid)
        files = [file for file in daemon.root.rglob("*") if file.is_file()]
        for value in (b"sixteen tons", b"never on", b"no longer"):
            for word in (value, base64.b64encode(value)[:-4]):
                assert not [file for file in files if word in file.read_bytes()]
        told = daemon.output() + "".join(file.read_text(errors="replace") for file in daemon.root.glob("log/**/*.log"))
        assert not re.search("guests alone", told)
    finally:
        daemon.close()
