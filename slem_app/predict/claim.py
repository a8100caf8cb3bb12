"""What a prompt claims around itself, and how far a label is from being shown at a voxel.

The correction is like that of a Gaussian process: where a decision of the network that leads to the prompt's
label falls short at the prompt, what it lacks is added there, and less so with the distance in space and in
intensity; decisions that were right stay (who says that this core is edema says nothing of the edema's outer
border). Voxels that are about as likely as the clicked one, near it and look like it, follow; voxels of which
the network is surer, or that look different, stay. Most errors are shells around a border that runs too far
in or out, hence two scales: one for what is clicked, a wider and weaker one for the border around.

The numbers were chosen on 16 cases of BraTS with models that had not seen them (a flat optimum: half or twice
of any changes little). Learning them instead brought no more: docs/decisions/0009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.prompts import Click, Scribble
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box

__all__ = ["ClaimSettings", "claim", "layer", "margins", "squared_distance"]


@dataclass(frozen=True)
class ClaimSettings:
    """How a prompt spreads."""

    spread: float = 14.0
    """mm, standard deviation of the near part of its influence."""
    wide: float = 40.0
    """mm, standard deviation of the far part: a border that is misjudged here is often misjudged all around.
    """
    near: float = 0.6
    """Share of the near part."""
    contrast: float = 1.0
    """Standard deviations of intensity (root mean square over the sequences) over which the influence falls
    likewise.
    """
    surplus: float = 2.5
    """Log-odds by which the clicked voxel shall exceed the threshold."""
    most: float = 8.0
    """Log-odds beyond which the network's certainty counts no more."""
    least: float = 0.08
    """Influence under which nothing changes, whatever the network says: what is far, or looks different, was
    not meant.
    """
    reach: float = 60.0
    """mm from a prompt beyond which nothing changes."""
    core: float = 1.2
    """mm around a click that follow it whatever the network says."""
    ball: float = 3.5
    """mm around a click that follow it, too, unless ..."""
    refused: float = 3.0
    """... so many log-odds speak against it."""
    across: float = 2.2
    """How deep a correction goes beyond the border that is shown, in distances of the prompt from it: who
    clicks into the middle of a layer means all of it, and not what lies behind.
    """
    beside: float = 20.0
    """mm, standard deviation over which that depth falls off along the border ..."""
    shallowest: float = 0.25
    """... to this share of it."""
    own: float = 0.9
    """Share of the distance from the border within which all follows a click: the layer is about as thick
    there on all sides.
    """
    island: float = 12.0
    """mm from the border beyond which a click is no correction of it and `own` counts no more."""


def margins(logits: np.ndarray, labels: LabelSet, label: str, threshold: float = 0.5) -> np.ndarray:
    """Log-odds of each decision that leads to `label`; all are positive exactly where thresholding the nested
    regions gives it.

    The decisions are: into each region around the label, not into the regions inside it, and rather than into
    a disjoint neighbour.

    Args:
        logits: (R, I, J, K) in the order of `labels.regions`.
        labels: the model's.
        label: a label's name, or '' for the background.
        threshold: probability from which a voxel belongs to a region.

    Returns:
        (decisions, I, J, K) float32.
    """
    shift = float(np.log(threshold / (1 - threshold)))
    sets = [frozenset(region.labels) for region in labels.regions]
    around = [r for r, members in enumerate(sets) if label in members]
    innermost = min((sets[r] for r in around), key=len, default=frozenset(labels.names))
    found = [logits[r] - shift for r in around] + [
        shift - logits[q] for q in _outermost(sets, innermost, label)
    ]
    for r in around:
        parent = min((sets[q] for q in around if sets[r] < sets[q]), key=len, default=frozenset(labels.names))
        found += [logits[r] - logits[q] for q in _outermost(sets, parent, label) if not sets[q] & sets[r]]
    return np.stack(found).astype(np.float32, copy=False)


def _outermost(sets: list[frozenset[str]], within: frozenset[str], label: str) -> list[int]:
    """The largest regions inside `within` that do not hold `label`."""
    inside = [q for q, members in enumerate(sets) if members <= within and label not in members]
    return [q for q in inside if not any(sets[q] < sets[o] for o in inside)]


def squared_distance(grid: Grid, world: np.ndarray) -> np.ndarray:
    """(I, J, K) mm2 from every voxel of `grid` to the point `world`, without an array of coordinates."""
    axes, place = grid.affine[:3, :3], grid.to_index(world)
    steps = [
        (np.arange(n) - p).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (n, p) in enumerate(zip(grid.shape, place))
    ]
    square = axes.T @ axes
    if (
        np.abs(square - np.diag(np.diag(square))).max() <= 1e-6 * square.max()
    ):  # axes at right angles: each adds its part
        lines = [(step**2 * square[a, a]).astype(np.float32) for a, step in enumerate(steps)]
        return lines[0] + lines[1] + lines[2]
    return sum(sum(axes[w, a] * steps[a] for a in range(3)) ** 2 for w in range(3)).astype(np.float32)


def claim(
    entry: Click | Scribble, grid: Grid, images: np.ndarray, settings: ClaimSettings
) -> np.ndarray | None:
    """Influence of a prompt on a crop of the network's grid: (I, J, K) float32, 1 at the prompt, falling to
    0.

    Args:
        entry: click or scribble.
        grid: of the crop.
        images: (M, I, J, K), the sequences that are there.
        settings: how it spreads.

    Returns:
        The field, or None for a prompt that lies outside the crop.
    """
    if isinstance(entry, Click):
        voxel = entry.voxel(grid)
        if voxel is None:
            return None
        distance = squared_distance(grid, np.array(entry.world))
        there = tuple(slice(max(0, v - 1), v + 2) for v in voxel)
        seen = images[(slice(None), *there)].mean(axis=(1, 2, 3))[:, None, None, None]  # M 1 1 1
    else:
        painted = np.ones(grid.shape, dtype=bool)
        index = entry.voxels(grid)
        if not len(index):
            return None
        painted[tuple(index.T)] = False
        steps, nearest = ndimage.distance_transform_edt(painted, sampling=grid.spacing, return_indices=True)
        distance = (steps**2).astype(np.float32)
        seen = images[(slice(None), *nearest)]  # M I J K
    contrast = np.zeros(grid.shape, dtype=np.float32)
    for image, value in zip(images, seen):
        contrast += (image - value) ** 2
    alike = np.exp(contrast * np.float32(-0.5 / (max(1, len(images)) * settings.contrast**2)))
    near, wide = (np.exp(distance * np.float32(-0.5 / mm**2)) for mm in (settings.spread, settings.wide))
    return (settings.near * near + (1 - settings.near) * wide) * alike


def layer(
    entry: Click | Scribble, grid: Grid, showing: np.ndarray, settings: ClaimSettings
) -> tuple[np.ndarray, np.ndarray]:
    """What a prompt can mean, given what is shown: most errors are layers along a border, and a reader points
    into their middle.

    Args:
        entry: click or scribble.
        grid: of the crop.
        showing: (I, J, K) bool, where the prompt's label is shown.
        settings: how it spreads.

    Returns:
        (I, J, K) bool twice: what may follow the prompt, and what follows it whatever the network says.
    """
    if isinstance(entry, Scribble):
        painted = np.ones(grid.shape, dtype=bool)
        painted[tuple(entry.voxels(grid).T)] = False
        away = ndimage.distance_transform_edt(painted, sampling=grid.spacing).astype(np.float32) ** 2
        depth = float(_beyond(showing, grid.spacing)[~painted].max())
    else:
        away = squared_distance(grid, np.array(entry.world))
        middle = grid.to_world(np.array(entry.voxel(grid)))
        depth = float(np.sqrt(squared_distance(grid, middle).min(where=showing, initial=np.inf)))
    beyond = _beyond(showing, grid.spacing, settings.across * max(depth, float(min(grid.spacing))))
    fall = np.maximum(np.exp(away * np.float32(-0.5 / settings.beside**2)), settings.shallowest)
    may = (beyond <= settings.across * max(depth, float(min(grid.spacing))) * fall) | (
        away <= (1.2 * depth) ** 2
    )
    own = settings.own * depth if depth < settings.island else settings.ball
    return may, away <= own**2


def _beyond(showing: np.ndarray, spacing: np.ndarray, limit: float = np.inf) -> np.ndarray:
    """(I, J, K) float32, mm to the nearest voxel that shows; infinite where that is surely more than `limit`,
    or nothing shows.
    """
    found = np.where(showing, np.float32(0), np.float32(np.inf))
    if not showing.any() or showing.all():
        return found
    more = np.ceil(np.minimum(limit / spacing, showing.shape)).astype(int) + 1
    within = (
        (slice(max(0, s.start - m), s.stop + m) for s, m in zip(bounding_box(part), size))
        for part, size in ((showing, more), (~showing, (1, 1, 1)))
    )
    # holds what is nearest to each of its voxels
    box = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(*within))
    found[box] = ndimage.distance_transform_edt(~showing[box], sampling=spacing)
    return found
