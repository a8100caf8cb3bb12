"""What makes drafts on this machine: leases a case, prepares it while the network is at work on the one
before, and keeps the result, until the run has no case left.

`Desk` is the part beside the store. It is the same where a cluster makes the drafts (`predict_cluster`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from slem_app.cli.predict_maker import Made, Maker, Ready
from slem_app.errors import NoMemory, PacsFailed, SlemError, StorageFailed, TookTooLong
from slem_app.grouping import Grouping
from slem_app.store.drafts import Drafts
from slem_app.store.work_queue import LEASE, Lease, WorkQueue
from slem_app.trust import STEPS
from slem_app.weights import Card

__all__ = ["LOOK", "MAKER", "Desk", "Task", "Worker", "may_pass"]

MAKER = "slem predict"
BEAT = LEASE / 6  # seconds between heartbeats
LOOK = 0.2  # seconds between looks for a case, where others have all that are left
MAY_PASS = (PacsFailed, TookTooLong, NoMemory)
"""What may be over when a case is tried again."""


def may_pass(error: SlemError) -> bool:
    """Whether a case that failed so should be tried again."""
    return isinstance(error, MAY_PASS)


@dataclass(frozen=True, eq=False)
class Task:
    """A case to be made."""

    lease: Lease
    """Of the case."""
    grouping: Grouping
    """Its series."""
    begun: float
    """When it was leased, of `time.monotonic`."""


class Desk:
    """Gives out the cases of a run and keeps what was made of them.

    Args:
        queue: who makes which case.
        run: whose cases.
        drafts: where the results go.
        card: of the model that makes them.
        worst: the step of `trust.STEPS` from which on a result is held back; empty: none is.
        told: called after each case.
    """

    def __init__(
        self,
        queue: WorkQueue,
        run: str,
        drafts: Drafts,
        card: Card,
        worst: str = "",
        told: Callable[[], object] = lambda: None,
    ) -> None:
        self.queue, self.run, self.drafts, self.card = queue, run, drafts, card
        self.worst, self.told = worst, told

    @contextmanager
    def working(self) -> Iterator[None]:
        """While it lasts, leases are renewed; those that are left when it fails are given back.

        Raises:
            StorageFailed: the disk refused.
        """
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT):
                self.queue.renew()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        except (KeyboardInterrupt, SlemError):
            self.queue.give_back()
            raise
        finally:
            ended.set()
            thread.join()

    def take(self) -> Task | None:
        """The next case that has to be made and can be; None: none is free at this moment.

        Raises:
            StorageFailed: the disk refused.
        """
        while (lease := self.queue.lease(self.run)) is not None:
            begun = time.monotonic()
            try:
                grouping = self._images(lease)
            except StorageFailed:
                raise
            except SlemError as error:
                self.failed(lease, str(error), may_pass(error))
                continue
            if grouping is not None:
                return Task(lease, grouping, begun)
            self.told()
        return None

    def left(self) -> bool:
        """Whether a case of the run waits or is in somebody's hands."""
        return self.queue.left(self.run)

    def _images(self, lease: Lease) -> Grouping | None:
        """The case's series; None where it need not be made, or not by this model."""
        if not self.drafts.needs(lease.case):  # a process that was lost has made it, or a reader
            self.queue.made(lease, 0.0)
            return None
        grouping = self.drafts.labels.images(lease.case, self.card.reference_order[0])
        if grouping.choices and not set(grouping.sequences) & set(self.card.sequences):
            self.queue.foreign(lease)
            return None
        return grouping

    def failed(self, lease: Lease, reason: str, may_pass: bool) -> None:
        """A case could not be made; arguments as those of `WorkQueue.failed`."""
        self.queue.failed(lease, reason, may_pass)
        self.told()

    def keep(self, task: Task, made: Made) -> None:
        """Keep a result, unless it is there by now.

        Raises:
            StorageFailed: the disk refused.
        """
        lease, quality = task.lease, made.draft.trust.quality
        if self.worst and quality and STEPS.index(quality.step) >= STEPS.index(self.worst):
            self.queue.held(lease, quality.text)
            self.told()
            return
        with self.drafts.claimed(lease.case) as ours:
            if ours:
                self.drafts.save(lease.case, made.draft, MAKER)
        if not ours and self.drafts.needs(lease.case):  # somebody is just writing it, and may die of it
            self.queue.failed(lease, "another process had it in hand", True)
        else:
            self.queue.made(lease, time.monotonic() - task.begun)
        self.told()


class Worker:
    """This process's share of a run.

    Args:
        desk: gives out the cases.
        maker: makes them.
    """

    def __init__(self, desk: Desk, maker: Maker) -> None:
        self.desk, self.maker = desk, maker
        self.ended = threading.Event()
        self.busy = 0.0  # seconds in which the network was at work

    def work(self) -> None:
        """Make cases until the run has none left, waiting for those that others have in hand.

        Raises:
            StorageFailed: the disk refused.
        """
        with self.desk.working(), ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            try:
                ahead = pool.submit(self._next)
                while (found := ahead.result()) is not None:
                    ahead = pool.submit(self._next)
                    self._make(*found)
            finally:
                self.ended.set()  # else the thread would wait for cases that others have

    def _next(self) -> tuple[Task, Ready] | None:
        """The next case, prepared; None: the run has none left."""
        while not self.ended.is_set():
            task = self.desk.take()
            if task is None:
                if not self.desk.left():
                    return None
                self.ended.wait(LOOK)
                continue
            try:
                return task, self.maker.prepare(task.grouping)
            except StorageFailed:
                raise
            except SlemError as error:
                self.desk.failed(task.lease, str(error), may_pass(error))
        return None

    def _make(self, task: Task, ready: Ready) -> None:
        """Show a case to the network and keep the result."""
        try:
            made = self.maker.make(ready)
        except SlemError as error:
            self.desk.failed(task.lease, str(error), may_pass(error))
            return
        self.busy += made.busy
        self.desk.keep(task, made)
