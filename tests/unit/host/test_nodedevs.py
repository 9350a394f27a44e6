"""Devices out of a made-up sysfs: names, parents, kinds and documents, byte for byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from guesthouse.host import nodedevs
from guesthouse.host.nodedev_document import Describer
from guesthouse.host.nodedevs import Found
from guesthouse.model.nodedev import Device
from support.sysfs import FakeSysfs

DATA = Path(__file__).parents[2] / "data/nodedev"
PCI = "/devices/pci0000:00"
_IDS = """\
# a list of PCI ids
8085  Another maker
8086  Intel Corporation
\t10c9  82576 Gigabit Network Connection
\t\t8086 10c9  a subsystem
\t10ca  82576 Virtual Function
8087  One more
\t10cb  not Intel's
"""


def _config(*, header: int = 0, express: int | None = None, can: int = 0, does: int = 0) -> bytes:
    """A PCI configuration space; ``express`` is the type in the PCI Express capability."""
    space = bytearray(4096 if express is not None else 256)
    space[0x0E] = header
    if express is not None:
        space[0x06] = 0x10
        space[0x34] = 0x40
        space[0x40:0x42] = bytes((0x05, 0x60))  # another capability comes first
        space[0x60:0x62] = bytes((0x10, 0))
        struct.pack_into("<H", space, 0x62, express << 4 | 2)
        struct.pack_into("<I", space, 0x6C, can)
        struct.pack_into("<H", space, 0x72, does)
    return bytes(space)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeSysfs:
    """A host with one of each."""
    fake = FakeSysfs(tmp_path_factory.mktemp("sysfs"))
    fake.file("usr/share/misc/pci.ids", _IDS)
    dmi = {"sys_vendor": "LENOVO", "product_name": "20ABC", "product_version": "ThinkPad", "product_serial": "123"}
    dmi |= {"product_uuid": "12345678-1234-1234-9596-A088B277D677", "bios_vendor": "Sea", "bios_date": "02/05/2008"}
    for name, value in dmi.items():
        fake.file(f"sys/class/dmi/id/{name}", f"{value}\n")

    pci = "/bus/pci/devices"
    bridge = fake.device(
        f"{PCI}/0000:00:1c.0", pci, vendor="0x8086\n", device="0xffff\n", **{"class": "0x060400\n"},
        config=_config(header=1, express=4, can=0x07 << 24 | 4 << 4 | 3, does=1 << 4 | 1), numa_node="0\n",
    )  # fmt: skip
    nic = fake.device(
        f"{bridge}/0000:02:00.0", pci, vendor="0x8086\n", device="0x10c9\n", **{"class": "0x020000\n"},
        config=_config(express=0), numa_node="-1\n", sriov_totalvfs="7\n",
    )  # fmt: skip
    functions = []
    for number in (10, 2):
        function = fake.device(
            f"{bridge}/0000:02:{0x10 + number // 8:x}.{number % 8}", pci, vendor="0x8086\n", device="0x10ca\n", **{"class": "0x020000\n"},
            config=_config(express=9), numa_node="-1\n",
        )  # fmt: skip
        fake.link(f"{function}/physfn", nic)
        fake.link(f"{nic}/virtfn{number}", function)
        functions.append(function)
    fake.link(f"{nic}/driver", "/bus/pci/drivers/igb")
    fake.file("sys/bus/pci/drivers/igb/bind", "")
    for member in ("0000:02:00.0", "0000:02:10.2"):
        fake.file(f"sys/kernel/iommu_groups/12/devices/{member}", "")
    fake.link(f"{nic}/iommu_group", "/kernel/iommu_groups/12")
    fake.device(f"{nic}/net/enp2s0", "/class/net", uevent="INTERFACE=enp2s0\n", address="00:1b:21:00:00:01\n",
                operstate="up\n", speed="1000\n")  # fmt: skip
    fake.device(f"{nic}/net/wlan0", "/class/net", uevent="DEVTYPE=wlan\n", address="00:1b:21:00:00:02\n",
                operstate="up\n", speed="-1\n")  # fmt: skip
    fake.device("/devices/virtual/net/br0", "/class/net", uevent="DEVTYPE=bridge\n", address="00:1b:21:00:00:03\n")

    gpu = fake.device(f"{PCI}/0000:00:02.0", pci, vendor="0x8086\n", device="0x0416\n", config=_config(),
                      **{"class": "0x030000\n"})  # fmt: skip
    for name, attributes in {"T_4": ("GVTg 4", "1"), "T_8": ("GVTg 8", "0")}.items():
        for attribute, value in zip(("name", "available_instances"), attributes, strict=True):
            fake.file(f"sys{gpu}/mdev_supported_types/{name}/{attribute}", value)
        fake.file(f"sys{gpu}/mdev_supported_types/{name}/device_api", "vfio-pci\n")
    mdev = fake.device(f"{gpu}/d069d019-36ea-4111-8f0a-8c9a70e21366", "/bus/mdev/devices")
    fake.link(f"{mdev}/mdev_type", f"{gpu}/mdev_supported_types/T_4")
    fake.file("sys/kernel/iommu_groups/13/devices/d069d019-36ea-4111-8f0a-8c9a70e21366", "")
    fake.link(f"{mdev}/iommu_group", "/kernel/iommu_groups/13")
    drm = fake.device(f"{gpu}/drm/renderD128", "/class/drm", uevent="DEVNAME=dri/renderD128\nDEVTYPE=drm_minor\n",
                      dev="226:128\n")  # fmt: skip
    fake.device(f"{gpu}/drm/card0/card0-DP-1", "/class/drm")
    fake.file("run/udev/data/c226:128", "S:dri/by-path/pci-0000:00:02.0-render\nE:ID_PATH=x\n")
    assert drm

    usb = fake.device(f"{PCI}/0000:00:14.0/usb1", "/bus/usb/devices", busnum="1\n", devnum="1\n", idVendor="1d6b\n",
                      uevent="DEVTYPE=usb_device\nDEVNAME=bus/usb/001/001\n", idProduct="0002\n",
                      manufacturer="Linux 6 xhci-hcd\n", product="xHCI Host Controller\n")  # fmt: skip
    fake.device(f"{usb}/1-0:1.0", "/bus/usb/devices", uevent="DEVTYPE=usb_interface\n", bInterfaceNumber="00\n",
                bInterfaceClass="09\n", bInterfaceSubClass="0a\n", bInterfaceProtocol="00\n")  # fmt: skip

    host = fake.device(f"{PCI}/0000:00:1f.2/host5", "/bus/scsi/devices", uevent="DEVTYPE=scsi_host\n")
    fake.file("sys/class/scsi_host/host5/unique_id", "2\n")
    for name, value in {
        "node_name": "0x20000000c9831b4b",
        "port_name": "0x10000000c9831b4b",
        "fabric_name": "0x2",
    }.items():
        fake.file(f"sys/class/fc_host/host5/{name}", f"{value}\n")
    for name, value in {"vport_create": "", "max_npiv_vports": "127", "npiv_vports_inuse": "0"}.items():
        fake.file(f"sys/class/fc_host/host5/{name}", value)
    fake.file("sys/class/fc_remote_ports/rport-5:0-0/port_name", "0x9d73bc45f0e21a86\n")
    target = fake.device(f"{host}/rport-5:0-0/target5:0:0", "/bus/scsi/devices", uevent="DEVTYPE=scsi_target\n")
    disk = fake.device(f"{target}/5:0:0:1", "/bus/scsi/devices", uevent="DEVTYPE=scsi_device\n", type="0\n",
                       vendor="ATA     \n", model="HTS721010G9SA00 \n")  # fmt: skip
    fake.device(f"{disk}/scsi_generic/sg0", "/class/scsi_generic", uevent="DEVNAME=sg0\n")
    sda = fake.device(f"{disk}/block/sda", "/class/block", uevent="DEVTYPE=disk\nDEVNAME=sda\n", dev="8:0\n",
                      size="1000215216\n", queue__logical_block_size="4096\n")  # fmt: skip
    fake.link(f"{sda}/device", disk)
    fake.file(
        "run/udev/data/b8:0", "S:disk/by-id/b\nS:disk/by-id/a\nE:ID_BUS=ata\nE:ID_TYPE=disk\nE:ID_SERIAL=HTS72_MPC\n"
    )
    fake.device(f"{sda}/sda1", "/class/block", uevent="DEVTYPE=partition\nDEVNAME=sda1\n")
    fake.device("/devices/virtual/block/loop0", "/class/block", uevent="DEVTYPE=disk\nDEVNAME=loop0\n")
    fake.device("/devices/virtual/block/dm-0", "/class/block", uevent="DEVTYPE=disk\nDEVNAME=dm-0\n", dev="253:0\n")
    fake.device("/devices/other/block/sr0", "/class/block", uevent="DEVTYPE=disk\nDEVNAME=sr0\n", dev="11:0\n",
                size="2097152\n", queue__logical_block_size="2048\n")  # fmt: skip
    fake.file("run/udev/data/b11:0", "E:ID_TYPE=cd\nE:ID_CDROM=1\nE:ID_CDROM_MEDIA=1\nE:ID_FS_LABEL=DEBIAN\n")
    fake.device("/devices/other/block/nvme0n1", "/class/block", uevent="DEVTYPE=disk\nDEVNAME=nvme0n1\n", size="8\n")
    return fake


@pytest.fixture(scope="module")
def found(fake: FakeSysfs) -> dict[str, Found]:
    return {device.name: device for device in nodedevs.scan(fake.sysfs).values()}


def test_names_kinds_and_parents(found: dict[str, Found]) -> None:
    told = {name: (",".join(device.kinds), device.parent) for name, device in found.items()}
    assert told == {
        "computer": ("system", ""),
        "pci_0000_00_1c_0": ("pci", "computer"),
        "pci_0000_02_00_0": ("pci", "pci_0000_00_1c_0"),
        "pci_0000_02_10_2": ("pci", "pci_0000_00_1c_0"),
        "pci_0000_02_11_2": ("pci", "pci_0000_00_1c_0"),
        "net_enp2s0_00_1b_21_00_00_01": ("net", "pci_0000_02_00_0"),
        "net_wlan0_00_1b_21_00_00_02": ("net", "pci_0000_02_00_0"),
        "pci_0000_00_02_0": ("pci,mdev_types", "computer"),
        "mdev_d069d019_36ea_4111_8f0a_8c9a70e21366_0000_00_02_0": ("mdev", "pci_0000_00_02_0"),
        "drm_renderD128": ("drm", "pci_0000_00_02_0"),
        "usb_usb1": ("usb_device", "computer"),
        "usb_1_0_1_0": ("usb", "usb_usb1"),
        "scsi_host5": ("scsi_host,fc_host,vports", "computer"),
        "scsi_target5_0_0": ("scsi_target", "scsi_host5"),
        "scsi_5_0_0_1": ("scsi", "scsi_target5_0_0"),
        "scsi_generic_sg0": ("scsi_generic", "scsi_5_0_0_1"),
        "block_sda_HTS72_MPC": ("storage", "scsi_5_0_0_1"),
        "block_sr0": ("storage", "computer"),
        "block_nvme0n1": ("storage", "computer"),
    }


def test_documents(fake: FakeSysfs, found: dict[str, Found]) -> None:
    """Of each device one golden file; GOLDEN=write in the environment makes them anew."""
    describer = Describer(fake.sysfs)
    for name, device in found.items():
        xml = describer.device(device).to_xml()
        assert Device.from_xml(xml).to_xml() == xml
        golden = DATA / f"{name}.xml"
        if os.environ.get("GOLDEN") == "write":
            golden.write_text(xml)
        assert xml == golden.read_text(), name
    assert {file.stem for file in DATA.glob("*.xml")} == set(found)


def test_what_vanishes_is_no_error(fake: FakeSysfs, found: dict[str, Found]) -> None:
    gone = Found("net_x", "/devices/virtual/net/x", "net", ("net",), "computer")
    assert "<interface>x</interface>" in Describer(fake.sysfs).device(gone).to_xml()
    assert nodedevs.look(fake.sysfs, gone.path, "net") is None
    assert nodedevs.look(fake.sysfs, found["scsi_host5"].path, "unheard") is None
