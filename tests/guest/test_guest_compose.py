"""guest compose: a file's guests, networks and volumes made, changed and removed; and going on after a crash."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import media, namespaces, terminal
from support.guesthoused import BIN, Guesthoused

_FILE = """\
name: shop
networks:
  back:
    subnet: 192.168.77.0/24
    domain: shop.test
volumes:
  data: {size: 64M}
guests:
  web:
    image: blank
    cpus: 1
    memory: ${WEB_MEMORY:-96M}
    networks: [back]
    publish: ["8080:80"]
    depends_on: {db: {condition: address}}
    ssh_keys: &keys ["ssh-ed25519 AAAA me@here"]
  db:
    image: tiny
    cpus: 1
    memory: 256M
    networks: {back: {address: 192.168.77.10}}
    volumes: [data]
    user_data:
      packages: [postgresql]
    ssh_keys: *keys
    restart: always
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("compose")))
    yield guesthoused
    guesthoused.close()


def test_up_changes_and_down(daemon: Guesthoused, tmp_path: Path) -> None:
    env = os.environ | {"HOME": str(tmp_path)}
    file = tmp_path / "guests.yaml"

    def compose(*words: str, code: int = 0, **variables: str) -> str:
        argv = daemon.ns.command([str(BIN / "guest"), "compose", "-c", daemon.uri, "-f", str(file), *words])
        done = subprocess.run(
            argv, capture_output=True, text=True, env=env | variables, timeout=120, stdin=subprocess.DEVNULL
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    def virsh(*words: str) -> str:
        argv = daemon.ns.command([str(BIN / "virsh"), "-q", "-c", daemon.uri, *words])
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def lines(text: str, start: str) -> list[str]:
        plain = re.sub(r" \(\d+\.\d+ s\)$|(?<=disk )[\d.]+ MiB", "", text, flags=re.M)
        return [line for line in plain.splitlines() if re.match(start, line)]

    (tmp_path / "blank.img").write_bytes(bytes(1 << 20))  # what boots from it idles in the firmware
    for name, disk in (("tiny", media.bootable_disk(tmp_path)), ("blank", tmp_path / "blank.img")):
        argv = [str(BIN / "guest"), "image", "import", str(disk), "--name", name, "--osinfo", "linux2020"]
        subprocess.run(daemon.ns.command([*argv, "-c", daemon.uri]), check=True, capture_output=True, env=env)

    # the plan is shown, and nothing is done without a yes
    file.write_text(_FILE)
    planned = [
        "  + network shop-back  nat, 192.168.77.0/24",
        "  + volume  default/shop-data.qcow2  0.0625 GiB, qcow2",
        "  + guest   shop-db  tiny, 1 processor, 256 MiB, on back",
        "  + guest   shop-web  blank, 1 processor, 96 MiB, on back, port 8080:80",
    ]
    for words in (("plan",), ("up", "--dry-run")):
        shown = compose(*words)
        assert lines(shown, "  ") == planned and "project shop: 4 to create" in shown
    assert "nothing was done: --yes does it without asking" in compose("up", code=1)
    assert virsh("list", "--all", "--name").strip() == "" == virsh("vol-list", "default").strip()

    # killed right after the network was made, with a disk made and no guest: up goes on
    argv = daemon.ns.command([str(BIN / "guest"), "compose", "-c", daemon.uri, "-f", str(file), "up", "--yes"])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("created network"):
                process.send_signal(signal.SIGKILL)
                break
    image = next(line for line in virsh("vol-list", "guest-images").split() if line.startswith("/"))
    below = image.rpartition("/")[0] + "/blank.x86_64.raw"
    if "shop-web" not in virsh("vol-list", "default"):
        virsh(
            "vol-create-as",
            "default",
            "shop-web.qcow2",
            "64M",
            "--format",
            "qcow2",
            "--backing-vol",
            below,
            "--backing-vol-format",
            "raw",
        )
    done = compose("up", "--yes")
    assert "created network" not in done and lines(done, "created guest|guest shop")[-2:] == [
        "guest shop-db has the address 192.168.77.10",
        "created guest shop-web",
    ]
    assert "its disk is there from before" in done
    assert compose("up") == "project shop: nothing to do\n"

    rows = {row["guest"]: row for row in json.loads(compose("ps", "--json"))}
    assert rows["db"]["addresses"] == ["192.168.77.10"] and rows["web"]["state"] == "running"
    assert re.search(r"^shop-web +running +blank +- +8080:80$", compose("ls"), re.M)
    assert "virtio-data" not in virsh("dumpxml", "shop-db") and "<serial>data</serial>" in virsh("dumpxml", "shop-db")
    assert "name='db' ip='192.168.77.10'" in virsh("net-dumpxml", "shop-back")
    uuid, mac = virsh("domuuid", "shop-db"), virsh("domiflist", "shop-db").split()[-1]

    # what can be changed is, at once or at the next start; what cannot is told
    changed = (
        _FILE.replace("memory: 256M", "memory: 192M\n    disk: 1G\n    publish: ['5432']")
        .replace("    volumes: [data]\n", "")
        .replace("networks: [back]", "networks: [default, back]")
        .replace("packages: [postgresql]", "packages: [mariadb]")
        .replace("    restart: always\n", "    autostart: false\n")
    )
    file.write_text(changed)
    done = compose("up", "--yes", WEB_MEMORY="128M")
    assert lines(done, "note|  ") == [
        "note: guest shop-db: user_data differs: --recreate makes it anew, and its disk is lost",
        "note: guest shop-web: memory 128 MiB at its next start, or --restart",
        "  ~ guest   shop-db  memory 256 MiB -> 192 MiB; disk  -> 1 GiB; does not start with the host; "
        "after a crash: destroy; without volume data; port 5432 on shop-back",
        "  ~ guest   shop-web  memory 96 MiB -> 128 MiB (at its next start); on network=default; port 8080:80 on default",
    ]
    assert virsh("domblkinfo", "shop-db", "vda").split()[1] == str(1 << 30)
    assert {line.split()[2] for line in virsh("domiflist", "shop-web").splitlines()} == {"default", "shop-back"}
    assert "shop-data" not in virsh("domblklist", "shop-db") and 'host="5432"' in virsh("net-dumpxml", "shop-back")
    again = compose("up", WEB_MEMORY="128M")
    assert "project shop: nothing to do" in again and "note: guest shop-db: user_data differs" in again
    done = compose("up", "--yes", "--restart", "--timeout", "0", "web", WEB_MEMORY="128M")
    assert lines(done, "  |restarted") == [
        "  ~ guest   shop-web  restarted; for memory 128 MiB",
        "restarted guest shop-web",
    ]
    done = compose("up", "--yes", "--recreate", "--timeout", "0", "db", WEB_MEMORY="128M")
    assert "! guest   shop-db  made anew; user_data differs; what is on its disk is lost" in done
    assert (virsh("domuuid", "shop-db"), virsh("domiflist", "shop-db").split()[-1]) == (uuid, mac)

    # what stands in the file no more goes, and its port is another's
    only = changed.partition("  web:")[0] + "  db:" + changed.partition("  db:")[2]
    only = only.replace("publish: ['5432']", "publish: ['8080:80', '5432']").replace(
        "*keys", "[ssh-ed25519 AAAA me@here]"
    )
    file.write_text(only)
    done = compose("up", "--yes", "--timeout", "0")
    assert lines(done, "  |removed|changed") == [
        "  - guest   shop-web  it is not in the file; its disk is kept",
        "  ~ guest   shop-db  port 5432, 8080:80 on shop-back",
        "removed guest shop-web",
        "changed guest shop-db",
    ]

    # a guest of somebody else's is let alone; so is what a terminal says no to
    file.write_text(only.replace("  db:\n", "  db:\n    name: other\n"))
    virsh("define", str(_other(tmp_path)))
    assert "there is a guest 'other', which project 'shop' has not made" in compose("up", "--yes", code=1)
    file.write_text(only)
    argv = daemon.ns.command([str(BIN / "guest"), "compose", "-c", daemon.uri, "-f", str(file), "down", "-v"])
    screen = terminal.Terminal(argv, env=env)
    screen.expect(r"Do it\? \[y/N\]")
    screen.send("n\r")
    assert screen.wait() == 1 and "guest: nothing was done" in screen.text
    screen.close()
    done = compose("down", "--yes", "--timeout", "0")
    assert "note: kept: shop-db.qcow2, default/shop-data.qcow2 (--volumes removes them, too)" in done
    assert virsh("list", "--all", "--name").split() == ["other"] and "shop-back" not in virsh("net-list", "--all")
    assert [line.split()[0] for line in virsh("vol-list", "default").splitlines()] == [
        "shop-data.qcow2",
        "shop-db.qcow2",
        "shop-web.qcow2",
    ]
    file.write_text(_FILE)
    done = compose("down", "--yes", "-v")
    assert lines(done, "removed") == [f"removed volume default/shop-{name}.qcow2" for name in ("db", "web", "data")]
    assert compose("down") == "project shop: nothing to do\n"
    assert virsh("vol-list", "default").strip() == ""


def _other(folder: Path) -> Path:
    file = folder / "other.xml"
    file.write_text("<domain type='qemu'><name>other</name><memory>65536</memory><os><type>hvm</type></os></domain>")
    return file
