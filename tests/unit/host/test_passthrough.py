"""PCI functions on their way to VFIO and back, in a made-up sysfs whose drivers_probe does nothing by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guesthouse.errors import ArgumentUnsupported, InternalError, InvalidArg, SystemFailure
from guesthouse.host import passthrough
from support.sysfs import FakeSysfs

PATH = "/devices/pci0000:00/0000:00:05.0"


@pytest.fixture
def fake(tmp_path: Path) -> FakeSysfs:
    fake = FakeSysfs(tmp_path / "root")
    fake.device(PATH, "/bus/pci/devices", driver_override="(null)\n")
    fake.file("sys/bus/pci/drivers_probe", "")
    for driver in ("virtio-pci", "vfio-pci"):
        fake.file(f"sys/bus/pci/drivers/{driver}/unbind", "")
    fake.link(f"{PATH}/driver", "/bus/pci/drivers/virtio-pci")
    return fake


def _content(fake: FakeSysfs, path: str) -> str:
    return (fake.root / "sys" / path.lstrip("/")).read_text()


def _bound(fake: FakeSysfs, driver: str) -> None:
    (fake.root / f"sys{PATH}/driver").unlink()
    fake.link(f"{PATH}/driver", f"/bus/pci/drivers/{driver}")


def test_which_drivers_there_are(fake: FakeSysfs) -> None:
    for driver in (None, "vfio"):
        with pytest.raises(ArgumentUnsupported, match="VFIO device assignment is currently not supported"):
            passthrough.check_driver(fake.sysfs, driver)
    with pytest.raises(ArgumentUnsupported, match="KVM device assignment is no longer supported"):
        passthrough.check_driver(fake.sysfs, "kvm")
    with pytest.raises(InvalidArg, match="unknown driver name 'x'"):
        passthrough.check_driver(fake.sysfs, "x")
    fake.file("sys/kernel/iommu_groups/0/type", "DMA")
    fake.file("dev/vfio/vfio", "")
    passthrough.check_driver(fake.sysfs, None)


def test_a_driver_that_does_not_take_it_leaves_it_with_the_old_one(fake: FakeSysfs) -> None:
    with pytest.raises(SystemFailure, match=r"Failed to bind PCI device '0000:00:05\.0' to vfio-pci"):
        passthrough.detach(fake.sysfs, PATH)
    assert _content(fake, "/bus/pci/drivers/virtio-pci/unbind") == "0000:00:05.0"
    assert _content(fake, "/bus/pci/drivers_probe") == "0000:00:05.0"
    assert _content(fake, f"{PATH}/driver_override") == "\n"  # none again


def test_back_to_the_host(fake: FakeSysfs) -> None:
    passthrough.reattach(fake.sysfs, PATH)  # it never was away
    assert _content(fake, "/bus/pci/drivers_probe") == ""
    _bound(fake, "vfio-pci")
    passthrough.reattach(fake.sysfs, PATH)
    assert _content(fake, "/bus/pci/drivers/vfio-pci/unbind") == "0000:00:05.0"
    assert _content(fake, "/bus/pci/drivers_probe") == "0000:00:05.0"
    shutil.rmtree(fake.root / "sys/bus/pci")
    fake.link(f"{PATH}/driver2", "/bus/pci/drivers/vfio-pci")
    fake.file(f"sys{PATH}/driver_override", "vfio-pci\n")
    with pytest.raises(SystemFailure, match="Failed to re-attach PCI device"):
        passthrough.reattach(fake.sysfs, PATH)


def test_reset(fake: FakeSysfs) -> None:
    with pytest.raises(InternalError, match=r"Unable to reset PCI device 0000:00:05\.0: no FLR, PM reset or bus reset"):
        passthrough.reset(fake.sysfs, PATH)
    fake.file(f"sys{PATH}/reset", "")
    passthrough.reset(fake.sysfs, PATH)
    assert _content(fake, f"{PATH}/reset") == "1"
