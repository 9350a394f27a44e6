"""virt-install from the first boot to the second on our daemon, as somebody at a terminal sees it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from guesthouse import client
from support import media_kernel, namespaces
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

PLAIN = "--virt-type qemu --memory 160 --osinfo linux2020 --graphics none --network none --disk none"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("installs")))
    yield guesthoused
    guesthoused.close()


def command(daemon: Guesthoused, *args: str) -> list[str]:
    return daemon.ns.command([str(BIN / "virt-install"), "--connect", daemon.uri, *args])


def test_an_installation_with_its_console(daemon: Guesthoused) -> None:
    """The console opens, the installer's reboot ends the first life, the second boots the disk."""
    kernel, initrd = media_kernel.kernel_and_initrd()
    install = f"kernel={kernel},initrd={initrd},kernel_args=console=ttyS0 quiet ip=off"
    args = PLAIN.replace("--disk none", "--disk size=1").split()
    terminal = Terminal(command(daemon, "--name", "life", "--install", install, *args))
    try:
        terminal.expect("Starting install...")
        terminal.expect(r"Allocating 'life\.qcow2'")
        terminal.expect("Running text console command: virsh .* console life")
        terminal.expect("guest ready", timeout=120)
        terminal.send("reboot -f\r")
        terminal.expect("Domain creation completed.", timeout=60)
        terminal.expect("Restarting guest.")
        terminal.expect(r"Escape character is \^\]", start=terminal.text.rindex("Restarting guest."))
        with client.connect(daemon.uri) as conn:
            guest = conn.lookup_by_name("life")
            assert guest.is_active() and guest.is_persistent()
            live = guest.get_xml_desc()
            assert "<kernel>" not in live and "<on_reboot>restart</on_reboot>" in live
        terminal.send("\x1d")
        assert terminal.wait() == 0
    finally:
        terminal.close()
        run = subprocess.run(
            daemon.ns.command([str(BIN / "virsh"), "-c", daemon.uri, "destroy", "life"]), capture_output=True
        )
        assert run.returncode == 0
        with client.connect(daemon.uri) as conn:
            conn.lookup_by_name("life").undefine()
            conn.storage_pool_lookup_by_name("default").vol_lookup_by_name("life.qcow2").delete()


@pytest.mark.parametrize("destroy", [False, True])
def test_ctrl_c_while_waiting(daemon: Guesthoused, destroy: bool) -> None:
    """The guest goes on, but for --destroy-on-exit."""
    extra = ["--destroy-on-exit"] if destroy else []
    args = [*PLAIN.split(), "--pxe", "--noautoconsole", "--wait", *extra]
    terminal = Terminal(command(daemon, "--name", "waits", *args))
    try:
        terminal.expect("Waiting for the installation to complete.")
        terminal.send("\x03")
        assert terminal.wait() == 1
        assert "Domain install interrupted." in terminal.text
        assert "Traceback" not in terminal.text
        with client.connect(daemon.uri) as conn:
            assert conn.lookup_by_name("waits").is_active() is not destroy
    finally:
        terminal.close()
        with client.connect(daemon.uri) as conn:
            guest = conn.lookup_by_name("waits")
            if guest.is_active():
                guest.destroy()
            guest.undefine()


def test_waiting_ends_with_the_guest(daemon: Guesthoused) -> None:
    argv = command(daemon, "--name", "ends", *PLAIN.split(), "--pxe", "--noautoconsole", "--wait", "3", "--noreboot")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Waiting 3 minutes for the installation to complete." in line:
                break
        with client.connect(daemon.uri) as conn:
            conn.lookup_by_name("ends").destroy()
        rest, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "Domain has shutdown. Continuing.\nDomain creation completed.\n" in rest
        assert f"virsh --connect {daemon.uri} start ends" in rest
    finally:
        process.kill()
        process.wait()
        with client.connect(daemon.uri) as conn:
            conn.lookup_by_name("ends").undefine()


@pytest.mark.parametrize("system", ["debian11", "win10", "fedora36", "freebsd13.1", "generic"])
def test_default_devices_all_start(daemon: Guesthoused, system: str) -> None:
    """Nothing is added by default that our daemon would then refuse."""
    args = f"--virt-type qemu --memory 160 --osinfo {system} --disk size=1 --import --network none --noautoconsole"
    env = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    argv = command(daemon, "--name", "plain", *args.split())
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, done.stderr
        assert "Domain creation completed." in done.stdout
    finally:
        with client.connect(daemon.uri) as conn:
            guest = conn.lookup_by_name("plain")
            guest.destroy()
            guest.undefine()
            conn.storage_pool_lookup_by_name("default").vol_lookup_by_name("plain.qcow2").delete()
