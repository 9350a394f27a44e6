"""Starting and ending guests. Each step is undone when a later one fails, and is written down before it is taken, so
that a daemon that dies in between leaves a row that leads its successor to everything.

A runtime row: ``phase`` ("starting", "running", "stopping", or one of :attr:`Runner.recoveries`), ``id``, ``xml`` (the
live document, secrets included), ``name``, ``folder`` (of the monitor and channels), ``labels`` (files to give back),
and ``pid`` with ``start_time`` once there is a process. ``resume`` says that a running guest was about to be let go on,
``used_up`` names a saved state that it was loaded from and that must not be loaded again.
``companions`` are the processes beside QEMU (:mod:`guesthouse.services.companions`).
``cpu`` is the <cpu> that was asked for, where QEMU made another of it.
``volumes`` is what :mod:`guesthouse.services.disk_volumes` found, ``cgroup`` the path of the guest's control group.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import (
    ConfigUnsupported,
    GuesthouseError,
    InternalError,
    OperationFailed,
)
from guesthouse.host import kvm
from guesthouse.host.sysfs import Sysfs
from guesthouse.model import addresses
from guesthouse.model.devices.chardev import CharSource
from guesthouse.model.devices.disk import BackingStore, Disk
from guesthouse.model.devices.interface import TAPPED
from guesthouse.model.domain import Cpu, Domain, Resource, Seclabel
from guesthouse.qemu import command, images, migration, process, save_image, tuning
from guesthouse.qemu.devices import block
from guesthouse.qemu.machine import Happening, Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.qemu.parts import quote
from guesthouse.qemu.process import User
from guesthouse.services import (
    boot_files,
    character_files,
    disk_volumes,
    host_ends,
    pci_hostdevs,
    screens,
    used_storage,
)
from guesthouse.services.companions import Companions
from guesthouse.services.context import Context
from guesthouse.services.control_groups import ControlGroups
from guesthouse.services.disk_files import DiskFiles
from guesthouse.services.disk_secrets import SecretFiles, told
from guesthouse.services.faults import step
from guesthouse.services.guest_processors import GuestProcessors
from guesthouse.services.guests import KIND, Guest, Guests, Lifecycle, Reason, State
from guesthouse.services.jobs import Jobs
from guesthouse.services.networks import Networks
from guesthouse.services.open_files import OpenFiles
from guesthouse.services.pci_hostdevs import PciHostdevs
from guesthouse.services.pools import Pools
from guesthouse.services.secrets import Secrets

_log = logging.getLogger(__name__)

_NAME_IN_PATH = 20
_AGENT = "org.qemu.guest_agent.0"
# virConnectDomainEventAgentLifecycleReason
_AGENT_STARTED, _AGENT_CHANNEL = 1, 2


@dataclass(frozen=True)
class Restoring:
    """A saved state to start from: ``fd`` is where it is read from; ``use_up`` is the file that goes away, because a
    state older than the disks must not be loaded again; ``cpu`` is what the guest had, where the document says what it
    was to have."""

    fd: int
    use_up: Path | None = None
    cpu: Cpu | None = None


Recovery = Callable[[Guest, dict[str, Any], bool], Awaitable[bool]]


class Runner:
    """Runs guests: the one place that makes processes, and takes their leftovers away."""

    def __init__(
        self,
        ctx: Context,
        guests: Guests,
        jobs: Jobs,
        networks: Networks,
        pools: Pools,
        user: User,
        secrets: Secrets,
    ) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._networks = networks
        self._pools = pools
        self._user = user
        self._secrets = secrets
        self._sysfs = Sysfs()
        self._disk_files = DiskFiles(guests, user, ctx.paths.state / "qemu" / "transient")
        #: what clients have opened for guests' disks
        self.open_files = OpenFiles(guests)
        self._tasks: set[asyncio.Task[None]] = set()
        #: what holds guests to their share of the host
        self.groups = ControlGroups(ctx)
        #: what guests have of the host's PCI devices
        self.pci = PciHostdevs(ctx.store, user, self._sysfs)
        #: what becomes of guests' processors
        self.processors = GuestProcessors()
        #: what guests have beside QEMU
        self.companions = Companions(ctx, user)
        #: what other services do about a guest whose row has their phase when a new daemon comes up; told whether it
        #: lives. They return whether that was all: else it is taken as one that runs.
        self.recoveries: dict[str, Recovery] = {}
        #: other services that hear of QEMU's events, by the event's name
        self.hearers: dict[str, Callable[[Guest, dict[str, Any]], None]] = {}
        #: what is done with a guest that a new daemon has taken up, before anybody sees it
        self.after_adoption: list[Callable[[Guest], Awaitable[None]]] = []

    # -- start

    async def start(
        self,
        guest: Guest,
        definition: Domain,
        *,
        paused: bool = False,
        restoring: Restoring | None = None,
        reset_nvram: bool = False,
    ) -> None:
        """Start ``guest`` from ``definition``; it runs (or is paused, where ``paused``) when this returns.

        ``restoring``: it goes on from that state, and does not boot. ``reset_nvram``: the variables of its firmware are
        made anew.

        On an error the guest is off with reason "failed", and nothing of the start is left.
        """
        live = definition.copy()
        try:
            async with AsyncExitStack() as undo:
                await self._start(guest, live, undo, paused, restoring, reset_nvram)
                undo.pop_all()
        except BaseException:
            guest.live, guest.machine, guest.id, guest.labels, guest.asked_cpu = None, None, -1, [], None
            guest.set_state(State.SHUTOFF, Reason.SHUTOFF_FAILED)
            raise

    async def _start(
        self,
        guest: Guest,
        live: Domain,
        undo: AsyncExitStack,
        paused: bool,
        restoring: Restoring | None,
        reset_nvram: bool,
    ) -> None:
        store = self._ctx.store
        if live.type == "kvm":
            self._need_kvm()
        places = disk_volumes.find(live, self._pools)
        command.check(live)
        if restoring is not None and restoring.cpu is not None:
            guest.asked_cpu, live.cpu = live.cpu, restoring.cpu
        await self.processors.settle(live)
        guest.id = live.id = store.next_id()
        addresses.assign_aliases(live)
        self._macs_are_free(guest, live)
        boot_files.choose_firmware(live, self._ctx.paths, reset=reset_nvram)
        boot_files.make_variables(live, self._user, reset=reset_nvram)
        files = host_ends.find(live, self._sysfs, (other for other in self._guests if other is not guest))
        labels = self._plan_files(guest, live) + host_ends.labels(files, self._user)
        short = f"domain-{guest.id}-{guest.name[:_NAME_IN_PATH]}"
        folder = self._ctx.paths.run / "qemu" / short
        channels = self._ctx.paths.run / "channel" / "target" / short
        log = self._ctx.paths.log / "qemu" / f"{guest.name}.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        self._complete(live, channels)
        screens.choose(live, folder, self._ctx.config, self._networks, self._guests)
        step("start-checked")
        row: dict[str, Any] = {
            "phase": "starting",
            "id": guest.id,
            "name": guest.name,
            "folder": str(folder),
            "channels": str(channels),
            "labels": labels,
            "volumes": places,
            "cgroup": self.groups.plan(live, guest.id),
            "xml": live.to_xml(secrets=True),
            "persistent": guest.persistent,
        }
        store.put_runtime(KIND, guest.uuid, row)
        undo.callback(store.delete_runtime, KIND, guest.uuid)
        step("start-row")
        undo.callback(_restore, labels)
        for label in labels:
            images.apply(label)
        step("start-labelled")
        undo.push_async_callback(self.groups.leave, guest)
        self.groups.make(guest, live, row["cgroup"])
        step("start-grouped")
        guest.live, guest.labels = live, labels
        guest.set_state(State.PAUSED, Reason.PAUSED_STARTING_UP)
        machine = guest.machine = Machine(folder, log, self._user, lambda what: self._happened(guest, what))
        undo.callback(shutil.rmtree, channels, True)
        undo.callback(machine.clean)
        undo.push_async_callback(machine.release)
        secret_files = SecretFiles(live, self._secrets, self._user)
        undo.callback(secret_files.forget)
        with ExitStack() as closing:  # QEMU has its own copies of what is closed here
            wiring = command.Wiring(machine.prepare(), incoming=restoring is not None)
            wiring.disks = block.Prepared(secret_files.fds, self.open_files.copies(guest.uuid, closing))
            await self.wire(guest, live, wiring, closing, undo, channels)
            step("start-plugged")

            def keep(companions: list[dict[str, Any]]) -> None:
                row["companions"] = companions
                store.put_runtime(KIND, guest.uuid, row)

            undo.push_async_callback(self.companions.stop, guest.uuid)
            await self.companions.start(live, folder, wiring, closing, keep)
            wiring.host = await asyncio.to_thread(boot_files.host_tables, live)
            wiring.memory = boot_files.memory_places(self._ctx.paths, short)
            built = command.build(live, wiring)
            undo.callback(boot_files.remove_folders, self._ctx.paths, short)
            boot_files.make_folders(wiring.memory, self._user)
            undo.push_async_callback(machine.destroy)
            with pci_hostdevs.may_lock(live):
                record = machine.spawn(built)
            entering = self.groups.enter(guest, [machine.pid, *(each["pid"] for each in row.get("companions", ()))])
            undo.push_async_callback(asyncio.wait, [entering])
        step("start-spawned")
        row |= record
        store.put_runtime(KIND, guest.uuid, row)
        step("start-pid")
        await machine.handshake()
        secret_files.forget()
        step("start-shaken")
        for display in live.dev.graphics:
            if display.passwd is not None:
                await machine.set_password(display.type, display.passwd, display.connected, display.passwd_valid_to)
        guest.asked_cpu = await self.processors.confirm(live, machine) or guest.asked_cpu
        await tuning.settle(machine, live, fresh=restoring is None)
        if restoring is not None:
            await migration.incoming(machine, restoring.fd)
            step("restore-loaded")
        await self.learn_characters(live, machine)
        await entering
        await self.groups.place(guest, live)
        step("start-facts")
        self._tell_agent(guest, connected=False, reason=_AGENT_STARTED)
        asked = guest.asked_cpu.to_xml() if guest.asked_cpu is not None else None
        row |= {"phase": "running", "xml": live.to_xml(secrets=True), "cpu": asked}
        if restoring is not None:
            self._guests.emit(guest, Lifecycle.STARTED_RESTORED)
        if restoring is not None and restoring.use_up is not None:
            await self._let_go_on(guest, row, restoring.use_up, paused)
        elif not paused:
            await machine.cont()
        if not machine.running:
            raise InternalError(f"the guest ended at once: {process.last_words(log) or 'QEMU said nothing'}")
        store.put_runtime(KIND, guest.uuid, row)
        step("start-running")
        self._tell_started(guest, paused, restoring is not None)

    async def wire(
        self,
        guest: Guest,
        live: Domain,
        wiring: command.Wiring,
        closing: ExitStack,
        undo: AsyncExitStack,
        channels: Path,
    ) -> None:
        """Make what the devices of ``live`` need of the host: taps, sockets, open files. ``closing`` closes our copies
        of what QEMU gets, ``undo`` takes back what outlives them."""
        for nic in live.dev.interfaces:
            plug = await self._networks.plug(nic, guest.ref)
            closing.callback(plug.close)
            undo.push_async_callback(self._networks.unplug, nic)
            host_ends.wire_card(live, nic, plug.fds, wiring, closing)
        await self.pci.take(live, guest.name)
        undo.push_async_callback(self.pci.give_back, live)
        if guest.live is not None and guest.machine is not None and guest.machine.running:
            pci_hostdevs.raise_lock(guest.live, guest.machine.pid)
        host_ends.wire(live, wiring, self._sysfs, closing)
        wiring.certificates = screens.certificates(self._ctx.config)
        for alias, device in host_ends.character_ends(live):
            for file, append, kept in character_files.outputs(device):
                fd = character_files.open_output(file, append)
                closing.callback(os.close, fd)
                (wiring.logs if kept else wiring.files)[alias] = fd
            sock = self._character_socket(device.type, device.source, channels)
            if sock is not None:
                closing.callback(sock.close)
                wiring.sockets[alias] = sock.fileno()

    def admit_disks(self, uuid: str | None, disks: Iterable[Disk]) -> None:
        """Raises AccessDenied where who called may not give ``disks`` to the guest ``uuid``."""
        used_storage.admit_disks(disks, uuid or "", self._pools, self._guests)

    def settle(self, guest: Guest, alone: Domain) -> tuple[list[dict[str, Any]], disk_volumes.Places]:
        """Check and complete, as a start does, the devices that ``alone`` has and the running guest is about to get;
        returns the labels to be given, and where disks' volumes are. Nothing is changed but ``alone``."""
        assert guest.machine is not None
        places = disk_volumes.find(alone, self._pools)
        command.check(alone)
        self._macs_are_free(guest, alone)
        files = host_ends.find(alone, self._sysfs, self._guests)
        labels = self._plan_files(guest, alone) + host_ends.labels(files, self._user)
        self._complete(alone, self.channels(guest.machine))
        return labels, places

    def secrets_told(self, machine: Machine, element: object) -> AbstractAsyncContextManager[None]:
        """See :func:`disk_secrets.told`."""
        return told(machine, element, self._secrets)

    async def unwire(self, alone: Domain) -> None:
        """Take back what :meth:`wire` made for devices that are gone."""
        for nic in alone.dev.interfaces:
            await self._networks.unplug(nic)
        await self.pci.give_back(alone)

    async def _let_go_on(self, guest: Guest, row: dict[str, Any], image: Path, paused: bool) -> None:
        """Let a guest run on from ``image``, which is gone afterwards; where QEMU will not, all is as before."""
        assert guest.machine is not None
        aside = image.with_name(f"{image.name}.used")
        self._ctx.store.put_runtime(
            KIND, guest.uuid, {**row, "used_up": [str(image), str(aside)], "resume": not paused}
        )
        step("restore-written")
        image.replace(aside)
        save_image.sync_folder(image)
        step("restore-used")
        if not paused:
            try:
                await guest.machine.cont()
            except MonitorError:
                aside.replace(image)
                raise
        aside.unlink()
        guest.saved = False

    def _tell_started(self, guest: Guest, paused: bool, restored: bool) -> None:
        if restored and paused:
            guest.set_state(State.PAUSED, Reason.PAUSED_MIGRATION)
            self._guests.emit(guest, Lifecycle.SUSPENDED_RESTORED)
        elif restored:
            guest.set_state(State.RUNNING, Reason.RUNNING_RESTORED)
            self._guests.emit(guest, Lifecycle.RESUMED_FROM_SNAPSHOT)
        elif paused:
            guest.set_state(State.PAUSED, Reason.PAUSED_USER)
            self._guests.emit(guest, Lifecycle.STARTED_BOOTED)
            self._guests.emit(guest, Lifecycle.SUSPENDED_PAUSED)
        else:
            guest.set_state(State.RUNNING, Reason.RUNNING_BOOTED)
            self._guests.emit(guest, Lifecycle.RESUMED_UNPAUSED)
            self._guests.emit(guest, Lifecycle.STARTED_BOOTED)

    def command_line(self, definition: Domain) -> str:
        """The command, as one types it, that a guest like ``definition`` would be started with. What the host prepares
        for a start (taps, sockets, free ports) is made up; nothing is looked at and nothing is left."""
        live = definition.copy()
        live.id = -1
        disk_volumes.find(live, self._pools)
        addresses.assign_aliases(live)
        short = f"domain-{live.id}-{(live.name or '')[:_NAME_IN_PATH]}"
        folder = self._ctx.paths.run / "qemu" / short
        self._complete(live, self._ctx.paths.run / "channel" / "target" / short)
        screens.choose(live, folder, self._ctx.config, self._networks, None)
        boot_files.choose_firmware(live, self._ctx.paths)
        numbers = itertools.count(3)
        wiring = command.Wiring(next(numbers))
        wished = [wish.id for disk in live.dev.disks for wish in block.secrets(disk)]
        groups = {layer.source.fdgroup or "": [next(numbers)] for d in live.dev.disks for layer in d.layers}
        wiring.disks = block.Prepared({name: next(numbers) for name in wished}, groups)
        for nic in live.dev.interfaces:
            if nic.type in TAPPED and nic.alias is not None:
                wiring.taps[nic.alias.name or ""] = next(numbers)
        wiring.paths, wiring.tpm = self.companions.paths(live, folder), (next(numbers), next(numbers))
        wiring.disks.reservations = wiring.paths.get(block.RESERVATIONS)
        for vsock in live.dev.vsocks:
            wiring.vhosts[(vsock.alias and vsock.alias.name) or ""] = next(numbers)
        for video in live.dev.videos:
            wiring.sockets[(video.alias and video.alias.name) or ""] = next(numbers)
        host_ends.make_up(live, wiring, numbers)
        wiring.certificates = screens.certificates(self._ctx.config)
        for alias, device in host_ends.character_ends(live):
            for _, _, kept in character_files.outputs(device):
                (wiring.logs if kept else wiring.files)[alias] = next(numbers)
            if character_files.daemon_listens(device.type, device.source):
                wiring.sockets[alias] = next(numbers)
        monitor = f"socket,id=charmonitor,fd={wiring.monitor_fd},"
        by_path = f"socket,id=charmonitor,path={quote(str(folder / 'monitor.sock'))},"
        wiring.memory, wiring.host = boot_files.memory_places(self._ctx.paths, short), boot_files.host_tables(live)
        built = command.build(live, wiring)
        built.argv[:] = [word.replace(monitor, by_path) if word.startswith(monitor) else word for word in built.argv]
        return built.shell()

    def _need_kvm(self) -> None:
        status = kvm.usable(self._ctx.paths.run)
        if not status.usable:
            raise ConfigUnsupported(f"KVM cannot run guests here: {status.reason}; {status.remedy}")

    def _macs_are_free(self, guest: Guest, live: Domain) -> None:
        """Two guests with one address would take each other's packets."""
        mine = {nic.mac_address for nic in live.dev.interfaces if nic.type != "user"}
        for other in self._guests:
            if other is guest or other.live is None:
                continue
            for nic in other.live.dev.interfaces:
                if nic.type != "user" and nic.mac_address in mine:
                    raise OperationFailed(
                        f"the MAC address '{nic.mac_address}' is in use by the running domain '{other.name}'; give"
                        f" '{guest.name}' another one, or leave <mac> out"
                    )

    def _plan_files(self, guest: Guest, live: Domain) -> list[dict[str, Any]]:
        """Check that every file is there, usable and not another guest's; returns what is to be labelled."""
        labels = self._disk_files.plan(guest, live)
        self.admit_disks(guest.uuid, live.dev.disks)  # with what the images themselves say is below them
        for file, writable in boot_files.files(live):
            record = images.plan(file, self._user, writable=writable)
            if record is not None and all(old["path"] != file for old in labels):
                labels.append(record)
        return labels

    def _complete(self, live: Domain, channels: Path) -> None:
        """What only a live document has."""
        for channel in live.dev.channels:
            if channel.is_virtio and channel.type == "unix" and not channel.end().path:
                name = (channel.target and channel.target.name) or (channel.alias and channel.alias.name) or "channel"
                channel.end().mode, channel.end().path = "bind", str(channels / name.replace("/", "_"))
        for device in [*live.dev.serials, *live.dev.parallels, *live.dev.consoles, *live.dev.channels]:
            if device.type == "tcp" and device.source is not None:
                device.source.tls = device.source.tls or ("yes" if self._ctx.config.chardev_tls else "no")
        live.resource = live.resource or Resource(partition="/machine")
        block.number(live)
        for disk in live.dev.disks:
            if disk.source is not None:
                disk.backing = disk.backing or BackingStore()
            elif disk.driver is not None and disk.target is not None:
                disk.driver.type = disk.target.tray = None  # of what is not there
        if not self._user.same:
            label = f"+{self._user.uid}:+{self._user.gid}"
            if not live.seclabels:
                live.seclabels.append(
                    Seclabel(type="dynamic", model="dac", relabel=True, label=label, imagelabel=label)
                )

    def _character_socket(self, kind: str | None, source: CharSource | None, folder: Path) -> socket.socket | None:
        if not character_files.daemon_listens(kind, source):
            return None
        assert source is not None and source.path
        path = Path(source.path)
        if path.parent == folder:
            folder.mkdir(parents=True, exist_ok=True)
        return process.listen_unix(path, 0o660)

    async def learn_characters(self, live: Domain, machine: Machine) -> None:
        """Which ptys QEMU opened, and which channels have somebody in the guest."""
        devices = [*live.dev.serials, *live.dev.parallels, *live.dev.consoles, *live.dev.channels]
        if not any(device.type == "pty" or device.is_virtio for device in devices):
            return
        ends = await machine.characters()
        for device in devices:
            end = ends.get((device.alias and device.alias.name) or "")
            if end is None:
                continue
            if end.pty:
                device.end().path = end.pty
                if live.dev.consoles and device is live.dev.consoles[0]:
                    device.tty = end.pty
            if device.TAG == "channel" and device.is_virtio and device.target is not None:
                device.target.state = "connected" if end.open else "disconnected"

    def _tell_agent(self, guest: Guest, *, connected: bool, reason: int, alias: str | None = None) -> None:
        """Tell whether the guest's agent is there, if the guest has a channel for one (and it is ``alias``)."""
        for channel in guest.current.dev.channels:
            named = channel.target is not None and channel.target.name == _AGENT
            if named and alias in (None, channel.alias and channel.alias.name):
                self._guests.tell(guest, 18, {"state": 1 if connected else 2, "reason": reason})

    def _channel_changed(self, guest: Guest, alias: str, is_open: bool) -> None:
        for channel in guest.current.dev.channels:
            if channel.alias is not None and channel.alias.name == alias and channel.target is not None:
                channel.target.state = "connected" if is_open else "disconnected"
                self._tell_agent(guest, connected=is_open, reason=_AGENT_CHANNEL, alias=alias)

    # -- end

    async def end(self, guest: Guest, reason: int, event: tuple[int, int], *, gracefully: bool = False) -> None:
        """End a running guest by force, with the job held; emits ``event``. Afterwards it is off, and a transient one
        is gone. Raises InternalError where it does not end (``gracefully``: where SIGTERM is not enough)."""
        machine = guest.machine
        assert machine is not None
        guest.stopping = True
        row = self._ctx.store.get_runtime(KIND, guest.uuid)
        if row is not None and not gracefully and row["phase"] not in self.recoveries:
            self._ctx.store.put_runtime(KIND, guest.uuid, {**row, "phase": "stopping"})
        step("stop-row")
        try:
            await machine.destroy(gracefully=gracefully)
        except BaseException:
            guest.stopping = False
            raise
        step("stop-dead")
        await self._release(guest)
        step("stop-released")
        self._forget_run(guest, reason, event)

    async def _release(self, guest: Guest) -> None:
        """Give back what a guest had that is dead. Nothing here may fail the rest."""
        machine, live = guest.machine, guest.live
        if guest.console is not None:
            guest.console.end()
        if live is not None:
            for nic in live.dev.interfaces:
                try:
                    await self._networks.unplug(nic)
                except GuesthouseError:
                    _log.exception("an interface of %s could not be unplugged", guest.name)
            await self.pci.give_back(live)
        await self.companions.stop(guest.uuid)
        _restore(guest.labels)
        if machine is not None:
            await machine.release()
            machine.clean()
            shutil.rmtree(self.channels(machine), ignore_errors=True)
            boot_files.remove_folders(self._ctx.paths, machine.folder.name)
        await self.groups.leave(guest)
        self._ctx.store.delete_runtime(KIND, guest.uuid)

    def channels(self, machine: Machine) -> Path:
        """The folder of the guest's channels."""
        return self._ctx.paths.run / "channel" / "target" / machine.folder.name

    def _forget_run(self, guest: Guest, reason: int, event: tuple[int, int]) -> None:
        ended, guest.live, guest.machine, guest.labels = guest.live, None, None, []
        guest.id, guest.asked_cpu = -1, None
        guest.stopping = guest.reboot_wanted = False
        guest.set_state(State.SHUTOFF, reason)
        self._guests.emit(guest, event)
        if not guest.persistent:
            self.companions.forget_state(guest.uuid, ended)
            self._guests.remove(guest)
            self._jobs.forget(guest.uuid)

    # -- what guests do by themselves

    def _happened(self, guest: Guest, what: Happening) -> None:
        name, data = what.name, what.data
        if name != "DIED":
            self._guests.tell_monitor(guest, name, data, what.seconds)
        if guest.stopping:
            return
        if name == "DIED":
            self.spawn(self._died(guest, data["status"]))
        elif name == "SHUTDOWN":
            self.spawn(self._powered_off(guest, data))
        elif name == "MIGRATION_PASS":
            self._guests.tell(guest, 20, {"iteration": data["pass"]})
        elif name == "RESET":
            self._guests.tell(guest, 1, {})
        elif name == "GUEST_PANICKED":
            self._guests.emit(guest, Lifecycle.CRASHED_PANICKED)
            guest.set_state(State.CRASHED, 1)
            self.spawn(self._act(guest, guest.current.on_crash or "destroy", crashed=True))
        elif name == "STOP" and guest.state == State.RUNNING:
            guest.set_state(State.PAUSED, Reason.PAUSED_UNKNOWN)
        elif name == "BLOCK_IO_ERROR":
            self._io_error(guest, data)
        elif name == "BALLOON_CHANGE":
            guest.current.current_memory = data["actual"] // 1024
            self._guests.tell(guest, 13, {"actual": data["actual"] // 1024})
        elif name == "SUSPEND":
            guest.set_state(State.PMSUSPENDED, 0)
            self._guests.emit(guest, Lifecycle.PMSUSPENDED_MEMORY)
            self._guests.tell(guest, 12, {"reason": 0})
        elif name == "WAKEUP":
            guest.set_state(State.RUNNING, Reason.RUNNING_WAKEUP)
            self._guests.emit(guest, Lifecycle.STARTED_WAKEUP)
            self._guests.tell(guest, 11, {"reason": 0})
        elif name == "RTC_CHANGE":
            self._guests.tell(guest, 2, {"offset": data["offset"]})
        elif name == "VSERPORT_CHANGE":
            self._channel_changed(guest, data["id"], bool(data["open"]))
        elif name == "WATCHDOG":
            actions = {"none": 0, "pause": 1, "reset": 2, "poweroff": 3, "shutdown": 4, "debug": 5, "inject-nmi": 6}
            self._guests.tell(guest, 3, {"action": actions.get(data["action"], 0)})
        elif (hear := self.hearers.get(name)) is not None:
            hear(guest, data)

    def _io_error(self, guest: Guest, data: dict[str, Any]) -> None:
        if data.get("action") == "stop":
            guest.set_state(State.PAUSED, Reason.PAUSED_IOERROR)
            self._guests.emit(guest, Lifecycle.SUSPENDED_IOERROR)
        alias, path = data.get("device") or "", ""
        for disk in guest.current.dev.disks:
            if disk.source is not None and f"libvirt-{disk.source.index}-format" == data.get("node-name"):
                alias, path = (disk.alias and disk.alias.name) or "", disk.path or ""
        action = {"report": 2, "ignore": 0, "stop": 1}.get(data.get("action", ""), 0)
        self._guests.tell(guest, 4, {"srcPath": path, "devAlias": alias, "action": action})

    def spawn(self, work: Any) -> None:
        """Have ``work`` done by and by; what it raises is logged."""
        task: asyncio.Task[None] = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception:
            _log.exception("a guest's event could not be handled")

    async def _died(self, guest: Guest, status: int | None) -> None:
        async with self._jobs.changing(guest.uuid, "died"):
            if guest.machine is None or guest.stopping:
                return
            words = process.last_words(guest.machine.log)
            _log.warning("QEMU of %s ended by itself (status %s): %s", guest.name, status, words)
            guest.stopping = True
            off = guest.state == State.SHUTDOWN
            await self._release(guest)
            if off:
                self._forget_run(guest, Reason.SHUTOFF_SHUTDOWN, Lifecycle.STOPPED_SHUTDOWN)
            else:
                self._forget_run(guest, Reason.SHUTOFF_CRASHED, Lifecycle.STOPPED_FAILED)

    async def _powered_off(self, guest: Guest, data: dict[str, Any]) -> None:
        by_guest = bool(data.get("guest"))
        rebooting = str(data.get("reason", "")).endswith("reset")
        live = guest.live
        if live is None:
            return
        if guest.reboot_wanted:
            action = "restart"
        else:
            action = (live.on_reboot if rebooting else live.on_poweroff) or "destroy"
        if action != "restart":
            self._guests.emit(guest, Lifecycle.SHUTDOWN_GUEST if by_guest else Lifecycle.SHUTDOWN_FINISHED)
            guest.set_state(State.SHUTDOWN, 0)
        await self._act(guest, action)

    async def _act(self, guest: Guest, action: str, *, crashed: bool = False) -> None:
        async with self._jobs.changing(guest.uuid, "power-off"):
            machine = guest.machine
            if machine is None or guest.stopping or not machine.running:
                return
            if action in ("restart", "rename-restart", "coredump-restart", "soft-reset"):
                guest.reboot_wanted = False
                await machine.reset()
                await machine.cont()
                guest.set_state(State.RUNNING, Reason.RUNNING_BOOTED)
            elif action == "preserve":
                guest.set_state(State.CRASHED if crashed else State.SHUTDOWN, 0)
            elif crashed:
                await self.end(guest, Reason.SHUTOFF_CRASHED, Lifecycle.STOPPED_CRASHED)
            else:
                await self.end(guest, Reason.SHUTOFF_SHUTDOWN, Lifecycle.STOPPED_SHUTDOWN)

    # -- after a restart of the daemon

    async def reattach(self, row: dict[str, Any], uuid: str) -> None:
        """Take up, or clear away, what the row of an earlier daemon tells of. The guest is in the registry afterwards
        if it runs, or has a definition."""
        name = row["name"]
        guest = self._guests.by_uuid(uuid)
        live = Domain.from_xml(row["xml"])
        live.id = row["id"]
        asked = Cpu.from_xml(row["cpu"]) if row.get("cpu") else None
        disk_volumes.put(live, row.get("volumes", {}))
        folder = Path(row["folder"])
        log = self._ctx.paths.log / "qemu" / f"{name}.log"
        if guest is None:
            guest = self._guests.add(Guest(name, uuid))
        machine = Machine(folder, log, self._user, lambda what, guest=guest: self._happened(guest, what))  # type: ignore[misc]
        guest.machine, guest.live, guest.id, guest.labels = machine, live, row["id"], row["labels"]
        guest.asked_cpu = asked
        self.groups.find(guest, row.get("cgroup"))
        recovery = self.recoveries.get(row["phase"])
        was_running = row["phase"] == "running" or recovery is not None
        if was_running and await self._adopt(guest, row, recovery):
            return
        for aside in row.get("used_up", ())[1:]:
            Path(aside).unlink(missing_ok=True)
        for left in process.find(str(folder)):
            _log.warning("ending pid %d, left of a start of %s that was cut off", left.pid, name)
            left.kill(9)
            await left.wait(10)
            left.close()
        guest.stopping = True
        await self._release(guest)
        ended = row["phase"] != "starting"
        reason = {"starting": Reason.SHUTOFF_FAILED, "stopping": Reason.SHUTOFF_DESTROYED}.get(
            row["phase"], Reason.SHUTOFF_CRASHED
        )
        event = Lifecycle.STOPPED_FAILED if row["phase"] != "stopping" else Lifecycle.STOPPED_DESTROYED
        if ended or guest.persistent:
            self._forget_run(guest, reason, event)
        else:
            self._guests.remove(guest)

    async def _adopt(self, guest: Guest, row: dict[str, Any], recovery: Recovery | None) -> bool:
        """Take up a guest that was running; whether nothing is left to do about it."""
        machine, alive = guest.machine, False
        assert machine is not None
        try:
            alive = await machine.adopt(row)
        except GuesthouseError as error:
            _log.warning("the guest %s does not answer and is ended: %s", guest.name, error)
        try:
            if recovery is not None and await recovery(guest, row, alive):
                return True
            if alive:
                self.companions.adopt(guest.uuid, guest.name, row.get("companions", []))
                await self._resume(guest, row)
                for repair in self.after_adoption:
                    await repair(guest)
                await self._learn_state(guest, machine)
                _log.info("adopted %s (pid %d)", guest.name, machine.pid)
                return True
        except GuesthouseError as error:
            _log.warning("the guest %s could not be taken up and is ended: %s", guest.name, error)
        return False

    async def _resume(self, guest: Guest, row: dict[str, Any]) -> None:
        """Finish what kept a guest from running when its daemon died."""
        assert guest.machine is not None
        if row.get("resume") and await guest.machine.status() not in ("running", "shutdown", "guest-panicked"):
            await guest.machine.cont()
        for file in row.get("used_up", ()):
            Path(file).unlink(missing_ok=True)
            guest.saved = False
        kept = {name: value for name, value in row.items() if name not in ("resume", "used_up")}
        self._ctx.store.put_runtime(KIND, guest.uuid, kept)

    async def _learn_state(self, guest: Guest, machine: Machine) -> None:
        status = await machine.status()
        assert guest.live is not None
        await self.learn_characters(guest.live, machine)
        if status == "running":
            guest.set_state(State.RUNNING, Reason.RUNNING_BOOTED)
        elif status == "shutdown":  # it powered off while nobody watched
            guest.set_state(State.SHUTDOWN, 0)
            self.spawn(self._powered_off(guest, {"guest": True}))
        elif status == "guest-panicked":
            guest.set_state(State.CRASHED, 1)
            self.spawn(self._act(guest, guest.live.on_crash or "destroy", crashed=True))
        else:
            reason = Reason.PAUSED_IOERROR if status == "io-error" else Reason.PAUSED_USER
            guest.set_state(State.PAUSED, reason)


def _restore(labels: list[dict[str, Any]]) -> None:
    for label in labels:
        images.restore(label)
