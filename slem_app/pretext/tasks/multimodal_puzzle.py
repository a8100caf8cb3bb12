"""Taleb's multimodal puzzle: put the tiles of a picture mixed from several sequences in order again.

Taleb, Lippert, Klein, Nabi: "Multimodal Self-Supervised Learning for Medical Image Analysis", IPMI 2021,
arXiv 1912.05396 (figure 1 and section 3). Each tile of the puzzle P* comes from a random sequence; its tiles
are shuffled to P; the network's scores X become a doubly stochastic matrix S by the Sinkhorn operator (Mena
et al., ICLR 2018, eq. 1-3: S^0(X) = exp(X), S^l(X) = T_c(T_r(S^(l-1)(X))), rows and columns normalised in
turn), and the loss is the mean squared error between P* and the puzzle put in order, S^T P. It makes the
embedding blind to the sequence; SLeM asks for the opposite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from slem_app.errors import BadSetting
from slem_app.network import SegmenterConfig
from slem_app.pretext.blocks import coverage, too_small
from slem_app.pretext.heads import TileHead
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.pretext.tiles import assemble, split, tile_cells
from slem_app.types import triple

__all__ = ["MultimodalPuzzle", "sinkhorn"]


def sinkhorn(scores: torch.Tensor, rounds: int) -> torch.Tensor:
    """(N, T, T) scores -> matrices whose rows and columns sum to one, in the limit of many rounds."""
    log = scores
    for _ in range(rounds):
        log = log - log.logsumexp(dim=2, keepdim=True)
        log = log - log.logsumexp(dim=1, keepdim=True)
    return log.exp()


@dataclass(frozen=True)
class MultimodalPuzzle(Task):
    """Sorting a shuffled, mixed puzzle.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "multimodal_puzzle"
    least: ClassVar[int] = 2

    grid: tuple[int, int, int] = (3, 3, 1)
    """Tiles along I, J, K."""
    temperature: float = 1.0
    """The scores are divided by it before the Sinkhorn operator."""
    rounds: int = 20
    """Of normalising rows and columns."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if (
            len(self.grid) != 3
            or min(self.grid) < 1
            or self.tiles < 2
            or self.temperature <= 0
            or self.rounds < 1
        ):
            raise BadSetting(
                f"grid needs three numbers with at least two tiles, temperature and rounds must be "
                f"positive: {self}"
            )

    @property
    def tiles(self) -> int:
        """T."""
        return int(np.prod(self.grid))

    def slots(self, sequences: int) -> int:
        return 1

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return too_small(shape, self.grid, "tiles")

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        shape = triple(view.images.shape[1:])
        sources = rng.choice(np.flatnonzero(view.present), size=self.tiles)
        truth = np.stack([split(view.images[s], self.grid)[t] for t, s in enumerate(sources)])  # P*
        order = rng.permutation(self.tiles)  # place p of the puzzle shows tile order[p]
        inputs = {
            "images": torch.from_numpy(assemble(truth[order], self.grid, shape)[None]),
            "present": torch.ones(1, dtype=torch.bool),
            "coverage": torch.from_numpy(coverage(tile_cells(shape, self.grid), self.tiles, stride)),
        }
        return Sample(inputs, {"truth": torch.from_numpy(truth), "order": torch.from_numpy(order)})

    def head(self, config: SegmenterConfig) -> nn.Module:
        return TileHead(config.channels[-1], self.tiles, self.tiles**2)

    def permutation(self, outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """S: (N, T, T), how much the tile at place p (row) belongs to place t (column)."""
        scores = outputs["tiles"].float().unflatten(1, (self.tiles, self.tiles))
        return sinkhorn(scores / self.temperature, self.rounds)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Mean over voxels of (P* - S^T P)^2."""
        truth = targets["truth"].flatten(2)  # N T v
        puzzle = truth.gather(1, targets["order"][..., None].expand_as(truth))
        sorted_again = self.permutation(outputs).transpose(1, 2) @ puzzle
        return (truth - sorted_again).square().mean(dim=(1, 2))

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' the share of tiles that the best assignment to S puts right; 'chance' 1 / T."""
        found = [linear_sum_assignment(-one)[1] for one in self.permutation(outputs).cpu().numpy()]
        right = torch.from_numpy(np.stack(found)) == targets["order"].cpu()
        return {"score": right.float().mean(dim=1), "chance": torch.full((len(right),), 1 / self.tiles)}

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        return ["tiles " + " ".join(map(str, sample.targets["order"].tolist()))]
