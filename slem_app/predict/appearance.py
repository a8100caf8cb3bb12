"""What the looks of a voxel, in all sequences and to the network, say for a click's label and against the
label that is shown where it was clicked.

A linear discriminant (Fisher 1936) of this patient's own tissue: one class is what shows the click's label
already and the network is sure of, with the clicked place; the other what shows the label that the reader
took away. The log-likelihood ratio counts relative to that of the clicked place: a voxel that looks more like
the label than the click does follows it more readily, one that looks less like it less so. How it was chosen:
docs/decisions/0007-looks-count-in-a-correction.md and 0008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from slem_app.predict.claim import squared_distance
from slem_app.prompts import Click
from slem_app.types import Grid, triple

__all__ = ["AppearanceSettings", "Maps", "evidence"]


@dataclass(frozen=True)
class AppearanceSettings:
    """How much looks count, and what they are learned from."""

    against: float = 2.0
    """Log-odds that they may take from a voxel."""
    support: float = 2.0
    """Log-odds that they may give to it; 0 in place of both: looks count no more than in the click's claim.
    """
    sure: float = 1.0
    """Log-odds from which a voxel of the network's is an example of its class."""
    least: int = 50
    """Voxels that a class needs; without an example of its own the click's class is the clicked place alone.
    """
    most: int = 200
    """Voxels as which the click's class counts at most beside the clicked place ..."""
    weight: int = 50
    """... which counts as so many."""
    ball: float = 2.6
    """mm around the click that are the clicked place."""
    apart: float = 4.0
    """mm around the click within which nothing is an example of the other class."""
    around: float = 25.0
    """mm around the click within which background is an example: farther off it is other tissue."""
    shrink: float = 0.2
    """Share of the mean variance that is added to each sequence's and each map's."""
    deep: float = 0.5
    """Weight of the network's feature maps beside the intensities, both in standard deviations; 0:
    intensities alone.
    """
    examples: int = 4000
    """Voxels of a class beyond which only some of them are looked at."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What the network, not knowing of prompts, sees around a crop of its grid."""

    values: np.ndarray
    """(F, i, j, k) float32, each map with mean 0 and one standard deviation."""
    stride: int
    """Voxels of the network's grid from one of theirs to the next."""
    start: tuple[int, int, int] = (0, 0, 0)
    """The crop's first voxel, counted on the network's grid from the maps' corner."""

    def at(self, voxels: np.ndarray) -> np.ndarray:
        """(F, n) of voxels (n, 3) of the crop, linear between the maps' own."""
        # in half lengths from the middle
        places = 2 * (voxels + self.start + 0.5) / (np.array(self.values.shape[1:]) * self.stride) - 1
        where = torch.from_numpy(places[:, ::-1].astype(np.float32))[None, None, None]  # torch counts K first
        maps = torch.from_numpy(self.values)[None]
        return functional.grid_sample(
            maps, where, mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0, 0].numpy()

    def mixed(self, weights: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(I, J, K) float32, the weighted sum of the maps on the crop's voxels, linear between their own."""
        mix = torch.from_numpy(np.tensordot(weights.astype(np.float32), self.values, 1))[None, None]
        fine = functional.interpolate(mix, scale_factor=self.stride, mode="trilinear")[0, 0].numpy()
        return fine[tuple(slice(a, a + n) for a, n in zip(self.start, shape))]


def evidence(
    click: Click,
    value: int,
    grid: Grid,
    images: np.ndarray,
    showing: np.ndarray,
    margin: np.ndarray,
    settings: AppearanceSettings,
    maps: Maps | None = None,
) -> np.ndarray | None:
    """Log-odds for the click's label by the looks.

    Args:
        click: on the crop.
        value: of its label, 0 for background.
        grid: of the crop of the network's grid.
        images: (M, I, J, K), the sequences that are there.
        showing: (I, J, K) label values that are shown.
        margin: (I, J, K) the network's log-odds for the click's label.
        settings: how much it counts.
        maps: what the network sees there.

    Returns:
        (I, J, K) float32 between -`against` and `support`, 0 at the click; None where the label is shown
        there already, or the other class has no example.
    """
    voxel = click.voxel(grid)
    there = int(showing[voxel])
    if there == value:
        return None
    distance = squared_distance(grid, np.array(click.world))
    mine, other = showing == value, (showing == there) & (distance > settings.apart**2)
    near = (distance <= settings.around**2) & images.any(axis=0)
    mine, other = (group & near if label == 0 else group for group, label in ((mine, value), (other, there)))
    mine, other = (
        _sure(group, sure, settings.least)
        for group, sure in ((mine, margin > settings.sure), (other, margin < -settings.sure))
    )
    place = distance <= settings.ball**2
    place[voxel] = True  # on a coarse grid no voxel's middle may lie in the ball
    looks = _Looks(images, maps if settings.deep else None, settings)
    seen, rest, own = (looks.of(group) for group in (place, other, mine))
    if rest.shape[1] < settings.least:
        return None
    centre, spread = seen.mean(axis=1), np.atleast_2d(np.cov(rest))
    if own.shape[1] >= settings.least:
        count = min(int(np.count_nonzero(mine)), settings.most)
        centre = (count * own.mean(axis=1) + settings.weight * centre) / (count + settings.weight)
        spread = (spread + np.cov(own)) / 2
    spread = spread + settings.shrink * np.trace(spread) / len(spread) * np.eye(len(spread))
    direction = np.linalg.solve(spread, centre - rest.mean(axis=1)).astype(np.float32)
    found = looks.along(direction)
    return np.clip(found - found[voxel], -settings.against, settings.support)


class _Looks:
    """Intensities, and the network's maps beside them."""

    def __init__(self, images: np.ndarray, maps: Maps | None, settings: AppearanceSettings) -> None:
        self.images, self.maps, self.settings = images, maps, settings

    def of(self, group: np.ndarray) -> np.ndarray:
        """(M + F, n) of some voxels of a group, evenly picked."""
        voxels = np.argwhere(group)
        voxels = voxels[:: -(-len(voxels) // self.settings.examples) or 1]
        values = self.images[(slice(None), *voxels.T)]
        return (
            values
            if self.maps is None
            else np.concatenate([values, self.settings.deep * self.maps.at(voxels)])
        )

    def along(self, direction: np.ndarray) -> np.ndarray:
        """(I, J, K) of every voxel."""
        count = len(self.images)
        found = np.tensordot(direction[:count], self.images, 1)
        return (
            found
            if self.maps is None
            else found + self.maps.mixed(self.settings.deep * direction[count:], triple(found.shape))
        )


def _sure(group: np.ndarray, sure: np.ndarray, least: int) -> np.ndarray:
    """Those that the network is sure of, unless they are too few."""
    both = group & sure
    return both if np.count_nonzero(both) >= 2 * least else group
