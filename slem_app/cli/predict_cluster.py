"""Drafts made by the processes of a cluster.

The store, its queue and the studies' list stay with the command; each process gets a case's series, reads and
computes, and hands a small draft back. So no file is locked over a network, and a result is written once,
whoever made it. The images must lie at the same paths on all machines, or come from a PACS.

Each process has two cases in hand: it reads and prepares one while its network is at work on the other. What
a lost process had in hand is tried again elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from slem_app.cli.predict_maker import Made, Maker
from slem_app.cli.predict_worker import LOOK, Desk, Task, may_pass
from slem_app.cluster import Member, Members
from slem_app.errors import SlemError, StorageFailed, WorkerLost
from slem_app.grouping import Grouping
from slem_app.predict import Predictor
from slem_app.weights import Model

__all__ = ["AHEAD", "Crew", "RemoteMaker"]

logger = logging.getLogger(__name__)

AHEAD = 2  # cases that a process has in hand
LONGEST = 3600.0  # seconds that a case may take; then its process is ended
RESTARTS = 3  # of each process, without any case being made meanwhile


class RemoteMaker:
    """A `Maker` in a process of its own: two cases at once, of which one is before the network.

    Args:
        model: makes the drafts.
        device: as `read_device` takes it, there.
        precision: as `Predictor` takes it.
        register: as `Maker` takes it.
        tag: likewise.
    """

    def __init__(self, model: Model, device: str, precision: str, register: bool, tag: str) -> None:
        self.asked = (model, device, precision, register, tag)
        self.network = threading.Lock()

    def begin(self) -> None:
        """Make the model ready.

        Raises:
            BadSetting: no such device or precision.
        """
        model, device, precision, register, tag = self.asked
        self.maker = Maker(Predictor(model, device, precision), register, tag)

    def make(self, grouping: Grouping) -> Made:
        """Make the draft of a case.

        Raises:
            SlemError: it cannot be made.
        """
        ready = self.maker.prepare(grouping)
        with self.network:
            return self.maker.make(ready)


@dataclass(eq=False)
class Slot:
    """The place of one process."""

    member: Member
    """That process."""
    tasks: dict[Future[Made], tuple[Task, Member]] = field(default_factory=dict)
    """What is in hand here, and in whose: a lost one's cases fail after it was replaced."""
    deaths: int = 0
    """Processes lost here since a case was made here."""

    @property
    def free(self) -> bool:
        """Whether it can be given a case."""
        return self.member.ready.done() and len(self.tasks) < AHEAD


class Crew:
    """The processes that make the drafts of a run.

    Args:
        members: starts them.
        desk: gives out the cases.
        maker: the arguments of `RemoteMaker`.
        size: how many processes.
        gpu: each has a GPU.
    """

    def __init__(
        self,
        members: Members,
        desk: Desk,
        maker: tuple[Model, str, str, bool, str],
        size: int,
        gpu: bool,
    ) -> None:
        self.members, self.desk, self.gpu = members, desk, gpu
        self.model = members.share(maker[0])
        self.options = maker[1:]
        self.busy = 0.0  # seconds in which networks were at work
        self.slots = [Slot(self._start()) for _ in range(size)]

    def _start(self) -> Member:
        return self.members.start(RemoteMaker, self.model, *self.options, threads=AHEAD, gpu=self.gpu)

    def work(self) -> None:
        """Have cases made until the run has none left.

        Raises:
            StorageFailed: the disk refused.
            WorkerLost: processes are lost again and again while no case is made.
        """
        try:
            with self.desk.working():
                while self._turn():
                    pass
        finally:
            for slot in self.slots:
                slot.member.stop()

    def _turn(self) -> bool:
        """Give out what can be, and keep what was made; False: the run has no case left."""
        for slot in self.slots:
            self._watch(slot)
        running = any(slot.tasks for slot in self.slots)
        given = self._give()
        if not running and not given and not self.desk.left():
            return False
        futures: list[Future[Any]] = [future for slot in self.slots for future in slot.tasks]
        futures += [slot.member.ready for slot in self.slots if not slot.member.ready.done()]
        done, _ = wait(futures, timeout=LOOK, return_when=FIRST_COMPLETED)
        if not futures:
            time.sleep(LOOK)
        for slot in self.slots:
            for future in done & set(slot.tasks):
                self._ended(slot, future)
        self.desk.told()
        return True

    def _give(self) -> bool:
        """Give cases to all that can take one, one case each in turn; whether any was given."""
        given = False
        while free := [slot for slot in self.slots if slot.free]:
            slot = min(free, key=lambda one: len(one.tasks))
            task = self.desk.take()
            if task is None:
                break
            slot.tasks[slot.member.call("make", task.grouping)] = task, slot.member
            given = True
        return given

    def _ended(self, slot: Slot, future: Future[Made]) -> None:
        """Keep what a process has made of a case, or note why it has not."""
        task, member = slot.tasks.pop(future)
        error = future.exception()
        if error is None:
            made = future.result()
            slot.deaths, self.busy = 0, self.busy + made.busy
            self.desk.keep(task, made)
        elif isinstance(error, StorageFailed) or not isinstance(error, SlemError):
            raise error
        else:
            lost = isinstance(error, WorkerLost)
            self.desk.failed(task.lease, str(error), lost or may_pass(error))
            if lost and member is slot.member:
                self._replace(slot)

    def _watch(self, slot: Slot) -> None:
        """End a process that hangs; put another in the place of one that could not begin."""
        if any(time.monotonic() - task.begun > LONGEST for task, _ in slot.tasks.values()):
            logger.warning("a case took more than %.0f s: its process is ended", LONGEST)
            slot.member.stop()
        if not slot.member.ready.done() or (error := slot.member.ready.exception()) is None:
            return
        if not isinstance(error, WorkerLost):
            raise error
        self._replace(slot)

    def _replace(self, slot: Slot) -> None:
        """Start another process in the place of a lost one.

        Raises:
            WorkerLost: that was done too often.
        """
        slot.deaths += 1
        if slot.deaths > RESTARTS * len(self.slots):
            raise WorkerLost(
                f"{slot.deaths} processes of the cluster were lost one after the other before any made a "
                "draft: see their logs (Ray's, in /tmp/ray) and how much memory they may have"
            )
        slot.member = self._start()
