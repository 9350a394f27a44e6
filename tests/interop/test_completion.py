"""Completion: what C virsh would complete ours does too, and shells get it on a terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.completion import candidates, takes_file
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

SHARE = Path(__file__).parents[2] / "share"
GUEST = """<domain type='qemu'><name>{}</name><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/></interface></devices></domain>"""
POOL = "<pool type='dir'><name>comp-pool</name><target><path>{}</path></target></pool>"
NETWORK = "<network><name>comp-net</name></network>"

LINES = """
domstate comp
domstate --domain comp
domstate --re
start --domain comp
start comp-on --
destroy --domain comp
undefine --domain comp
domblkinfo comp-on --device h
domifstat comp-on --interface 5
net-start --network comp
net-info --network comp
pool-start --pool comp
pool-destroy --pool comp
pool-autostart --pool comp
vol-info --pool comp-pool --vol a
vol-list --pool comp
event --event device
net-event --event li
shutdown comp-on --mode a
set-lifecycle-action comp-on --type c
nodedev-list --cap us
define --
echo --s
list; domstate comp
"""
# what completes to commands, of which ours may have fewer, and to the groups of help
COMMANDS = "domst", "net-port", "help dom", "list; vol-c"


@pytest.fixture(scope="module")
def host(guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    """A daemon with two guests, one of them paused, a network that is off and a pool that is on, with a volume."""
    folder = tmp_path_factory.mktemp("pool")
    (folder / "a.raw").write_bytes(b"\0" * 4096)
    conn = client.connect(guesthoused.uri)
    off, on = (conn.define_xml(GUEST.format(name)) for name in ("comp-off", "comp-on"))
    on.create_with_flags(1)
    pool = conn.storage_pool_define_xml(POOL.format(folder))
    pool.create()
    network = conn.network_define_xml(NETWORK)
    yield guesthoused
    on.destroy()
    pool.destroy()
    for each in (on, off, pool, network):
        each.undefine()
    conn.close()


def test_as_c_virsh_completes(host: Guesthoused) -> None:
    conn = client.connect(host.uri)
    some = 0
    for line in LINES.strip().splitlines():
        theirs = host.run("complete", "--", *line.split()).stdout.split()
        assert sorted(candidates(line, lambda: conn)) == sorted(theirs), line
        some += bool(theirs)
    assert some > 18
    for line in COMMANDS:
        theirs = [word for word in host.run("complete", "--", *line.split()).stdout.split() if word in index.MODULES]
        ours = [word for word in candidates(line, lambda: conn) if word not in index.GROUPS]
        assert sorted(ours) == sorted(theirs) != [], line
    conn.close()


def test_what_ours_knows_beyond(host: Guesthoused) -> None:
    conn = client.connect(host.uri)
    for line, some in {
        "": "domstate",
        "start ": "comp-off",
        "domstate --domain=comp": "--domain=comp-on",
        "domstate 'comp": "comp-on",
        'domstate "comp-o': "comp-on",
        "shutdown comp-on --mode acpi,": "acpi,agent",
        "vol-info ": next(v.key for v in conn.storage_pool_lookup_by_name("comp-pool").list_all_volumes()),
        "domuuid -- comp": "comp-off",
    }.items():
        assert some in candidates(line, lambda: conn), line
    for line in ("# domst", "nonsense ", "domuuid -- --", "start --pass-fds "):
        assert candidates(line, lambda: conn) == [], line
    assert [takes_file(line) for line in ("define /e", "define --file=/e", "start /e", "save comp-on /e", "x")] == [
        *(True, True, False, True, False),
    ]
    conn.close()


def test_the_command_says_nothing_but_words(guesthoused: Guesthoused) -> None:
    done = guesthoused.ours("complete", "--", "uri", "--")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    # no daemon is started, no complaint made
    env = {**os.environ, "XDG_RUNTIME_DIR": str(guesthoused.root / "nobody"), "HOME": str(guesthoused.root)}
    argv = [str(BIN / "virsh"), "-c", "qemu:///session", "complete", "--", "start", ""]
    run = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert "--domain\n" in run.stdout and run.stderr == ""
    assert not (guesthoused.root / "nobody").exists()


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile"], "for f in {}/bash-completion/completions/*; do . $f; done"),
    "zsh": (["zsh", "-f"], "fpath=({}/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D"),
    "fish": (["fish", "--no-config"], "for f in {}/fish/vendor_completions.d/*; source $f; end"),
}
TYPED = {
    "virsh -c URI domstate comp-of\t": "comp-off",
    "virsh -c URI start --domain=comp-\t": "--domain=comp-off",
    "virsh --rea\t": "--readonly",
    "virt-install --disk path=/x,siz\t": "path=/x,size=",
    "guest doctor --js\t": "--json",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_on_a_terminal(shell: str, host: Guesthoused, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    argv, setup = SHELLS[shell]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}
    terminal = Terminal(argv, {**env, "XDG_DATA_DIRS": str(tmp_path)})
    try:
        # in pieces, so that what is typed is not taken for what is printed
        terminal.send(setup.format(SHARE) + "; echo rea''dy\r")
        terminal.expect("ready")
        for line, word in TYPED.items():
            start = len(terminal.text)
            terminal.send(line.replace("URI", f"'{host.uri}'"))
            terminal.expect(re.escape(word), 20, start=start)
            terminal.send("\x15")
    finally:
        terminal.close()


def test_in_the_interactive_shell(host: Guesthoused, tmp_path: Path) -> None:
    (tmp_path / "a file.xml").write_text("nothing")
    env = {**os.environ, "TERM": "dumb", "XDG_CACHE_HOME": str(tmp_path)}
    terminal = Terminal([str(BIN / "virsh"), "-c", host.uri], env)
    try:
        for typed, shown in {
            "domsta\te comp-of\t\n": "shut off",
            "domstate --domain=comp-o\tn --rea\t\n": r"paused \(user\)",
            f"define {tmp_path}/a\t\n": "Start tag expected",
        }.items():
            start = len(terminal.text)
            terminal.expect("virsh # $", start=max(0, start - 8))
            terminal.send(typed)
            terminal.expect(shown, 20, start=start)
        terminal.send("quit\n")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    history = (tmp_path / "libvirt/virsh/history").read_text().splitlines()
    assert history[0] == "domstate comp-off " and history[-1] == "quit"
