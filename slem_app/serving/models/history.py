"""What a reader has asked for so far: per reader, case and grid, the segmentation that is shown, the prompts
behind it, and the way there.

Clients send their prompts but no segmentation, so the last one must be remembered here. What is shown depends
on nothing but the start (the automatic result, or a mask that the client sent) and the prompts in the order
in which they came. Hence nothing of it is kept on disk: after a restart, or when the memory was needed for
others, the same prompts, which the client sends again in full, give the same segmentation again. What cannot
be made again is told in the reply, never guessed: the order of prompts across labels, steps to undo, and a
mask that was only sent along (a label that was submitted is in the label store). A work is bound to the state
of the case's files and, by its key, to the model's weights: when either changes it is forgotten.

Concurrency: whoever reads or changes a work holds the lock of its key (`locked`). Works change by whole
values at the end of a request, so one that fails changes nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slem_app.errors import BadPrompt
from slem_app.predict import Result
from slem_app.prompts import Click, Prompts, Scribble
from slem_app.volumes.geometry import bounding_box

__all__ = ["EditHistory", "Moment", "Work", "less"]

Entry = Click | Scribble
Box3 = tuple[slice, slice, slice]
NOWHERE = (slice(0, 0),) * 3
STRIPES = 1024  # locks; two keys that share one only wait for each other


@dataclass(frozen=True, eq=False)
class Moment:
    """A point on the way, without its label map."""

    start: Result
    """What the prompts are applied to."""
    prompts: Prompts = field(default_factory=Prompts)
    """Those that are in effect."""
    clicks: Mapping[str | None, tuple[Click, ...]] = field(default_factory=dict)
    """What the client lists: by label, or all under None."""
    scribbles: tuple[Scribble, ...] = ()
    """What it painted last."""
    settled: tuple[Entry, ...] = ()
    """Listed still but without effect: undone, or older than the mask."""


@dataclass(frozen=True, eq=False)
class Step:
    """How to get to a moment from the one beside it."""

    moment: Moment
    """That moment."""
    box: Box3
    """Where the label map differs."""
    was: np.ndarray
    """What was there."""


@dataclass(frozen=True, eq=False)
class Work:
    """One reader's work on one image."""

    now: Moment
    """Where it stands."""
    array: np.ndarray
    """(I, J, K) uint8, what the reader sees."""
    past: tuple[Step, ...] = ()
    """The way there, oldest first."""
    future: tuple[Step, ...] = ()
    """What was taken back and can be done again, the next one last."""

    @classmethod
    def begin(cls, start: Result) -> Work:
        """Nothing asked for yet."""
        return cls(Moment(start, start.prompts), start.prediction.array)

    @property
    def result(self) -> Result:
        """What the reader sees, ready to be refined."""
        return _result(self.now, self.array)

    @property
    def placed(self) -> int:
        """Prompts that the reader has placed, those that were undone or are part of a mask by now included;
        not those that the client lists no more.
        """
        clicks = [click for listed in self.now.clicks.values() for click in listed]
        every = (*clicks, *self.now.scribbles, *self.now.prompts.entries, *self.now.settled)
        return len({one.plain for one in every})

    @property
    def busiest(self) -> Moment:
        """The moment at which the most prompts were in effect since their start, the latest of several: a
        mask from the client takes the place of all that came before it.
        """
        moments = (self.now, *(step.moment for step in reversed(self.past)))
        return max(moments, key=lambda moment: len(moment.prompts.entries))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; what several works share counts for each."""
        starts = {id(m.start): m.start.nbytes for m in (self.now, *(step.moment for step in self._steps))}
        return self.array.nbytes + sum(starts.values()) + sum(step.was.nbytes for step in self._steps)

    @property
    def _steps(self) -> tuple[Step, ...]:
        return (*self.past, *self.future)

    def ahead(self, moment: Moment, array: np.ndarray, changed: Box3 | None = None) -> Work:
        """One step further; where nothing but the reach of the step's own prompts is another, the step with
        that in its place.

        Args:
            moment: where that is.
            array: what the reader sees then.
            changed: box outside which nothing differs; None: anything may.
        """
        if self._reaches_otherwise(moment):
            before = _patched(self.array, self.past[-1])
            where = _difference(before, array, None) or NOWHERE
            return Work(moment, array, (*self.past[:-1], _step(self.past[-1].moment, where, before)))
        box = _difference(self.array, array, changed)
        if box is None and moment.prompts == self.now.prompts and moment.start is self.now.start:
            return replace(self, now=moment)
        return Work(moment, array, (*self.past, self._here(box or NOWHERE)))

    def back(self) -> Work:
        """One step back; what the client listed meanwhile stays known, without effect.

        Raises:
            BadPrompt: there was no step.
        """
        if not self.past:
            raise BadPrompt("there is nothing to undo: no step of this reader on this image is remembered")
        step = self.past[-1]
        before = step.moment
        undone = less(self.now.prompts.entries, before.prompts.entries)
        moment = replace(before, clicks=self.now.clicks, settled=(*before.settled, *undone))
        again = self._here(step.box)
        return Work(moment, _patched(self.array, step), self.past[:-1], (*self.future, again))

    def forward(self) -> Work:
        """The step that was taken back last, done again.

        Raises:
            BadPrompt: nothing was taken back, or something else was done since.
        """
        if not self.future:
            raise BadPrompt("there is nothing to redo: no step was undone, or something was done since")
        step = self.future[-1]
        moment = replace(step.moment, clicks=self.now.clicks)
        past = (*self.past, self._here(step.box))
        return Work(moment, _patched(self.array, step), past, self.future[:-1])

    def _here(self, box: Box3) -> Step:
        """How to come back to where the work stands, from a label map that differs in a box."""
        return _step(self.now, box, self.array)

    def _reaches_otherwise(self, moment: Moment) -> bool:
        """Whether a moment is the present one but for the reach of prompts that came with the last step."""
        other = moment.prompts.other_reach(self.now.prompts)
        if not other or not self.past or moment.start is not self.now.start:
            return False
        known = self.past[-1].moment
        older = {one.plain for one in known.prompts.entries} if known.start is moment.start else set()
        return not any(one.plain in older for one in other)

    def nearest(self, prompts: Prompts, start: Result) -> tuple[Result, bool]:
        """The latest result from which `prompts` are reached by adding only, and whether that is the present
        one.
        """
        array, moment = self.array, self.now
        for step in (*reversed(self.past), None):
            if (
                moment.start is start
                and prompts.since(moment.prompts) is not None
                and moment.prompts.box in (None, prompts.box)
            ):
                return _result(moment, array), array is self.array
            if step is not None:
                array, moment = _patched(array, step), step.moment
        return start, False

    def shortened(self, limit: int) -> Work:
        """With as much of the past, the latest first, as `limit` bytes hold; what was taken back goes
        first.
        """
        work = replace(self, future=()) if self.nbytes > limit else self
        while work.past and work.nbytes > limit:
            work = replace(work, past=work.past[1:])
        return work


class EditHistory:
    """Works by key, the least recently used given up first.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.works: OrderedDict[Hashable, tuple[Hashable, Work]] = OrderedDict()
        # a thread that holds one answers clicks of other readers in between, whose keys may share it
        self.locks = tuple(threading.RLock() for _ in range(STRIPES))
        self.guard = threading.Lock()

    @contextmanager
    def locked(self, key: Hashable) -> Iterator[None]:
        """Alone with the work of `key`."""
        with self.locks[hash(key) % STRIPES]:
            yield

    @property
    def used(self) -> int:
        """Bytes held."""
        with self.guard:
            return sum(work.nbytes for _, work in self.works.values())

    def get(self, key: Hashable, state: Hashable) -> Work | None:
        """The work, if it is remembered and the case is in that state still."""
        with self.guard:
            known = self.works.get(key)
            if known is None or known[0] != state:
                return None
            self.works.move_to_end(key)
            return known[1]

    def find(self, match: Callable[[Any], bool]) -> tuple[Work, ...]:
        """The works whose keys match, in whatever state their cases were."""
        with self.guard:
            return tuple(work for key, (_, work) in self.works.items() if match(key))

    def forget(self, reader: str) -> None:
        """Give up all works of a reader."""
        with self.guard:
            for key in [key for key in self.works if isinstance(key, tuple) and key[0] == reader]:
                del self.works[key]

    def put(self, key: Hashable, state: Hashable, work: Work) -> Work:
        """Remember a work, at the cost of its own oldest steps, then of others; returns what is
        remembered.
        """
        work = work.shortened(self.limit)
        with self.guard:
            self.works.pop(key, None)
            if work.nbytes > self.limit:
                return work
            self.works[key] = (state, work)
            total = sum(each.nbytes for _, each in self.works.values())
            while total > self.limit:
                _, (_, gone) = self.works.popitem(last=False)
                total -= gone.nbytes
        return work


def less(entries: Sequence[Entry], others: Sequence[Entry]) -> tuple[Entry, ...]:
    """`entries` without `others` of whatever reach, each of those counting once."""
    left, rest = Counter(other.plain for other in others), []
    for entry in entries:
        if left[entry.plain] > 0:
            left[entry.plain] -= 1
        else:
            rest.append(entry)
    return tuple(rest)


def _step(moment: Moment, box: Box3, array: np.ndarray) -> Step:
    """How to come to a moment with this label map, from one that differs in a box."""
    return Step(moment, box, np.ascontiguousarray(array[box]))


def _result(moment: Moment, array: np.ndarray) -> Result:
    return Result(replace(moment.start.prediction, array=array), moment.start.probabilities, moment.prompts)


def _patched(array: np.ndarray, step: Step) -> np.ndarray:
    array = array.copy(order="K")
    array[step.box] = step.was
    return array


def _difference(before: np.ndarray, after: np.ndarray, within: Box3 | None) -> Box3 | None:
    """The smallest box outside which two label maps are the same; None where they are the same everywhere."""
    offset = [0, 0, 0] if within is None else [s.start for s in within]
    differs = before != after if within is None else before[within] != after[within]
    box = bounding_box(differs)
    if not differs[box].size:
        return None
    i, j, k = (slice(o + s.start, o + s.stop) for o, s in zip(offset, box, strict=True))
    return i, j, k
