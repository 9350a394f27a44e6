"""Rules that name objects: what a row means, and that no procedure gets past them whatever a client says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from guesthouse.daemon import auth, dispatch, narrowed
from guesthouse.daemon.auth import Identity, Rules
from guesthouse.daemon.granted import Granted
from guesthouse.errors import AccessDenied, NoDomain
from guesthouse.services import admission
from guesthouse.services.admission import Named
from guesthouse.services.domain_bulk import Stats
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import (
    DomainRef,
    InterfaceRef,
    NetworkPortRef,
    NetworkRef,
    NodeDeviceRef,
    NWFilterBindingRef,
    NWFilterRef,
    PoolRef,
    SecretRef,
    VolumeRef,
)
from guesthouse.wire import permissions, xdr
from guesthouse.wire.procedures import ADMIN, BY_NAME

NOBODY = Identity(uid=4711, gid=4711, pid=1)
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
DOMAIN = Named("domain", "web-1", UUID)
VOLUME = Named("storage_vol", "web-1.img", within="vms", key="/vms/web-1.img")
SECRET = Named("secret", uuid=UUID, usage="/web/one")
PORT = Named("network_port", UUID, UUID, within="default")
INTERFACE = Named("interface", "eth0", mac="52:54:00:00:00:0a")


def granted(*rows: tuple[object, object]) -> Granted:
    """What one has to whom rows of (permissions, objects) are given."""
    return of([{"who": "everybody", "may": may, "on": on} for may, on in rows])


def of(rows: list[dict[str, Any]]) -> Granted:
    found = Rules(rows).granted(NOBODY)
    assert isinstance(found, Granted)
    return found


@pytest.mark.parametrize(
    ("on", "one", "meant"),
    [
        ("web-1", DOMAIN, True),
        ("web-*", DOMAIN, True),
        ("name:web-[0-9]", DOMAIN, True),
        ("web", DOMAIN, False),
        ("eb-1", DOMAIN, False),
        ("WEB-*", DOMAIN, False),
        ("web-*", Named("domain", "web-1\nx", UUID), True),
        ("web-1", Named("domain", "web-1\n", UUID), False),
        ("*", Named("domain"), False),  # what has no name is not meant by one
        (f"uuid:{UUID}", DOMAIN, True),
        (f"uuid:{UUID.upper()}", DOMAIN, True),
        ("uuid:6ba7*", DOMAIN, True),
        (f"uuid:{UUID[:-1]}9", DOMAIN, False),
        (UUID, DOMAIN, False),
        ("vms/web-*", VOLUME, True),
        ("*/web-1.img", VOLUME, True),
        ("vms/*", Named("storage_vol", "a/b", within="vms"), True),
        ("web-*", VOLUME, False),  # a volume is named with its pool: a pattern for guests means no volume
        ("*", VOLUME, False),
        ("v*g", VOLUME, False),
        ("vm/s*", VOLUME, False),
        ("web-*/*", DOMAIN, False),
        ("key:/vms/*", VOLUME, True),
        ("key:*", DOMAIN, False),
        ("usage:/web/*", SECRET, True),
        ("usage:/web", SECRET, False),
        ("*", SECRET, False),
        (f"uuid:{UUID}", SECRET, True),
        ("default/*", PORT, True),
        ("*", PORT, False),
        ("mac:52:54:00:*", INTERFACE, True),
        ("mac:52:54:00:00:00:0A", INTERFACE, True),
        ("eth*", INTERFACE, True),
        (["db-*", "web-*"], DOMAIN, True),
    ],
)
def test_who_names_what(on: object, one: Named, meant: bool) -> None:
    assert granted(("*:getattr", on)).on(f"{one.kind}:getattr", one) == meant
    assert not granted(("*:read", on)).on(f"{one.kind}:getattr", one)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"on": "host:web-*"}, "on 'host:web-*'? expected a name, or name:, uuid:, key:, usage: or mac: and a value"),
        ({"on": "uuid:"}, "on 'uuid:'?"),
        ({"on": []}, "'on' is [], expected a text or a list of texts"),
        ({"on": ["web", 1]}, "'on' is ['web', 1]"),
        ({"on": ""}, "'on' is ''"),
        ({"on": "web-*", "may": ["domain:*", "connect:*"]}, "'connect:*' is about no object: it needs a row without"),
        ({"objects": "web-*"}, "needs the keys 'who' and 'may', may have 'on', and has no others"),
    ],
)
def test_wrong_rows_are_told(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^\[\[access\]\] row 1") as caught:
        Rules([{"who": "everybody", "may": "domain:*", **row}])
    assert said in str(caught.value)


def test_rows_of_both_sorts_add_up() -> None:
    rows: list[dict[str, Any]] = [
        {"who": "everybody", "may": ["connect:*", "domain:getattr"]},
        {"who": "user:4711", "may": "*", "on": "web-*"},
        {"who": "user:4711", "may": "domain:stop", "on": "db-*"},
        {"who": "user:4712", "may": "domain:*", "on": "*"},
    ]
    mine = Rules(rows).granted(NOBODY)
    assert isinstance(mine, Granted) and mine >= {"connect:write", "domain:getattr"} and "domain:stop" not in mine
    other, web, db = (Named("domain", name, UUID) for name in ("other", "web-1", "db-1"))
    assert [mine.on("domain:getattr", one) for one in (other, web, db)] == [True] * 3
    assert [mine.on("domain:stop", one) for one in (other, web, db)] == [False, True, True]
    assert [mine.on("domain:start", one) for one in (other, web, db)] == [False, True, False]
    stranger = Rules(rows).granted(Identity(uid=1))
    assert type(stranger) is frozenset  # to whom no row with names applies, nothing is looked up


# -- every procedure


class Host:
    """Services in which there is one object of each kind, named ``name`` whatever a client calls it."""

    def __init__(self, name: str) -> None:
        net = NetworkRef(name, UUID)
        refs = {
            "domains": DomainRef(name, UUID, -1),
            "networks": net,
            "network_ports": NetworkPortRef(NetworkRef(name, UUID), UUID),
            "secrets": SecretRef(UUID, 1, name),
            "nwfilters": NWFilterRef(name, UUID),
            "nwfilter_bindings": NWFilterBindingRef(name, "f"),
            "interfaces": InterfaceRef(name, ""),
            "nodedevs": NodeDeviceRef(name),
            "volumes": VolumeRef(name, "vol", "/key"),
            "pools": PoolRef(name, UUID),
        }
        self.refs: dict[str, Any] = {admission.named(ref).kind: ref for ref in refs.values()}
        words = ("lookup_by_uuid", "lookup_by_name", "lookup_by_id", "lookup_by_port_dev")
        for service, ref in refs.items():
            setattr(self, service, SimpleNamespace(**dict.fromkeys(words, self._giving(ref))))
        self.pools = SimpleNamespace(
            by_name=lambda _: SimpleNamespace(ref=refs["pools"]), lookup_by_uuid=lambda _: refs["pools"]
        )

    @staticmethod
    def _giving(ref: Any) -> Callable[..., Any]:
        return lambda *_: ref


LIES: dict[str, Any] = {
    "nonnull_domain": DomainRef("web-1", UUID, 1),
    "nonnull_network": NetworkRef("web-1", UUID),
    "nonnull_network_port": NetworkPortRef(NetworkRef("web-1", UUID), UUID),
    "nonnull_storage_pool": PoolRef("web-1", UUID),
    "nonnull_storage_vol": VolumeRef("web-1", "vol", "web-1"),
    "nonnull_secret": SecretRef(UUID, 1, "web-1"),
    "nonnull_interface": InterfaceRef("web-1", "web-1"),
    "nonnull_nwfilter": NWFilterRef("web-1", UUID),
    "nonnull_nwfilter_binding": NWFilterBindingRef("web-1", "web-1"),
}
ON_WEB = {"who": "everybody", "may": "*", "on": ["web-*", "web-*/*", "usage:web-*"]}
ALICE = of([ON_WEB])
SEARCHER = of([{"who": "everybody", "may": "connect:*"}, ON_WEB])
ON_OBJECTS = sorted(
    row.name
    for row in BY_NAME.values()
    if row.program != ADMIN
    and row.access != "event"
    and row.handler
    and any(not need.permission.startswith("connect:") for need in permissions.needs(row) or ())
)


def arguments(name: str, kind_name: str) -> dict[str, Any]:
    row = BY_NAME[name]
    fields = xdr.struct_codec(row.args).fields if row.args else ()
    args = {field: LIES.get(kind, 0 if "int" in kind else "web-9") for field, kind in fields}
    if "node_device" in name and "name" in args:
        args["name"] = kind_name  # which is all that finds such a device
    return args


def attempt(name: str, services: Any, one: Callable[[str], Named], found: Any) -> None:
    """Call: what is there is what ``services`` have, documents are about ``one``, ``found`` is what is found."""
    row, route = BY_NAME[name], dispatch.prepared(BY_NAME[name])
    args = arguments(name, services.refs["node_device"].name)
    left = auth.check(row, args, ALICE, NOBODY)
    assert left and narrowed.concerns(row, ALICE, left)
    call = narrowed.Narrowed(route, args, services, ALICE, NOBODY, left)
    for permission in narrowed.MADE.get(name, ()):
        with call.asking():
            admission.admit(one(permission.partition(":")[0]))
    if not permissions.shown_by(row):
        call.answer(found)


def test_none_is_left_out() -> None:
    assert len(ON_OBJECTS) > 220 and set(ON_OBJECTS) >= set(narrowed.MADE)
    assert not {"domain_create", "storage_vol_delete", "domain_rename"} - set(ON_OBJECTS)


@pytest.mark.parametrize("name", ON_OBJECTS)
def test_who_may_on_some_may_on_no_other(name: str) -> None:
    """The client calls the object by a name that it is allowed: it is another's."""
    kinds = {need.permission.partition(":")[0] for need in permissions.needs(BY_NAME[name]) or ()}
    for other in ("other", "xweb-1"):
        services = Host(other)

        def made(kind: str, other: str = other) -> Named:
            return Named(kind, other, UUID, within=other, usage=other)

        (found,) = (services.refs[kind] for kind in sorted(kinds)[-1:]) if "_lookup_" in name else (None,)
        with pytest.raises(AccessDenied) as caught:
            attempt(name, services, made, found)
        assert caught.value.number == 88


# they come to be with a name that nobody can know before
UNNAMED = {"node_device_create_xml", "node_device_define_xml"}


@pytest.mark.parametrize("name", ON_OBJECTS)
def test_who_may_on_some_may_on_these(name: str) -> None:
    services = Host("web-1")
    kinds = sorted(need.permission.partition(":")[0] for need in permissions.needs(BY_NAME[name]) or ())
    found = services.refs[kinds[-1]] if "_lookup_" in name else None

    def made(kind: str) -> Named:
        return Named(kind, "web-1", UUID, within="web-1", usage="web-1")

    if name in UNNAMED:
        with pytest.raises(AccessDenied):
            attempt(name, services, made, found)
    else:
        attempt(name, services, made, found)


def test_a_guest_may_not_be_renamed_out_of_reach() -> None:
    row = BY_NAME["domain_rename"]
    services = Host("web-1")
    for new, may in (("web-2", True), ("other", False), ("", False), (None, False)):
        args = {"dom": DomainRef("", UUID, -1), "new_name": new, "flags": 0}
        left = auth.check(row, args, ALICE, NOBODY)
        if may:
            narrowed.Narrowed(dispatch.prepared(row), args, services, ALICE, NOBODY, left)
        else:
            with pytest.raises(AccessDenied):
                narrowed.Narrowed(dispatch.prepared(row), args, services, ALICE, NOBODY, left)


def test_to_copy_a_volume_its_data_must_be_readable() -> None:
    """Which libvirt does not ask for."""
    rows = [{"who": "everybody", "may": "storage-vol:*", "on": "web-1/*"}]
    mine = of(rows)
    args = {"pool": PoolRef("web-1", UUID), "xml": "", "clonevol": VolumeRef("web-1", "vol", "/key"), "flags": 0}
    row = BY_NAME["storage_vol_create_xml_from"]
    left = auth.check(row, args, mine, NOBODY)
    narrowed.Narrowed(dispatch.prepared(row), args, Host("web-1"), mine, NOBODY, left)
    with pytest.raises(AccessDenied):
        narrowed.Narrowed(dispatch.prepared(row), args, Host("other"), mine, NOBODY, left)


@pytest.mark.parametrize("name", sorted(row.name for row in BY_NAME.values() if permissions.shown_by(row)))
def test_lists_and_counts_show_what_one_may_see(name: str) -> None:
    row = BY_NAME[name]
    route = dispatch.prepared(row)
    kind = permissions.shown_by(row).partition(":")[0]
    mine, theirs = (Host(word).refs[kind] for word in ("web-1", "other"))
    items: list[Any]
    by_word: dict[Any, Any] = {}
    if name == "connect_get_all_domain_stats":
        items = [Stats(theirs, {}), Stats(mine, {})]
    elif "list_all" in name:
        items = [theirs, mine]
    elif name.endswith("_domains") and "defined" not in name:
        by_word = {1: theirs, 2: mine}
        items = list(by_word)
    else:
        by_word = {"a": theirs, "b": mine, "gone": None}
        items = list(by_word)

    def look(*words: Any) -> Any:
        if words[-1] == UUID:
            return NetworkRef("web-1", UUID)
        if by_word[words[-1]] is None:
            raise NoDomain("gone")
        return by_word[words[-1]]

    def listing(**args: Any) -> list[Any]:
        most = next((args[word] for word in args if word.startswith("max")), len(items))
        return items[:most]

    words = ("lookup_by_uuid", "lookup_by_name", "lookup_by_id")
    services: Any = Host("web-1")
    for service in ("domains", "networks", "secrets", "nwfilters", "interfaces", "nodedevs", "volumes"):
        setattr(services, service, SimpleNamespace(**dict.fromkeys(words, look)))
    services.pools = SimpleNamespace(
        by_name=lambda word: SimpleNamespace(ref=look(word)), lookup_by_uuid=lambda _: PoolRef("web-1", UUID)
    )
    listed = dispatch.prepared(BY_NAME[name.replace("_num_of_", "_list_")])
    setattr(services, listed.service, getattr(services, listed.service, None) or SimpleNamespace())
    setattr(getattr(services, listed.service), listed.method, listing)
    args = arguments(name, "web-1") | {"doms": []}
    args = {field: 1 if field.startswith("max") else value for field, value in args.items() if field in route.names}
    left = auth.check(row, args, SEARCHER, NOBODY)
    assert narrowed.concerns(row, SEARCHER, left)
    call = narrowed.Narrowed(route, args, services, SEARCHER, NOBODY, left)
    answer = call.answer(call.call(route))
    assert answer == (1 if "_num_of_" in name else items[1:2])  # also where the client has room for one alone


def test_a_turn_that_comes_late_is_asked_about_again() -> None:
    """A guest that was renamed while a call waited for it; what outlives its call is asked nothing."""
    jobs, row = Jobs(), BY_NAME["domain_set_autostart"]
    services: Any = Host("web-1")
    args = {"dom": DomainRef("", UUID, -1), "autostart": 1}
    left = auth.check(row, args, ALICE, NOBODY)
    call = narrowed.Narrowed(dispatch.prepared(row), args, services, ALICE, NOBODY, left)

    async def work() -> None:
        async with jobs.changing(UUID, "work"):
            pass

    async def run() -> None:
        with call.asking():
            early = asyncio.create_task(work())
        await early
        async with jobs.changing(UUID, "rename"):
            with call.asking():
                late = asyncio.create_task(work())
            await asyncio.sleep(0)
            services.domains.lookup_by_uuid = lambda _: DomainRef("other", UUID, -1)
        with pytest.raises(AccessDenied):
            await late
        call.over = True
        with call.asking():
            await asyncio.create_task(work())

    asyncio.run(run())
