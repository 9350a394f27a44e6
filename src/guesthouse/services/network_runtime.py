"""A running network on this host: what starting one makes, what stopping it takes away, and finding both again after
the daemon was killed in between.

The runtime row is written before anything is made, and says enough to find every leftover: the document has the
bridge's name and MAC (a bridge with another MAC is somebody else's), the files of dnsmasq lie at fixed places.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from guesthouse.errors import GuesthouseError
from guesthouse.model.network import Network
from guesthouse.model.network_port import NetworkPort, PortMac, PortOwner
from guesthouse.network import bridges, dnsmasq, nat, served, shaping, subnets, taps
from guesthouse.services.store import Store
from guesthouse.units import new_uuid

_log = logging.getLogger(__name__)
_KIND = "network"
_VERSION = 1

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Port:
    """Who is plugged into a network; ``tap`` is None for a port that a client made, which has no device here."""

    element: NetworkPort
    tap: str | None

    @classmethod
    def from_document(cls, doc: dict[str, Any]) -> Port:
        if "xml" in doc:
            return cls(NetworkPort.from_xml(doc["xml"]), doc["tap"])
        # a row of an older daemon: the guest's UUID, its MAC and the tap
        owner = PortOwner(name="", uuid=doc["owner"])
        return cls(NetworkPort(uuid=new_uuid(), owner=owner, mac=PortMac(address=doc["mac"])), doc["tap"])


@dataclass
class Running:
    """An active network: its live document, its dnsmasq (pid and start time) and who is plugged in, by the
    port's UUID."""

    network: Network
    dnsmasq: tuple[int, int] | None = None
    ports: dict[str, Port] = field(default_factory=dict)

    def document(self, state: str) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "state": state,
            "xml": self.network.format(inactive=True),
            "dnsmasq": list(self.dnsmasq) if self.dnsmasq else None,
            "ports": [{"xml": port.element.to_xml(), "tap": port.tap} for port in self.ports.values()],
        }

    @classmethod
    def from_document(cls, doc: dict[str, Any]) -> Running:
        network = Network.from_xml(doc["xml"])
        helper = (doc["dnsmasq"][0], doc["dnsmasq"][1]) if doc.get("dnsmasq") else None
        ports = [Port.from_document(port) for port in doc["ports"]]
        return cls(network, helper, {port.element.uuid or "": port for port in ports})


async def in_thread(call: Callable[P, R], *args: P.args, **kw: P.kwargs) -> R:
    """Run a blocking call. Where the caller is cancelled meanwhile, the call still ends first, so that undoing it
    finds what it made."""
    task = asyncio.ensure_future(asyncio.to_thread(call, *args, **kw))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await task
        raise


class NetworkRuntime:
    """Starts and stops networks; keeps the runtime rows."""

    def __init__(self, store: Store, state: Path, run: Path) -> None:
        self._store = store
        self._state = state
        self._run = run

    def files(self, network: Network) -> dnsmasq.Files:
        return dnsmasq.Files.of(self._state, self._run, network)

    def save(self, running: Running, state: str = "active") -> None:
        """Write the runtime row."""
        self._store.put_runtime(_KIND, running.network.uuid or "", running.document(state))

    async def start(self, network: Network) -> Running:
        """Make what the network needs. Raises the error of the step that failed; then nothing is left of it."""
        running = Running(network.copy())
        network = running.network
        served.check(network)
        nat.complete(network)
        if network.owns_bridge:
            await self._sweep(running)
            subnets.check_collision(network)
        async with contextlib.AsyncExitStack() as undo:
            self.save(running, "starting")
            undo.callback(self._store.delete_runtime, _KIND, network.uuid or "")
            if network.owns_bridge:
                await self._make(running, undo)
            await self._shape(network, undo)
            self.save(running)
            undo.pop_all()
        return running

    async def _sweep(self, running: Running) -> None:
        """Remove what an earlier run left whose row was lost with the run folder: a bridge of this name and MAC is
        this network's, another's is not touched."""
        network = running.network
        name, mac = network.bridge_name or "", network.mac.address if network.mac else None
        if mac is not None and await in_thread(bridges.find, name, mac) is not None:
            _log.warning("bridge %s is left of an earlier run of network '%s': making it anew", name, network.name)
            await self._end_dnsmasq(running)
            await in_thread(bridges.delete, name, mac)

    async def _make(self, running: Running, undo: contextlib.AsyncExitStack) -> None:
        # each undo is pushed before its step, for a step that was cut short; all of them bear that nothing was made
        network = running.network
        name, mac = network.bridge_name or "", network.mac.address if network.mac else None
        undo.push_async_callback(in_thread, bridges.delete, name, mac)
        await in_thread(bridges.create, network)
        if network.mode != "open":
            undo.push_async_callback(in_thread, nat.remove, name)
            await in_thread(nat.install, network)
        if network.mode:
            await in_thread(bridges.enable_forwarding, network)
        if network.ips:
            undo.push_async_callback(self._end_dnsmasq, running)
            running.dnsmasq = await in_thread(dnsmasq.start, network, self.files(network))

    @staticmethod
    async def _shape(network: Network, undo: contextlib.AsyncExitStack) -> None:
        name = network.bridge_name or ""
        if network.bandwidth is not None:
            undo.push_async_callback(in_thread, shaping.limit, name, None)
            await in_thread(shaping.limit, name, network.bandwidth)

    async def stop(self, running: Running) -> None:
        """Take the network's things away, each even where another fails; raises the last failure. The row is gone in
        any case, and guests that were plugged in stay so without a network, as with libvirt."""
        network = running.network
        self.save(running, "stopping")
        async with contextlib.AsyncExitStack() as steps:
            steps.callback(self._store.delete_runtime, _KIND, network.uuid or "")
            name, mac = network.bridge_name or "", network.mac.address if network.mac else None
            if network.bandwidth is not None:
                steps.push_async_callback(in_thread, shaping.limit, name, None)
            if not network.owns_bridge:
                return
            if network.mode != "open":
                steps.push_async_callback(in_thread, nat.remove, name)
            steps.push_async_callback(in_thread, bridges.delete, name, mac)
            steps.push_async_callback(self._end_dnsmasq, running)

    async def change(self, running: Running, changed: Network) -> None:
        """Have a running network be what ``changed`` says; its bridge is the same. dnsmasq rereads its host files
        where these alone differ, else it is started anew; leases stay in either case.

        Raises InternalError; then the network is what it was, as far as that can be had.
        """
        before, files = running.network, self.files(changed)
        old, new = dnsmasq.configuration(before, files), dnsmasq.configuration(changed, files)
        try:
            await self._put(running, changed, anew=old != new)
        except GuesthouseError:
            try:
                await self._put(running, before, anew=True)
            except GuesthouseError as error:
                _log.error("network '%s' cannot be what it was: %s", before.name, error)
            raise
        self.save(running)

    async def _put(self, running: Running, network: Network, *, anew: bool) -> None:
        running.network = network
        files = self.files(network)
        if network.owns_bridge and network.mode != "open":
            await in_thread(nat.install, network)
        if not (network.owns_bridge and network.ips):
            return
        if anew or running.dnsmasq is None or not dnsmasq.is_running(*running.dnsmasq):
            await self._end_dnsmasq(running)
            running.dnsmasq = await in_thread(dnsmasq.start, network, files)
        else:
            await in_thread(dnsmasq.write_files, network, files)
            dnsmasq.reload(*running.dnsmasq)

    async def _end_dnsmasq(self, running: Running) -> None:
        files = self.files(running.network)
        if running.dnsmasq is None:
            pid = dnsmasq.running_pid(files)
            began = dnsmasq.start_time(pid) if pid else None
            if pid is not None and began is not None:
                running.dnsmasq = (pid, began)
        if running.dnsmasq is not None:
            await in_thread(dnsmasq.stop, *running.dnsmasq)
        files.remove(leases=False)
        running.dnsmasq = None

    async def adopt(self, uuid: str, doc: dict[str, Any]) -> Running | None:
        """The network that a runtime row tells of, whole again; or None where it was not up, and then what a daemon
        that died in the midst left behind is gone.

        Its rules are put in place anew (somebody may have flushed them), a dnsmasq that has died is started again.
        """
        try:
            running = Running.from_document(doc)
        except (GuesthouseError, KeyError, TypeError) as error:
            _log.error("the runtime row of network %s cannot be read and is dropped: %s", uuid, error)
            self._store.delete_runtime(_KIND, uuid)
            return None
        if doc["state"] != "active" or not self._is_there(running.network):
            try:
                await self.stop(running)
            except GuesthouseError as error:
                _log.warning("cleaning up after network '%s': %s", running.network.name, error)
            return None
        running.ports = {uuid: p for uuid, p in running.ports.items() if p.tap is None or taps.exists(p.tap)}
        await self._mend(running)
        self.save(running)
        return running

    @staticmethod
    def _is_there(network: Network) -> bool:
        if network.owns_bridge:
            return bridges.find(network.bridge_name or "", network.mac.address if network.mac else None) is not None
        return not network.bridge_name or bridges.exists(network.bridge_name)

    async def _mend(self, running: Running) -> None:
        network = running.network
        try:
            if network.bandwidth is not None:
                await in_thread(shaping.limit, network.bridge_name or "", network.bandwidth)
            if network.owns_bridge and network.mode != "open":
                await in_thread(nat.install, network)
            if network.ips and not (running.dnsmasq and dnsmasq.is_running(*running.dnsmasq)):
                await self._end_dnsmasq(running)
                running.dnsmasq = await in_thread(dnsmasq.start, network, self.files(network))
        except GuesthouseError as error:
            # its guests have their bridge: a network that is up in part beats none
            _log.error("network '%s' is up, but not all of it: %s", network.name, error)
