"""Commands about network filters, and about which devices have which."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, flag
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import dump_xml, read_file, xpath_options
from guesthouse.cli.virsh.shell import DEBUG, INFO, Shell
from guesthouse.errors import GuesthouseError, InvalidArg, XMLError
from guesthouse.units import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import NWFilter, NWFilterBinding

_FILTER = data("nwfilter", "name or UUID of the filter", "nwfilter")
_BINDING = data("binding", "the device that has the filter", "binding")
_FILE = data("file", "a file with the XML", "file")
_VALIDATE = flag("validate", "check the XML against its schema")
_UUID_LENGTH = 36


def _filter(shell: Shell, given: Given) -> tuple[NWFilter, str]:
    """The filter that the option names, and the name as given. Raises Failed, with the daemon's word."""
    name = given.need("nwfilter")
    begin = f"{given.command.name}: "
    shell.debug(INFO, f"{begin}found option <nwfilter>: {name}")
    if len(name) == _UUID_LENGTH:
        shell.debug(DEBUG, f"{begin}<nwfilter> trying as nwfilter UUID")
        try:
            return shell.conn.nwfilter_lookup_by_uuid(_checked(name)), name
        except GuesthouseError:
            pass
    shell.debug(DEBUG, f"{begin}<nwfilter> trying as nwfilter NAME")
    try:
        return shell.conn.nwfilter_lookup_by_name(name), name
    except GuesthouseError as error:
        raise Failed(f"failed to get nwfilter '{name}'") from error


def _checked(name: str) -> str:
    try:
        return parse_uuid(name)
    except XMLError:
        raise InvalidArg("uuidstr in virNWFilterLookupByUUIDString must be a valid UUID") from None


def _binding(shell: Shell, given: Given) -> tuple[NWFilterBinding, str]:
    name = given.need("binding")
    shell.debug(INFO, f"{given.command.name}: found option <binding>: {name}")
    try:
        return shell.conn.nwfilter_binding_lookup_by_port_dev(name), name
    except GuesthouseError as error:
        raise Failed(f"failed to get nwfilter binding '{name}'") from error


@command(
    "filter",
    "nwfilter-define",
    "make a network filter known, or change it, from an XML file",
    _FILE,
    _VALIDATE,
    description="Make a network filter known, or change one; running guests that use it have the new rules at once.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define network filter from {path}"):
        found = shell.conn.nwfilter_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Network filter {found.name} defined from {path}\n")


@command(
    "filter",
    "nwfilter-undefine",
    "forget a network filter",
    _FILTER,
    description="Forget a network filter that no running guest uses.",
)
def undefine(shell: Shell, given: Given) -> None:
    found, name = _filter(shell, given)
    with shell.explain(f"Failed to undefine network filter {name}"):
        found.undefine()
    shell.extra(f"Network filter {name} undefined\n")


@command(
    "filter",
    "nwfilter-dumpxml",
    "show a network filter's XML",
    _FILTER,
    *xpath_options(),
    description="Print the XML that describes a network filter.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    dump_xml(shell, given, _filter(shell, given)[0].get_xml_desc())


@command(
    "filter",
    "nwfilter-edit",
    "change a network filter in an editor",
    _FILTER,
    description="Open the filter's XML in an editor and define what comes back.",
)
def edit_filter(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.editing import edit

    found, _ = _filter(shell, given)
    edited = edit(shell, found.get_xml_desc, shell.conn.nwfilter_define_xml)
    if edited is None:
        shell.extra(f"Network filter {found.name} XML configuration not changed.\n")
    else:
        shell.extra(f"Network filter {edited.name} XML configuration edited.\n")


@command("filter", "nwfilter-list", "list network filters", description="List the network filters by name.")
def show_list(shell: Shell, given: Given) -> None:
    with shell.explain("Failed to list network filters"):
        found = shell.conn.list_all_nwfilters()
    rows = [(each.uuid, each.name) for each in sorted(found, key=lambda each: each.name)]
    shell.out(format_table(("UUID", "Name"), rows, header=not shell.quiet))


@command(
    "filter",
    "nwfilter-binding-create",
    "give a device a network filter, from an XML file",
    _FILE,
    _VALIDATE,
    description="Give a network device of the host a filter. Guests' devices get theirs by themselves.",
)
def binding_create(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to create network filter from {path}"):
        found = shell.conn.nwfilter_binding_create_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Network filter binding on {found.portdev} created from {path}\n")


@command(
    "filter",
    "nwfilter-binding-delete",
    "take a device's network filter away",
    _BINDING,
    description="Take the filter of a network device away: everything passes from then on.",
)
def binding_delete(shell: Shell, given: Given) -> None:
    found, name = _binding(shell, given)
    with shell.explain(f"Failed to delete network filter binding {name}"):
        found.delete()
    shell.extra(f"Network filter binding on {name} deleted\n")


@command(
    "filter",
    "nwfilter-binding-dumpxml",
    "show the XML of a device's network filter",
    _BINDING,
    *xpath_options(),
    description="Print the XML that says whose device it is, and which filter it has with which parameters.",
)
def binding_dumpxml(shell: Shell, given: Given) -> None:
    dump_xml(shell, given, _binding(shell, given)[0].get_xml_desc())


@command(
    "filter",
    "nwfilter-binding-list",
    "list which devices have which network filter",
    description="List the network devices that have a filter: those of running guests, and those that were given one.",
)
def binding_list(shell: Shell, given: Given) -> None:
    with shell.explain("Failed to list network filter bindings"):
        found = shell.conn.list_all_nwfilter_bindings()
    rows = [(each.portdev, each.filtername) for each in sorted(found, key=lambda each: each.portdev)]
    shell.out(format_table(("Port Dev", "Filter"), rows, header=not shell.quiet))
