"""The mirrored passes of a model over cases that it has not seen, kept beside their truth for `trust.py`.

    python trust_maps.py --model FOLDER --out FOLDER

Reads SLEM_DATA. One file a case and set of sequences: `passes` (4, R, I, J, K) float16 probabilities of
`MIRRORS`,
`truth` (I, J, K) uint8 label values by the nearest voxel, `image` (I, J, K) float16 of the reference
sequence, and
`affine`, all on the network's grid. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cases import SIXTEEN

from slem_app.finetune.cases import truth
from slem_app.grouping import Grouping, group
from slem_app.predict import Predictor
from slem_app.selection.measures import MIRRORS
from slem_app.studies import open_source
from slem_app.volumes.geometry import resample
from slem_app.weights import load_model

SUBSETS = {"all": (), "t1c+t2f": ("t1c", "t2f"), "t2f": ("t2f",)}
"""Name -> sequences that are shown; none: all that there are."""


def passes(predictor: Predictor, prepared) -> np.ndarray:
    """(4, R, I, J, K) float16, one pass for each of `MIRRORS`, turned back."""
    plain = Predictor(
        predictor.model, predictor.device, predictor.precision, replace(predictor.inference, mirror=())
    )
    found = []
    for axes in MIRRORS:
        flips = tuple(axis + 1 for axis in axes)
        flipped = replace(prepared, images=np.ascontiguousarray(np.flip(prepared.images, flips)))
        found.append(np.flip(plain.probabilities(flipped), flips).astype(np.float16))
    return np.stack(found)


def shown(grouping: Grouping, names: tuple[str, ...]) -> Grouping:
    """The study as if it had these sequences only."""
    if not names:
        return grouping
    return replace(grouping, choices=tuple(one for one in grouping.choices if one.sequence in names))


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("SLEM_DATA", "../shared/data"))
    predictor = Predictor(load_model(args.model))
    for subset, names in SUBSETS.items():
        for folder in ("brats2013_two", "brats"):
            for study in open_source(data / folder):
                path = args.out / f"{study.id}.{subset}.npz"
                if study.id in SIXTEEN or path.exists() or (folder != "brats" and subset == "t1c+t2f"):
                    continue
                grouping = shown(group(study), names)
                prepared, _ = predictor.prepare_case(grouping)
                values, grid = truth(study, predictor.card.labels)
                np.savez(
                    path,
                    passes=passes(predictor, prepared),
                    truth=resample(values, grid, prepared.grid, order=0).astype(np.uint8),
                    image=prepared.images[prepared.present][0].astype(np.float16),
                    affine=prepared.grid.affine,
                    used=np.array(prepared.used),
                )
                print(path.name, flush=True)


if __name__ == "__main__":
    main()
