"""Which program configures the host's network at boot, and what it must read so that a bridge has what its port had."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from guesthouse.errors import OperationFailed
from guesthouse.network.netlink import Link

#: File -> its new text, None where it goes away.
Files = dict[Path, str | None]


@dataclass(frozen=True)
class Wish:
    """What the bridge is to have at boot: what the port is configured to have (``keep``), addresses with gateways and
    name servers, or DHCP."""

    keep: bool = True
    dhcp: bool = False
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """What a configuration system needs: files, the commands that make it read them, and what a person should know."""

    files: Files
    commands: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class System:
    """``rules`` says whether the system configures a port of this host, below ``root``; ``write`` what it needs for a
    bridge: (root, bridge name, port, wish, STP) -> files and commands."""

    name: str
    rules: Callable[[Path, Link], bool]
    write: Callable[[Path, str, Link, Wish, bool], Written]


def systems() -> list[System]:
    """The systems that are known, the more particular first: netplan writes for the others."""
    from guesthouse.network.hostbridge import ifupdown, netplan, networkd, networkmanager

    return [
        System("netplan", netplan.rules, netplan.write),
        System("NetworkManager", networkmanager.rules, networkmanager.write),
        System("systemd-networkd", networkd.rules, networkd.write),
        System("ifupdown", ifupdown.rules, ifupdown.write),
    ]


def ruling(root: Path, port: Link) -> System:
    """The system that configures ``port``. Raises OperationFailed where none does."""
    for system in systems():
        if system.rules(root, port):
            return system
    raise OperationFailed(
        f"no configuration of {port.name} was found (netplan, NetworkManager, systemd-networkd, ifupdown): "
        f"--temporary makes a bridge that lasts until the next boot"
    )


def keeps_cloud_init_off(root: Path, files: Files) -> tuple[Files, list[str]]:
    """cloud-init writes its network configuration anew at each boot: where such a file is changed, it is told not to.
    The file for that, and the note about it; nothing where it does not apply."""
    if not any("cloud-init" in path.name for path in files):
        return {}, []
    switch = root / "etc/cloud/cloud.cfg.d/99-guesthouse-network.cfg"
    return {switch: "network: {config: disabled}\n"}, [f"cloud-init will leave the network alone ({switch})"]


def matches(patterns: str, name: str) -> bool:
    """Whether a device's name is one of systemd's space-separated shell patterns."""
    import fnmatch

    return any(fnmatch.fnmatchcase(name, pattern) for pattern in re.split(r"\s+", patterns.strip()) if pattern)
