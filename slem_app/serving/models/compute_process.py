"""What a process of a cluster does for a server: it keeps prepared cases, features and starts of the cases
that are sent to it, and computes with them. It remembers nothing of readers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from slem_app.devices import read_device
from slem_app.predict import Predictor, Result
from slem_app.predict.check_here import Doubts
from slem_app.prompts import Prompts
from slem_app.result_warning import ResultWarning
from slem_app.selection import LabelMap, Measures, measure
from slem_app.serving.cases.case import Case
from slem_app.serving.models.compute import (
    Caches,
    EarlierLabel,
    LocalCompute,
    Moves,
    Start,
    Timings,
    image_key,
    result_key,
)
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.weights import Model

__all__ = ["Asked", "ComputeProcess", "Corrected", "ProcessSettings", "Version", "light"]

T = TypeVar("T")
MOST = 10_000  # calls that may wait; the server limits the requests of its clients itself
FOREVER = 24 * 3600.0  # seconds that a call may wait, likewise


@dataclass(frozen=True)
class ProcessSettings:
    """What a process needs of the server's settings."""

    device: str
    """As `read_device` takes it, there."""
    threads: int
    """Of torch; 0: as many as it takes."""
    cache_mb: int
    """MiB of prepared volumes."""
    memory_mb: int
    """MiB of starts."""
    register: bool
    """Move the sequences of a case onto the requested one first."""


@dataclass(frozen=True)
class Version:
    """A version of a model."""

    name: str
    """Of the model."""
    version: str
    """As its card has it."""
    sha256: str
    """Of its weights."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A correction that is wanted. One value, so that a mask in both lists of prompts stays one object on the
    way.
    """

    case: Case
    """The case."""
    result: Result
    """What the reader sees, as `light`."""
    prompts: Prompts
    """All prompts."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """What a correction has changed: the rest of the segmentation need not travel."""

    box: tuple[slice, slice, slice]
    """Outside which nothing differs."""
    values: np.ndarray
    """Label values in it."""
    timings: Mapping[str, float]
    """Seconds by step."""
    warnings: tuple[ResultWarning, ...]
    """What the reader must know."""

    @classmethod
    def of(cls, result: Result) -> Corrected:
        """Of a result of `Refiner.refine`."""
        prediction, box = result.prediction, result.changed
        assert box is not None, "a correction says where it changed anything"
        return cls(box, prediction.array[box], prediction.timings, prediction.warnings)

    def onto(self, shown: Result, prompts: Prompts) -> Result:
        """The result.

        Args:
            shown: what was corrected.
            prompts: that it obeys now.
        """
        array = shown.prediction.array.copy(order="K")
        array[self.box] = self.values
        prediction = replace(shown.prediction, array=array, timings=self.timings, warnings=self.warnings)
        return Result(prediction, shown.probabilities, prompts, self.box)


def light(result: Result) -> Result:
    """Without what the server has no use for."""
    return replace(result, probabilities=None)


class ComputeProcess:
    """In a process of a cluster. Its methods may be called from many threads; one thread computes, clicks
    first (`RequestQueue`).

    Args:
        settings: of the server.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self.settings = settings
        self.versions: dict[Version, Predictor] = {}
        self.computes: dict[str, LocalCompute] = {}

    def begin(self) -> None:
        """Make ready.

        Raises:
            BadSetting: no such device.
        """
        self.device = read_device(self.settings.device)
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        self.caches = Caches.of_size(self.settings.cache_mb, self.settings.memory_mb)
        self.queue = RequestQueue(MOST, FOREVER, FOREVER)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="queue", daemon=True).start()

    def load(self, version: Version, model: Model) -> None:
        """Make a version of a model ready."""
        if version not in self.versions:
            self.versions[version] = Predictor(model, self.device)
            self.computes.setdefault(version.name, LocalCompute(self.caches, self.settings.register))

    def prepare(self, version: Version, case: Case) -> tuple[Moves, Timings]:
        """As `Compute.prepare`."""
        compute, predictor = self._of(version)
        return self._do(case, Kind.FIRST_CLICK, lambda: compute.prepare(case, predictor))

    def automatic(self, version: Version, case: Case, keep: bool) -> tuple[Result, Timings, Moves | None]:
        """As `Compute.automatic`, with how the sequences were moved."""
        compute, predictor = self._of(version)

        def work() -> tuple[Result, Timings, Moves | None]:
            result, timings = compute.automatic(case, predictor, keep)
            return light(result), timings, compute.known_moves(case, predictor)

        return self._do(case, Kind.AUTOMATIC if keep else Kind.BACKGROUND, work)

    def doubts(self, version: Version, case: Case) -> Doubts:
        """As `Compute.doubts`."""
        compute, predictor = self._of(version)
        return self._do(case, Kind.AUTOMATIC, lambda: compute.doubts(case, predictor))

    def brought_up_to_date(self, version: Version, case: Case, earlier: EarlierLabel) -> np.ndarray:
        """As `Compute.brought_up_to_date`."""
        compute, predictor = self._of(version)
        work = partial(compute.brought_up_to_date, case, predictor, earlier)
        return self._do(case, Kind.FIRST_CLICK, work)

    def start(self, version: Version, case: Case) -> tuple[Result, Timings]:
        """As `Compute.start`: the result alone; the rest stays here."""
        compute, predictor = self._of(version)

        def work() -> tuple[Result, Timings]:
            start, timings = compute.start(case, predictor)
            return light(start.result), timings

        return self._do(case, Kind.FIRST_CLICK, work)

    def refine(self, version: Version, asked: Asked) -> Corrected:
        """As `Compute.refine`; where nothing is known of the case here, it is begun first."""
        compute, predictor = self._of(version)
        case = asked.case
        moves = compute.known_moves(case, predictor)
        begun = moves is not None and compute.begun(result_key(predictor.card, image_key(case, moves)))

        def work() -> Corrected:
            start: Start = compute.start(case, predictor)[0]
            shown = replace(asked.result, probabilities=start.result.probabilities)
            return Corrected.of(compute.refine(case, predictor, start, shown, asked.prompts))

        return self._do(case, Kind.CLICK if begun else Kind.FIRST_CLICK, work)

    def measure(self, version: Version, case: Case, before: LabelMap | None) -> tuple[Measures, LabelMap]:
        """Score a case, as `selection.measures.measure` does; everything else goes first."""
        _, predictor = self._of(version)

        def work() -> tuple[Measures, LabelMap]:
            prepared, _ = predictor.prepare_case(case.grouping, case.sequence, self.settings.register)
            return measure(predictor, prepared, before)

        return self._do(case, Kind.BACKGROUND, work)

    def _of(self, version: Version) -> tuple[LocalCompute, Predictor]:
        return self.computes[version.name], self.versions[version]

    def _do(self, case: Case, kind: Kind, work: Callable[[], T]) -> T:
        """Do some work when it is its turn."""
        return asyncio.run_coroutine_threadsafe(self.queue.run(case.id, work, kind=kind), self.loop).result()
