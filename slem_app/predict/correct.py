"""One prompt answered by the editor: views around it, the network, and what may follow on the reader's grid.

    corrector = Corrector(editor, card.labels, device)
    detail = corrector.detail(prepared)  # once a case
    answer = corrector.answer(array, reference, detail, automatic, entry, before)
    touched = corrector.follow(array, reference, answer, entry, before, box)

The network sees a view of the images' own detail and a wider, coarser one at once. Its answers are put
together on the finer lattice and brought onto the reader's grid; there only what is in one piece with the
prompt changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from slem_app.labels import LabelSet
from slem_app.network import channels_last
from slem_app.predict.claim import margins, squared_distance
from slem_app.predict.editing import Pointed, ShownView, channels, copied, follow
from slem_app.predict.predictor import best_precision
from slem_app.predict.view import Box3, covering, moved
from slem_app.prompts import Box, Click, Scribble, map_value
from slem_app.result_warning import ResultWarning
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box, lattice
from slem_app.volumes.prepare import Prepared
from slem_app.weights import EditorModel

__all__ = ["Answer", "Automatic", "Corrector", "Detail", "EditSettings", "Touched"]

NEVER = -20.0  # logit of a place that cannot change


@dataclass(frozen=True)
class EditSettings:
    """How answers become changes."""

    threshold: float = 0.5
    """Logit from which a voxel follows; 0 mends more a click, and does harm more often."""
    coarse: float = 0.5
    """Weight of a coarser view beside the finer one, where both see."""
    rim: int = 3
    """Voxels at a view's faces that count no more, where a wider view sees them."""
    reach: float = 3.0
    """Logits by which a prompt's reach of 1 lowers the threshold, and one of -1 raises it."""
    across: bool = True
    """An answer may also change what shows another label than the one at the prompt: a background click takes
    a false lesion with its core.
    """
    keep: float = 2.0
    """Logits more that a voxel must reach where it shows the label of an earlier prompt that is nearer than
    the new one: else two prompts into a border that the images do not show take turns in undoing each other.
    """
    far: float = 25.0
    """mm from the prompt beyond which a change is far."""
    much: float = 5.0
    """Millilitres of far changes from which the reader is told."""


@dataclass(frozen=True, eq=False)
class Detail:
    """A case as the editor sees it."""

    images: np.ndarray
    """(M, I, J, K) float16, as `Prepared.images`."""
    present: np.ndarray
    """(M,) bool."""
    grid: Grid
    """At the editor's spacing."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.images.nbytes


@dataclass(frozen=True, eq=False)
class Automatic:
    """The automatic result's probabilities."""

    probabilities: np.ndarray
    """(R, I, J, K) float32."""
    grid: Grid
    """Theirs."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says to a prompt."""

    logits: np.ndarray
    """(I, J, K) float32: does the prompt's label belong here?"""
    grid: Grid
    """Theirs."""

    def cropped(self, threshold: float) -> Answer | None:
        """The part that reaches a threshold, and one voxel around it; None where nothing does."""
        box = bounding_box(self.logits > threshold)
        if not self.logits[box].size:
            return None
        low = [max(0, s.start - 1) for s in box]
        size = [min(n, s.stop + 1) - a for s, a, n in zip(box, low, self.logits.shape, strict=True)]
        part = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        return Answer(self.logits[part], self.grid.crop(tuple(low), tuple(size)))


@dataclass(frozen=True, eq=False)
class Touched:
    """What an answer changed."""

    box: Box3
    """All that changed lies inside."""
    warnings: tuple[ResultWarning, ...] = ()
    """What the reader must know of it."""


class Corrector:
    """Answers prompts with one editor.

    Args:
        editor: its card and network.
        labels: of the model that is corrected.
        device: where the network runs; it is moved there.
        settings: how answers become changes.
    """

    def __init__(
        self,
        editor: EditorModel,
        labels: LabelSet,
        device: torch.device,
        settings: EditSettings | None = None,
    ) -> None:
        self.card, self.labels, self.device = editor.card, labels, device
        self.network = channels_last(editor.network, device)
        self.settings = settings or EditSettings()
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
        return Detail(images.astype(np.float16), prepared.present, grid)

    def answer(
        self,
        array: np.ndarray,
        reference: Grid,
        detail: Detail,
        automatic: Automatic | None,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
    ) -> Answer:
        """What the network says to a prompt.

        Args:
            array: (I, J, K) uint8 on `reference`, what is shown.
            reference: the reader's grid.
            detail: the case.
            automatic: None where there is no automatic result.
            entry: the prompt; some of it lies on `reference`.
            before: earlier prompts.
        """
        middle = _middle(entry, detail.grid)
        inputs, organs = [], []
        for scale in self.card.scales:
            sight, grid = self._sight(array, reference, detail, middle, scale)
            newest = _pointed(entry, grid, self.labels)
            older = [_pointed(one, grid, self.labels) for one in before if len(one.voxels(grid))]
            odds = None if automatic is None else self._odds(automatic, grid, sight, newest)
            inputs.append(channels(self.card.network, sight, newest, older, odds, ("", *self.labels.names)))
            organs.append(sight.images[sight.present].any(axis=0))
        answers = self._run(inputs)
        for answer, organ in zip(answers, organs, strict=True):
            answer[~organ] = NEVER
        return self._together(answers, detail.grid, middle)

    def follow(
        self,
        array: np.ndarray,
        reference: Grid,
        answer: Answer,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
        limits: Box | None,
    ) -> Touched:
        """Let `array` (changed in place) follow a prompt as the network says.

        Args:
            array: (I, J, K) uint8 on `reference`.
            reference: the reader's grid.
            answer: from `answer`.
            entry: the prompt.
            before: earlier prompts, whose voxels keep their labels.
            limits: the box in which labels may be.
        """
        value, seeds = map_value(entry.label, self.labels), entry.voxels(reference)
        threshold = self.settings.threshold - self.settings.reach * entry.reach
        cropped = answer.cropped(threshold)
        box = _grown(covering(cropped.grid, reference) if cropped else None, seeds, reference)
        part = reference.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
        wants, square = np.zeros(part.shape, dtype=bool), _squared(entry, part)
        if cropped is not None:
            needed = threshold + self.settings.keep * self._kept(array[box], square, entry, before, part)
            wants = moved(cropped.logits, cropped.grid, part, order=1, fill=NEVER) > needed
        held = _held(before, entry, part)
        if isinstance(entry, Scribble):
            held |= entry.beside(part)
        if limits is not None and limits.limits(entry.label):
            held |= ~limits.inside(part)
        same, start = array[box] == value, np.array([s.start for s in box])
        if not self.settings.across:
            wants &= np.isin(array[box], array[tuple(seeds.T)])
        change = follow(wants, same, square, held, seeds - start)
        warnings = self._warnings(change & ~same, square, part)
        array[box][change] = value
        return Touched(box, warnings)

    def _kept(
        self,
        shown: np.ndarray,
        square: np.ndarray,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
        part: Grid,
    ) -> np.ndarray:
        """(I, J, K) bool: what shows the label of an earlier prompt that is nearer than the new one."""
        kept = np.zeros(part.shape, dtype=bool)
        for other in before:
            if other.label != entry.label and len(other.voxels(part)):
                value = map_value(other.label, self.labels)
                kept |= (shown == value) & (_squared(other, part) < square)
        return kept

    def _warnings(self, change: np.ndarray, square: np.ndarray, part: Grid) -> tuple[ResultWarning, ...]:
        far = change & (square > self.settings.far**2)
        millilitres = part.millilitres(far)
        if millilitres < self.settings.much:
            return ()
        reach = float(np.sqrt(square[far].max()))
        text = (
            f"the last prompt changed {millilitres:.1f} ml more than {self.settings.far:.0f} mm away, up to "
            f"{reach:.0f} mm: look there, and undo it if you did not mean that"
        )
        return (ResultWarning("far-change", text),)

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
        size, widest, rim = self.card.view, max(self.card.scales), self.settings.rim
        whole = size * widest
        total = np.full((whole,) * 3, 0.0, dtype=np.float32)
        weight = np.zeros((whole,) * 3, dtype=np.float32)
        for n, (answer, scale) in enumerate(zip(answers, self.card.scales, strict=True)):
            part, edge = _finer(answer, scale), rim if scale < widest else 0
            start = (whole - size * scale) // 2
            box = (slice(start + edge, start + size * scale - edge),) * 3
            inner = (slice(edge, size * scale - edge),) * 3
            share = 1.0 if n == 0 else self.settings.coarse
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


def _held(before: Sequence[Click | Scribble], entry: Click | Scribble, part: Grid) -> np.ndarray:
    """(I, J, K) bool: voxels of earlier prompts of other labels, where the new one does not lie."""
    held = np.zeros(part.shape, dtype=bool)
    for other in before:
        held[tuple(other.voxels(part).T)] = other.label != entry.label
    held[tuple(entry.voxels(part).T)] = False
    return held


def _squared(entry: Click | Scribble, part: Grid) -> np.ndarray:
    """(I, J, K) mm2 to a prompt."""
    if isinstance(entry, Click):
        return squared_distance(part, np.array(entry.world))
    free = np.ones(part.shape, dtype=bool)
    free[tuple(entry.voxels(part).T)] = False
    return ndimage.distance_transform_edt(free, sampling=part.spacing).astype(np.float32) ** 2


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


def _grown(box: Box3 | None, voxels: np.ndarray, grid: Grid) -> Box3:
    """`box` grown so that it holds some voxels and what lies next to them."""
    more = np.ceil(4.0 / grid.spacing).astype(int)
    low, high = voxels.min(axis=0) - more, voxels.max(axis=0) + 1 + more
    if box is not None:
        low, high = np.minimum(low, [s.start for s in box]), np.maximum(high, [s.stop for s in box])
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
