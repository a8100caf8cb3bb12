"""What a click mends: the editor, and the rule of models without one, side by side, on cases that neither
has seen.

    python benchmarks/editor.py --data ../shared/data/brats --cases A B C --editor runs/editor/editor

A simulated reader corrects each case, click by click, from the same start: `largest` clicks into the middle
of the largest error, `random` anywhere inside any error, `sloppy` like the first but 20 % of its clicks miss
by up to 4 mm. Every click is a row of results/NAME.csv; several processes may write parts of it (`--part`),
and `--table` puts the parts together.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import tyro
from page import commit, write_page

from slem_app.evaluate.scores import bootstrap, region_scores
from slem_app.finetune.cases import truth
from slem_app.finetune.editing.errors import Aim, aim_at
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.predict import EditSettings, Predictor, Refiner
from slem_app.prompts import Click, Mask
from slem_app.studies import open_source
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import prepare
from slem_app.volumes.read import read_all
from slem_app.weights import load_editor, load_model

RESULTS = Path(__file__).parent / "results"
SHOWN = (0, 1, 3, 5, 10)
MISS = 4.0  # mm by which a misplaced click may miss
MISPLACED = 0.2


@dataclass(frozen=True)
class Editor:
    """Clicks by three robots, with and without the editor."""

    data: Path = Path("../shared/data/brats")
    """Folder of labelled studies."""
    cases: tuple[str, ...] = ()
    """Those to correct; default: all."""
    model: str = "slem_brain"
    """Name or folder."""
    editor: str = ""
    """Name or folder of the editor; default: the model's."""
    arms: tuple[str, ...] = ("rule", "editor")
    """Who answers prompts."""
    robots: tuple[str, ...] = ("largest",)
    """largest, random, sloppy."""
    start: str = "automatic"
    """automatic, or nothing: an empty label map, the automatic result unknown."""
    sequences: tuple[str, ...] = ()
    """Use these alone; default: all that a case has."""
    clicks: int = 10
    """A session."""
    threshold: float = EditSettings().threshold
    """Logit from which a voxel follows the editor."""
    hold: float = EditSettings().keep
    """More of it where an earlier prompt of the label that is shown is nearer."""
    sure: float = EditSettings().sure
    """`EditSettings.sure`."""
    part: str = ""
    """Name of this process's part of the rows."""
    table: bool = False
    """Put the parts together and write the page."""
    name: str = "editor"
    """Of the result files."""
    note: str = ""
    """Said on the page."""

    def run(self) -> None:
        """Correct the cases, or write the page."""
        if self.table:
            self.write()
            return
        torch.set_num_threads(1)
        model = load_model(self.model)
        own = load_editor(self.editor) if self.editor else model.editor
        source = open_source(self.data)
        for case in self.cases or source.ids():
            for arm in self.arms:
                predictor = Predictor(replace(model, editor=own if arm == "editor" else None))
                refiner = Refiner(
                    predictor, EditSettings(threshold=self.threshold, keep=self.hold, sure=self.sure)
                )
                for robot in self.robots:
                    self.keep(self.session(refiner, source.study(case), arm, robot))

    def keep(self, rows: Sequence[dict[str, object]]) -> None:
        """Append rows to this part."""
        path = RESULTS / f"{self.name}.part{self.part}.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)

    def session(self, refiner: Refiner, study: object, arm: str, robot: str) -> list[dict[str, object]]:
        """One row a click; click 0 is the start."""
        labels, card = refiner.card.labels, refiner.card
        expected, grid = truth(study, labels)
        grouping = group(study)
        series = {n: s for n, s in grouping.sequences.items() if n in (self.sequences or card.sequences)}
        volumes = read_all(series)
        prepared = prepare(volumes, card.sequences, card.preparation, grid, detailed=True)
        result, detail = refiner.start(prepared), refiner.detail(prepared)
        if self.start == "nothing":
            result = refiner.start(prepared, Mask(np.zeros_like(expected), grid))
            result = replace(result, probabilities=None)
        rng = np.random.default_rng([0, int.from_bytes(study.id.encode()[-6:], "big")])
        named = f"{arm} at {self.threshold:g}, {self.hold:g}" if arm == "editor" else arm
        common = {"case": study.id, "arm": named, "robot": robot, "start": self.start}
        common["sequences"] = "+".join(prepared.used)
        scores = region_scores(result.prediction.array, expected, grid, labels, surface=False)
        rows = [common | row(0, None, scores)]
        for n in range(1, self.clicks + 1):
            before = result.prediction.array
            aim = pointed(robot, before, expected, grid.spacing, rng)
            if aim is None:
                rows.append({**rows[-1], "click": n, "mended": "", "raised": "", "false": "", "seconds": ""})
                continue
            label = "" if aim.value == 0 else labels.labels[aim.value - 1].name
            click = Click.on(grid, aim.voxel, label, labels)
            begin = time.process_time()
            result = refiner.refine(prepared, result, result.prompts.with_click(click), detail)
            seconds = time.process_time() - begin
            after = result.prediction.array
            was, scores = scores, region_scores(after, expected, grid, labels, surface=False)
            told = {
                "mended": round(float((after[aim.piece] == aim.value).mean()), 4),
                "raised": int(mean(scores, labels) > mean(was, labels)),
                "false": int(((before == expected) & (after != expected)).sum()),
                "seconds": round(seconds, 3),
            }
            rows.append(
                common
                | row(n, told, scores)
                | {"label": label or "background", "piece": int(aim.piece.sum())}
            )
        curve = " ".join(f"{mean(r, labels):.3f}" for r in rows)
        print(f"{study.id} {arm} {robot} {self.start}: {curve}", flush=True)
        return rows

    def write(self) -> None:
        """The page from all parts."""
        rows: list[dict[str, str]] = []
        for path in sorted(RESULTS.glob(f"{self.name}.part*.csv")):
            with path.open() as file:
                rows += list(csv.DictReader(file))
        with (RESULTS / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        labels = load_model(self.model).card.labels
        print(write_page(RESULTS / f"{self.name}.md", page(rows, labels, self.note)))


def row(click: int, told: dict[str, object] | None, scores: dict[str, float]) -> dict[str, object]:
    """The columns of one click."""
    empty = {"mended": "", "raised": "", "false": "", "seconds": ""}
    given = {"click": click, "label": "", "piece": "", **(told or empty)}
    return given | {name: round(value, 5) for name, value in scores.items()}


def pointed(
    robot: str, shown: np.ndarray, wanted: np.ndarray, spacing: np.ndarray, rng: np.random.Generator
) -> Aim | None:
    """The robot's next click and the piece of error at which it aims, on the whole image."""
    wrong = shown != wanted
    box = bounding_box(wrong)
    if not wrong[box].size:
        return None
    steady, loose = (0.0, 1.0) if robot == "random" else (1.0, 0.0)
    aim = aim_at(shown[box], wanted[box], rng, 1, steady, loose)
    if aim is None:
        return None
    voxel = np.array(aim.voxel) + [s.start for s in box]
    piece = np.zeros(shown.shape, dtype=bool)
    piece[box] = aim.piece
    if robot == "sloppy" and rng.random() < MISPLACED:
        step = rng.standard_normal(3)
        step *= rng.uniform(1, MISS) / np.linalg.norm(step)
        voxel = np.clip(np.round(voxel + step / spacing).astype(int), 0, np.array(shown.shape) - 1)
    return Aim(tuple(int(v) for v in voxel), aim.value, piece)


def page(rows: Sequence[dict[str, str]], labels: LabelSet, note: str) -> str:
    """The result as Markdown."""
    regions = [region.name for region in labels.regions]
    head = ["start", "sequences", "robot", "arm", "cases", *(f"after {n}" for n in SHOWN)]
    head += ["gain after 5 (95 %)", "gain after 10 (95 %)", "aimed error mended"]
    head += ["clicks that raise the mean", "false voxels a click: median, 95 %", "CPU s a click"]
    lines = [
        "# What a click mends: the editor, and the rule of models without one",
        "",
        f"`python {' '.join(sys.argv)}`; {date.today()}, commit {commit()}, 2 cores AMD EPYC, 24 GiB. {note}",
        "Mean Dice of the regions on the images' own grid; both masks empty counts 1, one empty 0.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    keys = sorted({(r["start"], used(r), r["robot"], r["arm"]) for r in rows})
    for key in keys:
        own = [r for r in rows if (r["start"], used(r), r["robot"], r["arm"]) == key]
        lines.append(summary(key, own, labels))
    lines += [
        "",
        "| case | start | robot | arm | " + " | ".join(f"{r} {n}" for r in regions for n in SHOWN) + " |",
    ]
    lines.append("|" + "---|" * (4 + len(regions) * len(SHOWN)))
    curves: dict[tuple[str, ...], dict[int, dict[str, str]]] = {}
    for r in rows:
        curves.setdefault((r["case"], f"{r['start']} {used(r)}", r["robot"], r["arm"]), {})[
            int(r["click"])
        ] = r
    for key, curve in sorted(curves.items()):
        cells = [f"{float(curve[n][r]):.3f}" if n in curve else "" for r in regions for n in SHOWN]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def used(one: dict[str, str]) -> str:
    """The sequences, where they are not all."""
    return "all" if one["sequences"].count("+") >= 3 else one["sequences"]


def summary(key: tuple[str, ...], rows: Sequence[dict[str, str]], labels: LabelSet) -> str:
    """One line of the table."""
    cases = sorted({r["case"] for r in rows})
    value = {(r["case"], int(r["click"])): mean(r, labels) for r in rows}
    last = max(n for _, n in value)
    shown = [f"{np.mean([value[c, n] for c in cases]):.3f}" if n <= last else "" for n in SHOWN]
    gains = []
    for n in (5, 10):
        if n > last:
            gains.append("")
            continue
        b = bootstrap([value[c, n] - value[c, 0] for c in cases])
        gains.append(f"{100 * b['mean']:+.1f} ({100 * b['low']:+.1f} to {100 * b['high']:+.1f})")
    told = [r for r in rows if r["mended"] != ""]
    false = numbers(told, "false")
    cells = [
        *shown,
        *gains,
        f"{np.mean(numbers(told, 'mended')):.2f}",
        f"{int(sum(numbers(told, 'raised')))} of {len(told)}",
        f"{np.median(false):.0f}, {np.percentile(false, 95):.0f}",
        f"{np.median(numbers(told, 'seconds')):.2f}",
    ]
    return f"| {' | '.join((key[0], key[1], key[2], key[3], str(len(cases))))} | {' | '.join(cells)} |"


def numbers(rows: Iterable[dict[str, str]], name: str) -> list[float]:
    """One column."""
    return [float(r[name]) for r in rows]


def mean(scores: dict[str, object], labels: LabelSet) -> float:
    """Mean Dice of the regions."""
    return float(np.mean([float(scores[region.name]) for region in labels.regions]))


if __name__ == "__main__":
    tyro.cli(Editor).run()
