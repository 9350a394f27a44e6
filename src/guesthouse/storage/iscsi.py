"""Pools of type "iscsi": the logical units of an iSCSI target that this host's kernel logs in to. open-iscsi's program
asks it to."""

from __future__ import annotations

import errno
import os
import re
import secrets

from guesthouse.errors import Domain, InternalError, OperationFailed, SystemFailure, XMLError
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.storage import Pool, PoolSource, Volume
from guesthouse.storage.backend import Key, no_key
from guesthouse.storage.iscsi_direct import PORT, need_one_host, sources_of, wanted_source
from guesthouse.storage.iscsi_node import write_secret
from guesthouse.storage.luns import ScsiUnits
from guesthouse.storage.work import ask, output, run

ISCSIADM = "/usr/bin/iscsiadm"


class Iscsi(ScsiUnits):
    """See :class:`guesthouse.storage.backend.Backend`."""

    type = "iscsi"
    programs: tuple[str, ...] = (ISCSIADM,)
    package = "open-iscsi"

    def __init__(self, key: Key = no_key, sysfs: Sysfs | None = None, dev: str = "/dev") -> None:
        super().__init__(sysfs, dev)
        self._key = key

    async def start(self, pool: Pool) -> None:
        """Log in, unless somebody has. Raises InternalError where the target does not let us in."""
        target = _target(pool)
        if await _session(target) is not None:
            return
        source = need_one_host(pool.source)
        portal = _portal(source)
        code, _, _ = await ask(ISCSIADM, *_node(portal, target), "--op", "new")
        if code:
            text = f"{ISCSIADM} failed new mode for target '{target}' with status '{code}'"
            raise InternalError(text, domain=Domain.STORAGE)
        if source.auth is not None:
            if source.auth.type != "chap":
                raise XMLError("iscsi pool only supports 'chap' auth type", domain=Domain.STORAGE)
            await write_secret(portal, target, source.auth.username or "", self._key(source.auth))
        await run(ISCSIADM, *_node(portal, target), "--login", *await _interface(source, portal, make=True))

    async def started(self, pool: Pool) -> bool:
        return await _session(_target(pool)) is not None

    async def stop(self, pool: Pool) -> None:
        target = _target(pool)
        if await _session(target) is not None:
            source = need_one_host(pool.source)
            portal = _portal(source)
            words = await _interface(source, portal, make=False)
            await run(ISCSIADM, *_node(portal, target), "--logout", *words)

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        number = await _session(_target(pool))
        if number is None:
            raise InternalError("cannot find iscsiadm session: ", domain=Domain.STORAGE)
        await run(ISCSIADM, "--mode", "session", "-r", number, "-R")
        folder = f"/class/iscsi_session/session{number}/device"
        if not self.sysfs.exists(folder):
            error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            what = f"cannot open directory '{self.sysfs.path(folder)}'"
            raise SystemFailure.from_os(error, what, domain=Domain.STORAGE)
        targets = [re.match(r"target(\d+):", name) for name in self.sysfs.names(folder)]
        hosts = [int(found[1]) for found in targets if found]
        if not hosts:
            path = self.sysfs.path(folder)
            text = f"Failed to get host number for iSCSI session with path '{path}'"
            raise InternalError(text, domain=Domain.STORAGE)
        return await self.units(pool, hosts[0])

    async def find_sources(self, spec: str | None) -> str:
        """The targets of the host that ``spec`` names. Raises InvalidArg where it names none, OperationFailed where we
        have no interface with the name that we shall have there."""
        wanted = wanted_source(spec)
        portal = _portal(wanted)
        words: list[str] = []
        name = _initiator(wanted)
        if name:
            interface = find_interface(await output(ISCSIADM, "--mode", "iface"), name)
            if interface is None:
                raise OperationFailed(f"no iSCSI interface defined for IQN {name}", domain=Domain.STORAGE)
            words = ["--interface", interface]
        told = await output(ISCSIADM, *_discovery(portal), "--op", "nonpersistent", *words)
        return sources_of(targets_of(told), wanted.hosts[0], wanted.initiator).to_xml()


def targets_of(text: str) -> list[str]:
    """The targets that a discovery prints: a portal and a target a line."""
    return [words[1] for words in map(str.split, text.splitlines()) if len(words) == 2]


def session_of(text: str, target: str) -> str | None:
    """The number of the session with ``target`` in what iscsiadm prints, None for none."""
    for line in text.splitlines():
        found = re.match(r"tcp:\s+\[(\S+)\]\s+\S+\s+(\S+)", line)
        if found and found[2] == target:
            return found[1]
    return None


def find_interface(text: str, initiator: str) -> str | None:
    """The interface with the name ``initiator`` in what iscsiadm prints, None for none. Raises InternalError."""
    for line in text.splitlines():
        interface, blank, rest = line.partition(" ")
        fields = rest.split(",", 4)
        if not blank or len(fields) < 5:
            raise InternalError(f"malformed output of {ISCSIADM}: {line}", domain=Domain.STORAGE)
        if fields[4] == initiator:
            return interface
    return None


async def _session(target: str) -> str | None:
    _, text, _ = await ask(ISCSIADM, "--mode", "session")
    return session_of(text, target)


async def _interface(source: PoolSource, portal: str, *, make: bool) -> list[str]:
    """The words that choose the interface with the initiator's name, made where there is none and ``make``."""
    name = _initiator(source)
    if not name:
        return []
    interface = find_interface(await output(ISCSIADM, "--mode", "iface"), name)
    if interface is None and make:
        new = ("--mode", "iface", "--interface", f"libvirt-iface-{secrets.token_hex(4)}")
        await ask(ISCSIADM, *new, "--op", "new")
        await ask(ISCSIADM, *new, "--op", "update", "--name", "iface.initiatorname", "--value", name)
        interface = find_interface(await output(ISCSIADM, "--mode", "iface"), name)
        if interface is None:
            text = f"Failed to run command '{ISCSIADM}' to create new iscsi interface"
            raise InternalError(text, domain=Domain.STORAGE)
        # nodes are reached by an interface that has discovered them
        await run(ISCSIADM, *_discovery(portal), "--interface", interface)
    return ["--interface", interface] if interface else []


def _node(portal: str, target: str) -> tuple[str, ...]:
    return ("--mode", "node", "--portal", portal, "--targetname", target)


def _discovery(portal: str) -> tuple[str, ...]:
    return ("--mode", "discovery", "--type", "sendtargets", "--portal", portal)


def _initiator(source: PoolSource) -> str:
    return (source.initiator and source.initiator.iqn and source.initiator.iqn.name) or ""


def _portal(source: PoolSource) -> str:
    """As iscsiadm spells it; a source without a port has the usual one from now on."""
    host = source.hosts[0]
    host.port = host.port or PORT
    name = f"[{host.name}]" if ":" in (host.name or "") else host.name
    return f"{name}:{host.port},1"


def _target(pool: Pool) -> str:
    source = need_one_host(pool.source)
    if not source.hosts[0].name:
        raise InternalError("missing source host", domain=Domain.STORAGE)
    if len(source.devices) != 1 or not source.devices[0].path:
        raise InternalError("missing source device", domain=Domain.STORAGE)
    return source.devices[0].path
