from __future__ import annotations

import asyncio

from guesthouse.network import nat
from guesthouse.network.firewall_watch import FirewallWatch, tables_deleted
from support.netns import in_netns, run
from support.networks import network


@in_netns
def test_rules_that_were_flushed_come_back() -> None:
    made = network("<forward mode='nat'/>")
    calls: list[int] = []

    async def story() -> None:
        async def restore() -> None:
            calls.append(1)
            await asyncio.to_thread(nat.install, made)

        watch = FirewallWatch(restore)
        nat.install(made)
        nat.install(made)
        run("nft", "add table inet theirs")
        run("nft", "delete table inet theirs")
        await asyncio.sleep(0.2)
        assert calls == [], "neither our own changes nor others' tables matter"
        # what "systemctl restart nftables" does
        run("sh", "-c", "printf 'flush ruleset\\ntable inet theirs {\\n}\\n' | nft -f -")
        for _ in range(200):
            await asyncio.sleep(0.02)
            if calls and "forward_gh0" in run("nft", "list", "ruleset"):
                break
        assert calls == [1] and "theirs" in run("nft", "list", "ruleset")
        watch.trigger()
        await asyncio.sleep(0.3)
        assert len(calls) == 2
        watch.close()
        watch.close()
        run("nft", "flush ruleset")
        await asyncio.sleep(0.2)
        assert len(calls) == 2

    asyncio.run(story())


def test_broken_messages_are_nothing() -> None:
    assert tables_deleted(b"") == tables_deleted(bytes(40)) == set()
