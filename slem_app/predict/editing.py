"""What the editor sees of a view, and what follows from its answer; training and serving both pass here.

    sight = Sight(images, present, logits, shown, spacing)  # one view, one label map
    seen, told = channels(config, sight, newest, older, odds)
    follow(answer > 0, shown == newest.value, square, held, newest.voxels)

A view is a box of voxels of one size along all axes, in mm, so the same network sees 1 mm near the prompt and
2 mm around it. Distances are in voxels of the view; how many mm a voxel has is told to the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from slem_app.network import EditorConfig

__all__ = ["Pointed", "ShownView", "channels", "copied", "follow", "squared_steps"]

ALIKE = 0.35  # standard deviations of intensity over which a voxel looks like the place of the prompt
BALL = 3.0  # voxels around the prompt in which an answer begins
CORE = 1.3  # voxels around it that follow whatever the network says
FARTHEST = 32.0  # voxels to the label where the view has none of it
CERTAIN = 8.0  # log-odds that count as sure


@dataclass(frozen=True, eq=False)
class Pointed:
    """A prompt in voxels of a view."""

    voxels: np.ndarray
    """(n, 3) int, n >= 1; one for a click."""
    value: int
    """Label value, 0 background."""


@dataclass(frozen=True, eq=False)
class ShownView:
    """A view before a prompt."""

    images: np.ndarray
    """(M, I, J, K) float32, 0 where there is no organ; channels of missing sequences mean nothing."""
    present: np.ndarray
    """(M,) bool."""
    shown: np.ndarray
    """(I, J, K) uint8, the label map that the reader sees."""
    spacing: float
    """mm a voxel."""


def squared_steps(shape: Sequence[int], pointed: Pointed) -> np.ndarray:
    """(I, J, K) float32: voxels^2 to the nearest voxel of a prompt."""
    if len(pointed.voxels) > 1:
        free = np.ones(tuple(shape), dtype=bool)
        free[tuple(pointed.voxels.T)] = False
        return ndimage.distance_transform_edt(free).astype(np.float32) ** 2
    lines = [
        ((np.arange(n, dtype=np.float32) - v) ** 2).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (n, v) in enumerate(zip(shape, pointed.voxels[0]))
    ]
    return lines[0] + lines[1] + lines[2]


def channels(
    config: EditorConfig,
    sight: ShownView,
    newest: Pointed,
    older: Sequence[Pointed],
    odds: np.ndarray | None,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """The network's input for one prompt.

    Args:
        config: the editor's.
        sight: the view.
        newest: the prompt to be followed.
        older: those before it that lie in the view.
        odds: (2, I, J, K) log-odds, by the automatic result, of the prompt's label and of the one that is
            shown at the prompt; None where there is no automatic result.
        names: name of each label value, '' for those that shall not be told; values beyond it are not told.

    Returns:
        (C, I, J, K) float32 and (T,) float32.
    """
    shown, shape = sight.shown, sight.shown.shape
    place = tuple(newest.voxels.T)
    here = _most(shown[place])
    seen = np.zeros((config.inputs, *shape), dtype=np.float32)
    seen[: config.seen] = _images(config, sight)
    start = config.seen
    if odds is not None:
        seen[start : start + 2] = np.clip(odds, -CERTAIN, CERTAIN) / 4
    other = ~np.isin(shown, (0, newest.value, here))
    seen[start + 2 : start + 6] = shown == newest.value, shown == here, shown == 0, other
    square = squared_steps(shape, newest)
    pointed = seen[config.prompts]
    pointed[0] = 0.5 * np.exp(-square / 8) + 0.5 * np.exp(-np.sqrt(square) / 8)
    pointed[1][place] = 1
    for one in older:
        target = pointed[2 if one.value == newest.value else 3]
        np.maximum(target, np.exp(-squared_steps(shape, one) / 18), out=target)
    pointed[4], depth = _layer(shown == newest.value, place)
    around = _around(newest, shape)
    for n in range(config.seen):
        if _there(config, sight, n):
            level = seen[n][tuple(around.T)].mean()
            seen[config.prompts.stop + n] = np.exp(-((seen[n] - level) ** 2) / (2 * ALIKE**2))
    again = sum(one.value == newest.value for one in older)
    numbers = (float(odds is not None), 2 * np.log(sight.spacing), np.log(depth) / 2, min(again, 5) / 5)
    told: list[Any] = [_who(config, names, newest.value), _who(config, names, here), sight.present, numbers]
    return seen, np.concatenate(told).astype(np.float32)


def follow(
    wants: np.ndarray, same: np.ndarray, square: np.ndarray, held: np.ndarray, seeds: np.ndarray
) -> np.ndarray:
    """(I, J, K) bool: the voxels that are to take a prompt's label, all in one piece with it.

    Args:
        wants: (I, J, K) bool, where the network wants the label and changes may be.
        same: where it is shown already.
        square: squared distance to the prompt, in mm or in voxels of about one mm.
        held: where prompts of other labels lie.
        seeds: (n, 3) the prompt's own voxels.
    """
    change = (wants | (square <= CORE**2)) & ~same & ~held
    near = square <= BALL**2
    near[tuple(seeds.T)] = True
    change[tuple(seeds.T)] = True
    pieces, count = ndimage.label(change)
    kept = np.zeros(count + 1, dtype=bool)
    kept[pieces[near]] = True
    kept[0] = False
    return kept[pieces]


def copied(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays stacked in memory that torch aligns: products of matrices differ in their last bits with where
    numpy happens to put them, and the same prompts shall give the same voxels.
    """
    return torch.tensor(np.stack(arrays))


def _images(config: EditorConfig, sight: ShownView) -> np.ndarray:
    """(S, I, J, K): sequences, zero where missing, and their differences."""
    images = np.where(sight.present[:, None, None, None], sight.images, 0)
    more = [
        images[a] - images[b] if sight.present[a] and sight.present[b] else np.zeros_like(images[0])
        for a, b in config.differences
    ]
    return np.concatenate([images, np.stack(more)]) if more else images


def _there(config: EditorConfig, sight: ShownView, channel: int) -> bool:
    if channel < config.sequences:
        return bool(sight.present[channel])
    return all(sight.present[slot] for slot in config.differences[channel - config.sequences])


def _most(values: np.ndarray) -> int:
    """The commonest of some label values."""
    return int(np.bincount(values.ravel()).argmax())


def _around(newest: Pointed, shape: Sequence[int]) -> np.ndarray:
    """(n, 3) the voxels of a prompt; for a click also those next to it."""
    if len(newest.voxels) > 1:
        return newest.voxels
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    near = newest.voxels + steps
    return near[((near >= 0) & (near < np.array(shape))).all(axis=1)]


def _layer(label: np.ndarray, place: tuple[np.ndarray, ...]) -> tuple[np.ndarray, float]:
    """How far each voxel lies from the label that is shown, in twice the prompt's own distance, at most 1.5,
    and that distance: most errors are layers along a border, and a reader points into their middle.
    """
    if not label.any():
        return np.full(label.shape, 1.5, dtype=np.float32), FARTHEST
    away = ndimage.distance_transform_edt(~label).astype(np.float32)
    depth = max(1.0, min(FARTHEST, float(np.median(away[place]))))
    return np.minimum(away / (2 * depth), 1.5), depth


def _who(config: EditorConfig, names: Sequence[str], value: int) -> np.ndarray:
    """One-hot: background, then the labels that the editor knows by name; all zero for others."""
    known = np.zeros(len(config.labels) + 1, dtype=np.float32)
    name = names[value] if value < len(names) else ""
    if value == 0 and names:
        known[0] = 1
    elif name in config.labels:
        known[1 + config.labels.index(name)] = 1
    return known
