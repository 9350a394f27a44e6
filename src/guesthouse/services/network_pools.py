"""Networks whose guests get a device of the host's, or a part of one (macvtap, virtual functions): which one is whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, Domain, InternalError
from guesthouse.model.network import Network
from guesthouse.model.network_port import NetworkPort, PortPlug

_DEVICES = Path("/sys/class/net")


def connections(ports: Iterable[NetworkPort]) -> Counter[str]:
    """How many ports each device has."""
    return Counter(port.plug.dev for port in ports if port.plug is not None and port.plug.dev)


def assign(port: NetworkPort, network: Network, ports: Iterable[NetworkPort]) -> None:
    """Give ``port`` of a network without a bridge its device: one that nobody has where the mode is exclusive, else the
    one that fewest have; ``ports`` are the others. Nothing happens on a network with a bridge.

    Raises InternalError where there is none, ConfigUnsupported for virtual functions. Texts are libvirt's.
    """
    if network.bridge_name:
        return
    forward, mode = network.forward, network.mode
    if mode == "hostdev":
        raise _no_functions(network)
    devices = [interface.dev or "" for interface in forward.interfaces] if forward else []
    if forward is not None and forward.pfs:
        devices = _functions(forward.pfs[0].dev or "")
    if not devices:
        text = f"network '{network.name}' uses a direct mode, but has no forward dev and no interface pool"
        raise InternalError(text, domain=Domain.NETWORK)
    used = connections(ports)
    kind = port.virtualport.type if port.virtualport else None
    if mode == "passthrough" or (mode == "private" and kind == "802.1Qbh"):
        free = [device for device in devices if not used[device]]
        if not free:
            raise InternalError(
                f"network '{network.name}' requires exclusive access to interfaces, but none are available",
                domain=Domain.NETWORK,
            )
        device = free[0]
    else:
        device = min(devices, key=lambda name: used[name])
    port.plug = PortPlug(type="direct", dev=device, mode=mode)


def _functions(device: str) -> list[str]:
    """The network devices of a card's virtual functions. Raises InternalError where it has none."""
    try:
        folders = sorted((_DEVICES / device / "device").glob("virtfn*"), key=lambda folder: int(folder.name[6:]))
        names = [link.name for folder in folders for link in sorted((folder / "net").glob("*"))]
    except (OSError, ValueError) as error:
        raise InternalError(f"Could not get Virtual functions on {device}", domain=Domain.NETWORK) from error
    if not names:
        raise InternalError(f"No Vf's present on SRIOV PF {device}", domain=Domain.NETWORK)
    return names


def _no_functions(network: Network) -> ConfigUnsupported | InternalError:
    forward = network.forward
    if forward is not None and forward.pfs:
        _functions(forward.pfs[0].dev or "")
    elif forward is None or not forward.addresses:
        return InternalError(
            f"network '{network.name}' requires exclusive access to interfaces, but none are available",
            domain=Domain.NETWORK,
        )
    text = f"network '{network.name}': virtual functions are not handed out yet: use <interface type='hostdev'>"
    return ConfigUnsupported(text, domain=Domain.NETWORK)
