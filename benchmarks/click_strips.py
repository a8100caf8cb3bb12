"""Sessions of clicks as film strips, to be looked at: what does a reader see, and what would they curse?

    python benchmarks/click_strips.py --data ../shared/data/brats --cases A B --out strips

Each case becomes one PNG; each row is a click: two sequences in the slice of the click, what was shown before
it, what is shown after it, and the truth. The ring is the click; its label and what it did stand above. A
robot clicks as `benchmarks/editor.py` says. Pictures of patients do not belong in the repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from editor import pointed
from PIL import Image, ImageDraw

from slem_app.evaluate.scores import region_scores
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.predict import Predictor, Refiner
from slem_app.prompts import Click, Mask
from slem_app.report.pictures import spot
from slem_app.studies import Study, open_source
from slem_app.volumes.levels import Volume
from slem_app.volumes.prepare import prepare
from slem_app.volumes.read import read_all
from slem_app.weights import load_editor, load_model

HEAD = 16  # pixels of the line above a row
GAP = 4


@dataclass(frozen=True)
class Strips:
    """Draw sessions."""

    out: Path
    """Folder for the pictures."""
    data: Path = Path("../shared/data/brats")
    """Folder of labelled studies."""
    cases: tuple[str, ...] = ()
    """Those to correct; default: all."""
    model: str = "slem_brain"
    """Name or folder."""
    editor: str = ""
    """Name or folder of the editor; default: the model's."""
    robot: str = "largest"
    """largest, random, sloppy."""
    sequences: tuple[str, ...] = ()
    """Use these alone; default: all that a case has."""
    start: str = "automatic"
    """automatic, or nothing: an empty label map, the automatic result unknown."""
    clicks: int = 5
    """A session."""

    def run(self) -> None:
        """One picture a case."""
        torch.set_num_threads(1)
        self.out.mkdir(parents=True, exist_ok=True)
        model = load_model(self.model)
        if self.editor:
            model = replace(model, editor=load_editor(self.editor))
        refiner, source = Refiner(Predictor(model)), open_source(self.data)
        for case in self.cases or source.ids():
            rows = self.session(refiner, source.study(case))
            told = "-".join(("", *self.sequences, *((self.start,) if self.start != "automatic" else ())))
            path = self.out / f"{case}{told}-{self.robot}.png"
            Image.fromarray(np.concatenate(rows)).save(path)
            print(path, flush=True)

    def session(self, refiner: Refiner, study: Study) -> list[np.ndarray]:
        """One row a click, (H, W, 3) uint8."""
        labels, card = refiner.card.labels, refiner.card
        expected, grid = truth(study, labels)
        found = group(study).sequences
        volumes = read_all({n: s for n, s in found.items() if n in (self.sequences or card.sequences)})
        prepared = prepare(volumes, card.sequences, card.preparation, grid, detailed=True)
        result, detail = refiner.start(prepared), refiner.detail(prepared)
        if self.start == "nothing":
            blank = refiner.start(prepared, Mask(np.zeros_like(expected), grid))
            result = replace(blank, probabilities=None)
        shown = [volumes[name] for name in ("t1c", "t2f", *volumes) if name in volumes][:2]
        rng, rows = np.random.default_rng(0), []
        scores = region_scores(result.prediction.array, expected, grid, labels, surface=False)
        for number in range(1, self.clicks + 1):
            before = result.prediction.array
            aim = pointed(self.robot, before, expected, grid.spacing, rng)
            if aim is None:
                break
            label = "" if aim.value == 0 else labels.labels[aim.value - 1].name
            click = Click.on(grid, aim.voxel, label, labels)
            result = refiner.refine(prepared, result, result.prompts.with_click(click), detail)
            after, was = result.prediction.array, scores
            scores = region_scores(after, expected, grid, labels, surface=False)
            text = ", ".join(f"{r.name} {was[r.name]:.3f} > {scores[r.name]:.3f}" for r in labels.regions)
            right = grid.millilitres((before != after) & (after == expected))
            wrong = grid.millilitres((before != after) & (before == expected))
            head = (
                f"{study.id} {number}: {label or 'background'} into {grid.millilitres(aim.piece):.2f} ml: "
                f"{right:.2f} ml made right, {wrong:.2f} ml made wrong; {text}"
            )
            colours = {one.value: one.color for one in labels.labels}
            maps = (None,) * len(shown) + (before, after, expected)
            images = (*shown, shown[-1], shown[-1], shown[-1])
            rows.append(row(head, images, maps, tuple(grid.to_world(np.array(aim.voxel))), grid, colours))
        return rows


def row(
    head: str,
    images: Sequence[Volume],
    maps: Sequence[np.ndarray | None],
    place: tuple[float, float, float],
    grid: object,
    colours: dict[int, tuple[int, int, int]],
) -> np.ndarray:
    """The pictures of a click beside each other, under what it did."""
    spots = []
    for image, label_map in zip(images, maps, strict=True):
        seen = image if label_map is None or image.grid.same_as(grid) else images[0]
        spots.append(spot(seen, place, label_map, colours))
    height, width = spots[0].shape[:2]
    canvas = Image.new("RGB", (len(spots) * (width + GAP), HEAD + height + GAP))
    ImageDraw.Draw(canvas).text((4, 2), head, fill=(255, 255, 255))
    for number, picture in enumerate(spots):
        canvas.paste(Image.fromarray(picture), (number * (width + GAP), HEAD))
    return np.asarray(canvas)


if __name__ == "__main__":
    tyro.cli(Strips).run()
