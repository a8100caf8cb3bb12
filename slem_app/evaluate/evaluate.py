"""A model against the truth of studies: predicted as in serving, compared on the truth's own grid, one row a
case and region.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import SlemError
from slem_app.evaluate.scores import dice, surface_distances, volume_difference
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.predict import Predictor
from slem_app.studies import Study, StudySource
from slem_app.volumes.geometry import overlap

__all__ = ["METRICS", "Evaluation", "RegionScores", "evaluate"]

METRICS: Mapping[str, str] = {"dice": "Dice", "ravd": "RAVD %", "assd": "ASSD mm", "mssd": "MSSD mm"}
"""Those of the CHAOS challenge (Kavur et al., Medical Image Analysis 69, 2021), field -> what it is called.
"""


@dataclass(frozen=True)
class RegionScores:
    """One region of one case."""

    case: str
    """Id of the study, or of a part of it."""
    region: str
    """Name."""
    dice: float
    """0..1; 1 where neither has anything."""
    ravd: float
    """Relative absolute volume difference, %; infinite where there is no truth but a prediction."""
    assd: float
    """Average symmetric surface distance, mm; infinite where one of both is empty."""
    mssd: float
    """Maximum symmetric surface distance, mm, likewise."""
    reference: str
    """Sequence on whose grid the truth lies."""
    sequences: str
    """Those that were used."""


@dataclass(frozen=True)
class Evaluation:
    """All rows, and what was left out."""

    rows: tuple[RegionScores, ...]
    """Cases in order, regions in the model's order."""
    skipped: Mapping[str, str]
    """Case -> why."""

    def mean(self, region: str, metric: str) -> float:
        """Mean over the cases in which the metric is finite; NaN if there is none."""
        values = [getattr(row, metric) for row in self.rows if row.region == region]
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")

    def missed(self, region: str) -> int:
        """Cases in which either the truth or the prediction has nothing, but not both."""
        return sum(row.region == region and not np.isfinite(row.mssd) for row in self.rows)

    def table(self) -> str:
        """Means for people, one line a region."""
        regions = list(dict.fromkeys(row.region for row in self.rows))
        width = max([6, *map(len, regions)]) + 2
        lines = [
            f"{'region':<{width}}"
            + "".join(f"{name:>10}" for name in METRICS.values())
            + "    cases  not found"
        ]
        for region in regions:
            values = "".join(
                f"{self.mean(region, metric):>10.3f}"
                if metric == "dice"
                else f"{self.mean(region, metric):>10.2f}"
                for metric in METRICS
            )
            lines.append(
                f"{region:<{width}}{values}{sum(row.region == region for row in self.rows):>9}"
                f"{self.missed(region):>11}"
            )
        return "\n".join(lines)

    def csv(self) -> str:
        """Every row, as CSV."""
        out = io.StringIO()
        writer = csv.DictWriter(
            out, ["case", "region", *METRICS, "reference", "sequences"], lineterminator="\n"
        )
        writer.writeheader()
        for row in self.rows:
            writer.writerow({**vars(row), **{metric: f"{getattr(row, metric):.4f}" for metric in METRICS}})
        return out.getvalue()


def evaluate(
    predictor: Predictor,
    source: StudySource,
    cases: Sequence[str],
    seen: Callable[[str], object] | None = None,
) -> Evaluation:
    """Predict studies and compare with their truths, a study's parts each with their own.

    Args:
        predictor: the model.
        source: where the studies are.
        cases: which of them.
        seen: called with each case's id, for a progress bar.
    """
    rows: list[RegionScores] = []
    skipped: dict[str, str] = {}
    for case in cases:
        try:
            study = source.study(case)
            for one in (study, *study.parts):
                if one.label is not None:
                    rows += _rows(predictor, one)
            if study.label is None and not study.parts:
                skipped[case] = "there is no segmentation in this study"
        except SlemError as error:
            skipped[case] = str(error)
        if seen is not None:
            seen(case)
    return Evaluation(tuple(rows), skipped)


def _rows(predictor: Predictor, study: Study) -> Iterator[RegionScores]:
    labels = predictor.card.labels
    expected, grid = truth(study, labels)
    grouping = group(study)
    there = {name: series for name, series in grouping.sequences.items() if name in predictor.card.sequences}
    reference = max(
        there,
        key=lambda name: (there[name].grid.same_as(grid), overlap(grid, there[name].grid)),
        default=None,
    )
    prepared, _ = predictor.prepare_case(grouping, reference)
    result = predictor.predict(replace(prepared, reference=grid))
    for region, mine, right in zip(
        labels.regions, labels.region_masks(result.array), labels.region_masks(expected), strict=True
    ):
        average, largest = surface_distances(mine, right, grid.spacing)
        yield RegionScores(
            study.id,
            region.name,
            dice(mine, right),
            volume_difference(mine, right),
            average,
            largest,
            str(reference),
            " ".join(result.used),
        )
