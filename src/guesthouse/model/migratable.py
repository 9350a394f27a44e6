"""A document as ``dumpxml --migratable`` gives it: without what older versions of libvirt add by themselves. Pure."""

from __future__ import annotations

from guesthouse.model.defaults import in_order
from guesthouse.model.device_rules import default_audio
from guesthouse.model.devices.simple import Controller
from guesthouse.model.domain import Domain


def migratable(domain: Domain) -> Domain:
    """A copy of ``domain`` for a host whose libvirt may be old: controllers in the order in which they are read, without
    the USB and PCI controllers, the keyboard and the sound system that every guest gets."""
    out = domain.copy()
    dev = out.dev
    dev.controllers[:] = in_order(dev.controllers)
    usb = _only(dev.controllers, "usb")
    if out.is_i440fx and usb is not None and usb.index == 0 and usb.model in (None, "piix3-uhci"):
        dev.controllers.remove(usb)
    pci = _only(dev.controllers, "pci")
    if pci is not None and pci.index == 0 and pci.model == "pci-root" and pci.pcihole64 is None:
        dev.controllers.remove(pci)
    dev.inputs[:] = [item for item in dev.inputs if not (item.type == "keyboard" and item.bus == "ps2")]
    usual = default_audio(out)
    if usual is not None and dev.audios == [usual]:
        dev.audios.clear()
    for index, console in enumerate(dev.consoles):
        if console.target is not None:
            console.target.port = index
    for disk in dev.disks:
        disk.type = disk.type if disk.source is not None else "file"
    for screen in dev.graphics:
        kinds = {listen.type for listen in screen.listens}
        if screen.type == "spice" and kinds == {"none"}:
            screen.autoport = False
            screen.listens.clear()
    return out


def _only(controllers: list[Controller], kind: str) -> Controller | None:
    """The one controller of its type, unless it has a name of the user's."""
    found = [controller for controller in controllers if controller.type == kind]
    own = found[0].alias is not None and (found[0].alias.name or "").startswith("ua-") if found else False
    return found[0] if len(found) == 1 and not own else None
