"""Whose turn it is at the network: clicks before the first click of a case before automatic requests
before background ones; among those of one kind readers one after the other, each with the first of their own.

A reader waits in front of the screen after a click, so nothing that can wait is done before it, and what is
under way stops for it: at the yield points of longer work (`slem_app.preemption`) a few clicks of other
readers are done in between, for five sixths of the time at most. A first click of a case is no click in this
sense, since it begins with an automatic segmentation. That others get on too, every fourth turn is that of
the request which has waited longest, once it has waited for three quarters of its patience.

Concurrency: requests come from the event loop, the thread that works takes the next one itself; what both
see is changed under a lock. A request waits at most `patience` seconds, the queue holds at most `most` of one
kind and more urgent ones and at most half as many of one reader, and one whose client has gone is dropped
when its turn has not come yet. Work that has begun runs to its end, whatever its client does: a network
cannot be stopped half-way.

Where the server computes itself, all work is done by one and the same thread: PyTorch and the C library keep
memory for every thread that has ever computed (20 cases in 12 threads took 2.6 GiB, in one 0.65 GiB), and
never give it back while the thread lives. Where a cluster computes, many threads wait for it at once; then no
work is done in between other work, since two threads could wait for each other's readers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import torch

from slem_app.errors import Gone, TookTooLong, TooMany
from slem_app.preemption import preemptible
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send

__all__ = ["ConcurrencyMiddleware", "Kind", "RequestQueue"]

T = TypeVar("T")

OTHERS = 4  # every so-manieth turn may be that of a request that is not the most urgent
LONG = 0.75  # share of the patience after which a request may have such a turn
PASSING = 3  # clicks that are done at one yield point of longer work
SHARE = 0.2  # seconds that such work goes on, at least, for each second that clicks took it


class Kind(IntEnum):
    """What a request is, the most urgent first."""

    CLICK = 0
    """A click, a scribble, undo: a reader waits for it, and it is short."""
    FIRST_CLICK = 1
    """The same on a case that was not begun: a reader waits for it, and it is as long as the next."""
    AUTOMATIC = 2
    """A segmentation that a reader has asked for."""
    BACKGROUND = 3
    """What a program does for later."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request that waits."""

    reader: str
    """Who asks."""
    kind: Kind
    """What it is."""
    work: Callable[[], Any]
    """What to do."""
    loop: asyncio.AbstractEventLoop
    """Of whoever waits for the answer."""
    begun: asyncio.Future[None]
    """Done when its turn has come."""
    context: Context = field(default_factory=copy_context)
    """In which it is done."""
    answer: Future[Any] = field(default_factory=Future)
    """What came of it."""
    since: float = field(default_factory=time.monotonic)
    """Seconds of the monotonic clock."""

    def do(self, between: Callable[[], None] | None = None) -> None:
        """Do the work; what may come in `between` is done at its yield points."""
        try:
            self.loop.call_soon_threadsafe(self._tell)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return
        try:
            self.answer.set_result(self.context.run(self._done, between))
        except BaseException as error:  # noqa: BLE001  # whatever it is, whoever waits is told
            self.answer.set_exception(error)

    def _done(self, between: Callable[[], None] | None) -> Any:
        if between is None:
            return self.work()
        with preemptible(between):
            return self.work()

    def _tell(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)


Readers = OrderedDict[str, deque[Waiting]]


class RequestQueue:
    """A fair queue in front of work that can be done once at a time.

    Args:
        most: requests that may wait.
        patience: seconds that a request may wait.
        longest: seconds that work may take before its client is told that it failed.
        threads: that work at once.
    """

    def __init__(
        self, most: int = 64, patience: float = 120.0, longest: float = 600.0, threads: int = 1
    ) -> None:
        self.most, self.patience, self.longest, self.threads = most, patience, longest, threads
        self.waiting: dict[Kind, Readers] = {kind: OrderedDict() for kind in Kind}
        self.guard = threading.Lock()
        self.running = 0  # threads that work
        self.urgent = 0  # turns in a row that went by urgency
        self.thread = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="network")

    @property
    def busy(self) -> bool:
        """Whether any work is under way."""
        return self.running > 0

    @property
    def length(self) -> int:
        """How many wait."""
        return sum(self.count(kind) for kind in Kind)

    def count(self, kind: Kind) -> int:
        """How many of a kind wait."""
        return sum(len(own) for own in list(self.waiting[kind].values()))

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
            request = self._enter(reader, kind, work)
            await self._turn(request, leaving)
        finally:
            if leaving is not None:
                leaving.cancel()
        answer = asyncio.wrap_future(request.answer)
        answer.add_done_callback(_looked_at)
        done, _ = await asyncio.wait({answer}, timeout=self.longest)
        if not done:
            raise TookTooLong(
                f"this took more than {self.longest:g} s and has not finished: try again later; the "
                f"setting `infer_seconds` allows more"
            )
        return answer.result()

    def _enter(self, reader: str, kind: Kind, work: Callable[[], Any]) -> Waiting:
        """A place in the queue."""
        loop = asyncio.get_running_loop()
        with self.guard:
            mine = sum(len(self.waiting[one].get(reader, ())) for one in Kind)
            ahead = sum(self.count(one) for one in Kind if one <= kind)
            if ahead >= self.most or mine >= max(1, self.most // 2):
                raise TooMany(
                    f"{self.length} requests already wait for the network, {mine} of them yours: try again "
                    f"in a minute"
                )
            request = Waiting(reader, kind, work, loop, loop.create_future())
            self.waiting[kind].setdefault(reader, deque()).append(request)
            if self.running >= self.threads:
                return request
            self.running += 1
            first = self._taken(self._chosen())
        self.thread.submit(self._work, first)
        return request

    async def _turn(self, request: Waiting, leaving: asyncio.Future | None) -> None:
        """Until the work has begun."""
        try:
            await asyncio.wait(
                {request.begun, leaving} if leaving else {request.begun},
                timeout=self.patience,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            self._withdrawn(request)
            raise
        if request.begun.done() or not self._withdrawn(request):
            return
        if leaving is not None and leaving.done():
            raise Gone("the client disconnected before its turn came")
        raise TooMany(
            f"the request did not start within {self.patience:g} s, {self.length} still wait for the "
            f"network: try again in a minute"
        )

    def _withdrawn(self, request: Waiting) -> bool:
        """Take a request back; False where its turn has come."""
        with self.guard:
            if request not in self.waiting[request.kind].get(request.reader, ()):
                return False
            self._remove(request)
            return True

    def _work(self, request: Waiting) -> None:
        """Do a request, and those after it until none is left. In the network's thread."""
        while True:
            alone = request.kind is Kind.CLICK or self.threads > 1
            request.do(None if alone else YieldPoint(self, request.reader))
            with self.guard:
                if self.length == 0:
                    self.running -= 1
                    return
                request = self._taken(self._chosen())

    def click_of_another(self, reader: str) -> Waiting | None:
        """The next click of anybody but `reader`, out of the queue; None where none waits."""
        if not self.waiting[Kind.CLICK]:
            return None
        with self.guard:
            others = [own for name, own in self.waiting[Kind.CLICK].items() if name != reader]
            return self._taken(others[0][0]) if others else None

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

    def _taken(self, request: Waiting) -> Waiting:
        """A request out of the queue; its reader is the last of its kind now."""
        readers = self.waiting[request.kind]
        self._remove(request)
        if request.reader in readers:
            readers.move_to_end(request.reader)
        return request

    def _remove(self, request: Waiting) -> None:
        own = self.waiting[request.kind][request.reader]
        own.remove(request)
        if not own:
            del self.waiting[request.kind][request.reader]


class YieldPoint:
    """What may come in between longer work: a few clicks of other readers, which take a share of the time at
    most, so that the work gets to its end.

    Args:
        queue: where clicks wait.
        reader: whose work it is.
    """

    def __init__(self, queue: RequestQueue, reader: str) -> None:
        self.queue, self.reader, self.from_then = queue, reader, 0.0

    def __call__(self) -> None:
        """Do them, in the network's thread."""
        begin = time.monotonic()
        if begin < self.from_then:
            return
        for _ in range(PASSING):
            click = self.queue.click_of_another(self.reader)
            if click is None:
                break
            with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
                click.do()
        now = time.monotonic()
        self.from_then = now + SHARE * (now - begin)


def _since(request: Waiting) -> float:
    return request.since


def _looked_at(answer: asyncio.Future) -> None:
    """An error is looked at, as asyncio wants it, also where the client no longer waits."""
    if not answer.cancelled():
        answer.exception()


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
