"""What a second look at finer voxels brings: the first network alone, the finer one alone, both together as
they are served, each with and without mirror images.

    python benchmarks/detail.py --data ../shared/data/brats --detail runs/detail/model --cases ID ID ...

Each case is predicted as the server would and scored on its own grid. A network must not have seen the cases.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from gains import Row, gain, row_of
from page import table, where, write_page

from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.predict import Predictor
from slem_app.predict.closer_look import Likely
from slem_app.studies import Study, open_source
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Model, load_model

RESULTS = Path(__file__).parent / "results"
ARMS = {
    "first": "the first network alone",
    "first, mirrored": "the same with one mirror image",
    "finer, mirrored": "the finer network alone, in the box that the first has found",
    "both": "both together, no mirror image: as it is served",
    "both, mirrored": "both together, each with one mirror image",
}
SERVED = "first, mirrored"  # what was served before there was a second look


@dataclass(frozen=True)
class TimedRow(Row):
    """One case of one arm, and what it took."""

    seconds: float
    """CPU seconds of the networks."""


@dataclass(frozen=True)
class Detail:
    """A second look at finer voxels, case by case."""

    data: Path
    """Folder of labelled studies."""
    model: str = "slem_brain"
    """The first network: name or folder."""
    detail: str = ""
    """Folder of the finer one as `slem finetune` writes it; default: the model's own."""
    cases: tuple[str, ...] = ()
    """Default: all."""
    threads: int = 1
    """torch threads."""
    note: str = ""
    """A sentence for the page."""
    name: str = "detail"
    """Name of the page."""

    def run(self) -> None:
        """Predict, score, write the page."""
        torch.set_num_threads(self.threads)
        model = load_model(self.model)
        model = replace(model, detail=load_model(self.detail) if self.detail else model.detail)
        source = open_source(self.data)
        rows = []
        for case in self.cases or source.ids():
            for row in _case(model, source.study(case)):
                rows.append(row)
                print(row, flush=True)
        write_page(RESULTS / f"{self.name}.md", self._page(rows, [r.name for r in model.card.labels.regions]))

    def _page(self, rows: list[TimedRow], regions: list[str]) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        head = ["arm", "", "cases", *regions, "mean", "mean less", "better in", "CPU s"]
        each = [
            [
                row.case,
                row.arm,
                *(f"{value:.3f}" for value in row.dice),
                f"{row.found:.1f}",
                f"{row.there:.1f}",
            ]
            for row in rows
        ]
        command = f"python benchmarks/detail.py --data {self.data.name} --model {Path(self.model).name}"
        lines = [
            "# A second look at finer voxels",
            "",
            f"`{command}`; {where()}, {threads}. {self.note}",
            "",
            f"Dice on the images' own grid. `mean less`: mean Dice less that of `{SERVED}`, points, with the "
            "bootstrap 95 % interval over cases.",
            "",
            *table(head, _means(rows)),
            "",
            *table(["case", "arm", *regions, f"{regions[-1]} ml found", "true"], each),
        ]
        return "\n".join(lines)


def _means(rows: list[TimedRow]) -> list[list[str]]:
    """A line an arm."""
    lines = []
    for arm, about in ARMS.items():
        seconds = [row.seconds for row in rows if row.arm == arm]
        if seconds:
            lines.append([arm, about, *gain(rows, arm, SERVED), f"{np.mean(seconds):.1f}"])
    return lines


def _mirrored(model: Model, mirrored: bool) -> Model:
    """The model with or without mirror images."""
    inference = replace(model.card.inference, mirror=(0,) if mirrored else ())
    card = replace(model.card, inference=inference)
    return replace(model, card=card, detail=model.detail and _mirrored(model.detail, mirrored))


def _case(model: Model, study: Study) -> Iterator[TimedRow]:
    """Every arm of one case."""
    labels = model.card.labels
    expected, grid = truth(study, labels)
    for mirrored in (False, True):
        predictor = Predictor(_mirrored(model, mirrored), precision="float32")
        prepared = replace(predictor.prepare_case(group(study))[0], reference=grid)
        begin = time.process_time()
        probabilities = predictor.probabilities(prepared)
        first = time.process_time() - begin
        both = predictor.look_again(prepared, probabilities, {})
        whole = time.process_time() - begin
        word = ", mirrored" if mirrored else ""
        arms = {f"first{word}": (Likely(probabilities, prepared), first), f"both{word}": (both, whole)}
        if mirrored and both.grid is not prepared.grid:
            arms["finer, mirrored"] = (_alone(predictor, prepared, both), whole)
        for arm, (likely, seconds) in arms.items():
            array = predictor.restored(likely, prepared)
            yield TimedRow(**vars(row_of(study.id, arm, array, expected, grid, labels)), seconds=seconds)


def _alone(predictor: Predictor, prepared: Prepared, both: Likely) -> Likely:
    """What the finer network alone says in the box."""
    box = prepared.closer(both.grid)
    assert box is not None, "it was looked at again"
    assert predictor.finer is not None, "likewise"
    return Likely(predictor.finer.probabilities(box), box)


if __name__ == "__main__":
    tyro.cli(Detail).run()
