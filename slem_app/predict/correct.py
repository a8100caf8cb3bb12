"""An answer to a prompt becomes a change: what may follow it on the reader's grid.

    corrector = Corrector(answers, card.labels)
    answer = corrector.answer(array, reference, detail, automatic, entry, before)
    touched = corrector.follow(array, reference, answer, entry, before, box)

Whoever has answered, an editor or a rule, only what is in one piece with the prompt changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from slem_app.errors import BadPrompt
from slem_app.labels import LabelSet
from slem_app.predict.answers import NEVER, Answer, Answers
from slem_app.predict.editing import follow
from slem_app.predict.grids import Box3, covering, moved
from slem_app.prompts import Box, Click, Scribble, map_value
from slem_app.result_warning import ResultWarning
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import squared_distance

__all__ = ["Corrector", "EditSettings", "Touched", "check_inside"]


@dataclass(frozen=True)
class EditSettings:
    """How answers become changes."""

    threshold: float = 0.5
    """Logit from which a voxel follows; 0 mends more a click, and does harm more often."""
    reach: float = 3.0
    """Logits by which a prompt's reach of 1 lowers the threshold, and one of -1 raises it."""
    keep: float = 2.0
    """Logits more that a voxel must reach where it shows the label of an earlier prompt that is nearer than
    the new one: else two prompts into a border that the images do not show take turns in undoing each other.
    """
    sure: float = 1.0
    """Of an editor's answer to a prompt of background: logits more that a voxel must reach for each log-odd
    above `sure_from` by which the automatic result is sure of the label that is shown at the prompt. A model
    that is sure that a voxel is edema is mostly right; where it is sure of background, it misses things.
    """
    sure_from: float = 2.0
    """Log-odds."""
    far: float = 25.0
    """mm from the prompt beyond which a change is far."""
    much: float = 5.0
    """Millilitres of far changes from which the reader is told."""


@dataclass(frozen=True, eq=False)
class Touched:
    """What an answer changed."""

    box: Box3
    """All that changed lies inside."""
    warnings: tuple[ResultWarning, ...] = ()
    """What the reader must know of it."""


@dataclass(frozen=True)
class Corrector:
    """Makes changes of the answers to prompts."""

    answers: Answers
    """Who answers."""
    labels: LabelSet
    """Of the model that is corrected."""
    settings: EditSettings = field(default_factory=EditSettings)
    """How answers become changes."""

    def follow(
        self,
        array: np.ndarray,
        reference: Grid,
        answer: Answer,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
        limits: Box | None,
    ) -> Touched:
        """Let `array` (changed in place) follow a prompt as the answer to it says.

        Args:
            array: (I, J, K) uint8 on `reference`.
            reference: the reader's grid.
            answer: of `answers`.
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
        if not self.answers.across:
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
            f"{reach:.0f} mm: look there, and undo it if that was not meant"
        )
        return (ResultWarning("far-change", text),)


def check_inside(entry: Click | Scribble, reference: Grid) -> None:
    """See that a prompt lies on the reader's image.

    Raises:
        BadPrompt: it does not.
    """
    if not len(entry.voxels(reference)):
        raise BadPrompt(
            f"a {type(entry).__name__.lower()} of {entry.label or 'background'!r} at "
            f"{np.round(np.atleast_2d(entry.world)[0], 1).tolist()} mm lies outside "
            f"the image {reference}: was it made on another image?"
        )


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


def _grown(box: Box3 | None, voxels: np.ndarray, grid: Grid) -> Box3:
    """`box` grown so that it holds some voxels and what lies next to them."""
    more = np.ceil(4.0 / grid.spacing).astype(int)
    low, high = voxels.min(axis=0) - more, voxels.max(axis=0) + 1 + more
    if box is not None:
        low, high = np.minimum(low, [s.start for s in box]), np.maximum(high, [s.stop for s in box])
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
