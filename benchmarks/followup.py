"""Visits of phantom patients and of real cases that were made to grow: lesions matched, volumes, clicks.

    python benchmarks/followup.py matching --patients 10
    python benchmarks/followup.py clicks --real ../shared/data/brats2013_two
    python benchmarks/followup.py strangers ../shared/data/brats

`matching`: a head with four tumours comes again, moved by up to 12 degrees and 12 mm about each axis, with
other noise, units and receive field. Of the tumours one grows, one shrinks, one is gone or stays as it is,
and a new one has come. Asked: is each lesion of enhancing tumour matched as it must be, and does the change
of its volume, from both visits' labels, agree with the change on a grid of half the spacing?

`clicks`: the second visit is segmented by the model, or begins with the first visit's true label moved onto
it, and a simulated reader corrects it. Counted are the clicks until the mean Dice of the regions reaches
targets that were named before the run: 0.85, 0.90 and 0.95. Real cases are the BraTS 2013 patients that no
weights have seen; their second visit is the image and label warped outwards around the tumour's middle, and
moved.

`strangers`: real T1c against itself at half the resolution, moved, with another gamma, receive field and
noise, and against the next patient's, made alike: what tells a registration of two patients.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy import ndimage

from slem_app import phantom
from slem_app.evaluate.scores import region_scores
from slem_app.finetune.cases import truth
from slem_app.followup import match
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.measure import acquired_along, lesions
from slem_app.phantom.head import AXES, rotation
from slem_app.predict import Predictor, Refiner
from slem_app.prompts import Click, Mask, ReaderSettings, SimulatedReader
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.read import read
from slem_app.volumes.visits import carry, move_between
from slem_app.weights import load_model

RESULTS = Path(__file__).parent / "results"
SPOTS = ((30, 24, 14), (-30, -34, 16), (-30, 30, 6), (30, -36, 12), (-26, 0, 30))
"""Places in the head, mm, at least 40 mm apart: further tumours are drawn near them."""
SHAPE, SPACING = (64, 74, 56), (2.0, 2.0, 2.0)
SCALE = float((np.array(SHAPE) * SPACING / (AXES * 2 + 16)).min())
TARGETS = (0.85, 0.90, 0.95)
STOP = 0.95  # where the reader stops
MOST = 12
Tumour = tuple[np.ndarray, tuple[float, float, float]]


def radii(rim: float) -> tuple[float, float, float]:
    """Of necrosis, rim and edema."""
    return (max(rim - 5.0, 1.0), rim, rim + 6.0)


def draw_visits(rng: np.random.Generator) -> tuple[list[Tumour], list[Tumour], np.ndarray]:
    """Tumours of both visits and the move between them."""
    spots = rng.permutation(SPOTS)[:5] + rng.uniform(-3, 3, (5, 3))
    sizes = rng.uniform(7, 12, 5)
    first = [(spots[n], radii(sizes[n])) for n in range(4)]
    grown, shrunk = rng.uniform(1.15, 1.5), rng.uniform(0.6, 0.85)
    second = [(spots[0], radii(sizes[0] * grown)), (spots[1], radii(sizes[1] * shrunk))]
    if rng.random() < 0.5:
        second.append((spots[2], radii(sizes[2])))
    second += [(spots[3], radii(sizes[3])), (spots[4], radii(sizes[4]))]
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(rng.uniform(-12, 12, 3)), rng.uniform(-12, 12, 3)
    return first, second, move


def imaged(patient: phantom.Head, seed: int, move: np.ndarray, tumours: list[Tumour]) -> phantom.Phantom:
    """A visit."""
    head = phantom.at_next_visit(patient, seed, move, tumours)
    return phantom.make(shape=SHAPE, spacing=SPACING, head=head)


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
    phantoms: int = 3
    """How many phantom patients beside them."""
    model: str = "slem_brain"
    """Name or folder."""
    seed: int = 0
    """Of growth, moves and the reader."""
    scratch: Path = Path(tempfile.gettempdir()) / "slem-followup"
    """Where the second visits are written."""

    def run(self) -> None:
        """One row a case, arm and click."""
        refiner, rows = Refiner(Predictor(load_model(self.model))), []
        source = open_source(self.real) if self.real else ()
        root = self.scratch
        for number, study in enumerate(source):
            rows += self.arms(
                refiner, study.id, *_grown(study, refiner.card.labels, root, self.seed + number)
            )
        for number in range(self.phantoms):
            rows += self.arms(refiner, f"phantom-{number}", *_phantom(root, self.seed + number))
        _write("followup_clicks.csv", rows)
        for target in TARGETS:
            self.tell(rows, target)

    def tell(self, rows: list[dict[str, object]], target: float) -> None:
        """The clicks to one target, each case and in sum."""
        needed = {
            (case, arm): _needed([row for row in rows if (row["case"], row["arm"]) == (case, arm)], target)
            for case, arm in dict.fromkeys((row["case"], row["arm"]) for row in rows)
        }
        for (case, arm), clicks in needed.items():
            print(f"{case} {arm}: {clicks} clicks to {target} ({MOST + 1}: not reached)")
        without, with_prior = (
            sum(n for (_, a), n in needed.items() if a == arm) for arm in ("without", "prior")
        )
        fewer = f"{1 - with_prior / without:.0%} fewer" if without else "none are needed"
        print(f"to {target} in all {without} without, {with_prior} with: {fewer}")

    def arms(
        self, refiner: Refiner, case: str, before: Path, now: Path, sequence: str
    ) -> list[dict[str, object]]:
        """Both arms of one patient whose visits lie in two folders."""
        labels = refiner.card.labels
        earlier, later = (next(iter(open_source(folder))) for folder in (before, now))
        array, grid = truth(earlier, labels)
        expected, shown = truth(later, labels)
        images = [group(study).sequences[sequence] for study in (later, earlier)]
        found = move_between(read(images[0]), read(images[1]), sequence)
        prior = Mask(np.asfortranarray(carry(array, grid, found.matrix, shown)), shown)
        print(f"{case}: moved {found.distance:.1f} mm, likeness {found.likeness:.2f}", flush=True)
        prepared, _ = refiner.predictor.prepare_case(group(later))
        features, detail = refiner.features(prepared), refiner.detail(prepared)
        rows = []
        for arm, mask in (("without", None), ("prior", prior)):
            result = refiner.start(prepared, features, mask)
            reader = SimulatedReader(labels, ReaderSettings())
            rng = np.random.default_rng([self.seed, 7])
            for click in range(MOST + 1):
                scores = region_scores(result.prediction.array, expected, shown, labels, surface=False)
                mean = float(np.mean(list(scores.values())))
                rows.append(
                    {"case": case, "arm": arm, "click": click, "mean": round(mean, 4), **_rounded(scores)}
                )
                shots = reader.shots(expected, result.prediction.array, shown.spacing, rng)
                if mean >= STOP or not shots or click == MOST:
                    break
                prompt = Click.on(shown, shots[0].index, shots[0].label, labels)
                result = refiner.refine(prepared, features, result, result.prompts.with_click(prompt), detail)
            print(f"{case} {arm}: {[row['mean'] for row in rows if row['arm'] == arm]}", flush=True)
        return rows


def _needed(rows: list[dict[str, object]], target: float) -> int:
    """Clicks to a target; one more than the most where it was not reached."""
    reached = [int(row["click"]) for row in rows if float(row["mean"]) >= target]
    return reached[0] if reached else MOST + 1


def _grown(study: object, labels: LabelSet, root: Path, seed: int) -> tuple[Path, Path, str]:
    """Two visits of a real case: as it is, and warped outwards around its tumour, then moved."""
    rng = np.random.default_rng([seed, 1])
    grouping = group(study)
    array, grid = truth(study, labels)
    middle = np.array(ndimage.center_of_mass(array > 0))
    distance = ndimage.distance_transform_edt(array == 0, sampling=grid.spacing)
    grow = rng.uniform(0.12, 0.22)
    # where the new image takes its values from: nearer to the middle, less so far from the tumour
    share = 1 - grow * np.clip(1 - distance / 30, 0, 1)
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij")).astype(np.float32)
    source = middle[:, None, None, None] + (index - middle[:, None, None, None]) * share
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(rng.uniform(-8, 8, 3)), rng.uniform(-8, 8, 3)
    later, images = Grid(grid.shape, move @ grid.affine), {}
    for name, series in grouping.sequences.items():
        images[name] = read(series).array
    folders = root / study.id / "before", root / study.id / "now"
    _save_case(folders[0], study.id, images, array, grid)
    warped = {name: ndimage.map_coordinates(one, source, order=1) for name, one in images.items()}
    scaled = {name: one * rng.uniform(0.8, 1.3) for name, one in warped.items()}
    _save_case(folders[1], study.id, scaled, ndimage.map_coordinates(array, source, order=0), later)
    return (*folders, "t1c" if "t1c" in images else next(iter(images)))


def _phantom(root: Path, seed: int) -> tuple[Path, Path, str]:
    """Two visits of a phantom with one tumour that grows and a small one that is new."""
    rng = np.random.default_rng([seed, 2])
    first, second, move = draw_visits(rng)
    patient = phantom.draw(5000 + seed, SCALE)
    folders = root / f"phantom-{seed}" / "before", root / f"phantom-{seed}" / "now"
    for folder, place, tumours, number in zip(
        folders, (np.eye(4), move), (first, second), (1, 2), strict=True
    ):
        phantom.write_nifti(imaged(patient, 6000 + 10 * seed + number, place, tumours), folder, "case")
    return (*folders, "t1c")


def _save_case(
    folder: Path, case: str, images: dict[str, np.ndarray], labels: np.ndarray, grid: Grid
) -> None:
    head = phantom.draw(0)
    made = phantom.Phantom(images, labels.astype(np.uint8), grid, dict.fromkeys(images, grid), head)
    phantom.write_nifti(made, folder, case)


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
