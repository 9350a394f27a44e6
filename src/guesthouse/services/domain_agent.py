"""What the agent inside a guest is asked and told: time, file systems, users, addresses, passwords, power."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

from guesthouse.errors import (
    AgentUnresponsive,
    ArgumentUnsupported,
    InternalError,
    InvalidArg,
    NoHostname,
    OperationInvalid,
    OperationUnsupported,
    check_flags,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Domain
from guesthouse.qemu.agent import WAIT, Agent, AgentError
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.services import agent_facts
from guesthouse.services.documents import running
from guesthouse.services.domain_stats import Params
from guesthouse.services.domains import Domains
from guesthouse.services.guests import Guest, Guests, State
from guesthouse.services.jobs import Jobs
from guesthouse.services.networks import Networks
from guesthouse.services.refs import DomainRef
from guesthouse.units import format_cpus, parse_cpus

CHANNEL = "org.qemu.guest_agent.0"
_BLOCK, _DEFAULT = -2, -1
_HOSTNAME_LEASE, _HOSTNAME_AGENT = 1, 2
_TIME_SYNC = 1
_PASSWORD_ENCRYPTED = 1
_KEYS_APPEND, _KEYS_REMOVE = 1, 2
# virNodeSuspendTarget: the agent's word, and what the definition may forbid
_SUSPEND = (
    ("guest-suspend-ram", "suspend_to_mem"),
    ("guest-suspend-disk", "suspend_to_disk"),
    ("guest-suspend-hybrid", ""),
)
# virDomainInterfaceAddressesSource
_LEASE, _AGENT, _ARP = 0, 1, 2


class Time(NamedTuple):
    seconds: int
    nseconds: int


class DomainAgent:
    def __init__(self, guests: Guests, jobs: Jobs, domains: Domains, networks: Networks) -> None:
        self._guests = guests
        self._jobs = jobs
        self._domains = domains
        self._networks = networks
        self._agents: dict[str, tuple[Machine, Agent]] = {}
        self._timeouts: dict[str, int] = {}

    def of(self, guest: Guest) -> Agent:
        """The agent of a running guest. Raises OperationInvalid, ArgumentUnsupported where none is configured,
        AgentUnresponsive where nobody in the guest listens."""
        machine = running(guest)
        if guest.state != State.RUNNING:
            raise OperationInvalid("domain is not running", domain=ErrorDomain.QEMU)
        for channel in guest.current.dev.channels:
            target, source = channel.target, channel.source
            if target is None or target.name != CHANNEL or channel.type != "unix" or source is None or not source.path:
                continue
            if target.state != "connected":
                self._forget(guest.uuid)
                raise AgentUnresponsive("QEMU guest agent is not connected")
            known = self._agents.get(guest.uuid)
            if known is None or known[0] is not machine:
                self._forget(guest.uuid)
                known = self._agents[guest.uuid] = (machine, Agent(Path(source.path)))
            return known[1]
        raise ArgumentUnsupported("QEMU guest agent is not configured")

    def _forget(self, uuid: str) -> None:
        if (old := self._agents.pop(uuid, None)) is not None:
            old[1].close()

    def _wait(self, guest: Guest, asked: int = _DEFAULT) -> float | None:
        """Seconds for an answer: what a client asked for, or the guest's own, or the usual; None waits for ever."""
        seconds = self._timeouts.get(guest.uuid, _DEFAULT) if asked == _DEFAULT else asked
        return None if seconds == _BLOCK else WAIT if seconds == _DEFAULT else float(seconds)

    async def _ask(self, guest: Guest, command: str, arguments: dict[str, Any] | None = None) -> Any:
        return await self.of(guest).execute(command, arguments, self._wait(guest))

    # -- anything

    async def agent_command(self, dom: DomainRef, cmd: str, timeout: int, flags: int) -> str:
        check_flags(flags, 0, "qemuDomainQemuAgentCommand")
        guest = self._guests.find(dom)
        agent = self.of(guest)
        _check_timeout(timeout)
        try:
            message = json.loads(cmd)
        except ValueError as error:
            raise InternalError(f"cannot parse json {cmd}: {error}", domain=0) from None
        if not isinstance(message, dict):
            raise InvalidArg("a command of the agent must be an object")
        return json.dumps(await agent.ask(message, self._wait(guest, timeout)), separators=(",", ":"))

    def set_response_timeout(self, dom: DomainRef, timeout: int, flags: int) -> int:
        check_flags(flags, 0, "qemuDomainAgentSetResponseTimeout")
        guest = self._guests.find(dom)
        _check_timeout(timeout)
        self._timeouts[guest.uuid] = timeout
        return 0

    # -- time

    async def get_time(self, dom: DomainRef, flags: int) -> Time:
        check_flags(flags, 0, "qemuDomainGetTime")
        now = int(await self._ask(self._guests.find(dom), "guest-get-time"))
        return Time(now // 1_000_000_000, now % 1_000_000_000)

    async def set_time(self, dom: DomainRef, seconds: int, nseconds: int, flags: int) -> None:
        check_flags(flags, _TIME_SYNC, "qemuDomainSetTime")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-time"):
            agent = self.of(guest)
            if seconds > 9223372036 and not flags & _TIME_SYNC:
                raise InvalidArg("Time is too big for guest agent")
            arguments = None if flags & _TIME_SYNC else {"time": seconds * 1_000_000_000 + nseconds}
            await agent.execute("guest-set-time", arguments, self._wait(guest))
            try:  # the ticks that the guest missed are in the time that it has now
                await running(guest).execute("rtc-reset-reinjection")
            except MonitorError:
                pass

    # -- file systems

    async def get_fsinfo(self, dom: DomainRef, flags: int) -> tuple[list[tuple[Any, ...]], int]:
        check_flags(flags, 0, "qemuDomainGetFSInfo")
        guest = self._guests.find(dom)
        found = agent_facts.filesystems(guest.current, await self._ask(guest, "guest-get-fsinfo"))
        return found, len(found)

    async def fsfreeze(self, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
        check_flags(flags, 0, "qemuDomainFSFreeze")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "fsfreeze"):
            if mountpoints:
                return int(await self._ask(guest, "guest-fsfreeze-freeze-list", {"mountpoints": list(mountpoints)}))
            return int(await self._ask(guest, "guest-fsfreeze-freeze"))

    async def fsthaw(self, dom: DomainRef, mountpoints: list[str], flags: int) -> int:
        """All of them, whatever was asked for: agents know no other way."""
        check_flags(flags, 0, "qemuDomainFSThaw")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "fsthaw"):
            return int(await self._ask(guest, "guest-fsfreeze-thaw"))

    async def fstrim(self, dom: DomainRef, mountPoint: str | None, minimum: int, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainFSTrim")
        if mountPoint:
            raise ArgumentUnsupported("Specifying mount point is not supported for now")
        await self._ask(self._guests.find(dom), "guest-fstrim", {"minimum": minimum})

    # -- who and where

    async def get_hostname(self, dom: DomainRef, flags: int) -> str:
        check_flags(flags, _HOSTNAME_LEASE | _HOSTNAME_AGENT, "qemuDomainGetHostname")
        guest = self._guests.find(dom)
        if flags & _HOSTNAME_LEASE and flags & _HOSTNAME_AGENT:
            raise InvalidArg("a host name comes from the leases or from the agent, not from both")
        if flags & _HOSTNAME_LEASE:
            running(guest)
            name = self._leased_name(guest)
        else:
            agent = self.of(guest)
            try:
                name = (await agent.execute("guest-get-host-name", None, self._wait(guest)))["host-name"]
            except (AgentError, AgentUnresponsive):  # libvirt says no more, either
                name = None
        if not name:
            raise NoHostname(f"no hostname found for domain {guest.name}")
        return name

    def _leased_name(self, guest: Guest) -> str | None:
        """The host name that the guest told a network's DHCP server."""
        for nic in guest.current.dev.interfaces:
            if nic.type == "network" and nic.source is not None and nic.source.network is not None:
                network = self._networks.lookup_by_name(nic.source.network)
                for lease in self._networks.get_dhcp_leases(network, nic.mac_address, 0):
                    if lease.hostname:
                        return str(lease.hostname)
        return None

    async def interface_addresses(self, dom: DomainRef, source: int, flags: int) -> list[Any]:
        check_flags(flags, 0, "qemuDomainInterfaceAddresses")
        guest = self._guests.find(dom)
        running(guest)
        if source == _LEASE:
            return await self._domains.interface_addresses(dom, source, flags)
        if source == _AGENT:
            return agent_facts.interfaces(await self._ask(guest, "guest-network-get-interfaces"))
        if source == _ARP:
            return agent_facts.neighbours(guest.current, Path("/proc/net/arp").read_text())
        raise ArgumentUnsupported(f"Unknown IP address data source {source}")

    async def get_guest_info(self, dom: DomainRef, types: int, flags: int) -> Params:
        """All that the agent can tell, where ``types`` names nothing; else what is named, and no less."""
        check_flags(flags, 0, "qemuDomainGetGuestInfo")
        guest = self._guests.find(dom)
        agent, wait = self.of(guest), self._wait(guest)
        out: Params = {}
        for bit, (command, add) in enumerate(agent_facts.GROUPS):
            if types and not types & 1 << bit:
                continue
            try:
                answer = await agent.execute(command, None, wait)
            except AgentError as error:
                if types:
                    if error.reason in ("CommandNotFound", "CommandDisabled"):
                        raise OperationUnsupported(f"the guest agent does not serve '{command}'") from None
                    raise
                continue
            add(out, answer, guest.current)
        return out

    # -- processors

    async def get_vcpus_flags(self, dom: DomainRef, flags: int) -> int:
        if not flags & 8:
            return self._domains.get_vcpus_flags(dom, flags)
        guest = self._guests.find(dom)
        vcpus = await self._ask(guest, "guest-get-vcpus")
        return len(vcpus) if flags & 4 else sum(bool(vcpu["online"]) for vcpu in vcpus)

    async def get_guest_vcpus(self, dom: DomainRef, flags: int) -> Params:
        check_flags(flags, 0, "qemuDomainGetGuestVcpus")
        vcpus = await self._ask(self._guests.find(dom), "guest-get-vcpus")
        sets = {
            "vcpus": {vcpu["logical-id"] for vcpu in vcpus},
            "online": {vcpu["logical-id"] for vcpu in vcpus if vcpu["online"]},
            "offlinable": {vcpu["logical-id"] for vcpu in vcpus if vcpu.get("can-offline")},
        }
        return {name: ("string", format_cpus(cpus)) for name, cpus in sets.items()}

    async def set_guest_vcpus(self, dom: DomainRef, cpumap: str, state: int, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainSetGuestVcpus")
        guest = self._guests.find(dom)
        wanted = parse_cpus(cpumap)
        if state not in (0, 1):
            raise InvalidArg("unsupported state value")
        async with self._jobs.changing(guest.uuid, "set-guest-vcpus"):
            known = {vcpu["logical-id"]: vcpu for vcpu in await self._ask(guest, "guest-get-vcpus")}
            changes = []
            for number in sorted(wanted):
                vcpu = known.get(number)
                if vcpu is None:
                    raise InvalidArg(f"guest is missing vCPU '{number}'")
                if not state and not vcpu.get("can-offline"):
                    raise InvalidArg(f"vCPU '{number}' can't be offlined")
                if bool(vcpu["online"]) != bool(state):
                    changes.append({"logical-id": number, "online": bool(state)})
            await self._online(guest, changes)

    async def set_vcpu_count(self, dom: DomainRef, count: int) -> None:
        """Have the guest use so many of its processors."""
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-vcpus"):
            vcpus = await self._ask(guest, "guest-get-vcpus")
            if count > len(vcpus):
                raise InvalidArg(
                    f"requested vcpu count is greater than the count of enabled vcpus in the domain:"
                    f" {count} > {len(vcpus)}"
                )
            changes, online = [], sum(bool(vcpu["online"]) for vcpu in vcpus)
            for vcpu in vcpus if online < count else reversed(vcpus):
                more = online < count
                if online != count and bool(vcpu["online"]) != more and (more or vcpu.get("can-offline")):
                    changes.append({"logical-id": vcpu["logical-id"], "online": more})
                    online += 1 if more else -1
            if online != count:
                raise InternalError("failed to set requested vcpu count: the guest cannot spare enough of them")
            await self._online(guest, changes)

    async def _online(self, guest: Guest, changes: list[dict[str, Any]]) -> None:
        """An agent may change some of them and tell how many: the rest is asked for again."""
        while changes:
            done = int(await self._ask(guest, "guest-set-vcpus", {"vcpus": changes}))
            if done <= 0:
                raise InternalError("guest agent didn't process any of the requested vcpus")
            changes = changes[done:]

    # -- users

    async def set_user_password(self, dom: DomainRef, user: str | None, password: str | None, flags: int) -> None:
        check_flags(flags, _PASSWORD_ENCRYPTED, "qemuDomainSetUserPassword")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-user-password"):
            arguments = {
                "username": user or "",
                "password": base64.b64encode((password or "").encode()).decode(),
                "crypted": bool(flags & _PASSWORD_ENCRYPTED),
            }
            await self._ask(guest, "guest-set-user-password", arguments)

    async def authorized_ssh_keys_get(self, dom: DomainRef, user: str, flags: int) -> list[str]:
        check_flags(flags, 0, "qemuDomainAuthorizedSSHKeysGet")
        answer = await self._ask(self._guests.find(dom), "guest-ssh-get-authorized-keys", {"username": user})
        return [str(key) for key in answer["keys"]]

    async def authorized_ssh_keys_set(self, dom: DomainRef, user: str, keys: list[str], flags: int) -> None:
        check_flags(flags, _KEYS_APPEND | _KEYS_REMOVE, "qemuDomainAuthorizedSSHKeysSet")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "ssh-keys"):
            arguments: dict[str, Any] = {"username": user, "keys": list(keys)}
            if flags & _KEYS_REMOVE:
                await self._ask(guest, "guest-ssh-remove-authorized-keys", arguments)
            else:
                arguments["reset"] = not flags & _KEYS_APPEND
                await self._ask(guest, "guest-ssh-add-authorized-keys", arguments)

    # -- power

    async def pm_suspend_for_duration(self, dom: DomainRef, target: int, duration: int, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainPMSuspendForDuration")
        guest = self._guests.find(dom)
        if duration:
            raise ArgumentUnsupported("Duration not supported. Use 0 for now")
        if not 0 <= target < len(_SUSPEND):
            raise ArgumentUnsupported(f"Unknown suspend target: {target}")
        async with self._jobs.changing(guest.uuid, "pm-suspend"):
            agent = self.of(guest)
            command, field = _SUSPEND[target]
            _check_pm(guest.current, field)
            if not (await running(guest).execute("query-current-machine"))["wakeup-suspend-support"]:
                raise OperationUnsupported("Domain does not have suspend support")
            await agent.tell(command, self._wait(guest))

    async def pm_wakeup(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, 0, "qemuDomainPMWakeup")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "pm-wakeup"):
            await running(guest).execute("system_wakeup")

    async def power(self, guest: Guest, mode: str) -> None:
        """Have the agent end ("powerdown") or restart ("reboot") the guest."""
        agent = self.of(guest)
        if guest.state != State.RUNNING:
            raise AgentUnresponsive("QEMU guest agent is not available: the guest is not running")
        await agent.tell("guest-shutdown", self._wait(guest), mode=mode)


def _check_timeout(seconds: int) -> None:
    if seconds < _BLOCK:
        raise InvalidArg(f"guest agent timeout '{seconds}' is less than the minimum '{_BLOCK}'")


def _check_pm(document: Domain, field: str) -> None:
    state = getattr(document.pm, field) if document.pm is not None and field else None
    if state is not None and state.enabled is False:
        name = "S3" if field == "suspend_to_mem" else "S4"
        raise OperationUnsupported(f"{name} state is disabled for this domain")
