"""SLeM with every sequence in a slot of its own: name the exchange of the slots, block by block.

The paper's collage (`slem`) is one image, so its network has one slot, and the segmenter's slots have to be
made from it. Here the network sees all sequences as the segmenter does, and each slot shows a collage: in
block b the sequences are exchanged cyclically by r(b) places, so that slot s shows sequence s + r(b) (modulo
the sequences that the case has). The network names r(b) for every block:

    x_s(v) = x_{(s + r(b)) mod M}(v) for v in block b,
    p(r | x) = prod_b p(r(b) | b, x)

To name an exchange is to know what each slot should show, so stem, slots, trunk and contextual block carry
over to the segmenter one to one. Slots are left out at random; with one slot left this is the paper's own
task. Our own step beyond Wang et al. (J. of CAD & CG 37(3), 2025).
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
from slem_app.pretext.blocks import coverage, cuts, slices
from slem_app.pretext.heads import BlockHead
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.pretext.tasks.slem import TRIES, Slem, gapped_cells, varied_block
from slem_app.volumes.geometry import bounding_box

__all__ = ["Exchange", "SlemSlots", "exchange"]


@dataclass(frozen=True, eq=False)
class Exchange:
    """One sample's images."""

    images: np.ndarray
    """(M, I, J, K) float32, 0 in the gaps, outside the head and in slots without a sequence."""
    cells: np.ndarray
    """(I, J, K) uint8: 1 + block, 0 in the gaps and where no slot shows tissue."""
    shifts: np.ndarray
    """(B,) int64, by how many places each block is exchanged."""


@dataclass(frozen=True)
class SlemSlots(Task):
    """Naming of exchanged slots.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "slem_slots"
    least: ClassVar[int] = 2

    unchanged: float = 0.5
    """Probability that a block is not exchanged; the other shifts are equally likely."""
    drop: float = 0.25
    """Probability that a slot is left out; one always stays."""
    slem: Slem = field(default_factory=Slem)
    """How blocks are cut and varied (its `labels` and `head_kind` have no part in this)."""

    def __post_init__(self) -> None:
        if not 0 < self.unchanged < 1 or not 0 <= self.drop < 1:
            raise BadSetting(f"unchanged must lie between 0 and 1, drop from 0 to below 1: {self}")

    def slots(self, sequences: int) -> int:
        return sequences

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return self.slem.refuse(shape, present)

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        made = exchange(view, rng, self)
        keep = view.present & (rng.random(len(view.present)) >= self.drop)
        if not keep.any():
            keep[rng.choice(np.flatnonzero(view.present))] = True
        inputs = {
            "images": torch.from_numpy(made.images * keep[:, None, None, None]),
            "present": torch.from_numpy(keep),
            "coverage": torch.from_numpy(coverage(made.cells, self.slem.blocks, stride)),
        }
        targets = {"shifts": torch.from_numpy(made.shifts), "present": torch.from_numpy(view.present)}
        return Sample(inputs, targets)

    def head(self, config: SegmenterConfig) -> nn.Module:
        return BlockHead(config.channels[-1], config.sequences)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Cross-entropy of the shifts, summed over blocks: -log p(r | x)."""
        log = _log_shifts(outputs["blocks"], targets["present"])  # N B M
        return F.nll_loss(log.transpose(1, 2), targets["shifts"], reduction="none").sum(dim=1)

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' the share of blocks whose shift is named rightly, 'chance' what the likeliest shift gives,
        'blocks' the same among the blocks that are exchanged.
        """
        named = _log_shifts(outputs["blocks"], targets["present"]).argmax(dim=2)
        right = (named == targets["shifts"]).float()
        moved = (targets["shifts"] != 0).float()
        others = (1 - self.unchanged) / (targets["present"].sum(dim=1) - 1)
        return {
            "score": right.mean(dim=1),
            "blocks": (right * moved).sum(dim=1) / moved.sum(dim=1).clamp_min(1),
            "chance": others.clamp_min(self.unchanged),
        }

    def confusion(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """(M, M) counts over blocks and slots: the sequence that a slot shows by the one that the named shift
        says.
        """
        named = _log_shifts(outputs["blocks"], targets["present"]).argmax(dim=2)
        m = targets["present"].shape[1]
        counts = torch.zeros(m, m, dtype=torch.long, device=named.device)
        for here, true, found in zip(targets["present"], targets["shifts"], named, strict=True):
            there = torch.nonzero(here).flatten()
            slots = torch.arange(len(there), device=there.device)[:, None]
            shown, said = (there[(slots + shifts) % len(there)].flatten() for shifts in (true, found))
            counts += torch.bincount(shown * m + said, minlength=m * m).reshape(m, m)
        return counts

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        kept = [name for name, here in zip(sequences, sample.inputs["present"].tolist(), strict=True) if here]
        shifts = " ".join(map(str, sample.targets["shifts"].tolist()))
        return [f"exchanged by {shifts}", "in " + " ".join(kept)]


def exchange(view: HeadView, rng: np.random.Generator, task: SlemSlots) -> Exchange:
    """Draw the cuts and each block's shift, and put the slots' collages together.

    Cuts that leave a sequence less than `least_tissue` of the head in a block are drawn again; after some
    tries the best draw is taken.
    """
    tissue, there = view.tissue, np.flatnonzero(view.present)
    box = bounding_box(np.asarray(tissue.any(axis=0)))
    best: tuple[float, tuple[np.ndarray, ...]] | None = None
    for _ in range(TRIES):
        edges = cuts(box, task.slem.grid, task.slem.jitter, rng)
        least = min(float(tissue[(s, *block)].mean()) for block in slices(edges) for s in there)
        if best is None or least > best[0]:
            best = (least, edges)
        if least >= task.slem.least_tissue:
            break
    assert best is not None, "there is at least one try"
    edges = best[1]
    shifts = rng.integers(1, len(there), task.slem.blocks)
    shifts[rng.random(task.slem.blocks) < task.unchanged] = 0
    cells = gapped_cells(view.images.shape[1:], box, edges, task.slem, rng)
    images = np.zeros_like(view.images, dtype=np.float32)
    for number, (shift, block) in enumerate(zip(shifts, slices(edges), strict=True), 1):
        inside = cells[block] == number
        for place, slot in enumerate(there):
            sequence = there[(place + shift) % len(there)]
            shown = varied_block(view, sequence, block, rng, task.slem)
            images[(slot, *block)] = np.where(inside, shown, images[(slot, *block)])
    cells[~(images != 0).any(axis=0)] = 0
    return Exchange(images, cells, shifts)


def _log_shifts(logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """(N, B, M) log-probabilities of the shifts that a case's number of sequences allows."""
    allowed = torch.arange(logits.shape[2], device=logits.device) < present.sum(dim=1, keepdim=True)  # N M
    return logits.float().masked_fill(~allowed[:, None], -1e4).log_softmax(dim=2)
