"""What a guest's screens and helpers are started with: certificates, sockets, an entropy daemon, SCSI reservations."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse import client, errors
from guesthouse.model.domain import Domain
from support import namespaces
from support.golden_guests import block_device, open_folder
from support.guesthoused import Guesthoused
from support.pki import Authority

_PAUSED = 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Guesthoused]:
    root = namespaces.reachable(tmp_path_factory.mktemp("screens"))
    cert, key = authority.issue("server", "/CN=host", usage="serverAuth", alt="IP:127.0.0.1")
    folder = root / "certificates"
    folder.mkdir(mode=0o755)
    for source, name in ((authority.ca, "ca-cert.pem"), (cert, "server-cert.pem"), (key, "server-key.pem")):
        shutil.copy(source, folder / name)
        (folder / name).chmod(0o644)
    # QEMU would make them, which takes seconds
    group = ("openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out")
    subprocess.run([*group, folder / "dh-params.pem"], check=True, capture_output=True)
    (root / "etc").mkdir()
    settings = [f'{kind}_tls = true\n{kind}_tls_x509_cert_dir = "{folder}"\n' for kind in ("vnc", "spice")]
    (root / "etc/guesthoused.toml").write_text("".join(settings))
    guesthoused = Guesthoused(root)
    yield guesthoused
    guesthoused.close()


def guest(name: str, *devices: str) -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


def asked(conn: client.Connect, domain: client.Domain, command: str) -> Any:
    words = json.dumps({"execute": command})
    return json.loads(conn.call("qemu_domain_monitor_command", dom=domain, cmd=words, flags=0).result)["return"]


def test_screens_are_encrypted(daemon: Guesthoused, authority: Authority) -> None:
    with client.connect(daemon.uri) as conn:
        displays = "<graphics type='vnc'/>", "<graphics type='spice' autoport='yes'/>"
        domain = conn.create_xml(guest("screens", *displays), _PAUSED)
        vnc, spice = Domain.from_xml(domain.get_xml_desc()).dev.graphics
        assert (vnc.port, spice.port, spice.tls_port) == (5900, 5901, 5902)
        assert asked(conn, domain, "query-vnc")["auth"] == "vencrypt+x509+none"
        assert asked(conn, domain, "query-spice")["tls-port"] == 5902
        code = (
            "import socket, ssl, sys\n"
            "context = ssl.create_default_context(cafile=sys.argv[1])\n"
            "with socket.create_connection(('127.0.0.1', 5902)) as sock:\n"
            "    with context.wrap_socket(sock, server_hostname='127.0.0.1') as tls: print(tls.version())\n"
        )
        said = daemon.ns.run("python3", "-c", code, str(authority.ca)).stdout
        assert said.startswith("TLSv1")
        domain.destroy()


def test_an_entropy_daemon_comes_to_the_guest(daemon: Guesthoused) -> None:
    path = daemon.root / "egd.sock"
    egd = f"<rng model='virtio'><backend model='egd' type='unix'><source mode='bind' path='{path}'/></backend></rng>"
    with client.connect(daemon.uri) as conn:
        domain = conn.create_xml(guest("entropy", egd), _PAUSED)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
        (chardev,) = [entry for entry in asked(conn, domain, "query-chardev") if entry["label"] == "charrng0"]
        assert "unix:" in chardev["filename"]
        domain.destroy()


def test_reservations_have_a_helper(daemon: Guesthoused, tmp_path: Path) -> None:
    """No disk here takes SCSI's commands: QEMU refuses it, once it has its helper."""
    with block_device(open_folder(tmp_path)) as device:
        lun = (
            "<controller type='scsi' model='virtio-scsi'/><disk type='block' device='lun'><driver name='qemu' type='raw'/>"
            f"<source dev='{device}'><reservations managed='yes'/></source><target dev='sda' bus='scsi'/></disk>"
        )
        with client.connect(daemon.uri) as conn, pytest.raises(errors.GuesthouseError) as raised:
            conn.create_xml(guest("lun", lun), _PAUSED)
    assert "scsi-block" in str(raised.value) and "pr-manager" not in str(raised.value)
    log = (daemon.root / "log/qemu/lun.log").read_text()
    assert '"qom-type":"pr-manager-helper","id":"pr-helper0","path":"' in log
    assert "-k" in (daemon.root / "log/qemu/lun-pr-helper0-qemu-pr-helper.log").read_text()
    assert daemon.qemu_pids() == []  # the helper neither


def test_who_would_play_a_screen_is_not_here(daemon: Guesthoused) -> None:
    card = "<video><driver name='vhostuser'/><model type='virtio'/></video>"
    memory = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
    text = guest("gpu", card, "<graphics type='vnc'/>").replace("<os>", f"{memory}<os>")
    with client.connect(daemon.uri) as conn:
        with pytest.raises(errors.GuesthouseError, match="Unable to find a satisfying vhost-user-gpu"):
            conn.create_xml(text, _PAUSED)
        line = conn.call("connect_domain_xml_to_native", nativeFormat="qemu-argv", domainXml=text, flags=0).nativeConfig
    assert "vhost-user-vga" in line and "chr-vu-video0" in line
