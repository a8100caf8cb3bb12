"""Visits of phantom patients and of real cases that were made to grow: lesions matched, volumes, clicks.

    python benchmarks/followup.py matching --patients 10
    python benchmarks/followup.py clicks --real ../shared/data/brats2013_two
    python benchmarks/followup.py clicks --real STUDIES --cases ID ... --model benchmarks/folds/apart
    python benchmarks/followup.py strangers ../shared/data/brats

`matching`: a head with four tumours comes again, moved by up to 12 degrees and 12 mm about each axis, with
other noise, units and receive field. Of the tumours one grows, one shrinks, one is gone or stays as it is,
and a new one has come. Asked: is each lesion of enhancing tumour matched as it must be, and does the change
of its volume, from both visits' labels, agree with the change on a grid of half the spacing?

`clicks`: a simulated reader corrects the second visit, which begins with the model's result (`without`), with
the first visit's true label moved onto it (`label`), or with that label brought up to date (`prior`). Counted
are the clicks until the mean Dice of the regions reaches targets that were named before the run: 0.85, 0.90
and 0.95. Real cases are patients whom the weights have not seen; `visits.py` makes their second visit.

`strangers`: real T1c against itself at half the resolution, moved, with another gamma, receive field and
noise, and against the next patient's, made alike: what tells a registration of two patients.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy import ndimage
from visits import SCALE, Tumour, TwoVisits, changed, draw_visits, imaged, phantom_visits

from slem_app import phantom
from slem_app.evaluate.scores import region_scores
from slem_app.finetune.cases import truth
from slem_app.followup import match
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.measure import acquired_along, lesions
from slem_app.phantom.head import rotation
from slem_app.predict import Predictor, Refiner
from slem_app.predict.prior import brought_up_to_date
from slem_app.prompts import Click, Mask, ReaderSettings, SimulatedReader
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.read import read
from slem_app.volumes.visits import carry, move_between
from slem_app.weights import load_model

RESULTS = Path(__file__).parent / "results"
TARGETS = (0.85, 0.90, 0.95)
STOP = 0.95  # where the reader stops
MOST = 12
FACTORS = (1.2, 0.85)  # of the tumour's diameter, in turn


def finely(
    patient: phantom.Head, move: np.ndarray, tumours: list[Tumour], grid: Grid
) -> tuple[np.ndarray, Grid]:
    """The truth of a visit at half the spacing of a grid."""
    half = Grid(tuple(2 * n for n in grid.shape), grid.affine @ np.diag([0.5, 0.5, 0.5, 1.0]))
    return phantom.truth(phantom.at_next_visit(patient, 1, move, tumours), half), half


def owner(place: Sequence[float], patient: phantom.Head, move: np.ndarray, tumours: list[Tumour]) -> int:
    """Which tumour is at a place, RAS mm."""
    pose = patient.pose @ np.linalg.inv(move)
    there = pose[:3, :3] @ np.array(place) + pose[:3, 3]
    return int(np.argmin([np.linalg.norm(there - centre) for centre, _ in tumours]))


@dataclass(frozen=True)
class Matching:
    """Lesions of phantom patients, matched over a move."""

    patients: int = 10
    """How many."""
    seed: int = 0
    """Of everything."""

    def run(self) -> None:
        """One row a tumour."""
        rows: list[dict[str, object]] = []
        for number in range(self.patients):
            rows += self.patient(number)
        _write("followup_matching.csv", rows)
        right = np.mean([bool(row["right"]) for row in rows])
        errors = [float(row["volume_error_percent"]) for row in rows if row["volume_error_percent"] != ""]
        print(
            f"{len(rows)} tumours, {right:.1%} matched as they must be; error of the volume change: ", end=""
        )
        print(f"median {np.median(errors):.2f}, largest {max(errors):.2f} points of percent")

    def patient(self, number: int) -> list[dict[str, object]]:
        """The tumours of one."""
        rng = np.random.default_rng([self.seed, number])
        first, second, move = draw_visits(rng)
        patient = phantom.draw(1000 + number, SCALE)
        before = imaged(patient, 2000 + number, np.eye(4), first)
        now = imaged(patient, 3000 + number, move, second)
        found = move_between(
            Volume(now.images["t1c"], now.grid),
            Volume(before.images["t1c"], before.grid),
            "t1c",
            (Volume(now.labels, now.grid), Volume(before.labels, before.grid)),
        )
        points = now.grid.to_world(np.argwhere(now.labels > 0))
        back = np.linalg.inv(move)
        error = points @ (found.matrix - back)[:3, :3].T + (found.matrix - back)[:3, 3]
        old, numbers = lesions(before.labels == 3, before.grid, acquired_along(before.grid))
        new, pieces = lesions(now.labels == 3, now.grid, acquired_along(now.grid))
        pairs = match(carry(numbers, before.grid, found.matrix, now.grid), pieces, now.grid)
        was = [owner(one.centre, patient, np.eye(4), first) for one in old]
        is_now = [owner(one.centre, patient, move, second) for one in new]
        fine = [
            _volumes(patient, place, tumours, now.grid)
            for place, tumours in ((np.eye(4), first), (move, second))
        ]
        rows = []
        for spot in range(5):
            a = next((n for n, (centre, _) in enumerate(first) if _same(centre, spot, first, second)), None)
            b = next((n for n, (centre, _) in enumerate(second) if _same(centre, spot, first, second)), None)
            mine = [
                p for p in pairs if any(was[n] == a for n in p.before) or any(is_now[n] == b for n in p.now)
            ]
            alone = all(was[n] == a for p in mine for n in p.before) and all(
                is_now[n] == b for p in mine for n in p.now
            )
            told = {(bool(p.before), bool(p.now)) for p in mine}
            right = alone and told == {(a is not None, b is not None)}
            both = a is not None and b is not None
            measured = [sum(old[n].volume_ml for n, who in enumerate(was) if who == a)]
            measured.append(sum(new[n].volume_ml for n, who in enumerate(is_now) if who == b))
            off: object = ""
            if both:
                true = fine[1][b] / fine[0][a]
                off = round(100 * abs(measured[1] / measured[0] / true - 1), 2)
            rows.append(
                {
                    "patient": number,
                    "tumour": spot,
                    "true": "followed" if both else "new" if a is None else "gone",
                    "kinds": "+".join(sorted(p.kind for p in mine)),
                    "right": int(right),
                    "before_ml": round(measured[0], 3),
                    "now_ml": round(measured[1], 3),
                    "volume_error_percent": off,
                    "registration_error_mm": round(float(np.linalg.norm(error, axis=1).mean()), 2),
                    "likeness": round(found.likeness, 3),
                }
            )
        print(
            f"patient {number}: {[row['kinds'] for row in rows]} {rows[0]['registration_error_mm']} mm",
            flush=True,
        )
        return rows


def _same(centre: np.ndarray, spot: int, first: list[Tumour], second: list[Tumour]) -> bool:
    """Whether a tumour is the spot-th of all: those of the first visit, then the new one."""
    every = [*(one for one, _ in first), second[-1][0]]
    return bool(np.allclose(centre, every[spot]))


def _volumes(
    patient: phantom.Head, move: np.ndarray, tumours: list[Tumour], coarse: Grid
) -> dict[int, float]:
    """Enhancing ml of each tumour at half the spacing."""
    array, grid = finely(patient, move, tumours, coarse)
    found, _ = lesions(array == 3, grid, acquired_along(grid))
    volumes = dict.fromkeys(range(len(tumours)), 0.0)
    for one in found:
        volumes[owner(one.centre, patient, move, tumours)] += one.volume_ml
    return volumes


@dataclass(frozen=True)
class Clicks:
    """A reader's clicks with the prior and without."""

    real: Path | None = None
    """Studies with truth that the model has not seen; None: phantoms alone."""
    cases: tuple[str, ...] = ()
    """Of these studies; none: all."""
    phantoms: int = 3
    """How many phantom patients beside them."""
    most: int = MOST
    """Clicks; 0: only what a session begins with."""
    model: str = "slem_brain"
    """Name or folder."""
    seed: int = 0
    """Of changes, moves and the reader."""
    scratch: Path = Path(tempfile.gettempdir()) / "slem-followup"
    """Where the visits are written."""
    name: str = "followup_clicks"
    """Of the table in `results`."""

    def run(self) -> None:
        """One row a case, arm and click."""
        refiner, rows = Refiner(Predictor(load_model(self.model))), []
        for visits in self.patients(refiner.card.labels):
            rows += self.arms(refiner, visits)
            _write(f"{self.name}.csv", rows)
        for target in TARGETS:
            self.tell(rows, target)

    def patients(self, labels: LabelSet) -> Iterator[TwoVisits]:
        """Phantoms, then the real cases, grown and shrunk in turn."""
        for number in range(self.phantoms):
            yield phantom_visits(self.scratch, self.seed + number)
        if self.real is not None:
            source = open_source(self.real)
            for number, case in enumerate(self.cases or source.ids()):
                factor = FACTORS[number % len(FACTORS)]
                yield changed(source.study(case), labels, self.scratch, self.seed + number, factor)

    def tell(self, rows: list[dict[str, object]], target: float) -> None:
        """The clicks to one target, each case and in sum."""
        needed = {
            (case, arm): self.needed(
                [row for row in rows if (row["case"], row["arm"]) == (case, arm)], target
            )
            for case, arm in dict.fromkeys((row["case"], row["arm"]) for row in rows)
        }
        for (case, arm), clicks in needed.items():
            print(f"{case} {arm}: {clicks} clicks to {target} ({self.most + 1}: not reached)")
        sums = {arm: sum(n for (_, a), n in needed.items() if a == arm) for _, arm in needed}
        fewer = f"{1 - sums['prior'] / sums['without']:.0%} fewer" if sums["without"] else "none are needed"
        print(f"to {target} in all {sums}: {fewer}")

    def needed(self, rows: list[dict[str, object]], target: float) -> int:
        """Clicks to a target; one more than the most where it was not reached."""
        reached = [int(row["click"]) for row in rows if float(row["mean"]) >= target]
        return reached[0] if reached else self.most + 1

    def arms(self, refiner: Refiner, visits: TwoVisits) -> list[dict[str, object]]:
        """The arms of one patient."""
        labels, case = refiner.card.labels, visits.name
        earlier, later = (next(iter(open_source(folder))) for folder in (visits.before, visits.now))
        (array, grid), (expected, shown) = truth(earlier, labels), truth(later, labels)
        images = [group(study).sequences[visits.sequence] for study in (later, earlier)]
        found = move_between(read(images[0]), read(images[1]), visits.sequence)
        print(f"{case}: moved {found.distance:.1f} mm, likeness {found.likeness:.2f}", flush=True)
        prepared, then = (refiner.predictor.prepare_case(group(study))[0] for study in (later, earlier))
        prepared = replace(prepared, reference=shown)
        label = Mask(np.asfortranarray(array), grid)
        today = brought_up_to_date(refiner.predictor, prepared, then, label, found.matrix)
        starts = {
            "without": None,
            "label": Mask(np.asfortranarray(carry(array, grid, found.matrix, shown)), shown),
            "prior": Mask(np.asfortranarray(today), shown),
        }
        detail = refiner.detail(prepared) if self.most else None
        rows = []
        for arm, mask in starts.items():
            result = refiner.start(prepared, mask)
            reader = SimulatedReader(labels, ReaderSettings())
            rng = np.random.default_rng([self.seed, 7])
            for click in range(self.most + 1):
                scores = region_scores(result.prediction.array, expected, shown, labels, surface=False)
                mean = float(np.mean(list(scores.values())))
                rows.append(
                    {"case": case, "arm": arm, "click": click, "mean": round(mean, 4), **_rounded(scores)}
                )
                shots = reader.shots(expected, result.prediction.array, shown.spacing, rng)
                if mean >= STOP or not shots or click == self.most:
                    break
                prompt = Click.on(shown, shots[0].index, shots[0].label, labels)
                result = refiner.refine(prepared, result, result.prompts.with_click(prompt), detail)
            print(f"{case} {arm}: {[row['mean'] for row in rows if row['arm'] == arm]}", flush=True)
        return rows


@dataclass(frozen=True)
class Strangers:
    """Likeness of one patient's images, and of two patients'."""

    data: Annotated[Path, tyro.conf.Positional]
    """Studies."""
    cases: int = 6
    """How many."""

    def run(self) -> None:
        """One line a pair."""
        source = open_source(self.data)
        seen = [read(group(source.study(case)).sequences["t1c"]) for case in source.ids()[: self.cases]]
        for number, later in enumerate(seen):
            for what, other in (("same", later), ("other", seen[(number + 1) % len(seen)])):
                earlier, move = _acquired_again(other, number)
                found = move_between(later, earlier, "t1c")
                off = found.matrix @ np.linalg.inv(move)
                middle = later.grid.to_world((np.array(later.grid.shape) - 1) / 2)
                error = np.linalg.norm(off[:3, :3] @ middle + off[:3, 3] - middle)
                told = f"brains {found.agreement:.3f}, likeness {found.likeness:.3f}"
                print(f"{source.ids()[number]} {what}: {told}, {error:.1f} mm", flush=True)


def _acquired_again(volume: Volume, seed: int) -> tuple[Volume, np.ndarray]:
    """A sequence at half the resolution, elsewhere, with another gamma, receive field and noise."""
    rng = np.random.default_rng(seed)
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(rng.uniform(-12, 12, 3)), rng.uniform(-15, 15, 3)
    image = (volume.array / volume.array.max()) ** rng.uniform(0.8, 1.25)
    image = image * ndimage.zoom(rng.normal(1, 0.12, (4, 4, 4)), [n / 4 for n in image.shape], order=3)
    noisy = np.clip(image + rng.normal(0, 0.03, image.shape), 0.002, None)
    image = ndimage.zoom(np.where(volume.array > 0, noisy, 0) * 1000, (0.5, 0.5, 0.5), order=1)
    grid = Grid(image.shape, move @ volume.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    return Volume(image.astype(np.float32), grid), move


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def _write(name: str, rows: list[dict[str, object]]) -> None:
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"matching": Matching, "clicks": Clicks, "strangers": Strangers}
    ).run()
