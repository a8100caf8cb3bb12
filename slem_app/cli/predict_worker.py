"""What makes drafts: leases a case, prepares it while the network is at work on the one before, and keeps the
result, until the run has no case left.

The same for one process, several of one machine, and those of a cluster: only the queue that it asks differs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from slem_app.errors import NoMemory, PacsFailed, SlemError, StorageFailed, TookTooLong
from slem_app.grouping import Grouping
from slem_app.predict import Predictor, answer
from slem_app.store.drafts import Drafts
from slem_app.store.provenance import provenance
from slem_app.store.work_queue import LEASE, Lease
from slem_app.trust import STEPS
from slem_app.volumes.prepare import Prepared

__all__ = ["MAKER", "Queue", "Worker"]

MAKER = "slem predict"
BEAT = LEASE / 6  # seconds between heartbeats
LOOK = 0.2  # seconds between looks for a case, where others have all that are left
MAY_PASS = (PacsFailed, TookTooLong, NoMemory)
"""What may be over when a case is tried again."""


class Queue(Protocol):
    """What a worker asks of `WorkQueue`, which may be on another machine."""

    def lease(self, run: str) -> Lease | None: ...
    def renew(self) -> None: ...
    def made(self, lease: Lease, seconds: float) -> None: ...
    def foreign(self, lease: Lease) -> None: ...
    def held(self, lease: Lease, reason: str) -> None: ...
    def failed(self, lease: Lease, reason: str, may_pass: bool) -> None: ...
    def give_back(self) -> None: ...
    def left(self, run: str) -> bool: ...


@dataclass(frozen=True, eq=False)
class Ready:
    """A case that the network can be shown."""

    lease: Lease
    """Of the case."""
    begun: float
    """When its preparation began, of `time.monotonic`."""
    grouping: Grouping
    """Its series."""
    sequence: str
    """On whose grid the result lies."""
    prepared: Prepared
    """What the network sees."""
    timings: Mapping[str, float]
    """Seconds of each step."""


class Worker:
    """One process's share of a run.

    Args:
        queue: who makes which case.
        run: whose cases.
        drafts: where the results go.
        predictor: makes them.
        register: move the sequences of a case onto each other first.
        told: called after each case.
        worst: the step of `trust.STEPS` from which on a result is held back; empty: none is.
    """

    def __init__(
        self,
        queue: Queue,
        run: str,
        drafts: Drafts,
        predictor: Predictor,
        register: bool = False,
        told: Callable[[], object] = lambda: None,
        worst: str = "",
    ) -> None:
        self.queue, self.run, self.drafts, self.predictor = queue, run, drafts, predictor
        self.register, self.told, self.worst = register, told, worst
        self.ended = threading.Event()
        self.busy = 0.0  # seconds in which the network was at work

    def work(self) -> None:
        """Make cases until the run has none left, waiting for those that others have in hand.

        Raises:
            StorageFailed: the disk refused.
        """
        beat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        beat.start()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
                try:
                    ahead = pool.submit(self._next)
                    while (ready := ahead.result()) is not None:
                        ahead = pool.submit(self._next)
                        self._make(ready)
                finally:
                    self.ended.set()  # else the thread would wait for cases that others have
        except (KeyboardInterrupt, SlemError):
            self.queue.give_back()
            raise
        finally:
            beat.join()

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            self.queue.renew()

    def _next(self) -> Ready | None:
        """The next case that can be made; None: the run has none left."""
        while not self.ended.is_set():
            lease = self.queue.lease(self.run)
            if lease is None:
                if not self.queue.left(self.run):
                    return None
                self.ended.wait(LOOK)
                continue
            ready = self._prepare(lease)
            if ready is not None:
                return ready
            self.told()
        return None

    def _prepare(self, lease: Lease) -> Ready | None:
        """The case as the network sees it; None where it cannot be, or need not be, made."""
        begun, case, card = time.monotonic(), lease.case, self.predictor.card
        try:
            if not self.drafts.needs(case):  # a process that was lost has made it, or a reader
                self.queue.made(lease, 0.0)
                return None
            grouping = self.drafts.labels.images(case, card.reference_order[0])
            if grouping.choices and not set(grouping.sequences) & set(card.sequences):
                self.queue.foreign(lease)
                return None
            sequence = grouping.reference(card.reference_order)
            prepared, timings = self.predictor.prepare_case(grouping, sequence, self.register)
            return Ready(lease, begun, grouping, sequence, prepared, timings)
        except StorageFailed:
            raise
        except SlemError as error:
            self.queue.failed(lease, str(error), isinstance(error, MAY_PASS))
            return None

    def _make(self, ready: Ready) -> None:
        """Show a case to the network and keep the result, unless it is there by now."""
        lease, begun = ready.lease, time.monotonic()
        try:
            result = self.predictor.predict(ready.prepared)
            self.busy += time.monotonic() - begun
            result = answer(replace(result, timings={**ready.timings, **result.timings}))
            facts = provenance(ready.grouping, result.used, self._settings(), result.volumes_ml())
        except SlemError as error:
            self.queue.failed(lease, str(error), isinstance(error, MAY_PASS))
            self.told()
            return
        quality = result.trust.quality
        if self.worst and quality and STEPS.index(quality.step) >= STEPS.index(self.worst):
            self.queue.held(lease, quality.text)
            self.told()
            return
        with self.drafts.claimed(lease.case) as ours:
            if ours:
                self.drafts.save(
                    lease.case,
                    result.array,
                    result.grid,
                    result.labels,
                    ready.grouping,
                    ready.sequence,
                    MAKER,
                    result.report,
                    result.warnings,
                    facts,
                    result.trust,
                )
        if not ours and self.drafts.needs(lease.case):  # somebody is just writing it, and may die of it
            self.queue.failed(lease, "another process had it in hand", True)
        else:
            self.queue.made(lease, time.monotonic() - ready.begun)
        self.told()

    def _settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the images."""
        return {
            "device": self.predictor.device.type,
            "precision": self.predictor.precision,
            "register": self.register,
            "tag": self.drafts.tag,
        }
