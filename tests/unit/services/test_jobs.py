"""One changing job a domain."""

from __future__ import annotations

import asyncio
import time

import pytest

from guesthouse.errors import OperationTimeout
from guesthouse.services.jobs import Jobs


def test_jobs_of_a_domain_come_one_after_the_other() -> None:
    seen: list[str] = []

    async def job(jobs: Jobs, uuid: str, name: str) -> None:
        async with jobs.changing(uuid, name):
            seen.append(f"{name} begins")
            await asyncio.sleep(0.01)
            seen.append(f"{name} ends")

    async def main() -> None:
        jobs = Jobs()
        await asyncio.gather(*(job(jobs, "u", name) for name in ("start", "attach", "destroy")))

    asyncio.run(main())
    assert seen == [f"{name} {what}" for name in ("start", "attach", "destroy") for what in ("begins", "ends")]


def test_other_domains_do_not_wait() -> None:
    async def main() -> None:
        jobs = Jobs()
        async with jobs.changing("u", "start"), asyncio.timeout(1), jobs.changing("v", "start"):
            pass

    asyncio.run(main())


def test_a_time_out_names_the_owner_and_changes_nothing() -> None:
    async def main() -> None:
        jobs = Jobs(wait=0.02)
        async with jobs.changing("u", "start"):
            with pytest.raises(OperationTimeout, match=r"cannot acquire state change lock \(held by start\)"):
                async with jobs.changing("u", "destroy"):
                    pytest.fail("the lock was not free")
        async with jobs.changing("u", "destroy"):
            pass

    asyncio.run(main())


def test_a_job_that_fails_or_is_cancelled_lets_go() -> None:
    async def main() -> None:
        jobs = Jobs(wait=0.1)
        with pytest.raises(RuntimeError):
            async with jobs.changing("u", "start"):
                raise RuntimeError
        task = asyncio.create_task(hold(jobs))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with jobs.changing("u", "destroy"):
            pass

    async def hold(jobs: Jobs) -> None:
        async with jobs.changing("u", "start"):
            await asyncio.sleep(60)

    asyncio.run(main())


def test_one_that_waits_and_is_cancelled_does_not_keep_the_lock() -> None:
    async def main() -> None:
        jobs = Jobs(wait=1)

        async def waiting() -> None:
            async with jobs.changing("u", "second"):
                pytest.fail("cancelled before")

        async with jobs.changing("u", "first"):
            task = asyncio.create_task(waiting())
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(0.5), jobs.changing("u", "third"):
            pass

    asyncio.run(main())


def test_settle_waits_for_what_is_under_way() -> None:
    async def main() -> None:
        jobs = Jobs()
        await jobs.settle(0.01)  # nothing is
        done: list[str] = []

        async def job(uuid: str) -> None:
            async with jobs.changing(uuid, "start"):
                await asyncio.sleep(0.02)
                done.append(uuid)

        tasks = [asyncio.create_task(job(uuid)) for uuid in ("u", "v")]
        await asyncio.sleep(0)
        await jobs.settle(5)
        assert sorted(done) == ["u", "v"]
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_settle_does_not_wait_longer_than_told() -> None:
    async def main() -> None:
        jobs = Jobs()
        async with jobs.changing("u", "start"):
            began = time.monotonic()
            await jobs.settle(0.02)
            assert time.monotonic() - began < 1

    asyncio.run(main())


def test_forgotten_domains_leave_nothing() -> None:
    async def main() -> None:
        jobs = Jobs()
        async with jobs.changing("u", "undefine"):
            jobs.forget("u")  # held: stays
            assert "u" in jobs._locks
        jobs.forget("u")
        assert jobs._locks == {} and jobs._owners == {}

    asyncio.run(main())
