"""JiGen's pretext: which of P known orders the tiles of one image are in.

Carlucci, D'Innocente, Bucci, Caputo, Tommasi: "Domain Generalization by Solving Jigsaw Puzzles", CVPR 2019.
3x3 tiles of one image are shuffled by one of P orders far from each other, class 0 being the unshuffled
image, put together into an image again, and a classifier on the common backbone names the order: the second
term of its eq. (1), L_p(h(z | theta_f, theta_p), p). Its first term, the supervised loss, needs labels, so it
is not here: labels come with fine-tuning. Ours: a random sequence is the image, the tiles have full depth, a
tile is varied in intensity where JiGen makes it grey (p = 0.1), and the classifier sees the tiles' features
in their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from slem_app.errors import BadSetting
from slem_app.network import SegmenterConfig
from slem_app.pretext.appearance import VariationSettings, vary
from slem_app.pretext.blocks import coverage, too_small
from slem_app.pretext.heads import TileHead
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.pretext.tiles import assemble, far_orders, split, tile_cells
from slem_app.types import triple

__all__ = ["Jigen"]


@dataclass(frozen=True)
class Jigen(Task):
    """Jigsaw classification.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "jigen"

    grid: tuple[int, int, int] = (3, 3, 1)
    """Tiles along I, J, K."""
    orders: int = 30
    """P, shuffled orders beside the identity."""
    ordered: float = 0.1
    """Share of samples that are left in order; the rest are shuffled by one of the P."""
    varied: float = 0.1
    """Probability that a tile is varied in intensity, noise and sharpness."""
    appearance: VariationSettings = field(default_factory=VariationSettings)
    """How a tile is varied."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if (
            len(self.grid) != 3
            or min(self.grid) < 1
            or self.tiles < 2
            or self.orders < 1
            or not 0 <= self.varied <= 1
            or not 0 <= self.ordered <= 1
        ):
            raise BadSetting(
                "grid needs three numbers with at least two tiles, orders at least 1, ordered and varied "
                f"between 0 and 1: {self}"
            )

    @property
    def tiles(self) -> int:
        """T."""
        return int(np.prod(self.grid))

    def slots(self, sequences: int) -> int:
        return 1

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return too_small(shape, self.grid, "tiles")

    def classes(self, sequences: int) -> list[list[int]]:
        return far_orders(self.tiles, self.orders).tolist()

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        shape = triple(view.images.shape[1:])
        sequence = rng.choice(np.flatnonzero(view.present))
        table = far_orders(self.tiles, self.orders)
        label = 0 if rng.random() < self.ordered else int(rng.integers(1, len(table)))
        tiles = split(view.images[sequence], self.grid)
        for t in range(len(tiles)):
            if rng.random() < self.varied:
                tiles[t] = vary(tiles[t], tiles[t] != 0, view.spacing, rng, self.appearance)
        inputs = {
            "images": torch.from_numpy(assemble(tiles[table[label]], self.grid, shape)[None]),
            "present": torch.ones(1, dtype=torch.bool),
            "coverage": torch.from_numpy(coverage(tile_cells(shape, self.grid), self.tiles, stride)),
        }
        return Sample(inputs, {"order": torch.tensor(label)})

    def head(self, config: SegmenterConfig) -> nn.Module:
        return TileHead(config.channels[-1], self.tiles, len(far_orders(self.tiles, self.orders)))

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Cross-entropy over the P + 1 orders."""
        return F.cross_entropy(outputs["tiles"].float(), targets["order"], reduction="none")

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' whether the order is named rightly; 'chance' is that of always naming the
        likeliest order.
        """
        right = (outputs["tiles"].argmax(dim=1) == targets["order"]).float()
        likeliest = max(self.ordered, (1 - self.ordered) / (outputs["tiles"].shape[1] - 1))
        return {"score": right, "chance": torch.full_like(right, likeliest)}

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        label = int(sample.targets["order"])
        return [
            f"order {label} of {self.orders + 1}",
            " ".join(map(str, far_orders(self.tiles, self.orders)[label])),
        ]
