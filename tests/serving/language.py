"""How tests write down what a reader does: `positive("edema", (i, j, k))`, `negative((i, j, k))`, `undo()`,
... and what is then shown.

    desk.plays(positive("edema", (20, 20, 20)), negative((8, 8, 8)), undo())

A desk lists all its clicks with every request, as both clients do; indices are voxels of the displayed image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from slem_app.formats import read_label_file
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.monai.requests import infer_request
from slem_app.types import Grid

Voxel = tuple[int, int, int]
Deed = Callable[["Desk"], None]
NAMES = ("necrosis", "edema", "enhancing tumor")


def ask(task: SegmentationTask | InteractiveTask, fields: dict) -> tuple[str, dict]:
    """The file and the JSON that a model answers with.

    Args:
        task: the model.
        fields: `case`, and what a client sends.
    """
    request = {"model": "slem_brain", **fields}
    case = request.pop("case")
    answer = task(case, infer_request(request, task.predictor.card.labels.names))
    return str(answer.file), answer.facts.to_json()


@dataclass
class Desk:
    """One reader in front of one image.

    Args:
        task: the model that they use.
        request: fields of every request, e.g. `case` and `client_id`.
    """

    task: SegmentationTask | InteractiveTask
    request: dict
    clicks: dict[str, list[Voxel]] = field(default_factory=dict)
    shown: np.ndarray | None = None
    grid: Grid | None = None
    said: dict = field(default_factory=dict)

    def plays(self, *deeds: Deed) -> np.ndarray:
        """Do one after the other; what is shown in the end."""
        for deed in deeds:
            deed(self)
        return self.shown

    def send(self, **fields: object) -> None:
        listed = {name: [list(voxel) for voxel in voxels] for name, voxels in self.clicks.items()}
        path, self.said = ask(self.task, {**self.request, **{name: [] for name in NAMES}, **listed, **fields})
        self.shown, self.grid, _ = read_label_file(Path(path))
        Path(path).unlink()


def look() -> Deed:
    """Ask with the clicks that there are."""
    return lambda desk: desk.send()


def positive(label: str, voxel: Voxel) -> Deed:
    """A click: here is `label`."""
    return lambda desk: (desk.clicks.setdefault(label, []).append(voxel), desk.send())


def negative(voxel: Voxel) -> Deed:
    """A click: here is nothing."""
    return positive("background", voxel)


def remove(label: str, voxel: Voxel) -> Deed:
    """Take a click out of the list."""
    return lambda desk: (desk.clicks[label].remove(voxel), desk.send())


def clear() -> Deed:
    """Take all clicks out of the list."""
    return lambda desk: (desk.clicks.clear(), desk.send())


def box(first: Voxel, second: Voxel) -> Deed:
    """Labels only between these two voxels, as the plugin sends a box."""
    return lambda desk: desk.send(roi=[end for pair in zip(first, second) for end in pair])


def undo() -> Deed:
    """One step back."""
    return lambda desk: desk.send(undo=True)


def redo() -> Deed:
    """The step that was taken back, again."""
    return lambda desk: desk.send(redo=True)


def start_over() -> Deed:
    """As at first."""
    return lambda desk: (desk.clicks.clear(), desk.send(start_over=True))


def send_mask(path: Path) -> Deed:
    """Send an edited segmentation with the clicks."""
    return lambda desk: desk.send(label=str(path))
