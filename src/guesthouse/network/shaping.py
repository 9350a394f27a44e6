"""How fast traffic may go through a tap or a bridge (<bandwidth>).

What leaves the host's device, towards guests, waits in an HTB queue made by ``tc``, as libvirt does it. What comes in
from a guest cannot be made to wait: what is over the limit is dropped, by a chain of our own nftables table (``netdev
guesthouse``), where libvirt has a police action of tc's. Queues vanish with their device; chains do not, so that
:func:`clear` or :func:`sweep` must follow.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from guesthouse.errors import Domain, InternalError
from guesthouse.model.bandwidth import Bandwidth, Inbound, Outbound
from guesthouse.network.netlink import Netlink

TABLE = "guesthouse"
_TABLE = {"family": "netdev", "name": TABLE}
_CHAIN = "ingress_"
_KILO, _KIBI = 1000, 1024
# what a class may send in one turn: no less than a frame, no more than the kernel warns of
_QUANTUM = (1514, 60000)

Json = dict[str, Any]


def _queue(device: str, rate: Inbound) -> str:
    """tc's lines for what goes to the guest."""
    average = rate.average or 0
    words = f"class add dev {device} parent 1: classid 1:1 htb rate {average}kbps"
    if rate.peak:
        words += f" ceil {rate.peak}kbps"
    if rate.burst:
        words += f" burst {rate.burst}kb"
    quantum = min(max(average * _KILO // 10, _QUANTUM[0]), _QUANTUM[1])
    return f"qdisc add dev {device} root handle 1: htb default 1\n{words} quantum {quantum}\n"


def _limit(rate: int, burst: int) -> list[Json]:
    """Drop what is over ``rate`` bytes a second. The kernel's bucket holds a second's worth and ``burst`` bytes."""
    words = {"rate": rate, "burst": burst, "per": "second", "inv": True, "rate_unit": "bytes", "burst_unit": "bytes"}
    return [{"limit": words}, {"drop": None}]


def _police(device: str, rate: Outbound | None) -> Json:
    """What ``nft -j -f -`` shall do, whatever there was before, for what comes from the guest; None: no limit."""
    chain = {"family": "netdev", "table": TABLE, "name": f"{_CHAIN}{device}"}
    # a chain without its hook first, since deleting what is not there fails; anew, so that it binds to this device
    commands: list[Json] = [{"add": {"table": _TABLE}}, {"add": {"chain": chain}}, {"flush": {"chain": chain}}]
    commands.append({"delete": {"chain": chain}})
    if rate is not None and rate.average:
        hook = {"type": "filter", "hook": "ingress", "dev": device, "prio": 0, "policy": "accept"}
        where = {"family": "netdev", "table": TABLE, "chain": chain["name"]}
        average = rate.average * _KILO
        limits = [_limit(average, max(0, (rate.burst or 0) * _KIBI - average))]
        if rate.peak:
            limits.append(_limit(rate.peak * _KILO, 0))
        commands.append({"add": {"chain": chain | hook}})
        commands += [{"add": {"rule": where | {"expr": limit}}} for limit in limits]
    return {"nftables": commands}


def limit(device: str, bandwidth: Bandwidth | None) -> None:
    """Make ``bandwidth`` the limit of the device, whatever it was; None lifts it. Raises InternalError; then the
    device may be limited in part."""
    inbound = bandwidth.inbound if bandwidth else None
    outbound = bandwidth.outbound if bandwidth else None
    # a device that never had a queue has none to delete
    _run(["tc", "qdisc", "del", "dev", device, "root"], "", may_fail=True)
    if inbound is not None and inbound.average:
        _run(["tc", "-batch", "-"], _queue(device, inbound))
        # flows share it fairly where the kernel knows how; else they queue in line
        _run(["tc", "qdisc", "add", "dev", device, "parent", "1:1", "handle", "2:", "sfq"], "", may_fail=True)
    _nft(_police(device, outbound))


def turned(bandwidth: Bandwidth | None) -> Bandwidth | None:
    """The limits of a device that sends what the guest sends (macvtap), where a tap receives it."""
    if bandwidth is None:
        return None
    came, went = bandwidth.outbound, bandwidth.inbound
    return Bandwidth(
        inbound=Inbound(average=came.average, peak=came.peak, burst=came.burst) if came else None,
        outbound=Outbound(average=went.average, peak=went.peak, burst=went.burst) if went else None,
    )


def clear(device: str) -> None:
    """Forget the limits of a device that is gone or about to go."""
    _nft(_police(device, None))


def sweep() -> None:
    """Remove the chains of devices that are gone, which a daemon that was killed left. Raises InternalError."""
    try:
        done = subprocess.run(
            ["nft", "-j", "list", "table", "netdev", TABLE], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return
    if done.returncode:
        return  # no such table: nothing was ever limited
    with Netlink() as netlink:
        there = {link.name for link in netlink.links()}
    for item in json.loads(done.stdout)["nftables"]:
        name = item.get("chain", {}).get("name", "")
        if name.startswith(_CHAIN) and name.removeprefix(_CHAIN) not in there:
            clear(name.removeprefix(_CHAIN))


def _nft(commands: Json) -> None:
    _run(["nft", "-j", "-f", "-"], json.dumps(commands))


def _run(argv: list[str], script: str, *, may_fail: bool = False) -> None:
    package = {"tc": "iproute2", "nft": "nftables"}[argv[0]]
    try:
        done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        text = f"Cannot find '{argv[0]}' in path: install the package {package}"
        raise InternalError(text, domain=Domain.NONE) from error
    if done.returncode and not may_fail:
        words = (done.stderr or done.stdout).strip()
        text = f"Child process ({' '.join(argv)}) unexpected exit status {done.returncode}: {words}"
        raise InternalError(text, domain=Domain.NONE)
