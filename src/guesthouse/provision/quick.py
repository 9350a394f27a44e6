"""A guest from an image, the short way: a disk over the image, cloud-init's seed, a console that is kept, and its start.

All storage is made over the connection, in the pool "default": ``NAME.qcow2``, ``NAME-seed.iso``, ``NAME-console.log``.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from guesthouse import units
from guesthouse.client import Connect, Domain, Network, StoragePool, StorageVol
from guesthouse.errors import (
    AgentUnresponsive,
    GuesthouseError,
    InvalidArg,
    NoDomain,
    NoStorageVol,
    NoSupport,
    OperationFailed,
)
from guesthouse.model import domain as model
from guesthouse.model import port_forward
from guesthouse.model.devices.chardev import CharLog, Serial
from guesthouse.model.devices.disk import Disk, DiskSource
from guesthouse.model.devices.interface import Interface, InterfaceSource, MacAddress
from guesthouse.model.port_forward import PortForward
from guesthouse.provision import cloudinit, defaults, osinfo
from guesthouse.provision.cloudinit import CloudInit
from guesthouse.provision.host import Host
from guesthouse.provision.images.store import Image
from guesthouse.provision.request import Request, part
from guesthouse.provision.storage import Planner

#: The element in a guest's metadata that says what it was made from.
NAMESPACE = "urn:guesthouse:run:1"
_ELEMENT = 2  # VIR_DOMAIN_METADATA_ELEMENT
_LEASE, _AGENT, _ARP = 0, 1, 2
_RUNNING, _SHUTOFF = 1, 5
_LIVE, _CONFIG = 1, 2
# managed save, snapshots' records, NVRAM, checkpoints' records
_UNDEFINE_ALL = 1 | 2 | 4 | 16
_CHUNK = 1 << 18

#: Called where somebody may have said that it should end: raises KeyboardInterrupt then.
Check = Callable[[], None]


@dataclass(frozen=True)
class Attached:
    """A volume as a disk of a guest, which finds it as ``/dev/disk/by-id/virtio-SERIAL``."""

    path: str
    format: str
    serial: str


@dataclass
class Wanted:
    """A guest that is wanted. ``memory`` is in MiB, ``disk`` in GiB (None: the image's size); ``networks`` are "default"
    or another network's name, "bridge=br0", "user", "none". ``publish`` are ports of the host's that shall lead to it.
    ``labels`` are kept with the guest.

    ``macs`` are addresses of the cards in their order (None: a new one), ``disks`` are volumes that are there already,
    ``instance`` is what cloud-init knows the guest by (None: its UUID). ``adopt`` takes a disk that an earlier guest of
    this name has left, where it lies over the same image and no guest has it.
    """

    name: str
    image: Image
    cpus: int = 2
    memory: int = 1024
    disk: float | None = None
    networks: list[str] = field(default_factory=lambda: ["default"])
    seed: CloudInit = field(default_factory=CloudInit)
    virt_type: str | None = None
    autostart: bool = False
    publish: list[PortForward] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    uuid: str | None = None
    macs: list[str | None] = field(default_factory=list)
    disks: list[Attached] = field(default_factory=list)
    instance: str | None = None
    crash_action: str | None = None
    adopt: bool = False


@dataclass
class Timing:
    """How long the steps took, in seconds, in their order."""

    steps: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.steps[name] = self.steps.get(name, 0.0) + time.monotonic() - begin


def document(conn: Connect, wanted: Wanted, pool_path: str) -> model.Domain:
    """The guest as it is defined. Raises NotOffered where the host has no such guests, InvalidArg for a bad network."""
    host = Host(conn, conn.get_uri())
    request = Request(model.Domain.from_xml("<domain type='qemu'><name>x</name></domain>"))
    domain = request.domain
    domain.name, domain.uuid, domain.type = wanted.name, wanted.uuid or units.new_uuid(), wanted.virt_type or ""
    request.kind.arch = wanted.image.arch
    request.os = osinfo.first([*wanted.image.osinfo, "linux2022"])
    domain.memory = domain.current_memory = wanted.memory * 1024
    part(domain, "vcpu", model.Vcpu).value = wanted.cpus
    defaults.choose(request, host)
    for text, mac in zip_longest(wanted.networks, wanted.macs[: len(wanted.networks)]):
        if text != "none":
            domain.dev.interfaces.append(nic := interface(text))
            nic.mac = MacAddress(address=mac) if mac else None
    request.without |= {"graphics", "video", "sound", "input"}
    if "none" in wanted.networks:
        request.without.add("network")
    # kernels of cloud images may know no SATA: the seed is a disk like the other, which cloud-init reads as well
    seed = "disk" if request.virtio("virtio-block") else "cdrom"
    for file, device in ((f"{wanted.name}.qcow2", "disk"), (f"{wanted.name}-seed.iso", seed)):
        source = DiskSource(file=f"{pool_path}/{file}")
        disk = Disk(type="file", device=device, source=source, readonly=file.endswith(".iso"))
        domain.dev.disks.append(disk)
    domain.dev.disks.extend(more_disk(each) for each in wanted.disks)
    formats = {each.path: each.format for each in wanted.disks}
    defaults.fill(request, host)
    for disk in domain.dev.disks:
        if disk.driver is not None:
            disk.driver.type = "raw" if disk.readonly else formats.get(disk.path or "", "qcow2")
            disk.driver.discard = None if disk.readonly else "unmap"
    domain.dev.consoles.clear()
    log = CharLog(file=f"{pool_path}/{wanted.name}-console.log", append=True)
    domain.dev.serials[:] = [Serial(type="pty", log=log)]
    domain.on_crash = wanted.crash_action or domain.on_crash
    _label(domain, wanted)
    return domain


def more_disk(wanted: Attached) -> Disk:
    """A volume as a disk, without its place."""
    return Disk(type="file", device="disk", source=DiskSource(file=wanted.path), serial=wanted.serial)


def interface(text: str) -> Interface:
    """The card that "default", "network=NAME", "bridge=br0" or "user" stands for. Raises InvalidArg."""
    kind, _, name = text.partition("=")
    if kind == "bridge" and name:
        return Interface(type="bridge", source=InterfaceSource(bridge=name))
    if text == "user":
        return Interface(type="user")
    if kind == "network" or not name:
        return Interface(type="network", source=InterfaceSource(network=name or text))
    raise InvalidArg(f"'{text}' is no network: give a network's name, bridge=NAME, user or none")


def _label(domain: model.Domain, wanted: Wanted) -> None:
    from lxml import etree

    metadata: Any = domain.metadata if domain.metadata is not None else etree.Element("metadata")
    labels = {"image": wanted.image.name, "login": wanted.image.login} | wanted.labels
    made = etree.SubElement(metadata, f"{{{NAMESPACE}}}run", nsmap={"guesthouse": NAMESPACE})
    for name, value in labels.items():
        made.set(name, value)
    domain.metadata = metadata


def labels(guest: Domain) -> dict[str, str]:
    """What a guest that was made here is labelled with: "image", "login" and others; nothing for others' guests."""
    from lxml import etree

    try:
        text = guest.get_metadata(_ELEMENT, NAMESPACE)
    except GuesthouseError:
        return {}
    return {str(name): str(value) for name, value in etree.fromstring(text).attrib.items()}


def make(conn: Connect, wanted: Wanted, timing: Timing | None = None, check: Check = lambda: None) -> Domain:
    """Make and start the guest.

    Raises the daemon's errors, and OperationFailed where the name or a volume of its is taken; nothing is left then, nor
    where ``check``, which is called between the calls of the daemon, raises KeyboardInterrupt.
    """
    timing = timing or Timing()
    try:
        conn.lookup_by_name(wanted.name)
    except NoDomain:
        pass
    else:
        raise OperationFailed(f"there is a guest '{wanted.name}' already (guest rm {wanted.name}, or another --name)")
    with contextlib.ExitStack() as undo:
        with timing.step("document"):
            planner = Planner(Host(conn, conn.get_uri()), dry=False)
            view = planner.pool("default")
            check()
            pool = view.handle
            assert pool is not None
            domain = document(conn, wanted, view.path.rstrip("/"))
            _check_network(conn, domain)
        with timing.step("overlay"):
            gib = wanted.disk if wanted.disk is not None else 0
            capacity = max(int(gib * units.GIB), wanted.image.capacity)
            if wanted.disk is not None and capacity > int(gib * units.GIB):
                raise InvalidArg(
                    f"the image needs {wanted.image.capacity / units.GIB:.3g} GiB, more than the disk of {gib:g} GiB"
                )
            if not (wanted.adopt and _adopted(conn, pool, wanted, capacity)):
                _new_volume(pool, _overlay(wanted, capacity), undo)
            check()
        with timing.step("seed"):
            macs = [nic.mac_address or "" for nic in domain.dev.interfaces]
            config = wanted.seed.with_network(macs)
            content = cloudinit.seed_bytes(config.files(wanted.instance or domain.uuid or wanted.name))
            if wanted.adopt:
                _delete(pool, (f"{wanted.name}-seed.iso", f"{wanted.name}-console.log"))
            _fill(_new_volume(pool, _plain(f"{wanted.name}-seed.iso", len(content)), undo), content)
            _new_volume(pool, _plain(f"{wanted.name}-console.log", 0), undo)
            check()
        with timing.step("define"):
            guest = conn.define_xml(domain.to_xml(secrets=True))
            undo.callback(_quietly, lambda: guest.undefine_flags(_UNDEFINE_ALL))
            if wanted.autostart:
                guest.set_autostart(True)
            if wanted.publish:
                undo.callback(_quietly, lambda: publish(conn, domain, wanted.name, []))
                publish(conn, domain, wanted.name, wanted.publish)
            check()
        with timing.step("start"):
            guest.create()
            undo.callback(_quietly, guest.destroy)
            check()
        undo.pop_all()
    return guest


def _adopted(conn: Connect, pool: StoragePool, wanted: Wanted, capacity: int) -> bool:
    """Whether there is a disk that the guest can have; it is made larger where it is too small.

    Raises OperationFailed where what is there is something else, or another guest's.
    """
    from lxml import etree

    try:
        volume = pool.vol_lookup_by_name(f"{wanted.name}.qcow2")
    except NoStorageVol:
        return False
    found: Any = etree.fromstring(volume.get_xml_desc().encode())
    path, below = found.findtext("target/path"), found.findtext("backingStore/path")
    if below != wanted.image.path:
        raise OperationFailed(
            f"the disk {path} is there already and does not lie over the image '{wanted.image.name}': "
            f"virsh vol-delete {volume.name} default"
        )
    others = Planner(Host(conn, conn.get_uri()), dry=True).users(path or "")
    if others:
        raise OperationFailed(f"the disk {path} is there already, and {', '.join(others)} uses it")
    if int(found.findtext("capacity") or 0) < capacity:
        volume.resize(capacity)
    return True


def _check_network(conn: Connect, domain: model.Domain) -> None:
    for nic in domain.dev.interfaces:
        name = nic.source.network if nic.source is not None else None
        if nic.type == "network" and name and not (network := conn.network_lookup_by_name(name)).is_active():
            network.create()


def publish(conn: Connect, domain: model.Domain, name: str, forwards: list[PortForward]) -> None:
    """Make ``forwards`` the ports of the host's that lead to the guest called ``name``, by the metadata of the first
    network that it is on; others' ports stay.

    Raises InvalidArg where it is on none, OperationFailed where the daemon has no such ports.
    """
    sources = [nic.source.network for nic in domain.dev.interfaces if nic.type == "network" and nic.source is not None]
    networks = [source for source in sources if source]
    if not networks:
        if not forwards:
            return
        raise InvalidArg("ports can be published on a virtual network alone (--network default)")
    publish_on(conn.network_lookup_by_name(networks[0]), name, forwards)


def publish_on(network: Network, name: str, forwards: list[PortForward]) -> None:
    """The same by ``network``. Raises OperationFailed where the daemon has no such ports."""
    for flag in (_CONFIG, _LIVE):
        if not (network.is_active() if flag == _LIVE else network.is_persistent()):
            continue
        try:
            before = network.get_metadata(_ELEMENT, port_forward.NAMESPACE, flag)
        except NoSupport:
            if not forwards:
                return
            raise OperationFailed("this daemon leads no ports to guests; guesthoused does") from None
        except GuesthouseError:
            before = None
        after = port_forward.with_forwards(before, forwards, without=name)
        if after != before:
            network.set_metadata(_ELEMENT, after, "guesthouse", port_forward.NAMESPACE, flag)


def _quietly(undo: Callable[[], None]) -> None:
    with contextlib.suppress(GuesthouseError):
        undo()


def _overlay(wanted: Wanted, capacity: int) -> str:
    image = wanted.image
    return (
        f"<volume><name>{wanted.name}.qcow2</name><capacity unit='bytes'>{capacity}</capacity>"
        f"<target><format type='qcow2'/></target>"
        f"<backingStore><path>{image.path}</path><format type='{image.format}'/></backingStore></volume>"
    )


def _plain(name: str, size: int) -> str:
    return (
        f"<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity><allocation unit='bytes'>0</allocation>"
        f"<target><format type='raw'/></target></volume>"
    )


def _new_volume(pool: StoragePool, text: str, undo: contextlib.ExitStack) -> StorageVol:
    volume = pool.vol_create_xml(text)
    undo.callback(_quietly, volume.delete)
    return volume


def _fill(volume: StorageVol, content: bytes) -> None:
    stream = volume.upload(0, len(content))
    try:
        for start in range(0, len(content), _CHUNK):
            stream.send(content[start : start + _CHUNK])
        stream.finish()
    except BaseException:
        stream.abort()
        raise


# -- what a guest is asked


def addresses(guest: Domain) -> list[str]:
    """Its addresses, IPv4 first: from the lease, else from its agent, else from the host's neighbours. Empty where
    nobody knows (yet)."""
    for source in (_LEASE, _AGENT, _ARP):
        try:
            interfaces = guest.interface_addresses(source)
        except GuesthouseError:
            continue
        found = [a.addr for nic in interfaces if nic.name != "lo" for a in nic.addrs]
        usable = [a for a in found if not a.startswith(("fe80:", "127."))]
        if usable:
            return sorted(dict.fromkeys(usable), key=lambda a: ":" in a)
    return []


def wait_for_address(guest: Domain, timeout: float, pause: float = 0.2, check: Check = lambda: None) -> str:
    """The first address within ``timeout`` seconds. Raises OperationFailed, which says what to look at."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if not guest.is_active():
            raise OperationFailed(f"'{guest.name}' has ended before it had an address: guest logs {guest.name}")
        if found := addresses(guest):
            return found[0]
        check()
        time.sleep(pause)
    raise OperationFailed(
        f"'{guest.name}' has no address after {timeout:g} s: it may still boot (guest logs -f {guest.name}), or its network "
        f"gives none; its console: virsh console {guest.name}"
    )


def console_log(conn: Connect, guest: Domain, offset: int = 0) -> bytes:
    """What its serial console said, from byte ``offset`` on. Raises OperationFailed where that is not kept."""
    try:
        pool = conn.storage_pool_lookup_by_name("default")
        pool.refresh()
        volume = pool.vol_lookup_by_name(f"{guest.name}-console.log")
        if volume.get_info().capacity <= offset:
            return b""
        stream = volume.download(offset, 0)
        out = b""
        while piece := stream.recv(_CHUNK):
            out += piece
        stream.finish()
        return out
    except NoStorageVol:
        raise OperationFailed(f"the console of '{guest.name}' is not kept: only 'guest run' has that done") from None


def remove(conn: Connect, guest: Domain, *, force: bool, keep_disk: bool = False) -> None:
    """End the guest (which must be off unless ``force``) and take it and its storage away, its disk unless ``keep_disk``.

    Raises OperationFailed where it runs, or was not made here: then nothing was done.
    """
    if not labels(guest):
        raise OperationFailed(
            f"'{guest.name}' was not made by 'guest run': use virsh undefine {guest.name} --remove-all-storage"
        )
    if guest.is_active():
        if not force:
            raise OperationFailed(
                f"'{guest.name}' runs: shut it down first (virsh shutdown {guest.name}), or use --force"
            )
        guest.destroy()
    for network in conn.list_all_networks():
        with contextlib.suppress(GuesthouseError):
            publish_on(network, guest.name, [])
    guest.undefine_flags(_UNDEFINE_ALL)
    ends = ("-seed.iso", "-console.log") if keep_disk else (".qcow2", "-seed.iso", "-console.log")
    _delete(conn.storage_pool_lookup_by_name("default"), [guest.name + end for end in ends])


def _delete(pool: StoragePool, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(NoStorageVol):
            pool.vol_lookup_by_name(name).delete()


# -- the guest agent


def agent(guest: Domain, command: str, arguments: dict[str, Any] | None = None, timeout: int = 10) -> Any:
    """Ask the guest's agent. Raises AgentUnresponsive where none answers, OperationFailed where it refuses."""
    text = json.dumps({"execute": command} | ({"arguments": arguments} if arguments else {}))
    ret = guest.conn.call("qemu_domain_agent_command", dom=guest, cmd=text, timeout=timeout, flags=0)
    return json.loads(ret.result)["return"]


def agent_answers(guest: Domain) -> bool:
    """Whether an agent is there."""
    try:
        agent(guest, "guest-ping", timeout=3)
    except (AgentUnresponsive, GuesthouseError):
        return False
    return True


def execute(guest: Domain, argv: list[str], data: bytes = b"", timeout: float = 3600) -> tuple[int, bytes, bytes]:
    """Run a program in the guest by its agent: exit code, output and errors. Raises OperationFailed as the agent does,
    or when it takes longer than ``timeout`` seconds."""
    import base64

    arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "capture-output": True}
    if data:
        arguments["input-data"] = base64.b64encode(data).decode()
    pid = agent(guest, "guest-exec", arguments)["pid"]
    end, pause = time.monotonic() + timeout, 0.02
    while time.monotonic() < end:
        status = agent(guest, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
            return int(status.get("exitcode", 128 + status.get("signal", 0))), out, err
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    raise OperationFailed(f"'{argv[0]}' in '{guest.name}' still runs after {timeout:g} s")
