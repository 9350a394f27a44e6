"""A host on which nothing is installed: ``pip install`` and one command, then guests under a real systemd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bare_host import BareHost

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

_INSTALL = (
    "virt-install --connect qemu:///system --virt-type qemu --name demo --memory 128 --disk size=1 --cdrom /var/tmp/a.iso"
    " --os-variant debianwheezy --network network=default --noautoconsole --graphics vnc"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    """With Guesthouse in an environment of its own, and a user alice."""
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir"]
    subprocess.run([*pip, str(folder / "wheels"), str(ROOT)], check=True)
    machine = BareHost(folder, ["python3-venv", "logrotate"])
    try:
        (folder / "wheels").rename(machine.root / "opt/wheels")
        machine.sh("python3 -m venv /opt/guesthouse; useradd -m alice; truncate -s 1M /var/tmp/a.iso")
        machine.sh("/opt/guesthouse/bin/pip install --quiet --no-index --find-links /opt/wheels guesthouse")
        yield machine
    finally:
        machine.close()


def test_set_up_by_one_command(host: BareHost) -> None:
    guest = "/opt/guesthouse/bin/guest"
    refused = host.run(guest, "host", "setup", check=False)
    assert refused.returncode == 1 and "add --yes" in refused.stderr
    assert "there is no user 'bob'" in host.run(guest, "host", "setup", "--user", "bob", check=False).stderr
    as_alice = host.run("runuser", "-u", "alice", "--", guest, "host", "setup", "--yes", check=False)
    assert as_alice.returncode == 1 and "sudo guest host setup --yes" in as_alice.stderr
    assert host.run("test", "-e", "/usr/local/bin/guest", check=False).returncode, "nothing was changed"

    plan = host.run(guest, "host", "setup", "--user", "alice", "--dry-run").stdout.splitlines()
    assert plan[0] == "apt-get update -qq" and "qemu-system-x86 qemu-utils dnsmasq-base" in plan[1]
    done = host.run(guest, "host", "setup", "--user", "alice", "--yes", timeout=400).stdout
    assert "Guests can run here. alice must log in again" in done, done
    again = host.run("guest", "host", "setup", "--user", "alice").stdout
    assert again.startswith("Nothing is to be done."), again

    assert host.sh("systemctl is-active guesthoused; systemctl is-enabled guesthoused") == "active\nenabled\n"
    assert host.sh("runuser -u alice -- virsh -c qemu:///system net-list --name").split() == ["default"]
    assert "guesthoused.service) answers on /run/libvirt/libvirt-sock" in host.run("guest", "doctor").stdout
    assert "is ready" in host.sh("journalctl -u guesthoused")
    host.sh("logrotate --debug /etc/logrotate.d/guesthouse; test -s /usr/local/share/man/man1/virsh.1")


def test_guests_outlive_the_service(host: BareHost) -> None:
    """Restarted, stopped, killed: the guest stays, and is stopped by nobody but us."""
    host.sh(_INSTALL)
    first = host.sh("pgrep -x qemu-system-x86").strip()
    for change in ("restart guesthoused", "kill --signal=KILL --kill-whom=main guesthoused"):
        host.sh(f"systemctl {change}; sleep 2")
        assert host.sh("virsh list --name").split() == ["demo"], change
    host.sh("systemctl stop guesthoused")
    assert host.sh("pgrep -x qemu-system-x86").strip() == first
    host.sh("systemctl restart guesthouse-machines; systemctl start guesthoused; virsh destroy demo")
    assert "removed." in host.sh("virsh undefine demo --remove-all-storage")


def test_sockets_of_systemd(host: BareHost) -> None:
    """The units that open the sockets: a client starts the daemon by them."""
    units = ROOT / "src/guesthouse/cli/guest/units"
    for name in ("guesthoused.socket", "guesthoused-ro.socket", "guesthoused-admin.socket"):
        (host.root / "etc/systemd/system" / name).write_bytes((units / name).read_bytes())
    host.sh("systemctl stop guesthoused; systemctl daemon-reload")
    host.sh("systemctl start guesthoused.socket guesthoused-ro.socket guesthoused-admin.socket")
    uri = "qemu+unix:///system?socket=/run/guesthouse/libvirt-sock"
    assert host.sh("systemctl is-active guesthoused || true") == "inactive\n"
    assert host.sh(f"runuser -u alice -- virsh -c '{uri}' net-list --name").split() == ["default"]
    assert host.sh("systemctl is-active guesthoused") == "active\n"
    refused = host.run("virsh", "-r", "-c", f"{uri}-ro", "net-destroy", "default", check=False)
    assert "read only" in refused.stderr or "forbidden" in refused.stderr, refused.stderr
