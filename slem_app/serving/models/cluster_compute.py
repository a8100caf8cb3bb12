"""Computing in the processes of a cluster: which case is where, and what happens when a process is lost.

A case stays with one process, whichever of its images is asked for, so that what was prepared of it is there.
What readers have asked for stays with the server. So when a process is lost, another one is told the case,
the segmentation that the reader sees and the prompts, and answers with the same voxels; a new process is
started in the place of the lost one. Where no process is left, and for volumes that lie on this machine
alone, the server computes itself.

Concurrency: called by many threads, each of which waits for a process. A process does one thing at a time,
clicks first (`compute_process`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from slem_app.cluster import Member, Members
from slem_app.errors import WorkerLost
from slem_app.predict import Predictor, Result
from slem_app.predict.check_here import Doubts
from slem_app.prompts import Prompts
from slem_app.selection import LabelMap, Measures
from slem_app.serving.cases.case import Case
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.serving.models.compute import (
    MOVES,
    EarlierLabel,
    LocalCompute,
    Moves,
    Start,
    Timings,
    image_key,
    result_key,
)
from slem_app.serving.models.compute_process import (
    Asked,
    ComputeProcess,
    Corrected,
    ProcessSettings,
    Version,
    light,
)

__all__ = ["ClusterCompute", "Processes"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
TRIES = 3  # processes that a call is given to before the server computes itself
CALLS = 64  # calls that a process may have at once
CASES = 10_000  # whose process is remembered
VERSIONS = 8  # of models that are kept ready to be sent
PATIENCE = 60.0  # seconds to wait for a process to begin
LONGEST = 900.0  # seconds that a call may take
PAUSE = 2.0  # seconds before a process that was lost in its beginning is started again, then twice as long
LONGEST_PAUSE = 120.0


@dataclass(eq=False)
class Place:
    """The place of one process."""

    member: Member
    """That process."""
    loaded: set[Version] = field(default_factory=set)
    """Models that it has."""
    guard: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is sent one."""
    failures: int = 0
    """Processes that were lost here without a single answer."""
    not_before: float = 0.0
    """When the next may be started, of `time.monotonic`."""
    lost: bool = False
    """It is to be replaced."""

    @property
    def works(self) -> bool:
        """Whether it can be asked."""
        return not self.lost and self.member.ready.done() and self.member.ready.exception() is None


class Processes:
    """The processes of a server.

    Args:
        members: starts them.
        size: how many.
        gpu: each has a GPU.
        settings: of each.
        longest: seconds that a call may take; then its process is ended.
    """

    def __init__(
        self,
        members: Members,
        size: int,
        gpu: bool,
        settings: ProcessSettings,
        longest: float = LONGEST,
    ) -> None:
        self.members, self.gpu, self.settings, self.longest = members, gpu, settings, longest
        self.guard = threading.RLock()
        self.where: OrderedDict[str, Place] = OrderedDict()
        self.models: OrderedDict[Version, Any] = OrderedDict()
        self.places = [Place(self._start()) for _ in range(size)]

    def _start(self) -> Member:
        return self.members.start(ComputeProcess, self.settings, threads=CALLS, gpu=self.gpu)

    def call(self, case: str, predictor: Predictor, method: str, *args: Any) -> Any:
        """Call a method of the process that has a case; of another one where that is lost.

        Args:
            case: case id.
            predictor: the version that computes; the process has it when it is called.
            method: of `ComputeProcess`.
            args: what follows the version.

        Raises:
            WorkerLost: one process after the other was lost, or none begins.
            SlemError: as the method.
        """
        card = predictor.card
        version = Version(card.name, card.version, card.sha256)
        for turn in range(TRIES):
            place = self._place(case)
            member = place.member
            try:
                self._load(place, member, version, predictor)
                answer = member.call(method, version, *args).result(self.longest)
                place.failures = 0
                return answer
            except (WorkerLost, TooSlow) as error:
                logger.warning(
                    "%s of %s was in a process that is lost (%s): try %d", method, case, error, turn + 1
                )
                if isinstance(error, TooSlow):
                    member.stop()
                self._lost(place, member)
        raise WorkerLost(f"{TRIES} processes were lost one after the other")

    def measure(self, case: Case, predictor: Predictor, before: LabelMap | None) -> tuple[Measures, LabelMap]:
        """Score a case, see `ComputeProcess.measure`; raises as `call` does."""
        _ = case.state
        scored: tuple[Measures, LabelMap] = self.call(case.id, predictor, "measure", case, before)
        return scored

    def _place(self, case: str) -> Place:
        """Where a case is; where it is nowhere, the process with the fewest cases takes it."""
        end = time.monotonic() + PATIENCE
        while True:
            with self.guard:
                self._revive()
                place = self.where.get(case)
                if place is None or not place.works:
                    working = [one for one in self.places if one.works]
                    place = min(working, key=self._load_of) if working else None
                if place is not None:
                    self.where[case] = place
                    self.where.move_to_end(case)
                    while len(self.where) > CASES:
                        self.where.popitem(last=False)
                    return place
                beginning = [one.member.ready for one in self.places if not one.lost]
            if not beginning or time.monotonic() > end:
                raise WorkerLost("no process of the cluster is there")
            wait(beginning, timeout=max(0.0, end - time.monotonic()), return_when=FIRST_COMPLETED)

    def _load_of(self, place: Place) -> int:
        return sum(1 for one in self.where.values() if one is place)

    def _revive(self) -> None:
        """Start processes in the place of those that were lost."""
        for place in self.places:
            ready = place.member.ready
            if not place.lost and ready.done() and ready.exception() is not None:
                logger.warning("a process of the cluster cannot begin: %s", ready.exception())
                self._lost(place, place.member)
            if place.lost and time.monotonic() >= place.not_before:
                place.member, place.lost = self._start(), False

    def _lost(self, place: Place, member: Member) -> None:
        """A process is no more; what it had is anybody's."""
        with self.guard:
            if place.member is not member or place.lost:
                return  # somebody else has noticed
            pause = min(LONGEST_PAUSE, PAUSE * 2 ** (place.failures - 1)) if place.failures else 0.0
            place.lost, place.not_before = True, time.monotonic() + pause
            place.failures += 1
            place.loaded = set()
            for case in [case for case, one in self.where.items() if one is place]:
                del self.where[case]
            self._revive()

    def _load(self, place: Place, member: Member, version: Version, predictor: Predictor) -> None:
        """Send a process a model that it lacks."""
        with place.guard:
            if version in place.loaded and place.member is member:
                return
            with self.guard:
                if version not in self.models:
                    self.models[version] = self.members.share(predictor.model)
                    while len(self.models) > VERSIONS:
                        self.models.popitem(last=False)
                model = self.models[version]
            member.call("load", version, model).result(self.longest)
            with self.guard:
                if place.member is member:
                    place.loaded.add(version)


class ClusterCompute:
    """Computes in the processes of a cluster, for one model; see `Compute`.

    Args:
        processes: shared by the models.
        starts: what corrections begin with, shared likewise.
        local: computes where no process can.
    """

    def __init__(self, processes: Processes, starts: ByteCache[Start], local: LocalCompute) -> None:
        self.processes, self.starts, self.local = processes, starts, local
        self.moved: ByteCache[Moves] = ByteCache(MOVES, lambda moves: 256 + 256 * len(moves))

    def prepare(self, case: Case, predictor: Predictor) -> tuple[Moves, Timings]:
        """As `Compute.prepare`."""
        known = self.known_moves(case, predictor)
        if known is not None:
            return known, {"read": 0.0, "prepare": 0.0}

        def far() -> tuple[Moves, Timings]:
            moves, timings = self._call(case, predictor, "prepare", case)
            self._note(case, predictor, moves)
            return moves, timings

        return self._either(case, far, lambda: self.local.prepare(case, predictor))

    def known_moves(self, case: Case, predictor: Predictor) -> Moves | None:
        """As `Compute.known_moves`."""
        known = self.moved.get(_key(case, predictor), case.grouping_state)
        return self.local.known_moves(case, predictor) if known is None else known

    def automatic(self, case: Case, predictor: Predictor, keep: bool = True) -> tuple[Result, Timings]:
        """As `Compute.automatic`."""

        def far() -> tuple[Result, Timings]:
            result, timings, moves = self._call(case, predictor, "automatic", case, keep)
            if moves is not None:
                self._note(case, predictor, moves)
            return result, timings

        return self._either(case, far, lambda: self.local.automatic(case, predictor, keep))

    def doubts(self, case: Case, predictor: Predictor) -> Doubts:
        """As `Compute.doubts`."""

        def far() -> Doubts:
            found: Doubts = self._call(case, predictor, "doubts", case)
            return found

        return self._either(case, far, lambda: self.local.doubts(case, predictor))

    def brought_up_to_date(self, case: Case, predictor: Predictor, earlier: EarlierLabel) -> np.ndarray:
        """As `Compute.brought_up_to_date`."""

        def far() -> np.ndarray:
            changed: np.ndarray = self._call(case, predictor, "brought_up_to_date", case, earlier)
            return changed

        return self._either(case, far, lambda: self.local.brought_up_to_date(case, predictor, earlier))

    def begun(self, key: Hashable) -> bool:
        """As `Compute.begun`."""
        return key in self.starts or self.local.begun(key)

    def start(self, case: Case, predictor: Predictor) -> tuple[Start, Timings]:
        """As `Compute.start`."""
        moves, timings = self.prepare(case, predictor)
        key = result_key(predictor.card, image_key(case, moves))
        known = self.starts.get(key, case.state)
        if known is not None:
            return known, timings

        def far() -> tuple[Start, Timings]:
            result, spent = self._call(case, predictor, "start", case)
            start = Start(result)
            self.starts.put(key, case.state, start)
            return start, spent

        return self._either(case, far, lambda: self.local.start(case, predictor))

    def refine(
        self, case: Case, predictor: Predictor, start: Start, result: Result, prompts: Prompts
    ) -> Result:
        """As `Compute.refine`."""

        def far() -> Result:
            asked = Asked(case, light(result), prompts)
            made: Corrected = self._call(case, predictor, "refine", asked)
            return made.onto(result, prompts)

        def here() -> Result:
            whole = start if start.prepared is not None else self.local.start(case, predictor)[0]
            shown = replace(result, probabilities=whole.result.probabilities)
            return self.local.refine(case, predictor, whole, shown, prompts)

        return self._either(case, far, here)

    def _call(self, case: Case, predictor: Predictor, method: str, *args: Any) -> Any:
        _ = case.state  # known here, so that no process looks at the files' times itself
        return self.processes.call(case.id, predictor, method, *args)

    def _note(self, case: Case, predictor: Predictor, moves: Moves) -> None:
        self.moved.put(_key(case, predictor), case.grouping_state, moves)

    @staticmethod
    def _either(case: Case, far: Callable[[], T], here: Callable[[], T]) -> T:
        """What a process says; what this one does where none can: a volume that was sent lies here alone."""
        if not case.lasting:
            return here()
        try:
            return far()
        except WorkerLost as error:
            logger.warning("%s: computed by the server itself: %s", case.id, error)
            return here()


def _key(case: Case, predictor: Predictor) -> tuple[Hashable, ...]:
    card = predictor.card
    return (card.name, card.version, card.sha256, case.id)
