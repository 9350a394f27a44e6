"""<redirdev>, <smartcard> and <shmem> for QEMU."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.redirected import Redirdev, RedirFilterRule, Shmem, Smartcard
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.chardev import Certificates, HostEnd, host_end
from guesthouse.qemu.devices.common import bus_of, pci, usb
from guesthouse.qemu.parts import Chardev, Parts, Props

#: Where NSS keeps its certificates.
_DATABASE = "/etc/pki/nssdb"


def redirdev(domain: Domain, device: Redirdev, end: HostEnd, certificates: Certificates) -> Parts:
    """A USB socket that a viewer plugs its devices into."""
    alias = (device.alias and device.alias.name) or "redir0"
    parts = host_end(device, end, certificates)
    props: Props = {"driver": "usb-redir", "chardev": f"char{alias}", "id": alias}
    rules = [rule for rules in domain.dev.redirfilters for rule in rules.rules]
    if rules:
        props["filter"] = "|".join(_rule(rule) for rule in rules)
    if device.boot is not None and device.boot.order:
        props["bootindex"] = device.boot.order
    parts.devices.append(props | usb(domain, device.address))
    return parts


def _rule(rule: RedirFilterRule) -> str:
    def number(value: int | None, width: int) -> str:
        return "-1" if value is None or value < 0 else f"0x{value:0{width}X}"

    words = [number(rule.usb_class, 2), number(rule.vendor, 4), number(rule.product, 4), number(rule.version, 4)]
    return ":".join([*words, "1" if rule.allow else "0"])


def smartcard(domain: Domain, device: Smartcard, end: HostEnd, certificates: Certificates) -> Parts:
    """A card in the guest's reader."""
    alias = (device.alias and device.alias.name) or "smartcard0"
    parts = Parts()
    props: Props
    if device.mode == "host":
        props = {"driver": "ccid-card-emulated", "backend": "nss-emulated"}
    elif device.mode == "host-certificates":
        props = {"driver": "ccid-card-emulated", "backend": "certificates"}
        props |= {f"cert{n}": c.name or "" for n, c in enumerate(device.certificates, 1)}
        props["db"] = device.database or _DATABASE
    else:
        parts = host_end(device, end, certificates)
        props = {"driver": "ccid-card-passthru", "chardev": f"char{alias}"}
    number = (device.address and device.address.controller) or 0
    parts.devices.append({**props, "id": alias, "bus": bus_of(domain, "ccid", number, f"ccid{number}") + ".0"})
    return parts


def shmem(domain: Domain, device: Shmem) -> Parts:
    """Memory that guests share. A server's socket is QEMU's to call."""
    alias = (device.alias and device.alias.name) or "shmem0"
    model = (device.model and device.model.type) or "ivshmem"
    if model == "ivshmem":
        raise ConfigUnsupported("shmem model 'ivshmem' is not supported by this QEMU binary")
    parts = Parts()
    props: Props = {"driver": model, "id": alias}
    if device.server is not None:
        parts.chardevs.append(Chardev(f"char{alias}", "socket", {"path": device.server.path or ""}))
        props["chardev"] = f"char{alias}"
    else:
        memory: Props = {"qom-type": "memory-backend-file", "id": f"shmmem-{alias}"}
        memory |= {"mem-path": f"/dev/shm/{device.name}", "size": device.size, "share": True}
        parts.objects.append(memory)
        props["memdev"] = memory["id"]
        if device.role is not None:
            props["master"] = "on" if device.role == "master" else "off"
    if device.msi is not None:
        props |= {"vectors": device.msi.vectors} if device.msi.vectors else {}
        props |= {"ioeventfd": device.msi.ioeventfd} if device.msi.ioeventfd is not None else {}
    parts.devices.append(props | pci(domain, device.address, device.acpi))
    return parts
