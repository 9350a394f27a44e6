"""Commands that say what pools there could be."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import read_file
from guesthouse.cli.virsh.shell import Shell

_TYPE = data("type", "the type of pool: netfs, logical, ...")


def _show(shell: Shell, given: Given, spec: str | None) -> None:
    with shell.explain(f"Failed to find any {given.need('type')} pool sources"):
        found = shell.conn.call("connect_find_storage_pool_sources", type=given.need("type"), srcSpec=spec, flags=0)
    shell.out(found.xml)


@command(
    "pool",
    "find-storage-pool-sources",
    "find what pools could be made of",
    _TYPE,
    string("srcSpec", "a file with the XML of a source, which says where to look", "file"),
    description="Print as XML what pools of a type could be made of.",
)
def find(shell: Shell, given: Given) -> None:
    path = given.text("srcSpec")
    _show(shell, given, None if path is None else read_file(path))


@command(
    "pool",
    "find-storage-pool-sources-as",
    "find what pools could be made of, from options",
    _TYPE,
    string("host", "the host to ask"),
    string("port", "the port of that host"),
    string("initiator", "the iSCSI name to ask with"),
    description="Print as XML what pools of a type could be made of.",
)
def find_as(shell: Shell, given: Given) -> None:
    host, port, initiator = given.text("host"), given.text("port"), given.text("initiator")
    if host is None:
        _show(shell, given, None)
        return
    words = f" port='{port}'" if port is not None else ""
    lines = ["<source>", f"  <host name='{host}'{words}/>"]
    if initiator is not None:
        lines += ["  <initiator>", f"    <iqn name='{initiator}'/>", "  </initiator>"]
    _show(shell, given, "\n".join([*lines, "</source>", ""]))


@command(
    "pool",
    "pool-capabilities",
    "print what pools this host can have",
    description="Print as XML the types of pools, and the formats of their sources and volumes.",
)
def capabilities(shell: Shell, given: Given) -> None:
    with shell.explain("failed to get storage pool capabilities"):
        found = shell.conn.call("connect_get_storage_pool_capabilities", flags=0)
    shell.out(f"{found.capabilities}\n")
