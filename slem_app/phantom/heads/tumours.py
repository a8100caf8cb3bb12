"""Shapes of tumours to be put into a head: grown ones of several kinds, or those of labelled cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slem_app.phantom.head import rotation, waves
from slem_app.phantom.heads.contrast import PARTS
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["KINDS", "TRUTH_OF", "Shape", "grown", "place", "real_shape"]

TRUTH_OF: Mapping[str, int] = {
    **{"edema": 2, "core": 1, "enhancing": 3, "necrosis": 1, "cyst": 1, "haemorrhage": 1, "cavity": 0},
}
"""Part -> value in the label map: 1 necrosis with non-enhancing core, 2 edema, 3 enhancing tumor."""
KINDS = ("ring", "solid", "non-enhancing", "cystic", "bleeding", "operated")
CODE = {part: number for number, part in enumerate(PARTS, 1)}


@dataclass(frozen=True, eq=False)
class Shape:
    """A tumour without a head."""

    parts: np.ndarray
    """(I, J, K) uint8: 0 nothing, else 1 + index into `PARTS`."""
    spacing: np.ndarray
    """(3,) mm of its voxels."""


def grown(rng: np.random.Generator, kind: str | None = None, spacing: float = 1.5) -> Shape:
    """Grow a tumour: a ball with a winding border, in layers.

    Args:
        rng: random numbers.
        kind: of `KINDS`; None draws one.
        spacing: mm of its voxels.
    """
    kind = kind or str(rng.choice(KINDS))
    radius = float(np.exp(rng.uniform(np.log(6), np.log(28))))
    reach = radius + float(rng.uniform(2, 22))
    half = int(np.ceil(1.35 * reach / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * half
    shape = (2 * half + 1,) * 3
    index = np.ogrid[tuple(slice(-half, half + 1) for _ in range(3))]
    squeeze = rng.uniform(0.75, 1.3, 3)
    distance = np.sqrt(sum((spacing * n * s) ** 2 for n, s in zip(index, squeeze, strict=True)))
    border = distance * (1 + 0.12 * waves(rng, 12, 15, 50).on(affine, shape))
    spread = distance * (1 + 0.2 * waves(rng, 12, 20, 60).on(affine, shape))
    inside = waves(rng, 12, 8, 30).on(affine, shape)
    parts = np.zeros(shape, np.uint8)
    parts[spread < reach] = CODE["edema"]
    core = border < radius
    rim = float(rng.uniform(1.5, 6.0))
    for part, where in _layers(kind, core, border < radius - rim, inside):
        parts[where] = CODE[part]
    return Shape(parts, np.full(3, spacing))


def _layers(
    kind: str, core: np.ndarray, inner: np.ndarray, inside: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Parts of a kind from the outside in: (part, (I, J, K) bool)."""
    if kind == "ring":
        return [("enhancing", core), ("necrosis", inner)]
    if kind == "solid":
        return [("enhancing", core), ("core", inner & (inside > 0.3)), ("necrosis", inner & (inside > 1.2))]
    if kind == "non-enhancing":
        return [("core", core), ("cyst", inner & (inside > 1.0)), ("enhancing", inner & (inside < -1.7))]
    if kind == "cystic":
        return [("core", core & ~inner), ("enhancing", core & ~inner & (inside > 0.5)), ("cyst", inner)]
    if kind == "bleeding":
        return [("enhancing", core), ("necrosis", inner), ("haemorrhage", inner & (inside > 0.4))]
    if kind == "operated":
        return [("cavity", core), ("enhancing", core & ~inner & (inside > 0.8))]
    raise ValueError(f"unknown kind of tumour {kind!r}: use {', '.join(KINDS)}")


def real_shape(labels: np.ndarray, grid: Grid) -> Shape:
    """The tumour of a labelled case: 1 necrosis with non-enhancing core, 2 edema, 3 enhancing tumor.

    Args:
        labels: (I, J, K) with these values.
        grid: where they lie; only its spacing is used.

    Raises:
        ValueError: nothing is labelled.
    """
    box = bounding_box(labels > 0)
    part = labels[box]
    if part.size == 0:
        raise ValueError("no tumour is labelled in this case")
    codes = np.zeros(4, np.uint8)
    enhances = np.count_nonzero(part == 3) > 0.1 * np.count_nonzero(part == 1)
    codes[1:] = CODE["necrosis" if enhances else "core"], CODE["edema"], CODE["enhancing"]
    return Shape(codes[part], grid.spacing.copy())


def place(
    shape: Shape, allowed: np.ndarray, spacing: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """Turn a tumour and put it somewhere.

    Args:
        shape: the tumour.
        allowed: (I, J, K) bool, where it may be.
        spacing: (3,) mm of that array.
        rng: random numbers.

    Returns:
        Part codes (uint8) and the box of the array in which they lie; nothing outside `allowed`.
    """
    inside = np.flatnonzero(allowed)
    centre = np.unravel_index(inside[rng.integers(len(inside))], allowed.shape)
    turn = rotation(rng.uniform(-180, 180, 3)) * rng.choice([-1.0, 1.0], 3) * rng.uniform(0.8, 1.2)
    half_mm = 0.5 * np.linalg.norm(np.array(shape.parts.shape) * shape.spacing) * 1.2
    half = np.ceil(half_mm / spacing).astype(int)
    box = triple(
        slice(max(0, c - h), min(n, c + h + 1)) for c, h, n in zip(centre, half, allowed.shape, strict=True)
    )
    steps = np.meshgrid(
        *((np.arange(b.start, b.stop) - c) * s for b, c, s in zip(box, centre, spacing, strict=True)),
        indexing="ij",
    )
    points = np.tensordot(turn, np.stack(steps), 1)  # (3, I, J, K) mm of the tumour
    index = np.rint(points / shape.spacing[:, None, None, None]).astype(np.intp)
    index += (np.array(shape.parts.shape) // 2)[:, None, None, None]
    size = np.array(shape.parts.shape)[:, None, None, None]
    there = ((index >= 0) & (index < size)).all(axis=0)
    index = np.clip(index, 0, size - 1)
    parts = np.where(there & allowed[box], shape.parts[tuple(index)], 0)
    return parts.astype(np.uint8), box
