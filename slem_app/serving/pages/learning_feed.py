"""How a round learns, as it goes: the rounds of the page `/learning`, sent again whenever they change.

Server-sent events (WHATWG HTML, 9.2). However many watch, the disk is looked at every two seconds, and not
at all where nobody does. Streams hold no thread; they are few, end by themselves after a while (a browser
then asks anew, through the gate), when the round has ended, and at once when the server does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from anyio import CapacityLimiter, to_thread

from slem_app.errors import TooMany
from slem_app.serving.pages.render import TEMPLATES
from slem_app.serving.pages.status import CURVE, learning
from slem_app.serving.server import Serving
from slem_app.serving.shutdown import is_ending
from slem_app.serving.streams import Stream

__all__ = ["LearningFeed"]

EVERY = 2.0  # seconds between two looks
QUIET = 15.0  # seconds after which something is sent, so that proxies keep the connection
LASTS = 600.0  # seconds of a stream
READERS, ALL = 3, 32  # streams of one reader, and in all; a browser has six connections to a server


class LearningFeed:
    """The streams of a server.

    Args:
        serving: whose.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.open: Counter[str] = Counter()  # only the event loop changes it
        self.turn, self.limiter = asyncio.Lock(), CapacityLimiter(1)
        self.looked, self.shown = 0.0, ("", False)

    def stream(self, reader: str) -> Stream:
        """A stream for a reader.

        Raises:
            TooMany: this reader, or all together, have as many as they may.
        """
        if self.open[reader] >= READERS or self.open.total() >= ALL:
            raise TooMany("too many pages already follow the learning: load the page again instead")
        self.open[reader] += 1
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        place = _Place(partial(self._left, reader))
        return Stream(self._events(), place, headers=headers, media_type="text/event-stream")

    def _left(self, reader: str) -> None:
        self.open[reader] -= 1
        if self.open[reader] <= 0:
            del self.open[reader]

    async def _events(self) -> AsyncIterator[bytes]:
        begun = spoken = time.monotonic()
        sent = ""
        while not is_ending() and time.monotonic() - begun < LASTS:
            text, runs = await self._now(begun)
            now = time.monotonic()
            if text != sent:
                yield _event("rounds", text)
                sent, spoken = text, now
            elif now - spoken > QUIET:
                yield b": still there\n\n"
                spoken = now
            if not runs:
                yield _event("over", "")
                return
            await asyncio.sleep(EVERY)

    async def _now(self, begun: float) -> tuple[str, bool]:
        """The rounds as HTML, and whether one runs.

        Args:
            begun: when the stream began; what was seen before may lack the round that it is to follow.
        """
        async with self.turn:
            if self.looked < begun or time.monotonic() - self.looked >= EVERY:
                now = time.monotonic()
                self.shown = await to_thread.run_sync(self._look, limiter=self.limiter)
                self.looked = now
            return self.shown

    def _look(self) -> tuple[str, bool]:
        now = learning(self.serving)
        return TEMPLATES.get_template("rounds.html").render(learning=now, curve=CURVE), bool(now.running)


class _Place:
    """A stream's place among all, given back when the stream is closed, however that comes."""

    def __init__(self, left: partial[None]) -> None:
        self.left = left

    async def aclose(self) -> None:
        """Give it back."""
        self.left()


def _event(name: str, text: str) -> bytes:
    r"""An event, whose text may have several lines.

    Example:
        >>> _event("rounds", "a\nb")
        b'event: rounds\ndata: a\ndata: b\n\n'
    """
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()
