"""What each disturbance of a raw study costs, on stripped cases with truth that are made raw.

    python benchmarks/raw_studies.py --kinds original raw

Reads SLEM_DATA (`brats`, `head_labels`). The shipped model was trained on these cases: what is measured is
the LOSS against the undisturbed case, not how good the model is. One row a case and disturbance: Dice of the
regions and their mean, on the grid of the result; mm by which sequences had been moved, and by which the
registration is off, on average over brain and sequences; Dice of the brain mask; codes of the warnings;
seconds of preparation and segmentation.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slem_app.errors import SlemError
from slem_app.evaluate.scores import dice
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.phantom.heads import label_maps, read_map
from slem_app.phantom.raw import RawSettings, RawStudy, make_raw
from slem_app.predict import Predictor, assessed
from slem_app.studies import Study, open_source
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.prepare import Prepared, prepare
from slem_app.volumes.read import read_all
from slem_app.weights import load_model, model_folder

CASES = ("BraTS2021_01476", "Brats18_CBICA_AQN_1", "Brats18_TCIA01_201_1")
COLUMNS = (
    *("disturbance", "case", "WT", "TC", "ET", "mean", "moved, mm", "off, mm", "mask Dice", "warnings"),
    *("prepare, s", "segment, s"),
)


@dataclass(frozen=True)
class Kind:
    """One disturbance."""

    settings: RawSettings
    """How much."""
    whole: bool
    """A head is put around the brain."""


def quiet(**changes: float) -> RawSettings:
    """Nothing but what is named."""
    still = dict.fromkeys(("shift", "turn", "angled", "thickness", "bias", "noise"), 0.0)
    return RawSettings(**{**still, **changes})


KINDS = {
    "original": Kind(quiet(), False),
    "raw": Kind(RawSettings(), True),
    "raw, 1 mm": Kind(RawSettings(thickness=0), True),
    "whole heads": Kind(quiet(), True),
    "moved": Kind(quiet(shift=8, turn=4, angled=6), False),
    "5 mm slices": Kind(quiet(thickness=5), False),
    "bias and noise": Kind(quiet(bias=0.15, noise=0.02), False),
    "FLAIR cut": Kind(quiet(cut=0.25), False),
}
"""By name; `raw` is all but the cut."""


def disturbed(
    study: Study, kind: Kind, predictor: Predictor, maps: list[Path], seed: int
) -> tuple[RawStudy, Grid]:
    """The study made raw, and the grid of the case."""
    volumes = read_all(group(study).sequences)
    labels, grid = truth(study, predictor.card.labels)
    head = read_map(maps[seed % len(maps)]) if kind.whole else None
    return make_raw(volumes, labels, grid, head, seed, kind.settings), grid


def row(raw: RawStudy, brain: np.ndarray, grid: Grid, predictor: Predictor) -> list[str]:
    """The cells of one case after its name."""
    card = predictor.card
    fixed = next(name for name in card.reference_order if name in raw.images)
    own = raw.images[fixed].grid
    start = time.perf_counter()
    prepared = prepare(raw.images, card.sequences, card.preparation, own, fixed, detailed=predictor.detailed)
    middle = time.perf_counter()
    result = assessed(predictor.predict(prepared))
    end = time.perf_counter()
    wanted, found = (card.labels.region_masks(one) for one in (raw.truths[fixed], result.array))
    scores = [100 * dice(a, b) for a, b in zip(found, wanted, strict=True)]
    moved, off = distances(raw, prepared, fixed, brain, grid)
    masked = ""
    if prepared.brain is not None:
        there = prepared.brain.moved(np.linalg.inv(raw.moves[fixed])).on(grid)
        masked = f"{dice(there, brain):.3f}"
    codes = ", ".join(one.code for one in result.warnings)
    numbers = [f"{one:.1f}" for one in (*scores, np.mean(scores), moved, off)]
    return [*numbers, masked, codes, f"{middle - start:.0f}", f"{end - middle:.0f}"]


def distances(
    raw: RawStudy, prepared: Prepared, fixed: str, brain: np.ndarray, grid: Grid
) -> tuple[float, float]:
    """How far, in mm, sequences had been moved against the one that stays, and the chain is off."""
    points = grid.to_world(np.argwhere(brain)[::997])
    points = np.column_stack([points, np.ones(len(points))]) @ raw.moves[fixed].T  # in the fixed one's world
    moved, off = [0.0], [0.0]
    for name in set(prepared.used) - {fixed}:
        true = points @ (raw.moves[name] @ np.linalg.inv(raw.moves[fixed])).T
        made = points @ prepared.moves.get(name, np.eye(4)).T
        moved.append(float(np.linalg.norm((true - points)[:, :3], axis=1).mean()))
        off.append(float(np.linalg.norm((true - made)[:, :3], axis=1).mean()))
    return float(np.mean(moved[1:] or moved)), float(np.mean(off[1:] or off))


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cases", nargs="+", default=["BraTS2021_01476", "Brats18_CBICA_AQN_1", "Brats18_TCIA01_201_1"]
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    chosen = parser.parse_args()
    data = Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data"))
    source, maps = open_source(data / "brats"), list(label_maps(data / "head_labels"))
    predictor = Predictor(load_model(model_folder("slem_brain")))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in chosen.kinds:
        for number, case in enumerate(chosen.cases, 1):
            raw, grid = disturbed(source.study(case), KINDS[name], predictor, maps, number)
            volumes: list[Volume] = list(read_all(group(source.study(case)).sequences).values())
            brain = np.any([one.array != 0 for one in volumes], axis=0)
            try:
                cells = row(raw, brain, grid, predictor)
            except SlemError as error:
                cells = ["", "", "", "", "", "", "", f"refused: {error}", "", ""]
            print(f"| {name} | {case} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
