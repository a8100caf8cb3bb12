"""What a model's editor says to a prompt: views around it, and the network.

The network sees a view of the images' own detail and a wider, coarser one at once. Its answers are put
together on the finer lattice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.labels import LabelSet
from slem_app.network import channels_last
from slem_app.predict.answers import NEVER, Answer, Automatic, Detail
from slem_app.predict.correct import EditSettings
from slem_app.predict.editing import Pointed, ShownView, channels, copied
from slem_app.predict.grids import moved
from slem_app.predict.predictor import best_precision
from slem_app.prompts import Click, Scribble, map_value
from slem_app.regions import margins
from slem_app.types import Grid
from slem_app.volumes.geometry import lattice
from slem_app.volumes.prepare import Prepared
from slem_app.weights import EditorModel

__all__ = ["EditorAnswers"]

COARSE = 0.5  # weight of a coarser view beside the finer one, where both see
RIM = 3  # voxels at a view's faces that count no more, where a wider view sees them


class EditorAnswers:
    """Answers prompts with one editor.

    Args:
        editor: its card and network.
        labels: of the model that is corrected.
        device: where the network runs; it is moved there.
        settings: where an answer must be surer.
    """

    across = True

    def __init__(
        self,
        editor: EditorModel,
        labels: LabelSet,
        device: torch.device,
        settings: EditSettings | None = None,
    ) -> None:
        self.card, self.labels, self.device = editor.card, labels, device
        self.settings = settings or EditSettings()
        self.network = channels_last(editor.network, device)
        self.bfloat16 = best_precision(device) == "bfloat16"

    def detail(self, prepared: Prepared) -> Detail:
        """A case at the editor's spacing; without sources, of what the network's spacing has left of it."""
        grid = lattice([prepared.grid], (self.card.spacing,) * 3)
        closer = prepared.closer(grid)
        images = (
            np.stack([moved(image, prepared.grid, grid, order=1) for image in prepared.images])
            if closer is None
            else closer.images
        )
        images = images.astype(np.float16)
        if prepared.sequences == self.card.sequences:
            return Detail(images, prepared.present, grid)
        slots = [self.card.sequences.index(name) for name in prepared.sequences]
        every = np.zeros((len(self.card.sequences), *grid.shape), dtype=np.float16)
        every[slots], present = images, np.zeros(len(every), dtype=bool)
        present[slots] = prepared.present
        return Detail(every, present, grid)

    def answer(
        self,
        array: np.ndarray,
        reference: Grid,
        detail: Detail,
        automatic: Automatic | None,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
    ) -> Answer:
        """What the network says to a prompt (`Answers`)."""
        middle = _middle(entry, detail.grid)
        inputs, organs, doubts = [], [], []
        for scale in self.card.scales:
            sight, grid = self._sight(array, reference, detail, middle, scale)
            newest = _pointed(entry, grid, self.labels)
            older = [_pointed(one, grid, self.labels) for one in before if len(one.voxels(grid))]
            odds = None if automatic is None else self._odds(automatic, grid, sight, newest)
            inputs.append(channels(self.card.network, sight, newest, older, odds, ("", *self.labels.names)))
            organs.append(sight.images[sight.present].any(axis=0))
            doubts.append(self._doubt(newest, odds))
        answers = self._run(inputs)
        for answer, organ, doubt in zip(answers, organs, doubts, strict=True):
            answer -= doubt
            answer[~organ] = NEVER
        return self._together(answers, detail.grid, middle)

    def _doubt(self, newest: Pointed, odds: np.ndarray | None) -> np.ndarray | float:
        """Logits by which an answer must be surer, (V, V, V) or for the whole view: a prompt of background
        takes away little of which the automatic result is sure.
        """
        if newest.value != 0 or odds is None:
            return 0.0
        return self.settings.sure * np.maximum(0, odds[1] - self.settings.sure_from)

    def _sight(
        self, array: np.ndarray, reference: Grid, detail: Detail, middle: np.ndarray, scale: int
    ) -> tuple[ShownView, Grid]:
        """A view, and its grid."""
        size = self.card.view
        grid = _view_grid(detail.grid, middle, size, scale)
        images = _strided(detail.images, middle, size, scale)
        shown = moved(array, reference, grid, order=0)
        return ShownView(images, detail.present, shown, self.card.spacing * scale), grid

    def _odds(self, automatic: Automatic, grid: Grid, sight: ShownView, newest: Pointed) -> np.ndarray:
        seen = np.stack([moved(one, automatic.grid, grid, order=1) for one in automatic.probabilities])
        seen = np.clip(seen, 1e-4, 1 - 1e-4)
        logits, names = np.log(seen / (1 - seen)), ("", *self.labels.names)
        here = int(sight.shown[tuple(newest.voxels[0])])
        return np.stack([margins(logits, self.labels, names[v]).min(axis=0) for v in (newest.value, here)])

    def _run(self, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        seen, told = (copied(a).to(self.device) for a in zip(*inputs, strict=True))
        seen = seen.contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.network(seen, told).float().cpu().numpy()

    def _together(self, answers: np.ndarray, grid: Grid, middle: np.ndarray) -> Answer:
        """Answers, finest first, as one field of voxels of the finest; a coarser one counts alone only where
        no finer one sees.
        """
        size, widest, rim = self.card.view, max(self.card.scales), RIM
        whole = size * widest
        total = np.full((whole,) * 3, 0.0, dtype=np.float32)
        weight = np.zeros((whole,) * 3, dtype=np.float32)
        for n, (answer, scale) in enumerate(zip(answers, self.card.scales, strict=True)):
            part, edge = _finer(answer, scale), rim if scale < widest else 0
            start = (whole - size * scale) // 2
            box = (slice(start + edge, start + size * scale - edge),) * 3
            inner = (slice(edge, size * scale - edge),) * 3
            share = 1.0 if n == 0 else COARSE
            total[box] += share * part[inner]
            weight[box] += share
        return Answer(total / np.maximum(weight, 1e-6), _view_grid(grid, middle, whole, 1))


def _middle(entry: Click | Scribble, grid: Grid) -> np.ndarray:
    """(3,) voxel of a click, or of the painted voxel next to the middle of what is painted."""
    points = np.atleast_2d(np.array(entry.world))
    nearest = points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return np.floor(grid.to_index(nearest) + 0.5).astype(int)


def _view_grid(grid: Grid, middle: np.ndarray, size: int, scale: int) -> Grid:
    """`size` voxels along each axis, `scale` times as large, around one of `grid`."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(middle - (size // 2) * scale)
    affine[:3, :3] *= scale
    return Grid((size,) * 3, affine)


def _strided(images: np.ndarray, middle: np.ndarray, size: int, scale: int) -> np.ndarray:
    """(M, size, size, size) float32: every `scale`-th voxel around the middle, zero outside."""
    first = middle - (size // 2) * scale
    found = np.zeros((len(images), size, size, size), dtype=np.float32)
    source, target = [], []
    for start, count in zip(first, images.shape[1:], strict=True):
        low = max(0, -(start // scale))  # first place at or above zero
        high = min(size, -((start - count) // scale))
        source.append(slice(int(start + low * scale), int(max(0, start + (high - 1) * scale + 1)), scale))
        target.append(slice(low, max(low, high)))
    if all(s.stop > s.start for s in target):
        found[(slice(None), *target)] = images[(slice(None), *source)]
    return found


def _pointed(entry: Click | Scribble, grid: Grid, labels: LabelSet) -> Pointed:
    """A prompt in a view; where nothing of it is inside, at the view's middle."""
    voxels = entry.voxels(grid)
    return Pointed(voxels if len(voxels) else np.array([grid.shape]) // 2, map_value(entry.label, labels))


def _finer(answer: np.ndarray, scale: int) -> np.ndarray:
    """(n, n, n) on voxels `scale` times as small: fine voxel i lies at i / scale, as the views' grids do."""
    if scale == 1:
        return answer
    size = answer.shape[0]
    place = torch.arange(size * scale, dtype=torch.float32) / scale
    line = (2 * place + 1) / size - 1
    where = torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], dim=-1)[None]
    given = torch.from_numpy(np.ascontiguousarray(answer))[None, None]
    return F.grid_sample(given, where, padding_mode="border", align_corners=False)[0, 0].numpy()
