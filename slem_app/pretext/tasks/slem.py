"""SLeM's pretext: name the arrangement of sequences in a collage.

Wang, Lin, Qi, Chen, Li, Shen, Ma: "Self-Supervised learning for Multi-Modal Medical Image Segmentation", J.
of Computer-Aided Design & Computer Graphics 37(3), 474-483, 2025. Only its abstract is public: it "divides
the four modalities into four blocks uniformly", "these blocks are used to construct multi-modal images by
randomly combining them", "different multi-modal images are assigned different labels", and the network learns
"by the classification task". So block b of the collage shows sequence y(b) at its own place, and the class is
y:

    x(v) = x_{y(b)}(v) for v in block b,
    p(y | x) = exp(sum_b log p(y(b) | b, x)) / sum_{y' in classes} exp(sum_b log p(y'(b) | b, x))

Which y are drawn (`labels`), how blocks lie (`grid`) and the form of p are options; the guards against
shortcuts are our own.
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
from slem_app.pretext.blocks import cell_map, coverage, cuts, slices, too_small
from slem_app.pretext.heads import BlockHead, WordHead
from slem_app.pretext.labelsets import KINDS, draw_word, word_count, words
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.volumes.geometry import bounding_box

__all__ = ["TRIES", "Collage", "Slem", "collage", "gapped_cells", "varied_block", "word_scores"]

TRIES = 20


@dataclass(frozen=True, eq=False)
class Collage:
    """One collage."""

    image: np.ndarray
    """(I, J, K) float32, 0 in the gaps and outside the head."""
    cells: np.ndarray
    """(I, J, K) uint8: 1 + block, 0 in the gaps and where the block shows no tissue."""
    word: np.ndarray
    """(B,) which sequence fills each block."""


@dataclass(frozen=True)
class Slem(Task):
    """Collage classification.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "slem"
    least: ClassVar[int] = 2

    grid: tuple[int, int, int] = (2, 2, 1)
    """Blocks along I, J, K: (2, 2, 1) quadrants of full depth, (2, 2, 2) octants."""
    labels: str = "permutations"
    """Which combinations are drawn: permutations, all, even or mds; see `labelsets.words`."""
    head_kind: str = "factorised"
    """'factorised': a sequence is named for every block; 'mlp': the class at once (complete cases and
    listable classes only).
    """
    jitter: float = 0.1
    """Each cut is moved by up to this share of the head."""
    gap: tuple[float, float] = (0.02, 0.05)
    """Range of the empty gap at a cut, as a share of the head."""
    least_tissue: float = 0.15
    """Share of a block that must show the head in the sequence that fills it; else cuts and word are drawn
    again.
    """
    appearance: VariationSettings = field(default_factory=VariationSettings)
    """How each block is varied."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        object.__setattr__(self, "gap", tuple(float(g) for g in self.gap))
        if len(self.grid) != 3 or min(self.grid) < 1 or not 2 <= self.blocks <= 64:
            raise BadSetting(f"grid {self.grid} must hold three numbers of blocks, 2 to 64 blocks together")
        if self.labels not in KINDS or self.head_kind not in ("factorised", "mlp"):
            raise BadSetting(
                f"labels {self.labels!r} must be one of {', '.join(KINDS)} and head_kind {self.head_kind!r} "
                "factorised or mlp"
            )
        if (
            not 0 <= self.jitter < 0.25
            or not 0 <= self.gap[0] <= self.gap[1] < 0.25
            or not 0 <= self.least_tissue < 1
        ):
            raise BadSetting(
                f"jitter and gap must lie between 0 and 0.25, least_tissue between 0 and 1: {self}"
            )

    @property
    def blocks(self) -> int:
        """B."""
        return int(np.prod(self.grid))

    def slots(self, sequences: int) -> int:
        return 1

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        if small := too_small(shape, self.grid, "blocks"):
            return small
        if self.head_kind == "mlp" and not present.all():
            return "lacks a sequence, and the mlp head's classes need them all"
        return ""

    def classes(self, sequences: int) -> list[list[int]]:
        if word_count(self.labels, self.blocks, sequences) > 1000:
            return []
        return words(self.labels, self.blocks, tuple(range(sequences))).tolist()

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        made = collage(view, rng, self)
        inputs = {
            "images": torch.from_numpy(made.image[None]),
            "present": torch.ones(1, dtype=torch.bool),
            "coverage": torch.from_numpy(coverage(made.cells, self.blocks, stride)),
        }
        return Sample(
            inputs, {"word": torch.from_numpy(made.word), "present": torch.from_numpy(view.present)}
        )

    def head(self, config: SegmenterConfig) -> nn.Module:
        if self.head_kind == "factorised":
            return BlockHead(config.channels[-1], config.sequences)
        return WordHead(
            config.channels[-1],
            self.blocks,
            len(words(self.labels, self.blocks, tuple(range(config.sequences)))),
        )

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Cross-entropy of the class, -log p(y | x)."""
        if "words" in outputs:
            table = words(self.labels, self.blocks, tuple(range(targets["present"].shape[1])))
            return F.cross_entropy(
                outputs["words"].float(), _places(targets["word"], table), reduction="none"
            )
        log = _log_probabilities(outputs["blocks"], targets["present"])  # N B M
        true = log.gather(2, targets["word"][..., None]).sum(dim=(1, 2))
        if (
            self.labels == "all"
        ):  # the sum over all words is the product over blocks, so nothing need be listed
            return -true
        totals = torch.zeros_like(true)
        for rows, table in self._tables(targets["present"]):
            totals[rows] = word_scores(log[rows], table).logsumexp(dim=1)
        return totals - true

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' whether the class is right, 'blocks' the share of blocks named rightly, 'chance' one over
        the number of classes.
        """
        named = self.named(outputs, targets)  # N B
        right = named == targets["word"]
        counts = [
            1.0 / word_count(self.kind_for(here), self.blocks, int(here.sum())) for here in targets["present"]
        ]
        return {
            "score": right.all(dim=1).float(),
            "blocks": right.float().mean(dim=1),
            "chance": torch.tensor(counts, device=right.device),
        }

    def named(self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(N, B) the sequences of the likeliest class."""
        if "words" in outputs:
            table = torch.from_numpy(
                words(self.labels, self.blocks, tuple(range(targets["present"].shape[1]))).copy()
            )
            return table.to(targets["word"].device)[outputs["words"].argmax(dim=1)]
        log = _log_probabilities(outputs["blocks"], targets["present"])
        if self.labels == "all":
            return log.argmax(dim=2)
        named = torch.zeros(log.shape[:2], dtype=torch.long, device=log.device)
        for rows, known in self._tables(targets["present"]):
            best = word_scores(log[rows], known).argmax(dim=1)
            named[rows] = torch.from_numpy(known.copy()).to(log.device)[best]
        return named

    def confusion(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """(M, M) counts of blocks, true sequence by the one that the likeliest class names.

        Not by the blocks' own logits: with permutations the class does not change when a sequence's logit
        rises in all blocks, so they are free to be off by a constant a sequence.
        """
        m = targets["present"].shape[1]
        return torch.bincount(
            (targets["word"] * m + self.named(outputs, targets)).flatten(), minlength=m * m
        ).reshape(m, m)

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        word = [sequences[s] for s in sample.targets["word"].tolist()]
        present = sample.targets["present"].numpy()
        if self.labels == "all" and len(sequences) ** self.blocks > 1000:
            return [" ".join(word)]
        table = words(self.kind_for(present), self.blocks, tuple(np.flatnonzero(present).tolist()))
        return [
            f"class {int(_places(sample.targets['word'][None], table)[0])} of {len(table)}",
            " ".join(word),
        ]

    def kind_for(self, present: np.ndarray | torch.Tensor) -> str:
        """The label set for a case's sequences. A case that lacks sequences has no code words: permutations
        of what is there.
        """
        return self.labels if self.labels == "all" or bool(present.all()) else "permutations"

    def _tables(self, present: torch.Tensor) -> list[tuple[torch.Tensor, np.ndarray]]:
        """The samples of a batch by the sequences that they have, (N, M) bool: their rows and their words."""
        patterns, which = torch.unique(present.cpu(), dim=0, return_inverse=True)
        return [
            (
                torch.nonzero(which == n).flatten().to(present.device),
                words(self.kind_for(p), self.blocks, tuple(torch.nonzero(p).flatten().tolist())),
            )
            for n, p in enumerate(patterns)
        ]


def collage(view: HeadView, rng: np.random.Generator, task: Slem) -> Collage:
    """Draw the cuts and the word, and put the collage together.

    Blocks that show less than `task.least_tissue` of the head are drawn again; after some tries the best draw
    is taken.
    """
    tissue, present = view.tissue, tuple(np.flatnonzero(view.present).tolist())
    kind, box = task.kind_for(view.present), bounding_box(np.asarray(tissue.any(axis=0)))
    best: tuple[float, np.ndarray, tuple[np.ndarray, ...]] | None = None
    for _ in range(TRIES):
        edges = cuts(box, task.grid, task.jitter, rng)
        word = draw_word(kind, task.blocks, present, rng)
        least = min(float(tissue[(s, *block)].mean()) for s, block in zip(word, slices(edges), strict=True))
        if best is None or least > best[0]:
            best = (least, word, edges)
        if least >= task.least_tissue:
            break
    assert best is not None, "there is at least one try"
    _, word, edges = best
    cells = gapped_cells(view.images.shape[1:], box, edges, task, rng)
    image = np.zeros(view.images.shape[1:], dtype=np.float32)
    for number, (sequence, block) in enumerate(zip(word, slices(edges), strict=True), 1):
        here = (cells[block] == number) & tissue[(sequence, *block)]
        image[block] = np.where(here, varied_block(view, sequence, block, rng, task), image[block])
        cells[block][(cells[block] == number) & ~here] = 0
    return Collage(image, cells, word)


def gapped_cells(
    shape: Sequence[int],
    box: Sequence[slice],
    edges: Sequence[np.ndarray],
    task: Slem,
    rng: np.random.Generator,
) -> np.ndarray:
    """(I, J, K) uint8: 1 + the block that a voxel is in, with gaps of a random width at the cuts."""
    gap = [
        round(rng.uniform(*task.gap) * (side.stop - side.start)) if count > 1 else 0
        for side, count in zip(box, task.grid, strict=True)
    ]
    return cell_map(shape, edges, gap)


def varied_block(
    view: HeadView, sequence: int, block: tuple[slice, slice, slice], rng: np.random.Generator, task: Slem
) -> np.ndarray:
    """(i, j, k) float32: one block of one sequence, as another scanner might have shown it."""
    place = (sequence, *block)
    return vary(view.images[place], view.tissue[place], view.spacing, rng, task.appearance)


def word_scores(log_probabilities: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """(N, K) sum over blocks of log p(y(b) | b) for each word of (K, B), from (N, B, M)."""
    where = torch.from_numpy(table.copy()).to(log_probabilities.device)  # K B
    return log_probabilities[:, torch.arange(where.shape[1], device=where.device), where].sum(dim=2)


def _log_probabilities(logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """(N, B, M) over the sequences that the cases have, from (N, B, M) and (N, M)."""
    return logits.float().masked_fill(~present[:, None], -1e4).log_softmax(dim=2)


def _places(word: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """(N, B) words -> (N,) their rows in the table."""
    rows = torch.from_numpy(table.copy()).to(word.device)
    return (word[:, None] == rows[None]).all(dim=2).float().argmax(dim=1)
