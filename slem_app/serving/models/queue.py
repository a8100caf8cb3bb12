"""Whose turn it is at the network: readers one after the other, each with the first of their own requests.

Concurrency: everything here happens in the event loop, so nothing needs a lock; only the work itself is done
in a thread. A request waits at most `patience` seconds, the queue holds at most `most` of them and at most
half as many of one reader, and one whose client has gone is dropped when its turn has not come yet. Work that
has begun runs to its end, whatever its client does: a network cannot be stopped half-way.

All work is done by one and the same thread: PyTorch and the C library keep memory for every thread that has
ever computed (20 cases in 12 threads took 2.6 GiB, in one 0.65 GiB), and never give it back while the thread
lives.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from slem_app.errors import Gone, TookTooLong, TooMany
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send

__all__ = ["ConcurrencyMiddleware", "RequestQueue"]

T = TypeVar("T")


class RequestQueue:
    """A fair queue in front of work that can be done once at a time.

    Args:
        most: requests that may wait.
        patience: seconds that a request may wait.
        longest: seconds that work may take before its client is told that it failed.
    """

    def __init__(self, most: int = 64, patience: float = 120.0, longest: float = 600.0) -> None:
        self.most, self.patience, self.longest = most, patience, longest
        self.waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.busy = False
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")

    @property
    def length(self) -> int:
        """How many wait."""
        return sum(len(own) for own in self.waiting.values())

    async def run(
        self, reader: str, work: Callable[[], T], gone: Coroutine[Any, Any, None] | None = None
    ) -> T:
        """Do `work` in the queue's thread when it is this reader's turn.

        Args:
            reader: who asks.
            work: what to do.
            gone: ends when the client is there no more.

        Raises:
            TooMany: too many wait already, or the turn did not come in time.
            TookTooLong: the work is not done in time; it goes on, and its result is lost.
            Gone: the client left before its turn.
        """
        leaving = asyncio.ensure_future(gone) if gone is not None else None
        try:
            await self._wait(reader, leaving)
        finally:
            if leaving is not None:
                leaving.cancel()
        # a task of its own: the turn is given back when the work is done, not when its client stops waiting
        task = asyncio.get_running_loop().run_in_executor(self.thread, copy_context().run, work)
        task.add_done_callback(self._end)
        done, _ = await asyncio.wait({task}, timeout=self.longest)
        if not done:
            raise TookTooLong(
                f"this took more than {self.longest:g} s and is still not done: try again later; the "
                f"setting `infer_seconds` allows more"
            )
        return task.result()

    async def _wait(self, reader: str, leaving: asyncio.Future | None) -> None:
        """Until it is this reader's turn."""
        mine = len(self.waiting.get(reader, ()))
        if self.length >= self.most or mine >= max(1, self.most // 2):
            raise TooMany(
                f"{self.length} requests wait for the network already, {mine} of them yours: try "
                f"again in a "
                f"minute"
            )
        turn = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(reader, deque()).append(turn)
        self._next()
        try:
            await asyncio.wait(
                {turn, leaving} if leaving else {turn},
                timeout=self.patience,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            self._give_up(reader, turn)
            raise
        if leaving is not None and leaving.done():
            self._give_up(reader, turn)
            raise Gone("the client went before its turn came")
        if not turn.done():
            self._give_up(reader, turn)
            raise TooMany(
                f"no turn came within {self.patience:g} s, {self.length} requests still wait for the "
                f"network: try again in a minute"
            )

    def _next(self) -> None:
        if self.busy or not self.waiting:
            return
        reader, own = next(iter(self.waiting.items()))
        turn = own.popleft()
        if own:
            self.waiting.move_to_end(reader)
        else:
            del self.waiting[reader]
        self.busy = True
        turn.set_result(None)

    def _give_up(self, reader: str, turn: asyncio.Future) -> None:
        if turn.done():  # it has come just now
            self.busy = False
            self._next()
            return
        own = self.waiting[reader]
        own.remove(turn)
        if not own:
            del self.waiting[reader]

    def _end(self, task: asyncio.Future) -> None:
        if not task.cancelled():
            task.exception()  # asyncio wants it looked at, also where the client no longer waits
        self.busy = False
        self._next()


class ConcurrencyMiddleware:
    """Lets a few requests of one kind be worked on at once; the others wait in the order in which they came.

    Reading headers is work for Python's one lock: a viewer that asks for hundreds of frames at once would
    hold everybody else up.

    Args:
        app: the application.
        paths: how paths of that kind begin.
        most: how many at once; one is over when its answer begins.
    """

    def __init__(self, app: ASGIApp, paths: tuple[str, ...], most: int) -> None:
        self.app, self.paths, self.places = app, paths, asyncio.Semaphore(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(self.paths):
            await self.app(scope, receive, send)
            return
        held = await self.places.acquire()

        async def answer(message: Scope) -> None:
            nonlocal held
            if held:
                held = False
                self.places.release()
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            if held:
                self.places.release()
