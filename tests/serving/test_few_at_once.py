"""Many requests for work that takes long: others are answered meanwhile, and too many are refused."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from fastapi.concurrency import run_in_threadpool

from slem_app.errors import TooMany
from slem_app.serving.few_at_once import FewAtOnce

THREADS = 40  # that requests share
MANY = 3 * THREADS


@pytest.mark.parametrize("at_once", [1, 4])
def test_others_are_answered_while_many_wait(at_once: int) -> None:
    end, work = slow()

    async def ask() -> tuple[int, int]:
        few = FewAtOnce(at_once, MANY, "reports")
        tasks = [asyncio.create_task(few.run(work)) for _ in range(MANY)]
        try:
            for _ in range(100):  # as many begin as may
                await asyncio.sleep(0.001)
            working = work.running
            answers = await asyncio.wait_for(
                asyncio.gather(*(run_in_threadpool(int, "7") for _ in range(10))), 10
            )
        finally:
            end.set()
        assert await asyncio.gather(*tasks) == ["done"] * MANY
        assert few.count == 0
        return working, len(answers)

    assert asyncio.run(ask()) == (at_once, 10)
    assert work.most == at_once


def slow() -> tuple[threading.Event, Callable[[], str]]:
    """Work that ends when it is told to, and counts how much of it goes on at once."""
    end, guard = threading.Event(), threading.Lock()

    def work() -> str:
        with guard:
            work.running += 1
            work.most = max(work.most, work.running)
        end.wait(30)
        with guard:
            work.running -= 1
        return "done"

    work.running = work.most = 0
    return end, work


def test_more_than_may_wait_are_refused_and_places_come_free_again() -> None:
    end, work = slow()

    async def ask() -> None:
        few = FewAtOnce(1, 3, "reports")
        tasks = [asyncio.create_task(few.run(work)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany, match="3 requests for reports are already waiting"):
            await few.run(work)
        tasks[2].cancel()  # its client has gone
        await asyncio.sleep(0.01)
        last = asyncio.create_task(few.run(work))
        end.set()
        assert await asyncio.gather(*tasks[:2], last) == ["done"] * 3
        with pytest.raises(ZeroDivisionError):
            await few.run(lambda: 1 // 0)
        assert few.count == 0

    asyncio.run(ask())
