"""The golden domains started by both daemons: the live documents read alike, and QEMU is asked for the same guest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import argv
from support.golden_guests import GIVEN, block_device, open_folder, prepared
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

#: Started by both; the live documents are not compared: why.
DIFFERENT = {
    "board-q35": "libvirt counts a module's label into the memory of a running guest",
    "board-uefi": "libvirt keeps what was asked of the firmware beside what was chosen",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_folder(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def block(folder: Path, c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Iterator[str]:
    with block_device(folder) as device:
        c_libvirtd.ns.run("sh", "-c", f"test -e {device} || mknod {device} b 7 {device.removeprefix('/dev/loop')}")
        for daemon in (c_libvirtd, guesthoused):
            daemon.ns.run("ip", "link", "add", "br0", "type", "bridge")
            daemon.run("net-start", "default")
        yield device
        for daemon in (c_libvirtd, guesthoused):
            daemon.run("net-destroy", "default")
            daemon.ns.run("ip", "link", "del", "br0")


def run_paused(daemon: Libvirtd | Guesthoused, file: Path) -> tuple[str, list[str]]:
    name = file.stem
    defined = daemon.run("define", str(file))
    assert defined.returncode == 0, defined.stderr
    try:
        started = daemon.run("start", "--paused", name)
        assert started.returncode == 0, started.stderr
        xml = daemon.run("dumpxml", "--security-info", name).stdout
        return xml, command_of(re.search(r"<uuid>(.*)</uuid>", xml)[1])  # type: ignore[index]
    finally:
        daemon.run("destroy", name)
        daemon.run("undefine", name, "--nvram")


def command_of(uuid: str) -> list[str]:
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().decode().split("\0")[:-1]
        except OSError:
            continue
        if uuid in words and "qemu" in words[0]:
            return words
    raise AssertionError("no QEMU of that guest runs")


def alike(xml: str) -> str:
    """A live document without what cannot be equal."""
    for pattern, plain in (
        # what a balloon that the guest has not touched yet says
        (r"<currentMemory .*\n", ""),
        (r" portid='[^']*'", " portid='P'"),
        (r"'vnet\d+'", "'vnetN'"),
        (r"'[^']*/channel/target/domain-\d+-", "'domain-"),
        (r"/dev/pts/\d+", "/dev/pts/N"),
        (r"<domain type='qemu' id='\d+'", "<domain"),
    ):
        xml = re.sub(pattern, plain, xml)
    return xml


def asked(words: list[str]) -> argv.Meaning:
    found = argv.meaning(words)
    # libvirt resets QEMU's action over the monitor instead
    del found["-no-reboot", ""]
    plain: argv.Meaning = argv.Counter()
    for (option, value), number in found.items():
        # our QEMU finds out by itself that an image has no backing file
        value = value.replace('"backing": null, ', "")
        # the default, which libvirt says to newer ones only
        value = value.replace(",hpet=on", "") if option == "-machine" else value
        # each daemon has its own folder of state, and its own numbers of guests
        value = re.sub(r"/[^\"]*/qemu/(ram|nvram)/(domain-)?(\d+-)?", r"/\1/", value)
        # the clock goes on between the two
        plain[option, re.sub(r"(?<=base=\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d", "", value)] += number
    return plain


@pytest.mark.parametrize("name", GIVEN)
def test_both_start_the_same(
    name: str, folder: Path, block: str, c_libvirtd: Libvirtd, guesthoused: Guesthoused
) -> None:
    file = folder / f"{name}.xml"
    file.write_text(prepared(name, folder, block))
    theirs, their_argv = run_paused(c_libvirtd, file)
    ours, our_argv = run_paused(guesthoused, file)
    assert asked(our_argv) == asked(their_argv)
    if name not in DIFFERENT:
        assert alike(ours).splitlines() == alike(theirs).splitlines()
