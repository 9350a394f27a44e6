"""Filters of running guests' interfaces: changed and undone, learned addresses, and what a new daemon finds."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from guesthouse.errors import GuesthouseError, InternalError, OperationInvalid
from guesthouse.model.devices.interface import Interface
from guesthouse.network import filters
from guesthouse.services.context import Config, Context, Paths
from guesthouse.services.events import EventBus
from guesthouse.services.nwfilter_bindings import NWFilterBindings
from guesthouse.services.nwfilters import NWFilters
from guesthouse.services.refs import DomainRef, NWFilterRef
from guesthouse.services.store import Store
from support.frames import ALL, GUEST, LIAR, OTHER, Cable, arp, back, cable, out, udp
from support.netns import in_netns, run

OWNER = DomainRef("vm", "d54df46f-1ab5-4a22-8618-4560ef5fac2c", 1)
KIND = "nwfilter-binding"


def context(folder: Path, mode: str = "system") -> Context:
    paths = Paths.for_root(folder)
    paths.make()
    return Context(paths, mode, Store(paths.state, paths.run), EventBus(), Config())


def daemon(ctx: Context) -> tuple[NWFilters, NWFilterBindings]:
    known = NWFilters(ctx)
    known.ensure_standard()
    return known, NWFilterBindings(ctx, known)


def nic(name: str, **values: str) -> Interface:
    given = "".join(f"<parameter name='{key}' value='{value}'/>" for key, value in values.items())
    xml = f"<interface type='bridge'><mac address='{GUEST}'/><filterref filter='{name}'>{given}</filterref></interface>"
    return Interface.from_xml(xml)


def named(name: str, content: str, uuid: str = "11111111-2222-4333-8444-555555555555") -> str:
    return f"<filter name='{name}'><uuid>{uuid}</uuid>{content}</filter>"


def drop(address: str) -> str:
    return f"<rule action='drop' direction='out'><ip dstipaddr='{address}'/></rule>"


def lease(address: str, kind: int = 5) -> bytes:
    """A DHCP server's answer to the guest."""
    dhcp = bytes([2, 1, 6, 0]) + bytes(12) + bytes(map(int, address.split("."))) + bytes(8)
    dhcp += bytes.fromhex(GUEST.replace(":", "")) + bytes(10 + 192) + b"\x63\x82\x53\x63"
    body = dhcp + bytes([0, 53, 1, kind, 255])
    datagram = udp(67, 68, "10.0.0.2", "255.255.255.255")
    head = struct.pack("!HHHH", 67, 68, 8 + len(body), 0)
    total = struct.pack("!H", 20 + 8 + len(body))
    whole = datagram[:2] + total + datagram[4:10] + b"\0\0" + datagram[12:20]
    words = sum(struct.unpack("!10H", whole))
    words = (words & 0xFFFF) + (words >> 16)
    whole = whole[:10] + struct.pack("!H", ~words & 0xFFFF) + whole[12:]
    return out(whole + head + body, OTHER, ALL)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


@in_netns
def test_a_filter_changes_under_its_guests(tmp_path: Path) -> None:
    asyncio.run(_changes(context(tmp_path)))


async def _changes(ctx: Context) -> None:
    with cable() as line:
        known, bindings = daemon(ctx)
        await known.define_xml(xml=named("inner", drop("10.0.0.2")))
        outer = await known.define_xml(
            xml=f"<filter name='outer'><filterref filter='inner'/>{drop('10.0.0.7')}</filter>"
        )
        await bindings.plug(nic("outer"), OWNER, "t0")
        assert not line.passes(out(udp(1, 2))) and line.passes(out(udp(1, 2, target="10.0.0.9")))
        # a filter in it is another now: at once
        await known.define_xml(xml=named("inner", drop("10.0.0.9")))
        assert line.passes(out(udp(1, 2))) and not line.passes(out(udp(1, 2, target="10.0.0.9")))
        # one that cannot be built for a guest is not taken; nor may one go that a guest needs
        rules = run("nft", "list", "table", "bridge", "guesthouse")
        for wrong in (
            "<rule action='drop' direction='in'><ip srcipaddr='$WHO'/></rule>",
            "<filterref filter='nobody'/>",
        ):
            with pytest.raises(InternalError):
                await known.define_xml(xml=named("inner", wrong))
        inner = known.lookup_by_name("inner")
        for ref in (inner, outer):
            with pytest.raises(OperationInvalid, match="nwfilter is in use"):
                await known.undefine(nwfilter=ref)
        assert run("nft", "list", "table", "bridge", "guesthouse") == rules
        assert "10.0.0.9" in known.get_xml_desc(nwfilter=inner, flags=0)
        # nor one that the kernel will not take: those that had it already have the old one back
        await bindings.plug(nic("outer"), OWNER, "t1")
        real = filters.install
        calls: list[str] = []

        def second_fails(tap: str, plan: filters.Plan) -> None:
            calls.append(tap)
            if len(calls) == 2:
                raise InternalError("no")
            real(tap, plan)

        rules = run("nft", "list", "table", "bridge", "guesthouse")
        with mock.patch.object(filters, "install", second_fails), pytest.raises(InternalError, match="no"):
            await known.define_xml(xml=named("inner", drop("10.0.0.5")))
        now = run("nft", "list", "table", "bridge", "guesthouse")
        assert sorted(now.split()) == sorted(rules.split()) and len(calls) == 4
        # another filter for a plugged card, or none
        await bindings.change(nic("no-mac-spoofing"), OWNER, "t0")
        assert not line.passes(out(udp(1, 2), LIAR)) and line.passes(out(udp(1, 2, target="10.0.0.9")))
        with pytest.raises(InternalError, match="referenced filter 'nobody' is missing"):
            await bindings.change(nic("nobody"), OWNER, "t0")
        assert (
            not line.passes(out(udp(1, 2), LIAR)) and bindings.lookup_by_port_dev("t0").filtername == "no-mac-spoofing"
        )
        # a new daemon puts back what somebody flushed; what is gone goes
        run("nft", "flush", "ruleset")
        assert line.passes(out(udp(1, 2), LIAR))
        known, bindings = daemon(ctx)
        await bindings.reattach()
        assert not line.passes(out(udp(1, 2), LIAR))
        assert [ref.portdev for ref in bindings.list_all(0)] == ["t0"] and list(ctx.store.all_runtime(KIND)) == ["t0"]
        assert "<name>vm</name>" in bindings.get_xml_desc(nwfilter=bindings.lookup_by_port_dev("t0"), flags=0)
        await bindings.unplug("t0")
        assert line.passes(out(udp(1, 2), LIAR)) and not ctx.store.all_runtime(KIND)
        # what fails leaves nothing
        for bad in (nic("nobody"), nic("clean-traffic", CTRL_IP_LEARNING="none"), nic("clean-traffic", IP="1.2.3.4.5")):
            with pytest.raises(GuesthouseError):
                await bindings.plug(bad, OWNER, "t0")
        assert not ctx.store.all_runtime(KIND) and "t0" not in run("nft", "list", "table", "bridge", "guesthouse")
        await known.undefine(nwfilter=known.lookup_by_name("outer"))
        await known.undefine(nwfilter=inner)
        assert "outer" not in NWFilters(ctx).list_names(99)


@in_netns
def test_addresses_are_learned(tmp_path: Path) -> None:
    asyncio.run(_learns(context(tmp_path)))


def only_dhcp(line: Cable) -> bool:
    asks = out(udp(68, 67, "0.0.0.0", "255.255.255.255"), GUEST, ALL)
    rest = [
        out(udp(1, 2)),
        out(udp(1, 2, "10.0.0.99")),
        arp(),
        out(udp(68, 67, "0.0.0.0", "255.255.255.255"), LIAR, ALL),
    ]
    heard = line.passes(lease("10.0.0.1", 2), "other") and not line.passes(back(udp(1, 2)), "other")
    return heard and line.passes(asks) and not any(line.passes(frame) for frame in rest)


async def _learns(ctx: Context) -> None:
    with cable() as line:
        _, bindings = daemon(ctx)

        def address() -> str:
            shown = bindings.get_xml_desc(nwfilter=bindings.lookup_by_port_dev("t0"), flags=0)
            return shown.partition("<parameter name='IP' value='")[2].partition("'")[0]

        # a lease alone counts: not what the guest says, nor another server
        await bindings.plug(nic("clean-traffic", CTRL_IP_LEARNING="dhcp", DHCPSERVER="10.0.0.2"), OWNER, "t0")
        assert only_dhcp(line)
        await asyncio.sleep(0.05)
        assert address() == ""
        line.passes(lease("10.0.0.1"), "other")
        await until(lambda: ctx.store.all_runtime(KIND)["t0"]["learned"] == ["10.0.0.1"])
        assert line.passes(out(udp(1, 2))) and not line.passes(out(udp(1, 2, "10.0.0.99")))
        line.passes(lease("10.0.0.44"), "other")
        await until(lambda: ctx.store.all_runtime(KIND)["t0"]["learned"] == ["10.0.0.44"])
        assert address() == "10.0.0.44"
        assert not line.passes(out(udp(1, 2))) and line.passes(out(udp(1, 2, "10.0.0.44")))
        # a new daemon knows it too
        _, later = daemon(ctx)
        bindings, old = later, bindings
        await bindings.reattach()
        assert address() == "10.0.0.44" and line.passes(out(udp(1, 2, "10.0.0.44")))
        await old.unplug("t0")
        await bindings.unplug("t0")
        # the first address that the guest uses is the one
        await bindings.plug(nic("clean-traffic"), OWNER, "t0")
        assert not line.passes(out(udp(1, 2), LIAR))
        await asyncio.sleep(0.05)
        assert address() == ""
        line.passes(out(udp(1, 2)))
        await until(lambda: ctx.store.all_runtime(KIND)["t0"]["learned"] == ["10.0.0.1"])
        assert line.passes(out(udp(1, 2))) and not line.passes(out(udp(1, 2, "10.0.0.99")))
        await bindings.unplug("t0")


def test_a_session_has_no_filters(tmp_path: Path) -> None:
    known, bindings = daemon(context(tmp_path, "session"))
    assert known.list_all(0) == []
    with pytest.raises(OperationInvalid, match="Can't define NWFilters in session mode"):
        asyncio.run(known.define_xml(xml=named("a", "")))
    with pytest.raises(OperationInvalid, match="Can't define NWFilter bindings in session mode"):
        asyncio.run(bindings.create_xml(xml="", flags=0))


def test_standard_filters_come_once(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    known, _ = daemon(ctx)
    assert known.num_of() == 24
    ref = known.lookup_by_name("no-ip-multicast")
    assert known.lookup_by_uuid(ref.uuid) == ref == NWFilterRef("no-ip-multicast", ref.uuid)
    asyncio.run(known.undefine(nwfilter=ref))
    again, _ = daemon(ctx)
    assert again.num_of() == 23 and "no-ip-multicast" not in again.list_names(99)
