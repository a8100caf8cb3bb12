"""Requests beside Slicer's windows: one thread does them one after the other, and what comes of them is taken
in the thread of the windows, by `poll`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

__all__ = ["Job", "Worker"]


@dataclass(frozen=True)
class Job:
    """One thing to do."""

    what: str
    """For the reader: 'opening the case'; empty: they need not know."""
    prepare: Callable[[], Any]
    """Beside the scene, when its turn comes; what it returns is given to `remote`."""
    remote: Callable[[Any], Any]
    """In the thread; must not touch the scene."""
    done: Callable[[Any, Any], None]
    """Beside the scene, with what was prepared and what came."""


class Worker:
    """Does jobs in order.

    Args:
        failed: told of every error, with the job.
        expected: errors that are the reader's to know; others are raised by `poll`.
    """

    def __init__(
        self, failed: Callable[[Job, Exception], None], expected: tuple[type[Exception], ...]
    ) -> None:
        self.failed, self.expected = failed, expected
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="SLeMLabel")
        self.waiting: deque[Job] = deque()
        self.running: tuple[Job, Any, Future] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self.running is not None

    @property
    def what(self) -> str:
        """What is being done, for the reader; empty: nothing that they should be told of."""
        return self.running[0].what if self.running else ""

    def add(self, job: Job) -> None:
        """Do a job after those that wait."""
        self.waiting.append(job)
        self.poll()

    def drop(self) -> None:
        """Forget what waits; what is on its way is answered still."""
        self.waiting.clear()

    def poll(self) -> None:
        """Take what has come and begin what waits; to be called often."""
        if self.running is not None:
            job, asked, future = self.running
            if not future.done():
                return
            self.running = None
            self._end(job, asked, future)
        while self.running is None and self.waiting:
            self._begin(self.waiting.popleft())

    def close(self) -> None:
        """End the thread once what is on its way has come."""
        self.drop()
        self.pool.shutdown(wait=False)

    def _begin(self, job: Job) -> None:
        try:
            asked = job.prepare()
        except self.expected as error:
            self.failed(job, error)
            return
        self.running = (job, asked, self.pool.submit(job.remote, asked))

    def _end(self, job: Job, asked: Any, future: Future) -> None:
        try:
            job.done(asked, future.result())
        except self.expected as error:
            self.failed(job, error)
