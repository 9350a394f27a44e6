"""Where guests' screens listen: addresses, ports and sockets that are free."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.graphics import Graphics, Listen
from guesthouse.model.domain import Domain
from guesthouse.network.netlink import Netlink
from guesthouse.qemu.devices.chardev import Certificates
from guesthouse.services.context import Config
from guesthouse.services.guests import Guest
from guesthouse.services.networks import Networks

_PORTS, _WEBSOCKETS = range(5900, 65536), range(5700, 65536)
_SERVERS = ("vnc", "spice")
# what a command line shows that nothing is started with; libvirt's
_VNC_SHOWN, _SPICE_SHOWN, _TLS_SHOWN = 5900, 5901, 5902
_LOCALHOST = "127.0.0.1"


def certificates(config: Config) -> Certificates:
    """What encrypted screens and character devices show."""
    return Certificates(
        config.vnc_tls_x509_cert_dir if config.vnc_tls else "",
        config.vnc_tls_x509_verify,
        config.spice_tls_x509_cert_dir if config.spice_tls else "",
        config.chardev_tls_x509_cert_dir,
    )


def choose(live: Domain, folder: Path, config: Config, networks: Networks, guests: Iterable[Guest] | None) -> None:
    """Decide in the live document where its screens listen; ``folder`` is the guest's own, ``guests`` are those whose
    ports are taken. None: nothing is started, and all is as libvirt shows it then. Raises libvirt's errors."""
    for display in live.dev.graphics:
        if display.autoport:
            display.port = display.tls_port = None  # of a former run
    taken = set(_ports(live))
    for guest in guests or ():
        taken |= set(_ports(guest.live)) if guest.live is not None else set()
    for display in live.dev.graphics:
        if display.type not in _SERVERS:
            continue
        for listen in display.listens:
            _place(display, listen, folder, config, networks)
        first = display.listens[0] if display.listens else None
        if first is not None and first.type == "socket":
            display.port = display.tls_port = display.autoport = display.websocket = display.listen = None
        elif first is None or first.type in ("address", "network"):
            address = (first and first.address) or _LOCALHOST
            _choose_ports(display, address, taken if guests is not None else None, tls=config.spice_tls)


def _ports(live: Domain) -> list[int]:
    """Those that its screens have; those that are chosen anew at each start do not count in a definition."""
    return [
        port
        for display in live.dev.graphics
        for port in (display.port, display.tls_port, display.websocket)
        if port is not None and port > 0
    ]


def _place(display: Graphics, listen: Listen, folder: Path, config: Config, networks: Networks) -> None:
    auto = config.vnc_auto_unix_socket if display.type == "vnc" else config.spice_auto_unix_socket
    if listen.type == "address" and listen.address is None and auto:
        listen.type = "socket"
    if listen.type == "address" and listen.address is None:
        listen.address = config.vnc_listen
        if listen is display.listens[0]:
            display.listen = listen.address
    elif listen.type == "network" and listen.address is None:
        listen.address = _address_of(networks, listen.network) if listen.network else config.vnc_listen
        if listen is display.listens[0]:
            display.listen = listen.address
    elif listen.type == "socket" and not listen.socket:
        listen.socket = str(folder / f"{display.type}.sock")
        if display.type == "vnc":
            display.socket = listen.socket


def _address_of(networks: Networks, name: str) -> str:
    """This host's first address in a network. Raises NoNetwork, InternalError."""
    network = networks.by_name(name).current
    if network.owns_bridge:
        if not network.ips:
            raise InternalError(f"network '{name}' doesn't have an IP address")
        return str(network.ips[0].interface.ip)
    device = network.bridge_name or network.forward_dev
    if not device:
        raise InternalError(f"network '{name}' has no associated interface or bridge")
    with Netlink() as netlink:
        link = netlink.link(device)
        for index, address in netlink.addresses():
            if link is not None and index == link.index:
                return str(address.ip)
    raise InternalError(f"Could not get IP address of device '{device}'", domain=ErrorDomain.NONE)


def _choose_ports(display: Graphics, address: str, taken: set[int] | None, *, tls: bool) -> None:
    """``taken`` None: nothing is looked at."""
    plain = display.port == -1
    secure = display.tls_port == -1
    if display.autoport and display.type == "vnc":
        plain = True
    elif display.autoport:
        modes = {channel.mode for channel in display.channels}
        default = display.default_mode or "any"
        plain |= "insecure" in modes or default in ("insecure", "any")
        secure |= "secure" in modes or default == "secure" or (default == "any" and tls)
    if secure and display.type == "spice" and taken is not None and not tls:
        text = "Auto allocation of spice TLS port requested but spice TLS is disabled in qemu.conf"
        raise ConfigUnsupported(text)
    if taken is None:
        shown = _VNC_SHOWN if display.type == "vnc" else _SPICE_SHOWN
        display.port = shown if plain else display.port
        display.tls_port = _TLS_SHOWN if secure and display.type == "spice" else display.tls_port
        return
    if plain:
        display.port = _free(display, address, _PORTS, taken)
    if secure and display.type == "spice":
        display.tls_port = _free(display, address, _PORTS, taken)
    if display.websocket == -1:
        display.websocket = _free(display, address, _WEBSOCKETS, taken)


def _free(display: Graphics, address: str, ports: range, taken: set[int]) -> int:
    """The first port that nobody has; it is ``taken`` then."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        if port in taken:
            continue
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == 98:
                    continue
                raise InternalError(
                    f"cannot listen on '{address}' for {display.type}: {error.strerror}; is it an address of this host?"
                ) from None
            taken.add(port)
            return port
    raise InternalError("no free port for graphics")
