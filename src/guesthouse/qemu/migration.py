"""Moving a guest's memory and devices through a descriptor: out of a QEMU, into another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from guesthouse.errors import InternalError
from guesthouse.qemu import process
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.monitor import MonitorClosed

_NAME = "migration"
_POLL = 0.05
# QEMU's default is made for a network that others use, too (bytes a second)
_UNLIMITED = (2**63 - 1) // 2**20 * 2**20
_OVER = ("completed", "failed", "cancelled")

Progress = dict[str, Any]


async def outgoing(machine: Machine, fd: int, told: Callable[[Progress], None]) -> Progress:
    """Write a stopped guest to ``fd``; returns QEMU's last word (query-migrate), its ``status`` one of completed,
    failed and cancelled. ``told`` hears how far it is. Raises MonitorClosed where the guest dies."""
    capabilities = [{"capability": "events", "state": True}]
    await machine.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await machine.execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED})
    await machine.give_fd(_NAME, fd)
    await machine.execute("migrate", {"uri": f"fd:{_NAME}"})
    return await settled(machine, told)


async def settled(machine: Machine, told: Callable[[Progress], None] = lambda _: None) -> Progress:
    """Wait for the end of a migration that is under way, if there is one; the guest may be let go on afterwards."""
    while True:
        progress: Progress = await machine.execute("query-migrate")
        if progress.get("status", "completed") in _OVER:
            break
        told(progress)
        await asyncio.sleep(_POLL)
    # QEMU's last word comes a moment before it is through
    while True:
        if await machine.status() != "finish-migrate":
            return progress
        await asyncio.sleep(_POLL / 10)


async def cancel(machine: Machine) -> None:
    """Ask QEMU to give a migration up; nothing where there is none."""
    await machine.execute("migrate_cancel")


async def incoming(machine: Machine, fd: int) -> None:
    """Have a QEMU that was started to wait for it take its state from ``fd``; it is paused then. Raises InternalError
    with QEMU's words where the state does not fit."""
    await machine.give_fd(_NAME, fd)
    try:
        await machine.execute("migrate-incoming", {"uri": f"fd:{_NAME}"})
        while (await machine.status()) == "inmigrate":
            progress = await machine.execute("query-migrate")
            if progress.get("status") == "failed":
                raise InternalError(f"the saved state cannot be loaded: {progress.get('error-desc', '')}")
            await asyncio.sleep(_POLL)
    except MonitorClosed:
        await asyncio.sleep(_POLL)
        raise InternalError(f"qemu unexpectedly closed the monitor: {process.last_words(machine.log)}") from None
