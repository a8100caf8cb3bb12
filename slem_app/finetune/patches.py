"""Training patches by number: patch `n` of seed `s` is always the same, so a resumed or distributed run sees
what one run would.

Loader processes cut patches out of the cache; they are varied where the network is (`Varied`): a core takes
0.1 s for a patch of 96 x 96 x 96, longer than a GPU takes to learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from slem_app.errors import BadStudy
from slem_app.finetune.augment import Variation, apply, draw
from slem_app.finetune.paste import paste_tumour
from slem_app.finetune.settings import FinetuneSettings
from slem_app.training.window import cut
from slem_app.volumes.cache import CachedCase, CaseCache

__all__ = ["Patches", "Varied"]

STREAM = 6007  # keeps the random numbers of how a patch is varied apart from those of where it lies
PASTE = 6008  # and those of what is put into it


class Patches(Dataset):
    """`len` patches drawn from cached cases; each case is visited once per round, in an order shuffled by the
    seed.

    Cases are opened (memory-mapped) when their patch is read, so memory does not grow with their number.

    Raises:
        BadStudy: no case.
    """

    def __init__(
        self,
        cache: CaseCache,
        ids: Sequence[str],
        settings: FinetuneSettings,
        mirrors: Sequence[int] = (0, 1, 2),
    ) -> None:
        if not ids:
            raise BadStudy("there is no labelled case to train on")
        self.cache, self.ids, self.settings, self.mirrors = cache, tuple(ids), settings, tuple(mirrors)

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch

    def case(self, number: int) -> str:
        """The case that patch `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.settings.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """As it lies in the cache: images (M, i, j, k) float16, present (M,) bool, regions (R, i, j, k) uint8
        (255 = inside), and the number.
        """
        case = self._labelled(self.case(number))
        rng = np.random.default_rng([self.settings.seed, PASTE, number])
        if rng.random() < self.settings.augment.paste:
            images, regions = self._pasted(case, rng)
        else:
            images, regions = self._patch(case, np.random.default_rng([self.settings.seed, number]))
        return torch.from_numpy(images), torch.from_numpy(case.present), torch.from_numpy(regions), number

    def _labelled(self, name: str) -> CachedCase:
        case = self.cache.load(name)
        if case.regions is None:
            raise BadStudy(f"case {case.id!r} in the cache has no truth: it cannot be trained on")
        return case

    def _patch(
        self, case: CachedCase, rng: np.random.Generator, foreground: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        share = self.settings.foreground if foreground is None else foreground
        start = _start(rng, case, self.settings.patch, share)
        regions = cast(np.ndarray, case.regions)  # `_labelled` has seen to it
        return cut(case.images, start, self.settings.patch), cut(regions, start, self.settings.patch)

    def _pasted(self, case: CachedCase, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A patch from anywhere in `case` with the tumour of another training case; as it is where that does
        not fit.
        """
        images, regions = self._patch(case, rng, foreground=0.0)
        donor = self._labelled(self.ids[rng.integers(len(self.ids))])
        if donor.id == case.id or (case.present & ~donor.present).any():
            return images, regions
        their_images, their_regions = self._patch(donor, rng, foreground=1.0)
        flips = tuple(axis + 1 for axis in self.mirrors if rng.random() < 0.5)
        given = np.flip(their_images, flips), np.flip(their_regions, flips)
        return paste_tumour(images, regions, *given) or (images, regions)

    def variation(self, number: int, sequences: int) -> Variation:
        """How patch `number` is varied."""
        return draw(
            np.random.default_rng([self.settings.seed, STREAM, number]),
            sequences,
            self.settings.augment,
            self.mirrors,
            self.spacing,
        )

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Size of the cache's voxels in mm."""
        i, j, k = self.cache.load(self.ids[0]).grid.spacing.tolist()
        return i, j, k


class Varied(nn.Module):
    """A batch of patches, varied on the device where it lies, then given to `losses`.

    Args:
        patches: where the batches come from.
        losses: takes images (N, M, i, j, k) and regions (N, R, i, j, k) as float32, the latter in 0..1,
            present (N, M) bool with at least one a row, and the numbers (N,).
    """

    def __init__(self, patches: Patches, losses: nn.Module) -> None:
        super().__init__()
        self.patches, self.losses = patches, losses

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.losses(self.vary(batch))

    @torch.no_grad()
    def vary(
        self, batch: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images, present, regions, numbers as `losses` takes them, from what the loader stacked."""
        images, present, regions, numbers = batch
        variations = [self.patches.variation(number, images.shape[1]) for number in numbers.tolist()]
        varied = [
            apply(i.float(), r.float() / 255, v) for i, r, v in zip(images, regions, variations, strict=True)
        ]
        kept = present & torch.from_numpy(np.stack([v.keep for v in variations])).to(present.device)
        present = torch.where(kept.any(dim=1, keepdim=True), kept, present)
        return torch.stack([i for i, _ in varied]), present, torch.stack([r for _, r in varied]), numbers


def _start(rng: np.random.Generator, case: CachedCase, size: Sequence[int], foreground: float) -> np.ndarray:
    """Corner of a patch: with the share `foreground` around a voxel of a random region that is there, else
    anywhere.
    """
    patch, shape = np.array(size), np.array(case.grid.shape)
    there = [a for a in case.anchors if len(a)]
    if there and rng.random() < foreground:
        anchors = there[rng.integers(len(there))]
        centre = anchors[rng.integers(len(anchors))] + rng.integers(-(patch // 4), patch // 4 + 1)
        start = centre - patch // 2
    else:
        start = rng.integers(np.minimum(0, shape - patch), np.maximum(0, shape - patch) + 1)
    return np.clip(start, np.minimum(0, shape - patch), np.maximum(0, shape - patch))
