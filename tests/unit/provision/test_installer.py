"""The two documents of an installation, and what a failure leaves behind: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guesthouse.client.offline import OfflineConnect
from guesthouse.errors import ConfigUnsupported, OperationFailed
from guesthouse.model.devices.disk import Disk, DiskSource
from guesthouse.model.devices.graphics import Graphics
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import BootDevice, Domain
from guesthouse.provision import installer, osinfo, storage
from guesthouse.provision.host import Host
from guesthouse.provision.installer import Install
from guesthouse.provision.request import Request
from guesthouse.provision.storage import Planner, Wish

POOL = """<pool type='dir'><name>default</name><capacity>99999999999</capacity><available>99999999999</available>
<target><path>/images</path></target>{}</pool>"""


class Daemon(OfflineConnect):
    """Starts and ends guests, too; ``failing`` is the step that fails, with ``error``."""

    def __init__(self, volumes: str = "", failing: str = "", error: BaseException | None = None) -> None:
        super().__init__("qemu:///system", f"<node>{POOL.format(volumes)}</node>", "<capabilities/>", None)
        self.done: list[str] = []
        self.failing = failing
        self.error = error or OperationFailed("no")

    def call(self, name: str, /, **args: Any) -> Any:
        if name in ("domain_create_xml", "domain_define_xml", "domain_set_autostart", "storage_vol_create_xml"):
            if name == self.failing:
                raise self.error
            self.done.append(name)
        if name == "domain_create_xml":
            return self._do_domain_define_xml(args["xml_desc"])
        if name == "domain_set_autostart":
            return None
        if name in ("domain_destroy", "domain_undefine"):
            self.done.append(name)
            return self._domains.pop(args["dom"].name, None)
        if name == "storage_vol_delete":
            self.done.append(name)
            pool = self._pools[args["vol"].pool]
            pool.remove(next(v for v in pool.findall("volume") if v.findtext("name") == args["vol"].name))
            return None
        return super().call(name, **args)


def request(*, os: str = "generic") -> Request:
    """A guest with a disk, a CD to install from, and a card."""
    domain = Domain(type="qemu", name="demo")
    domain.dev.disks.append(Disk(source=DiskSource(file="/images/demo.qcow2")))
    domain.dev.interfaces.append(Interface(type="user"))
    return Request(domain, os=osinfo.find(os))


def orders(domain: Domain) -> dict[str, int | None]:
    """Boot orders by device."""
    found = {disk.device: disk.boot.order if disk.boot else None for disk in domain.dev.disks}
    found["network"] = next((nic.boot.order if nic.boot else None for nic in domain.dev.interfaces), None)
    return found


def test_a_cd_boots_once() -> None:
    wanted, install = request(), Install(cdrom="/x.iso", bootdev="cdrom")
    installer.add_cdroms(wanted, install)
    first, final = installer.documents(wanted, install)
    assert first is not None
    assert first.on_reboot == "destroy" and final.on_reboot is None
    assert orders(first) == {"disk": 2, "cdrom": 1, "network": None}
    assert orders(final) == {"disk": 1, "cdrom": None, "network": None}
    assert first.dev.disks[1].path == "/x.iso" and final.dev.disks[1].source is None


@pytest.mark.skipif(not Path("/usr/share/osinfo/os").is_dir(), reason="osinfo-db is not installed")
def test_windows_keeps_its_cd() -> None:
    wanted, install = request(os="win10"), Install(cdrom="/x.iso", bootdev="cdrom")
    installer.add_cdroms(wanted, install)
    _, final = installer.documents(wanted, install)
    assert final.dev.disks[1].path == "/x.iso"


def test_the_network_boots_once() -> None:
    first, final = installer.documents(request(), Install(bootdev="network"))
    assert first is not None
    assert orders(first) == {"disk": 2, "network": 1}
    assert orders(final) == {"disk": 1, "network": None}


def test_a_kernel_boots_once() -> None:
    first, final = installer.documents(request(), Install(kernel="/k", initrd="/i", args="quiet"))
    assert first is not None and first.os is not None
    assert (first.os.kernel, first.os.initrd, first.os.cmdline) == ("/k", "/i", "quiet")
    assert orders(first) == {"disk": None, "network": None}
    assert final.os is None or final.os.kernel is None


def test_an_import_has_one_document() -> None:
    first, final = installer.documents(request(), Install(none=True))
    assert first is None and orders(final)["disk"] == 1


def test_an_order_of_the_users_own_is_the_final_one() -> None:
    wanted, install = request(), Install(bootdev="network")
    wanted.boot.boots.append(BootDevice(dev="cdrom"))
    first, final = installer.documents(wanted, install)
    assert first is not None and first.os is not None and final.os is not None
    assert first.os.boots == [] and orders(first)["network"] == 1
    assert [boot.dev for boot in final.os.boots] == ["cdrom"] and orders(final)["disk"] is None


@pytest.mark.parametrize(
    ("failing", "done"),
    [
        ("domain_create_xml", []),
        ("domain_define_xml", ["domain_create_xml", "domain_destroy"]),
        (
            "domain_set_autostart",
            ["domain_create_xml", "domain_define_xml", "domain_destroy", "domain_undefine"],
        ),
    ],
)
@pytest.mark.parametrize("error", [OperationFailed("no"), KeyboardInterrupt()])
def test_a_failed_step_leaves_no_guest(failing: str, done: list[str], error: BaseException) -> None:
    conn = Daemon(failing=failing, error=error)
    wanted = request()
    with pytest.raises(type(error)):
        installer.create(conn, wanted.domain, wanted.domain, start=True, transient=False, autostart=True)
    assert conn.done == done
    assert conn.list_all_domains() == []


def test_a_transient_guest_is_not_defined() -> None:
    conn = Daemon()
    wanted = request()
    installer.create(conn, None, wanted.domain, start=True, transient=True, autostart=False)
    assert conn.done == ["domain_create_xml"]


def test_volumes_are_planned_made_and_taken_back() -> None:
    conn = Daemon("<volume><name>demo.qcow2</name></volume>")
    planner = Planner(Host(conn, "qemu:///system"), dry=False)
    planned: list[storage.NewVolume] = []
    for size in (1.0, 2.0):
        disk = Disk()
        planner.attach(disk, Wish(size=size), "demo", planned)
    assert [volume.path for volume in planned] == ["/images/demo-1.qcow2", "/images/demo-2.qcow2"]
    assert conn.done == [], "nothing is made while it is planned"
    storage.build(planner, planned, lambda volume: None)
    assert conn.done == ["storage_vol_create_xml"] * 2
    storage.remove(planner, planned, lambda volume, error: pytest.fail(str(error)))
    names = [volume.name for volume in conn.storage_pool_lookup_by_name("default").list_all_volumes()]
    assert names == ["demo.qcow2"]


def test_a_file_that_is_there_and_one_that_is_not(tmp_path: Path) -> None:
    planner = Planner(Host(Daemon(), "qemu:///system"), dry=False)
    image = tmp_path / "x.qcow2"
    image.write_bytes(b"QFI\xfb" + b"\0" * 100)
    disk = Disk(source=DiskSource(file=str(image)))
    planner.attach(disk, Wish(), "demo", [])
    assert disk.format == "qcow2" and disk.path == str(image)
    for path, message in (
        (f"{tmp_path}/missing", "Must specify storage creation parameters"),
        ("/images/missing", "Size must be specified"),
        (str(tmp_path), "is a directory"),
    ):
        with pytest.raises(storage.StorageError, match=message):
            planner.attach(Disk(source=DiskSource(file=path)), Wish(), "demo", [])


def test_a_password_that_vnc_cannot_take_is_refused_first() -> None:
    wanted = request()
    wanted.domain.dev.graphics.append(Graphics(type="vnc", passwd="123456789"))
    with pytest.raises(ConfigUnsupported, match="9 characters long, only 8 permitted"):
        installer.check(wanted)
