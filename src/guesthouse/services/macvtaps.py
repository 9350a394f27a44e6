"""The macvtap devices of this host's guests.

They do not vanish with QEMU as taps do: a runtime row (kind "macvtap", by the device's name) is written before one is
made, with the guest's address, the device below, and the address that it had where it is passed through.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, SystemFailure
from guesthouse.model.devices.interface import Interface
from guesthouse.network import macvtap
from guesthouse.network.macvtap import Macvtap
from guesthouse.services.network_runtime import in_thread
from guesthouse.services.store import Store

_log = logging.getLogger(__name__)
_KIND = "macvtap"
_EXISTS = 17


class Macvtaps:
    """Makes them and takes them away, this daemon's or those of one before it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def plug(self, iface: Interface, device: str, mode: str | None) -> Macvtap:
        """Make the device that the guest's ``iface`` gets on the host's ``device``: with its address, queues and, where
        it wishes one, name. ``mode`` None is "vepa". ``iface`` is not changed.

        The caller closes the descriptors. Raises ConfigUnsupported and SystemFailure; then all is as before."""
        mode = mode or "vepa"
        if iface.vlan is not None and mode != "passthrough":
            text = f"interface {iface.mac_address} - vlan tag not supported for this connection type"
            raise ConfigUnsupported(text, domain=Domain.DOMAIN)
        if iface.vlan is not None:
            macvtap.check_vlan(device)
        mac = iface.mac_address
        if not device or not mac:
            raise InternalError("interface without a device or a MAC address")
        wanted = iface.target.dev if iface.target else None
        if wanted and wanted.startswith("macvtap"):
            # a name that was made up for a former run
            wanted = None
        row: dict[str, str | None] = {"device": device, "mac": mac, "former": None}
        if mode == "passthrough":
            row["former"] = await in_thread(macvtap.current_mac, device)
        queues = (iface.driver.queues if iface.driver else None) or 1
        virtio = bool(iface.model and (iface.model.type or "").startswith("virtio"))
        while True:
            name = wanted if wanted else await in_thread(macvtap.free_name)
            if self._store.get_runtime(_KIND, name) is not None:
                text = f"error creating macvtap interface {name}@{device} ({mac})"
                raise SystemFailure.from_os(OSError(_EXISTS, os.strerror(_EXISTS)), text)
            self._store.put_runtime(_KIND, name, row)
            try:
                if row["former"]:
                    await in_thread(macvtap.take_over, device, mac)
                return await in_thread(macvtap.create, name, device, mac, mode, queues=queues, vnet_hdr=virtio)
            except BaseException as error:
                await self.unplug(name)
                taken = isinstance(error, SystemFailure) and error.int1 == _EXISTS
                if not taken or wanted:
                    raise

    async def unplug(self, name: str) -> None:
        """Take a guest's device away and give the device below its address back; nothing happens to one that no guest
        had. What hinders is logged: the guest is gone all the same."""
        row = self._store.get_runtime(_KIND, name)
        if row is None:
            return
        try:
            await in_thread(macvtap.delete, name, row["mac"])
            if row["former"]:
                await in_thread(macvtap.take_over, row["device"], row["former"])
        except GuesthouseError as error:
            _log.warning("the device %s of a guest that is gone: %s", name, error)
        self._store.delete_runtime(_KIND, name)

    async def sweep(self, used: Collection[str]) -> None:
        """Take away what a daemon that was killed left of guests that are not there; ``used`` are the devices of those
        that are."""
        for name in self._store.all_runtime(_KIND):
            if name not in used:
                await self.unplug(name)
