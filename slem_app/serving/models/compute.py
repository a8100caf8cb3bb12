"""What computes for the models' tasks: reads and prepares cases, segments them, follows prompts.

`Compute` is the seam between what a server remembers of its readers and what needs a processor. Behind it is
this process (`LocalCompute`), or the processes of a cluster (`cluster_compute`), each of which has a
`LocalCompute` for every model. The results are the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from slem_app.grouping import Grouping
from slem_app.predict import Detail, Predictor, Refiner, Result, assessed
from slem_app.predict.check_here import Doubts, doubts_on
from slem_app.predict.prior import brought_up_to_date
from slem_app.preemption import yield_point
from slem_app.prompts import Mask, Prompts
from slem_app.serving.cases.case import Case
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Card

__all__ = [
    "MOVES",
    "Caches",
    "Compute",
    "EarlierLabel",
    "LocalCompute",
    "Moves",
    "Start",
    "Timings",
    "add",
    "image_key",
    "result_key",
    "timed",
]

Moves = Mapping[str, np.ndarray]
"""How a case's sequences were moved, see `Prepared.moves`."""
Timings = dict[str, float]
"""Seconds by step."""
MOVES = 2**20  # bytes of matrices that are kept


@dataclass(frozen=True, eq=False)
class Start:
    """What is made once for an image, before anybody says anything."""

    result: Result
    """The automatic segmentation."""
    detail: Detail | None = None
    """The case as prompts are answered from it, shared by its images; None where others compute."""
    prepared: Prepared | None = None
    """The case as the network sees it, for results on that image; None where others compute. It is not
    counted: its arrays are those of the prepared case.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return self.result.nbytes + (self.detail.nbytes if self.detail else 0)


@dataclass(frozen=True, eq=False)
class EarlierLabel:
    """A label of an earlier visit that a session begins with."""

    images: Grouping
    """The earlier visit's series."""
    sequence: str
    """The one that the label lies on."""
    given: Mask
    """The label."""
    move: np.ndarray
    """(4, 4) from the earlier visit's world to the later one's."""


class Compute(Protocol):
    """What computes. Every method raises a `SlemError` where a case cannot be used."""

    def prepare(self, case: Case, predictor: Predictor) -> tuple[Moves, Timings]:
        """Read and prepare a case for a version of a model."""

    def known_moves(self, case: Case, predictor: Predictor) -> Moves | None:
        """How its sequences were moved, where that version has seen the case; else None."""

    def automatic(self, case: Case, predictor: Predictor, keep: bool = True) -> tuple[Result, Timings]:
        """The automatic segmentation on the displayed image's grid, as `assessed`.

        Args:
            case: the case.
            predictor: the version.
            keep: it may be asked for again.
        """

    def doubts(self, case: Case, predictor: Predictor) -> Doubts:
        """How doubtful each voxel of the automatic segmentation is, on the displayed image's grid."""

    def brought_up_to_date(self, case: Case, predictor: Predictor, earlier: EarlierLabel) -> np.ndarray:
        """(I, J, K) an earlier label on the displayed image, changed where the model sees a change."""

    def start(self, case: Case, predictor: Predictor) -> tuple[Start, Timings]:
        """What corrections of an image begin with."""

    def begun(self, key: Hashable) -> bool:
        """Whether the start of an image is in memory, by its `result_key`: then a correction is quick."""

    def refine(
        self, case: Case, predictor: Predictor, start: Start, result: Result, prompts: Prompts
    ) -> Result:
        """A result after more prompts, as `Refiner.refine` makes it.

        Args:
            case: the case.
            predictor: the version.
            start: of `start`, for this image.
            result: what the reader sees.
            prompts: all prompts: those of `result` and new ones, or another box.
        """


def _bytes(moves: Moves) -> int:
    return 256 + 256 * len(moves)


def _nothing_kept() -> ByteCache[Result]:
    return ByteCache(0, lambda result: result.nbytes)


@dataclass(frozen=True, eq=False)
class Caches:
    """What is kept in memory, shared by the models of a process."""

    prepared: ByteCache[Prepared]
    """Prepared volumes."""
    starts: ByteCache[Start]
    """What corrections begin with."""
    results: ByteCache[Result] = field(default_factory=_nothing_kept)
    """Automatic results, so that a case that is asked for again, or clicked into, is not segmented again."""

    @classmethod
    def of_size(cls, cache_mb: int, memory_mb: int) -> Caches:
        """Empty ones.

        Args:
            cache_mb: MiB of prepared volumes.
            memory_mb: MiB of starts; a quarter of it for automatic results.
        """
        return cls(
            ByteCache(cache_mb * 2**20, lambda one: one.nbytes),
            ByteCache(memory_mb * 2**20, lambda one: one.nbytes),
            ByteCache(memory_mb * 2**18, lambda one: one.nbytes),
        )


class LocalCompute:
    """Computes in this process, for one model.

    Concurrency: the network serves one thread at a time; a thread that holds it answers clicks between two
    layers, so the lock may be taken again.

    Args:
        caches: what is kept.
        register: move the sequences of a case onto the requested one first.
    """

    def __init__(self, caches: Caches, register: bool = False) -> None:
        self.caches, self.register = caches, register
        # a few matrices a case: they are known longer than the volumes
        self.moved: ByteCache[Moves] = ByteCache(MOVES, _bytes)
        self.lock = threading.RLock()
        self.last: Refiner | None = None

    def prepare(self, case: Case, predictor: Predictor) -> tuple[Moves, Timings]:
        """As `Compute.prepare`."""
        prepared, timings = self._prepared(case, predictor)
        return prepared.moves, timings

    def known_moves(self, case: Case, predictor: Predictor) -> Moves | None:
        """As `Compute.known_moves`."""
        return self.moved.get(_study(case, predictor.card), case.grouping_state)

    def automatic(self, case: Case, predictor: Predictor, keep: bool = True) -> tuple[Result, Timings]:
        """As `Compute.automatic`."""
        with self.lock:
            prepared, timings = self._prepared(case, predictor)
            result, spent = self._result(case, self._refiner(predictor), prepared, keep)
        return result, timings | spent

    def doubts(self, case: Case, predictor: Predictor) -> Doubts:
        """As `Compute.doubts`."""
        with self.lock:
            prepared, _ = self._prepared(case, predictor)
            result, _ = self._result(case, self._refiner(predictor), prepared)
        assert result.probabilities is not None, "made by `Refiner.start` without a mask"
        card, image = predictor.card, case.series.grid
        grid = prepared.shown_on(case.image, image).grid
        return doubts_on(image, result.probabilities, grid, card.labels, card.postprocess, card.confidence)

    def brought_up_to_date(self, case: Case, predictor: Predictor, earlier: EarlierLabel) -> np.ndarray:
        """As `Compute.brought_up_to_date`."""
        with self.lock:
            now, _ = self._prepared(case, predictor)
            then, _ = predictor.prepare_case(earlier.images, register=self.register)
            return brought_up_to_date(
                predictor,
                now.shown_on(case.image, case.series.grid),
                then.shown_on(earlier.sequence, earlier.given.grid),
                earlier.given,
                earlier.move,
            )

    def begun(self, key: Hashable) -> bool:
        """As `Compute.begun`."""
        return key in self.caches.starts

    def start(self, case: Case, predictor: Predictor) -> tuple[Start, Timings]:
        """As `Compute.start`."""
        refiner, starts = self._refiner(predictor), self.caches.starts
        with self.lock:
            whole, timings = self._prepared(case, predictor)
            prepared = whole.shown_on(case.image, case.series.grid)
            key = result_key(refiner.card, image_key(case, whole.moves))
            start = starts.get(key, case.state)
            if start is not None:
                return replace(start, prepared=prepared), timings
            # another image of the same case may have been displayed
            known = starts.find(lambda other: isinstance(other, tuple) and other[:4] == key[:4], case.state)
            result, seconds = self._result(case, refiner, whole)
            add(timings, seconds)
            with timed(timings, "prepare"):
                detail = _detail(refiner, prepared, known)
            start = Start(result, detail)
            starts.put(key, case.state, start)
        return replace(start, prepared=prepared), timings

    def refine(
        self, case: Case, predictor: Predictor, start: Start, result: Result, prompts: Prompts
    ) -> Result:
        """As `Compute.refine`."""
        assert start.prepared is not None, "made by `start` of this class"
        with self.lock:
            refiner = self._refiner(predictor)
            return refiner.refine(start.prepared, result, prompts, start.detail)

    def _refiner(self, predictor: Predictor) -> Refiner:
        """Of a version; the latest is kept, since a click should not make one anew."""
        last = self.last
        if last is None or last.predictor is not predictor:
            self.last = last = Refiner(predictor)
        return last

    def _prepared(self, case: Case, predictor: Predictor) -> tuple[Prepared, Timings]:
        """The case as a version's network sees it; from memory if its files are as they were."""
        key, state = _study(case, predictor.card), case.grouping_state
        with self.lock:
            kept = self.caches.prepared.get(key, state)
            if kept is not None:
                return kept, {"read": 0.0, "prepare": 0.0}
            prepared, timings = predictor.prepare_case(case.grouping, register=self.register)
            self.caches.prepared.put(key, state, prepared)
            self.moved.put(key, state, prepared.moves)
            return prepared, timings

    def _result(
        self,
        case: Case,
        refiner: Refiner,
        prepared: Prepared,
        keep: bool = True,
    ) -> tuple[Result, Timings]:
        """The automatic segmentation; from memory if the case's files are as they were."""
        key, results = result_key(refiner.card, image_key(case, prepared.moves)), self.caches.results
        kept = results.get(key, case.state)
        if kept is not None:
            return kept, dict.fromkeys(kept.prediction.timings, 0.0)
        begun = refiner.start(prepared.shown_on(case.image, case.series.grid))
        result = replace(begun, prediction=assessed(begun.prediction))
        if keep:
            results.put(key, case.state, result)
        return result, dict(result.prediction.timings)


def image_key(case: Case, moves: Moves) -> tuple[Hashable, ...]:
    """What results on a displayed image belong to: two sequences on one grid are one image, unless one of
    them was moved.
    """
    grid, move = case.series.grid, moves.get(case.image, np.eye(4))
    return (case.id, grid.shape, np.round(grid.affine, 4).tobytes(), np.round(move, 4).tobytes())


def result_key(card: Card, image: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """What a version's results on an image, as `image_key` has it, are kept under."""
    return (card.name, card.version, card.sha256, *image)


def _study(case: Case, card: Card) -> tuple:
    """What a prepared study depends on, beside the state of its files."""
    return (case.id, card.sequences, card.preparation, card.reference_order)


def _detail(refiner: Refiner, prepared: Prepared, known: Start | None) -> Detail:
    """What another displayed image of the case has shown is the same, unless a sequence was moved."""
    if known is not None and known.detail is not None and not prepared.report:
        return known.detail
    return refiner.detail(prepared)


def add(timings: Timings, more: Mapping[str, float]) -> None:
    """Add seconds to those that are there."""
    for step, seconds in more.items():
        timings[step] = timings.get(step, 0.0) + seconds


@contextmanager
def timed(timings: Timings, step: str) -> Iterator[None]:
    """Add the seconds that the block takes; a yield point comes before it."""
    yield_point()
    begin = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + time.perf_counter() - begin
