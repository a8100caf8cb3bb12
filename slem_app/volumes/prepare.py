"""One way from the sequences of a study to what the network sees; pretext, training, validation and serving
all pass here.

The network's grid is an RAS lattice of the card's spacing in world space, cropped to the head, so it does not
depend on how the study is stored nor on which sequence the reader looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import BadGrid, BadStudy, BadVolume
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box, check_grid, lattice, overlap, resample
from slem_app.volumes.misregistration import displacement

__all__ = ["Levels", "Preparation", "Prepared", "Volume", "foreground", "normalise", "prepare"]

LEAST_OVERLAP = 0.05  # share of a sequence's field of view that must lie in the reference's
LEAST_SHARED = 0.05  # share of the smaller of two foregrounds that must lie in the other
LEAST_AGREEMENT = 0.6  # Dice of two sequences' foregrounds under which they look out of register
CONSTANT_SHARE = (
    0.2  # share of voxels of one same value from which that value may be a background that was cut away
)
# changes a voxel, along a line, between background and the rest: a brain has few, speckles in air many
COMPACT = 0.2
ROUNDING = 1e-6  # of the range of intensities
IN_PLANE = ndimage.generate_binary_structure(2, 1)[:, :, None]  # neighbours along I and J
HEAD_LEVEL = 0.12  # where a head in air begins, between the dark and the bright end of its intensities


@dataclass(frozen=True, eq=False)
class Volume:
    """One sequence as it was read."""

    array: np.ndarray
    """(I, J, K) float32."""
    grid: Grid
    """Where it lies."""


@dataclass(frozen=True)
class Preparation:
    """How the network's input is made; part of the model card."""

    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    """mm of the network's grid along R, A, S."""
    multiple: int = 16
    """Sizes are padded to multiples of this many voxels."""
    margin: float = 4.0
    """mm kept around the foreground."""
    clip: tuple[float, float] = (0.5, 99.5)
    """Percentiles of the foreground to which intensities are clipped before mean and standard deviation are
    taken.
    """
    stripped: bool = True
    """The network learns from images around which all but the organ was cut away (skull-stripped): where it
    was not, a note says so.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        object.__setattr__(self, "clip", tuple(float(c) for c in self.clip))
        if (
            len(self.spacing) != 3
            or min(self.spacing) <= 0
            or self.multiple < 1
            or self.margin < 0
            or not 0 <= self.clip[0] < self.clip[1] <= 100
        ):
            raise ValueError(f"impossible preparation {self}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study as the network sees it."""

    images: np.ndarray
    """(M, I, J, K) float32: mean 0, sd 1 in each sequence's foreground, 0 outside; a missing sequence's
    channel means nothing.
    """
    present: np.ndarray
    """(M,) bool."""
    sequences: tuple[str, ...]
    """Names of the M slots."""
    grid: Grid
    """The network's grid."""
    reference: Grid
    """The grid that results go to."""
    notes: tuple[str, ...] = ()
    """What a reader should know, e.g. that two sequences look out of register."""

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the sequences that are there."""
        return tuple(s for s, here in zip(self.sequences, self.present, strict=True) if here)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the sequences that are not."""
        return tuple(s for s, here in zip(self.sequences, self.present, strict=True) if not here)


def prepare(
    volumes: Mapping[str, Volume],
    sequences: Sequence[str],
    settings: Preparation,
    reference: Grid | None = None,
) -> Prepared:
    """Bring the sequences of one study onto the network's grid.

    Args:
        volumes: by sequence name; those that `sequences` lacks are ignored.
        sequences: the network's slots in order; some may be missing.
        settings: the card's preparation.
        reference: grid for results; None takes that of the first sequence there is.

    Raises:
        BadStudy: none of the sequences is there.
        BadGrid: sequences, or a reference, that do not overlap, or a grid that no image can have.
        BadVolume: a sequence with NaN, or without any foreground.
    """
    here = [s for s in sequences if s in volumes]
    if not here:
        raise BadStudy(
            f"none of the sequences {', '.join(sequences)} is in this study (it has "
            f"{', '.join(volumes) or 'none'})"
        )
    grids = {f"sequence {name}": volumes[name].grid for name in here} | (
        {"the reference": reference} if reference else {}
    )
    for what, grid in grids.items():
        check_grid(grid, what)
    _check_overlap(grids)
    full = lattice([volumes[name].grid for name in here], settings.spacing)
    levels = {name: Levels.of(volumes[name].array, f"sequence {name}") for name in here}
    images = {name: _resample(volumes[name], full, levels[name]) for name in here}
    masks = {name: foreground(images[name], levels[name], f"sequence {name}") for name in here}
    notes = (*(_stripping_notes(levels) if settings.stripped else ()), *_compare(masks))
    start, shape = _crop(np.logical_or.reduce(list(masks.values())), settings)
    stacked = np.zeros((len(sequences), *shape), dtype=np.float32)
    for slot, name in enumerate(sequences):
        if name in images:
            stacked[slot] = _box(normalise(images[name], masks[name], settings.clip), start, shape)
    return Prepared(
        images=stacked,
        present=np.array([name in images for name in sequences]),
        sequences=tuple(sequences),
        grid=full.crop(start, shape),
        reference=reference or volumes[here[0]].grid,
        notes=(*notes, *_displacement_notes(dict(zip(sequences, stacked, strict=True)), here, settings)),
    )


@dataclass(frozen=True)
class Levels:
    """What the intensities of one sequence, as it was read, say of its background."""

    background: float
    """Value of voxels outside the head, and outside the field of view."""
    head: float | None
    """Intensity from which a voxel belongs to the head; None where all that differs from `background` does
    (skull-stripped).
    """
    tolerance: float
    """Difference from `background` that is only rounding: positions on a border come out a hair apart when
    voxels are stored otherwise.
    """

    @classmethod
    def of(cls, array: np.ndarray, what: str) -> Levels:
        """Look at a volume before it is resampled, since the field of view of other sequences must not change
        the answer.

        A constant background need not be the smallest value: bias correction and z-scores leave negative
        brain around zeros.

        Raises:
            BadVolume: NaN or infinite values, one value everywhere, or two.
        """
        low, high = float(array.min()), float(array.max())
        if not np.isfinite([low, high]).all():
            raise BadVolume(
                f"{what}: some voxels are NaN or infinite: export the image again, or replace "
                f"them by the "
                f"background value"
            )
        if low == high:
            raise BadVolume(f"{what}: every voxel has the value {low:g}: the image is empty or constant")
        corners, counts = np.unique(array[np.ix_([0, -1], [0, -1], [0, -1])], return_counts=True)
        shares = {
            value: np.count_nonzero(array == value) / array.size
            for value in {low, 0.0, float(corners[counts.argmax()])}
        }
        if np.count_nonzero(array == low) + np.count_nonzero(array == high) == array.size:
            raise BadVolume(
                f"{what}: it holds the values {low:g} and {high:g} only: it is a mask, not an image"
            )
        background = max(shares, key=lambda value: (shares[value], -value))
        if shares[background] >= CONSTANT_SHARE and _compact(array != background):
            return cls(background, None, ROUNDING * (high - low))
        dark, bright = np.percentile(array[::2, ::2, ::2], [1, 99])  # one broken voxel must not set the scale
        return cls(float(dark), float(dark + HEAD_LEVEL * (bright - dark)), 0.0)


def _compact(mask: np.ndarray) -> bool:
    """True for a mask of few solid parts, false for speckles; looks at some planes of each direction only."""
    ratios = []
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)[:: max(1, mask.shape[axis] // 16)]
        changes = np.count_nonzero(planes[:, 1:] != planes[:, :-1]) + np.count_nonzero(
            planes[:, :, 1:] != planes[:, :, :-1]
        )
        ratios.append(changes / 2 / max(1, np.count_nonzero(planes)))
    # a small head is nearly all surface
    return float(np.median(ratios)) < max(COMPACT, 10 / max(1, np.count_nonzero(mask)) ** (1 / 3))


def foreground(image: np.ndarray, levels: Levels, what: str) -> np.ndarray:
    """Where the head is: (I, J, K) bool.

    In a skull-stripped volume all that differs from its constant background; else the largest part above
    `levels.head`, with what it encloses in an axial plane: dark fluid in an image that ends at the neck is
    open to below.

    Raises:
        BadVolume: nothing stands out.
    """
    if levels.head is None:
        mask = np.abs(image - np.float32(levels.background)) > levels.tolerance
    else:
        mask = ndimage.binary_opening(image > levels.head, iterations=1)
        parts, count = ndimage.label(mask)
        if count > 1:
            mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        mask = ndimage.binary_fill_holes(mask, IN_PLANE)
    if mask.sum() < 64:
        raise BadVolume(
            f"{what}: no foreground found ({int(mask.sum())} voxels differ from the background): "
            f"is it an "
            f"empty or constant image?"
        )
    return mask


def normalise(image: np.ndarray, mask: np.ndarray, clip: tuple[float, float]) -> np.ndarray:
    """Clip to percentiles of the foreground, then mean 0 and sd 1 there; 0 outside. (I, J, K) float32.

    A truncated field of view is outside the mask, so it shifts nothing.
    """
    values = image[mask]
    low, high = np.percentile(values[:: max(1, len(values) // 100_000)], clip)
    values = np.clip(values, low, high)
    result = np.zeros(image.shape, dtype=np.float32)
    result[mask] = (values - values.mean()) / max(float(values.std()), 1e-6)
    return result


def _resample(volume: Volume, target: Grid, levels: Levels) -> np.ndarray:
    """Linear resampling; axes that lose more than half of their samples are smoothed first against aliasing.

    Only the part of the volume that holds anything is looked at: the rest would give the background, and cost
    most of the time.
    """
    # mm of each target step along each source axis
    along = np.abs(target.affine[:3, :3].T @ volume.grid.axes)
    sigma = np.where(
        along.max(axis=0) / volume.grid.spacing >= 2, 0.35 * along.max(axis=0) / volume.grid.spacing, 0.0
    )
    part = _content(volume, levels, np.ceil(4 * sigma).astype(int) + 1)
    array = ndimage.gaussian_filter(part.array, sigma) if sigma.any() else part.array
    ends = (
        np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(part.grid.shape)
        - 0.5
    )
    index = target.to_index(part.grid.to_world(ends))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, target.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    result = np.full(target.shape, levels.background, dtype=np.float32)
    result[box] = resample(
        array, part.grid, target.crop(tuple(low), tuple(high - low)), order=1, fill=levels.background
    )
    return result


def _content(volume: Volume, levels: Levels, margin: np.ndarray) -> Volume:
    """A skull-stripped volume without its empty borders, `margin` (3,) voxels kept; any other as it is."""
    if levels.head is not None:
        return volume
    there = bounding_box(volume.array != levels.background)
    start = [max(0, s.start - m) for s, m in zip(there, margin, strict=True)]
    stop = [min(n, s.stop + m) for s, m, n in zip(there, margin, volume.array.shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Volume(
        volume.array[box],
        volume.grid.crop(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True))),
    )


def _crop(mask: np.ndarray, settings: Preparation) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and size of the box around `mask`: margin kept, size a multiple, centred."""
    starts, sizes = [], []
    for there, step in zip(bounding_box(mask), settings.spacing, strict=True):
        margin = int(np.ceil(settings.margin / step))
        low, high = there.start - margin, there.stop + margin
        size = -(-(high - low) // settings.multiple) * settings.multiple
        starts.append(low - (size - (high - low)) // 2)
        sizes.append(size)
    return tuple(starts), tuple(sizes)


def _box(array: np.ndarray, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """The box of `shape` at `start`, zero where it leaves `array`."""
    result = np.zeros(shape, dtype=array.dtype)
    into = tuple(
        slice(max(0, -s), min(n, size - s)) for s, n, size in zip(start, shape, array.shape, strict=True)
    )
    origin = tuple(
        slice(max(0, s), min(size, s + n)) for s, n, size in zip(start, shape, array.shape, strict=True)
    )
    result[into] = array[origin]
    return result


def _check_overlap(grids: Mapping[str, Grid]) -> None:
    first, *others = grids
    for name in others:
        share = max(overlap(grids[name], grids[first]), overlap(grids[first], grids[name]))
        if share < LEAST_OVERLAP:
            raise BadGrid(
                f"{first} and {name} do not overlap in space ({share:.0%} of the smaller field of view): "
                "they are of different positions or patients; take them out, or register them first "
                "(--register)"
            )


def _stripping_notes(levels: Mapping[str, Levels]) -> tuple[str, ...]:
    heads = [name for name, level in levels.items() if level.head is not None]
    return (
        (
            (
                f"{', '.join(heads)}: not skull-stripped; a model trained on skull-stripped brains may mark "
                f"skull and skin"
            ),
        )
        if heads
        else ()
    )


def _displacement_notes(
    images: Mapping[str, np.ndarray], here: Sequence[str], settings: Preparation
) -> tuple[str, ...]:
    found = displacement({name: images[name] for name in here}, settings.spacing)
    text = (
        "{} seems displaced against {} by some {:.0f} mm: did the patient move between them? "
        "--register may help"
    )
    return tuple(text.format(name, first, mm) for name, (mm, first) in found.items())


def _compare(masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Notes on sequences whose foregrounds differ from the first one's.

    Raises:
        BadGrid: heads that lie beside each other.
    """
    (first, mask), *others = masks.items()
    notes = []
    for name, other in others:
        shared, sizes = int((mask & other).sum()), (int(mask.sum()), int(other.sum()))
        if shared < LEAST_SHARED * min(sizes):
            raise BadGrid(
                f"what the sequences {first} and {name} show does not overlap ({shared / min(sizes):.0%} of "
                f"the smaller foreground): "
                "they are of different positions or patients; take them out, or register them first "
                "(--register)"
            )
        dice = 2 * shared / sum(sizes)
        if dice < LEAST_AGREEMENT:
            notes.append(
                f"{first} and {name} cover different tissue (Dice of their foregrounds "
                f"{dice:.2f}): one may "
                f"be truncated, or --register may be needed"
            )
    return tuple(notes)
