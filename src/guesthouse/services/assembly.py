"""All services of a daemon, put together and brought up in the order in which they depend on each other."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import subprocess
from dataclasses import replace

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError
from guesthouse.network import shaping
from guesthouse.network.firewall_watch import FirewallWatch
from guesthouse.qemu import images
from guesthouse.qemu.capabilities import QemuCapabilities, probe
from guesthouse.qemu.process import User
from guesthouse.services import boot_files
from guesthouse.services.context import Context
from guesthouse.services.device_plug import DevicePlug
from guesthouse.services.device_update import DeviceUpdate
from guesthouse.services.devices import Devices
from guesthouse.services.domain_agent import DomainAgent
from guesthouse.services.domain_blocks import DomainBlocks
from guesthouse.services.domain_bulk import DomainBulk
from guesthouse.services.domain_control import DomainControl
from guesthouse.services.domain_iothreads import DomainIoThreads
from guesthouse.services.domain_limits import DomainLimits
from guesthouse.services.domain_open import DomainOpen
from guesthouse.services.domain_shares import DomainShares
from guesthouse.services.domain_stats import DomainStats
from guesthouse.services.domain_tuning import DomainTuning
from guesthouse.services.domains import Domains
from guesthouse.services.guests import KIND, Guests
from guesthouse.services.host import Host
from guesthouse.services.host_tuning import HostTuning
from guesthouse.services.interfaces import Interfaces
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Runner
from guesthouse.services.long_jobs import LongJobs
from guesthouse.services.native import Native
from guesthouse.services.network_metadata import NetworkMetadata
from guesthouse.services.network_ports import NetworkPorts
from guesthouse.services.networks import Networks
from guesthouse.services.nodedevs import NodeDevices
from guesthouse.services.nwfilter_bindings import NWFilterBindings
from guesthouse.services.nwfilters import NWFilters
from guesthouse.services.pools import Pools
from guesthouse.services.saves import Saves
from guesthouse.services.secrets import Secrets
from guesthouse.services.volumes import Volumes

_log = logging.getLogger(__name__)

# whom guests run as where the configuration names nobody: Debian's libvirt has made the first, we make the second
_USERS = ("libvirt-qemu", "guesthouse-qemu")


class Services:
    """The attributes are the services as the procedure table names them."""

    def __init__(self, ctx: Context, caps: QemuCapabilities, user: User) -> None:
        self._ctx = ctx
        self._jobs = Jobs()
        self._guests = Guests(ctx)
        self.networks = Networks(ctx)
        self.network_ports = NetworkPorts(self.networks)
        self.network_metadata = NetworkMetadata(self.networks)
        self.nwfilters = NWFilters(ctx)
        self.nwfilter_bindings = NWFilterBindings(ctx, self.nwfilters)
        self.networks.filters = self.nwfilter_bindings
        self.secrets = Secrets(ctx)
        self.pools = Pools(ctx, self.secrets)
        self.volumes = Volumes(ctx, self.pools)
        self.nodedevs = NodeDevices(ctx)
        self.interfaces = Interfaces()
        self._runner = Runner(ctx, self._guests, self._jobs, self.networks, self.pools, user, self.secrets)
        self._runner.companions.secrets = self.secrets
        self.nodedevs.user_of = self._runner.pci.user_of
        self.long_jobs = LongJobs(self._guests)
        self.saves = Saves(ctx, self._guests, self._jobs, self._runner, self.long_jobs)
        self.domains = Domains(ctx, self.networks, self._runner, self._guests, self._jobs, self.saves)
        self.native = Native(self._runner)
        nvram, run = str(boot_files.nvram_folder(ctx.paths)), str(ctx.paths.run)
        defaults = replace(caps.defaults(), nvram_folder=nvram, run_folder=run)
        self.domains.defaults = self.saves.defaults = self.native.defaults = defaults
        self.host = Host(ctx, caps, user)
        self._runner.processors.ask = self.host.processors
        self.host_tuning = HostTuning(self.host)
        self.domain_stats = DomainStats(ctx, self._guests, self._jobs)
        self.domain_bulk = DomainBulk(self._guests, self.domains.filtered)
        self.domain_agent = DomainAgent(self._guests, self._jobs, self.domains, self.networks)
        self.domains.agent_power = self.domain_agent.power
        self.domain_tuning = DomainTuning(ctx, self._guests, self._jobs, self.domain_agent, self._runner.groups)
        self.domain_shares = DomainShares(ctx, self._guests, self._jobs, self._runner.groups)
        self.domain_limits = DomainLimits(ctx, self._guests, self._jobs, self.network_ports)
        self.domain_blocks = DomainBlocks(ctx, self._guests, self._jobs, self._runner)
        self.domain_iothreads = DomainIoThreads(ctx, self._guests, self._jobs, self._runner.groups)
        plug = DevicePlug(ctx, self._guests, self._jobs, self._runner)
        changes = DeviceUpdate(ctx, self._guests, self._runner, self.networks, self.network_ports)
        self.devices = Devices(ctx, self._guests, self._jobs, plug, changes)
        self.devices.defaults = plug.defaults = defaults
        self.open_files = self._runner.open_files
        self.domain_open = DomainOpen(self._guests, self._jobs)
        self._firewall: FirewallWatch | None = None
        self.domain_control = DomainControl(ctx, self._guests, self._jobs, self._runner, self.long_jobs)

    @property
    def active_guests(self) -> int:
        return self.domains.num_of()

    async def start(self) -> None:
        """Take up what an earlier daemon left running, then start what is to start with the host.

        What fails is logged and keeps nothing else from coming up.
        """
        self.nodedevs.start()
        if self._ctx.mode == "system":
            self._firewall = FirewallWatch(self._restore_rules)
        await self.networks.reattach()
        self.nwfilters.ensure_standard()
        await self.nwfilter_bindings.reattach()
        await self.pools.reattach()
        self.domains.load()
        self.saves.load()
        await self._reattach_guests()
        if self._ctx.mode == "system":
            self.networks.ensure_default()
        if self._ctx.store.first_since_boot:
            await self.networks.start_all_autostart()
            await self.pools.start_all_autostart()
            for name, error in await self.domains.start_all_autostart():
                _log.error("Failed to autostart domain '%s': %s", name, error)

    async def _reattach_guests(self) -> None:
        for uuid, row in self._ctx.store.all_runtime(KIND).items():
            try:
                await self._runner.reattach(row, uuid)
            except Exception:  # one row that cannot be understood must not hide the other guests
                _log.exception("the guest of the runtime row %s could not be taken up", uuid)
        lives = [guest.live for guest in self._guests if guest.live is not None]
        await self._runner.pci.sweep(lives)
        interfaces = [nic for live in lives for nic in live.dev.interfaces]
        await self.networks.cards.macvtaps.sweep({(nic.target and nic.target.dev) or "" for nic in interfaces})

    def restore_rules(self) -> None:
        """Have the packet filter's rules of networks and guests put in place again, soon."""
        if self._firewall is not None:
            self._firewall.trigger()

    async def _restore_rules(self) -> None:
        await self.networks.restore_rules()
        await self.nwfilter_bindings.restore()
        for guest in self._guests:
            for nic in guest.live.dev.interfaces if guest.live is not None else ():
                tap = nic.target.dev if nic.target else None
                if nic.bandwidth is not None and tap:
                    limits = shaping.turned(nic.bandwidth) if nic.type == "direct" else nic.bandwidth
                    try:
                        await asyncio.to_thread(shaping.limit, tap, limits)
                    except GuesthouseError as error:
                        _log.error("the limits of %s cannot be put back: %s", tap, error)

    async def settle(self, seconds: float) -> None:
        """Wait for jobs that are under way, at most so long."""
        if self._firewall is not None:
            self._firewall.close()
        await self._jobs.settle(seconds)


async def assemble(ctx: Context) -> Services:
    """The services of ``ctx``, not yet started. Raises InternalError where guests have nobody to run as."""
    user = await asyncio.to_thread(guest_user, ctx)
    return Services(ctx, await capabilities(ctx), user)


async def capabilities(ctx: Context) -> QemuCapabilities:
    """What this host's QEMU can do. Without one the daemon serves all the same, and says at each start what is
    missing."""
    binary = ctx.config.qemu.get("x86_64") or shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64"
    try:
        return await probe(binary, ctx.paths.cache)
    except GuesthouseError as error:
        level = logging.WARNING if isinstance(error, ConfigUnsupported) else logging.ERROR
        _log.log(level, "no guest can run: %s", error)
        return QemuCapabilities(binary=binary, version=0, package="", arch="x86_64")


def guest_user(ctx: Context) -> User:
    """Whom QEMU runs as: the configured user, else the unprivileged one of this system, which is made where there is
    none; the daemon's own user where the daemon is not root. Raises InternalError."""
    if os.geteuid() != 0:
        return User()
    wanted = ctx.config.user
    if wanted:
        try:
            return images.find_user(wanted, ctx.config.group)
        except KeyError:
            raise InternalError(
                f"there is no user or group '{wanted}:{ctx.config.group}' for guests (qemu user)"
            ) from None
    for name in _USERS:
        try:
            return images.find_user(name, ctx.config.group)
        except KeyError:
            continue
    name = _USERS[-1]
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        subprocess.run([*argv, name], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise InternalError(
            f"guests need an unprivileged user, and '{name}' could not be made: {said}; name one in guesthoused.toml"
        ) from None
    _log.info("made the system user %s, whom guests run as", pwd.getpwnam(name).pw_name)
    return images.find_user(name, ctx.config.group)
