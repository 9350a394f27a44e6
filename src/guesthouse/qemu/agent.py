"""The guest agent: QEMU's helper program inside a guest, spoken to in JSON lines over the host's end of its channel."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from guesthouse.errors import AgentUnresponsive, InternalError

#: Seconds that an agent gets to prove that it is there, and to answer (libvirt's own).
WAIT = 5.0
_REFUSAL = 1.0
_LIMIT = 16 << 20
_serials = itertools.count(int(time.time() * 1000) % (1 << 31))


class AgentError(InternalError):
    """The agent refused a command; ``reason`` is its error class."""

    def __init__(self, command: str, description: str, reason: str) -> None:
        super().__init__(f"unable to execute QEMU agent command '{command}': {description}")
        self.reason = reason


def _refused(command: str, error: dict[str, Any]) -> AgentError:
    text = error.get("desc") or error.get("class") or "unknown QEMU command error"
    return AgentError(command, text, error.get("class", ""))


class Agent:
    """The agent behind the Unix socket ``path``, where QEMU listens. Commands run one at a time; the connection is
    made for the first one and again after each failure, so that a late answer is never taken for the next one's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, timeout: float | None = WAIT) -> Any:
        """Run a command; returns its result. ``timeout`` None waits for ever. Raises AgentError where the agent
        refuses, AgentUnresponsive where it is not there or does not answer in time."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        answer = await self.ask(message, timeout)
        if "error" in answer:
            raise _refused(command, answer["error"])
        return answer.get("return")

    async def ask(self, message: dict[str, Any], timeout: float | None = WAIT) -> dict[str, Any]:
        """Send a message as it is; returns the answer, be it a result or an error. Raises AgentUnresponsive."""
        async with self._lock, self._failing():
            await self._sync(WAIT if timeout is None else min(timeout, WAIT))
            return await asyncio.wait_for(self._exchange(message), timeout)

    async def tell(self, command: str, timeout: float | None = WAIT, **arguments: Any) -> None:
        """Run a command that ends the guest or has it sleep: only where it fails is there an answer, and that comes at
        once. Raises AgentError, and AgentUnresponsive where the agent is not there."""
        message: dict[str, Any] = {"execute": command, **({"arguments": arguments} if arguments else {})}
        async with self._lock, self._failing():
            await self._sync(WAIT if timeout is None else min(timeout, WAIT))
            try:
                answer = await asyncio.wait_for(self._exchange(message), _REFUSAL)
            except (TimeoutError, OSError, EOFError):
                self.close()
                return
        if "error" in answer:
            raise _refused(command, answer["error"])

    @asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        """Whatever fails ends the connection; what the system says becomes AgentUnresponsive."""
        try:
            yield
        except TimeoutError:
            self.close()
            raise AgentUnresponsive("Guest agent not available for now") from None
        except (OSError, EOFError, ValueError):
            self.close()
            raise AgentUnresponsive("Guest agent disappeared while executing command") from None
        except BaseException:
            self.close()
            raise

    async def _sync(self, seconds: float) -> None:
        """Have the agent answer to a number of our choice: what comes before belongs to others."""
        number = next(_serials)
        await asyncio.wait_for(self._connect(), seconds)
        message = {"execute": "guest-sync", "arguments": {"id": number}}

        async def heard() -> None:
            self._write(message)
            while (await self._read()).get("return") != number:
                pass

        await asyncio.wait_for(heard(), seconds)

    async def _connect(self) -> None:
        if self._writer is not None:
            return
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # by way of the folder: a socket's path may have 107 bytes only
            self._reader, self._writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{folder}/{self._path.name}", limit=_LIMIT
            )
        finally:
            os.close(folder)

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        self._write(message)
        return await self._read()

    def _write(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> dict[str, Any]:
        assert self._reader is not None
        while True:
            line = await self._reader.readline()
            if not line:
                raise EOFError
            # 0xFF begins the answer to guest-sync-delimited; what is not JSON was cut off by a restart of the agent
            try:
                answer = json.loads(line.rpartition(b"\xff")[2])
            except ValueError:
                continue
            if isinstance(answer, dict) and ("return" in answer or "error" in answer):
                return answer

    def close(self) -> None:
        """Let go of the connection; the next command makes a new one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
