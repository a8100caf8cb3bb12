"""Label maps that are wrong as label maps are wrong: borders that run too far in or out, parts called by a
neighbour's name, parts that follow the image where they should not, parts that are missing or made up.

For any labels: nothing here knows their names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

__all__ = ["distort", "region", "smooth"]


def smooth(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """(count, I, J, K) float32: smooth random fields of about unit size."""
    nodes = int(rng.integers(3, 8))
    coarse = torch.from_numpy(rng.standard_normal((1, count, nodes, nodes, nodes), dtype=np.float32))
    return F.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)[0].numpy()


def region(
    images: np.ndarray, seed: np.ndarray, radius: float, contrast: float, rng: np.random.Generator
) -> np.ndarray:
    """(I, J, K) bool: a piece around a voxel whose intensities are like the voxel's.

    Args:
        images: (M, I, J, K) of the sequences that are there.
        seed: (3,) voxel.
        radius: voxels, about.
        contrast: standard deviations.
        rng: what is random comes from here.
    """
    place = tuple(int(v) for v in seed)
    axes = np.ogrid[tuple(slice(0, n) for n in images.shape[1:])]
    away = np.sqrt(sum((axis - v) ** 2 for axis, v in zip(axes, place, strict=True)))
    found = away < radius * (1 + 0.25 * smooth(rng, 1, images.shape[1:])[0])
    weights = rng.dirichlet(np.ones(len(images))) * len(images)
    unlike = np.zeros(images.shape[1:], dtype=np.float32)
    for image, weight in zip(images, weights, strict=True):
        seen = ndimage.uniform_filter(image, 3) if rng.random() < 0.5 else image
        unlike += weight * (seen - seen[place]) ** 2
    found &= (unlike < len(images) * contrast**2) & images.any(axis=0)
    if rng.random() < 0.6:
        found = ndimage.binary_closing(found)
    found[place] = True
    pieces, _ = ndimage.label(found)
    return pieces == pieces[place]


def distort(wanted: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(I, J, K) uint8: `wanted` with errors.

    Args:
        wanted: label map.
        images: (M, I, J, K) of the sequences that are there, 0 outside the organ.
        rng: what is random comes from here.
    """
    shown, organ = wanted.copy(), np.asarray(images.any(axis=0))
    if rng.random() < 0.6:
        shown = _bent(shown, organ, rng)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.1, 0.4, 0.35, 0.15]))):
        everywhere = rng.random() < 0.4
        where = organ if everywhere else organ & (smooth(rng, 1, shown.shape)[0] > rng.uniform(-0.5, 0.7))
        error = ERRORS[int(rng.choice(len(ERRORS), p=SHARES))]
        error(shown, where, images, rng)
    return shown


def _bent(shown: np.ndarray, organ: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    field = smooth(rng, 3, shown.shape) * rng.uniform(0.5, 4)
    axes = np.ogrid[tuple(slice(0, n) for n in shown.shape)]
    index = [
        np.clip(np.round(axis + move), 0, n - 1).astype(int)
        for axis, move, n in zip(axes, field, shown.shape, strict=True)
    ]
    return np.where(organ, shown[tuple(index)], 0)


def _label(shown: np.ndarray, rng: np.random.Generator) -> int:
    """One of the labels that are there; 0 where there is none."""
    there = [int(v) for v in np.unique(shown) if v]
    return int(rng.choice(there)) if there else 0


def _neighbour(shown: np.ndarray, value: int, rng: np.random.Generator) -> int:
    """A label, or the background, that touches `value`."""
    mask = shown == value
    beside = np.unique(shown[ndimage.binary_dilation(mask, iterations=2) & ~mask])
    return int(rng.choice(beside)) if len(beside) else 0


def _renamed(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    value = _label(shown, rng)
    shown[where & (shown == value)] = _neighbour(shown, value, rng) if value else 0


def _grown(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    value = _label(shown, rng)
    if value:
        shown[ndimage.binary_dilation(shown == value, iterations=int(rng.integers(1, 6))) & where] = value


def _shrunk(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    value = _label(shown, rng)
    mask = shown == value
    rim = mask & ~ndimage.binary_erosion(mask, iterations=int(rng.integers(1, 4))) & where
    if value:
        shown[rim] = _neighbour(shown, value, rng)


def _made_up(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    places = np.argwhere(where)
    if len(places):
        seed = places[rng.integers(len(places))]
        found = region(images, seed, rng.uniform(4, 15), rng.uniform(0.5, 1.8), rng)
        shown[found & (shown == shown[tuple(seed)])] = _label(shown, rng) or 1


def _cleared(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    shown[where] = 0


def _by_level(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    """The darker or brighter part of a label is called by a neighbour's name."""
    value = _label(shown, rng)
    mask = shown == value
    if not value or np.count_nonzero(mask) < 30:
        return
    seen = _one_image(images, rng)
    level = np.quantile(seen[mask], rng.uniform(0.1, 0.9))
    part = seen > level if rng.random() < 0.5 else seen < level
    shown[mask & part & where] = _neighbour(shown, value, rng)


def _by_likeness(shown: np.ndarray, where: np.ndarray, images: np.ndarray, rng: np.random.Generator) -> None:
    """A label takes what is near it and as bright, or as dark, as most of it."""
    value = _label(shown, rng)
    mask = shown == value
    if not value or np.count_nonzero(mask) < 30:
        return
    seen = _one_image(images, rng)
    bright = seen[mask].mean() > seen[where & ~mask].mean() if (where & ~mask).any() else True
    share = rng.uniform(0.05, 0.5)
    alike = seen > np.quantile(seen[mask], share) if bright else seen < np.quantile(seen[mask], 1 - share)
    near = ndimage.binary_dilation(mask, iterations=int(rng.integers(3, 9)))
    shown[alike & near & where] = value


def _one_image(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.uniform_filter(images[int(rng.integers(len(images)))], int(rng.choice([3, 5])))


Error = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], None]
ERRORS: tuple[Error, ...] = (_renamed, _grown, _shrunk, _made_up, _cleared, _by_level, _by_likeness)
SHARES = (0.25, 0.12, 0.1, 0.12, 0.03, 0.22, 0.16)
