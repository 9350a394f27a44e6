"""libvirt's domain procedures. Methods are handlers: their keyword arguments are the fields of the arguments.

All raise libvirt's errors. Queries answer at once; what changes a guest holds its job.
"""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import (
    GuesthouseError,
    InternalError,
    InvalidArg,
    NoDomain,
    NoDomainMetadata,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    SystemFailure,
    check_flags,
)
from guesthouse.model import metadata as extra_xml
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.devices.chardev import CharSource
from guesthouse.model.domain import Domain
from guesthouse.model.inactive import inactive
from guesthouse.model.migratable import migratable
from guesthouse.qemu import process
from guesthouse.services import boot_files
from guesthouse.services.admission import Named, admit
from guesthouse.services.console import BytesStream, PtyStream
from guesthouse.services.context import Context
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at
from guesthouse.services.guests import KIND, Guest, Guests, Lifecycle, Reason, State
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Runner
from guesthouse.services.networks import Networks
from guesthouse.services.refs import DomainRef
from guesthouse.services.saves import Saves

_XML_SECURE, _XML_INACTIVE, _XML_UPDATE_CPU, _XML_MIGRATABLE = 1, 2, 4, 8
_START_PAUSED, _START_BYPASS_CACHE, _START_FORCE_BOOT, _START_VALIDATE, _START_RESET_NVRAM = 1, 4, 8, 16, 32
_DEFINE_VALIDATE = 1
_UNDEFINE_FLAGS = 0x7F
_UNDEFINE_MANAGED_SAVE = 1
_CONSOLE_FORCE, _CONSOLE_SAFE = 1, 2
_DESTROY_GRACEFUL, _DESTROY_REMOVE_LOGS = 1, 2
_ACPI, _AGENT = 1, 2

# virConnectListAllDomainsFlags: each group is a set of filters of which one must hold
_LIST_GROUPS: tuple[tuple[tuple[int, Callable[[Guest], bool]], ...], ...] = (
    ((1, lambda g: g.active), (2, lambda g: not g.active)),
    ((4, lambda g: g.persistent), (8, lambda g: not g.persistent)),
    (
        (16, lambda g: g.state == State.RUNNING),
        (32, lambda g: g.state == State.PAUSED),
        (64, lambda g: g.state == State.SHUTOFF),
        (128, lambda g: g.state not in (State.RUNNING, State.PAUSED, State.SHUTOFF)),
    ),
    ((256, lambda g: g.saved), (512, lambda g: not g.saved)),
    ((1024, lambda g: g.autostart), (2048, lambda g: not g.autostart)),
    ((4096, lambda g: False), (8192, lambda g: True)),
    ((16384, lambda g: False), (32768, lambda g: True)),
)
_LIST_FLAGS = 0xFFFF


class Info(NamedTuple):
    """Memory in KiB, time in nanoseconds."""

    state: int
    maxMem: int
    memory: int
    nrVirtCpu: int
    cpuTime: int


class StateAndReason(NamedTuple):
    state: int
    reason: int


class SecurityLabel(NamedTuple):
    label: str
    enforcing: int


class Domains:
    """The guests of this host. ``defaults`` completes the documents that clients send; ``agent_power`` has the agent in
    a guest end it ("powerdown") or restart it ("reboot")."""

    agent_power: Callable[[Guest, str], Awaitable[None]]

    def __init__(
        self, ctx: Context, networks: Networks, runner: Runner, guests: Guests, jobs: Jobs, saves: Saves
    ) -> None:
        self._ctx = ctx
        self._networks = networks
        self._runner = runner
        self._guests = guests
        self._jobs = jobs
        self._saves = saves
        self.defaults = GuestDefaults()

    # -- finding

    def lookup_by_name(self, name: str) -> DomainRef:
        guest = self._guests.by_name(name)
        if guest is None:
            raise NoDomain(f"no domain with matching name '{name}'")
        return guest.ref

    def lookup_by_uuid(self, uuid: str) -> DomainRef:
        guest = self._guests.by_uuid(uuid)
        if guest is None:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return guest.ref

    def lookup_by_id(self, id: int) -> DomainRef:
        guest = self._guests.by_id(id)
        if guest is None:
            raise NoDomain(f"no domain with matching id {id}")
        return guest.ref

    def list_all(self, flags: int = 0) -> list[DomainRef]:
        check_flags(flags, _LIST_FLAGS, "qemuConnectListAllDomains")
        return [g.ref for g in self.filtered(flags)]

    def filtered(self, flags: int) -> list[Guest]:
        """The guests that virConnectListAllDomains has for these flags."""
        found = list(self._guests)
        for group in _LIST_GROUPS:
            tests = [test for bit, test in group if flags & bit]
            if 0 < len(tests) < len(group):  # each guest passes one test of a group: all of them choose nothing
                found = [g for g in found if any(test(g) for test in tests)]
        return found

    def list_ids(self, maxids: int) -> list[int]:
        return [g.id for g in self._guests if g.active][:maxids]

    def num_of(self) -> int:
        return sum(1 for g in self._guests if g.active)

    def list_defined(self, maxnames: int) -> list[str]:
        return [g.name for g in self._guests if not g.active][:maxnames]

    def num_of_defined(self) -> int:
        return sum(1 for g in self._guests if not g.active)

    # -- definitions

    def load(self) -> None:
        """Take up the definitions of the store."""
        for row in self._ctx.store.all(KIND):
            document = Domain.from_xml(row.xml)
            self._guests.add(Guest(row.name, row.uuid, definition=document, autostart=row.autostart))

    def _read(self, xml: str) -> Domain:
        domain = Domain.from_xml(xml, "(domain_definition)")
        prepare(domain, self.defaults)
        emulator = domain.dev.emulator
        if emulator and not os.access(emulator, os.X_OK):
            number = errno.EACCES if os.path.exists(emulator) else errno.ENOENT  # noqa: PTH110
            raise SystemFailure(
                f"Cannot check QEMU binary {emulator}: {os.strerror(number)}", domain=ErrorDomain.QEMU, int1=number
            )
        return domain

    def define_xml(self, xml: str) -> DomainRef:
        return self.define_xml_flags(xml, 0)

    def define_xml_flags(self, xml: str, flags: int) -> DomainRef:
        check_flags(flags, _DEFINE_VALIDATE, "qemuDomainDefineXMLFlags")
        domain = self._read(xml)
        admit(Named(KIND, domain.name or "", domain.uuid or ""))
        self._runner.admit_disks(domain.uuid, domain.dev.disks)
        guest = self._guests.same(domain)
        fresh = guest is None or not guest.persistent
        if guest is None:
            guest = Guest(domain.name or "", domain.uuid or "")
        self._ctx.store.put(KIND, guest.uuid, guest.name, domain.to_xml(secrets=True), guest.autostart)
        guest.definition = domain
        self._guests.add(guest)
        self._guests.emit(guest, Lifecycle.DEFINED_ADDED if fresh else Lifecycle.DEFINED_UPDATED)
        return guest.ref

    async def undefine(self, dom: DomainRef) -> None:
        await self.undefine_flags(dom, 0)

    async def undefine_flags(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, _UNDEFINE_FLAGS, "qemuDomainUndefineFlags")
        if flags & 0x60 == 0x60:
            raise OperationInvalid("cannot both keep and delete TPM", domain=ErrorDomain.QEMU)
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "undefine"):
            if not guest.persistent:
                raise OperationInvalid("cannot undefine transient domain", domain=ErrorDomain.QEMU)
            if guest.saved and not flags & _UNDEFINE_MANAGED_SAVE:
                raise OperationInvalid(
                    "Refusing to undefine while domain managed save image exists", domain=ErrorDomain.QEMU
                )
            if guest.definition is not None:
                boot_files.forget_variables(guest.definition, self._ctx.paths, flags)
            if guest.saved:
                self._saves.drop(guest)
            self._ctx.store.delete(KIND, guest.uuid)
            self._guests.emit(guest, Lifecycle.UNDEFINED_REMOVED)
            document, guest.definition = guest.definition, None
            guest.autostart = False
            if not guest.active:
                self._runner.companions.forget_state(guest.uuid, document, flags)
                self._guests.remove(guest)
                self._jobs.forget(guest.uuid)

    async def rename(self, dom: DomainRef, new_name: str | None, flags: int) -> int:
        check_flags(flags, 0, "qemuDomainRename")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "rename"):
            if guest.definition is None:
                raise OperationInvalid("cannot rename a transient domain", domain=ErrorDomain.QEMU)
            if guest.active:
                raise OperationInvalid("cannot rename active domain", domain=ErrorDomain.QEMU)
            if guest.saved:
                raise OperationInvalid("domain with a managed saved state can't be renamed", domain=ErrorDomain.QEMU)
            if not new_name or "/" in new_name:
                raise InvalidArg(f"'{new_name}' is no name for a domain")
            if self._guests.by_name(new_name) is not None:
                raise OperationInvalid(f"domain with name '{new_name}' already exists", domain=ErrorDomain.QEMU)
            definition = guest.definition.copy()
            definition.name = new_name
            self._ctx.store.put(KIND, guest.uuid, new_name, definition.to_xml(secrets=True), guest.autostart)
            self._guests.emit(guest, Lifecycle.UNDEFINED_RENAMED)
            self._guests.remove(guest)
            guest.name, guest.definition = new_name, definition
            self._guests.add(guest)
            self._guests.emit(guest, Lifecycle.DEFINED_RENAMED)
        return 0

    async def get_xml_desc(self, dom: DomainRef, flags: int) -> str:
        known = _XML_SECURE | _XML_INACTIVE | _XML_UPDATE_CPU | _XML_MIGRATABLE
        check_flags(flags, known, "qemuDomainGetXMLDesc")
        guest = self._guests.find(dom)
        document = guest.current
        if flags & _XML_INACTIVE and guest.definition is not None:
            document = guest.definition
        elif flags & (_XML_INACTIVE | _XML_MIGRATABLE) and guest.live is not None:
            document = inactive(guest.live, guest.definition, str(self._ctx.paths.run))
            if flags & _XML_MIGRATABLE and guest.asked_cpu is not None:
                document.cpu = guest.asked_cpu.copy()
        if flags & _XML_UPDATE_CPU:
            document = await self._runner.processors.updated(document)
        if flags & _XML_MIGRATABLE:
            document = migratable(document)
        return document.to_xml(secrets=bool(flags & (_XML_SECURE | _XML_MIGRATABLE)))

    def get_autostart(self, dom: DomainRef) -> int:
        return int(self._guests.find(dom).autostart)

    def set_autostart(self, dom: DomainRef, autostart: int) -> None:
        guest = self._guests.find(dom)
        if not guest.persistent:
            raise OperationInvalid("cannot set autostart for transient domain", domain=ErrorDomain.QEMU)
        self._ctx.store.set_autostart(KIND, guest.uuid, bool(autostart))
        guest.autostart = bool(autostart)

    # -- starting

    async def create(self, dom: DomainRef) -> None:
        await self.create_with_flags(dom, 0)

    async def create_with_flags(self, dom: DomainRef, flags: int) -> DomainRef:
        known = _START_PAUSED | _START_BYPASS_CACHE | _START_FORCE_BOOT | _START_VALIDATE | _START_RESET_NVRAM
        check_flags(flags, known, "qemuDomainCreateWithFlags")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "start"):
            if guest.active:
                raise OperationInvalid("domain is already running", domain=ErrorDomain.QEMU)
            if guest.definition is None:
                raise NoDomain(f"no domain with matching uuid '{guest.uuid}' ({guest.name})")
            paused = bool(flags & _START_PAUSED)
            if guest.saved and flags & _START_FORCE_BOOT:
                self._saves.drop(guest)
            if guest.saved:
                await self._saves.start(guest, paused=paused, bypass_cache=bool(flags & _START_BYPASS_CACHE))
            else:
                reset = bool(flags & _START_RESET_NVRAM)
                await self._runner.start(guest, guest.definition, paused=paused, reset_nvram=reset)
        return guest.ref

    async def create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        known = _START_PAUSED | _START_BYPASS_CACHE | _START_FORCE_BOOT | _START_VALIDATE | _START_RESET_NVRAM
        check_flags(flags, known, "qemuDomainCreateXML")
        domain = self._read(xml_desc)
        admit(Named(KIND, domain.name or "", domain.uuid or ""))
        guest = self._guests.same(domain)
        if guest is not None and guest.active:
            raise OperationInvalid(f"domain '{guest.name}' is already active with uuid {guest.uuid}")
        guest = guest or self._guests.add(Guest(domain.name or "", domain.uuid or ""))
        async with self._jobs.changing(guest.uuid, "start"):
            try:
                reset = bool(flags & _START_RESET_NVRAM)
                await self._runner.start(guest, domain, paused=bool(flags & _START_PAUSED), reset_nvram=reset)
            except BaseException:
                if not guest.persistent:
                    self._guests.remove(guest)
                raise
        return guest.ref

    async def start_all_autostart(self) -> builtins.list[tuple[str, Exception]]:
        """Start what is marked so; returns what failed, which keeps nobody else from starting."""
        failed: builtins.list[tuple[str, Exception]] = []
        for guest in self._guests:
            if guest.autostart and not guest.active:
                try:
                    await self.create(guest.ref)
                except Exception as error:
                    failed.append((guest.name, error))
        return failed

    # -- changing a running guest

    def _running(self, guest: Guest) -> None:
        if not guest.active or guest.stopping:
            raise OperationInvalid("domain is not running")

    async def shutdown(self, dom: DomainRef) -> None:
        await self.shutdown_flags(dom, 0)

    async def shutdown_flags(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, _ACPI | _AGENT, "qemuDomainShutdownFlags")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "shutdown"):
            self._running(guest)
            if await self._by_agent(guest, "powerdown", flags):
                return
            assert guest.machine is not None
            guest.reboot_wanted = False
            await guest.machine.powerdown()

    async def reboot(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, _ACPI | _AGENT, "qemuDomainReboot")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "reboot"):
            self._running(guest)
            if await self._by_agent(guest, "reboot", flags):
                return
            assert guest.machine is not None
            guest.reboot_wanted = True
            await guest.machine.powerdown()

    async def _by_agent(self, guest: Guest, mode: str, flags: int) -> bool:
        """Whether the guest's agent was asked for and did it; where ACPI is asked for, too, it may fail."""
        if not flags & _AGENT:
            return False
        try:
            await self.agent_power(guest, mode)
        except GuesthouseError:
            if not flags & _ACPI:
                raise
            return False
        return True

    async def reset(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainReset")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "reset"):
            self._running(guest)
            assert guest.machine is not None
            await guest.machine.reset()
            if guest.state == State.CRASHED:
                guest.set_state(State.PAUSED, Reason.PAUSED_UNKNOWN)

    async def destroy(self, dom: DomainRef) -> None:
        await self.destroy_flags(dom, 0)

    async def destroy_flags(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, _DESTROY_GRACEFUL | _DESTROY_REMOVE_LOGS, "qemuDomainDestroyFlags")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "destroy"):
            self._running(guest)
            self._guests.emit(guest, Lifecycle.SHUTDOWN_HOST)
            assert guest.machine is not None
            log = guest.machine.log
            await self._runner.end(
                guest, Reason.SHUTOFF_DESTROYED, Lifecycle.STOPPED_DESTROYED, gracefully=bool(flags & _DESTROY_GRACEFUL)
            )
            if flags & _DESTROY_REMOVE_LOGS:
                log.unlink(missing_ok=True)

    async def suspend(self, dom: DomainRef) -> None:
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "suspend"):
            self._running(guest)
            assert guest.machine is not None
            if guest.state == State.PMSUSPENDED:
                raise OperationInvalid("domain is pmsuspended", domain=ErrorDomain.QEMU)
            if guest.state != State.PAUSED:
                guest.set_state(State.PAUSED, Reason.PAUSED_USER)
                try:
                    await guest.machine.stop()
                except BaseException:
                    guest.set_state(State.RUNNING, Reason.RUNNING_UNPAUSED)
                    raise
                self._guests.emit(guest, Lifecycle.SUSPENDED_PAUSED)

    async def resume(self, dom: DomainRef) -> None:
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "resume"):
            self._running(guest)
            assert guest.machine is not None
            if guest.state == State.RUNNING:
                raise OperationInvalid("domain is already running", domain=ErrorDomain.QEMU)
            if guest.state == State.PMSUSPENDED:
                raise OperationInvalid("domain is pmsuspended", domain=ErrorDomain.QEMU)
            await guest.machine.cont()
            guest.set_state(State.RUNNING, Reason.RUNNING_UNPAUSED)
            self._guests.emit(guest, Lifecycle.RESUMED_UNPAUSED)

    # -- looking

    def get_info(self, dom: DomainRef) -> Info:
        guest = self._guests.find(dom)
        document = guest.current
        time = process.cpu_time(guest.machine.pid) if guest.machine is not None else 0
        count = (document.vcpu and (document.vcpu.current or document.vcpu.value)) or 1
        return Info(guest.state, document.memory or 0, document.current_memory or 0, count, time)

    def get_state(self, dom: DomainRef, flags: int) -> StateAndReason:
        check_flags(flags, 0, "qemuDomainGetState")
        guest = self._guests.find(dom)
        return StateAndReason(guest.state, guest.reason)

    def get_os_type(self, dom: DomainRef) -> str:
        document = self._guests.find(dom).current
        return (document.os and document.os.type and document.os.type.value) or "hvm"

    def get_max_memory(self, dom: DomainRef) -> int:
        return self._guests.find(dom).current.memory or 0

    def get_max_vcpus(self, dom: DomainRef) -> int:
        """Of a guest that runs alone."""
        return self.get_vcpus_flags(dom, 1 | 4)

    def get_vcpus_flags(self, dom: DomainRef, flags: int) -> int:
        live, config, maximum = 1, 2, 4
        check_flags(flags, live | config | maximum, "qemuDomainGetVcpusFlags")
        guest = self._guests.find(dom)
        if flags & live:
            self._running(guest)
        document = guest.definition if flags & config else guest.current
        if document is None:
            raise OperationInvalid("transient domains do not have any persistent config", domain=ErrorDomain.QEMU)
        current = document.vcpu.current if document.vcpu else None
        return document.cpu_count if flags & maximum else current or document.cpu_count

    def is_active(self, dom: DomainRef) -> int:
        return int(self._guests.find(dom).active)

    def is_persistent(self, dom: DomainRef) -> int:
        return int(self._guests.find(dom).persistent)

    def is_updated(self, dom: DomainRef) -> int:
        self._guests.find(dom)
        return 0

    def snapshot_num(self, dom: DomainRef, flags: int) -> int:
        self._guests.find(dom)
        return 0

    def list_all_snapshots(self, dom: DomainRef, flags: int) -> builtins.list[Any]:
        self._guests.find(dom)
        return []

    def has_current_snapshot(self, dom: DomainRef, flags: int) -> int:
        self._guests.find(dom)
        return 0

    def get_security_label(self, dom: DomainRef) -> SecurityLabel:
        self._guests.find(dom)
        return SecurityLabel("", 0)

    async def open_console(self, dom: DomainRef, dev_name: str | None, flags: int) -> PtyStream:
        check_flags(flags, _CONSOLE_FORCE | _CONSOLE_SAFE, "qemuDomainOpenConsole")
        guest = self._guests.find(dom)
        self._running(guest)
        source = self._console(guest, dev_name)
        if guest.console is not None:
            if not flags & _CONSOLE_FORCE:
                raise OperationFailed("Active console session exists for this domain", domain=ErrorDomain.QEMU)
            guest.console.end()

        def closed() -> None:
            guest.console = None

        guest.console = stream = PtyStream(source.path or "", closed)
        return stream

    def _console(self, guest: Guest, dev_name: str | None) -> CharSource:
        dev = guest.current.dev
        devices = [*dev.consoles, *dev.serials, *dev.parallels]
        if dev_name:
            devices = [d for d in devices if d.alias is not None and d.alias.name == dev_name]
        if not devices:
            raise InternalError(f"cannot find character device {dev_name or '<null>'}")
        device = devices[0]
        if device.type != "pty" or device.source is None or not device.source.path:
            raise InternalError(
                f"character device {dev_name or (device.alias and device.alias.name)} is not using a PTY"
            )
        return device.source

    async def screenshot(self, dom: DomainRef, screen: int, flags: int) -> tuple[str, BytesStream]:
        check_flags(flags, 0, "qemuDomainScreenshot")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "screenshot"):
            self._running(guest)
            videos = guest.current.dev.videos
            if not videos:
                raise InternalError("no screens to take screenshot from")
            if screen >= len(videos):
                raise OperationInvalid("no such screen ID", domain=ErrorDomain.QEMU)
            assert guest.machine is not None
            mime, data = await guest.machine.screendump(screen)
        return mime, BytesStream(data)

    # -- metadata

    def get_metadata(self, dom: DomainRef, type: int, uri: str | None, flags: int) -> str:
        check_flags(flags, LIVE | CONFIG, "qemuDomainGetMetadata")
        document = looked_at(self._guests.find(dom), flags)
        if type == 0:
            text = document.description
        elif type == 1:
            text = document.title
        else:
            text = extra_xml.text_of(document.metadata, uri)
        if text is None:
            raise NoDomainMetadata("Requested metadata element is not present")
        return text

    async def set_metadata(
        self, dom: DomainRef, type: int, metadata: str | None, key: str | None, uri: str | None, flags: int
    ) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetMetadata")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-metadata"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            for document in (changed, guest.live if live else None):
                if document is not None:
                    _set_metadata(document, type, metadata, key, uri)
            if changed is not None:
                keep(self._ctx, guest, changed)
            if live:
                keep_live(self._ctx, guest)
            self._guests.tell(guest, 23, {"type": type, "nsuri": uri})

    async def interface_addresses(self, dom: DomainRef, source: int, flags: int) -> builtins.list[Any]:
        """Addresses from the DHCP leases of the networks that the guest is on."""
        guest = self._guests.find(dom)
        self._running(guest)
        if source != 0:
            raise OperationUnsupported("only addresses from DHCP leases can be told yet", domain=ErrorDomain.QEMU)
        found = []
        for nic in guest.current.dev.interfaces:
            if nic.type != "network" or nic.source is None or nic.source.network is None:
                continue
            net = self._networks.lookup_by_name(nic.source.network)
            leases = self._networks.get_dhcp_leases(net, nic.mac_address, 0)
            addresses = [(lease.type, lease.ipaddr, lease.prefix) for lease in leases]
            name = (nic.target and nic.target.dev) or ""
            found.append({"name": name, "hwaddr": nic.mac_address, "addrs": addresses})
        return found


def _set_metadata(document: Domain, kind: int, text: str | None, key: str | None, uri: str | None) -> None:
    if kind == 0:
        document.description = text or None
    elif kind == 1:
        if text and "\n" in text:
            raise InvalidArg("metadata title can't contain newlines")
        document.title = text or None
    elif kind == 2:
        document.metadata = extra_xml.replaced(document.metadata, text, key, uri)
    else:
        raise InvalidArg(f"unknown metadata type {kind}")
