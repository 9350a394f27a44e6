"""The calls of clients whose rules name objects: whether the objects of a call are meant, and what of a listing is.

Nothing that a client says of an object counts but what the service finds it by. Three kinds of calls: those on handles,
where the objects are looked up before anything else happens; those that find something, where what was found decides;
those with a document or an image, where the service that reads it asks (:mod:`guesthouse.services.admission`). What is
none of these is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from guesthouse.daemon import auth, dispatch
from guesthouse.daemon.granted import Granted, told
from guesthouse.errors import GuesthouseError
from guesthouse.services import admission
from guesthouse.services.admission import Named, named
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
from guesthouse.wire import permissions
from guesthouse.wire.procedures import BY_NAME, Procedure

# the object behind a handle, found as the services find it
_BEHIND: dict[type, Callable[[Any, Any], Any]] = {
    DomainRef: lambda services, ref: services.domains.lookup_by_uuid(ref.uuid),
    NetworkRef: lambda services, ref: services.networks.lookup_by_uuid(ref.uuid),
    NetworkPortRef: lambda services, ref: services.network_ports.lookup_by_uuid(NetworkRef(*ref.net), ref.uuid),
    PoolRef: lambda services, ref: services.pools.lookup_by_uuid(ref.uuid),
    VolumeRef: lambda services, ref: services.volumes.lookup_by_name(services.pools.by_name(ref.pool).ref, ref.name),
    SecretRef: lambda services, ref: services.secrets.lookup_by_uuid(ref.uuid),
    NWFilterRef: lambda services, ref: services.nwfilters.lookup_by_uuid(ref.uuid),
    NWFilterBindingRef: lambda services, ref: services.nwfilter_bindings.lookup_by_port_dev(ref.portdev),
    InterfaceRef: lambda services, ref: services.interfaces.lookup_by_name(ref.name),
}

# the object that a listing of old gives no handle of
_LISTED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "domain": lambda services, _, name: services.domains.lookup_by_name(name),
    "network": lambda services, _, name: services.networks.lookup_by_name(name),
    "storage_pool": lambda services, _, name: services.pools.by_name(name).ref,
    "storage_vol": lambda services, pool, name: services.volumes.lookup_by_name(pool, name),
    "secret": lambda services, _, uuid: services.secrets.lookup_by_uuid(uuid),
    "nwfilter": lambda services, _, name: services.nwfilters.lookup_by_name(name),
    "node_device": lambda services, _, name: services.nodedevs.lookup_by_name(name),
    "interface": lambda services, _, name: services.interfaces.lookup_by_name(name),
}

#: the calls whose service says what their document or image is about, and the permissions that this decides
MADE: dict[str, frozenset[str]] = {
    procedure: frozenset(needed.split())
    for needed, procedures in {
        "domain:start domain:write": (
            "domain_create_xml domain_restore domain_restore_flags domain_restore_params"
        ),
        "domain:write domain:save": "domain_define_xml domain_define_xml_flags",
        "domain:write domain:hibernate": "domain_save_image_get_xml_desc domain_save_image_define_xml",
        "network:write network:start": "network_create_xml network_create_xml_flags",
        "network:write network:save": "network_define_xml network_define_xml_flags",
        "network_port:create": "network_port_create_xml",
        "storage_pool:start storage_pool:write": "storage_pool_create_xml",
        "storage_pool:write storage_pool:save": "storage_pool_define_xml",
        "storage_vol:create": "storage_vol_create_xml storage_vol_create_xml_from",
        "secret:write secret:save": "secret_define_xml",
        "nwfilter:write nwfilter:save": "nwfilter_define_xml nwfilter_define_xml_flags",
        "nwfilter_binding:create": "nwfilter_binding_create_xml",
    }.items()
    for procedure in procedures.split()
}  # fmt: skip
# what of another's storage is needed to read it, and to write it
_USED = {
    "storage_vol": ("storage_vol:data_read", "storage_vol:data_write"),
    "domain": ("domain:block_read", "domain:block_write"),
}
_ALL = 1 << 30  # of a listing, before what may not be seen is taken out


def concerns(row: Procedure, granted: Granted, left: Sequence[str]) -> bool:
    """Whether a call that :func:`auth.check` let pass, with ``left``, depends on objects."""
    shown = permissions.shown_by(row)
    return bool(left) or (shown not in granted and shown in granted.somewhere)


class Narrowed:
    """One such call."""

    def __init__(
        self,
        route: dispatch.Route,
        args: dict[str, Any],
        services: Any,
        granted: Granted,
        identity: auth.Identity,
        left: Sequence[str],
    ) -> None:
        """Raises AccessDenied, which is in the log then, or that there is no such object."""
        self.over = False
        self._row = route.row
        self._args = args
        self._services = services
        self._granted = granted
        self._identity = identity
        self._found = [word for word in left if _finds(route.row, word)]
        self._made = [word for word in left if word in MADE.get(route.row.name, ())]
        self._shown = permissions.shown_by(route.row)
        self._writes = "domain:write" in left
        self._held = [word for word in left if word not in {*self._found, *self._made}]
        self.check()

    def check(self) -> None:
        """See whether the objects behind the handles are meant, as they are called now: somebody may have renamed them
        since. Raises AccessDenied, or that there is no such object."""
        for word in self._held:
            objects = self._objects(word.partition(":")[0])
            if not objects:
                raise auth.refuse(self._row, word, self._identity)
            for one in objects:
                self._need(word, one)
                self._writes = self._writes or (word == "domain:start" and self._granted.on("domain:write", one))

    def _need(self, permission: str, one: Named) -> None:
        if not self._granted.on(permission, one):
            raise auth.refuse(self._row, permission, self._identity, told(one))

    def _objects(self, kind: str) -> list[Named]:
        """The objects of a kind that the arguments are about; none where that cannot be known."""
        objects = []
        for key, value in self._args.items():
            if type(value) in _BEHIND:
                ref = _BEHIND[type(value)](self._services, value)
                objects += [one for one in [named(ref)] if one.kind == kind]
            elif kind == "node_device" and key == "name" and isinstance(value, str):
                objects.append(Named(kind, value))
        if self._row.name == "domain_rename" and objects:
            objects.append(objects[0]._replace(name=self._args["new_name"] or ""))
        return objects

    def asking(self) -> AbstractContextManager[None]:
        """Have services that make something ask here."""
        return admission.asking(self)

    def admit(self, made: Named) -> None:
        for word in self._made:
            if word.partition(":")[0] == made.kind:
                self._need(word, made)

    def use(self, one: Named, *, writes: bool) -> None:
        """Who may write some guests' definitions alone, may give them what he may read, and write, himself. Who may
        only start them gives them nothing: they have what somebody else gave them."""
        if self._writes:
            words = _USED[one.kind]
            for word in words if writes else words[:1]:
                self._need(word, one)

    def call(self, route: dispatch.Route) -> Any:
        """As Route.call; of a listing all, and of a count what is counted."""
        if not self._lists:
            return route.call(self._services, self._args)
        if "_num_of_" in self._row.name:
            route = dispatch.prepared(BY_NAME[self._row.name.replace("_num_of_", "_list_")])
            (most,) = (name for name in route.names if name.startswith("max"))
            return route.call(self._services, self._args | {most: _ALL})
        return route.call(
            self._services, {name: _ALL if name.startswith("max") else value for name, value in self._args.items()}
        )

    @property
    def _lists(self) -> bool:
        return self._shown != "" and self._shown not in self._granted

    def answer(self, value: Any) -> Any:
        """What of the result of :meth:`call` the client gets. Raises AccessDenied for something that it may not find."""
        for word in self._found:
            self._need(word, named(value))
        if self._row.access == "read":
            self.check()
        if not self._lists:
            return value
        seen = [item for item in value if self._visible(item)]
        if "_num_of_" in self._row.name:
            return len(seen)
        most = next((limit for name, limit in self._args.items() if name.startswith("max")), _ALL)
        return seen[:most]

    def _visible(self, item: Any) -> bool:
        try:
            return self._granted.on(self._shown, self._one(item))
        except GuesthouseError:  # it went meanwhile
            return False

    def _one(self, item: Any) -> Named:
        if isinstance(item, str):
            ref = _LISTED[self._shown.partition(":")[0]](self._services, self._args.get("pool"), item)
        elif isinstance(item, int):
            ref = self._services.domains.lookup_by_id(item)
        else:
            ref = getattr(item, "dom", item)
        return named(ref)


def _finds(row: Procedure, permission: str) -> bool:
    """Whether a call gives a handle of what it was to find, and does nothing else."""
    return "_lookup_" in row.name and permission.endswith(":getattr")
