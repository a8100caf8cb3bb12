"""One sequence as it was read, and what its intensities say of its background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import BadVolume
from slem_app.types import Grid

__all__ = ["Levels", "Volume", "check_modality", "foreground"]

CONSTANT_SHARE = (
    0.2  # share of voxels of one same value from which that value may be a background that was cut away
)
# changes a voxel, along a line, between background and the rest: a brain has few, speckles in air many
COMPACT = 0.2
ROUNDING = 1e-6  # of the range of intensities
IN_PLANE = ndimage.generate_binary_structure(2, 1)[:, :, None]  # neighbours along I and J
AIR, WATER = (-1100.0, -900.0), (-20.0, 100.0)  # Hounsfield units of air and of what is soft in a head
LEAST_AIR, LEAST_WATER = 0.1, 0.02  # share of the voxels of a CT that are so
HEAD_LEVEL = 0.12  # where a head in air begins, between the dark and the bright end of its intensities


@dataclass(frozen=True, eq=False)
class Volume:
    """One sequence as it was read."""

    array: np.ndarray
    """(I, J, K) float32."""
    grid: Grid
    """Where it lies."""


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
                f"{what}: some voxels are NaN or infinite: export the image again, or replace them by the "
                "background value"
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
        ratios.append(changes / 2 / max(1, int(np.count_nonzero(planes))))
    # a small head is nearly all surface
    return float(np.median(ratios)) < max(COMPACT, 10 / max(1, int(np.count_nonzero(mask))) ** (1 / 3))


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
            f"{what}: no foreground found ({int(mask.sum())} voxels differ from the background): is it an "
            "empty or constant image?"
        )
    return mask


def check_modality(name: str, volume: Volume) -> None:
    """Refuse what has air and soft tissue where Hounsfield units have them: files without a header say no
    modality.
    """
    seen = volume.array[::2, ::2, ::2]

    def share(low: float, high: float) -> float:
        return float(np.mean((seen >= low) & (seen <= high)))

    if share(*AIR) >= LEAST_AIR and share(*WATER) >= LEAST_WATER:
        raise BadVolume(
            f"sequence {name} is no MR image but a CT: {share(*AIR):.0%} of its voxels are about -1000 and "
            f"{share(*WATER):.0%} about 0, as Hounsfield units of air and soft tissue are. Take it out, or "
            f"give the MR series instead"
        )
