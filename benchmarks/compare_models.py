"""Models side by side on cases that none of them has seen, all sequences and all 15 sets of them.

    python benchmarks/compare_models.py --data DIR --models old=runs/v4 new=runs/v8/model --cases ID ID ...

Each case is segmented as the server does and scored on its own grid; the first model is what the others are
compared with, case by case. A missing sequence is taken away from the prepared case. With `--like FOLDER`
every model gets the recalibration, thresholds and mirror images of that model's card, so that networks alone
are compared. Cases without a region count 1 for it where nothing is found and 0 else, so the millilitres are
listed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from gains import Row, asked, gain, scored
from missing import subsets
from page import table, where, write_page

from slem_app.predict import Predictor
from slem_app.studies import Study, open_source
from slem_app.weights import Card, Model, load_model

RESULTS = Path(__file__).parent / "results"
FULL = "all sequences"
LITTLE = 1.0  # ml of the last region under which a case counts as one without


@dataclass(frozen=True)
class Comparison:
    """Models side by side, case by case."""

    data: Path
    """Folder of labelled studies."""
    models: tuple[str, ...]
    """NAME=FOLDER or a bundled model's name; the first is what the others are compared with."""
    cases: tuple[str, ...] = ()
    """Default: all."""
    like: str = ""
    """Folder or name of the model whose card's recalibration, thresholds and mirror images all get; a second
    look is left out then.
    """
    sets: bool = True
    """All 15 sets of sequences too."""
    precision: str = "float32"
    """Of the networks: float32, the same on every machine, or bfloat16."""
    threads: int = 1
    """torch threads."""
    note: str = ""
    """A sentence for the page."""
    title: str = "Models side by side"
    """Of the page."""
    name: str = "compare_models"
    """Name of the page."""

    def run(self) -> None:
        """Predict, score, write the page."""
        torch.set_num_threads(self.threads)
        named = dict(one.split("=", 1) if "=" in one else (one, one) for one in self.models)
        like = load_model(self.like).card if self.like else None
        predictors = {
            name: Predictor(_alike(load_model(where), like), precision=self.precision)
            for name, where in named.items()
        }
        source, rows = open_source(self.data), {}
        for case in self.cases or source.ids():
            for name, predictor in predictors.items():
                for row, subset in self._case(name, predictor, source.study(case)):
                    rows.setdefault(subset, []).append(row)
                    if subset == FULL:
                        print(row, flush=True)
        card = next(iter(predictors.values())).card
        page = self._page(rows, list(named), [region.name for region in card.labels.regions])
        write_page(RESULTS / f"{self.name}.md", page)

    def _case(self, name: str, predictor: Predictor, study: Study) -> Iterator[tuple[Row, str]]:
        """A row for each set of sequences of one case."""
        prepared, expected, grid = asked(study, predictor)
        for subset, flags in subsets(predictor.card.sequences):
            here = prepared.present & np.array(flags)
            full = all(flags)
            if not full and (not self.sets or (here != flags).any() or (here == prepared.present).all()):
                continue  # sets of what the case has, each once
            shown = prepared
            if not full:
                images = prepared.images * here[:, None, None, None].astype(np.float32)
                shown = replace(prepared, images=images, present=here)
            row = scored(study.id, predictor, name, shown, expected, grid)
            yield row, FULL if full else subset

    def _page(self, rows: Mapping[str, list[Row]], names: Sequence[str], regions: Sequence[str]) -> str:
        head = ["model", "cases", *regions, "mean", f"mean more than `{names[0]}`", "better in"]
        full = rows[FULL]
        each = [
            [row.case, row.arm, *(f"{d:.3f}" for d in row.dice), f"{row.found:.1f}", f"{row.there:.1f}"]
            for row in full
        ]
        last = regions[-1]
        lines = [
            f"# {self.title}",
            "",
            f"`python benchmarks/compare_models.py --data {self.data.name} --models {' '.join(names)}`; "
            f"{where()}. {self.note}",
            "",
            "Dice on the images' own grid; `more`: points of mean Dice with the bootstrap 95 % interval over "
            "cases.",
            "",
            "## All sequences",
            "",
            *table(head, [[name, *gain(full, name, names[0])] for name in names]),
            "",
            *_little(full, names, last),
        ]
        if self.sets:
            lines += [
                "## All sets of sequences, their mean",
                "",
                *table(head, [[name, *gain(_meant(rows), name, names[0])] for name in names]),
                "",
                *table(["sequences", *names], self._by_set(rows, names)),
                "",
            ]
        return "\n".join(
            [
                *lines,
                "## Every case, all sequences",
                "",
                *table(["case", "model", *regions, f"{last} ml found", "true"], each),
            ]
        )

    def _by_set(self, rows: Mapping[str, list[Row]], names: Sequence[str]) -> Iterator[list[str]]:
        for subset, some in rows.items():
            means = [np.mean([row.dice for row in some if row.arm == name], axis=0) for name in names]
            yield [subset, *(" / ".join(f"{d:.3f}" for d in mean) for mean in means)]


def _little(rows: Sequence[Row], names: Sequence[str], region: str) -> list[str]:
    """Lines on the last region, apart for cases with and with next to none of it."""
    cells = []
    for name in names:
        mine = [row for row in rows if row.arm == name]
        some = [row.dice[-1] for row in mine if row.there >= LITTLE]
        none = [max(0.0, row.found - row.there) for row in mine if row.there < LITTLE]
        cells.append(
            [
                name,
                f"{np.mean(some):.3f} ({len(some)})" if some else "-",
                ", ".join(f"{ml:.1f}" for ml in none) or "-",
            ]
        )
    some, none = f"Dice of {region}, cases with 1 ml and more", "ml too much in the others, each case"
    return [*table(["model", some, none], cells), ""]


def _meant(rows: Mapping[str, list[Row]]) -> list[Row]:
    """For each case and model one row with the mean of all sets."""
    by: dict[tuple[str, str], list[Row]] = {}
    for some in rows.values():
        for row in some:
            by.setdefault((row.case, row.arm), []).append(row)
    return [
        replace(some[0], dice=tuple(np.mean([row.dice for row in some], axis=0).tolist()))
        for some in by.values()
    ]


def _alike(model: Model, like: Card | None) -> Model:
    if like is None:
        return model
    card = replace(
        model.card,
        recalibration=like.recalibration,
        postprocess=like.postprocess,
        inference=like.inference,
        detail="",
    )
    return replace(model, card=card, detail=None)


if __name__ == "__main__":
    tyro.cli(Comparison).run()
