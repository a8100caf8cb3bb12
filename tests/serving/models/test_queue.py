"""The queue in front of the network: in turn by reader, bounded, with an end to waiting, without requests
whose client has gone.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial

import pytest
import torch

from slem_app.errors import BadGrid, Gone, TookTooLong, TooMany
from slem_app.preemption import yield_point
from slem_app.serving.models.queue import ConcurrencyMiddleware, Kind, RequestQueue


class Bench:
    """A queue whose work waits until it is told to end, and what was done in which order."""

    def __init__(self, **limits: float) -> None:
        self.queue, self.done, self.go = RequestQueue(**limits), [], threading.Event()
        self.tasks: list[asyncio.Task] = []

    def work(self, name: str) -> str:
        self.go.wait(10)
        self.done.append(name)
        return name

    async def ask(self, *names: str, kind: Kind = Kind.AUTOMATIC) -> None:
        """Requests 'reader/what', one after the other."""
        for name in names:
            reader, work = name.partition("/")[0], partial(self.work, name)
            self.tasks.append(asyncio.create_task(self.queue.run(reader, work, kind=kind)))
            await asyncio.sleep(0)

    async def end(self) -> list:
        """Let them go on; what they answered."""
        await asyncio.sleep(0.05)
        self.go.set()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def run(test: Callable[[], Coroutine]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_readers_take_turns_however_many_requests_one_has() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.ask("ann/1", "ann/2", "ann/3", "ann/4", "ben/1", "cas/1", "ben/2")
        assert await bench.end() == ["ann/1", "ann/2", "ann/3", "ann/4", "ben/1", "cas/1", "ben/2"]
        assert bench.done == ["ann/1", "ann/2", "ben/1", "cas/1", "ann/3", "ben/2", "ann/4"]

    run(test)


def test_a_full_queue_refuses_and_one_reader_cannot_fill_it() -> None:
    async def test() -> None:
        bench = Bench(most=4)
        await bench.ask("ann/0", "ann/1", "ann/2", "ann/3", "ben/1", "ben/2", "cas/1")
        answers = await bench.end()
        assert [type(answer) for answer in answers] == [str, str, str, TooMany, str, str, TooMany]
        assert "2 requests already wait for the network, 2 of them yours" in str(answers[3])
        assert answers[6].status == 503

    run(test)


def test_all_work_is_done_by_one_thread_in_the_context_of_its_request() -> None:
    who, seen = ContextVar("who", default=""), []

    async def test() -> None:
        queue = RequestQueue()

        async def ask(name: str) -> None:
            who.set(name)
            await queue.run(name, lambda: seen.append((who.get(), threading.get_ident())))

        await asyncio.gather(*(asyncio.create_task(ask(f"reader {k}")) for k in range(8)))

    run(test)
    assert [name for name, _ in seen] == [f"reader {k}" for k in range(8)]
    assert len({thread for _, thread in seen} | {threading.get_ident()}) == 2


def test_waiting_has_an_end() -> None:
    async def test() -> None:
        bench = Bench(patience=0.1)
        await bench.ask("ann/1", "ben/1")
        await asyncio.wait([bench.tasks[1]])
        with pytest.raises(TooMany, match="the request did not start within 0.1 s, 0 still wait"):
            bench.tasks[1].result()
        await bench.ask("ben/2")
        assert (await bench.end())[2] == "ben/2"
        assert bench.done == ["ann/1", "ben/2"]

    run(test)


def test_work_that_takes_too_long_is_told_and_keeps_its_turn_until_it_ends() -> None:
    async def test() -> None:
        bench = Bench(longest=0.1)
        await bench.ask("ann/1", "ben/1")
        await asyncio.wait([bench.tasks[0]])
        with pytest.raises(TookTooLong, match="more than 0.1 s"):
            bench.tasks[0].result()
        assert bench.queue.length == 1
        assert (await bench.end())[1] == "ben/1"
        assert bench.done == ["ann/1", "ben/1"]

    run(test)


def test_a_request_whose_client_has_gone_is_dropped() -> None:
    async def test() -> None:
        bench, left = Bench(), asyncio.Event()
        await bench.ask("ann/1")

        async def gone() -> None:
            await left.wait()

        waiting = asyncio.create_task(bench.queue.run("ben", lambda: bench.work("ben/1"), gone()))
        await bench.ask("cas/1")
        await asyncio.sleep(0.02)
        left.set()
        with pytest.raises(Gone):
            await waiting
        assert await bench.end() == ["ann/1", "cas/1"]
        assert bench.done == ["ann/1", "cas/1"]

    run(test)


def test_a_failure_is_the_requests_own() -> None:
    def fails() -> None:
        raise BadGrid("zero axes")

    async def test() -> None:
        queue = RequestQueue()
        with pytest.raises(BadGrid, match="zero axes"):
            await queue.run("ann", fails)
        assert await queue.run("ann", lambda: 1) == 1

    run(test)


def test_a_request_that_is_cancelled_gives_its_place_up() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.ask("ann/1", "ben/1", "cas/1")
        bench.tasks[1].cancel()
        await asyncio.sleep(0)
        assert [type(answer) for answer in await bench.end()] == [str, asyncio.CancelledError, str]
        assert bench.queue.length == 0
        assert not bench.queue.busy

    run(test)


def test_a_crowd_is_let_in_a_few_at_a_time_and_others_are_not_held_up() -> None:
    async def test() -> None:
        inside, most, go = 0, 0, asyncio.Event()

        async def app(scope: dict, receive: Callable, send: Callable) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            if scope["path"] == "/dicom-web/fails":
                inside -= 1
                raise ZeroDivisionError
            if scope["path"] != "/info/":
                await go.wait()
            inside -= 1
            await send({"type": "http.response.start"})

        async def send(message: dict) -> None:
            await asyncio.sleep(0)

        crowd = ConcurrencyMiddleware(app, ("/dicom-web/",), 2)

        def ask(path):
            return asyncio.create_task(crowd({"type": "http", "method": "GET", "path": path}, None, send))

        with pytest.raises(ZeroDivisionError):
            await ask("/dicom-web/fails")
        waiting = [ask("/dicom-web/studies") for _ in range(6)]
        await asyncio.sleep(0.01)
        assert inside == 2
        await ask("/info/")
        go.set()
        await asyncio.gather(*waiting)
        assert most == 3

    run(test)


def test_clicks_go_before_automatic_requests_and_these_before_the_background() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.ask("ann/runs")
        await bench.ask("bob/later", "bob/later too", kind=Kind.BACKGROUND)
        await bench.ask("cas/auto", "dan/auto")
        await bench.ask("eva/click 1", "eva/click 2", "fay/click", kind=Kind.CLICK)
        await bench.end()
        assert bench.done == [
            *("ann/runs", "eva/click 1", "fay/click", "eva/click 2"),
            *("cas/auto", "dan/auto", "bob/later", "bob/later too"),
        ]

    run(test)


class LongWork(Bench):
    """A queue in which work of one reader goes through yield points, one after each `step`."""

    def __init__(self) -> None:
        super().__init__()
        self.go.set()
        self.step = threading.Semaphore(0)

    def long(self, name: str, points: int) -> str:
        for number in range(points):
            self.step.acquire(timeout=10)
            yield_point()
            self.done.append(f"{name} {number}")
        return name

    async def begin(self, reader: str, kind: Kind, points: int = 3) -> None:
        work = partial(self.long, f"{reader} goes on", points)
        self.tasks.append(asyncio.create_task(self.queue.run(reader, work, kind=kind)))
        await asyncio.sleep(0)

    async def end(self, points: int = 3) -> list:
        for _ in range(points):
            self.step.release()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", [Kind.FIRST_CLICK, Kind.AUTOMATIC, Kind.BACKGROUND])
def test_longer_work_that_has_begun_stops_for_a_few_clicks_of_others(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.serving.models.queue.SHARE", 0.0)

    async def test() -> None:
        bench = LongWork()
        await bench.begin("ann", kind)
        await bench.ask("dan/auto")
        await bench.ask("eva/first", kind=Kind.FIRST_CLICK)
        await bench.ask(*(f"bob{number}/click" for number in range(4)), kind=Kind.CLICK)
        assert len(await bench.end()) == 7
        clicks = [f"bob{number}/click" for number in range(4)]
        others = ["eva/first", "dan/auto"]
        assert bench.done == [
            *clicks[:3],
            "ann goes on 0",
            clicks[3],
            "ann goes on 1",
            "ann goes on 2",
            *others,
        ]

    run(test)


def test_clicks_take_a_share_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.serving.models.queue.SHARE", 1.0)
    spent = defaultdict(float)

    def work(what: str, seconds: float) -> None:
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            time.sleep(0.001)
        spent[what] += seconds

    def long() -> float:
        for _ in range(100):
            work("long", 0.005)
            yield_point()
        return spent["click"]

    async def clicks(queue: RequestQueue, reader: str, end: asyncio.Event) -> None:
        while not end.is_set():
            await queue.run(reader, partial(work, "click", 0.03), kind=Kind.CLICK)

    async def test() -> None:
        queue, end = RequestQueue(), asyncio.Event()
        automatic = asyncio.create_task(queue.run("ann", long))
        await asyncio.sleep(0)
        readers = [asyncio.create_task(clicks(queue, f"bob{number}", end)) for number in range(6)]
        between = await automatic
        end.set()
        await asyncio.gather(*readers)
        assert 0.2 < between < 0.65  # beside 0.5 s of the long work, and the last clicks

    run(test)


def test_a_click_waits_for_the_same_reader_s_own_work_and_no_click_stops_another() -> None:
    async def test() -> None:
        bench = LongWork()
        await bench.begin("ann", Kind.FIRST_CLICK, points=1)
        await bench.ask("ann/second click", kind=Kind.CLICK)
        await bench.begin("bob", Kind.CLICK, points=2)
        await bench.ask("cas/click", kind=Kind.CLICK)
        await bench.end()
        assert bench.done == [
            "bob goes on 0",
            "bob goes on 1",
            "cas/click",
            "ann goes on 0",
            "ann/second click",
        ]

    run(test)


def test_a_click_in_between_has_its_own_context_error_and_state_of_torch() -> None:
    who, seen = ContextVar("who", default=""), []

    def click() -> None:
        seen.append((who.get(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        raise BadGrid("zero axes")

    def long(go: threading.Event) -> tuple[bool, str]:
        go.wait(10)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            yield_point()
            return torch.is_inference_mode_enabled(), who.get()

    async def ask(queue: RequestQueue, name: str, work: Callable, kind: Kind) -> object:
        who.set(name)
        return await queue.run(name, work, kind=kind)

    async def test() -> None:
        queue, go = RequestQueue(), threading.Event()
        automatic = asyncio.create_task(ask(queue, "ann", partial(long, go), Kind.AUTOMATIC))
        await asyncio.sleep(0)
        clicked = asyncio.create_task(ask(queue, "bob", click, Kind.CLICK))
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(BadGrid, match="zero axes"):
            await clicked
        assert await automatic == (True, "ann")
        assert seen == [("bob", False, False)]

    run(test)


def test_a_first_click_goes_before_automatic_requests() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.ask("ann/runs")
        await bench.ask("bob/auto")
        await bench.ask("cas/first click", kind=Kind.FIRST_CLICK)
        await bench.ask("dan/click", kind=Kind.CLICK)
        await bench.end()
        assert bench.done == ["ann/runs", "dan/click", "cas/first click", "bob/auto"]

    run(test)


def test_what_has_waited_long_gets_every_fourth_turn() -> None:
    async def test() -> None:
        bench = Bench(patience=4.0)
        await bench.ask("ann/runs")
        await bench.ask("bob/later", kind=Kind.BACKGROUND)
        await bench.ask("cas/auto")
        await asyncio.sleep(3.1)
        await bench.ask(*(f"eva/{number}" for number in range(9)), kind=Kind.CLICK)
        await bench.end()
        assert [name for name in bench.done if name[:3] != "eva"] == ["ann/runs", "bob/later", "cas/auto"]
        assert (bench.done.index("bob/later"), bench.done.index("cas/auto")) == (3, 7)

    run(test)


def test_a_crowd_of_less_urgent_requests_keeps_no_click_out() -> None:
    async def test() -> None:
        bench = Bench(most=4)
        await bench.ask("ann/runs")
        await bench.ask(*(f"bob{number}/later" for number in range(5)), kind=Kind.BACKGROUND)
        await bench.ask(*(f"cas{number}/auto" for number in range(5)))
        await bench.ask(*(f"eva{number}/click" for number in range(5)), kind=Kind.CLICK)
        answers = await bench.end()
        refused = [number for number, answer in enumerate(answers) if isinstance(answer, TooMany)]
        assert refused == [5, 10, 15]  # the last of each five; the first of all runs

    run(test)
