"""Commands that say where a guest's screen is."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag, string
from guesthouse.cli.virsh.devices import attribute, guest_xml
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SECURE = 1
_VNC_BASE = 5900
_SCHEMES = ("vnc", "spice", "rdp", "dbus")


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _listen(graphics: Element) -> str | None:
    return graphics.get("listen") or attribute(graphics, "listen", "address")


@command(
    "domain",
    "vncdisplay",
    "show where a guest's VNC display listens",
    DOMAIN,
    description="Show the address and display number of a guest's VNC server, as a viewer takes them.",
)
def vnc(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    if not guest.is_active():
        raise Failed("Domain is not running")
    graphics = guest_xml(shell, guest).find("devices/graphics[@type='vnc']")
    port = None if graphics is None else _number(graphics.get("port"))
    if graphics is None or port is None:
        raise Failed("Failed to get VNC port. Is this domain using VNC?")
    listen = _listen(graphics)
    shell.out(f"{'' if listen in (None, '0.0.0.0') else listen}:{port - _VNC_BASE}\n")


@command(
    "domain",
    "domdisplay",
    "show the URI of a guest's display",
    DOMAIN,
    flag("include-password", "put the password into the URI"),
    string("type", "only a display of this kind: vnc, spice, rdp or dbus", " ".join(_SCHEMES)),
    flag("all", "show every display"),
    description="Show the URI with which a viewer reaches a guest's display.",
)
def display(shell: Shell, given: Given) -> None:
    given.exclusive("all", "type")
    guest, _ = domain(shell, given)
    if not guest.is_active():
        raise Failed("Domain is not running")
    kind = given.text("type")
    root = guest_xml(shell, guest, _SECURE if given.has("include-password") else 0)
    shown = False
    for scheme in _SCHEMES:
        graphics = root.find(f"devices/graphics[@type='{scheme}']")
        if graphics is None or (kind is not None and kind != scheme):
            continue
        uri = _dbus(shell, graphics) if scheme == "dbus" else _uri(shell, scheme, graphics)
        if uri is None:
            continue
        shell.out(uri)
        shown = True
        if not given.has("all"):
            break
        shell.out("\n")
    if not shown:
        raise Failed(f"No graphical display with type '{kind}' found" if kind else "No graphical display found")


def _dbus(shell: Shell, graphics: Element) -> str | None:
    address = graphics.get("address")
    if not address:
        return None
    if address.startswith("unix:path="):
        return f"dbus+unix://{address.removeprefix('unix:path=')}"
    shell.error(f"'{address}' D-Bus address is not handled")
    return None


def _uri(shell: Shell, scheme: str, graphics: Element) -> str | None:
    """The URI of a display; None where it listens nowhere (yet)."""
    port = _number(graphics.get("port")) or 0
    tls_port = _number(graphics.get("tlsPort")) or 0
    inner = graphics.find("listen")
    socket = inner.get("socket") if inner is not None and inner.get("type") == "socket" else None
    if not port and not tls_port and not socket:
        return None
    host = graphics.get("listen") or None
    if host in ("0.0.0.0", "::"):  # everywhere: as the connection reaches the host
        host = _server(shell.conn.get_uri())
    elif host is None:
        host = attribute(graphics, "listen", "address")
    password = graphics.get("passwd")
    uri = f"{scheme}+unix://" if socket else f"{scheme}://"
    if scheme == "vnc" and password:
        uri += f":{password}@"
    if socket:
        uri += socket
    else:
        host = host or "localhost"
        uri += f"[{host}]" if ":" in host else host
    if port:
        uri += f":{port - _VNC_BASE if scheme == 'vnc' else port}"
    query = f"tls-port={tls_port}&" if tls_port else ""
    if scheme == "spice" and password:
        query += f"password={password}&"
    return f"{uri}?{query}"[:-1]


def _server(uri: str) -> str | None:
    """The host in a connection URI, None where it is this one."""
    authority = uri.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0] or None
