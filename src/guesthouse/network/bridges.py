"""The bridge of a virtual network: making it, its addresses and routes, and taking it away."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from pathlib import Path

from guesthouse.errors import Domain, InternalError, SystemFailure
from guesthouse.model.network import Network
from guesthouse.network.netlink import RTPROT_RA, Link, Netlink

_SYSCTL = Path("/proc/sys/net")
_REMEDY = "; virtual networks need root: use qemu:///system, or <interface type='user'/> in session mode"


def exists(name: str) -> bool:
    """Whether a network device of that name is there, a bridge or not."""
    with Netlink() as netlink:
        return netlink.link(name) is not None


def find(name: str, mac: str | None) -> Link | None:
    """The bridge that :func:`create` made with this name and MAC, or None; another's device is never it."""
    with Netlink() as netlink:
        link = netlink.link(name)
    return link if link is not None and link.kind == "bridge" and link.mac == mac else None


def create(network: Network) -> None:
    """Make the network's bridge with its addresses and routes, and bring it up.

    Raises SystemFailure (EPERM without rights, EEXIST where the name is taken); then nothing is left.
    """
    assert network.bridge is not None and network.bridge.name and network.mac is not None
    name = network.bridge.name
    with Netlink() as netlink, contextlib.ExitStack() as undo:
        try:
            _make(netlink, network)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                text = f"error creating bridge interface {name}: {os.strerror(error.errno)}{_REMEDY}"
                raise SystemFailure(text, domain=Domain.NETWORK, int1=error.errno) from error
            raise SystemFailure.from_os(error, f"error creating bridge interface {name}") from error
        undo.callback(delete, name, network.mac.address)
        link = netlink.link(name)
        if link is None:
            raise InternalError(f"bridge {name} vanished while network '{network.name}' started")
        _ipv6_settings(name, bool(network.ips_of(6)))
        for ip in network.ips:
            try:
                netlink.add_address(link.index, ip.interface)
            except OSError as error:
                raise SystemFailure.from_os(error, f"Failed to add IP address {ip.interface} to {name}") from error
        try:
            netlink.set_link(link.index, up=True)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Cannot set interface flags on '{name}'") from error
        for route in network.routes:
            gateway = ipaddress.ip_address(route.gateway or "")
            # a route that cannot be added does not keep the network down: libvirt goes on likewise
            with contextlib.suppress(OSError):
                netlink.add_route(link.index, route.destination, gateway, route.metric or 1)
        undo.pop_all()


def _make(netlink: Netlink, network: Network) -> None:
    bridge = network.bridge
    assert bridge is not None and network.mac is not None
    filtering = bridge.mac_table_manager == "libvirt"
    for vlan_filtering in (True, False) if filtering else (False,):
        try:
            netlink.create_bridge(
                bridge.name or "",
                mac=network.mac.address or "",
                mtu=network.mtu.size if network.mtu else None,
                stp=bridge.stp is not False,
                delay=bridge.delay or 0,
                vlan_filtering=vlan_filtering,
            )
            return
        except OSError as error:
            # it saves ports from getting what is not theirs only to drop it; not every kernel can
            if not vlan_filtering or error.errno != errno.EOPNOTSUPP:
                raise


def delete(name: str, mac: str | None) -> None:
    """Remove the bridge that has this name and this MAC; another's of the same name, or none, is left alone.

    Raises SystemFailure where the kernel refuses.
    """
    with Netlink() as netlink:
        link = netlink.link(name)
        if link is None or link.kind != "bridge" or link.mac != mac:
            return
        try:
            netlink.delete_link(link.index)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise SystemFailure.from_os(error, f"Unable to delete bridge {name}") from error


def _ipv6_settings(name: str, wanted: bool) -> None:
    """IPv6 off where the network has no such address; on, router advertisements of guests are never believed."""
    folder = _SYSCTL / "ipv6/conf" / name
    if not folder.is_dir():
        return
    for setting, value in (("disable_ipv6", "0" if wanted else "1"), ("accept_ra", "0"), ("autoconf", "0")):
        try:
            (folder / setting).write_text(value)
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot write to '{folder / setting}'") from error


def enable_forwarding(network: Network) -> None:
    """Let the host route for the families that the network has addresses of.

    Raises InternalError where IPv6 forwarding would cost the host routes that it learned from router advertisements
    (the kernel drops them unless accept_ra is 2), SystemFailure where the setting cannot be written.
    """
    if network.ips_of(6):
        _check_learned_routes()
        _write_forwarding("ipv6/conf/all/forwarding")
    if network.ips_of(4):
        _write_forwarding("ipv4/ip_forward")


def _write_forwarding(setting: str) -> None:
    path = _SYSCTL / setting
    try:
        if path.read_text().strip() == "0":
            path.write_text("1\n")
    except OSError as error:
        raise SystemFailure.from_os(error, "failed to enable IP forwarding") from error


def _check_learned_routes() -> None:
    with Netlink() as netlink:
        names = {link.index: link.name for link in netlink.links()}
        learned = {names.get(r.device, "") for r in netlink.routes() if r.protocol == RTPROT_RA}
    for name in sorted(learned):
        try:
            if (_SYSCTL / "ipv6/conf" / name / "accept_ra").read_text().strip() == "2":
                continue
        except OSError:
            continue
        raise InternalError(
            f"Check the host setup: interface {name} has kernel autoconfigured IPv6 routes and enabling forwarding "
            f"without accept_ra set to 2 will cause the kernel to flush them, breaking networking; "
            f"'sysctl net.ipv6.conf.{name}.accept_ra=2' mends it",
            domain=Domain.NETWORK,
        )
