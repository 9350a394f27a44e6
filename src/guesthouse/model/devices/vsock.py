"""<vsock>: sockets between host and guest."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias, VirtioOptions
from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Positive


class Cid(Element, tag="cid"):
    """The guest's number, as an address is; ``auto``: chosen at each start."""

    auto: bool | None = Attr("auto", Bool)
    address: int | None = Attr("address", Positive)


class Vsock(Element, tag="vsock"):
    model: str | None = Attr("model", Choice("virtio", "virtio-transitional", "virtio-non-transitional"))
    cid: Cid | None = Child(Cid)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
    driver: VirtioOptions | None = Child(VirtioOptions)
