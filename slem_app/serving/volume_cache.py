"""Prepared volumes kept in memory, the least recently used given up first, measured in bytes."""

from __future__ import annotations

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
        self.values: OrderedDict[Hashable, tuple[Hashable, T]] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes held."""
        return sum(self.size(value) for _, value in self.values.values())

    def get(self, key: Hashable, state: Hashable) -> T | None:
        """The value if it is there and was made from `state`."""
        if key not in self.values or self.values[key][0] != state:
            return None
        self.values.move_to_end(key)
        return self.values[key][1]

    def put(self, key: Hashable, state: Hashable, value: T) -> None:
        """Keep a value, giving up the least recently used ones."""
        self.values.pop(key, None)
        if self.size(value) > self.limit:
            return
        self.values[key] = (state, value)
        while self.used > self.limit:
            self.values.popitem(last=False)
