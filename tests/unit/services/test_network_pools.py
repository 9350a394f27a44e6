"""Which device of a pool a port gets."""

from __future__ import annotations

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model.network_port import NetworkPort, settle
from guesthouse.model.virtualport import VirtualPort
from guesthouse.services import network_pools
from support.networks import document

POOL = "<forward mode='{}'><interface dev='a'/><interface dev='b'/></forward>"


def taken(mode: str, number: int, *, kind: str | None = None) -> list[str | None]:
    network = document(POOL.format(mode))
    ports: list[NetworkPort] = []
    for _ in range(number):
        port = NetworkPort(virtualport=VirtualPort(type=kind) if kind else None)
        settle(port, network)
        network_pools.assign(port, network, ports)
        assert port.plug is not None and (port.plug.type, port.plug.mode) == ("direct", mode)
        ports.append(port)
    return [port.plug.dev for port in ports if port.plug]


def test_devices_are_shared_evenly_or_handed_out_one_each() -> None:
    for mode in ("bridge", "vepa", "private"):
        assert taken(mode, 5) == ["a", "b", "a", "b", "a"]
    assert taken("passthrough", 2) == taken("private", 2, kind="802.1Qbh") == ["a", "b"]
    for mode, kind in (("passthrough", None), ("private", "802.1Qbh")):
        with pytest.raises(GuesthouseError, match="requires exclusive access to interfaces, but none are available"):
            taken(mode, 3, kind=kind)


@pytest.mark.parametrize(
    ("forward", "error"),
    [
        ("<forward mode='vepa'/>", "uses a direct mode, but has no forward dev and no interface pool"),
        ("<forward mode='hostdev'><pf dev='lo'/></forward>", "No Vf's present on SRIOV PF lo"),
        ("<forward mode='passthrough'><pf dev='nosuch'/></forward>", "No Vf's present on SRIOV PF nosuch"),
        ("<forward mode='hostdev'/>", "requires exclusive access to interfaces, but none are available"),
        (
            "<forward mode='hostdev'><address type='pci' domain='0' bus='4' slot='1' function='0'/></forward>",
            "virtual functions are not handed out yet",
        ),
    ],
)
def test_what_no_port_can_have(forward: str, error: str) -> None:
    with pytest.raises(GuesthouseError, match=error):
        network_pools.assign(NetworkPort(), document(forward), [])
