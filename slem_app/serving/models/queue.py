"""Whose turn it is at the network: clicks before automatic requests before background ones; among those of
one kind readers one after the other, each with the first of their own requests.

A reader waits in front of the screen after a click, so nothing that can wait is done before it. That others
get on too, every fourth turn is that of the request which has waited longest, once it has waited for
three quarters of its patience.

Concurrency: everything here happens in the event loop, so nothing needs a lock; only the work itself is done
in a thread. A request waits at most `patience` seconds, the queue holds at most `most` of one kind and more
urgent ones and at most half as many of one reader, and one whose client has gone is dropped when its turn has
not come yet. Work that has begun runs to its end, whatever its client does: a network cannot be stopped
half-way.

All work is done by one and the same thread: PyTorch and the C library keep memory for every thread that has
ever computed (20 cases in 12 threads took 2.6 GiB, in one 0.65 GiB), and never give it back while the thread
lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from slem_app.errors import Gone, TookTooLong, TooMany
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send

__all__ = ["ConcurrencyMiddleware", "Kind", "RequestQueue"]

T = TypeVar("T")

OTHERS = 4  # every so-manieth turn may be that of a request that is not the most urgent
LONG = 0.75  # share of the patience after which a request may have such a turn


class Kind(IntEnum):
    """What a request is, the most urgent first."""

    CLICK = 0
    """A click, a scribble, undo: a reader waits for it."""
    AUTOMATIC = 1
    """A segmentation that a reader has asked for."""
    BACKGROUND = 2
    """What a program does for later."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request that waits."""

    reader: str
    """Who asks."""
    kind: Kind
    """What it is."""
    turn: asyncio.Future[None]
    """Done when its turn has come."""
    since: float
    """Seconds of the monotonic clock."""


Readers = OrderedDict[str, deque[Waiting]]


class RequestQueue:
    """A fair queue in front of work that can be done once at a time.

    Args:
        most: requests that may wait.
        patience: seconds that a request may wait.
        longest: seconds that work may take before its client is told that it failed.
    """

    def __init__(self, most: int = 64, patience: float = 120.0, longest: float = 600.0) -> None:
        self.most, self.patience, self.longest = most, patience, longest
        self.waiting: dict[Kind, Readers] = {kind: OrderedDict() for kind in Kind}
        self.busy = False
        self.urgent = 0  # queue in a row that went by urgency
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")

    @property
    def length(self) -> int:
        """How many wait."""
        return sum(self.count(kind) for kind in Kind)

    def count(self, kind: Kind) -> int:
        """How many of a kind wait."""
        return sum(len(own) for own in self.waiting[kind].values())

    async def run(
        self,
        reader: str,
        work: Callable[[], T],
        gone: Coroutine[Any, Any, None] | None = None,
        kind: Kind = Kind.AUTOMATIC,
    ) -> T:
        """Do `work` in the queue's thread when it is this reader's turn.

        Args:
            reader: who asks.
            work: what to do.
            gone: ends when the client is there no more.
            kind: how urgent it is.

        Raises:
            TooMany: too many wait already, or the turn did not come in time.
            TookTooLong: the work is not done in time; it goes on, and its result is lost.
            Gone: the client left before its turn.
        """
        leaving = asyncio.ensure_future(gone) if gone is not None else None
        try:
            await self._wait(reader, kind, leaving)
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

    async def _wait(self, reader: str, kind: Kind, leaving: asyncio.Future | None) -> None:
        """Until it is this reader's turn."""
        mine = sum(len(self.waiting[one].get(reader, ())) for one in Kind)
        ahead = sum(self.count(one) for one in Kind if one <= kind)
        if ahead >= self.most or mine >= max(1, self.most // 2):
            raise TooMany(
                f"{self.length} requests wait for the network already, {mine} of them yours: try again "
                f"in a minute"
            )
        request = Waiting(reader, kind, asyncio.get_running_loop().create_future(), time.monotonic())
        self.waiting[kind].setdefault(reader, deque()).append(request)
        self._next()
        try:
            await asyncio.wait(
                {request.turn, leaving} if leaving else {request.turn},
                timeout=self.patience,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            self._give_up(request)
            raise
        if leaving is not None and leaving.done():
            self._give_up(request)
            raise Gone("the client went before its turn came")
        if not request.turn.done():
            self._give_up(request)
            raise TooMany(
                f"no turn came within {self.patience:g} s, {self.length} requests still wait for the "
                f"network: try again in a minute"
            )

    def _next(self) -> None:
        if self.busy or not self.length:
            return
        request = self._chosen()
        readers = self.waiting[request.kind]
        self._remove(request)
        if request.reader in readers:
            readers.move_to_end(request.reader)
        self.busy = True
        request.turn.set_result(None)

    def _chosen(self) -> Waiting:
        """The request whose turn it is."""
        first = [next(iter(self.waiting[kind].values()))[0] for kind in Kind if self.waiting[kind]]
        heads = [own[0] for kind in Kind for own in self.waiting[kind].values()]
        oldest = min(heads, key=_since)
        late = time.monotonic() - oldest.since >= LONG * self.patience
        if self.urgent >= OTHERS - 1 and late and oldest.kind > first[0].kind:
            self.urgent = 0
            return oldest
        self.urgent += 1
        return first[0]

    def _remove(self, request: Waiting) -> None:
        own = self.waiting[request.kind][request.reader]
        own.remove(request)
        if not own:
            del self.waiting[request.kind][request.reader]

    def _give_up(self, request: Waiting) -> None:
        if request.turn.done():  # it has come just now
            self.busy = False
            self._next()
            return
        self._remove(request)

    def _end(self, task: asyncio.Future) -> None:
        if not task.cancelled():
            task.exception()  # asyncio wants it looked at, also where the client no longer waits
        self.busy = False
        self._next()


def _since(request: Waiting) -> float:
    return request.since


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
        held: bool = await self.places.acquire()

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
