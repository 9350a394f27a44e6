"""The network filters of this host: libvirt's procedures about their definitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from guesthouse.errors import (
    Domain,
    GuesthouseError,
    InternalError,
    NoNWFilter,
    OperationFailed,
    OperationInvalid,
    check_flags,
)
from guesthouse.model.nwfilter import Filter, parse_filter
from guesthouse.network.filters import Find
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.refs import NWFilterRef
from guesthouse.services.standard_filters import standard_filters

_log = logging.getLogger(__name__)
_KIND = "nwfilter"
_VALIDATE = 1

#: Gives the interfaces that use a filter what it says now; told the filter's name, and how to find filters. Raises
#: where one cannot be built; then none was changed.
Rebuild = Callable[[str, Find], Awaitable[None]]


class NWFilters:
    """libvirt's network filter procedures over the store. A session daemon has none: it may change no packets.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._filters: dict[str, Filter] = {}
        #: Held by whoever changes filters, or gives them to interfaces.
        self.lock = asyncio.Lock()
        self.rebuild: Rebuild | None = None
        for row in ctx.store.all(_KIND):
            try:
                self._filters[row.uuid] = parse_filter(row.xml)
            except GuesthouseError as error:
                _log.error("network filter %s is not taken up: %s", row.name, error)

    def ensure_standard(self) -> None:
        """Define the standard filters, if this never happened before on this host: whoever removes one means it."""
        marker = self._ctx.paths.state / "standard-filters-made"
        if self._ctx.mode != "system" or marker.exists():
            return
        try:
            for name, xml in standard_filters().items():
                if self._named(name) is None:
                    self._keep(parse_filter(xml))
            marker.touch()
        except (GuesthouseError, OSError) as error:
            _log.warning("the standard network filters could not be defined: %s", error)

    # Finding and listing

    def find(self, name: str) -> Filter:
        """The filter that another one, or an interface, names. Raises InternalError."""
        found = self._named(name)
        if found is None:
            raise InternalError(f"referenced filter '{name}' is missing", domain=Domain.NWFILTER)
        return found

    def _named(self, name: str) -> Filter | None:
        return next((each for each in self._filters.values() if each.name == name), None)

    def _entry(self, uuid: str) -> Filter:
        found = self._filters.get(uuid)
        if found is None:
            raise NoNWFilter(f"no nwfilter with matching uuid '{uuid}'")
        return found

    def lookup_by_name(self, name: str) -> NWFilterRef:
        found = self._named(name)
        if found is None:
            raise NoNWFilter(f"no nwfilter with matching name '{name}'")
        return _ref(found)

    def lookup_by_uuid(self, uuid: str) -> NWFilterRef:
        return _ref(self._entry(uuid))

    def list_all(self, flags: int) -> list[NWFilterRef]:
        check_flags(flags, 0, "nwfilterConnectListAllNWFilters", Domain.NWFILTER)
        return [_ref(found) for found in sorted(self._filters.values(), key=lambda each: each.name)]

    def num_of(self) -> int:
        return len(self._filters)

    def list_names(self, maxnames: int) -> list[str]:
        return sorted(found.name for found in self._filters.values())[:maxnames]

    def get_xml_desc(self, nwfilter: NWFilterRef, flags: int) -> str:
        check_flags(flags, 0, "nwfilterGetXMLDesc", Domain.NWFILTER)
        return self._entry(nwfilter.uuid).to_xml()

    # Defining

    async def define_xml(self, xml: str) -> NWFilterRef:
        return await self.define_xml_flags(xml=xml, flags=0)

    async def define_xml_flags(self, xml: str, flags: int) -> NWFilterRef:
        """Make a filter known, or change one: also for the running guests that use it, unless that fails for one;
        then nothing has changed."""
        check_flags(flags, _VALIDATE, "nwfilterDefineXMLFlags", Domain.NWFILTER)
        if self._ctx.mode != "system":
            raise OperationInvalid("Can't define NWFilters in session mode", domain=Domain.NWFILTER)
        found = parse_filter(xml)
        admit(Named("nwfilter", found.name, found.uuid))
        async with self.lock:
            self._check(found)
            old = self._filters.get(found.uuid)
            if old is None or old.to_xml() != found.to_xml():
                await self._rebuild(found.name, lambda name: found if name == found.name else self.find(name))
                self._keep(found)
        return _ref(found)

    def _check(self, found: Filter) -> None:
        same_uuid, same_name = self._filters.get(found.uuid), self._named(found.name)
        if same_uuid is not None and same_uuid.name != found.name:
            text = f"filter with same UUID but different name ('{same_uuid.name}') already exists"
            raise OperationFailed(text, domain=Domain.NWFILTER)
        if same_name is not None and same_name.uuid != found.uuid:
            text = f"filter '{found.name}' already exists with uuid {same_name.uuid}"
            raise OperationFailed(text, domain=Domain.NWFILTER)
        if found.name in self.included(found):
            raise OperationFailed("filter would introduce a loop", domain=Domain.NWFILTER)

    def included(self, found: Filter) -> set[str]:
        """The names of all filters that this one includes, through others too."""
        names: set[str] = set()
        ahead = list(found.includes)
        while ahead:
            name = ahead.pop()
            if name in names:
                continue
            names.add(name)
            # where it includes itself it is the new one that counts, and the loop is found
            below = self._named(name) if name != found.name else None
            ahead += below.includes if below is not None else ()
        return names

    async def _rebuild(self, name: str, find: Find) -> None:
        if self.rebuild is not None:
            await self.rebuild(name, find)

    def _keep(self, found: Filter) -> None:
        self._ctx.store.put(_KIND, found.uuid, found.name, found.to_xml())
        self._filters[found.uuid] = found

    async def undefine(self, nwfilter: NWFilterRef) -> None:
        """Forget a filter, unless a running guest uses it."""
        async with self.lock:
            found = self._entry(nwfilter.uuid)

            def without(name: str) -> Filter:
                if name == found.name:
                    raise OperationInvalid("nwfilter is in use", domain=Domain.NWFILTER)
                return self.find(name)

            await self._rebuild(found.name, without)
            self._ctx.store.delete(_KIND, found.uuid)
            del self._filters[found.uuid]


def _ref(found: Filter) -> NWFilterRef:
    return NWFilterRef(found.name, found.uuid)
