"""Work that takes long and that many may ask for at once: it must not take all threads of the server.

Requests share 40 threads (anyio's). Who waits in one of them for the turn of a report keeps it from all
others; so waiting is done in the event loop, and a thread is taken when the turn has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from slem_app.errors import TooMany

__all__ = ["FewAtOnce"]

T = TypeVar("T")


class FewAtOnce:
    """Does a few pieces of one kind of work at once, in threads of its own.

    Args:
        at_once: how many.
        most: requests that may wait or work.
        what: they ask for, for the error text.
    """

    def __init__(self, at_once: int, most: int, what: str) -> None:
        self.limiter = CapacityLimiter(at_once)
        self.most, self.what = most, what
        self.count = 0  # only the event loop changes it

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns, in its turn.

        Raises:
            TooMany: too many requests wait already.
        """
        if self.count >= self.most:
            raise TooMany(f"{self.count} requests for {self.what} are already waiting: try again in a minute")
        self.count += 1
        try:
            return await to_thread.run_sync(work, limiter=self.limiter)
        finally:
            self.count -= 1
