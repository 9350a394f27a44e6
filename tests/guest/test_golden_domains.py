"""Every golden domain that guests get really starts, and QEMU has the devices that were asked for.

All are started at once, paused. Then the daemon is killed, so that each monitor's one place is free to ask QEMU itself;
the next daemon adopts them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guesthouse import client, errors
from guesthouse.model.domain import Domain
from support import domains, namespaces
from support.golden_guests import GIVEN, REFUSED, block_device, open_folder, prepared
from support.guesthoused import Guesthoused
from support.qmp import Qmp

_PAUSED = 1  # VIR_DOMAIN_START_PAUSED
_KEEP_NVRAM = 8  # VIR_DOMAIN_UNDEFINE_KEEP_NVRAM


@dataclass
class Guest:
    """One that was started, and what its QEMU said of itself; ``error`` is why it did not start."""

    live: Domain
    error: str = ""
    peripherals: dict[str, str] = field(default_factory=dict)
    chardevs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    status: str = ""
    cpus: int = 0
    memory: int = 0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("golden")))
    guesthoused.ns.run("ip", "link", "add", "br0", "type", "bridge")
    yield guesthoused
    guesthoused.close()


@pytest.fixture(scope="module")
def guests(daemon: Guesthoused, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Guest]]:
    folder = open_folder(tmp_path_factory.mktemp("files"))
    with block_device(folder) as block:
        yield from started(daemon, {name: prepared(name, folder, block) for name in domains.names()})


def started(daemon: Guesthoused, documents: dict[str, str]) -> Iterator[dict[str, Guest]]:
    found: dict[str, Guest] = {}
    with client.connect(daemon.uri) as conn:
        for name, text in documents.items():
            domain = conn.define_xml(text)
            try:
                domain.create_with_flags(_PAUSED)
            except errors.GuesthouseError as error:
                found[name] = Guest(Domain.from_xml(domain.get_xml_desc()), str(error))
                continue
            found[name] = Guest(Domain.from_xml(domain.get_xml_desc()))
    rows = daemon.runtime_rows()
    daemon.kill()
    for row in rows.values():
        learn(found[str(row["name"])], Path(str(row["folder"])) / "monitor.sock")
    daemon.start()
    yield found
    with client.connect(daemon.uri) as conn:
        for domain in conn.list_all_domains():
            if domain.is_active():
                domain.destroy()
            domain.undefine_flags(_KEEP_NVRAM)
    assert daemon.qemu_pids() == []


def learn(guest: Guest, monitor: Path) -> None:
    qmp = Qmp(monitor)
    guest.status = qmp.ask("query-status")["status"]
    guest.peripherals = {
        entry["name"]: entry["type"].removeprefix("child<").removesuffix(">")
        for entry in qmp.ask("qom-list", path="/machine/peripheral")
        if entry["type"].startswith("child<")
    }
    guest.chardevs = {entry["label"]: entry["filename"] for entry in qmp.ask("query-chardev")}
    guest.files = {entry["qdev"]: entry["inserted"]["file"] for entry in qmp.ask("query-block") if "inserted" in entry}
    guest.cpus = len(qmp.ask("query-cpus-fast"))
    guest.memory = qmp.ask("query-memory-size-summary")["base-memory"]
    qmp.close()


@pytest.mark.parametrize("name", GIVEN)
def test_starts_with_what_was_asked_for(guests: dict[str, Guest], name: str) -> None:
    guest = guests[name]
    assert guest.error == ""
    live, there = guest.live, guest.peripherals
    assert guest.status == "prelaunch"
    assert guest.memory == live.initial_memory * 1024
    assert guest.cpus == ((live.vcpu and live.vcpu.current) or live.cpu_count)
    dev = live.dev
    built_in = {("ide", 0), ("fdc", 0), ("pci", 0)} | ({("sata", 0)} if live.is_q35 else set())
    wanted: list[Any] = [*dev.disks, *dev.interfaces, *dev.serials, *dev.parallels, *dev.channels, *dev.rngs]
    wanted += [*dev.hubs, *dev.sounds, *(w for w in dev.watchdogs if w.model != "itco")]
    wanted += [
        c for c in dev.controllers if (c.type, c.index) not in built_in and c.master is None and c.model != "none"
    ]
    wanted += [*dev.memories, *dev.iommus]
    wanted += [c for c in dev.consoles if c.is_virtio]
    wanted += [i for i in dev.inputs if i.bus != "ps2"]
    wanted += [v for v in dev.videos if v.model is not None and v.model.type != "none"]
    wanted += [dev.memballoon] if dev.memballoon is not None and dev.memballoon.model != "none" else []
    missing = [device.alias.name for device in wanted if device.alias.name not in there]
    assert not missing, f"QEMU has only {sorted(there)}"
    for disk in dev.disks:
        if disk.path:
            assert disk.alias is not None and disk.alias.name is not None
            drives = [file for qdev, file in guest.files.items() if disk.alias.name in qdev.split("/")]
            assert drives == [disk.path]
    for serial in dev.serials:
        assert serial.alias is not None
        kind = {"pty": "pty", "unix": "unix", "tcp": "telnet" if serial.protocol else "tcp"}.get(serial.type, "")
        assert kind in guest.chardevs[f"char{serial.alias.name}"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_served_does_not_start(guests: dict[str, Guest], name: str) -> None:
    with pytest.raises(errors.GuesthouseError, match=REFUSED[name]):
        raise errors.ConfigUnsupported(guests[name].error)


def test_the_next_daemon_adopts_them_all(guests: dict[str, Guest], daemon: Guesthoused) -> None:
    with client.connect(daemon.uri) as conn:
        states = {domain.name: domain.get_state()[0] for domain in conn.list_all_domains() if domain.is_active()}
    assert states == dict.fromkeys(GIVEN, 3)  # VIR_DOMAIN_PAUSED
