"""The node device service over a made-up sysfs: devices that are made, news, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.errors import GuesthouseError, InternalError, NoNodeDevice, OperationInvalid, SystemFailure
from guesthouse.host.uevents import Uevent
from guesthouse.services.context import Config, Context, Paths
from guesthouse.services.events import Event, EventBus
from guesthouse.services.nodedevs import NodeDevices
from guesthouse.services.store import Store
from support.sysfs import FakeSysfs

GPU = "/devices/pci0000:00/0000:00:02.0"
HOST = "/devices/pci0000:00/0000:00:1f.2/host5"
UUID = "d069d019-36ea-4111-8f0a-8c9a70e21366"
MDEV = f"<device><parent>pci_0000_00_02_0</parent><capability type='mdev'><type id='{{}}'/><uuid>{UUID}</uuid></capability></device>"
VPORT = (
    "<device><parent>{}</parent><capability type='scsi_host'><capability type='fc_host'>"
    "<wwnn>20000000c9831b4b</wwnn><wwpn>10000000c9831b4b</wwpn></capability></capability></device>"
)


@pytest.fixture
def fake(tmp_path: Path) -> FakeSysfs:
    fake = FakeSysfs(tmp_path / "root")
    fake.device(GPU, "/bus/pci/devices", mdev_supported_types__T__create="", mdev_supported_types__T__name="T")
    fake.device(HOST, "/bus/scsi/devices", uevent="DEVTYPE=scsi_host\n")
    for name in ("vport_create", "vport_delete"):
        fake.file(f"sys/class/fc_host/host5/{name}", "")
    fake.device("/devices/other/host6", "/bus/scsi/devices", uevent="DEVTYPE=scsi_host\n")
    return fake


@pytest.fixture
def service(fake: FakeSysfs, tmp_path: Path) -> Iterator[NodeDevices]:
    paths = Paths.for_root(tmp_path / "daemon")
    paths.make()
    store = Store(paths.state, paths.run)
    ctx = Context(paths, "system", store, EventBus(), Config())
    yield NodeDevices(ctx, fake.sysfs)
    store.close()


def _written(fake: FakeSysfs, path: str) -> str:
    return (fake.root / "sys" / path.lstrip("/")).read_text()


async def _meanwhile(made: asyncio.Future[object], path: Path) -> None:
    while not path.read_text():
        assert not made.done(), made.exception()
        await asyncio.sleep(0.01)


def test_a_mediated_device_is_made_and_removed(service: NodeDevices, fake: FakeSysfs) -> None:
    async def work() -> str:
        made = asyncio.ensure_future(service.create_xml(xml_desc=MDEV.format("T"), flags=0))
        await _meanwhile(made, fake.root / f"sys{GPU}/mdev_supported_types/T/create")
        fake.link(
            f"{fake.device(f'{GPU}/{UUID}', '/bus/mdev/devices', remove='')}/mdev_type", f"{GPU}/mdev_supported_types/T"
        )
        return (await made).name

    name = asyncio.run(work())
    assert _written(fake, f"{GPU}/mdev_supported_types/T/create") == UUID
    assert name == f"mdev_{UUID.replace('-', '_')}_0000_00_02_0"
    assert service.get_parent(name=name) == "pci_0000_00_02_0"
    assert service.list_caps(name="pci_0000_00_02_0", maxnames=9) == ["pci", "mdev_types"]
    assert [ref.name for ref in service.list_all(flags=1 << 13)] == ["pci_0000_00_02_0"]
    with pytest.raises(OperationInvalid, match="cannot set autostart for transient device"):
        service.set_autostart(name=name, autostart=1)
    with pytest.raises(OperationInvalid, match="is not defined"):
        service.undefine(name=name, flags=0)
    service.destroy(name=name)
    assert _written(fake, f"{GPU}/{UUID}/remove") == "1"


def test_a_virtual_host_is_made_and_removed(service: NodeDevices, fake: FakeSysfs) -> None:
    async def work() -> str:
        made = asyncio.ensure_future(service.create_xml(xml_desc=VPORT.format("scsi_host5"), flags=0))
        await _meanwhile(made, fake.root / "sys/class/fc_host/host5/vport_create")
        fake.file("sys/class/fc_host/host7/node_name", "0x20000000c9831b4b\n")
        fake.file("sys/class/fc_host/host7/port_name", "0x10000000c9831b4b\n")
        fake.device(f"{HOST}/vport-5:0-0/host7", "/bus/scsi/devices", uevent="DEVTYPE=scsi_host\n")
        return (await made).name

    assert asyncio.run(work()) == "scsi_host7"
    assert _written(fake, "/class/fc_host/host5/vport_create") == "10000000c9831b4b:20000000c9831b4b"
    found = service.lookup_scsi_host_by_wwn(wwnn="20000000C9831B4B", wwpn="10000000c9831b4b", flags=0)
    assert found.name == "scsi_host7" and service.get_parent(name="scsi_host7") == "scsi_host5"
    service.destroy(name="scsi_host7")
    assert _written(fake, "/class/fc_host/host5/vport_delete") == "10000000c9831b4b:20000000c9831b4b"


@pytest.mark.parametrize(
    "xml, error, message",
    [
        (
            MDEV.format("U"),
            InternalError,
            "Unable to start mediated device: device 'pci_0000_00_02_0' has no mdev type 'U'",
        ),
        (VPORT.format("x"), InternalError, "Could not find parent device for 'new device'"),
        (VPORT.format("scsi_host6"), InternalError, "Parent device scsi_host6 is not capable of vport operations"),
        (VPORT.format("scsi_host5").replace("wwnn", "x"), InternalError, "no WWNN or WWPN supplied for 'new device'"),
    ],
)
def test_what_cannot_be_made(service: NodeDevices, xml: str, error: type[GuesthouseError], message: str) -> None:
    with pytest.raises(error) as caught:
        asyncio.run(service.create_xml(xml_desc=xml, flags=0))
    assert caught.value.detail == message


def test_what_cannot_be_defined_or_removed(service: NodeDevices) -> None:
    with pytest.raises(SystemFailure, match="Cannot find 'mdevctl' in path"):
        service.define_xml(xml_desc=MDEV.format("T"), flags=0)
    with pytest.raises(InternalError, match="Device is not a fibre channel HBA"):
        service.destroy(name="scsi_host6")
    with pytest.raises(InternalError, match="Parent device computer is not capable"):
        service.destroy(name="scsi_host5")


def test_news(service: NodeDevices, fake: FakeSysfs) -> None:
    events: list[tuple[int, str, int | None]] = []

    def note(event: Event) -> None:
        events.append((event.id, event.ref.name, event.args.get("event")))

    service._ctx.events.subscribe(note)
    net = "/devices/virtual/net"
    service.take(Uevent("add", f"{net}/x", "net"))  # gone before we could look
    fake.device(f"{net}/x", "/class/net", address="52:54:00:00:00:01\n")
    service.take(Uevent("add", f"{net}/x", "net"))
    service.take(Uevent("change", f"{net}/x", "net"))
    service.take(Uevent("bind", f"{net}/x", "net"))
    (fake.root / f"sys{net}/x").rename(fake.root / f"sys{net}/y")
    service.take(Uevent("move", f"{net}/y", "net", f"{net}/x"))
    fake.file(f"sys{net}/y/address", "52:54:00:00:00:02\n")
    service.take(Uevent("change", f"{net}/y", "net"))
    service.take(Uevent("remove", f"{net}/y", "net"))
    service.take(Uevent("remove", f"{net}/y", "net"))
    mac = "52_54_00_00_00_0"
    assert events == [
        (0, f"net_x_{mac}1", 0),
        (1, f"net_x_{mac}1", None),
        (0, f"net_x_{mac}1", 1),
        (0, f"net_y_{mac}1", 0),
        (0, f"net_y_{mac}1", 1),
        (0, f"net_y_{mac}2", 0),
        (0, f"net_y_{mac}2", 1),
    ]
    del events[:]
    with pytest.raises(NoNodeDevice):
        service.get_xml_desc(name=f"net_y_{mac}1", flags=0)
    fake.device("/devices/virtual/net/z", "/class/net")
    service._catch_up()
    assert events == [(0, "net_z", 0)]
