"""Processes of a cluster that are threads of this one: what is handed over is pickled, as it would be, and a
process can be killed with what it has in hand.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from slem_app.errors import WorkerLost

__all__ = ["FakeMember", "FakeMembers"]


class FakeMember:
    """One process."""

    def __init__(self, members: FakeMembers, kind: type, args: bytes, threads: int) -> None:
        self.members, self.pool = members, ThreadPoolExecutor(threads)
        self.dead, self.guard = threading.Event(), threading.Lock()
        self.open: set[Future[Any]] = set()
        self.calls: list[str] = []
        self.object: Any = None

        def make() -> None:
            self.object = kind(*pickle.loads(args))
            self.object.begin()

        self.ready = self._told(make)

    def call(self, method: str, *args: Any) -> Future[Any]:
        self.calls.append(method)
        packed = pickle.dumps(args)
        self.members.sent += len(packed)
        self.members.called(self, method)
        return self._told(
            lambda: pickle.loads(pickle.dumps(getattr(self.object, method)(*pickle.loads(packed))))
        )

    def stop(self) -> None:
        """Kill it."""
        with self.guard:
            self.dead.set()
            lost, self.open = self.open, set()
        for future in lost:
            future.set_exception(WorkerLost("killed"))

    def _told(self, work: Callable[[], Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        with self.guard:
            if self.dead.is_set():
                answer.set_exception(WorkerLost("it was killed before"))
                return answer
            self.open.add(answer)

        def do() -> None:
            if self.dead.is_set():
                return
            try:
                value, error = work(), None
            except BaseException as what:  # noqa: BLE001  # handed on, as a cluster does
                value, error = None, what
            with self.guard:
                if answer not in self.open:
                    return
                self.open.remove(answer)
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        self.pool.submit(do)
        return answer


class FakeMembers:
    """What starts them.

    Args:
        called: told of each call before it is made.
    """

    def __init__(self, called: Callable[[FakeMember, str], object] = lambda member, method: None) -> None:
        self.called, self.sent = called, 0  # sent: bytes
        self.members: list[FakeMember] = []

    @property
    def alive(self) -> list[FakeMember]:
        return [one for one in self.members if not one.dead.is_set()]

    def share(self, value: Any) -> Any:
        return value

    def start(self, kind: type, *args: Any, threads: int, gpu: bool) -> FakeMember:
        self.members.append(FakeMember(self, kind, pickle.dumps(args), threads))
        return self.members[-1]

    def close(self) -> None:
        for member in self.members:
            member.stop()
            member.pool.shutdown(wait=True, cancel_futures=True)
