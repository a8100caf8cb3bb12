"""What a reader measures on a segmentation: volumes, diameters, the bidirectional product, lesions.

Source of the product: Wen et al., RANO 2.0 (J Clin Oncol 41:5187, 2023): the largest diameter of an enhancing
lesion in a slice times the largest diameter perpendicular to it in the same slice. A lesion is measurable
where both are 10 mm or more, on slices of the plane of acquisition. Lengths are mm, volumes ml, positions
RAS mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy  # whose parts are loaded when they are first used
from scipy import ndimage
from skimage.measure import find_contours

from slem_app.errors import BadLabel
from slem_app.labels import LabelSet
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.location import NOWHERE, Location

__all__ = [
    "Bidirectional",
    "Lesion",
    "Measurements",
    "Structure",
    "acquired_along",
    "bidirectional",
    "lesions",
    "measure",
]

MEASURABLE = 10.0  # mm, both diameters (RANO 2.0)
SMALLEST = 0.03  # ml: what is smaller counts as no lesion
TOUCHING = np.ones((3, 3, 3), dtype=bool)
Where = Callable[[np.ndarray, Grid], Location]
"""Tells where a mask lies."""


@dataclass(frozen=True)
class Bidirectional:
    """Two perpendicular diameters in one slice."""

    long: float
    """mm, the largest diameter."""
    short: float
    """mm, the largest one perpendicular to it."""
    slice: int
    """Index of the slice along the axis of acquisition, from 0."""
    ends: tuple[tuple[float, float, float], ...]
    """RAS mm: the two ends of the long one, then those of the short one."""

    @property
    def product(self) -> float:
        """mm2."""
        return self.long * self.short

    @property
    def measurable(self) -> bool:
        """Large enough to be followed by RANO 2.0."""
        return min(self.long, self.short) >= MEASURABLE


@dataclass(frozen=True)
class Lesion:
    """One connected piece (by faces, edges or corners)."""

    volume_ml: float
    """Its volume."""
    centre: tuple[float, float, float]
    """RAS mm, centre of mass."""
    diameters: Bidirectional
    """In the slice where their product is largest."""
    location: Location = field(default=NOWHERE)
    """Where in the brain; `NOWHERE`: not asked for."""


@dataclass(frozen=True)
class Structure:
    """A label, or a region of several labels."""

    name: str
    """As the model's card names it."""
    volume_ml: float
    """Of all its pieces."""
    diameter: float
    """mm, the largest distance between two of its voxels' outer faces along any direction in space; 0 where
    there is none.
    """
    lesions: tuple[Lesion, ...]
    """Its pieces of 0.03 ml and more, the largest product first."""

    @property
    def diameters(self) -> Bidirectional | None:
        """Those of the lesion with the largest product; None where there is no lesion."""
        return self.lesions[0].diameters if self.lesions else None

    @property
    def product(self) -> float:
        """mm2: the sum of the measurable lesions' products."""
        pairs = (lesion.diameters for lesion in self.lesions)
        return sum(pair.product for pair in pairs if pair.measurable)


@dataclass(frozen=True)
class Measurements:
    """All of a segmentation's structures."""

    structures: tuple[Structure, ...]
    """The labels in order of value, then the regions of several labels."""
    along: int
    """The axis of acquisition: slices lie across it."""
    not_assessable: tuple[str, ...] = ()
    """Labels and regions that the study's sequences cannot show; they have no structure."""

    def structure(self, name: str) -> Structure:
        """The structure called `name`.

        Raises:
            BadLabel: it is not assessable, or no label or region of this model.
        """
        for one in self.structures:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.structures)
        why = "it is not assessable" if name in self.not_assessable else f"known are {known}"
        raise BadLabel(f"there is no measurement of {name!r}: {why}")

    def table(self) -> dict[str, object]:
        """For JSON: units are in the names."""
        return {
            "structures": [_row(one) for one in self.structures],
            "slices_along_axis": self.along,
            "not_assessable": list(self.not_assessable),
        }


def measure(
    label_map: np.ndarray,
    grid: Grid,
    labels: LabelSet,
    not_assessable: Iterable[str] = (),
    where: Where | None = None,
) -> Measurements:
    """Measure every label and region.

    Args:
        label_map: (I, J, K) label values, 0 background.
        grid: its grid, that of the series whose slices are read.
        labels: what the values mean.
        not_assessable: labels and regions of which nothing is to be said.
        where: tells where a lesion lies; None: its location is not told.
    """
    hidden, along = tuple(not_assessable), acquired_along(grid)
    parts: dict[str, tuple[str, ...]] = {label.name: (label.name,) for label in labels.labels}
    parts |= {region.name: region.labels for region in labels.regions if len(region.labels) > 1}
    structures = tuple(
        _structure(name, np.isin(label_map, [labels.value(one) for one in members]), grid, along, where)
        for name, members in parts.items()
        if name not in hidden
    )
    return Measurements(structures, along, hidden)


def acquired_along(grid: Grid) -> int:
    """The axis along which slices were acquired: that of the largest spacing; where all are alike within a
    tenth, the one nearest to head and feet.
    """
    spacing = grid.spacing
    if spacing.max() > 1.1 * spacing.min():
        return int(spacing.argmax())
    return int(np.abs(grid.axes[2]).argmax())


def bidirectional(mask: np.ndarray, grid: Grid, along: int) -> Bidirectional:
    """The two diameters of one lesion in the slice where their product is largest.

    Args:
        mask: (I, J, K) bool, one lesion.
        grid: its grid.
        along: the axis across which the slices lie.

    Raises:
        ValueError: the mask is empty.
    """
    box = bounding_box(mask)
    start = np.array([side.start for side in box])
    slices = enumerate(np.moveaxis(mask[box], along, 0))
    pairs = [_in_slice(flat, grid, along, start, number) for number, flat in slices if flat.any()]
    return max(pairs, key=_product)


def lesions(
    mask: np.ndarray, grid: Grid, along: int, where: Where | None = None
) -> tuple[tuple[Lesion, ...], np.ndarray]:
    """The pieces of a mask that count as lesions.

    Args:
        mask: (I, J, K) bool.
        grid: its grid.
        along: the axis across which the slices lie.
        where: tells where a lesion lies; None: its location is not told.

    Returns:
        The lesions, the largest product first; and (I, J, K) int32, n where the n-th of them lies, from 1 on.
    """
    pieces, count = ndimage.label(mask, TOUCHING)
    sizes = np.bincount(pieces.ravel())[1:] * grid.voxel_volume / 1000
    centres = ndimage.center_of_mass(mask, pieces, range(1, count + 1))
    boxes = ndimage.find_objects(pieces)
    found: list[tuple[Lesion, int]] = []
    for number, (size, centre, box) in enumerate(zip(sizes, centres, boxes), 1):
        if size < SMALLEST:
            continue
        here = grid.crop(*_crop(box))
        piece = pieces[box] == number
        diameters = bidirectional(piece, here, along)
        diameters = replace(diameters, slice=diameters.slice + box[along].start)
        middle = _point(grid.to_world(np.array(centre)))
        location = where(piece, here) if where else NOWHERE
        found.append((Lesion(float(size), middle, diameters, location), number))
    found.sort(key=_size_of, reverse=True)
    renumbered = np.zeros(count + 1, np.int32)
    renumbered[[number for _, number in found]] = np.arange(1, len(found) + 1)
    return tuple(lesion for lesion, _ in found), renumbered[pieces]


def _structure(name: str, mask: np.ndarray, grid: Grid, along: int, where: Where | None) -> Structure:
    if not mask.any():
        return Structure(name, 0.0, 0.0, ())
    found, _ = lesions(mask, grid, along, where)
    return Structure(name, grid.millilitres(mask), _diameter(mask, grid), found)


def _size_of(found: tuple[Lesion, int]) -> tuple[float, float]:
    lesion, _ = found
    return (lesion.diameters.product, lesion.volume_ml)


def _product(pair: Bidirectional) -> float:
    return pair.product


def _crop(box: Sequence[slice]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    first, second, third = box
    return (
        (first.start, second.start, third.start),
        (first.stop - first.start, second.stop - second.start, third.stop - third.start),
    )


def _diameter(mask: np.ndarray, grid: Grid) -> float:
    """The largest distance between outer corners of the mask's voxels, less what a voxel's corner stands out
    beyond its faces along that line.
    """
    surface = mask & ~ndimage.binary_erosion(mask)
    points = _hull(np.argwhere(surface) @ grid.affine[:3, :3].T)
    distances = (
        scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points))
        if len(points) > 1
        else np.zeros((1, 1))
    )
    first, last = np.unravel_index(distances.argmax(), distances.shape)
    line = points[last] - points[first]
    length = float(distances[first, last])
    if not length:
        return float(grid.spacing.max())
    # half a voxel beyond the centres at both ends, measured along the line
    steps = np.abs(np.linalg.solve(grid.affine[:3, :3], line / length))
    return length + float(1 / steps.max())


def _in_slice(flat: np.ndarray, grid: Grid, along: int, start: np.ndarray, number: int) -> Bidirectional:
    """The diameters of a lesion's largest piece in one slice, from its outline half way to the outside."""
    across = [axis for axis in range(3) if axis != along]
    outline = max(find_contours(np.pad(flat, 1).astype(np.float32), 0.5), key=len) - 1
    basis, _ = np.linalg.qr(grid.affine[:3, across])
    index = np.zeros((len(outline), 3))
    index[:, across], index[:, along] = outline, number
    world = grid.to_world(index + start)
    plane = world @ basis
    corners = _hull(plane)
    distances = _distances(corners)
    first, last = np.unravel_index(distances.argmax(), distances.shape)
    long = float(distances[first, last])
    direction = (corners[last] - corners[first]) / long
    turned = plane @ np.stack([direction, [-direction[1], direction[0]]], axis=1)
    short, at, low, high = _widest(turned)
    height = world[0] - basis @ plane[0]  # the slice's own place beside its plane through the origin
    unturn = np.stack([direction, [-direction[1], direction[0]]])
    ends = [corners[first], corners[last], np.array([at, low]) @ unturn, np.array([at, high]) @ unturn]
    return Bidirectional(
        long, short, number + int(start[along]), tuple(_point(basis @ end + height) for end in ends)
    )


def _widest(outline: np.ndarray) -> tuple[float, float, float, float]:
    """The widest cut of a closed outline (N, 2) along its second axis: width, place along the first, ends."""
    here, there = outline[:-1], outline[1:]
    cuts = np.unique(outline[:, 0])
    cuts = (cuts[:-1] + cuts[1:]) / 2
    best = (0.0, 0.0, 0.0, 0.0)
    for at in cuts:
        crossing = (here[:, 0] < at) != (there[:, 0] < at)
        a, b = here[crossing], there[crossing]
        values = a[:, 1] + (at - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        if values.size and (width := float(values.max() - values.min())) > best[0]:
            best = (width, float(at), float(values.min()), float(values.max()))
    return best


def _distances(points: np.ndarray) -> np.ndarray:
    """(n, n) distances between (n, D) points."""
    return scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points))


def _hull(points: np.ndarray) -> np.ndarray:
    """The points between which the largest distance can lie."""
    try:
        return points[scipy.spatial.ConvexHull(points).vertices]
    except (scipy.spatial.QhullError, ValueError):  # flat, or too few
        return np.unique(points, axis=0)


def _point(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _row(one: Structure) -> Mapping[str, object]:
    return {
        "name": one.name,
        "volume_ml": round(one.volume_ml, 3),
        "largest_diameter_mm": round(one.diameter, 1),
        "sum_of_products_mm2": round(one.product, 1),
        "lesions": [_lesion_row(lesion) for lesion in one.lesions],
    }


def _lesion_row(lesion: Lesion) -> Mapping[str, object]:
    pair = lesion.diameters
    return {
        "volume_ml": round(lesion.volume_ml, 3),
        "centre_ras_mm": [round(value, 1) for value in lesion.centre],
        "long_diameter_mm": round(pair.long, 1),
        "short_diameter_mm": round(pair.short, 1),
        "product_mm2": round(pair.product, 1),
        "measurable": pair.measurable,
        "slice": pair.slice,
        **lesion.location.table(),
    }
