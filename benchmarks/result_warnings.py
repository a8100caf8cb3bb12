"""What the warnings of a result are decided by, measured on every case of the development data and on studies
of other kinds.

    python benchmarks/result_warnings.py [--folders brats2013_two open_ms] > table.md

Reads SLEM_DATA. One row a case: ml of the result, share of it within 5 mm of the brain's border (and of the
expert's mask, where there is one), mean probability in it, the largest share of the brain that one sequence
does not show, and the codes of its warnings.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from slem_app.errors import SlemError
from slem_app.grouping import group
from slem_app.phantom import make, make_abdomen
from slem_app.predict import Prediction, Predictor, answer
from slem_app.predict.doubts import near_surface
from slem_app.predict.grids import moved
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.prepare import Prepared, prepare
from slem_app.volumes.read import read, read_all
from slem_app.weights import load_model

FOLDERS = ("brats", "brats2013_two", "unlabelled", "raw_glioma", "open_ms")
BOTTLE = Grid((100, 100, 110), np.array([[2.0, 0, 0, -99], [0, 2, 0, -99], [0, 0, 2, -109], [0, 0, 0, 1]]))
HEADER = "| case | kind | ml | near, result | near, expert | mean probability | not shown | warnings |"


def real(
    data: Path, folders: Sequence[str], cases: Sequence[str] | None
) -> Iterator[tuple[str, str, Mapping[str, Volume], Volume | None]]:
    """Case, kind, its sequences and the expert's mask of glioma."""
    for folder in folders:
        for study in open_source(data / folder):
            if cases and study.id not in cases:
                continue
            truth = read(study.label) if study.label and folder != "open_ms" else None
            yield study.id, folder, read_all(group(study).sequences), truth


def others(
    glioma: Mapping[str, Volume], sclerosis: Mapping[str, Volume]
) -> Iterator[tuple[str, str, Mapping[str, Volume], None]]:
    """Studies that are none, or less than they seem."""
    for seed in (1, 2, 3):
        head = make(seed=seed)
        yield f"head {seed}", "phantom", _volumes(head), None
    belly = list(_volumes(make_abdomen(seed=1)).values())
    yield "abdomen, T1", "phantom", {"t1c": belly[0]}, None
    yield "abdomen, T2", "phantom", {"t2w": belly[2]}, None
    yield "one T1", "of a glioma", {"t1n": glioma["t1n"]}, None
    yield "one T1", "of a patient with MS", {"t1n": sclerosis["t1n"]}, None
    yield "four T1", "of a glioma", dict.fromkeys(glioma, glioma["t1n"]), None
    flipped = {name: Volume(one.array[:, :, ::-1], one.grid) for name, one in glioma.items()}
    yield "upside down", "of a glioma", flipped, None
    for name, array in bottles().items():
        yield name, "made", {"t1c": Volume(array, BOTTLE), "t2f": Volume(array[::-1] * 0.8, BOTTLE)}, None


def bottles() -> dict[str, np.ndarray]:
    """(I, J, K) float32 by name: what may lie in a scanner in place of a head."""
    rng = np.random.default_rng(0)
    noise = 10 * np.hypot(*rng.standard_normal((2, *BOTTLE.shape), dtype=np.float32))
    x, y, z = np.moveaxis(BOTTLE.to_world(np.indices(BOTTLE.shape).reshape(3, -1).T), -1, 0)
    radius, height = np.hypot(x, y).reshape(BOTTLE.shape), np.abs(z).reshape(BOTTLE.shape)
    water = (radius < 80) & (height < 100)
    plug = (radius < 20) & (height > 60)
    skull = (radius < 80) & (radius > 73) & (height < 90)
    tissue = (radius <= 73) & (height < 90)
    return {
        "a bottle of water": np.where(water & ~plug, 800, 0).astype(np.float32) + noise,
        "a CT": np.select([skull, tissue], [900, 35], -1000).astype(np.float32) + noise - 10,
        "an empty field of view": np.zeros(BOTTLE.shape, np.float32),
        "noise": noise,
    }


def last_of(folder: Path) -> Mapping[str, Volume]:
    """The sequences of a folder's last case."""
    source = open_source(folder)
    return read_all(group(source.study(source.ids()[-1])).sequences)


def _volumes(phantom) -> dict[str, Volume]:
    return {
        name: Volume(np.asarray(image, np.float32), phantom.grids[name])
        for name, image in phantom.images.items()
    }


def row(predictor: Predictor, volumes: Mapping[str, Volume], truth: Volume | None) -> str:
    """The cells of one case."""
    card = predictor.card
    reference = next(name for name in card.reference_order if name in volumes)
    grid: Grid = volumes[reference].grid
    detailed = predictor.detailed
    prepared = prepare(volumes, card.sequences, card.preparation, grid, reference, detailed=detailed)
    first = predictor.probabilities(prepared)
    likely = predictor.likely(prepared, first, {})
    known, array = likely.onto(first, prepared.grid), predictor.restored(likely, prepared)
    warnings = (*prepared.warnings, *predictor.doubts(array, known, prepared))
    result = answer(Prediction(array, grid, card.labels, prepared.used, prepared.missing, warnings=warnings))
    outermost = known[0]
    found = outermost >= card.postprocess.threshold
    expert = "" if truth is None else f"{near_surface(_on(truth, prepared), prepared):.2f}"
    sure = f"{outermost[found].mean():.3f}" if found.any() else ""
    shown = prepared.images[prepared.present] != 0
    brain = shown.any(axis=0)
    lacking = max(float((brain & ~one).sum() / brain.sum()) for one in shown)
    ml = np.count_nonzero(result.array) * grid.voxel_volume / 1000
    codes = ", ".join(one.code for one in result.warnings)
    return f"{ml:.1f} | {near_surface(found, prepared):.2f} | {expert} | {sure} | {lacking:.2f} | {codes}"


def _on(truth: Volume, prepared: Prepared) -> np.ndarray:
    return moved(truth.array, truth.grid, prepared.grid, order=0) > 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="slem_brain", help="name or folder")
    parser.add_argument("--folders", nargs="*", default=FOLDERS, help="of real studies")
    parser.add_argument("--cases", nargs="*", help="of them, in place of all")
    parser.add_argument("--real-alone", action="store_true", help="no studies of other kinds")
    chosen = parser.parse_args()
    data = Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data"))
    predictor = Predictor(load_model(chosen.model))
    print(HEADER)
    print("|---|---|---|---|---|---|---|---|")
    for case, kind, volumes, truth in real(data, chosen.folders, chosen.cases):
        print(f"| {case} | {kind} | {row(predictor, volumes, truth)} |", flush=True)
    if chosen.real_alone:
        return
    for case, kind, volumes, truth in others(*(last_of(data / folder) for folder in ("brats", "open_ms"))):
        try:
            cells = row(predictor, volumes, truth)
        except SlemError as error:
            cells = f"| | | | | refused: {error}"
        print(f"| {case} | {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
