"""The network interfaces of this host in libvirt's words, out of sysfs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guesthouse.host.nodedev_document import link_of
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.interface import (
    BOND_MODES,
    Arpmon,
    Bond,
    BondPort,
    Bridge,
    BridgePort,
    Interface,
    Ip,
    Link,
    Mac,
    Miimon,
    Mtu,
    Protocol,
    Vlan,
    VlanDevice,
)

_NET = "/class/net"


class Interfaces:
    """What ``sysfs`` has. Ports of bridges and guests' taps have documents, too, but are not listed."""

    def __init__(self, sysfs: Sysfs | None = None) -> None:
        self._sysfs = sysfs or Sysfs()

    def names(self) -> list[str]:
        """Those that are listed."""
        return [name for name in self._sysfs.names(_NET) if self.exists(name) and not self._hidden(name)]

    def _hidden(self, name: str) -> bool:
        return any(self._sysfs.exists(f"{_NET}/{name}/{mark}") for mark in ("brport/state", "tun_flags"))

    def exists(self, name: str) -> bool:
        return "/" not in name and name not in ("", ".", "..") and self._sysfs.exists(f"{_NET}/{name}/ifindex")

    def mac(self, name: str) -> str:
        """ "" where it has none."""
        return self._text(name, "address") or ""

    def state(self, name: str) -> str:
        """The kernel's word for its state: "up", "down", "unknown", ..."""
        return self._text(name, "operstate") or ""

    def _text(self, name: str, attribute: str) -> str | None:
        return self._sysfs.text(f"{_NET}/{name}/{attribute}")

    def _number(self, name: str, attribute: str) -> int | None:
        return self._sysfs.number(f"{_NET}/{name}/{attribute}")

    def document(self, name: str, addresses: Mapping[str, Sequence[tuple[str, int]]]) -> Interface:
        """The document of an interface; ``addresses`` are its own by family ("ipv4", "ipv6"), with their prefixes."""
        kind = self._kind(name)
        mtu = self._number(name, "mtu")
        interface = Interface(type=kind, name=name, mtu=None if mtu is None else Mtu(size=mtu))
        for family, own in addresses.items():
            ips = [Ip(address=address, prefix=prefix) for address, prefix in own]
            interface.protocols.append(Protocol(family=family, ips=ips))
        if kind == "bridge":
            interface.bridge = self._bridge(name)
        else:
            interface.link = self._link(name)
        if kind == "ethernet":
            interface.mac = Mac(address=self.mac(name))
        interface.bond = self._bond(name) if kind == "bond" else None
        interface.vlan = self._vlan(name) if kind == "vlan" else None
        return interface

    def _kind(self, name: str) -> str:
        kind = self._sysfs.properties(f"{_NET}/{name}").get("DEVTYPE")
        return kind if kind in ("bridge", "bond", "vlan") else "ethernet"

    def _link(self, name: str) -> Link:
        link = link_of(self._sysfs, f"{_NET}/{name}")
        return Link(speed=link.speed, state=link.state)

    def _bridge(self, name: str) -> Bridge:
        ports = [self._bridge_port(port) for port in self._sysfs.names(f"{_NET}/{name}/brif")]
        stp = self._number(name, "bridge/stp_state")
        return Bridge(stp=stp == 1, delay=self._text(name, "bridge/forward_delay"), ports=ports)

    def _bridge_port(self, name: str) -> BridgePort:
        kind = self._kind(name)
        port = BridgePort(type=kind, name=name, link=self._link(name))
        port.mac = Mac(address=self.mac(name)) if kind == "ethernet" else None
        port.bond = self._bond(name) if kind == "bond" else None
        port.vlan = self._vlan(name) if kind == "vlan" else None
        return port

    def _bond(self, name: str) -> Bond:
        mode, number = _word(self._text(name, "bonding/mode"))
        bond = Bond(mode=BOND_MODES[number] if 0 <= number < len(BOND_MODES) else mode)
        interval = self._number(name, "bonding/arp_interval") or 0
        frequency = self._number(name, "bonding/miimon") or 0
        if interval > 0:
            validate, _ = _word(self._text(name, "bonding/arp_validate"))
            target = (self._text(name, "bonding/arp_ip_target") or "").partition(" ")[0]
            bond.arpmon = Arpmon(interval=interval, target=target or None, validate=validate or None)
        elif frequency > 0:
            down, up = (self._number(name, f"bonding/{delay}") or None for delay in ("downdelay", "updelay"))
            carrier = "netif" if self._number(name, "bonding/use_carrier") else "ioctl"
            bond.miimon = Miimon(freq=frequency, downdelay=down, updelay=up, carrier=carrier)
        for port in (self._text(name, "bonding/slaves") or "").split():
            bond.ports.append(
                BondPort(type="ethernet", name=port, link=self._link(port), mac=Mac(address=self.mac(port)))
            )
        return bond

    def _vlan(self, name: str) -> Vlan:
        vlan = Vlan()
        try:
            with open(f"{self._sysfs.root}/proc/net/vlan/{name}", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            return vlan
        for line in text.splitlines():
            words = line.split()
            if "VID:" in words:
                vlan.tag = int(words[words.index("VID:") + 1])
            elif words[:1] == ["Device:"]:
                vlan.interface = VlanDevice(name=words[1])
        return vlan


def _word(text: str | None) -> tuple[str, int]:
    """An option of a bond, "active-backup 1", as word and number; -1 for none."""
    word, _, number = (text or "").partition(" ")
    return word, int(number) if number.isdigit() else -1
