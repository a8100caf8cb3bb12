"""A lock for each name, of as many names as there may be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LockByName"]


class LockByName:
    """A lock for each name, there for as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.locks: dict[str, tuple[threading.Lock, int]] = {}  # with the number of those who want it

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of a name, for which others wait meanwhile."""
        with self.guard:
            lock, wanted = self.locks.get(name, (threading.Lock(), 0))
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
