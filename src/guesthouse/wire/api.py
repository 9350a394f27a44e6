"""libvirt's public functions, as its messages name them."""

from __future__ import annotations

_SPELLING = {
    "xml": "XML",
    "uuid": "UUID",
    "id": "ID",
    "os": "OS",
    "vcpus": "Vcpus",
    "dhcp": "DHCP",
    "cpu": "CPU",
    "fd": "FD",
    "nwfilter": "NWFilter",
}


def api_name(procedure: str) -> str:
    """The public function that a procedure serves, as libvirt's messages name it: virDomainGetInfo."""
    words = procedure.removeprefix("qemu_").split("_")
    prefix = "virDomainQemu" if procedure.startswith("qemu_domain") else "vir"
    if procedure.startswith("qemu_domain"):
        words = words[1:]
    return prefix + "".join(_SPELLING.get(word, word.capitalize()) for word in words)
