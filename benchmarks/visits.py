"""Two visits of one patient with known truth: phantom heads, and real cases that were made to change.

A real case's second visit is its first, sampled anew: turned and moved, its tumour grown or shrunk around its
middle, a small copy of the tumour set on the other side as a new lesion, and the images as another
acquisition would have them (gamma, receive field, noise). The truth goes the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from slem_app import phantom
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.phantom.head import AXES, rotation
from slem_app.studies import Study
from slem_app.types import Grid
from slem_app.volumes.read import read

__all__ = ["SCALE", "Tumour", "TwoVisits", "changed", "draw_visits", "imaged", "phantom_visits"]

SPOTS = ((30, 24, 14), (-30, -34, 16), (-30, 30, 6), (30, -36, 12), (-26, 0, 30))
"""Places in the head, mm, at least 40 mm apart: further tumours are drawn near them."""
SHAPE, SPACING = (64, 74, 56), (2.0, 2.0, 2.0)
SCALE = float((np.array(SHAPE) * SPACING / (AXES * 2 + 16)).min())
COPY = 3.0  # times smaller than the tumour is its copy on the other side
FADES = 30.0  # mm from the tumour over which a growth fades
NOISE = 0.02  # of the brightest voxel
Tumour = tuple[np.ndarray, tuple[float, float, float]]


@dataclass(frozen=True)
class TwoVisits:
    """One patient."""

    name: str
    """Of the patient, and what was done."""
    before: Path
    """Folder of the first visit's study."""
    now: Path
    """Of the second one's."""
    sequence: str
    """By which the visits are registered."""


def radii(rim: float) -> tuple[float, float, float]:
    """Of necrosis, rim and edema."""
    return (max(rim - 5.0, 1.0), rim, rim + 6.0)


def draw_visits(rng: np.random.Generator) -> tuple[list[Tumour], list[Tumour], np.ndarray]:
    """Tumours of both visits and the move between them."""
    spots = rng.permutation(SPOTS)[:5] + rng.uniform(-3, 3, (5, 3))
    sizes = rng.uniform(7, 12, 5)
    first = [(spots[n], radii(sizes[n])) for n in range(4)]
    grown, shrunk = rng.uniform(1.15, 1.5), rng.uniform(0.6, 0.85)
    second = [(spots[0], radii(sizes[0] * grown)), (spots[1], radii(sizes[1] * shrunk))]
    if rng.random() < 0.5:
        second.append((spots[2], radii(sizes[2])))
    second += [(spots[3], radii(sizes[3])), (spots[4], radii(sizes[4]))]
    return first, second, _move(rng, 12)


def imaged(patient: phantom.Head, seed: int, move: np.ndarray, tumours: list[Tumour]) -> phantom.Phantom:
    """A visit."""
    head = phantom.at_next_visit(patient, seed, move, tumours)
    return phantom.make(shape=SHAPE, spacing=SPACING, head=head)


def phantom_visits(root: Path, seed: int) -> TwoVisits:
    """A phantom patient: one tumour grows, one shrinks, one stays or goes, one stays, one is new."""
    rng = np.random.default_rng([seed, 2])
    first, second, move = draw_visits(rng)
    patient = phantom.draw(5000 + seed, SCALE)
    name = f"phantom-{seed}"
    folders = root / name / "before", root / name / "now"
    for folder, place, tumours, number in zip(
        folders, (np.eye(4), move), (first, second), (1, 2), strict=True
    ):
        phantom.write_nifti(imaged(patient, 6000 + 10 * seed + number, place, tumours), folder, "case")
    return TwoVisits(name, *folders, "t1c")


def changed(study: Study, labels: LabelSet, root: Path, seed: int, factor: float) -> TwoVisits:
    """Two visits of a real case: as it is, and changed.

    Args:
        study: with truth.
        labels: of the model.
        root: where the visits are written.
        seed: of the move, the acquisition, and which place the new lesion takes.
        factor: by which the tumour's diameter is multiplied, 1.2: it has grown.
    """
    rng = np.random.default_rng([seed, 1])
    array, grid = truth(study, labels)
    images = {name: read(series).array for name, series in group(study).sequences.items()}
    name = f"{study.id}-{'grown' if factor > 1 else 'shrunk'}"
    folders = root / name / "before", root / name / "now"
    _save(folders[0], study.id, images, array, grid)
    source = _moved(grid, _move(rng, 8))
    place, weight, copied = _copy(array, images, grid, source)
    source = _scaled(array, grid, source, factor)
    later = {}
    for sequence, image in images.items():
        old, new = (ndimage.map_coordinates(image, one, order=1) for one in (source, place))
        later[sequence] = _acquired(old + weight * (new - old), rng)
    values = ndimage.map_coordinates(array, source, order=0)
    values = np.where(weight >= 0.5, np.where(copied > 0, copied, values), values)
    _save(folders[1], study.id, later, values, grid)
    return TwoVisits(name, *folders, "t1c" if "t1c" in images else next(iter(images)))


def _move(rng: np.random.Generator, most: float) -> np.ndarray:
    """(4, 4) RAS, up to so many degrees and mm about each axis."""
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(rng.uniform(-most, most, 3)), rng.uniform(-most, most, 3)
    return move


def _moved(grid: Grid, move: np.ndarray) -> np.ndarray:
    """(3, I, J, K) where each voxel of the second visit lies in the first, in its voxels; turned about the
    middle.
    """
    middle = np.eye(4)
    middle[:3, 3] = grid.to_world((np.array(grid.shape) - 1) / 2)
    matrix = grid.inverse @ middle @ np.linalg.inv(move) @ np.linalg.inv(middle) @ grid.affine
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij")).astype(np.float32)
    flat = matrix[:3, :3].astype(np.float32) @ index.reshape(3, -1) + matrix[:3, 3:].astype(np.float32)
    return flat.reshape(index.shape)


def _scaled(array: np.ndarray, grid: Grid, source: np.ndarray, factor: float) -> np.ndarray:
    """The same places, nearer to the tumour's middle where it has grown, less so far from the tumour."""
    middle = np.array(ndimage.center_of_mass(array > 0), np.float32)[:, None, None, None]
    away = ndimage.distance_transform_edt(array == 0, sampling=grid.spacing).astype(np.float32)
    away = ndimage.map_coordinates(away, source, order=1, mode="nearest")
    share = 1 + (1 / factor - 1) * np.clip(1 - away / FADES, 0, 1)
    return middle + (source - middle) * share


def _copy(
    array: np.ndarray, images: Mapping[str, np.ndarray], grid: Grid, source: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A small copy of the tumour as a new lesion: (3, I, J, K) where its voxels come from, (I, J, K) how much
    of them is taken, and their labels. No copy where none fits into healthy brain.
    """
    middle = np.array(ndimage.center_of_mass(array > 0))
    head = np.all([image > 0 for image in images.values()], axis=0)
    left_right = int(np.argmax(np.abs(grid.axes[0])))
    spot = middle.copy()
    inside = ndimage.center_of_mass(head)
    spot[left_right] = 2 * inside[left_right] - middle[left_right]
    spot += 0.25 * (np.array(inside) - spot)
    wide = np.array(spot, np.float32)[:, None, None, None]
    place = middle.astype(np.float32)[:, None, None, None] + COPY * (source - wide)
    copied = ndimage.map_coordinates(array, place, order=0)
    core = ndimage.binary_dilation(copied > 0, iterations=1)
    healthy = ndimage.map_coordinates((head & (array == 0)).astype(np.uint8), source, order=0) > 0
    if not core.any() or np.mean(healthy[core]) < 0.95:
        return place, np.zeros(array.shape, np.float32), np.zeros_like(copied)
    weight = np.clip(ndimage.gaussian_filter(core.astype(np.float32), 1.0) * 1.2, 0, 1) * healthy
    return place, np.where(copied > 0, np.maximum(weight, 0.5), weight), copied


def _acquired(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With another gamma, receive field, noise and unit; 0 stays 0."""
    most = float(image.max())
    light = (image / most) ** rng.uniform(0.85, 1.2)
    light *= ndimage.zoom(rng.normal(1, 0.06, (4, 4, 4)), [n / 4 for n in image.shape], order=3)
    noisy = np.clip(light + rng.normal(0, NOISE, image.shape), 0.002, None)
    return np.where(image > 0, noisy * most * rng.uniform(0.7, 1.4), 0).astype(np.float32)


def _save(folder: Path, case: str, images: dict[str, np.ndarray], labels: np.ndarray, grid: Grid) -> None:
    head = phantom.draw(0)
    made = phantom.Phantom(images, labels.astype(np.uint8), grid, dict.fromkeys(images, grid), head)
    phantom.write_nifti(made, folder, case)
