"""One way from the sequences of a study to what the network sees; pretext, training, validation and serving all pass here.

The network's grid is an RAS lattice of the card's spacing in world space, cropped to the head, so it does not depend on how the
study is stored nor on which sequence the reader looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import BadGrid, BadStudy, BadVolume
from slem_app.types import Grid
from slem_app.volumes.geometry import check_grid, lattice, overlap, resample

__all__ = ["Preparation", "Prepared", "Volume", "foreground", "is_stripped", "normalise", "prepare"]

LEAST_OVERLAP = 0.05  # share of a sequence's field of view that must lie in the reference's
LEAST_AGREEMENT = 0.6  # Dice of two sequences' foregrounds under which they look out of register


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
    """Percentiles of the foreground to which intensities are clipped before mean and standard deviation are taken."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        object.__setattr__(self, "clip", tuple(float(c) for c in self.clip))
        if len(self.spacing) != 3 or min(self.spacing) <= 0 or self.multiple < 1 or self.margin < 0 or not 0 <= self.clip[0] < self.clip[1] <= 100:
            raise ValueError(f"impossible preparation {self}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study as the network sees it."""

    images: np.ndarray
    """(M, I, J, K) float32: mean 0, sd 1 in each sequence's foreground, 0 outside; a missing sequence's channel means nothing."""
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


def prepare(volumes: Mapping[str, Volume], sequences: Sequence[str], settings: Preparation, reference: Grid | None = None) -> Prepared:
    """Bring the sequences of one study onto the network's grid.

    Args:
        volumes: by sequence name; those that `sequences` lacks are ignored.
        sequences: the network's slots in order; some may be missing.
        settings: the card's preparation.
        reference: grid for results; None takes that of the first sequence there is.

    Raises:
        BadStudy: none of the sequences is there.
        BadGrid: sequences that do not overlap, or a grid that no image can have.
        BadVolume: a sequence without any foreground.
    """
    here = [s for s in sequences if s in volumes]
    if not here:
        raise BadStudy(f"none of the sequences {', '.join(sequences)} is in this study (it has {', '.join(volumes) or 'none'})")
    for name in here:
        check_grid(volumes[name].grid, f"sequence {name}")
    _check_overlap({name: volumes[name].grid for name in here})
    full = lattice([volumes[name].grid for name in here], settings.spacing)
    images = {name: _smooth_resample(volumes[name], full) for name in here}
    whole = {name: not is_stripped(volumes[name].array) for name in here}
    masks = {name: foreground(images[name], name, whole[name]) for name in here}
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
        notes=(*_head_notes(whole), *_register_notes(masks)),
    )


def is_stripped(array: np.ndarray) -> bool:
    """True where a fifth of a volume or more is one constant background value: the skull, or at least the air, was taken out."""
    return float((array == array.min()).mean()) >= 0.2


def foreground(image: np.ndarray, what: str, whole: bool = False) -> np.ndarray:
    """Where the head is: (I, J, K) bool.

    Args:
        image: (I, J, K), the lowest value where there is nothing.
        what: how to name it in the error.
        whole: False: all that differs from the constant background; True, for a head in air and noise: the largest component above a
            low share of the bright tissue's intensity, holes filled.

    Raises:
        BadVolume: nothing stands out.
    """
    background = float(image.min())
    mask = image > background
    if whole and mask.any():
        bright = float(np.percentile(image[mask][::8], 99)) - background
        mask = ndimage.binary_opening(image > background + 0.12 * bright)
        parts, count = ndimage.label(mask)
        if count > 1:
            mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        mask = ndimage.binary_fill_holes(mask)
    if mask.sum() < 64:
        raise BadVolume(f"sequence {what}: no foreground found ({int(mask.sum())} voxels differ from the background): is it an empty or constant image?")
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


def _smooth_resample(volume: Volume, target: Grid) -> np.ndarray:
    """Linear resampling; axes that lose more than half of their samples are smoothed first against aliasing."""
    along = np.abs(target.affine[:3, :3].T @ volume.grid.axes)  # mm of each target step along each source axis
    sigma = np.where(along.max(axis=0) / volume.grid.spacing >= 2, 0.35 * along.max(axis=0) / volume.grid.spacing, 0.0)
    array = ndimage.gaussian_filter(volume.array, sigma) if sigma.any() else volume.array
    return resample(array, volume.grid, target, order=1, fill=float(array.min()))


def _crop(mask: np.ndarray, settings: Preparation) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and size of the box around `mask`: margin kept, size a multiple, centred."""
    starts, sizes = [], []
    for axis, step in enumerate(settings.spacing):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(settings.margin / step))
        low, high = int(there[0]) - margin, int(there[-1]) + 1 + margin
        size = -(-(high - low) // settings.multiple) * settings.multiple
        starts.append(low - (size - (high - low)) // 2)
        sizes.append(size)
    return tuple(starts), tuple(sizes)


def _box(array: np.ndarray, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """The box of `shape` at `start`, zero where it leaves `array`."""
    result = np.zeros(shape, dtype=array.dtype)
    into = tuple(slice(max(0, -s), min(n, size - s)) for s, n, size in zip(start, shape, array.shape, strict=True))
    origin = tuple(slice(max(0, s), min(size, s + n)) for s, n, size in zip(start, shape, array.shape, strict=True))
    result[into] = array[origin]
    return result


def _check_overlap(grids: Mapping[str, Grid]) -> None:
    first, *others = grids
    for name in others:
        share = max(overlap(grids[name], grids[first]), overlap(grids[first], grids[name]))
        if share < LEAST_OVERLAP:
            raise BadGrid(
                f"sequences {first} and {name} do not overlap in space ({share:.0%} of the smaller field of view): "
                "they are of different positions or patients; take them out, or register them first (--register)"
            )


def _head_notes(whole: Mapping[str, bool]) -> tuple[str, ...]:
    heads = [name for name, is_whole in whole.items() if is_whole]
    return (f"{', '.join(heads)}: not skull-stripped; a model trained on skull-stripped brains may mark skull and skin",) if heads else ()


def _register_notes(masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    first, *others = masks
    notes = []
    for name in others:
        dice = 2 * (masks[first] & masks[name]).sum() / (masks[first].sum() + masks[name].sum())
        if dice < LEAST_AGREEMENT:
            notes.append(f"{first} and {name} cover different tissue (Dice of their foregrounds {dice:.2f}): one may be truncated, or --register may be needed")
    return tuple(notes)
