"""How good a network is on the hold-out of a learning round: predicted as in serving, compared on the
reader's grid.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slem_app.errors import NotFound, SlemError
from slem_app.evaluate.confidence import Observed, observed
from slem_app.evaluate.scores import region_scores
from slem_app.grouping import group
from slem_app.network import Segmenter
from slem_app.predict import Predictor
from slem_app.rounds.labelled import LabelledStudies
from slem_app.studies import Series
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared, prepare
from slem_app.volumes.read import read_labels
from slem_app.weights import Model

__all__ = ["HoldOutScores"]


class HoldOutScores:
    """Scores networks on the same cases and the same labels, whatever readers do meanwhile: the labels are
    copied first.

    Args:
        studies: the labelled cases.
        cases: those to score on, none in any process but the first; one that is gone meanwhile is left out,
            see `left_out`.
        cache: with all of them prepared.
        model: the served one; of its networks the first is to be replaced.
        folder: for the copies, made anew.
        device: where to predict.
    """

    def __init__(
        self,
        studies: LabelledStudies,
        cases: Sequence[str],
        cache: CaseCache,
        model: Model,
        folder: Path,
        device: str,
    ) -> None:
        self.cache, self.model, self.device = cache, model, device
        self.studies = studies
        self.folder, self.left_out = folder, {}
        self.copies: dict[str, Series] = {}
        if cases:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for number, case in enumerate(cases):
            copy = folder / f"{number:04d}.nii.gz"
            try:
                label = studies.study(case).label
                if label is None:
                    raise NotFound(f"{case} no longer has a label")
                shutil.copyfile(label.paths[0], copy)
                self.copies[case] = Series(case, (copy,), "nifti", case)
            except (SlemError, FileNotFoundError) as error:
                self.left_out[case] = str(error)

    def __call__(
        self,
        network: Segmenter,
        most: int | None = None,
        again: bool = False,
        finer: Segmenter | None = None,
        into: list[Observed] | None = None,
    ) -> dict[str, float]:
        """{'WT': mean Dice over the cases, ..., 'mean': over regions}; {} without a case.

        Args:
            network: to be measured.
            most: only on so many cases, the first ones.
            again: with the second look of a model that has one, as served. That takes the images, not the
                cache, and several times as long; without it the networks' first answers are compared.
            finer: the network that looks again, where it is another one than the model's.
            into: gets what the probabilities said of each case beside its truth.
        """
        detail = self.model.detail if again else None
        if detail is not None and finer is not None:
            detail = replace(detail, network=finer)
        predictor = Predictor(replace(self.model, network=network, detail=detail), self.device)
        scores = [self._score(predictor, case, into) for case in list(self.copies)[:most]]
        each = (
            {
                region.name: float(np.mean([one[region.name] for one in scores]))
                for region in self.model.card.labels.regions
            }
            if scores
            else {}
        )
        return each | ({"mean": float(np.mean(list(each.values())))} if each else {})

    def _score(
        self, predictor: Predictor, case: str, into: list[Observed] | None = None
    ) -> Mapping[str, float]:
        truth, grid = read_labels(self.copies[case])  # its values were checked when the case was prepared
        truth = truth.astype(np.uint8)
        prepared = self.prepared(predictor, case, grid, detailed=predictor.finer is not None)
        found, probabilities = predictor.segment(prepared)
        if into is None:
            return region_scores(found.array, truth, grid, predictor.card.labels, surface=False)
        into.append(observed(found, probabilities, prepared.grid, truth))
        return into[-1].dice

    def prepared(self, predictor: Predictor, case: str, grid: Grid, detailed: bool) -> Prepared:
        """A case on the grid of its label.

        Args:
            predictor: of the model that is to see it.
            case: one of `copies`.
            grid: of its label.
            detailed: with its images at their own detail, which takes longer; else as the cache has it.
        """
        if detailed:
            grouping = group(self.studies.study(case))
            volumes, fixed, _ = predictor.read_case(grouping)
            card = predictor.card
            return prepare(volumes, card.sequences, card.preparation, grid, fixed, detailed=True)
        cached = self.cache.load(case)
        images = np.array(cached.images, dtype=np.float32)
        return Prepared(images, cached.present, predictor.card.sequences, cached.grid, grid)
