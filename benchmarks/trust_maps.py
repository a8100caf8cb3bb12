"""What a model says of cases that it has not seen, kept beside their truth for `trust.py`.

    python trust_maps.py --model FOLDER --out FOLDER --data FOLDER --cases ID ID ...

One file a case and set of sequences, on the first network's grid: `first` (R, I, J, K) float16 probabilities
of the first network, `before` the same after the second look, `known` after the card's recalibration too (by
these labels are decided), `four` as `known` from four mirrored passes of both networks, all sequences alone,
`truth` (I, J, K) uint8 label values by the nearest voxel, and `affine`. `dice` (R,) is of the result on the
images' own grid. What is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from slem_app.evaluate.scores import region_scores
from slem_app.finetune.cases import truth
from slem_app.grouping import Grouping, group
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model

SUBSETS = {"all": (), "t1c+t2f": ("t1c", "t2f"), "t2f": ("t2f",)}
"""Name -> sequences that are shown; none: all that there are."""
MIRRORED = (0, 1)  # axes; with their combinations four passes


def shown(grouping: Grouping) -> Iterator[tuple[str, Grouping]]:
    """The study with all its sequences, then as if it had fewer."""
    every = set(grouping.sequences)
    for subset, names in SUBSETS.items():
        if not names:
            yield subset, grouping
        elif set(names) < every:
            kept = tuple(one for one in grouping.choices if one.sequence in names)
            yield subset, replace(grouping, choices=kept)


def mirrored(predictor: Predictor) -> Predictor:
    """The same model with four mirrored passes of each of its networks."""
    again = Predictor(predictor.model, predictor.device, predictor.precision)
    again.inference = replace(again.inference, mirror=MIRRORED)
    if again.finer is not None:
        again.finer.inference = replace(again.finer.inference, mirror=MIRRORED)
    return again


def maps(predictor: Predictor, prepared: Prepared) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The probabilities step by step, and the label map on the images' own grid."""
    first = predictor.probabilities(prepared)
    before = predictor.look_again(prepared, first, {})
    likely = predictor.likely(prepared, first, {})
    steps = {
        "first": first,
        "before": before.onto(first, prepared.grid),
        "known": likely.onto(first, prepared.grid),
    }
    return steps, predictor.restored(likely, prepared)


@dataclass(frozen=True)
class Maps:
    """What a model says of cases that it has not seen."""

    model: str
    """Name or folder."""
    out: Path
    """Folder of the files."""
    data: Path
    """Labelled studies."""
    cases: tuple[str, ...] = ()
    """Default: all."""

    def run(self) -> None:
        """Make what is missing."""
        torch.set_num_threads(1)
        self.out.mkdir(parents=True, exist_ok=True)
        predictor = Predictor(load_model(self.model), precision="float32")
        four = mirrored(predictor)
        source = open_source(self.data)
        for case in self.cases or source.ids():
            study = source.study(case)
            values, grid = truth(study, predictor.card.labels)
            for subset, grouping in shown(group(study)):
                path = self.out / f"{case}.{subset}.npz"
                if not path.exists():
                    prepared = replace(predictor.prepare_case(grouping)[0], reference=grid)
                    found, array = maps(predictor, prepared)
                    if subset == "all":
                        found["four"] = maps(four, prepared)[0]["known"]
                    scores = region_scores(array, values, grid, predictor.card.labels, surface=False)
                    np.savez(
                        path,
                        truth=resample(values, grid, prepared.grid, order=0).astype(np.uint8),
                        affine=prepared.grid.affine,
                        dice=np.array([scores[region.name] for region in predictor.card.labels.regions]),
                        **{name: one.astype(np.float16) for name, one in found.items()},
                    )
                    print(path.name, {name: round(one, 3) for name, one in scores.items()}, flush=True)


if __name__ == "__main__":
    tyro.cli(Maps).run()
