"""How far clicks bring a segmentation on the hold-out of a learning round: a simulated reader corrects what
the model shows, and what is shown then is compared with the readers' labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slem_app.evaluate.scores import region_scores
from slem_app.predict import Detail, Predictor, Refiner, Result
from slem_app.prompts import Click, SimulatedReader
from slem_app.rounds.validate import HoldOutScores
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.volumes.read import read_labels
from slem_app.weights import EditorModel, Model

__all__ = ["COUNTED", "MOST_CLICKED", "ClickScores"]

COUNTED = (3, 5)
"""After so many clicks it is measured."""
MOST_CLICKED = 16  # held-out cases that are clicked through, the first ones
SEED = 17


@dataclass(frozen=True, eq=False)
class _Case:
    """One held-out case, ready to be clicked."""

    prepared: Prepared
    truth: np.ndarray
    """(I, J, K) uint8 on `grid`."""
    grid: Grid
    start: Result
    detail: Detail


class ClickScores:
    """Compares editors on the same cases, from the same results.

    Args:
        scores: with the copies of the labels.
    """

    def __init__(self, scores: HoldOutScores) -> None:
        self.scores = scores

    def __call__(self, model: Model, editors: Sequence[EditorModel]) -> list[dict[str, float]]:
        """For each editor {'after 3 clicks': mean Dice of the regions over the cases, ..., 'mean': of both};
        nothing without a case.

        Args:
            model: whose results are corrected, with its second look.
            editors: to be compared, all of one spacing.
        """
        found: list[list[list[float]]] = [[] for _ in editors]
        for number, case in enumerate(list(self.scores.copies)[:MOST_CLICKED]):
            ready = self._ready(replace(model, editor=editors[0]), case)
            for each, editor in zip(found, editors, strict=True):
                refiner = Refiner(Predictor(replace(model, editor=editor), self.scores.device))
                each.append(list(self._clicked(refiner, ready, number)))
        return [_means(each) for each in found]

    def _ready(self, model: Model, case: str) -> _Case:
        truth, grid = read_labels(self.scores.copies[case])
        predictor = Predictor(model, self.scores.device)
        prepared = self.scores.prepared(predictor, case, grid, detailed=True)
        refiner = Refiner(predictor)
        return _Case(
            prepared, truth.astype(np.uint8), grid, refiner.start(prepared), refiner.detail(prepared)
        )

    def _clicked(self, refiner: Refiner, case: _Case, number: int) -> Iterator[float]:
        """Mean Dice after each of the counts of `COUNTED`; where nothing is wrong any more, it stays."""
        labels, rng = refiner.card.labels, np.random.default_rng([SEED, number])
        reader, result = SimulatedReader(labels), case.start
        for count in range(1, max(COUNTED) + 1):
            shots = reader.shots(case.truth, result.prediction.array, case.grid.spacing, rng)
            for shot in shots:
                prompts = result.prompts.with_click(Click.on(case.grid, shot.index, shot.label))
                result = refiner.refine(case.prepared, result, prompts, case.detail)
            if count in COUNTED:
                scores = region_scores(result.prediction.array, case.truth, case.grid, labels, surface=False)
                yield float(np.mean([scores[region.name] for region in labels.regions]))


def _means(each: Sequence[Sequence[float]]) -> dict[str, float]:
    """The means over cases, by what was counted."""
    if not each:
        return {}
    means: Mapping[str, float] = {
        f"after {count} clicks": float(mean)
        for count, mean in zip(COUNTED, np.mean(each, axis=0), strict=True)
    }
    return {**means, "mean": float(np.mean(list(means.values())))}
