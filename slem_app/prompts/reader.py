"""A simulated reader: looks at a segmentation beside the truth and clicks into the worst error, as a patient
reader would.

An error is a connected piece of one true label where something else is shown. The worst one is that whose
mending gains most Dice, summed over the regions ('share'), or the largest in mm3 ('volume'). The click falls
into its interior: among the voxels nearly as deep as the deepest. Works on any grid: the network's in
training, the reference's in evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from slem_app.errors import BadSetting
from slem_app.labels import LabelSet
from slem_app.prompts.prompts import BACKGROUND
from slem_app.types import triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["ReaderSettings", "SimulatedClick", "SimulatedReader"]


@dataclass(frozen=True)
class ReaderSettings:
    """How the reader works.

    Raises:
        BadSetting: a value out of range.
    """

    measure: str = "share"
    """'share': an error counts by the Dice that it costs; 'volume': by its mm3."""
    jitter: float = 0.25
    """A click's depth in its error may fall short of the deepest voxel's by this share."""
    wrong: float = 0.0
    """Share of clicks with a wrong label."""
    smallest: float = 0.0
    """mm3 under which an error is let be."""

    def __post_init__(self) -> None:
        if (
            self.measure not in ("share", "volume")
            or not 0 <= self.jitter <= 1
            or not 0 <= self.wrong <= 1
            or self.smallest < 0
        ):
            raise BadSetting(
                f"a reader's measure is share or volume, jitter and wrong lie in 0..1, smallest is not "
                f"negative: {self}"
            )


@dataclass(frozen=True)
class SimulatedClick:
    """One click of the simulated reader."""

    index: tuple[int, int, int]
    """Voxel."""
    label: str
    """What the reader says is there, or BACKGROUND."""
    regions: tuple[str, ...]
    """Regions it aims at: those that the voxel wrongly lies in or wrongly misses."""
    right: bool = True
    """False where the reader errs."""

    def seen_from(self, start: tuple[int, int, int]) -> SimulatedClick:
        """The same in the voxels of a crop that begins at `start`."""
        return replace(self, index=triple(int(v - s) for v, s in zip(self.index, start)))


class SimulatedReader:
    """Draws clicks for one label set.

    Args:
        labels: the model's.
        settings: how the reader works.
    """

    def __init__(self, labels: LabelSet, settings: ReaderSettings | None = None) -> None:
        self.labels = labels
        self.settings = settings or ReaderSettings()
        values = np.arange(len(labels.labels) + 1)
        self._member = labels.region_masks(values)  # R L+1: is a label's voxel in a region?

    def shots(
        self,
        truth: np.ndarray,
        current: np.ndarray,
        spacing: np.ndarray,
        rng: np.random.Generator,
        count: int = 1,
    ) -> tuple[SimulatedClick, ...]:
        """Up to `count` clicks, the worst error first; fewer where fewer errors are left.

        Args:
            truth: (I, J, K) label map.
            current: (I, J, K) label map that is shown.
            spacing: (3,) mm.
            rng: what is random comes from here.
            count: clicks placed on this one view.
        """
        wrong = truth != current
        box = bounding_box(wrong)
        if not wrong[box].size:
            return ()
        start = np.array([s.start for s in box])
        errors = _Errors(
            truth[box],
            current[box],
            self._weights(truth, current),
            float(np.prod(spacing)),
            self.settings.smallest,
        )
        shots = []
        for _ in range(count):
            found = errors.worst()
            if found is None:
                break
            voxel = errors.click(found, np.asarray(spacing), self.settings.jitter, rng)
            shots.append(self._shot(voxel, start, truth[box], current[box], rng))
        return tuple(shots)

    def _weights(self, truth: np.ndarray, current: np.ndarray) -> np.ndarray:
        """(L+1, L+1) Dice that one voxel of true label t shown as c costs, summed over regions."""
        differ = self._member[:, :, None] != self._member[:, None, :]  # R t c
        if self.settings.measure == "volume":
            return differ.any(axis=0).astype(float)
        counts = sum(
            np.bincount(labels.ravel(order="K"), minlength=self._member.shape[1])
            for labels in (truth, current)
        )
        totals = np.maximum(self._member @ counts, 1)  # R
        return (differ / totals[:, None, None]).sum(axis=0)

    def _shot(
        self,
        voxel: np.ndarray,
        start: np.ndarray,
        truth: np.ndarray,
        current: np.ndarray,
        rng: np.random.Generator,
    ) -> SimulatedClick:
        names = (BACKGROUND, *self.labels.names)
        right, shown = int(truth[tuple(voxel)]), int(current[tuple(voxel)])
        aimed = tuple(r.name for r, row in zip(self.labels.regions, self._member) if row[right] != row[shown])
        said = right
        if rng.random() < self.settings.wrong:
            said = int(rng.choice([v for v in range(len(names)) if v != right]))
        return SimulatedClick(triple(int(v) for v in voxel + start), names[said], aimed, said == right)


class _Errors:
    """The pieces of error in one view, and what is left of them after each click."""

    def __init__(
        self,
        truth: np.ndarray,
        current: np.ndarray,
        weights: np.ndarray,
        voxel_volume: float,
        smallest: float,
    ) -> None:
        self.pieces = np.zeros(truth.shape, np.int32)
        wrong = truth != current
        count = 0
        for value in np.unique(truth[wrong]):
            parts, n = ndimage.label(wrong & (truth == value))
            self.pieces += np.where(parts > 0, parts + count, 0).astype(np.int32)
            count += n
        self.cost = np.where(wrong, weights[truth, current], 0.0)
        self.worth = np.bincount(self.pieces.ravel(), self.cost.ravel(), minlength=count + 1)
        size = np.bincount(self.pieces.ravel(), minlength=count + 1) * voxel_volume
        self.worth[size < smallest] = 0
        self.worth[0] = 0
        self.boxes = ndimage.find_objects(self.pieces)

    def worst(self) -> int | None:
        """Number of the worst piece, or None when nothing is left."""
        worst = int(self.worth.argmax())
        return worst if self.worth[worst] > 0 else None

    def click(self, piece: int, spacing: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
        """(3,) voxel in the interior of a piece; what the click will mend is taken off the piece."""
        box = self.boxes[piece - 1]
        mask = self.pieces[box] == piece
        depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
        deep = np.argwhere(depth >= depth.max() * (1 - jitter))
        voxel = deep[rng.integers(len(deep))]
        reach = max(4.0, float(depth[tuple(voxel)]))
        index = np.argwhere(mask)
        near = index[(((index - voxel) * spacing) ** 2).sum(axis=1) <= reach**2]
        self.worth[piece] -= self.cost[box][tuple(near.T)].sum()
        self.pieces[box][tuple(near.T)] = 0
        if not (self.pieces[box] == piece).any():
            self.worth[piece] = 0
        return voxel + [s.start for s in box]
