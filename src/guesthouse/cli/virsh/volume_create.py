"""Making volumes: from XML, from options, from another volume."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import POOL, pool, read_file
from guesthouse.cli.virsh.shell import Shell
from guesthouse.cli.virsh.volume_args import IN_POOL, VOLUME, find_backing, size, volume

_FILE = data("file", "a file with the new volume's XML", "file")
_PREALLOCATE = flag("prealloc-metadata", "write the metadata of the whole volume (qcow2)")
_REFLINK = flag("reflink", "share the content with the other volume until one of them changes (btrfs)")
_VALIDATE = flag("validate", "check the XML against its schema")
_PRINT = flag("print-xml", "show the XML and do nothing")
_FLAGS = {"prealloc-metadata": 1, "reflink": 2, "validate": 4}


@command(
    "volume",
    "vol-create",
    "make a volume from an XML file",
    POOL,
    _FILE,
    _PREALLOCATE,
    _VALIDATE,
    description="Make a volume in an active pool.",
)
def create(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to create vol from {path}"):
        vol = storage.vol_create_xml(xml, given.flags(_FLAGS))
    shell.extra(f"Vol {vol.name} created from {path}\n")


@command(
    "volume",
    "vol-create-as",
    "make a volume from options",
    POOL,
    data("name", "name of the volume"),
    data("capacity", "its size, such as 20G; in bytes without a unit"),
    string("allocation", "how much of it to take from the pool at once; all of it by default", empty=True),
    string("format", "its format: raw, qcow2, qed, vmdk, ...", "raw bochs qcow qcow2 qed vmdk"),
    string("backing-vol", "the volume that holds what is not written to this one", "volume"),
    string("backing-vol-format", "the format of that volume"),
    _PREALLOCATE,
    _PRINT,
    description="Make a volume in an active pool.",
)
def create_as(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    name = given.need("name")
    lines = ["<volume>", f"  <name>{name}</name>", f"  <capacity>{size(given.need('capacity'))}</capacity>"]
    if allocation := given.text("allocation"):
        lines.append(f"  <allocation>{size(allocation)}</allocation>")
    # as in libvirt's virsh, values stand in the XML as they were given: users write entities themselves
    if kind := given.text("format"):
        lines += ["  <target>", f"    <format type='{kind}'/>", "  </target>"]
    backing, backing_kind = given.text("backing-vol"), given.text("backing-vol-format")
    if backing is not None:
        path = find_backing(shell, storage, backing).get_path()
        lines += ["  <backingStore>", f"    <path>{path}</path>"]
        if backing_kind:
            lines.append(f"    <format type='{backing_kind}'/>")
        lines.append("  </backingStore>")
    lines.append("</volume>\n")
    xml = "\n".join(lines)
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain(f"Failed to create vol {name}"):
        storage.vol_create_xml(xml, given.flags(_FLAGS))
    shell.extra(f"Vol {name} created\n")


@command(
    "volume",
    "vol-create-from",
    "make a volume with the content of another one",
    POOL,
    _FILE,
    VOLUME,
    string("inputpool", "name or UUID of the pool of the other volume", "pool"),
    _PREALLOCATE,
    _REFLINK,
    _VALIDATE,
    description="Make a volume from an XML file and fill it with another volume's content, whatever the format of each.",
)
def create_from(shell: Shell, given: Given) -> None:
    storage, _ = pool(shell, given)
    path = given.need("file")
    source, _ = volume(shell, given, "inputpool")
    xml = read_file(path)
    with shell.explain(f"Failed to create vol from {path}"):
        vol = storage.vol_create_xml_from(xml, source, given.flags(_FLAGS))
    shell.extra(f"Vol {vol.name} created from input vol {source.name}\n")


@command(
    "volume",
    "vol-clone",
    "make a copy of a volume in its pool",
    VOLUME,
    data("newname", "name of the copy"),
    IN_POOL,
    _PREALLOCATE,
    _REFLINK,
    _PRINT,
    description="Make a volume that is like another one of the same pool, content and all.",
)
def clone(shell: Shell, given: Given) -> None:
    source, _ = volume(shell, given)
    with shell.explain("failed to get parent pool"):
        storage = source.pool_lookup_by_volume()
    xml = _renamed(source.get_xml_desc(), given.need("newname"))
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain(f"Failed to clone vol from {source.name}"):
        vol = storage.vol_create_xml_from(xml, source, given.flags(_FLAGS))
    shell.extra(f"Vol {vol.name} cloned from {source.name}\n")


def _renamed(xml: str, name: str) -> str:
    """The volume's XML with another name, written as libxml2 writes it."""
    from lxml import etree

    root = etree.fromstring(xml.encode())
    found = root.find("name")
    if found is not None:
        found.text = name
    return str(etree.tostring(root, encoding="unicode"))
