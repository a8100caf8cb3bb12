r"""Weights for `slem_abdomen` from phantoms alone: a demonstration of every path, and no model for patients.

    python benchmarks/demo_abdomen.py --runs runs/abdomen [--steps 900] [--clicks 150] \\
        [--out pretrained/slem_abdomen]

Makes phantoms in the folders of CHAOS, trains the recipes `chaos` and `chaos_clicks` on them, evaluates on
phantoms of other seeds with the challenge's metrics, and saves the model with these figures in its card,
whose first line says what it was trained on. About 6 minutes of one processor core; what was made before is
not made again. For the real set: `slem finetune --recipe chaos --data DIR --out RUN --held-out 0.2`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from slem_app import phantom
from slem_app.evaluate.evaluate import METRICS, Evaluation, evaluate
from slem_app.finetune.cases import cache_cases
from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import finetune
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Card, load_model, save_model

FIRST_LINE = (
    "Trained on computer-made phantoms of the abdomen alone, no patient among them: a "
    "demonstration, not to be used on patients' images."
)
# the whole body, by which right and left are told apart
SETTINGS = {"patch": [128, 96, 48], "batch": 1, "average": 0.98, "save_every": 50}


def studies(folder: Path, seeds: range, coarse: float) -> Path:
    """Phantoms in CHAOS's folders; those that are there are kept."""
    for seed in seeds:
        if not (folder / "MR" / str(seed) / "T2SPIR" / "Ground").is_dir():
            phantom.write_chaos(
                phantom.make_abdomen(1000 + seed, (3.0 * coarse, 3.0 * coarse, 6.0 * coarse)),
                folder,
                str(seed),
            )
            print("made", seed, flush=True)
    return folder


def described(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """The recipe with a card that says what it will be."""
    about = {
        "data": "Phantoms (`slem_app/phantom/abdomen.py`), none real.",
        "terms": "Free of any patient's data: the terms of this project.",
    }
    return replace(
        recipe, card=replace(recipe.card, description=f"{FIRST_LINE} {recipe.card.description}", **about)
    )


def figures(found: Evaluation, card: Card) -> dict[str, float]:
    """The means, for the card."""
    cases = len({row.case for row in found.rows})
    means = {
        f"phantoms {METRICS[metric]} {region.name}": round(found.mean(region.name, metric), 3)
        for region in card.labels.regions
        for metric in METRICS
    }
    # NaN where nothing was found
    return {"phantoms not trained on": float(cases)} | {
        name: value for name, value in means.items() if value == value
    }


def main() -> None:
    """Make, train, evaluate, save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--clicks", type=int, default=150, help="steps of the prompt layer")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--test", type=int, default=6)
    parser.add_argument(
        "--coarse", type=float, default=1.0, help="how many times larger the phantoms' voxels are"
    )
    parser.add_argument("--patch", type=int, nargs=3, default=SETTINGS["patch"])
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    source = open_source(studies(asked.runs / "train", range(1, asked.cases + 1), asked.coarse))
    settings = {**SETTINGS, "patch": list(asked.patch)}
    automatic = described(load_recipe("chaos", **{**settings, "steps": asked.steps}))
    views = [v for v in (32, 48) if v <= min(asked.patch)]
    clicks = described(
        load_recipe("chaos_clicks", **{**settings, "steps": asked.clicks, "interact": {"views": views}})
    )
    cache = CaseCache(asked.runs / "cache")
    report = cache_cases(
        source, cache, automatic.card.sequences, automatic.card.preparation, automatic.card.labels
    )
    finetune(automatic, cache, report.ready, asked.runs / "automatic")
    parent = load_model(asked.runs / "automatic/model")
    finetune(clicks, cache, report.ready, asked.runs / "clicks", parent)
    model = load_model(asked.runs / "clicks/model")
    test = open_source(studies(asked.runs / "test", range(501, 501 + asked.test), asked.coarse))
    found = evaluate(Predictor(model, "cpu"), test, test.ids())
    print(found.table())
    (asked.runs / "test.csv").write_text(found.csv(), encoding="utf-8")
    training = (
        f"{len(report.ready)} truths of {asked.cases} phantoms; recipe chaos, {asked.steps} steps, "
        f"then chaos_clicks, {asked.clicks} steps, seed 0"
    )
    training += f", {(time.process_time() - begin) / 60:.0f} minutes of one processor core."
    card = replace(
        model.card,
        training=training,
        parent="",
        figures={**model.card.figures, **figures(found, model.card)},
        file="",
        sha256="",
    )
    if asked.out is not None:
        save_model(asked.out, card, model.network)
        print("saved", asked.out)


if __name__ == "__main__":
    main()
