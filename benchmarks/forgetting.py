r"""What a round of learning brings at a site and loses elsewhere, by how much of the change is kept.

    python benchmarks/forgetting.py --data ../shared/data/brats --cases A B C D E F \
        --elsewhere ../shared/data/brats2013_two --model runs/model --run runs/forgetting

The site's cases, which the model must not have seen, are dealt into `--parts`: a round learns all but one
part with the settings that the server's rounds have, and is scored on that part and on `--elsewhere`. What is
served then lies between the model of before and the trained one: before + kept (trained - before), the
interpolation of Wortsman et al. 2022 ("Robust fine-tuning of zero-shot models"). A run that was stopped goes
on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from gains import Row, asked, gain, scored
from page import table, where, write_page

from slem_app.finetune.cases import cache_cases
from slem_app.finetune.loop import train
from slem_app.network import Segmenter, build
from slem_app.predict import Predictor
from slem_app.rounds.interpolate import interpolated
from slem_app.rounds.job import Job
from slem_app.rounds.plan import plan
from slem_app.studies import open_source
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Model, load_model

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Forgetting:
    """A round at a site, and what is lost elsewhere."""

    data: Path
    """Folder of labelled studies."""
    cases: tuple[str, ...]
    """The site's."""
    elsewhere: Path
    """Folder of labelled studies of other places."""
    model: str = "slem_brain"
    """Name or folder; it must not have seen any of the cases."""
    run: Path = Path("runs/forgetting")
    """For the trainings."""
    parts: int = 3
    """Rounds; each is tested on its part of the site."""
    steps: int = 200
    """Of a round."""
    kept: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    """Shares of the change; 0 is the model of before."""
    threads: int = 1
    """torch threads."""
    note: str = ""
    """A sentence for the page."""
    name: str = "forgetting"
    """Of the page."""

    def main(self) -> None:
        """Train, score, write the page."""
        torch.set_num_threads(self.threads)
        model = load_model(self.model)
        model = replace(model, card=replace(model.card, detail=""), detail=None)
        source, others = open_source(self.data), open_source(self.elsewhere)
        cache, card = CaseCache(self.run / "cache"), model.card
        cache_cases(source, cache, card.sequences, card.preparation, card.labels)
        rows: dict[str, list[Row]] = {"site": [], "elsewhere": []}
        away = [(case, asked(others.study(case), Predictor(model))) for case in others.ids()]
        for part in range(self.parts):
            test = self.cases[part :: self.parts]
            trained = self._round(model, cache, part, [case for case in self.cases if case not in test])
            for kept in self.kept:
                predictor = Predictor(replace(model, network=interpolated(model, trained, kept)))
                site = [("site", case, asked(source.study(case), predictor)) for case in test]
                for place, case, seen in (
                    *site,
                    *(("elsewhere", f"{id}, round {part}", e) for id, e in away),
                ):
                    row = scored(case, predictor, f"{kept:g}", *seen)
                    rows[place].append(row)
                    print(place, row, flush=True)
        write_page(RESULTS / f"{self.name}.md", self._page(rows, model))

    def _round(self, model: Model, cache: CaseCache, part: int, ids: list[str]) -> Segmenter:
        """The network after a round's training."""
        job = Job("site", "", "", "", "", "", (), max_epochs=self.steps // 50, epoch_steps=50)
        settings = plan(job, replace(model.card, editor="slem_brain_editor"), part)
        network = build(model.card.network)
        network.load_state_dict(model.network.state_dict())
        return train(
            network,
            cache,
            ids,
            settings,
            self.run / f"round{part}",
            labels=model.card.labels,
            mirrors=model.card.mirrors,
            sequences=model.card.sequences,
        )

    def _page(self, rows: dict[str, list[Row]], model: Model) -> str:
        regions = [region.name for region in model.card.labels.regions]
        heads = ["place", "kept", "results", *regions, "mean", "gain, points (95 %)", "better"]
        lines = [
            "# What a round of learning brings at a site and loses elsewhere",
            "",
            f"`python benchmarks/forgetting.py`, {where()}. {self.parts} rounds of {self.steps} steps of 2 "
            f"patches, each of {len(self.cases) - len(self.cases) // self.parts} of the site's "
            f"{len(self.cases)} cases, tested on the others and on cases of another place; without the "
            f"second look. {self.note}",
            "",
        ]
        lines += table(
            heads,
            [
                [place, f"{kept:g}", *gain(own, f"{kept:g}", f"{self.kept[0]:g}")]
                for place, own in rows.items()
                for kept in self.kept
            ],
        )
        each = [
            [place, row.case, row.arm, *(f"{value:.3f}" for value in row.dice)]
            for place, own in rows.items()
            for row in own
        ]
        lines += ["", *table(["place", "case", "kept", *regions], each)]
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(Forgetting).main()
