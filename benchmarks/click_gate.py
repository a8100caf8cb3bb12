"""Five single clicks, and a lasso, that must do what anybody would expect of them.

    python benchmarks/click_gate.py --data ../shared/data/brats2013_two

What is shown is the truth, with one thing changed, and the automatic result believes what is shown: so
nothing but the click says what is wanted.

- `background in edema`: a click of background into true edema. Asked for: the ball of 3 mm around it.
- `edema in brain`: a click of edema into healthy brain. Asked for: the ball of 3 mm.
- `missed enhancing part`: a piece of enhancing tumor is shown as necrosis, or as edema; a click of enhancing
  tumor into its middle. Asked for: the piece.
- `label not shown`: no enhancing tumor is shown at all, necrosis in its place; a click of enhancing tumor.
  Asked for: the piece of it that lies within 12 mm.
- `lasso of a missed part`: the same piece, drawn around in the slice in which it is largest.
- `missed lesion`: a lesion of 1 to 5 ml is not shown; a click of its commonest label into its middle. Asked
  for: all of the lesion, in any label.

For each the share of what was asked for that follows, and how many other voxels change. On phantoms without
`--data`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from page import table, where, write_page
from scipy import ndimage

from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.phantom import make
from slem_app.phantom.head import draw
from slem_app.predict import Detail, Prediction, Predictor, Refiner, Result
from slem_app.predict.grids import moved
from slem_app.prompts import BACKGROUND, Click, Mask, Prompts, Scribble
from slem_app.studies import Study, open_source
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared, Volume, prepare
from slem_app.volumes.read import read_all
from slem_app.weights import load_editor, load_model

Case = tuple[str, Mapping[str, Volume], np.ndarray, Grid]
RESULTS = Path(__file__).parent / "results"
BALL = 3.0  # mm
PART = 12.0  # mm around a voxel of enhancing tumor that make up a missed part
LEAST_PART = 0.2  # ml
LESION = (1.0, 5.0)  # ml
SMALL = ((2.0, 4.0, 7.5), (3.0, 5.5, 9.0))
"""Radii in mm of necrosis, rim and edema of a phantom's further lesions."""


@dataclass(frozen=True, eq=False)
class Probe:
    """One click and what it asks for."""

    kind: str
    """One of `WANTED`."""
    shown: np.ndarray
    """(I, J, K) uint8."""
    index: tuple[int, int, int]
    """Voxel of the click."""
    label: str
    """Its label."""
    asked: np.ndarray
    """(I, J, K) bool."""
    values: tuple[int, ...]
    """Values that count as following there."""
    lasso: bool = False
    """In place of the click, what is asked for is drawn around in one slice."""


@dataclass(frozen=True)
class Answered:
    """What a click did."""

    kind: str
    case: str
    share: float
    """Of what was asked for, that followed."""
    asked_ml: float
    false_ml: float
    """Changed outside of it, and wrong then."""


WANTED: Mapping[str, tuple[float, bool]] = {
    "background in edema": (0.9, True),
    "edema in brain": (0.9, True),
    "missed enhancing part": (0.6, False),
    "lasso of a missed part": (0.6, False),
    "label not shown": (0.6, False),
    "missed lesion": (0.6, False),
}
"""Share that must follow, and whether just that share is enough."""


def good(one: Answered) -> bool:
    """Whether a click did what it must."""
    least, enough = WANTED[one.kind]
    return one.share >= least if enough else one.share > least


def probes(
    right: np.ndarray, organ: np.ndarray, grid: Grid, labels: LabelSet, rng: np.random.Generator, each: int
) -> Iterator[Probe]:
    """`each` probes of every kind, fewer where the case has less.

    Args:
        right: (I, J, K) true label map, of `labels`: necrosis, edema, enhancing tumor.
        organ: (I, J, K) bool, the brain.
        grid: of both.
        labels: the model's.
        rng: what is random comes from here.
        each: how many.
    """
    necrosis, edema, rim = (labels.value(name) for name in ("necrosis", "edema", "enhancing tumor"))
    for kind, place, name, value in (
        ("background in edema", right == edema, BACKGROUND, 0),
        ("edema in brain", organ & (right == 0), "edema", edema),
    ):
        for voxel in _deep(place, grid, each, rng):
            ball = _within(voxel, right.shape, grid, BALL)
            yield Probe(kind, right, voxel, name, ball, (value,))
    name, none = "enhancing tumor", np.where(right == rim, necrosis, right).astype(np.uint8)
    for number, voxel in enumerate(_spread(right == rim, each, rng)):
        near = (right == rim) & _within(voxel, right.shape, grid, PART)
        pieces, _ = ndimage.label(near)
        part = pieces == pieces[voxel]
        if grid.millilitres(part) >= LEAST_PART:
            shown = np.where(part, (necrosis, edema)[number % 2], right).astype(np.uint8)
            middle = _middle(part, grid)
            yield Probe("missed enhancing part", shown, middle, name, part, (rim,))
            yield Probe("lasso of a missed part", shown, middle, name, part, (rim,), lasso=True)
            yield Probe("label not shown", none, middle, name, part, (rim,))
    lesions, count = ndimage.label(right > 0, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(right > 0, lesions, np.arange(1, count + 1)) * grid.voxel_volume / 1000
    fitting = [n + 1 for n, size in enumerate(np.atleast_1d(sizes)) if LESION[0] <= size <= LESION[1]]
    for number in fitting[:each]:
        lesion = lesions == number
        common = int(np.bincount(right[lesion]).argmax())
        index = _middle(lesion & (right == common), grid)
        shown = np.where(lesion, 0, right).astype(np.uint8)
        names, values = ("", *labels.names), tuple(range(1, len(labels.names) + 1))
        yield Probe("missed lesion", shown, index, names[common], lesion, values)


def answer(
    refiner: Refiner, prepared: Prepared, detail: Detail | None, right: np.ndarray, probe: Probe, case: str
) -> Answered:
    """What a click does.

    Args:
        refiner: with the editor.
        prepared: the case, its reference the grid of `right`.
        detail: the case as the editor sees it.
        right: (I, J, K) the truth.
        probe: the click.
        case: its name.
    """
    labels, grid = refiner.card.labels, prepared.reference
    believed = believing(probe.shown, labels, prepared)
    shown = Prediction(np.asfortranarray(probe.shown), grid, labels, prepared.used, prepared.missing)
    start = Result(shown, believed, Prompts(mask=Mask(probe.shown, grid)))
    if probe.lasso:
        inside = _largest_slice(probe.asked)
        prompts = start.prompts.with_scribble(Scribble.of(probe.label, inside, grid, inside))
    else:
        prompts = start.prompts.with_click(Click.on(grid, probe.index, probe.label, labels))
    after = refiner.refine(prepared, start, prompts, detail)
    array = after.prediction.array
    follows = np.isin(array, probe.values) & probe.asked
    false = (array != probe.shown) & ~probe.asked & (array != right)
    share = np.count_nonzero(follows) / np.count_nonzero(probe.asked)
    return Answered(probe.kind, case, share, grid.millilitres(probe.asked), grid.millilitres(false))


def believing(shown: np.ndarray, labels: LabelSet, prepared: Prepared) -> np.ndarray:
    """(R, I, J, K) float32 on the network's grid: what a network says that is sure of what is shown."""
    masks = labels.region_masks(shown).astype(np.float32)
    soft = np.stack([ndimage.gaussian_filter(one, 1.0) for one in masks])
    there = np.stack([moved(one, prepared.reference, prepared.grid, order=1) for one in soft])
    return np.clip(there, 0.02, 0.98).astype(np.float32)


def phantoms(count: int, spacing: float = 1.5) -> Iterator[Case]:
    """Heads with a large tumor and a small lesion on the other side."""
    shape = tuple(round(n / spacing) for n in (160, 192, 144))
    for seed in range(count):
        head = draw(seed + 1)
        away = head.centre * np.array([-1.0, 0.6, 1.0])
        head = replace(head, others=((away, SMALL[seed % len(SMALL)]),))
        case = make(seed + 1, shape, (spacing,) * 3, head=head)
        volumes = {name: Volume(image, case.grids[name]) for name, image in case.images.items()}
        yield f"phantom {seed + 1}", volumes, case.labels, case.grid


def real(study: Study, sequences: Sequence[str], labels: LabelSet) -> Case:
    """A labelled study, as `phantoms` gives them."""
    right, grid = truth(study, labels)
    grouping = group(study)
    volumes = read_all({name: one for name, one in grouping.sequences.items() if name in sequences})
    return study.id, volumes, right, grid


def gate(
    refiner: Refiner,
    case: Case,
    each: int,
    kinds: Sequence[str] = tuple(WANTED),
) -> Iterator[Answered]:
    """All clicks of a case.

    Args:
        refiner: with the editor.
        case: name, images by sequence, truth and its grid.
        each: clicks of a kind.
        kinds: of these kinds.
    """
    name, volumes, right, grid = case
    card, rng = refiner.card, np.random.default_rng([5, *name.encode()])
    prepared = prepare(volumes, card.sequences, card.preparation, grid, detailed=True)
    detail = refiner.detail(prepared)
    one = next(volume for volume in volumes.values() if volume.grid.same_as(grid))
    for probe in probes(right, one.array > 0, grid, card.labels, rng, each):
        if probe.kind in kinds:
            yield answer(refiner, prepared, detail, right, probe, name)


def summary(found: Sequence[Answered]) -> list[list[str]]:
    """A row for each kind."""
    rows = []
    for kind in WANTED:
        mine = [one for one in found if one.kind == kind]
        if mine:
            shares, false = np.array([one.share for one in mine]), np.array([one.false_ml for one in mine])
            rows.append(
                [
                    kind,
                    str(len(mine)),
                    f"{np.mean([good(one) for one in mine]):.2f}",
                    f"{shares.mean():.2f}",
                    f"{np.quantile(shares, 0.1):.2f}",
                    f"{np.median(false):.2f}, {np.quantile(false, 0.95):.2f}",
                ]
            )
    return rows


ABOUT = """\
What is shown is the truth with one thing changed, and the automatic result believes it: nothing but the click
says what is wanted. Wanted: nine of ten clicks of background in true edema, and of edema in healthy brain,
turn nine tenths of the ball of 3 mm around them; a click, or a lasso in one slice, brings more than .6 of a
missed enhancing part, also where no enhancing tumor is shown at all, and a click of a missed lesion of 1 to
5 ml. 'good' is the share of clicks that did;
'false' is what a click changed elsewhere and made wrong: a click of background in true edema takes away the
edema that it belongs to, which is what it means where an automatic result is wrong."""
HEAD = ("click", "clicks", "good", "share: mean", "worst tenth at most", "false ml: median, 95 %")


@dataclass(frozen=True)
class Gate:
    """Single clicks."""

    data: Path | None = None
    """Folder of labelled studies; default: phantoms."""
    cases: tuple[str, ...] = ()
    """Those of it; default: all."""
    phantoms: int = 4
    """How many, without `data`."""
    model: str = "slem_brain"
    """Name or folder."""
    editor: str = ""
    """Name or folder of the editor; default: the model's."""
    each: int = 10
    """Clicks of a kind and case."""
    kinds: tuple[str, ...] = tuple(WANTED)
    """Only these."""
    name: str = "click_gate"
    """Of the result files."""
    heading: str = ""
    """Of this run's section."""
    table: bool = False
    """Write the page from the rows of all runs."""

    def run(self) -> None:
        """Click, or write the page."""
        path = RESULTS / f"{self.name}.csv"
        if self.table:
            self.write(path)
            return
        model = load_model(self.model)
        if self.editor:
            model = replace(model, editor=load_editor(self.editor))
        refiner = Refiner(Predictor(model))
        section = self.heading or (str(self.data) if self.data else "phantoms")
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(["section", "kind", "case", "share", "asked_ml", "false_ml"])
            found = []
            for case in self._cases(refiner):
                for one in gate(refiner, case, self.each, self.kinds):
                    numbers = (f"{value:.4f}" for value in (one.share, one.asked_ml, one.false_ml))
                    writer.writerow([section, one.kind, one.case, *numbers])
                    found.append(one)
                file.flush()
        print("\n".join(table(HEAD, summary(found))))

    def _cases(self, refiner: Refiner) -> Iterator[Case]:
        if self.data is None:
            yield from phantoms(self.phantoms)
            return
        source, card = open_source(self.data), refiner.card
        for case in self.cases or source.ids():
            yield real(source.study(case), card.sequences, card.labels)

    def write(self, path: Path) -> None:
        """The page of all runs."""
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        lines = ["# Single clicks that must do what anybody expects", ""]
        lines += [f"`python {' '.join(sys.argv)}`; {where()}.", "", ABOUT]
        for section in dict.fromkeys(row["section"] for row in rows):
            mine = [
                Answered(
                    row["kind"], row["case"], *(float(row[key]) for key in ("share", "asked_ml", "false_ml"))
                )
                for row in rows
                if row["section"] == section
            ]
            lines += ["", f"## {section}", "", *table(HEAD, summary(mine)), "", "Good clicks, by case:", ""]
            cases = list(dict.fromkeys(one.case for one in mine))
            lines += table(
                ("case", *WANTED), [[case, *(_of(mine, case, kind) for kind in WANTED)] for case in cases]
            )
        write_page(path.with_suffix(".md"), "\n".join(lines))


def _of(found: Sequence[Answered], case: str, kind: str) -> str:
    mine = [one for one in found if (one.case, one.kind) == (case, kind)]
    return f"{sum(good(one) for one in mine)} of {len(mine)}" if mine else "none"


def _within(voxel: Sequence[int], shape: Sequence[int], grid: Grid, mm: float) -> np.ndarray:
    """(I, J, K) bool: voxels within `mm` of one."""
    square = np.zeros(tuple(shape), dtype=np.float32)
    for axis, (n, v, step) in enumerate(zip(shape, voxel, grid.spacing, strict=True)):
        line = ((np.arange(n) - v) * step) ** 2
        square += line.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
    return square <= mm**2


def _deep(
    place: np.ndarray, grid: Grid, count: int, rng: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    """Voxels more than the ball's radius inside a mask."""
    depth = ndimage.distance_transform_edt(place, sampling=grid.spacing)
    yield from _drawn(np.argwhere(depth > BALL + grid.spacing.max() / 2), count, rng)


def _spread(place: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    yield from _drawn(np.argwhere(place), count, rng)


def _drawn(voxels: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    for number in rng.permutation(len(voxels))[:count]:
        i, j, k = (int(v) for v in voxels[number])
        yield i, j, k


def _largest_slice(place: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: a mask in the slice along K that holds most of it, and nothing elsewhere."""
    k = int(np.count_nonzero(place, axis=(0, 1)).argmax())
    found = np.zeros_like(place)
    found[:, :, k] = place[:, :, k]
    return found


def _middle(place: np.ndarray, grid: Grid) -> tuple[int, int, int]:
    """The deepest voxel of a mask."""
    depth = ndimage.distance_transform_edt(np.pad(place, 1), sampling=grid.spacing)[1:-1, 1:-1, 1:-1]
    i, j, k = (int(v) for v in np.unravel_index(depth.argmax(), depth.shape))
    return i, j, k


if __name__ == "__main__":
    tyro.cli(Gate).run()
