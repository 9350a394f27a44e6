"""The golden domains, tests/data/domain: NAME.xml as a user writes it, NAME.out.xml as it reads once defined.

``kept/`` holds documents that come out exactly as they went in: live ones, and what no host here would define.
"""

from __future__ import annotations

from pathlib import Path

from guesthouse.model import addresses
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.devices.disk import DiskDriver, DiskSource
from guesthouse.model.devices.disk_source import SourceHost
from guesthouse.model.domain import Domain
from guesthouse.qemu import firmware, memory
from guesthouse.qemu.command import Wiring
from guesthouse.qemu.devices import block
from guesthouse.qemu.devices.chardev import Certificates
from guesthouse.qemu.devices.hostdev import HostdevEnd

DATA = Path(__file__).parents[1] / "data"
DOMAINS = DATA / "domain"

#: What QEMU 7.2 brings.
HOST = GuestDefaults(
    emulators={"x86_64": "/usr/bin/qemu-system-x86_64"},
    machines={
        "pc": "pc-i440fx-7.2",
        "pc-i440fx-7.2": "pc-i440fx-7.2",
        "q35": "pc-q35-7.2",
        "pc-q35-7.2": "pc-q35-7.2",
    },
)


class AnyMachine(dict[str, str]):
    """The emulators of libvirt's tests have every machine, each under its own name."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> str:
        return key


REFERENCE_HOST = GuestDefaults(
    emulators={"x86_64": "/usr/bin/qemu-system-x86_64", "i686": "/usr/bin/qemu-system-i386"}, machines=AnyMachine()
)


def names() -> list[str]:
    return sorted(file.stem for file in DOMAINS.glob("*.xml") if not file.stem.endswith(".out"))


def kept() -> list[str]:
    return sorted(file.stem for file in (DOMAINS / "kept").glob("*.xml"))


def text(name: str) -> str:
    return (DOMAINS / f"{name}.xml").read_text()


def define(xml: str, host: GuestDefaults = HOST) -> Domain:
    domain = Domain.from_xml(xml)
    prepare(domain, host)
    return domain


def live(domain: Domain) -> Domain:
    """A document as it is when QEMU is started with it: what the daemon decides is decided, in the simplest way."""
    domain = domain.copy()
    domain.id = 1
    firmware.choose(domain, Path("/var/lib/libvirt/qemu/nvram"), [DATA / "qemu" / "firmware"])
    addresses.assign_aliases(domain)
    place_volumes(domain)
    block.number(domain)
    for vsock in domain.dev.vsocks:
        if vsock.cid is not None and vsock.cid.auto:
            vsock.cid.address = 42
    for number, display in enumerate(domain.dev.graphics):
        listen = display.listens[0] if display.listens else None
        if listen is not None and listen.type == "socket" and not listen.socket:
            listen.socket = f"/var/lib/libvirt/qemu/domain--1-{domain.name}/{display.type}.sock"
        if display.gl_node_missing:
            display.set_option("gl.rendernode", "/dev/dri/foo")
        if display.autoport:
            display.port = 5900 + number
    return domain


def place_volumes(domain: Domain) -> None:
    """Where the volumes of libvirt's tests are: their names tell."""
    for disk in domain.dev.disks:
        source = disk.source
        if disk.type != "volume" or source is None:
            continue
        kind, _, name = (source.volume or "").partition("+")
        if source.mode == "direct":
            host = SourceHost(name="iscsi.example.com", port="3260")
            lun = (source.volume or "").rpartition(":")[2]
            disk.place("network", DiskSource(protocol="iscsi", name=f"demo-target/{lun}", hosts=[host]))
        elif kind == "dir":
            disk.place("dir", DiskSource(dir=f"/some/dir/device/{name}"))
            disk.driver = disk.driver or DiskDriver()
            disk.driver.type = "fat"
        else:
            disk.place(
                kind if name else "file",
                DiskSource(dev=f"/some/{kind}/device/{name}", file=f"/some/{kind}/device/{name}"),
            )


def wiring(domain: Domain) -> Wiring:
    """What the host would have prepared for a live document, with made-up descriptors."""
    wired = Wiring(1729)
    pages = {2048: "/dev/hugepages2M", 1048576: "/dev/hugepages1G"}
    wired.memory = memory.Places(f"/var/lib/libvirt/qemu/ram/-1-{(domain.name or '')[:20]}", pages, 2048)
    for nic in domain.dev.interfaces:
        if nic.type in ("network", "bridge", "ethernet", "direct"):
            assert nic.alias is not None and nic.alias.name is not None
            wired.taps[nic.alias.name] = 3
            virtio = nic.model is not None and (nic.model.type or "").startswith("virtio")
            if domain.type == "kvm" and virtio and not (nic.driver is not None and nic.driver.name == "qemu"):
                wired.accelerators[nic.alias.name] = [3]
    dev = domain.dev
    wished = [wish.id for disk in dev.disks for wish in block.secrets(disk)]
    groups = {layer.source.fdgroup or "": [3, 4] for disk in dev.disks for layer in disk.layers}
    groups["testgroup5"] = [3]  # libvirt's test has opened that file once only
    wired.disks = block.Prepared(dict.fromkeys(wished, 3), groups)
    for device in [*dev.channels, *dev.serials, *dev.parallels, *dev.consoles]:
        source = device.source
        alias = (device.alias and device.alias.name) or ""
        if device.type == "file":
            wired.files[alias] = 5
        if device.log is not None:
            wired.logs[alias] = 6
        if device.type == "unix" and (source is None or not source.path or source.mode == "bind"):
            wired.sockets[alias] = 1729
    folder = f"/var/lib/libvirt/qemu/domain--1-{domain.name}"
    wired.disks.reservations = f"{folder}/{block.RESERVATIONS}.sock"
    for share in dev.filesystems:
        if share.is_virtiofs and share.alias is not None:
            wired.paths[share.alias.name or ""] = f"{folder}/{share.alias.name}-fs.sock"
    for device in [*dev.redirdevs, *dev.smartcards]:
        if device.type == "unix" and device.source is not None and device.source.mode == "bind":
            wired.sockets[(device.alias and device.alias.name) or ""] = 1729
    for hostdev in dev.hostdevs:
        generic = "/dev/sg0" if hostdev.type == "scsi" else ""
        wired.hostdevs[(hostdev.alias and hostdev.alias.name) or ""] = HostdevEnd(generic, vhost=3)
    wired.certificates = Certificates(spice="/etc/pki/libvirt-spice", chardev="/etc/pki/libvirt-chardev")
    wired.paths["tpm0"], wired.tpm = "/dev/test", (1729, 1730)
    wired.vhosts["vsock0"] = 6789
    for video in dev.videos:
        if video.driver is not None and video.driver.name == "vhostuser" and video.alias is not None:
            wired.sockets[video.alias.name or ""] = 1729
    return wired
