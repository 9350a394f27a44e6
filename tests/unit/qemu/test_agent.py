"""The guest agent's channel, with an agent of the test's own on its socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import AgentUnresponsive
from guesthouse.qemu.agent import Agent, AgentError

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


def with_agent(path: Path, answer: Answer, work: Callable[[Agent], Coroutine[Any, Any, None]]) -> list[str]:
    """Run ``work`` with an agent that answers so (None: not at all); returns the commands that it heard."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            heard.append(message["execute"])
            reply = answer(message)
            if message["execute"] == "guest-sync" and reply is None:
                reply = {"return": message["arguments"]["id"]}
            if reply is not None:
                writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(serve, path)
        agent = Agent(path)
        try:
            await work(agent)
        finally:
            agent.close()
            server.close()

    asyncio.run(run())
    return heard


def test_commands_one_after_the_other(tmp_path: Path) -> None:
    def answer(message: dict[str, Any]) -> dict[str, Any] | None:
        if message["execute"] == "guest-fsfreeze-freeze-list":
            return {"return": len(message["arguments"]["mountpoints"])}
        return None if message["execute"] == "guest-sync" else {"return": {}}

    async def work(agent: Agent) -> None:
        both = await asyncio.gather(
            agent.execute("guest-fsfreeze-freeze-list", {"mountpoints": ["/", "/a"]}), agent.execute("guest-ping")
        )
        assert both == [2, {}]

    heard = with_agent(tmp_path / "agent", answer, work)
    assert heard == ["guest-sync", "guest-fsfreeze-freeze-list", "guest-sync", "guest-ping"]


def test_a_refusal(tmp_path: Path) -> None:
    error = {"class": "CommandNotFound", "desc": "The command x has not been found"}

    async def work(agent: Agent) -> None:
        with pytest.raises(AgentError, match="unable to execute QEMU agent command 'x': The command x") as caught:
            await agent.execute("x")
        assert caught.value.reason == "CommandNotFound"
        assert await agent.ask({"execute": "x"}) == {"error": error}, "as it is"

    with_agent(tmp_path / "agent", lambda m: None if m["execute"] == "guest-sync" else {"error": error}, work)


def test_what_others_asked_for_is_passed_by(tmp_path: Path) -> None:
    def answer(message: dict[str, Any]) -> dict[str, Any] | None:
        if message["execute"] == "guest-sync":
            return None
        return {"return": message["execute"]}

    async def work(agent: Agent) -> None:
        await agent._connect()
        agent._write({"execute": "guest-old"})  # whose answer nobody takes
        assert await agent.execute("guest-new") == "guest-new"

    with_agent(tmp_path / "agent", answer, work)


def test_an_agent_that_keeps_silent(tmp_path: Path) -> None:
    silent = True

    def answer(message: dict[str, Any]) -> dict[str, Any] | None:
        if message["execute"] == "guest-sync":
            return None
        return None if silent else {"return": message["execute"]}

    async def work(agent: Agent) -> None:
        nonlocal silent
        began = time.monotonic()
        with pytest.raises(AgentUnresponsive, match="not available"):
            await agent.execute("guest-ping", timeout=0.2)
        assert time.monotonic() - began < 3
        silent = False
        assert await agent.execute("guest-ping") == "guest-ping", "connected anew"

    with_agent(tmp_path / "agent", answer, work)


def test_what_ends_the_guest_has_no_answer(tmp_path: Path) -> None:
    refusing = False

    def answer(message: dict[str, Any]) -> dict[str, Any] | None:
        refused = message["execute"] != "guest-sync" and refusing
        return {"error": {"class": "GenericError", "desc": "no"}} if refused else None

    async def work(agent: Agent) -> None:
        nonlocal refusing
        await agent.tell("guest-shutdown", mode="reboot")
        refusing = True
        with pytest.raises(AgentError, match="'guest-shutdown': no"):
            await agent.tell("guest-shutdown", mode="reboot")

    heard = with_agent(tmp_path / "agent", answer, work)
    assert heard.count("guest-shutdown") == 2


def test_an_agent_that_does_not_synchronise_ends_nothing(tmp_path: Path) -> None:
    async def work(agent: Agent) -> None:
        with pytest.raises(AgentUnresponsive, match="not available"):
            await agent.tell("guest-shutdown", 0.2, mode="powerdown")

    heard = with_agent(tmp_path / "agent", lambda message: {"return": -1}, work)
    assert heard == ["guest-sync"]


def test_nobody_there(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(AgentUnresponsive, match="disappeared"):
            await Agent(tmp_path / "agent").execute("guest-ping")

    asyncio.run(work())
