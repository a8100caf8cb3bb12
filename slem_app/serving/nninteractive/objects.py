"""The one object that a client of nnInteractive segments, and what its interactions say of our labels.

An object is a region of the model, such as the whole tumor, or one of its labels. A positive point inside the
object says that the label there is right; outside, that the object's own label is there: the one that lies in
no smaller region (WT: edema). A negative point inside says that what surrounds the object is there: the own
label of the next larger region, or background. Scribbles say the same of each of their voxels. All functions
work on the grid of the image, with the label map that is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import NotFound
from slem_app.labels import LabelSet, Region
from slem_app.prompts import BACKGROUND, Box, Click, Scribble
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["Entry", "SegmentedObject", "object_names"]

Entry = Click | Scribble
LOOSE = 0.35  # share of the way to the middle that lies between an outline and what it was drawn around


def object_names(labels: LabelSet) -> tuple[str, ...]:
    """What can be segmented as an object: regions, the first one by default, then labels."""
    return tuple(dict.fromkeys((*(region.name for region in labels.regions), *labels.names)))


@dataclass(frozen=True)
class SegmentedObject:
    """An object among a model's labels."""

    labels: LabelSet
    """The model's."""
    parts: tuple[str, ...]
    """The labels that are the object."""
    own: str
    """What a positive prompt means where no part of the object is shown."""
    around: str
    """What a negative prompt means inside the object; BACKGROUND where nothing of the model surrounds it."""

    @classmethod
    def named(cls, name: str, labels: LabelSet) -> SegmentedObject:
        """An object by its name; empty: the model's first region.

        Raises:
            NotFound: the model has no such region and no such label.
        """
        names = object_names(labels)
        name = name or names[0]
        if name not in names:
            raise NotFound(f"no object {name!r}: this model has {', '.join(names)}")
        region = next((one for one in labels.regions if one.name == name), None)
        if region is None:
            return cls(labels, (name,), name, BACKGROUND)
        larger = [one for one in labels.regions if set(one.labels) > set(region.labels)]
        around = min(larger, key=lambda one: len(one.labels), default=None)
        outside = BACKGROUND if around is None else _own(around, labels, set(region.labels))
        return cls(labels, region.labels, _own(region, labels), outside)

    def mask(self, shown: np.ndarray) -> np.ndarray:
        """(I, J, K) bool: where a label map shows the object."""
        table = np.zeros(256, dtype=bool)
        table[[self.labels.value(name) for name in self.parts]] = True
        return np.asarray(table[shown])

    def point(
        self, index: Sequence[int], positive: bool, shown: np.ndarray, image: Grid
    ) -> tuple[Entry, ...]:
        """What a point says.

        Raises:
            BadPrompt: it lies outside the image.
        """
        click = Click.on(image, index, BACKGROUND, what="the point")
        voxel = click.voxel(image)
        assert voxel is not None  # `on` has refused any other
        return (Click(self._meant(int(shown[voxel]), positive), click.world),)

    def scribble(
        self,
        painted: np.ndarray,
        positive: bool,
        shown: np.ndarray,
        image: Grid,
        within: np.ndarray | None = None,
    ) -> tuple[Entry, ...]:
        """What painted voxels say: those that correct the object first.

        Args:
            painted: (I, J, K) bool.
            positive: they belong to the object.
            shown: (I, J, K) the label map.
            image: their grid.
            within: (I, J, K) bool, the inside of the lasso that drew them.
        """
        says: dict[str, np.ndarray] = {}
        wrong = painted & (self.mask(shown) != positive)
        for value in [*np.unique(shown[wrong]), *np.unique(shown[painted & ~wrong])]:
            name = self._meant(int(value), positive)
            where = painted & (shown == value)
            says[name] = says[name] | where if name in says else where
        return tuple(Scribble.of(name, where, image, within) for name, where in says.items())

    def outline(
        self, inside: np.ndarray, positive: bool, shown: np.ndarray, image: Grid
    ) -> tuple[Entry, ...]:
        """What a lasso or a box says that was drawn around something.

        Negative: none of the object is inside. Positive: some of it is; and where the outline lies in one
        plane, the object does not cross it there: each piece of the plane that does is cut at the outline,
        pieces elsewhere are left alone. Where nothing of the object is inside, what lies well inside is
        painted, and the object does not spread over the outline in that plane.

        Args:
            inside: (I, J, K) bool, what is enclosed.
            positive: the object is inside.
            shown: (I, J, K) the label map.
            image: their grid.
        """
        found = self.mask(shown)
        if not positive:
            wrong = found & inside
            return self.scribble(wrong, False, shown, image) if wrong.any() else ()
        box = bounding_box(inside)
        thin = [axis for axis, part in enumerate(box) if part.stop - part.start == 1]
        if not (found & inside).any():
            if len(thin) != 1:
                return self.point(_deepest(inside, image), True, shown, image)
            return self.scribble(_well_inside(inside, image), True, shown, image, inside)
        if not thin:
            return ()
        plane = [slice(None)] * 3
        plane[thin[0]] = box[thin[0]]
        beyond = np.zeros_like(inside)
        beyond[tuple(plane)] = _crossing(found[tuple(plane)], inside[tuple(plane)])
        return self.scribble(beyond, False, shown, image) if beyond.any() else ()

    def box(self, low: Sequence[int], high: Sequence[int], image: Grid) -> Box:
        """The object lies between two voxels, both included.

        Raises:
            BadPrompt: wholly outside the image.
        """
        return Box.on(image, low, high, self.parts)

    def label_map(self, mask: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """(I, J, K) uint8 label map in which the object is `mask`, and what is known of the rest is kept."""
        array, found = np.array(shown, dtype=np.uint8, order="F"), self.mask(shown)
        array[mask & ~found] = self.labels.value(self.own)
        array[found & ~mask] = self.labels.value(self.around) if self.around else 0
        return array

    def _meant(self, value: int, positive: bool) -> str:
        """The label that a prompt on a voxel of this value means."""
        there = self.labels.names[value - 1] if value else BACKGROUND
        if (there in self.parts) == positive:
            return there
        return self.own if positive else self.around


def _own(region: Region, labels: LabelSet, without: Collection[str] = ()) -> str:
    """The label of a region that lies in the fewest regions."""
    left = [name for name in region.labels if name not in without]
    return min(left, key=lambda name: len(labels.signature(name)))


def _deepest(inside: np.ndarray, image: Grid) -> tuple[int, int, int]:
    """The voxel that is farthest from the rim, in the plane of a flat mask."""
    box, depth = _depth(inside, image)
    where = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return triple(int(side.start + at) for side, at in zip(box, where, strict=True))


def _well_inside(inside: np.ndarray, image: Grid) -> np.ndarray:
    """(I, J, K) bool: a flat mask less its rim, for an outline is drawn loosely around something."""
    box, depth = _depth(inside, image)
    found = np.zeros_like(inside)
    found[box] = depth >= LOOSE * depth.max()
    return found


def _depth(inside: np.ndarray, image: Grid) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box of a mask, and in it mm to the rim, in the plane of a flat mask; above 0 inside."""
    box = bounding_box(inside)
    part = np.ascontiguousarray(inside[box])
    axes = [axis for axis in range(3) if part.shape[axis] > 1]
    if not axes:
        return box, part.astype(float)
    flat = np.pad(part.reshape([part.shape[axis] for axis in axes]), 1)
    depth = ndimage.distance_transform_edt(flat, sampling=image.spacing[axes])
    return box, depth[(slice(1, -1),) * len(axes)].reshape(part.shape)


def _crossing(found: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Of the pieces of the object that are partly inside: what is outside."""
    pieces, _ = ndimage.label(found)
    crossing = np.isin(pieces, np.unique(pieces[inside & found]))
    return np.asarray(crossing & found & ~inside)
