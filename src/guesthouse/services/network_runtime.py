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

from guesthouse.errors import Domain, GuesthouseError, OperationFailed
from guesthouse.model import port_forward
from guesthouse.model.network import Network
from guesthouse.model.network_port import NetworkPort, PortMac, PortOwner
from guesthouse.network import bridges, dnsmasq, nat, served, shaping, subnets, taps
from guesthouse.network.nat import Target
from guesthouse.services import port_forwards
from guesthouse.services.store import Store
from guesthouse.units import new_uuid

_log = logging.getLogger(__name__)
_KIND = "network"
_VERSION = 1
# how often it is looked whether the guest of a forwarded port has another address, in seconds
_FOLLOW = 0.5

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
    #: where forwarded ports lead, and what keeps that true
    targets: list[Target] = field(default_factory=list)
    following: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

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
        self._active: dict[str, Running] = {}

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
        self._check_forwards(network)
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
        self._follow(running)
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
        undo.push_async_callback(in_thread, nat.remove, name)
        await self._put_rules(running)
        if network.mode:
            await in_thread(bridges.enable_forwarding, network)
        if network.ips:
            undo.push_async_callback(self._end_dnsmasq, running)
            running.dnsmasq = await in_thread(dnsmasq.start, network, self.files(network))

    # Rules, and the ports that lead to guests

    async def restore(self, running: Running) -> None:
        """Put the network's rules and limits in place again, whatever became of them. Raises InternalError."""
        network = running.network
        await self._put_rules(running)
        if network.bandwidth is not None:
            await in_thread(shaping.limit, network.bridge_name or "", network.bandwidth)

    async def _put_rules(self, running: Running) -> None:
        if not running.network.owns_bridge:
            return
        async with running.lock:
            targets = self._targets(running)
            if running.targets and not targets:
                await in_thread(nat.remove, running.network.bridge_name or "")
            await in_thread(nat.install, running.network, targets)
            running.targets = targets

    def _targets(self, running: Running) -> list[Target]:
        macs: dict[str, list[str]] = {}
        for port in running.ports.values():
            owner = port.element.owner
            macs.setdefault((owner and owner.name) or "", []).append(port.element.mac_address)
        leases = dnsmasq.read_leases(self.files(running.network).leases)
        return port_forwards.targets(running.network, macs, leases)

    def _check_forwards(self, network: Network) -> None:
        """Raises the error of a forward that is wrong, or that another network has."""
        for forward in port_forward.of(network):
            for other in self._active.values():
                if other.network.uuid == network.uuid:
                    continue
                if any(forward.overlaps(theirs) for theirs in port_forward.of(other.network)):
                    text = f"port {forward} is forwarded already, by network '{other.network.name}'"
                    raise OperationFailed(text, domain=Domain.NETWORK)

    def _follow(self, running: Running) -> None:
        """See to it from now on that forwarded ports lead to where their guests are."""
        self._active[running.network.uuid or ""] = running
        has_forwards = running.network.owns_bridge and bool(port_forward.of(running.network))
        if has_forwards and (running.following is None or running.following.done()):
            running.following = asyncio.create_task(self._keep_true(running))

    async def _unfollow(self, running: Running) -> None:
        self._active.pop(running.network.uuid or "", None)
        task, running.following = running.following, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_true(self, running: Running) -> None:
        while port_forward.of(running.network):
            await asyncio.sleep(_FOLLOW)
            try:
                if self._targets(running) != running.targets:
                    await self._put_rules(running)
            except GuesthouseError as error:
                _log.warning("forwarded ports of network '%s': %s", running.network.name, error)

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
        await self._unfollow(running)
        self.save(running, "stopping")
        async with contextlib.AsyncExitStack() as steps:
            steps.callback(self._store.delete_runtime, _KIND, network.uuid or "")
            name, mac = network.bridge_name or "", network.mac.address if network.mac else None
            if network.bandwidth is not None:
                steps.push_async_callback(in_thread, shaping.limit, name, None)
            if not network.owns_bridge:
                return
            steps.push_async_callback(in_thread, nat.remove, name)
            steps.push_async_callback(in_thread, bridges.delete, name, mac)
            steps.push_async_callback(self._end_dnsmasq, running)

    async def change(self, running: Running, changed: Network) -> None:
        """Have a running network be what ``changed`` says; its bridge is the same. dnsmasq rereads its host files
        where these alone differ, else it is started anew; leases stay in either case.

        Raises InternalError; then the network is what it was, as far as that can be had.
        """
        self._check_forwards(changed)
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
        await self._put_rules(running)
        self._follow(running)
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
        self._follow(running)
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
            await self._put_rules(running)
            if network.ips and not (running.dnsmasq and dnsmasq.is_running(*running.dnsmasq)):
                await self._end_dnsmasq(running)
                running.dnsmasq = await in_thread(dnsmasq.start, network, self.files(network))
        except GuesthouseError as error:
            # its guests have their bridge: a network that is up in part beats none
            _log.error("network '%s' is up, but not all of it: %s", network.name, error)
