"""Pools from options instead of XML."""

from __future__ import annotations

from guesthouse.cli.virsh.command import Option, command, data, flag, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.pool import BUILD_OPTIONS, create_flags
from guesthouse.cli.virsh.shell import Shell

_OPTIONS: tuple[Option, ...] = (
    data("name", "name of the pool"),
    data("type", "type of the pool: dir, fs, netfs, logical, ..."),
    flag("print-xml", "show the XML and do nothing"),
    string("source-host", "the host that has the storage"),
    string("source-path", "the path on that host"),
    string("source-dev", "the device, or the iSCSI target"),
    string("source-name", "what the storage calls itself, such as a volume group"),
    string("target", "where the pool appears on this host", "file"),
    string("source-format", "the format of what is there"),
    string("auth-type", "how to log in to the host: chap or ceph"),
    string("auth-username", "the user to log in as"),
    string("secret-usage", "the usage of the secret with the password"),
    string("secret-uuid", "the UUID of the secret with the password"),
    string("adapter-name", "the SCSI host, such as scsi_host1"),
    string("adapter-wwnn", "the node name of a virtual host bus adapter"),
    string("adapter-wwpn", "the port name of a virtual host bus adapter"),
    string("adapter-parent", "the SCSI host that the adapter is made on"),
    string("adapter-parent-wwnn", "the node name of that SCSI host"),
    string("adapter-parent-wwpn", "the port name of that SCSI host"),
    string("adapter-parent-fabric-wwn", "the name of that SCSI host's fabric"),
    string("source-protocol-ver", "the version of NFS to mount with"),
    string("source-initiator", "the iSCSI name of this host"),
)


@command(
    "pool",
    "pool-define-as",
    "define a pool from options",
    *_OPTIONS,
    description="Make a pool known to the daemon, without starting it.",
)
def define_as(shell: Shell, given: Given) -> None:
    xml = _pool_xml(given)
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain(f"Failed to define pool {given.need('name')}"):
        storage = shell.conn.storage_pool_define_xml(xml)
    shell.extra(f"Pool {storage.name} defined\n")


@command(
    "pool",
    "pool-create-as",
    "start a pool from options",
    *_OPTIONS,
    *BUILD_OPTIONS,
    description="Start a pool that is known only until it stops.",
)
def create_as(shell: Shell, given: Given) -> None:
    flags = create_flags(given)
    xml = _pool_xml(given)
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain(f"Failed to create pool {given.need('name')}"):
        storage = shell.conn.storage_pool_create_xml(xml, flags)
    shell.extra(f"Pool {storage.name} created\n")


def _pool_xml(given: Given) -> str:
    """The XML that the options describe. Raises Failed for an empty one.

    Values stand in it as they were given, as in libvirt's virsh: users write entities themselves.
    """
    given.exclusive("secret-usage", "secret-uuid")
    text = {option.name: given.text(option.name) for option in _OPTIONS if option.name != "print-xml"}
    host, path, device = text["source-host"], text["source-path"], text["source-dev"]
    initiator, kind, name = text["source-initiator"], text["source-format"], text["source-name"]
    adapter = _adapter(text)
    lines = [f"<pool type='{text['type']}'>", f"  <name>{text['name']}</name>"]
    if host or path or device or initiator or kind or name or adapter:
        lines.append("  <source>")
        if host:
            lines.append(f"    <host name='{host}'/>")
        if path:
            lines.append(f"    <dir path='{path}'/>")
        if device:
            lines.append(f"    <device path='{device}'/>")
        if initiator:
            lines += ["    <initiator>", f"      <iqn name='{initiator}'/>", "    </initiator>"]
        if adapter:
            lines.append(f"    <adapter {adapter}/>")
        lines += _login(text)
        if kind:
            lines.append(f"    <format type='{kind}'/>")
        if name:
            lines.append(f"    <name>{name}</name>")
        if text["source-protocol-ver"]:
            lines.append(f"    <protocol ver='{text['source-protocol-ver']}'/>")
        lines.append("  </source>")
    if text["target"]:
        lines += ["  <target>", f"    <path>{text['target']}</path>", "  </target>"]
    lines.append("</pool>\n")
    return "\n".join(lines)


def _adapter(text: dict[str, str | None]) -> str:
    """The attributes of <adapter>, empty where there is to be none."""
    name, wwnn, wwpn = text["adapter-name"], text["adapter-wwnn"], text["adapter-wwpn"]
    if not (wwnn and wwpn):
        return f"type='scsi_host' name='{name}'" if name else ""
    parent = ""
    if text["adapter-parent"]:
        parent = f" parent='{text['adapter-parent']}'"
    elif text["adapter-parent-wwnn"] and text["adapter-parent-wwpn"]:
        parent = f" parent_wwnn='{text['adapter-parent-wwnn']}' parent_wwpn='{text['adapter-parent-wwpn']}'"
    elif text["adapter-parent-fabric-wwn"]:
        parent = f" parent_fabric_wwn='{text['adapter-parent-fabric-wwn']}'"
    return f"type='fc_host'{parent} wwnn='{wwnn}' wwpn='{wwpn}'"


def _login(text: dict[str, str | None]) -> list[str]:
    """The lines of <auth>, none where a part of it is missing."""
    kind, user, usage, uuid = text["auth-type"], text["auth-username"], text["secret-usage"], text["secret-uuid"]
    if not (kind and user and (usage or uuid)):
        return []
    secret = f"usage='{usage}'" if usage else f"uuid='{uuid}'"
    return [f"    <auth type='{kind}' username='{user}'>", f"      <secret {secret}/>", "    </auth>"]
