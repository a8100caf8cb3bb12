"""What each disturbance of a raw study costs, on stripped cases with truth that are made raw.

    python benchmarks/raw_studies.py --model runs/model --cases ID ID ... --kinds original raw --pictures seen

Reads SLEM_DATA (`brats`, `head_labels`). Give a model that has not seen the cases: the shipped one was
trained on them, and only its LOSS against the undisturbed case means anything. One row a case and
disturbance: Dice of the regions and their mean, on the grid of the result; mm by which sequences had been
moved, and by which the registration is off, on average over brain and sequences; Dice of the brain mask;
codes of the warnings; seconds of preparation and segmentation. The pictures show what the scanner would have
given: a row a series, five slices from the neck to the crown and one across them.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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
from slem_app.weights import load_model

CASES = ("BraTS2021_01476", "Brats18_CBICA_AQN_1", "Brats18_TCIA01_201_1")
SHOWN = (0.2, 0.4, 0.55, 0.7, 0.85)  # of the slices, from below
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


def seed_of(case: str) -> int:
    """The same for a case whatever others are run beside it."""
    return zlib.crc32(case.encode()) % 1000


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
    "3 mm slices": Kind(quiet(thickness=3), False),
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


def picture(raw: RawStudy) -> Image.Image:
    """All series of a study: five slices of each and one across them, anterior and superior on top."""
    rows = []
    for volume in raw.images.values():
        grid = volume.grid
        array = volume.array[:, :: 1 if grid.orientation[1] == "P" else -1]
        array = array[:, :, :: 1 if grid.orientation[2] == "S" else -1]
        bright = np.percentile(array[array > np.percentile(array, 60)], 99)
        slices = [array[:, :, int(share * array.shape[2])].T for share in SHOWN]
        thick = max(1, round(grid.spacing[2] / grid.spacing[1]))
        tiles = [*slices, np.repeat(array[array.shape[0] // 2].T, thick, axis=0)[::-1]]
        high = max(tile.shape[0] for tile in tiles)
        padded = [np.pad(tile, ((0, high - tile.shape[0]), (0, 2))) for tile in tiles]
        rows.append(np.clip(np.hstack(padded) / bright * 255, 0, 255).astype(np.uint8))
    wide = max(one.shape[1] for one in rows)
    return Image.fromarray(np.vstack([np.pad(one, ((0, 2), (0, wide - one.shape[1]))) for one in rows]))


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


def say(line: str, out: Path | None) -> None:
    """Print a line, and add it to a file."""
    print(line, flush=True)
    if out:
        with out.open("a") as file:
            file.write(line + "\n")


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="slem_brain")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--pictures", type=Path, help="folder for a PNG of each made study")
    parser.add_argument("--out", type=Path, help="a table to go on with: rows that it has are not made again")
    chosen = parser.parse_args()
    data = Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data"))
    source, maps = open_source(data / "brats"), list(label_maps(data / "head_labels"))
    predictor = Predictor(load_model(chosen.model))
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
    before = chosen.out.read_text() if chosen.out and chosen.out.exists() else ""
    say(head, None if before else chosen.out)
    for name in chosen.kinds:
        for case in chosen.cases:
            if f"| {name} | {case} |" in before:
                continue
            raw, grid = disturbed(source.study(case), KINDS[name], predictor, maps, seed_of(case))
            if chosen.pictures:
                chosen.pictures.mkdir(parents=True, exist_ok=True)
                picture(raw).save(chosen.pictures / f"{case} {name}.png")
            volumes: list[Volume] = list(read_all(group(source.study(case)).sequences).values())
            brain = np.any([one.array != 0 for one in volumes], axis=0)
            try:
                cells = row(raw, brain, grid, predictor)
            except SlemError as error:
                cells = ["", "", "", "", "", "", "", f"refused: {error}", "", ""]
            say(f"| {name} | {case} | {' | '.join(cells)} |", chosen.out)


if __name__ == "__main__":
    main()
