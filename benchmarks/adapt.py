"""What an adaptation without labels brings at a site: cases that a model has not seen are its archive. Their
labels, which are not learnt, say whether it became better there, with all sequences and with some.

    python benchmarks/adapt.py --data ../shared/data/brats --model runs/model --cases A B C --others D E F

`--others` are cases that are not of the site: what is lost there is forgotten. The run, which continues where
it was stopped, and its cache lie in `--run`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from gains import Row, gain, row_of
from page import table, where, write_page

from slem_app.adapt import AdaptReport, adapt
from slem_app.adapt.round import fitting_view, plan
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.predict import Predictor
from slem_app.pretext.cases import gather
from slem_app.studies import Study, open_source
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import prepare
from slem_app.volumes.read import read_all
from slem_app.weights import Card, Model, load_model

RESULTS = Path(__file__).parent / "results"
SETS = (("t1n", "t1c", "t2w", "t2f"), ("t1c", "t2f"), ("t1n", "t2w"), ("t1c",), ("t2f",))


@dataclass(frozen=True)
class Benchmark:
    """Adapt a model to some cases, and score it there and elsewhere before and after."""

    data: Path = Path("../shared/data/brats")
    """Folder of labelled studies."""
    model: str = "slem_brain"
    """Name or folder; it must not have seen the cases."""
    cases: tuple[str, ...] = ()
    """The site's."""
    others: tuple[str, ...] = ()
    """Cases that are not of the site."""
    run: Path = Path("runs/adapt")
    """Of the adaptation."""
    steps: int = 120
    """Steps of 2 views."""
    name: str = "adapt"
    """Of the page."""

    def main(self) -> None:
        """Adapt, score, write the page."""
        torch.set_num_threads(1)
        model, source = load_model(self.model), open_source(self.data)
        cache, card = CaseCache(self.run / "cache"), model.card
        ready = gather(
            [source.study(case) for case in self.cases], cache, card.sequences, card.preparation, 2
        )
        settings = fitting_view(plan(self.steps, 20, {}), cache, ready.ready, card.network.multiple)
        report = adapt(model, cache, ready.ready, settings, self.run)
        adapted = replace(model, card=report.card, network=report.network)
        rows: dict[tuple[str, str], list[Row]] = {}
        for place, cases in (("site", self.cases), ("elsewhere", self.others)):
            for case in cases:
                for used in SETS if place == "site" else SETS[:1]:
                    for arm, one in (("before", model), ("after", adapted)):
                        row = scored(source.study(case), one, arm, used)
                        rows.setdefault((place, "+".join(used)), []).append(row)
                        print(place, arm, row, flush=True)
        write_page(RESULTS / f"{self.name}.md", self.page(rows, report, card))

    def page(self, rows: dict[tuple[str, str], list[Row]], report: AdaptReport, card: Card) -> str:
        """The result as Markdown."""
        regions = [region.name for region in card.labels.regions]
        heads = ["place", "sequences", "", "cases", *regions, "mean", "gain, points (95 %)", "better"]
        lines = [
            "# What an adaptation without labels brings",
            "",
            f"`python benchmarks/adapt.py`, {where()}. {card.name} {card.version} adapted to "
            f"{len(self.cases)} cases that it had not seen, {self.steps} steps of 2 views, "
            f"{report.outcome.seconds:.0f} s of a core; no label learnt. Dice on each case's own "
            "grid, with the second look and recalibration.",
            "",
        ]
        arms = ("before", "after")
        lines += table(heads, [[*key, a, *gain(own, a, "before")] for key, own in rows.items() for a in arms])
        each = [
            [*key, row.case, row.arm, *(f"{value:.3f}" for value in row.dice)]
            for key, own in rows.items()
            for row in own
        ]
        lines += ["", *table(["place", "sequences", "case", "", *regions], each)]
        return "\n".join(lines) + "\n"


def scored(study: Study, model: Model, arm: str, used: tuple[str, ...]) -> Row:
    """One case with some of its sequences."""
    card = model.card
    expected, grid = truth(study, card.labels)
    series = {name: one for name, one in group(study).sequences.items() if name in used}
    prepared = prepare(read_all(series), card.sequences, card.preparation, grid, detailed=True)
    found = Predictor(model).predict(prepared).array
    return row_of(study.id, arm, found, expected, grid, card.labels)


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
