"""A made-up /sys in a folder: devices that the host of the tests does not have."""

from __future__ import annotations

import os
from pathlib import Path

from guesthouse.host.sysfs import Sysfs


class FakeSysfs:
    """``root`` becomes what / is to the code under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys").mkdir(parents=True)
        self.sysfs = Sysfs(str(root))

    def file(self, path: str, content: str | bytes) -> Path:
        """A file anywhere below the root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def link(self, path: str, target: str) -> None:
        """A link below /sys to another place there."""
        link = self.root / "sys" / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.root / "sys" / target.lstrip("/"), link.parent))

    def device(self, path: str, listed: str, *, uevent: str = "", **attributes: str | bytes) -> str:
        """A device at ``path`` below /sys ("/devices/..."), with a link to it in the folder ``listed`` ("/bus/pci/devices").
        A double underscore in an attribute's name stands for a slash."""
        (self.root / "sys" / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.file(f"sys{path}/uevent", uevent)
        for name, content in attributes.items():
            self.file(f"sys{path}/{name.replace('__', '/')}", content)
        self.link(f"{listed}/{path.rpartition('/')[2]}", path)
        return path


class PciKernel(Sysfs):
    """A made-up /sys that plays the kernel's part when drivers change: a function goes to the driver that is asked for
    it, else to the one that it had at first, and VFIO's file of its group is there as long as VFIO has one of it."""

    def __init__(self, fake: FakeSysfs) -> None:
        super().__init__(str(fake.root))
        self._fake = fake
        self._home: dict[str, str] = {}
        #: drivers that do not take what they are asked to
        self.unwilling: set[str] = set()
        fake.file("dev/vfio/vfio", "")
        fake.file("sys/bus/pci/drivers_probe", "")
        for driver in ("vfio-pci", "e1000e"):
            fake.file(f"sys/bus/pci/drivers/{driver}/unbind", "")

    def function(self, name: str, group: int, *, driver: str = "e1000e", header: int = 0) -> str:
        """A PCI function; its place."""
        fake, path = self._fake, f"/devices/pci0000:00/{name}"
        config = bytearray(64)
        config[14] = header
        fake.device(path, "/bus/pci/devices", driver_override="(null)\n", config=bytes(config))
        (fake.root / f"sys/kernel/iommu_groups/{group}/devices").mkdir(parents=True, exist_ok=True)
        fake.link(f"/kernel/iommu_groups/{group}/devices/{name}", path)
        fake.link(f"{path}/iommu_group", f"/kernel/iommu_groups/{group}")
        self._home[name] = driver
        self._bind(name, driver)
        return path

    def driver(self, name: str) -> str:
        return (self.target(f"/devices/pci0000:00/{name}/driver") or "").rpartition("/")[2]

    def write(self, path: str, text: str) -> None:
        super().write(path, text)
        if path == "/bus/pci/drivers_probe":
            wanted = (self.text(f"/devices/pci0000:00/{text}/driver_override") or "").strip()
            if wanted not in self.unwilling:
                self._bind(text, wanted or self._home[text])
        elif path.endswith("/driver/unbind"):
            self._bind(text, "")

    def _bind(self, name: str, driver: str) -> None:
        place = f"/devices/pci0000:00/{name}"
        link = self._fake.root / f"sys{place}/driver"
        link.unlink(missing_ok=True)
        if driver:
            self._fake.link(f"{place}/driver", f"/bus/pci/drivers/{driver}")
        group = (self.target(f"{place}/iommu_group") or "").rpartition("/")[2]
        node = self._fake.root / "dev/vfio" / group
        if any(self.driver(other) == "vfio-pci" for other in self.names(f"{place}/iommu_group/devices")):
            node.touch()
        else:
            node.unlink(missing_ok=True)
