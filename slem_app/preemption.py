"""Long work lets short work come in between (cooperative multitasking): at its yield points it hands its
thread to whoever may go first, and goes on afterwards.

Code that takes long calls `yield_point` between its steps; whoever runs it says with `preemptible` what may
come in. Without that a yield point does nothing. What comes in runs in the same thread, so the memory that
thread holds serves both; it must not need what the long work is changing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["preemptible", "uninterrupted", "yield_point", "yielding_map"]

A = TypeVar("A")
B = TypeVar("B")

POLL = 0.1  # seconds between two looks at what other threads do

_between: ContextVar[Callable[[], None] | None] = ContextVar("between", default=None)


@contextmanager
def preemptible(between: Callable[[], None]) -> Iterator[None]:
    """The block's yield points call `between`, which does what may come first and returns."""
    token = _between.set(between)
    try:
        yield
    finally:
        _between.reset(token)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Nothing comes in at the block's yield points: it holds what others need."""
    token = _between.set(None)
    try:
        yield
    finally:
        _between.reset(token)


def yield_point() -> None:
    """Here something shorter may come in between. What comes in has no yield points of its own."""
    between = _between.get()
    if between is not None:
        with uninterrupted():
            between()


def yielding_map(pool: Executor, function: Callable[[A], B], values: Iterable[A]) -> Iterator[B]:
    """As `pool.map`, whose wait for the pool is one yield point after the other. What is done in the pool has
    none.
    """
    futures = [pool.submit(function, value) for value in values]
    for future in futures:
        while not wait([future], POLL).done:
            yield_point()
        yield future.result()
