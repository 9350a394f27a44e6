"""Which devices have which filter: libvirt's binding procedures, and what guests' interfaces with a <filterref> get.

The row of a binding is written before its rules are put in place, and goes after them. A row whose device is gone is
what a guest left that ended without the daemon.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from dataclasses import dataclass, field
from typing import Any

from guesthouse.errors import (
    Domain,
    GuesthouseError,
    NoNWFilterBinding,
    OperationFailed,
    OperationInvalid,
    check_flags,
    from_wire,
)
from guesthouse.model.devices.interface import Interface
from guesthouse.model.nwfilter import Binding, Filter, parse_binding
from guesthouse.network import filters, taps
from guesthouse.network.filters import Find, Plan
from guesthouse.network.learning import Watch
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.network_runtime import in_thread
from guesthouse.services.nwfilters import NWFilters
from guesthouse.services.refs import DomainRef, NWFilterBindingRef

_log = logging.getLogger(__name__)
_KIND = "nwfilter-binding"
_VALIDATE = 1
_PARSE_FAILED = 32  # libvirt's error
_LEARNING = "CTRL_IP_LEARNING"


@dataclass
class _Entry:
    """A binding; ``learned`` are addresses that nobody named, ``watch`` looks for them."""

    binding: Binding
    learned: list[str] = field(default_factory=list)
    plan: Plan | None = None
    watch: Watch | None = None

    @property
    def ref(self) -> NWFilterBindingRef:
        return NWFilterBindingRef(self.binding.port, self.binding.filter)

    def document(self) -> dict[str, Any]:
        return {"xml": self.binding.to_xml(), "learned": self.learned}

    def parameters(self) -> dict[str, list[str]]:
        """The values of the variables, with those that come by themselves."""
        found = dict(self.binding.parameters)
        found.setdefault("MAC", [self.binding.mac])
        if self.learned:
            found.setdefault("IP", self.learned)
        return found

    def unwatch(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None


class NWFilterBindings:
    """libvirt's procedures of filter bindings, and those of guests' interfaces.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context, known: NWFilters) -> None:
        self._ctx = ctx
        self._filters = known
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        known.rebuild = self._rebuild

    async def reattach(self) -> None:
        """Put back the rules of devices that an earlier daemon gave filters; those of devices that are gone go."""
        for port, doc in self._ctx.store.all_runtime(_KIND).items():
            try:
                entry = _Entry(parse_binding(doc["xml"]), list(doc["learned"]))
                if not await in_thread(taps.exists, port):
                    await self._drop(port)
                    continue
                self._entries[port] = entry
                async with self._filters.lock:
                    await self._instantiate(entry)
            except (GuesthouseError, KeyError, TypeError) as error:
                # the rules that the device has stay as they are
                _log.error("the filter of %s cannot be put back: %s", port, error)

    async def restore(self) -> None:
        """Put the rules of all devices in place again, whatever became of them; what hinders is logged."""
        async with self._filters.lock:
            for port, entry in self._entries.items():
                if entry.plan is not None:
                    try:
                        await in_thread(filters.install, port, entry.plan)
                    except GuesthouseError as error:
                        _log.error("the filter of %s cannot be put back: %s", port, error)

    # What guests' interfaces get

    async def plug(self, iface: Interface, owner: DomainRef, port: str) -> None:
        """Give the tap ``port`` of an interface the filter that its <filterref> names, before anything passes; does
        nothing for an interface without one. Raises the error of what cannot be built; then nothing is left."""
        reference = iface.filterref
        if reference is None or not reference.filter:
            return
        binding = Binding(port, owner.name, owner.uuid, iface.mac_address, reference.filter, reference.values)
        async with self._filters.lock:
            # a name that is free again: what is left of whoever had it goes
            if port in self._entries:
                await self._drop(port)
            await self._add(binding)

    async def change(self, iface: Interface, owner: DomainRef, port: str) -> None:
        """Make the filter that ``iface`` names, or none, that of the plugged device ``port``, at once. On failure the
        device has what it had."""
        reference = iface.filterref
        if reference is None or not reference.filter:
            await self.unplug(port)
            return
        binding = Binding(port, owner.name, owner.uuid, iface.mac_address, reference.filter, reference.values)
        async with self._filters.lock:
            old, entry = self._entries.get(port), _Entry(binding)
            self._entries[port] = entry
            try:
                await self._instantiate(entry)
            except BaseException:
                entry.unwatch()
                del self._entries[port]
                if old is not None:
                    self._entries[port] = old
                raise
            if old is not None:
                old.unwatch()

    async def unplug(self, port: str) -> None:
        """Take away what the device ``port`` has; none there is fine."""
        if port in self._entries or self._ctx.store.get_runtime(_KIND, port) is not None:
            async with self._filters.lock:
                await self._drop(port)

    async def _add(self, binding: Binding) -> _Entry:
        entry = _Entry(binding)
        self._ctx.store.put_runtime(_KIND, binding.port, entry.document())
        self._entries[binding.port] = entry
        try:
            await self._instantiate(entry)
        except BaseException:
            await self._drop(binding.port)
            raise
        return entry

    async def _drop(self, port: str) -> None:
        entry = self._entries.pop(port, None)
        if entry is not None:
            entry.unwatch()
        try:
            await in_thread(filters.remove, port)
        except GuesthouseError as error:
            _log.error("the filter of %s is not taken away: %s", port, error)
            return
        self._ctx.store.delete_runtime(_KIND, port)

    # Building

    async def _instantiate(self, entry: _Entry) -> None:
        """Compile the filter and put it in place; what cannot be compiled changes nothing."""
        binding = entry.binding
        found = self._filters.find(binding.filter)
        plan, learning = await in_thread(self._plan, entry, found, self._filters.find)
        if learning and entry.watch is None and await in_thread(taps.exists, binding.port):
            entry.watch = Watch(
                binding.port,
                binding.mac,
                any_packet=learning == "any",
                servers=binding.parameters.get("DHCPSERVER", []),
                found=lambda address: self._learned(entry, address),
            )
        try:
            await in_thread(filters.install, binding.port, plan)
        except BaseException:
            if entry.plan is None:
                entry.unwatch()
            raise
        entry.plan = plan
        binding.parameters.setdefault("MAC", [binding.mac])
        self._ctx.store.put_runtime(_KIND, binding.port, entry.document())

    @staticmethod
    def _plan(entry: _Entry, found: Filter, find: Find) -> tuple[Plan, str]:
        """The rules, and how the address is to be learned: "any" packet, "dhcp" alone, or "" for not at all."""
        parameters = entry.parameters()
        missing = filters.missing(found, parameters, find)
        how = parameters.get(_LEARNING, ["any"])[0]
        by_dhcp = how.lower() == "dhcp" and "IP" not in entry.binding.parameters
        if not missing:
            plan = filters.compile_filter(found, parameters, find)
            # a later lease may give another address
            needs_ip = by_dhcp and "IP" in filters.missing(found, {**parameters, "IP": []}, find)
            return plan, "dhcp" if needs_ip else ""
        if missing != ["IP"] or how.lower() == "none":
            # an address can be learned, so what it lacks beside that is what counts
            raise filters.unresolvable([name for name in missing if name != "IP"] or missing)
        if how.lower() not in ("any", "dhcp"):
            text = f"failed to parse configuration file filter '{found.name}' learning value '{how}' invalid."
            raise from_wire(_PARSE_FAILED, Domain.NWFILTER, text)
        servers = entry.binding.parameters.get("DHCPSERVER", [])
        # what will be built has to be buildable
        filters.compile_filter(found, {**parameters, "IP": ["192.0.2.1"]}, find)
        return filters.dhcp_only(entry.binding.mac, servers), how.lower()

    def _learned(self, entry: _Entry, address: str) -> None:
        if [address] != entry.learned:
            task = asyncio.ensure_future(self._take_address(entry, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take_address(self, entry: _Entry, address: str) -> None:
        binding = entry.binding
        async with self._filters.lock:
            if self._entries.get(binding.port) is not entry or entry.learned == [address]:
                return
            by_dhcp = binding.parameters.get(_LEARNING, [""])[0].lower() == "dhcp"
            if not by_dhcp:
                if entry.learned:
                    return  # the first address is the one
                entry.unwatch()
            before, entry.learned = entry.learned, [address]
            try:
                await self._instantiate(entry)
            except GuesthouseError as error:
                entry.learned = before
                _log.error("the filter of %s cannot be had with the address %s: %s", binding.port, address, error)
                return
            _log.info("%s of '%s' has the address %s", binding.port, binding.owner_name, address)

    async def _rebuild(self, name: str, find: Find) -> None:
        """:data:`guesthouse.services.nwfilters.Rebuild`."""
        users: list[tuple[_Entry, Plan]] = []
        for entry in list(self._entries.values()):
            if self._uses(entry.binding.filter, name):
                plan, _ = await in_thread(self._plan, entry, find(entry.binding.filter), find)
                users.append((entry, plan))
        done: list[_Entry] = []
        try:
            for entry, plan in users:
                done.append(entry)
                await in_thread(filters.install, entry.binding.port, plan)
        except BaseException:
            for entry in done:
                if entry.plan is not None:
                    await in_thread(filters.install, entry.binding.port, entry.plan)
            raise
        for entry, plan in users:
            entry.plan = plan

    def _uses(self, user: str, name: str) -> bool:
        try:
            return user == name or name in self._filters.included(self._filters.find(user))
        except GuesthouseError:
            return False

    # libvirt's procedures

    def _find(self, port: str) -> _Entry:
        entry = self._entries.get(port)
        if entry is None:
            raise NoNWFilterBinding(f"no nwfilter binding for port dev '{port}'")
        return entry

    def lookup_by_port_dev(self, name: str) -> NWFilterBindingRef:
        return self._find(name).ref

    def list_all(self, flags: int) -> list[NWFilterBindingRef]:
        check_flags(flags, 0, "nwfilterConnectListAllNWFilterBindings", Domain.NWFILTER)
        return [entry.ref for _, entry in sorted(self._entries.items())]

    def get_xml_desc(self, nwfilter: NWFilterBindingRef, flags: int) -> str:
        check_flags(flags, 0, "nwfilterBindingGetXMLDesc", Domain.NWFILTER)
        entry = self._find(nwfilter.portdev)
        shown = copy.copy(entry.binding)
        if entry.learned:
            shown.parameters = {"IP": entry.learned, **shown.parameters}
        return shown.to_xml()

    async def create_xml(self, xml: str, flags: int) -> NWFilterBindingRef:
        """Give a device a filter, for a program that runs something of its own there."""
        check_flags(flags, _VALIDATE, "nwfilterBindingCreateXML", Domain.NWFILTER)
        if self._ctx.mode != "system":
            raise OperationInvalid("Can't define NWFilter bindings in session mode", domain=Domain.NWFILTER)
        binding = parse_binding(xml)
        admit(Named("nwfilter_binding", binding.port))
        async with self._filters.lock:
            if binding.port in self._entries:
                raise OperationFailed(f"binding '{binding.port}' already exists", domain=Domain.NWFILTER)
            return (await self._add(binding)).ref

    async def delete(self, nwfilter: NWFilterBindingRef) -> None:
        """Take a device's filter away: from then on everything passes."""
        async with self._filters.lock:
            self._find(nwfilter.portdev)
            await self._drop(nwfilter.portdev)
