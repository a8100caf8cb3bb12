"""One study: drawn by a seed, rendered sequence by sequence, with the truth on the grid of each.

The same case, label map, seed and settings give the same study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from slem_app.errors import BadGrid, BadStudy
from slem_app.phantom.head import rotation, waves
from slem_app.phantom.heads.acquire import ScanParameters, acquire, thick
from slem_app.phantom.heads.contrast import GROUPS, SEQUENCES, signals
from slem_app.phantom.heads.maps import HeadMap
from slem_app.phantom.raw.around import Surroundings, surroundings
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.volumes.levels import Volume
from slem_app.volumes.smoothed import resample_smoothed

__all__ = ["RawSettings", "RawStudy", "make_raw", "write_raw_nifti"]


@dataclass(frozen=True)
class RawSettings:
    """How much a case is disturbed; each can be 0."""

    shift: float = 8.0
    """mm, sd along each axis by which the patient moves between sequences."""
    turn: float = 4.0
    """Degrees, sd about each axis through the brain's middle, likewise."""
    angled: float = 6.0
    """Degrees, sd about each axis by which a sequence's slices are set obliquely; its header tells them."""
    thickness: float = 5.0
    """mm from slice to slice; 0: as fine as the case."""
    bias: float = 0.15
    """Standard deviation of the logarithm of the receive field."""
    noise: float = 0.02
    """Standard deviation of the noise, relative to the median of the brain."""
    cut: float = 0.0
    """Share of the field of view that the last sequence lacks at the top."""
    fluid: float = 1.0
    """Brightness of what lies between brain and bone, relative to fluid."""


@dataclass(frozen=True, eq=False)
class RawStudy:
    """A study with its truth."""

    images: Mapping[str, Volume]
    """Sequence -> the volume as it would be read, not negative."""
    truths: Mapping[str, np.ndarray]
    """Sequence -> (I, J, K) uint8 labels on its grid, as its header has it."""
    moves: Mapping[str, np.ndarray]
    """Sequence -> (4, 4) RAS from the case's world to the world of that sequence's header."""
    seed: int
    """What it was drawn from."""
    examination: str = "MRI brain with and without contrast"
    """Description of the study."""
    part: str = "HEAD"
    """Of the body, as DICOM calls it."""


def make_raw(
    images: Mapping[str, Volume],
    labels: np.ndarray,
    grid: Grid,
    head: HeadMap | None,
    seed: int,
    settings: RawSettings | None = None,
) -> RawStudy:
    """Make a study.

    Args:
        images: a stripped case, all sequences on one grid, 0 outside the brain.
        labels: (I, J, K) uint8 of the same grid.
        grid: that grid; its third axis runs up or down.
        head: put around the brain; None: the brain stays alone.
        seed: decides all that is drawn.
        settings: how much is disturbed.

    Raises:
        BadStudy: a sequence that no contrast is known for, or none.
        BadGrid: images of several grids, or another third axis.
    """
    settings = settings or RawSettings()
    if not images or not set(images) <= set(SEQUENCES):
        raise BadStudy(f"a raw study is made of {', '.join(SEQUENCES)}, got {', '.join(images) or 'nothing'}")
    if not all(one.grid.same_as(grid) for one in images.values()) or labels.shape != grid.shape:
        raise BadGrid("a raw study is made of sequences and labels on one grid")
    if grid.orientation[2] not in "SI":
        raise BadGrid(f"slices are cut along the third axis, which must run up or down, not as in {grid}")
    brain = np.any([one.array != 0 for one in images.values()], axis=0)
    middle = grid.to_world(np.argwhere(brain).mean(axis=0))
    around = surroundings(brain, grid, head) if head is not None else None
    made: dict[str, Volume] = {}
    truths: dict[str, np.ndarray] = {}
    moves: dict[str, np.ndarray] = {}
    last = list(images)[-1]
    for number, (name, image) in enumerate(images.items()):
        rng = np.random.default_rng([seed, SEQUENCES.index(name)])
        signal, whole = _signal(name, image, brain, around, settings, rng)
        raster = _raster(whole, brain, grid, rng, settings)
        cut = settings.cut if name == last else 0.0
        how = _acquisition(rng, settings, middle, first=number == 0, cut=cut)
        seen = acquire(resample(signal, whole, raster, order=1), raster, how, rng)
        if around is None:  # a brain alone has nothing around it
            seen = _alone(seen, brain, grid, how)
        made[name], moves[name] = seen, how.move
        truths[name] = _truth(labels, grid, raster, how, seen.grid)
    return RawStudy(made, truths, moves, seed)


def _signal(
    name: str,
    image: Volume,
    brain: np.ndarray,
    around: Surroundings | None,
    settings: RawSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Grid]:
    """(I, J, K) float32, the median of the brain being about 1, and its grid."""
    level = float(np.median(image.array[brain & (image.array > 0)]))
    own = image.array / np.float32(level)
    means, deviations = signals(rng, GROUPS, name)
    if around is None:
        return own, image.grid
    usual = float(means[GROUPS.index("white")] + means[GROUPS.index("grey")]) / 2
    means[GROUPS.index("csf")] *= settings.fluid
    texture = rng.standard_normal(around.grid.shape, dtype=np.float32)
    whole = (means[around.tissues] + deviations[around.tissues] * texture) / np.float32(usual)
    there = resample_smoothed(Volume(own, image.grid), around.grid, 0.0)
    return np.where(around.brain, there, np.maximum(whole, 0)).astype(np.float32), around.grid


def _raster(
    whole: Grid, brain: np.ndarray, grid: Grid, rng: np.random.Generator, settings: RawSettings
) -> Grid:
    """The scanner's raster, set obliquely about the brain's middle."""
    turn = np.eye(4)
    turn[:3, :3] = rotation(rng.normal(0, settings.angled, 3))
    middle = grid.to_world(np.argwhere(brain).mean(axis=0))
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return Grid(whole.shape, turn @ whole.affine)


def _acquisition(
    rng: np.random.Generator, settings: RawSettings, middle: np.ndarray, first: bool, cut: float
) -> ScanParameters:
    move = np.eye(4)
    drawn = rng.normal(0, 1, 6)
    if not first:
        move[:3, :3] = rotation(settings.turn * drawn[:3])
        move[:3, 3] = middle - move[:3, :3] @ middle + settings.shift * drawn[3:]
    return ScanParameters(
        axis=2 if settings.thickness else None,
        thickness=settings.thickness,
        move=move,
        cut=((0.0, 0.0), (0.0, 0.0), (0.0, cut)),
        bias=waves(rng, 6, 120, 400),
        bias_depth=settings.bias,
        gamma=1.0,
        noise=settings.noise,
        gain=float(np.exp(rng.uniform(np.log(150), np.log(1200)))),
    )


def _alone(seen: Volume, brain: np.ndarray, grid: Grid, how: ScanParameters) -> Volume:
    """A brain with exactly nothing around it."""
    there = Grid(grid.shape, how.move @ grid.affine)
    keep = resample(brain.astype(np.float32), there, seen.grid, order=1) >= 0.5
    return Volume(np.where(keep, np.maximum(seen.array, 1e-3), 0).astype(np.float32), seen.grid)


def _truth(labels: np.ndarray, grid: Grid, raster: Grid, how: ScanParameters, seen: Grid) -> np.ndarray:
    """(I, J, K) uint8 on the grid of an image: the label that fills most of each voxel."""
    result = np.zeros(seen.shape, np.uint8)
    target = Grid(seen.shape, np.linalg.inv(how.move) @ seen.affine)
    box = bounding_box(labels)
    if labels[box].size == 0:
        return result
    size = triple(s.stop - s.start for s in box)
    there = grid.crop(triple(s.start for s in box), size)
    shares = {}
    for value in np.unique(labels[box])[np.unique(labels[box]) > 0]:
        share = resample_smoothed(Volume((labels[box] == value).astype(np.float32), there), raster, 0.0)
        slices = Volume(share, raster) if how.axis is None else thick(share, raster, how.axis, how.thickness)
        shares[value] = resample_smoothed(slices, target, 0.0)
    best = 1 - np.sum(list(shares.values()), axis=0)  # of the background
    for value, share in shares.items():
        result[share > best] = value
        best = np.maximum(best, share)
    return result


def write_raw_nifti(study: RawStudy, folder: Path, case: str) -> Path:
    """Write FOLDER/CASE/CASE-t1c.nii.gz ...; truths go to FOLDER/../truth/CASE-t1c.nii.gz, where no reader
    takes them for labels of the case.
    """
    images, truths = Path(folder) / case, Path(folder).parent / "truth"
    for place in (images, truths):
        place.mkdir(parents=True, exist_ok=True)
    for name, volume in study.images.items():
        affine = volume.grid.affine
        array = np.clip(np.rint(volume.array), 0, 32767).astype(np.int16)
        nib.save(nib.Nifti1Image(array, affine), images / f"{case}-{name}.nii.gz")
        nib.save(nib.Nifti1Image(study.truths[name], affine), truths / f"{case}-{name}.nii.gz")
    return images
