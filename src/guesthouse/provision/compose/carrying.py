"""Does what a plan says, a step at a time.

Each step is whole or not done at all, also where Ctrl-C ends it; after a crash the next plan goes on from what is there.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from guesthouse.client import Connect, Domain
from guesthouse.errors import GuesthouseError, NoStorageVol, OperationFailed
from guesthouse.model import domain as model
from guesthouse.model.devices.disk import Disk, DiskDriver, DiskTarget
from guesthouse.model.devices.interface import Interface, MacAddress, Model
from guesthouse.model.network import Network
from guesthouse.provision import cloudinit, passwords, quick
from guesthouse.provision.cloudinit import CloudInit
from guesthouse.provision.compose import planning
from guesthouse.provision.compose.definition import GuestWish, Project, VolumeWish, mac_of, uuid_of
from guesthouse.provision.compose.planning import Plan, Step
from guesthouse.provision.compose.presence import NetworkThere, There, forwards, place
from guesthouse.provision.host import Host
from guesthouse.provision.images.store import Image
from guesthouse.provision.quick import Attached, Check, Wanted
from guesthouse.provision.storage import Planner
from guesthouse.units import GIB

_INACTIVE_DOMAIN, _INACTIVE_NETWORK = 2, 1
_LIVE, _CONFIG = 1, 2
_CRASH, _ACTIONS = 2, {"destroy": 0, "restart": 1}
_ADD_LAST, _DELETE, _DHCP_HOST = 3, 2, 4
_BYTES = 1
_DONE = {
    "create": "created",
    "recreate": "made anew",
    "change": "changed",
    "start": "started",
    "restart": "restarted",
    "remove": "removed",
}

Report = Callable[[str], None]
#: Gives the image of that name and architecture (None: the host's own), and fetches it where it is missing.
FindImage = Callable[[str, "str | None"], Image]
Images = dict[tuple[str, "str | None"], Image]


def images(plan: Plan, find_image: FindImage) -> dict[tuple[str, str | None], Image]:
    """The images that ``plan`` needs, by name and architecture."""
    found: dict[tuple[str, str | None], Image] = {}
    for step in plan.steps:
        if step.kind == "guest" and step.do in ("create", "recreate"):
            wish = plan.project.guests[step.key]
            if (wish.image, wish.arch) not in found:
                found[wish.image, wish.arch] = find_image(wish.image, wish.arch)
    return found


def carry_out(conn: Connect, plan: Plan, images: Images, report: Report, patience: float, check: Check) -> None:
    """Do all of ``plan``; guests that must end have ``patience`` seconds for it. Raises the error of the step that could
    not be done, or what ``check`` raises between calls of the daemon: the steps before are done then, this one and those
    behind it are not."""
    work = _Work(conn, plan, images, report, patience, check)
    work.free_ports()
    for step in plan.steps:
        begin = time.monotonic()
        try:
            work.do(step)
        except GuesthouseError as error:
            raise OperationFailed(f"{step.kind} {step.name}: {error.detail or error}") from None
        report(f"{_DONE[step.do]} {step.kind} {step.name} ({time.monotonic() - begin:.2f} s)")
        check()
    work.wait_for_all()


class _Work:
    def __init__(
        self, conn: Connect, plan: Plan, images: Images, report: Report, patience: float, check: Check
    ) -> None:
        self._conn, self._plan, self._report = conn, plan, report
        self._images, self._patience, self._check = images, patience, check
        self._project: Project = plan.project
        self._there: There = plan.there
        self._started: list[str] = []
        self._ready: set[tuple[str, str]] = set()

    def do(self, step: Step) -> None:
        {"network": self._network, "volume": self._volume, "guest": self._guest}[step.kind](step)

    # -- networks

    def _network(self, step: Step) -> None:
        conn = self._conn
        if step.do == "create":
            document = planning.network_document(self._project, self._project.networks[step.key], self._there)
            with contextlib.ExitStack() as undo:
                network = conn.network_define_xml(document.to_xml())
                undo.callback(_quietly, network.undefine)
                network.create()
                undo.callback(_quietly, network.destroy)
                network.set_autostart(True)
                self._check()
                undo.pop_all()
            # the next network chooses another subnet
            made = Network.from_xml(network.get_xml_desc(_INACTIVE_NETWORK))
            self._there.networks[step.name] = NetworkThere(step.name, True, made)
            return
        network = conn.network_lookup_by_name(step.name)
        if step.do == "start":
            network.create()
        elif step.do == "remove":
            if network.is_active():
                network.destroy()
            network.undefine()
        else:
            self._change_network(step)

    def _change_network(self, step: Step) -> None:
        wish = self._project.networks[step.key]
        network = self._conn.network_lookup_by_name(step.name)
        aspects = {change.aspect for change in step.changes}
        document = planning.network_document(self._project, wish, self._there)
        if "network" in aspects:
            self._conn.network_define_xml(document.to_xml())
            if "later" not in aspects and network.is_active():
                network.destroy()
        elif "hosts" in aspects:
            flags = _CONFIG | (_LIVE if network.is_active() else 0)
            old, new = (
                {host.ip: (host, number) for number, ip in enumerate(net.ips) if ip.dhcp for host in ip.dhcp.hosts}
                for net in (self._there.networks[step.name].config, document)
            )
            for address, (host, number) in old.items():
                if address not in new or new[address][0].to_xml() != host.to_xml():
                    network.update(_DELETE, _DHCP_HOST, number, host.to_xml(), flags)
            for address, (host, number) in new.items():
                if address not in old or old[address][0].to_xml() != host.to_xml():
                    network.update(_ADD_LAST, _DHCP_HOST, number, host.to_xml(), flags)
        network.set_autostart(True)
        if not network.is_active():
            network.create()

    # -- volumes

    def _volume(self, step: Step) -> None:
        name = step.name.partition("/")[2]
        pool = Planner(Host(self._conn, self._conn.get_uri()), dry=False).pool(step.pool).handle
        assert pool is not None
        if step.do == "create":
            wish = self._project.volumes[step.key]
            pool.vol_create_xml(
                f"<volume><name>{name}</name><capacity unit='bytes'>{wish.size}</capacity><allocation unit='bytes'>0"
                f"</allocation><target><format type='{wish.format}'/></target></volume>"
            )
        elif step.do == "remove":
            with contextlib.suppress(NoStorageVol):
                pool.vol_lookup_by_name(name).delete()
        else:
            wish = self._project.volumes[step.key]
            self._grow(pool.vol_lookup_by_name(name).get_path(), wish.size)

    def _grow(self, path: str, size: int) -> None:
        """Have the volume at ``path`` larger: by its running guest, where it has one."""
        for guest in self._conn.list_all_domains(_LIVE):
            live = model.Domain.from_xml(guest.get_xml_desc())
            if any(disk.path == path and not disk.readonly for disk in live.dev.disks):
                guest.call("block_resize", disk=path, size=size, flags=_BYTES)
                self._conn.storage_vol_lookup_by_path(path).pool_lookup_by_volume().refresh()
                return
        self._conn.storage_vol_lookup_by_path(path).resize(size)

    # -- guests

    def _guest(self, step: Step) -> None:
        conn = self._conn
        if step.do == "create":
            self._wait_for_needed(self._project.guests[step.key])
            self._make(self._project.guests[step.key])
            return
        guest = conn.lookup_by_name(step.name)
        if step.do == "remove":
            keep = "with its disk" not in step.texts
            self._end(guest)
            quick.remove(conn, guest, force=True, keep_disk=keep)
        elif step.do == "recreate":
            wish = self._project.guests[step.key]
            self._wait_for_needed(wish)
            self._end(guest)
            # the disk first: while the guest is there, it is known whose it was
            with contextlib.suppress(NoStorageVol):
                conn.storage_pool_lookup_by_name("default").vol_lookup_by_name(f"{guest.name}.qcow2").delete()
            quick.remove(conn, guest, force=True)
            self._make(wish)
        elif step.do == "change":
            self._change(guest, self._project.guests[step.key], step)
        else:
            wish = self._project.guests[step.key]
            self._wait_for_needed(wish)
            if step.do == "restart":
                self._end(guest)
            guest.create()
            self._started.append(wish.key)

    def _make(self, wish: GuestWish) -> None:
        image = self._images[wish.image, wish.arch]
        there, project = self._there, self._project
        wanted = Wanted(wish.name, image, wish.cpus, wish.memory, wish.disk)
        wanted.networks = [card.where for card in wish.cards] or ["none"]
        wanted.macs = [mac_of(there.host, project.name, wish, card) for card in wish.cards]
        wanted.disks = [self._attached(project.volumes[key]) for key in wish.volumes]
        wanted.virt_type, wanted.autostart, wanted.publish = wish.virt_type, wish.autostart, wish.publish
        wanted.crash_action, wanted.adopt = wish.crash_action, True
        wanted.uuid = uuid_of(there.host, project.name, "guest", wish.name)
        wanted.instance = wish.instance(project.name)
        made = json.dumps(wish.made_from(), sort_keys=True)
        wanted.labels = {"project": project.name, "guest": wish.key, "file": project.file, "made": made}
        wanted.seed, shown = _seed(wish, image)
        quick.make(self._conn, wanted, check=self._check)
        if shown:
            self._report(f"the user {image.login or 'root'} of {wish.name} has the password: {shown}")
        self._started.append(wish.key)

    def _attached(self, volume: VolumeWish) -> Attached:
        return Attached(self._there.path(volume.pool, volume.name), volume.format, volume.key[:20])

    def _end(self, guest: Domain) -> None:
        """Have it shut down, and end it where it does not within the time that it has."""
        if not guest.is_active():
            return
        with contextlib.suppress(GuesthouseError):
            if self._patience > 0:
                guest.shutdown()
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            if not guest.is_active():
                return
            self._check()
            time.sleep(0.1)
        with contextlib.suppress(GuesthouseError):
            guest.destroy()

    # -- guests that are changed

    def _change(self, guest: Domain, wish: GuestWish, step: Step) -> None:
        aspects = [change.aspect for change in step.changes]
        config = model.Domain.from_xml(guest.get_xml_desc(_INACTIVE_DOMAIN))
        running = guest.is_active()
        if "memory" in aspects or "cpus" in aspects:
            config.memory = config.current_memory = wish.memory << 10
            if config.vcpu is not None:
                config.vcpu.value, config.vcpu.current = wish.cpus, None
            self._conn.define_xml(config.to_xml(secrets=True))
        if "memory" in aspects and running and wish.memory << 10 <= guest.get_max_memory():
            guest.call("set_memory_flags", memory=wish.memory << 10, flags=_LIVE)
        if "disk" in aspects and wish.disk is not None:
            pool = self._conn.storage_pool_lookup_by_name("default")
            self._grow(pool.vol_lookup_by_name(f"{guest.name}.qcow2").get_path(), int(wish.disk * GIB))
        if "autostart" in aspects:
            guest.set_autostart(wish.autostart)
        flags = _CONFIG | (_LIVE if running else 0)
        if "crash" in aspects:
            action = _ACTIONS[wish.crash_action]
            guest.call("set_lifecycle_action", type=_CRASH, action=action, flags=flags)
        for aspect in aspects:
            word, _, name = aspect.partition(" ")
            if word == "unplug":
                nic = next(nic for nic in config.dev.interfaces if place(nic) == name)
                guest.detach_device_flags(_bare(nic), flags)
            elif word == "plug":
                guest.attach_device_flags(self._card(wish, config, name).to_xml(), flags)
            elif word == "detach":
                path = self._attached(self._project.volumes[name]).path
                disk = next(disk for disk in config.dev.disks if disk.path == path)
                guest.detach_device_flags(disk.to_xml(), flags)
            elif word == "attach":
                disk = self._disk(guest, self._project.volumes[name])
                guest.attach_device_flags(disk.to_xml(), flags)
        if "publish" in aspects:
            self._publish(guest, wish)

    def _card(self, wish: GuestWish, config: model.Domain, name: str) -> Interface:
        card = next(card for card in wish.cards if planning.with_kind(card.where) == name)
        nic = quick.interface(card.where)
        nic.mac = MacAddress(address=mac_of(self._there.host, self._project.name, wish, card))
        kinds = [other.model.type for other in config.dev.interfaces if other.model is not None]
        nic.model = Model(type=kinds[0] if kinds else "virtio")
        return nic

    def _disk(self, guest: Domain, volume: VolumeWish) -> Disk:
        config = model.Domain.from_xml(guest.get_xml_desc(_INACTIVE_DOMAIN))
        first = config.dev.disks[0].target
        bus = first.bus if first is not None else "virtio"
        prefix = {"virtio": "vd", "ide": "hd"}.get(bus or "", "sd")
        taken = {disk.target.dev for disk in config.dev.disks if disk.target is not None}
        free = next(name for letter in "abcdefghijklmnopqrstuvwxyz" if (name := prefix + letter) not in taken)
        disk = quick.more_disk(self._attached(volume))
        disk.driver = DiskDriver(name="qemu", type=volume.format, discard="unmap")
        disk.target = DiskTarget(dev=free, bus=bus)
        return disk

    # -- ports

    def free_ports(self) -> None:
        """Let go of ports that guests have and shall not have any more: another may have them as soon as it is made."""
        for step in self._plan.steps:
            if step.kind == "guest" and any(change.aspect == "publish" for change in step.changes):
                self._lead(step.name, self._project.guests[step.key], new=False)

    def _publish(self, guest: Domain, wish: GuestWish) -> None:
        self._lead(guest.name, wish, new=True)

    def _lead(self, name: str, wish: GuestWish, *, new: bool) -> None:
        home = planning.home_network(wish)
        for network in self._conn.list_all_networks():
            documents = [network.get_xml_desc()] + (
                [network.get_xml_desc(_INACTIVE_NETWORK)] if network.is_persistent() else []
            )
            there = [each for text in documents for each in forwards(Network.from_xml(text), name)]
            wanted = wish.publish if network.name == home else []
            if not new:
                wanted = [each for each in wanted if each in there]
            if there or (wanted and new):
                quick.publish_on(network, name, wanted)

    # -- waiting

    def _wait_for_needed(self, wish: GuestWish) -> None:
        for key, how in wish.waits.items():
            self._wait(self._project.guests[key], how)

    def wait_for_all(self) -> None:
        """Come back when all that were started are what they call ready."""
        for key in self._started:
            self._wait(self._project.guests[key], None)

    def _wait(self, wish: GuestWish, how: str | None) -> None:
        how = how or wish.ready
        if how == "started" or (wish.key, how) in self._ready:
            return
        begin = time.monotonic()
        guest = self._conn.lookup_by_name(wish.name)
        what = wait_until(guest, how, wish.ready_timeout, self._check)
        self._ready.add((wish.key, how))
        self._report(f"guest {wish.name} {what} ({time.monotonic() - begin:.1f} s)")


def wait_until(guest: Domain, how: str, timeout: float, check: Check) -> str:
    """Come back when the guest is "address", "agent" or "port:N", and say what it has. Raises OperationFailed when it
    is not after ``timeout`` seconds, or ends before."""
    end = time.monotonic() + timeout
    if how == "agent":
        while not quick.agent_answers(guest):
            if not guest.is_active():
                raise OperationFailed(f"'{guest.name}' has ended: guest logs {guest.name}")
            if time.monotonic() > end:
                raise OperationFailed(
                    f"no agent answers in '{guest.name}' after {timeout:g} s: guest logs {guest.name}"
                )
            check()
            time.sleep(0.3)
        return "has an agent that answers"
    address = quick.wait_for_address(guest, timeout, check=check)
    if how == "address":
        return f"has the address {address}"
    port = int(how.partition(":")[2])
    while True:
        try:
            socket.create_connection((address, port), timeout=2).close()
            return f"answers at port {port} of {address}"
        except OSError as error:
            if not guest.is_active():
                raise OperationFailed(f"'{guest.name}' has ended: guest logs {guest.name}") from None
            if time.monotonic() > end:
                raise OperationFailed(
                    f"port {port} of '{guest.name}' ({address}) does not answer after {timeout:g} s: {error.strerror or error}"
                ) from None
            check()
            time.sleep(0.3)


def _bare(nic: Interface) -> str:
    """What a card is found by when it is taken out."""
    shown = nic.copy()
    shown.address = shown.alias = None
    return shown.to_xml()


def _seed(wish: GuestWish, image: Image) -> tuple[CloudInit, str]:
    """What cloud-init is told, and the password that was made up because nobody could get in else ("" if none was)."""
    keys = wish.ssh_keys
    if keys is None:
        keys = [key for path in sorted(Path.home().glob(".ssh/id_*.pub")) for key in cloudinit.read_keys(str(path))]
    config = CloudInit(hostname=wish.hostname, login=image.login or "root", packages=wish.packages)
    config.documents = wish.documents
    if keys:
        config.keys[""] = keys
    shown = ""
    if wish.password_file:
        config.passwords[""] = passwords.from_file(wish.password_file)
    elif not keys and "user-data" not in wish.documents:
        config.passwords[""] = shown = passwords.made_up(12)
    return config, shown


def _quietly(undo: Callable[[], None]) -> None:
    with contextlib.suppress(GuesthouseError):
        undo()
