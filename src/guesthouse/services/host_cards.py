"""Guests' cards that are plugged into none of our networks or bridges: on a device of the host's (direct), on a tap that
somebody else connects (ethernet), or the kernel's virtio device (vdpa)."""

from __future__ import annotations

import logging
import os
import subprocess

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, SystemFailure
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.interface import Interface
from guesthouse.network import macvtap, taps
from guesthouse.network.netlink import Netlink
from guesthouse.services.macvtaps import Macvtaps
from guesthouse.services.network_runtime import in_thread
from guesthouse.services.store import Store

_log = logging.getLogger(__name__)

TYPES = ("direct", "ethernet", "vdpa")
_LLDPAD = "/run/lldpad.pid"
# cards whose frames have virtio's header on the host's side
_WITH_HEADER = ("e1000e", "vmxnet3", "igb")


class HostCards:
    """Makes their host ends, and takes them away."""

    def __init__(self, store: Store) -> None:
        self.macvtaps = Macvtaps(store)

    async def plug(self, iface: Interface) -> list[int]:
        """Make the host's end of one of :data:`TYPES`; its descriptors, a queue each, which the caller closes. Completes
        ``iface`` (a live copy) with the device's name. On failure nothing is left. Raises libvirt's errors."""
        if iface.type == "vdpa":
            return [_open_vdpa((iface.source and iface.source.dev) or "")]
        queues = (iface.driver.queues if iface.driver else None) or 1
        if iface.type == "direct":
            source = iface.source
            assert source is not None
            check_port_profile(iface)
            device = await self.macvtaps.plug(iface, source.dev or "", source.mode)
            iface.set_tap(device.name)
            return device.fds
        if iface.vlan is not None:
            text = f"interface {iface.mac_address} - vlan tag not supported for this connection type"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
        name = (iface.target.dev if iface.target else None) or ""
        if iface.target is not None and iface.target.managed is False:
            fds = await in_thread(_open_unmanaged, name, queues, has_header(iface))
        else:
            wanted = name if name and not name.startswith("vnet") else None
            mtu = iface.mtu.size if iface.mtu else None
            tap = await in_thread(
                taps.create_loose, iface.mac_address, name=wanted, queues=queues, mtu=mtu, vnet_hdr=has_header(iface)
            )
            name, fds = tap.name, tap.fds
        try:
            if iface.script is not None and iface.script.path:
                await in_thread(_run, iface.script.path, name)
        except BaseException:
            while fds:
                os.close(fds.pop())
            raise
        iface.set_tap(name)
        return fds

    async def unplug(self, iface: Interface) -> None:
        """Take away what :meth:`plug` made that does not vanish with QEMU. What hinders is logged."""
        name = (iface.target and iface.target.dev) or ""
        await self.macvtaps.unplug(name)
        if iface.type == "ethernet" and iface.downscript is not None and iface.downscript.path:
            try:
                await in_thread(_run, iface.downscript.path, name)
            except GuesthouseError as error:
                _log.warning("the script for '%s', whose guest is gone: %s", name, error)


def has_header(iface: Interface) -> bool:
    """Whether frames of the card have virtio's header on the host's side."""
    model = (iface.model and iface.model.type) or "rtl8139"
    return model.startswith("virtio") or model in _WITH_HEADER


def check_port_profile(iface: Interface) -> None:
    """Raises SystemFailure or ConfigUnsupported where a switch would have to be told of the guest: by lldpad, or by a
    card that passes it on."""
    profile = iface.virtualport
    kind = profile.type if profile is not None else None
    if kind == "802.1Qbg" and not os.path.exists(_LLDPAD):  # noqa: PTH110
        raise SystemFailure.from_os(FileNotFoundError(2, os.strerror(2)), f"Error opening file {_LLDPAD}")
    if kind in ("802.1Qbg", "802.1Qbh"):
        raise ConfigUnsupported(f"virtualport type '{kind}' is not supported on this host: no switch is told of guests")


def _open_vdpa(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to open '{path}' for vdpa device") from None


def _open_unmanaged(name: str, queues: int, vnet_hdr: bool) -> list[int]:
    if not name:
        raise InternalError("target dev must be supplied when managed='no'")
    with Netlink() as netlink:
        link = netlink.link(name)
    if link is None:
        raise InternalError("target managed='no' but specified dev doesn't exist")
    if link.kind == "macvtap":
        return macvtap.open_queues(name, queues, vnet_hdr=vnet_hdr).fds
    return taps.open_existing(name, queues=queues, vnet_hdr=vnet_hdr).fds


def _run(script: str, name: str) -> None:
    """Run a user's script for a tap. Raises InternalError where it fails."""
    try:
        done = subprocess.run([script, name], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot execute binary {script}") from None
    if done.returncode:
        status = f"exit status {done.returncode}" if done.returncode > 0 else f"fatal signal {-done.returncode}"
        text = f"Child process ({script} {name}) unexpected {status}: {done.stderr}"
        raise InternalError(text, domain=ErrorDomain.NONE)
