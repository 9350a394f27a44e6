"""From a row of the procedure table to a service's method and back: the only place that knows both.

The arguments' fields become keyword arguments; the method's result becomes the reply. A few conventions of libvirt's
protocol are handled here for all procedures: ``need_results``, typed parameters asked for twice, and the handles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guesthouse.errors import Domain, InvalidArg, NoSupport, OperationDenied, RPCError
from guesthouse.services.domain_stats import PerCpu
from guesthouse.services.refs import (
    DomainRef,
    InterfaceRef,
    NetworkPortRef,
    NetworkRef,
    NWFilterBindingRef,
    NWFilterRef,
    PoolRef,
    SecretRef,
    VolumeRef,
)
from guesthouse.wire import xdr
from guesthouse.wire.api import api_name
from guesthouse.wire.connection import Call
from guesthouse.wire.procedures import GIVE_FILES, TAKE_FILES, VERSION, Procedure
from guesthouse.wire.types import STRUCTS

_REFS: dict[str, Callable[..., Any]] = {
    "nonnull_domain": DomainRef,
    "nonnull_network": NetworkRef,
    "nonnull_network_port": NetworkPortRef,
    "nonnull_storage_pool": PoolRef,
    "nonnull_storage_vol": VolumeRef,
    "nonnull_secret": SecretRef,
    "nonnull_interface": InterfaceRef,
    "nonnull_nwfilter": NWFilterRef,
    "nonnull_nwfilter_binding": NWFilterBindingRef,
}
_STRING_OKAY = 4

# error domains by the start of a procedure's name, for what is refused before any service sees it
_DOMAINS = (
    ("storage", Domain.STORAGE),
    ("network", Domain.NETWORK),
    ("interface", Domain.INTERFACE),
    ("secret", Domain.SECRET),
    ("nwfilter", Domain.NWFILTER),
    ("node_device", Domain.NODEDEV),
    ("domain", Domain.DOMAIN),
    ("qemu", Domain.NONE),
)


class Route:
    """A row made ready: how its arguments are taken apart and its result is put together."""

    def __init__(self, row: Procedure) -> None:
        self.row = row
        self.service, _, self.method = row.handler.partition(".")
        fields = xdr.struct_codec(row.args).fields if row.args else ()
        self.names = [name for name, _ in fields]
        #: whether descriptors come with the call, and one goes with the answer
        self.takes_files, self.gives_file = row.name in TAKE_FILES, row.name in GIVE_FILES
        self._refs = [(name, _REFS[kind]) for name, kind in fields if kind in _REFS]
        lists = [(name, kind.partition("<")[0]) for name, kind in fields if kind.endswith(">")]
        self._ref_lists = [(name, _REFS[kind]) for name, kind in lists if kind in _REFS]
        results = [word.partition(":")[::2] for word in STRUCTS[row.ret].split()] if row.ret else []
        self._results = [name for name, _ in results]
        self._lists = "need_results" in self.names
        self._params = "nparams" in self.names and any(kind.startswith("typed") for _, kind in results)

    def arguments(self, call: Call) -> dict[str, Any]:
        """The keyword arguments of the method. Raises RPCError for a payload that does not decode."""
        record = call.args()
        if record is None:
            return {}
        args = record.asdict()
        if self.takes_files:
            args["files"] = call.fds
        for name, ref in self._refs:
            args[name] = ref(*args[name])
        for name, ref in self._ref_lists:
            args[name] = [ref(*item) for item in args[name]]
        return args

    def result(self, args: Mapping[str, Any], value: Any) -> Any:
        """What the reply's structure is made from."""
        names = self._results
        if not names:
            return None
        if self._lists:
            # the list and the count; a client that needs no results gets the count alone
            items = list(value)
            return (items if args["need_results"] else [], len(items))
        if self._params and isinstance(value, PerCpu):
            return {"params": value.params if args["nparams"] else [], "nparams": value.each}
        if self._params:
            params = _visible(value, args.get("flags", 0))
            if args["nparams"] == 0:
                return {"params": {}, "nparams": len(params)}
            if len(params) > args["nparams"]:
                raise InvalidArg(f"nparams too small: {args['nparams']} for {len(params)} parameters")
            return {"params": params, "nparams": len(params)}
        if len(names) == 1:
            return (value,)
        return value

    def call(self, services: Any, args: dict[str, Any]) -> Any:
        """Call the method; an awaitable where it takes its time."""
        target = getattr(getattr(services, self.service), self.method)
        if self._lists or self._params:
            hidden = ("need_results", "nparams")
            return target(**{name: value for name, value in args.items() if name not in hidden})
        return target(**args)


def _visible(params: Mapping[str, tuple[str, Any]], flags: int) -> dict[str, tuple[str, Any]]:
    """Old clients cannot take strings."""
    if flags & _STRING_OKAY:
        return dict(params)
    return {name: pair for name, pair in params.items() if pair[0] != "string"}


_routes: dict[Procedure, Route] = {}


def route(call: Call, *, programs: tuple[int, ...], readonly: bool, authenticated: bool) -> Route:
    """Where ``call`` goes, of the ``programs`` that are served there. Raises the error that it gets instead: unknown,
    not allowed, not supported."""
    row = call.row
    if row is None or row.program not in programs:
        if call.program in programs and call.version == VERSION:
            raise RPCError(f"unknown procedure: {call.number}")
        raise RPCError(f"Cannot find program {call.program} version {call.version}")
    if not authenticated and not row.name.startswith("auth_"):
        raise RPCError("authentication required")
    if row.access == "write" and readonly:
        raise OperationDenied(f"read only access prevents {api_name(row.name)}", domain=_domain(row.name))
    if not row.handler:
        raise NoSupport(api_name(row.name), domain=_domain(row.name))
    return prepared(row)


def prepared(row: Procedure) -> Route:
    """The route of a row that has a handler."""
    ready = _routes.get(row)
    if ready is None:
        ready = _routes[row] = Route(row)
    return ready


def _domain(name: str) -> Domain:
    return next((domain for start, domain in _DOMAINS if name.startswith(start)), Domain.QEMU)
