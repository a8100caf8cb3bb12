"""Prepared volumes kept in memory, the least recently used given up first, measured in bytes. Safe for
threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Values by key, each valid for one state of what it was made from.

    Args:
        limit: bytes; a value larger than this is not kept.
        size: bytes of a value.
    """

    def __init__(self, limit: int, size: Callable[[T], int]) -> None:
        self.limit = limit
        self.size = size
        self.guard = threading.RLock()
        self.values: OrderedDict[Hashable, tuple[Hashable, T]] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes held."""
        with self.guard:
            return sum(self.size(value) for _, value in self.values.values())

    def __contains__(self, key: Hashable) -> bool:
        """True when there is a value, in whatever state it was made."""
        with self.guard:
            return key in self.values

    def get(self, key: Hashable, state: Hashable) -> T | None:
        """The value if it is there and was made from `state`."""
        with self.guard:
            if key not in self.values or self.values[key][0] != state:
                return None
            self.values.move_to_end(key)
            return self.values[key][1]

    def find(self, wanted: Callable[[Hashable], bool], state: Hashable) -> T | None:
        """The latest value whose key is `wanted` and that was made from `state`."""
        with self.guard:
            return next(
                (
                    self.get(key, state)
                    for key in reversed(list(self.values))
                    if wanted(key) and self.values[key][0] == state
                ),
                None,
            )

    def put(self, key: Hashable, state: Hashable, value: T) -> None:
        """Keep a value, giving up the least recently used ones."""
        with self.guard:
            self.values.pop(key, None)
            if self.size(value) > self.limit:
                return
            self.values[key] = (state, value)
            while self.used > self.limit:
                self.values.popitem(last=False)
