"""How far a model's own doubts can be trusted, on patients that it has not seen: calibration, where errors
lie, and the Dice that it expects.

    python trust.py --maps FOLDER --card FOLDER --pictures FOLDER > results/trust.md

`--maps`: what `trust_maps.py` made. All lines are fitted on all other patients and tested on the one left
out, so no figure is of a case that it was fitted on. Voxels within 10 mm of the result are counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, stats
from scipy.special import expit

from slem_app.evaluate.confidence import line_of_dice, line_of_logits
from slem_app.evaluate.scores import bootstrap
from slem_app.predict.check_here import LIKELY, calibrated, doubtful, expected_dice, unlikely
from slem_app.regions import decide
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box
from slem_app.weights import Card, load_card

NEAR = 10.0  # mm
BINS = 15
SAMPLE = 5_000  # voxels a case for calibration
Fits = Mapping[str, Mapping[str, tuple[float, float]]]  # patient -> region -> slope and shift of logits
Rows = Sequence[tuple[str, str, float, float]]  # patient, sequences, Dice as told, Dice as it was
WITHOUT_T1C = ("t2f",)  # sets of sequences of which the card lets no Dice be told
FAILURE = 0.75  # Dice of the whole tumour under which a result failed


@dataclass(frozen=True, eq=False)
class Case:
    """One patient with one set of sequences."""

    patient: str
    subset: str
    known: np.ndarray  # (R, I, J, K) by which labels are decided
    before: np.ndarray  # (R, I, J, K) without the card's recalibration
    first: np.ndarray  # (R, I, J, K) of the first network alone
    four: np.ndarray  # (R, I, J, K) as `known`, of four mirrored passes; where there are none, `known`
    truth: np.ndarray
    regions: dict[str, np.ndarray]  # name -> where it truly is, outermost first
    array: np.ndarray
    grid: Grid
    dice: np.ndarray  # (R,) of the result on the images' own grid


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean."""
    found = bootstrap(list(values))
    return found["low"], found["high"]


def load(path: Path, card: Card) -> Case:
    """A file of `trust_maps.py`, cropped to what is near tumour or result."""
    data = np.load(path)
    maps = {
        name: data[name].astype(np.float32) for name in ("known", "before", "first", "four") if name in data
    }
    truth, whole = data["truth"], Grid(data["truth"].shape, data["affine"])
    array = decide(maps["known"], card.labels, card.postprocess, whole.voxel_volume)
    inside = (array > 0) | (truth > 0) | (maps["known"].max(axis=0) > 0.02)
    margin = [int(np.ceil(NEAR / one)) + 1 for one in whole.spacing]
    index = np.argwhere(inside)
    low = np.maximum(index.min(axis=0) - margin, 0)
    high = np.minimum(index.max(axis=0) + margin + 1, truth.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    patient, subset, _ = path.name.rsplit(".", 2)
    cropped = {name: one[(slice(None), *box)] for name, one in maps.items()}
    return Case(
        patient,
        subset,
        **{"four": cropped["known"], **cropped},
        truth=truth[box],
        regions=dict(
            zip(
                (region.name for region in card.labels.regions),
                card.labels.region_masks(truth[box]),
                strict=True,
            )
        ),
        array=array[box],
        grid=Grid(tuple(high - low), np.diag([*whole.spacing, 1.0])),
        dice=data["dice"],
    )


@cache
def near(case: Case) -> np.ndarray:
    """(I, J, K) bool within NEAR of the result; of all that is there where nothing was found."""
    if not case.array.any():
        return np.ones(case.array.shape, dtype=bool)
    return ndimage.distance_transform_edt(case.array == 0, sampling=case.grid.spacing) <= NEAR


@cache
def samples(case: Case, of: str = "known", seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Region -> logits and truth of some voxels near the result; `of`: which of the case's maps."""
    places = np.flatnonzero(near(case))
    chosen = np.random.default_rng(seed).choice(places, min(SAMPLE, places.size), replace=False)
    found = {}
    for (name, right), p in zip(case.regions.items(), getattr(case, of), strict=True):
        clipped = np.clip(p.ravel()[chosen], 1e-6, 1 - 1e-6)
        found[name] = (np.log(clipped / (1 - clipped)), right.ravel()[chosen])
    return found


def fitted(cases: Sequence[Case], card: Card, shifted: Sequence[str]) -> Fits:
    """Patient -> region -> line fitted on all other patients; under '' on all. Regions in `shifted` get
    a shift.
    """
    sampled = [(case.patient, samples(case)) for case in cases]
    return {
        without: {
            region.name: line_of_logits(
                [one[region.name] for who, one in sampled if who != without], region.name in shifted
            )
            for region in card.labels.regions
        }
        for without in ("", *sorted({case.patient for case in cases}))
    }


def reliability(p: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Expected calibration error over BINS equal bins; mean probability, share that is right, and voxels
    of each.
    """
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    count = np.bincount(which, minlength=BINS)
    told = np.bincount(which, weights=p, minlength=BINS) / np.maximum(count, 1)
    true = np.bincount(which, weights=right, minlength=BINS) / np.maximum(count, 1)
    return float((count * np.abs(told - true)).sum() / count.sum()), told, true, count


def calibration(
    cases: Sequence[Case], card: Card, warm: Fits, lines_of: Fits, pictures: Path | None
) -> list[str]:
    """The table of lines and errors, and reliability curves as pictures."""
    lines = [
        "| region | sequences | cases | without recalibration | as served | with a temperature "
        "| with a line (95 %) | worst case | pooled: as served, with a line |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for region in (one.name for one in card.labels.regions):
        curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for subset in sorted({case.subset for case in cases}):
            rows, pooled = [], []
            for case in (one for one in cases if one.subset == subset):
                x, y = samples(case)[region]
                x_before, _ = samples(case, "before")[region]
                slope, shift = lines_of[case.patient][region]
                each = (
                    expit(x_before),
                    expit(x),
                    expit(x * warm[case.patient][region][0]),
                    expit(x * slope + shift),
                )
                rows.append([reliability(one, y)[0] for one in each])
                pooled.append((each[1], each[3], y))
            before, raw, scaled, line = np.array(rows).T
            low, high = interval(line)
            served, moved, y = (np.concatenate(one) for one in zip(*pooled, strict=True))
            whole = [reliability(one, y) for one in (served, moved)]
            lines.append(
                f"| {region} | {subset} | {len(rows)} | {before.mean():.3f} | {raw.mean():.3f} | "
                f"{scaled.mean():.3f} | {line.mean():.3f} ({low:.3f} to {high:.3f}) | {line.max():.3f} | "
                f"{whole[0][0]:.3f}, {whole[1][0]:.3f} |"
            )
            curves[f"{subset}, as served"] = whole[0][1:3]
            curves[f"{subset}, with a line"] = whole[1][1:3]
        if pictures is not None:
            title = f"{region}: share that is right by probability, within 10 mm"
            plot(curves, title, pictures / f"trust_{region}.png")
    every = ", ".join(f"{name}: {line[0]:.3f}, {line[1]:.3f}" for name, line in lines_of[""].items())
    return [*lines, "", f"Lines fitted on all cases (slope, shift): {every}."]


def plot(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, path: Path) -> None:
    """Reliability curves as a picture."""
    size, edge = 420, 50
    canvas = Image.new("RGB", (size + 2 * edge + 190, size + 2 * edge), "white")
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((edge, edge, edge + size, edge + size), outline=(0, 0, 0))
    pen.line((edge, edge + size, edge + size, edge), fill=(170, 170, 170))
    pen.text((edge, 18), title, fill=(0, 0, 0))
    for tick in range(0, 11, 2):
        pen.text((edge + size * tick / 10 - 8, edge + size + 8), f"{tick / 10:.1f}", fill=(0, 0, 0))
        pen.text((18, edge + size - size * tick / 10 - 6), f"{tick / 10:.1f}", fill=(0, 0, 0))
    colours = [(31, 119, 180), (31, 119, 180), (214, 39, 40), (214, 39, 40), (44, 160, 44), (44, 160, 44)]
    for number, (name, (told, true)) in enumerate(curves.items()):
        points = [(edge + size * a, edge + size * (1 - b)) for a, b in zip(told, true, strict=True) if a > 0]
        thin = number % 2 == 0
        pen.line([one for point in points for one in point], fill=colours[number % 6], width=1 if thin else 3)
        y = edge + 20 * number
        pen.line(
            (edge + size + 12, y + 6, edge + size + 36, y + 6),
            fill=colours[number % 6],
            width=1 if thin else 3,
        )
        pen.text((edge + size + 42, y), name, fill=(0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """(I, J, K) mean entropy of the regions in bits, 0 (sure) to 1."""
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(axis=0)


def maps(case: Case, card: Card, fits: Fits) -> dict[str, np.ndarray]:
    """Name -> (I, J, K) doubts to be compared."""
    noise = np.random.default_rng(0).random(case.array.shape).astype(np.float32)
    border = np.zeros(case.array.shape, dtype=bool)
    for axis in range(3):
        step = np.diff(case.array.astype(np.int16), axis=axis) != 0
        for first in (slice(0, -1), slice(1, None)):
            place = [slice(None)] * 3
            place[axis] = first
            border[tuple(place)] |= step
    lined = calibrated(case.known, card.labels, fits[case.patient])
    return {
        "how unlikely the label is": unlikely(case.known, case.array, card.labels),
        "the same on lines": unlikely(lined, case.array, card.labels),
        "the same of four passes": unlikely(case.four, case.array, card.labels),
        "mean entropy of the regions": entropy(case.known),
        "entropy on lines": entropy(lined),
        "entropy without recalibration": entropy(case.before),
        "both networks' difference": np.abs(case.first - case.before).mean(axis=0),
        "whole tumour's entropy": entropy(case.known[:1]),
        "edges of labels": border + noise,
        "random within 10 mm": near(case) + noise,
    }


def places(cases: Sequence[Case], card: Card, fits: Fits) -> list[str]:
    """How many of the wrong voxels lie in the most doubtful tenth of the result's volume."""
    rows: dict[str, list[float]] = {}
    lines, best = [], []
    for case in cases:
        wrong = case.array != case.truth
        size, count = np.count_nonzero(case.array), np.count_nonzero(wrong)
        if not size or not count:
            continue
        most = min(1.0, int(0.1 * size) / count)
        shares = {
            name: float(wrong[doubtful(one, case.array)].sum() / count)
            for name, one in maps(case, card, fits).items()
        }
        for name, value in shares.items():
            rows.setdefault(name, []).append(value)
        best.append(most)
        lines.append(
            f"| {case.patient} | {case.subset} | {size * case.grid.voxel_volume / 1000:.0f} | "
            f"{count * case.grid.voxel_volume / 1000:.1f} | {most:.2f} | "
            + " | ".join(f"{value:.2f}" for value in shares.values())
            + " |"
        )
    names = list(rows)
    share = [np.mean(np.array(rows[name]) / np.array(best)) for name in names]
    each = " | ".join(f"{np.mean(rows[name]):.2f}" for name in names)
    means = f"| **mean** | | | | {np.mean(best):.2f} | {each} |"
    of_most = "| **of what is possible** | | | | 1.00 | " + " | ".join(f"{one:.2f}" for one in share) + " |"
    head = "| patient | sequences | ml | wrong ml | most that is possible | " + " | ".join(names) + " |"
    return [head, "|" + "---|" * (5 + len(names)), means, of_most, *lines]


def quality(cases: Sequence[Case], card: Card, fits: Fits) -> list[str]:
    """The Dice that is expected of each case by the other patients, beside what it was."""
    facts: dict[str, list[tuple[str, str, float, float]]] = {}
    for case in cases:
        box = bounding_box(case.known.max(axis=0) >= LIKELY)  # as served
        lined = calibrated(case.known[(slice(None), *box)], card.labels, fits[case.patient])
        masks = card.labels.region_masks(case.array[box])
        for region, p, mask, was in zip(card.labels.regions, lined, masks, case.dice, strict=True):
            facts.setdefault(region.name, []).append(
                (case.patient, case.subset, expected_dice(p, mask), float(was))
            )
    lines = [
        "| region | results | MAE (95 %) | MAE of the others' median | Spearman | a, b, w for the card |",
        "|---|---|---|---|---|---|",
    ]
    told: dict[str, np.ndarray] = {}
    for name, rows in facts.items():
        who = np.array([row[0] for row in rows])
        x, y = (np.array([row[i] for row in rows]) for i in (2, 3))
        guess, plain = np.zeros(len(y)), np.zeros(len(y))
        for one in sorted(set(who)):
            a, b = line_of_dice(x[who != one], y[who != one])
            guess[who == one] = np.clip(a + b * x[who == one], 0, 1)
            plain[who == one] = np.median(y[who != one])
        error = np.abs(guess - y)
        low, high = interval(error)
        a, b = line_of_dice(x, y)
        width = float(np.quantile(np.maximum(guess - y, 0), 0.9))
        told[name] = guess
        lines.append(
            f"| {name} | {len(y)} | {error.mean():.3f} ({low:.3f} to {high:.3f}) "
            f"| {np.abs(plain - y).mean():.3f} | "
            f"{stats.spearmanr(x, y)[0]:.2f} | {a:.3f}, {b:.3f}, {width:.3f} |"
        )
    first = card.labels.regions[0].name
    return [*lines, "", *_worst(facts[first], told[first], card.confidence.steps), "", *_each(facts, told)]


def _worst(rows: Rows, guess: np.ndarray, steps: tuple[float, float]) -> list[str]:
    true = np.array([row[3] for row in rows])
    failed = true < FAILURE
    worst = np.argsort(guess)[: max(1, round(len(guess) / 5))]
    step = np.where(guess >= steps[0], 0, np.where(guess >= steps[1], 1, 2))
    names = ("as expected", "look closer", "do not use")
    found = [(name, true[step == n]) for n, name in enumerate(names)]
    each = ", ".join(f"{name}: {len(one)} (Dice {one.mean():.2f})" for name, one in found if len(one))
    return [
        f"Failures (whole tumour under {FAILURE}): {failed.sum()} of {len(true)}; the worst fifth "
        f"by expected Dice ({len(worst)} results) holds {failed[worst].sum()} of them. Steps: {each}."
    ]


def _each(facts: Mapping[str, Rows], told: Mapping[str, np.ndarray]) -> list[str]:
    names = list(facts)
    lines = ["| patient | sequences | " + " | ".join(f"{n} expected | {n} was" for n in names) + " |"]
    lines.append("|" + "---|" * (2 + 2 * len(names)))
    for number, (patient, subset, _, _) in enumerate(facts[names[0]]):
        values = [f"{told[n][number]:.2f} | {facts[n][number][3]:.2f}" for n in names]
        lines.append(f"| {patient} | {subset} | " + " | ".join(values) + " |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    card = load_card(args.card)
    cases = [load(path, card) for path in sorted(args.maps.glob("*.npz"))]
    every = [region.name for region in card.labels.regions]
    warm, lines = fitted(cases, card, ()), fitted(cases, card, every)
    plain: Fits = {case.patient: {} for case in cases}
    full = [case for case in cases if case.subset == "all"]
    parts: list[tuple[str, Callable[[], list[str]]]] = [
        ("Calibration", lambda: calibration(cases, card, warm, lines, args.pictures)),
        (
            "Check here: wrong voxels in the most doubtful tenth of the volume, all sequences",
            lambda: places(full, card, lines),
        ),
        (
            "The same with fewer sequences",
            lambda: places([one for one in cases if one.subset != "all"], card, lines),
        ),
        (
            "Expected Dice from probabilities as they come, where T1c is there",
            lambda: quality([one for one in cases if one.subset not in WITHOUT_T1C], card, plain),
        ),
        ("The same for all sets of sequences", lambda: quality(cases, card, plain)),
        ("Expected Dice with temperatures", lambda: quality(cases, card, warm)),
        ("Expected Dice with lines", lambda: quality(cases, card, lines)),
    ]
    for title, make in parts:
        print(f"## {title}\n", *make(), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
