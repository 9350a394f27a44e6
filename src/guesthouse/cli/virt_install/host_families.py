"""The families of what the host lends a guest: its devices, its folders, memory modules, shared memory, sockets."""

from __future__ import annotations

from guesthouse.cli.virt_install.family import FAMILIES, ON_DEVICES, Family, Words, add, need
from guesthouse.cli.virt_install.options import UsageError
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.audio import Audio
from guesthouse.model.devices.filesystem import Filesystem, FilesystemSource
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.devices.platform import Iommu, Memory, Panic
from guesthouse.model.devices.redirected import Shmem
from guesthouse.model.devices.vsock import Cid, Vsock
from guesthouse.provision.request import Request, part


def _hostdev(request: Request, words: Words, text: str) -> None:
    if text == "none":
        request.without.add("hostdev")
        return
    name = need("hostdev", words, "name")
    device = Hostdev(mode="subsystem")
    if name is not None:
        request.named.append((device, name))
    FAMILIES["hostdev"].fill(device, words)
    request.domain.dev.hostdevs.append(device)


def _filesystem(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    source, target = words.pop("source", None), words.pop("target", None)
    device = Filesystem()
    if target is not None:
        words["target.dir"] = target
    FAMILIES["filesystem"].fill(device, words)
    if source is not None:
        names = {"file": "file", "block": "dev", "template": "name", "ram": "usage", "volume": "volume"}
        setattr(part(device, "source", FilesystemSource), names.get(device.type, "dir"), source)
    request.domain.dev.filesystems.append(device)


def _memdev(request: Request, words: Words, text: str) -> None:
    """Sizes of modules, labels and alignment are in MiB, as --memory's is; the others in KiB."""
    if text == "none":
        return
    for key in ("target.size", "target_size", "target.label_size", "target_label_size", "source.alignsize"):
        if (value := words.get(key)) is not None:
            try:
                words[key] = str(int(float(value) * 1024))
            except ValueError:
                raise UsageError(f"--memdev {key}: '{value}' is not a number of MiB") from None
    device = Memory()
    FAMILIES["memdev"].fill(device, words)
    request.domain.dev.memories.append(device)


def _shmem(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    device = Shmem()
    FAMILIES["shmem"].fill(device, words)
    request.domain.dev.shmems.append(device)


def _vsock(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    if words.get("model") == "default":
        words.pop("model")
    device = Vsock(model="virtio")
    FAMILIES["vsock"].fill(device, words)
    cid = part(device, "cid", Cid)
    if cid.auto is None and cid.address is None:
        cid.auto = True
    request.domain.dev.vsocks.append(device)


def _iommu(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    if words.get("model") == "default":
        words["model"] = "smmuv3" if request.kind.arch == "aarch64" else "intel"
    device = Iommu()
    FAMILIES["iommu"].fill(device, words)
    request.domain.dev.iommus.append(device)


def _panic(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    model = words.get("model")
    if model == "default":
        words.pop("model")
    elif model is not None and (model.isdigit() or model.startswith("0x")):
        # an I/O port, of old
        words["model"], words["address.iobase"] = "isa", model
    device = Panic()
    FAMILIES["panic"].fill(device, words)
    if device.address is not None and device.address.type is None and device.address.iobase is not None:
        device.address = Address(type="isa", iobase=device.address.iobase, irq=device.address.irq)
    request.domain.dev.panics.append(device)


def _audio(request: Request, words: Words, text: str) -> None:
    if text == "none":
        return
    device = Audio()
    FAMILIES["audio"].fill(device, words)
    request.domain.dev.audios.append(device)


def _pstore(request: Request, words: Words, text: str) -> None:
    """The model keeps it as it is: a device that libvirt 10.10 has first."""
    if text == "none":
        return
    from lxml import etree

    for key in words:
        if key not in _PSTORE:
            from guesthouse.cli.virt_install.suboptions import unknown

            raise unknown("pstore", key, _PSTORE)
    node = etree.Element("pstore", backend=need("pstore", words, "backend") or "acpi-erst")
    for key in ("path", "size"):
        if (value := need("pstore", words, key)) is not None:
            etree.SubElement(node, key).text = value
    request.domain.dev.extra_nodes.append(node)


_PSTORE = ("backend", "path", "size")
add(
    Family(
        "hostdev",
        Hostdev,
        _hostdev,
        "name",
        ("name",),
        commas=("acpi.nodeset",),
        places=("driver/@iommufd", "acpi/@nodeset", *ON_DEVICES),
        aliases={"driver_name": "driver.name"},
        at="dev.hostdevs",
    ),
    Family(
        "filesystem",
        Filesystem,
        _filesystem,
        ("source", "target"),
        ("source", "target"),
        places=("space_hard_limit", "space_soft_limit", "driver/@name", *ON_DEVICES),
        at="dev.filesystems",
    ),
    Family(
        "memdev",
        Memory,
        _memdev,
        "model",
        commas=("source.nodemask", "source_nodemask"),
        places=("target/address/@base", "target/@dynamicMemslots", *ON_DEVICES),
        aliases={
            "target_size": "target.size",
            "target_node": "target.node",
            "target.label_size": "target.label.size",
            "target_label_size": "target.label.size",
            "target.address_base": "target.address.base",
            **{f"source_{key}": f"source.{key}" for key in ("pagesize", "path", "nodemask")},
        },
        at="dev.memories",
    ),
    Family("shmem", Shmem, _shmem, "name", places=ON_DEVICES, at="dev.shmems"),
    Family(
        "vsock",
        Vsock,
        _vsock,
        "model",
        places=ON_DEVICES,
        aliases={"auto_cid": "cid.auto", "cid": "cid.address"},
        at="dev.vsocks",
    ),
    Family("iommu", Iommu, _iommu, "model", places=ON_DEVICES, at="dev.iommus"),
    Family("panic", Panic, _panic, "model", places=ON_DEVICES, aliases={"iobase": "address.iobase"}, at="dev.panics"),
    Family("audio", Audio, _audio, "type", at="dev.audios"),
    Family("pstore", None, _pstore, "backend", _PSTORE),
)
