"""Clicks of a label that no training knew: lesions of multiple sclerosis, from nothing, answered by an editor
and by the rule that models without one have.

    python benchmarks/other_labels.py --data ../shared/data/open_ms

The label set is one label; no automatic result is known. A robot clicks into the middle of the largest error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from editor import pointed
from page import table

from slem_app.evaluate.scores import region_scores
from slem_app.grouping import group
from slem_app.labels import LabelSet, Region
from slem_app.predict import Prediction, Predictor, Refiner, Result
from slem_app.prompts import Click, Mask, Prompts
from slem_app.studies import Study, open_source
from slem_app.volumes.prepare import Prepared, prepare
from slem_app.volumes.read import read_all, read_labels
from slem_app.weights import Card, Model, load_editor, load_model
from slem_app.weights.card import Confidence

LESION = "lesion"
ARMS = ("editor", "rule")


@dataclass(frozen=True)
class OtherLabels:
    """Click from nothing."""

    data: Path = Path("../shared/data/open_ms")
    """Folder of labelled studies; every value of their labels is the lesion."""
    model: str = "slem_brain"
    """Whose preparation and sequences are used; its network is not asked."""
    editor: str = "slem_brain_editor"
    """Name or folder."""
    sequences: tuple[str, ...] = ()
    """Use these alone; default: all that a case has."""
    clicks: int = 5
    """A session."""

    def run(self) -> None:
        """Print a row a case and arm."""
        torch.set_num_threads(1)
        model = load_model(self.model)
        card = one_label(model.card)
        model = replace(model, card=card, detail=None, editor=load_editor(self.editor))
        rows = []
        for study in open_source(self.data):
            truth, grid = read_labels(study.label)
            wanted = (truth > 0).astype(np.uint8)
            prepared = self.prepared(study, card, grid)
            for arm in ARMS:
                curve, false = self.session(model, arm, prepared, wanted)
                ml = f"{grid.millilitres(wanted > 0):.1f}"
                dice = " ".join(f"{one:.3f}" for one in curve)
                rows.append([study.id, ml, "+".join(prepared.used), arm, dice, f"{false:.1f}"])
        head = (
            "case",
            "ml",
            "sequences",
            "answered by",
            "Dice after 1, 2, ... clicks",
            "first click: false ml",
        )
        print("\n".join(table(head, rows)))

    def prepared(self, study: Study, card: Card, grid: object) -> Prepared:
        """The case on the label's grid."""
        found = group(study).sequences
        volumes = read_all({n: s for n, s in found.items() if n in (self.sequences or card.sequences)})
        return prepare(volumes, card.sequences, card.preparation, grid, detailed=True)

    def session(
        self, model: Model, arm: str, prepared: Prepared, wanted: np.ndarray
    ) -> tuple[list[float], float]:
        """Dice after each click, and the false millilitres of the first."""
        refiner = Refiner(Predictor(model if arm == "editor" else replace(model, editor=None)))
        labels, grid, rng = refiner.card.labels, prepared.reference, np.random.default_rng(0)
        blank = np.zeros(grid.shape, np.uint8, order="F")
        shown = Prediction(blank, grid, labels, prepared.used, prepared.missing)
        result, detail = Result(shown, None, Prompts(mask=Mask(blank, grid))), refiner.detail(prepared)
        curve, false = [], 0.0
        for _ in range(self.clicks):
            aim = pointed("largest", result.prediction.array, wanted, grid.spacing, rng)
            if aim is None:
                break
            click = Click.on(grid, aim.voxel, LESION if aim.value else "", labels)
            result = refiner.refine(prepared, result, result.prompts.with_click(click), detail)
            array = result.prediction.array
            false = false if curve else grid.millilitres((array > 0) & (wanted == 0))
            curve.append(region_scores(array, wanted, grid, labels, surface=False)[LESION])
        return curve, false


def one_label(card: Card) -> Card:
    """The card with one label that no editor knows by name."""
    label = replace(card.labels.labels[0], name=LESION, value=1)
    clean = replace(card.postprocess, smallest={}, region_minimum={})
    return replace(
        card,
        labels=LabelSet((label,), (Region(LESION, (LESION,)),)),
        network=replace(card.network, regions=1),
        postprocess=clean,
        recalibration={},
        confidence=Confidence(),
        detail="",
        editor="",
    )


if __name__ == "__main__":
    tyro.cli(OtherLabels).run()
