"""What of a disk or a bus is refused when it is defined: in the words of libvirt 9.0, which was asked each of these."""

from __future__ import annotations

import pytest

from guesthouse.errors import GuesthouseError
from support import domains

_UNSUPPORTED, _XML, _INTERNAL = "unsupported configuration: ", "XML error: ", "internal error: "


def define(devices: str, machine: str = "pc") -> None:
    domains.define(
        f"<domain type='qemu'><name>x</name><memory>65536</memory><iothreads>2</iothreads><os>"
        f"<type machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"
    )


def disk(
    attributes: str = "",
    driver: str = "",
    source: str = "<source file='/x'/>",
    target: str = "dev='vda'",
    more: str = "",
    kind: str = "file",
) -> str:
    start = f"<disk type='{kind}' {attributes}><driver name='qemu' {driver}/>"
    return f"{start}{source}<target {target}/>{more}</disk>"


def network(attributes: str, inside: str = "<host name='a'/>") -> str:
    return disk(source=f"<source {attributes}>{inside}</source>", kind="network")


SCSI, SATA, IDE = "dev='sda' bus='scsi'", "dev='sda' bus='sata'", "dev='hda' bus='ide'"
LUN = {"attributes": "device='lun'", "kind": "block", "source": "<source dev='/dev/sdx'/>"}
SECRET = "<secret type='passphrase' usage='q'/>"
LUKS = f"<encryption format='luks'>{SECRET}</encryption>"

REFUSED = [
    (disk("rawio='yes'"), _UNSUPPORTED + "rawio can be used only with device='lun'"),
    (disk("sgio='filtered'"), _UNSUPPORTED + "sgio can be used only with device='lun'"),
    (disk("device='lun'"), _UNSUPPORTED + "disk device='lun' is only valid for block type disk source"),
    (disk(**LUN, target=SATA), _UNSUPPORTED + "disk device='lun' is not supported for bus='sata'"),
    (disk(**LUN, driver="type='qcow2'"), _UNSUPPORTED + "disk device 'lun' must use 'raw' format"),
    (disk(driver="iothread='1'", target=SATA), _UNSUPPORTED + "IOThreads not available for bus sata target sda"),
    (disk(driver="iothread='9'"), _UNSUPPORTED + "Disk iothread '9' not defined in iothreadid"),
    (disk(driver="queues='2'", target=SCSI), "queues attribute in disk driver element is only supported by virtio-blk"),
    (disk(driver="ioeventfd='on'", target=SCSI), "disk ioeventfd mode supported only for virtio bus"),
    (disk(driver="iommu='on'", target=IDE), "iommu driver option is only supported for virtio devices"),
    (disk(driver="io='native'"), "io='native' needs either no disk cache or directsync cache mode"),
    (disk(more="<serial>a/b</serial>"), _INTERNAL + "driver serial 'a/b' contains unsafe characters"),
    (disk(more="<wwn>50</wwn>"), _INTERNAL + "Malformed wwn: 50"),
    (disk(more="<wwn>5000c50015ea71ac</wwn>"), _UNSUPPORTED + "Only ide and scsi disk support wwn"),
    (disk(more="<vendor>A</vendor>"), _UNSUPPORTED + "Only scsi disk supports vendor and product"),
    (disk(more="<vendor>ABCDEFGHIJ</vendor>", target=SCSI), "disk vendor is more than 8 characters"),
    (disk(more=f"<product>{'A' * 17}</product>", target=SCSI), "disk product is more than 16 characters"),
    (disk(target="dev='vda' removable='on'"), _XML + "removable is only valid for usb disks"),
    (disk(target="dev='vda' rotation_rate='1'"), _INTERNAL + "rotation rate is only valid for SCSI/IDE/SATA bus"),
    (disk(target="dev='vda' tray='open'"), _UNSUPPORTED + "tray is only valid for cdrom and floppy"),
    (disk("model='virtio-transitional'", target=SATA), "disk model 'virtio-transitional' not supported for bus 'sata'"),
    (network("protocol='foo' name='x'"), _XML + "Invalid value for attribute 'protocol' in element 'source': 'foo'."),
    (network("protocol='gluster' name='x'"), _XML + "can't split path 'x' into pool name and image name"),
    (network("protocol='nbd'", "<host transport='unix'/>"), _XML + "missing socket for unix transport"),
    (network("protocol='http'"), _XML + "missing name for disk source"),
    (
        network("protocol='http' name='x'", "<host name='a'/><cookies><cookie name='a b'>x</cookie></cookies>"),
        _XML + "cookie name 'a b' contains invalid characters",
    ),
    (
        network("protocol='http' name='x'", "<host name='a'/><cookies><cookie name='a'>x;y</cookie></cookies>"),
        _XML + "value of cookie 'a' contains invalid characters",
    ),
    (
        network("protocol='iscsi' name='x'", "<host name='a'/><auth username='u'/>"),
        _XML + "Missing <secret> element in auth",
    ),
    (
        network("protocol='iscsi' name='x'", f"<host name='a'/><auth>{SECRET}</auth>"),
        _XML + "missing username for auth",
    ),
    (
        network(
            "protocol='iscsi' name='x'", "<host name='a'/><auth username='u'><secret type='ceph' usage='z'/></auth>"
        ),
        _UNSUPPORTED + "invalid secret type 'ceph'",
    ),
    (
        disk(source=f"<source file='/x'><encryption format='luks2'>{SECRET}</encryption></source>"),
        _UNSUPPORTED + "luks2 is currently not supported by the qemu encryption engine",
    ),
    (
        disk(source=f"<source file='/x'><encryption format='luks' engine='librbd'>{SECRET}</encryption></source>"),
        _UNSUPPORTED + "librbd encryption is supported only with RBD backed disks",
    ),
    (
        disk(more=f"<encryption format='qcow'>{SECRET}</encryption>", driver="type='qcow2'"),
        _UNSUPPORTED + "old qcow/qcow2 encryption is not supported",
    ),
    (
        disk(more=LUKS, driver="type='vmdk'"),
        _UNSUPPORTED + "encryption is supported only with 'raw' and 'qcow2' image format",
    ),
    (disk(more="<transient/><readonly/>"), _UNSUPPORTED + "transient disk 'vda' must not be read-only"),
    (
        disk(more="<transient/>", source="<source dev='/x'/>", kind="block"),
        _UNSUPPORTED + "transient disk supported only with 'file' type (vda)",
    ),
    (
        disk(more="<shareable/>", driver="type='qcow2'"),
        _UNSUPPORTED + "shared access for disk 'vda' requires use of supported storage format",
    ),
    (disk(driver="type='iso'"), "storage format 'iso' is not directly supported by QEMU, use 'raw' instead"),
    (disk(driver="type='bogus'"), _UNSUPPORTED + "unknown driver format value 'bogus'"),
    (disk(driver="type='fat'"), _UNSUPPORTED + "storage format 'fat' is supported only with 'dir' storage type"),
    (
        disk(driver="type='raw'", source="<source dir='/x'/>", kind="dir", more="<readonly/>"),
        _UNSUPPORTED + "storage type 'dir' requires use of storage format 'fat'",
    ),
    (
        disk(driver="type='fat'", source="<source dir='/x'/>", kind="dir"),
        _UNSUPPORTED + "virtual FAT storage can't be accessed in read-write mode",
    ),
    (
        disk(driver="copy_on_read='on'", more="<readonly/>"),
        _UNSUPPORTED + "copy_on_read is not compatible with read-only disk 'vda'",
    ),
    (
        disk(more="<geometry cyls='1' heads='2' secs='3' trans='lba'/>"),
        _UNSUPPORTED + "CHS translation mode can only be set for 'ide' bus not 'virtio'",
    ),
    (
        disk(more="<iotune><total_bytes_sec>1</total_bytes_sec><read_bytes_sec>1</read_bytes_sec></iotune>"),
        _XML + "total and read/write bytes_sec cannot be set at the same time",
    ),
    (
        disk(kind="vhostuser", source="<source type='unix' path='/s'/>", target=SCSI),
        _UNSUPPORTED + "vhostuser disk supports only virtio bus",
    ),
    (
        disk(kind="nvme", source="<source type='pci' namespace='0'><address bus='1'/></source>"),
        _UNSUPPORTED + "NVMe namespace can't be zero",
    ),
    (
        disk(kind="volume", source="<source pool='p'/>"),
        _XML + "'pool' and 'volume' must be specified together for 'pool' type source",
    ),
    (
        disk(kind="block", source="<source dev='/x' startupPolicy='requisite'/>"),
        _XML + "disk startupPolicy 'requisite' is allowed only for cdrom or floppy",
    ),
    (
        disk(source="<source file='/x'><reservations managed='yes'/></source>"),
        _UNSUPPORTED + "<reservations/> allowed only for lun devices",
    ),
    (
        disk(source="<source file='/x'><slices><slice type='storage' offset='1'/></slices></source>"),
        _XML + "missing offset or size attribute of slice",
    ),
    (
        disk(driver="type='qcow2'", more="<backingStore type='file'><source file='/y'/></backingStore>"),
        _XML + "missing disk backing store format",
    ),
    (disk(target=IDE, more="<address type='drive' target='1'/>"), "target must be 0 for ide controller"),
    (disk(target=SCSI, more="<address type='drive' bus='1'/>"), _INTERNAL + "SCSI controller only supports 1 bus"),
    (disk(target="dev='hdz' bus='ide'"), _INTERNAL + "Only 1 IDE controller is supported"),
    (disk(more="<address type='drive'/>"), "virtio disk cannot have an address of type 'drive'"),
    ("<controller type='scsi' model='foo'/>", _UNSUPPORTED + "Unknown model type 'foo'"),
    ("<controller type='virtio-serial' model='virtio-scsi'/>", _UNSUPPORTED + "Unknown model type 'virtio-scsi'"),
    ("<controller type='scsi' model='buslogic'/>", _UNSUPPORTED + "Unsupported controller model: buslogic"),
    ("<controller type='scsi' model='ncr53c90'/>", "ncr53c90 SCSI controller is not a built-in for this machine"),
    (
        "<controller type='scsi' model='lsilogic'><driver queues='2'/></controller>",
        _UNSUPPORTED + "'queues' is only supported by virtio-scsi controller",
    ),
    (
        "<controller type='scsi' model='lsilogic'><driver iothread='1'/></controller>",
        _XML + "'iothread' attribute only supported for virtio scsi controllers",
    ),
    (
        "<controller type='scsi' model='virtio-scsi'><driver iothread='7'/></controller>",
        _UNSUPPORTED + "controller iothread '7' not defined in iothreadid",
    ),
    (
        "<controller type='usb' model='qusb1'/>",
        _UNSUPPORTED + "USB controller model type 'qusb1' or 'qusb2' is not supported in qemu",
    ),
    (
        "<controller type='usb' model='nec-xhci' ports='99'/>",
        _UNSUPPORTED + "'nec-xhci' controller only supports up to '15' ports",
    ),
    (
        "<controller type='pci' index='1' model='pci-root'/>",
        _XML + "pci-root and pcie-root controllers should have index 0",
    ),
    (
        "<controller type='pci' index='0' model='pcie-root'/>",
        _XML + "The PCI controller with index='0' must be model='pci-root' for this machine type, but"
        " model='pcie-root' was found instead",
    ),
    (
        "<controller type='pci' index='1' model='pci-bridge'><target chassisNr='300'/></controller>",
        _UNSUPPORTED + "PCI controller chassisNr '300' out of range - must be 1-255",
    ),
    (
        "<controller type='pci' index='1' model='pci-expander-bus'><target busNr='300'/></controller>",
        _UNSUPPORTED + "PCI controller busNr '300' out of range - must be 1-254",
    ),
    ("<controller type='ide' index='1'/>", "Only a single IDE controller is supported for this machine type"),
    ("<controller type='scsi' index='0'/>" * 2, _XML + "Multiple 'scsi' controllers with index '0'"),
    (
        disk(target=SCSI, more="<address type='pci' bus='0' slot='9'/>"),
        _UNSUPPORTED + "Invalid address type 'pci' for the disk 'sda' with the bus type 'scsi'",
    ),
]


@pytest.mark.parametrize(("devices", "words"), REFUSED)
def test_refused_in_libvirts_words(devices: str, words: str) -> None:
    with pytest.raises(GuesthouseError) as caught:
        define(devices)
    assert str(caught.value).endswith(words)


def test_a_bridge_of_the_guests_own_is_used_before_another_is_made() -> None:
    define("<controller type='pci' index='1' model='dmi-to-pci-bridge'/><controller type='scsi'/>", "q35")
