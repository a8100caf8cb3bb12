"""A lock for each name, of as many names as there may be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from slem_app.errors import TooMany

__all__ = ["LockByName"]


class LockByName:
    """A lock for each name, there for as long as somebody holds or waits for it.

    Args:
        most: threads that may hold or wait for one name: where its holder waits for a PACS that does not
            answer, a crowd would take all threads there are.
        what: names are of, for the error text.
    """

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what = most, what
        self.guard = threading.Lock()
        self.locks: dict[str, tuple[threading.Lock, int]] = {}  # with the number of those who want it

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of a name, for which others wait meanwhile.

        Raises:
            TooMany: too many wait already.
        """
        with self.guard:
            lock, wanted = self.locks.get(name, (threading.Lock(), 0))
            if wanted >= self.most:
                raise TooMany(
                    f"{wanted} requests already wait for {self.what} {name}, which is being read: try again "
                    f"in a minute"
                )
            self.locks[name] = (lock, wanted + 1)
        try:
            with lock:
                yield
        finally:
            with self.guard:
                lock, wanted = self.locks[name]
                if wanted > 1:
                    self.locks[name] = (lock, wanted - 1)
                else:
                    del self.locks[name]
