"""How one prompt spreads if a model has no editor: by the network's logits around it, the images, the
appearance of the tissue and the claims of other prompts.

The change is in one piece with the prompt, keeps to what shows the label that it corrects, and leaves the
voxels of earlier prompts as they are (see `refine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from slem_app.errors import BadPrompt
from slem_app.predict.appearance import AppearanceSettings, Maps, evidence
from slem_app.predict.claim import ClaimSettings, claim, layer, margins, squared_distance
from slem_app.predict.view import Box3, View, covering, moved
from slem_app.prompts import Click, Prompts, Scribble, map_value
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Card

__all__ = ["Sight", "Spread", "check_inside"]


@dataclass(frozen=True, eq=False)
class Sight:
    """What the network sees around some prompts."""

    view: View
    """Where."""
    logits: np.ndarray
    """(R, I, J, K) of the view."""
    maps: Maps | None = None
    """Of a pass without prompts, where a click's looks want them; None for a network that does not listen,
    which is not asked again.
    """


@dataclass(frozen=True)
class Spread:
    """Lets a label map follow one prompt after the other."""

    card: Card
    """Of the model: its labels and the threshold of its regions."""
    settings: ClaimSettings
    """How a prompt spreads."""
    appearance: AppearanceSettings
    """How much the looks of the tissue count beside the network."""

    def follow(
        self, array: np.ndarray, prepared: Prepared, sight: Sight, entry: Click | Scribble, prompts: Prompts
    ) -> Box3:
        """Let `array` follow one prompt.

        Args:
            array: (I, J, K) labels on the reference grid, changed in place.
            prepared: the case.
            sight: what the network sees around the prompt.
            entry: the prompt, one of `prompts`.
            prompts: all prompts; those before `entry` are earlier.

        Returns:
            The box of the reference grid that may have changed.

        Raises:
            BadPrompt: the prompt lies outside the image.
        """
        reference, settings = prepared.reference, self.settings
        voxels = check_inside(entry, reference)
        before = prompts.entries[: prompts.entries.index(entry)]
        near, field = self._field(sight, prepared, entry, before, array)
        box = _grown(covering(near.grid, reference), voxels, settings.ball, reference)
        part = reference.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
        odds = moved(field, near.grid, part, order=1, fill=-1.0)
        follows = odds > 0
        value, corrected = map_value(entry.label, self.card.labels), np.unique(array[tuple(voxels.T)])
        if (corrected != value).any():
            follows &= np.isin(array[box], (*corrected, value))
        if isinstance(entry, Click):
            self._round(follows, odds > -settings.refused, part, entry, before)
        if prompts.box is not None and prompts.box.limits(entry.label):
            follows &= prompts.box.inside(part)
        if isinstance(entry, Scribble):
            follows &= ~entry.beside(part)
        seeds = tuple((voxels - [s.start for s in box]).T)
        follows[seeds] = True
        pieces, count = ndimage.label(follows)
        chosen = np.zeros(count + 1, dtype=bool)
        chosen[pieces[seeds]] = True  # never piece 0, since the seeds follow
        array[box][chosen[pieces]] = value
        for other in (*before, entry):
            held = other.voxels(reference)
            held = held[_inside(held, box)]
            array[tuple(held.T)] = map_value(other.label, self.card.labels)
        return box

    def _round(
        self,
        follows: np.ndarray,
        likely: np.ndarray,
        part: Grid,
        click: Click,
        before: Sequence[Click | Scribble],
    ) -> None:
        """Add what is likely in the ball around a click, less what lies nearer to an earlier click of another
        label (`follows` is changed in place).
        """
        core, mm = self.settings.core, self.settings.ball
        box = _ball(part, click, mm)
        away = _away(part, box, click)
        follows[box] |= (away <= core**2) | ((away <= mm**2) & likely[box])
        for other in before:
            if isinstance(other, Click) and other.label != click.label and other.voxel(part) is not None:
                box = _ball(part, other, mm)
                apart = _away(part, box, other)
                follows[box] &= ~((apart <= mm**2) & (apart < _away(part, box, click)))

    def _field(
        self,
        sight: Sight,
        prepared: Prepared,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
        array: np.ndarray,
    ) -> tuple[View, np.ndarray]:
        """The part of a view that a prompt may change, and (I, J, K) on it: positive where the prompt's label
        is to be shown.

        `array` is what is shown so far, on the reference grid.
        """
        settings, threshold = self.settings, self.card.postprocess.threshold
        near = sight.view.around(np.atleast_2d(np.array(entry.world)), settings.reach)
        images = prepared.images[(slice(None), *near.box)][prepared.present]
        mine = claim(entry, near.grid, images, settings)
        if mine is None:
            return near, np.full(near.grid.shape, -1.0, dtype=np.float32)
        shown = margins(
            sight.logits[(slice(None), *near.within(sight.view))], self.card.labels, entry.label, threshold
        )
        np.clip(shown, -settings.most, settings.most, out=shown)
        at = _mean_at(shown, entry, near.grid)
        lacking = np.full_like(at, max(0.0, settings.surplus - at.min()))
        free, held = self._others(
            [other for other in before if other.label != entry.label], near.grid, images, shown, mine
        )
        field = (shown - held + lacking[:, None, None, None] * free).min(axis=0)
        value = map_value(entry.label, self.card.labels)
        showing = moved(array, prepared.reference, near.grid, order=0)
        looks = None
        if isinstance(entry, Click):
            maps = sight.maps and replace(sight.maps, start=tuple(s.start for s in near.within(sight.view)))
            looks = evidence(
                entry, value, near.grid, images, showing, shown.min(axis=0), self.appearance, maps
            )
        if looks is not None:  # what other prompts hold gets no support
            field += np.where(looks > 0, looks * free / np.maximum(mine, 1e-6), looks)
        field[mine < settings.least] = -1.0
        may, must = layer(entry, near.grid, showing == value, settings)
        field[~may] = -1.0
        np.maximum(field, 1.0, out=field, where=must & (free > 0))
        matters = field > 0
        if isinstance(entry, Click):
            matters[_ball(near.grid, entry, settings.ball)] = True
        return _cropped(near, field, matters)

    def _others(
        self,
        others: Sequence[Click | Scribble],
        grid: Grid,
        images: np.ndarray,
        shown: np.ndarray,
        mine: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What earlier prompts of other labels leave of a claim `mine`, (I, J, K), and what they hold of each
        decision, (decisions, I, J, K).
        """
        free, held = mine.copy(), np.zeros_like(shown)
        for other in others:
            if (theirs := claim(other, grid, images, self.settings)) is not None:
                there = _mean_at(shown, other, grid)
                # the other prompt's place stays as it is by the decision that is nearest to it already
                decision = there.argmin()
                held[decision] = np.maximum(
                    held[decision], max(0.0, there[decision] + self.settings.surplus) * theirs
                )
                free = np.maximum(free - theirs, 0)
        return free, held


def _ball(grid: Grid, click: Click, mm: float) -> Box3:
    """A box of `grid` that holds all within `mm` of a click on it."""
    more = np.ceil(mm / grid.spacing).astype(int) + 1
    voxel = np.floor(grid.to_index(np.array(click.world)) + 0.5).astype(int)
    return triple(slice(max(0, int(v - m)), int(v + m) + 1) for v, m in zip(voxel, more))


def _away(grid: Grid, box: Box3, click: Click) -> np.ndarray:
    """mm2 from the voxels of a box to a click."""
    stops = (min(s.stop, n) for s, n in zip(box, grid.shape))
    return squared_distance(
        grid.crop(tuple(s.start for s in box), tuple(b - s.start for s, b in zip(box, stops))),
        np.array(click.world),
    )


def _mean_at(values: np.ndarray, entry: Click | Scribble, grid: Grid) -> np.ndarray:
    """(C,) mean of (C, I, J, K) over the voxels of a prompt."""
    return values[(slice(None), *entry.voxels(grid).T)].mean(axis=1)


def _cropped(near: View, field: np.ndarray, matters: np.ndarray) -> tuple[View, np.ndarray]:
    """The part of a field that matters, and one voxel around it."""
    box = bounding_box(matters)
    if not field[box].size:
        return near, field
    low = np.array([max(0, s.start - 1) for s in box])
    high = np.array([min(n, s.stop + 1) for s, n in zip(box, field.shape)])
    return near.part(low, high), field[tuple(slice(a, b) for a, b in zip(low, high))]


def check_inside(entry: Click | Scribble, reference: Grid) -> np.ndarray:
    """(n, 3) voxels of the reader's image that a prompt lies on.

    Raises:
        BadPrompt: none.
    """
    voxels = entry.voxels(reference)
    if not len(voxels):
        raise BadPrompt(
            f"a {type(entry).__name__.lower()} of {entry.label or 'background'!r} at "
            f"{np.round(np.atleast_2d(entry.world)[0], 1).tolist()} mm lies outside "
            f"the image {reference}: was it made on another image?"
        )
    return voxels


def _inside(voxels: np.ndarray, box: Box3) -> np.ndarray:
    inside = (voxels >= [s.start for s in box]) & (voxels < [s.stop for s in box])
    return np.asarray(inside.all(axis=1))


def _grown(box: Box3 | None, voxels: np.ndarray, ball: float, grid: Grid) -> Box3:
    """`box` grown so that it holds `voxels` and the ball around them."""
    more = np.ceil(ball / grid.spacing).astype(int)
    low, high = voxels.min(axis=0) - more, voxels.max(axis=0) + 1 + more
    if box is not None:
        low, high = np.minimum(low, [s.start for s in box]), np.maximum(high, [s.stop for s in box])
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high))
