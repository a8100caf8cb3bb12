"""A head with a tumour from a label map: drawn by a seed, rendered in four sequences, with mask and truth.

The same seed, map and settings give the same head. `stream` never ends; `write_head` puts one on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from slem_app.phantom.head import rotation, waves
from slem_app.phantom.heads.acquire import ScanParameters, acquire
from slem_app.phantom.heads.contrast import PARTS, SEQUENCES, signals
from slem_app.phantom.heads.maps import HeadMap
from slem_app.phantom.heads.tumours import TRUTH_OF, Shape, grown, place
from slem_app.types import Grid, triple
from slem_app.volumes.prepare import Volume

__all__ = ["HeadSettings", "SyntheticHead", "make_head", "stream", "write_head"]


@dataclass(frozen=True)
class HeadSettings:
    """Ranges from which a head is drawn."""

    sequences: tuple[str, ...] = SEQUENCES
    """Names of the images that are made."""
    spacing: float = 1.0
    """mm of the grid on which a head is made, and of its truth."""
    field: tuple[float, float, float] = (190.0, 240.0, 220.0)
    """mm of the field of view along R, A, S, around the brain's middle."""
    random_contrast: float = 0.0
    """Probability that a sequence has any contrast instead of its own."""
    tumour: float = 1.0
    """Probability of a tumour."""
    thick: float = 0.7
    """Probability that a sequence has thick slices."""
    thickness: tuple[float, float] = (3.0, 6.0)
    """mm of thick slices."""
    shift: float = 2.0
    """mm, sd of the displacement between sequences along each axis."""
    turn: float = 1.5
    """Degrees, sd of the turn between sequences about each axis."""
    cut: float = 0.3
    """Probability that an end of the field of view is missing."""
    most_cut: float = 0.25
    """Largest share of an axis that is missing."""
    stripped: float = 0.0
    """Probability that all but the brain was cut away."""
    mask_error: float = 5.0
    """mm by which such a cut is too tight or too wide at most."""
    warp: float = 3.0
    """mm, sd of the smooth displacement that makes a new head of a map."""
    pose: float = 12.0
    """Degrees, largest turn of the head about each axis."""


@dataclass(frozen=True, eq=False)
class SyntheticHead:
    """One head with its truth."""

    images: dict[str, Volume]
    """Sequence -> the volume as it would be read."""
    brain: np.ndarray
    """(I, J, K) bool on `grid`."""
    labels: np.ndarray
    """(I, J, K) uint8 on `grid`: 1 necrosis with non-enhancing core, 2 edema, 3 enhancing tumor."""
    grid: Grid
    """Where the head itself lies, RAS."""
    moves: dict[str, np.ndarray]
    """Sequence -> (4, 4) from the head's world to the world of that sequence's header."""
    stripped: bool
    """All but the brain was cut away."""
    seed: tuple[int, ...]
    """What it was drawn from."""
    name: str
    """The label map's name."""


def make_head(
    head: HeadMap,
    seed: Sequence[int] | int,
    settings: HeadSettings | None = None,
    shapes: Sequence[Shape] = (),
) -> SyntheticHead:
    """Make a head.

    Args:
        head: the label map.
        seed: decides everything that is drawn.
        settings: ranges; default: whole heads with plausible contrasts.
        shapes: tumours of labelled cases; without any, tumours are grown.
    """
    settings = settings or HeadSettings()
    seed = tuple(int(n) for n in np.atleast_1d(seed))
    rng = np.random.default_rng(seed)
    codes, brain, grid = _posed(head, settings, rng)
    parts = np.zeros(codes.shape, np.uint8)
    if rng.random() < settings.tumour and brain.any():
        shape = shapes[int(rng.integers(len(shapes)))] if shapes else grown(rng)
        found, box = place(shape, brain, grid.spacing, rng)
        parts[box] = found
    tissues = (*head.tissues, *PARTS)
    codes = np.where(parts > 0, len(head.tissues) - 1 + parts, codes)
    keep = _cut_out(brain, settings, rng) if rng.random() < settings.stripped else None
    images: dict[str, Volume] = {}
    moves: dict[str, np.ndarray] = {}
    for sequence in settings.sequences:
        plausible = sequence in SEQUENCES and rng.random() >= settings.random_contrast
        signal = _signal(codes, signals(rng, tissues, sequence if plausible else None), settings, rng)
        how = _acquisition(settings, rng, first=not images)
        images[sequence] = acquire(signal if keep is None else signal * keep, grid, how, rng)
        if keep is not None:
            images[sequence] = _clean(images[sequence], keep, grid, how)
        moves[sequence] = how.move
    truth = np.array([0, *(TRUTH_OF[part] for part in PARTS)], np.uint8)[parts]
    return SyntheticHead(images, brain, truth, grid, moves, keep is not None, seed, head.name)


def _posed(
    head: HeadMap, settings: HeadSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The map turned, scaled, mirrored and warped: codes (uint8), brain (bool), and their grid."""
    linear = rotation(rng.uniform(-settings.pose, settings.pose, 3)) @ np.diag(rng.uniform(0.88, 1.12, 3))
    linear = linear @ (np.eye(3) + np.triu(rng.uniform(-0.05, 0.05, (3, 3)), 1))
    if rng.random() < 0.5:
        linear[:, 0] = -linear[:, 0]
    shape = triple(round(mm / settings.spacing) for mm in settings.field)
    affine = np.diag([settings.spacing] * 3 + [1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + rng.uniform(-12, 12, 3)
    fields = [waves(rng, 12, 70, 180) for _ in range(3)]
    middle = head.grid.to_world(np.array(ndimage.center_of_mass(head.brain[::4, ::4, ::4])) * 4)
    index = head.grid.inverse[:3, :3] @ linear
    start = head.grid.to_index(middle)
    i, j, k = (np.arange(n, dtype=np.float32) for n in shape)
    warps = [np.float32(settings.warp) * field.on(affine, shape) for field in fields]
    points = []
    for axis in range(3):
        step = (index[axis] @ affine[:3, :3]).astype(np.float32)
        first = np.float32(start[axis] + index[axis] @ affine[:3, 3])
        line = first + step[0] * i[:, None, None] + step[1] * j[:, None] + step[2] * k
        line = line + np.float32(head.grid.inverse[axis, axis]) * warps[axis]
        points.append(np.rint(line).astype(np.int32))
    inside = np.logical_and.reduce(
        [(p >= 0) & (p < n) for p, n in zip(points, head.codes.shape, strict=True)]
    )
    points = [np.clip(p, 0, n - 1) for p, n in zip(points, head.codes.shape, strict=True)]
    flat = np.ravel_multi_index(points, head.codes.shape)
    codes = np.where(inside, head.codes.ravel()[flat], 0)
    brain = inside & head.brain.ravel()[flat]
    return codes, brain, Grid(shape, affine)


def _cut_out(brain: np.ndarray, settings: HeadSettings, rng: np.random.Generator) -> np.ndarray:
    """(I, J, K) bool: what a brain mask that is somewhat too tight or too wide keeps."""
    error = rng.uniform(-settings.mask_error, settings.mask_error)
    if error >= 0:
        return ndimage.distance_transform_edt(~brain) * settings.spacing <= error
    return ndimage.distance_transform_edt(brain) * settings.spacing > -error


def _signal(
    codes: np.ndarray,
    drawn: tuple[np.ndarray, np.ndarray],
    settings: HeadSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """(I, J, K) float32: the mean of each code, texture, and the blur of an image."""
    means, deviations = drawn
    texture = rng.standard_normal(codes.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(texture, 0.8) * np.float32(2.5)  # about sd 1 again
    image = means[codes] + deviations[codes] * texture
    sigma = max(rng.uniform(0.3, 0.9) / settings.spacing, 0.35)
    return np.maximum(ndimage.gaussian_filter(image, sigma), 0)


def _acquisition(settings: HeadSettings, rng: np.random.Generator, first: bool) -> ScanParameters:
    axis = int(rng.choice([0, 1, 2, 2, 2])) if rng.random() < settings.thick else None
    move = np.eye(4)
    if not first:
        move[:3, :3] = rotation(rng.normal(0, settings.turn, 3))
        move[:3, 3] = rng.normal(0, settings.shift, 3)
    cut = np.where(rng.random((3, 2)) < settings.cut, rng.uniform(0, settings.most_cut, (3, 2)), 0.0)
    return ScanParameters(
        axis=axis,
        thickness=float(rng.uniform(*settings.thickness)),
        move=move,
        cut=triple((float(low), float(high)) for low, high in cut),
        bias=waves(rng, 6, 120, 400),
        bias_depth=float(rng.uniform(0.0, 0.3)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        noise=float(rng.uniform(0.005, 0.06)),
        gain=float(np.exp(rng.uniform(np.log(100), np.log(2000)))),
    )


def _clean(volume: Volume, keep: np.ndarray, grid: Grid, how: ScanParameters) -> Volume:
    """A stripped volume: exactly zero outside what was kept."""
    index = np.linalg.inv(grid.affine) @ np.linalg.inv(how.move) @ volume.grid.affine
    near = ndimage.affine_transform(
        keep.astype(np.float32), index[:3, :3], index[:3, 3], volume.array.shape, order=1
    )
    return Volume(np.where(near >= 0.5, np.maximum(volume.array, 1e-3), 0).astype(np.float32), volume.grid)


def stream(
    maps: Sequence[HeadMap],
    seed: int = 0,
    settings: HeadSettings | None = None,
    shapes: Sequence[Shape] = (),
    start: int = 0,
) -> Iterator[SyntheticHead]:
    """Heads without end: the n-th depends on `seed` and n alone.

    Args:
        maps: label maps, each drawn as often as the others.
        seed: of the stream.
        settings: ranges.
        shapes: tumours of labelled cases; without any, tumours are grown.
        start: number of the first head, to go on where another stream was left.
    """
    number = start
    while True:
        which = int(np.random.default_rng([seed, number, 1]).integers(len(maps)))
        yield make_head(maps[which], (seed, number), settings, shapes)
        number += 1


def write_head(head: SyntheticHead, folder: Path) -> Path:
    """Write one head as NIfTI files: SEQUENCE.nii.gz, and on the head's own grid seg.nii.gz and
    brain_mask.nii.gz.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, volume in head.images.items():
        nib.save(
            nib.Nifti1Image(np.rint(volume.array).astype(np.int16), volume.grid.affine),
            folder / f"{name}.nii.gz",
        )
    for name, array in (("seg", head.labels), ("brain_mask", head.brain.astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, head.grid.affine), folder / f"{name}.nii.gz")
    return folder
