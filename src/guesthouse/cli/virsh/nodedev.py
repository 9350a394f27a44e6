"""Commands about the devices of the host."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import dump_xml, read_file, row, xpath_options, yes_no
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import NodeDevice

_DEVICE = data("device", "name of the device, or WWNN,WWPN of a SCSI host", "device")
_FILE = data("file", "a file with the device's XML", "file")
_VALIDATE = flag("validate", "check the XML against its schema")
_WWN_LENGTH = 16


def _device(shell: Shell, given: Given) -> NodeDevice:
    return find_device(shell, given.need("device"))


def _named(shell: Shell, name: str) -> NodeDevice:
    """The device called ``name``. Raises Failed."""
    try:
        return shell.conn.node_device_lookup_by_name(name)
    except GuesthouseError as error:
        raise Failed(f"Could not find matching device '{name}'") from error


def find_device(shell: Shell, name: str) -> NodeDevice:
    """The device called ``name``, or the SCSI host with that WWNN,WWPN. Raises Failed."""
    if "," not in name:
        return _named(shell, name)
    names = name.split(",")
    if len(names) != 2:
        raise Failed(f"Malformed device value '{name}'")
    for wwn in names:
        digits = wwn.removeprefix("0x")
        if len(digits) != _WWN_LENGTH or not set(digits) <= set("0123456789abcdefABCDEF"):
            raise InternalError(f"Malformed wwn: {wwn}")
    try:
        return shell.conn.node_device_lookup_scsi_host_by_wwn(names[0], names[1])
    except GuesthouseError as error:
        raise Failed(f"Could not find matching device '{name}'") from error


@command(
    "nodedev",
    "nodedev-create",
    "make a device of the host from an XML file",
    _FILE,
    _VALIDATE,
    description="Make a device that guests can be given: a mediated device, or a virtual Fibre Channel host.",
)
def create(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to create node device from {path}"):
        device = shell.conn.node_device_create_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Node device {device.name} created from {path}\n")


@command(
    "nodedev",
    "nodedev-define",
    "define a device of the host from an XML file",
    _FILE,
    _VALIDATE,
    description="Define a device, or change its definition, without making it.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define node device from '{path}'"):
        device = shell.conn.node_device_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Node device '{device.name}' defined from '{path}'\n")


@command(
    "nodedev", "nodedev-undefine", "remove a device's definition", _DEVICE, description="Forget how a device is made."
)
def undefine(shell: Shell, given: Given) -> None:
    device = _device(shell, given)
    with shell.explain(f"Failed to undefine node device '{device.name}'"):
        device.undefine()
    shell.extra(f"Undefined node device '{device.name}'\n")


@command(
    "nodedev", "nodedev-start", "make a device that is defined", _DEVICE, description="Make a device by its definition."
)
def start(shell: Shell, given: Given) -> None:
    device = _device(shell, given)
    with shell.explain(f"Failed to start device {device.name}"):
        device.create()
    shell.extra(f"Device {device.name} started\n")


@command(
    "nodedev",
    "nodedev-destroy",
    "remove a device that was made",
    _DEVICE,
    description="Remove a device of the host that was made by nodedev-create or nodedev-start.",
)
def destroy(shell: Shell, given: Given) -> None:
    device = _device(shell, given)
    with shell.explain(f"Failed to destroy node device '{device.name}'"):
        device.destroy()
    shell.extra(f"Destroyed node device '{device.name}'\n")


@command(
    "nodedev",
    "nodedev-autostart",
    "make a device whenever the host starts",
    _DEVICE,
    flag("disable", "do not"),
    description="Say whether a device that is defined is made when the host boots.",
)
def autostart(shell: Shell, given: Given) -> None:
    device = _device(shell, given)
    mark = "unmark" if given.has("disable") else "mark"
    with shell.explain(f"failed to {mark} device {device.name} as autostarted"):
        device.set_autostart(not given.has("disable"))
    shell.extra(f"Device {device.name} {mark}ed as autostarted\n")


@command(
    "nodedev",
    "nodedev-dumpxml",
    "show a device's XML",
    _DEVICE,
    *xpath_options(),
    description="Print the XML that describes a device of the host.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    dump_xml(shell, given, _device(shell, given).get_xml_desc())


@command(
    "nodedev",
    "nodedev-info",
    "show what a device is and how it is",
    _DEVICE,
    description="Print a device's name and parent, and whether it is active, persistent and made at boot.",
)
def info(shell: Shell, given: Given) -> None:
    device = _device(shell, given)
    shell.out(row("Name:", device.name))
    shell.out(row("Parent:", device.get_parent() or ""))
    shell.out(row("Active:", yes_no(device.is_active())))
    shell.out(row("Persistent:", yes_no(device.is_persistent())))
    shell.out(row("Autostart:", yes_no(device.get_autostart())))


@command(
    "nodedev",
    "nodedev-detach",
    "take a device from the host's driver",
    data("device", "name of the device", "device"),
    string("driver", "the driver that is to have it: vfio", "vfio"),
    description="Take a PCI device from its driver, so that a guest can have it.",
)
def detach(shell: Shell, given: Given) -> None:
    driver = given.text("driver")
    device = _named(shell, given.need("device"))
    with shell.explain(f"Failed to detach device {device.name}"):
        if driver is None:
            device.dettach()
        else:
            device.detach_flags(driver)
    shell.extra(f"Device {device.name} detached\n")


@command(
    "nodedev",
    "nodedev-reattach",
    "give a device back to the host's driver",
    data("device", "name of the device", "device"),
    description="Give a PCI device back to the driver that it had before it was detached.",
)
def reattach(shell: Shell, given: Given) -> None:
    device = _named(shell, given.need("device"))
    with shell.explain(f"Failed to re-attach device {device.name}"):
        device.re_attach()
    shell.extra(f"Device {device.name} re-attached\n")


@command(
    "nodedev",
    "nodedev-reset",
    "reset a device",
    data("device", "name of the device", "device"),
    description="Reset a PCI device, before or after a guest has it.",
)
def reset(shell: Shell, given: Given) -> None:
    device = _named(shell, given.need("device"))
    with shell.explain(f"Failed to reset device {device.name}"):
        device.reset()
    shell.extra(f"Device {device.name} reset\n")
