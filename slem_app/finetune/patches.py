"""Training patches by number: patch `n` of seed `s` is always the same, so a resumed or distributed run sees what one run would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from slem_app.errors import BadStudy
from slem_app.finetune.augment import apply, draw
from slem_app.finetune.settings import FinetuneSettings
from slem_app.training.window import cut
from slem_app.volumes.cache import CachedCase, CaseCache

__all__ = ["Patches"]


class Patches(Dataset):
    """`len` patches drawn from cached cases; each case is visited once per round, in an order shuffled by the seed.

    Cases are opened (memory-mapped) when their patch is read, so memory does not grow with their number.

    Raises:
        BadStudy: no case.
    """

    def __init__(self, cache: CaseCache, ids: Sequence[str], settings: FinetuneSettings, mirrors: Sequence[int] = (0, 1, 2)) -> None:
        if not ids:
            raise BadStudy("there is no labelled case to train on")
        self.cache, self.ids, self.settings, self.mirrors = cache, tuple(ids), settings, tuple(mirrors)

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch

    def case(self, number: int) -> str:
        """The case that patch `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.settings.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (M, i, j, k), present (M,) bool, regions (R, i, j, k) in 0..1."""
        turn, place = divmod(number, len(self.ids))
        case = self.cache.load(self.case(number))
        rng = np.random.default_rng([self.settings.seed, turn, place])
        if case.regions is None:
            raise BadStudy(f"case {case.id!r} in the cache has no truth: it cannot be trained on")
        start = _start(rng, case, self.settings)
        images = torch.from_numpy(cut(case.images, start, self.settings.patch).astype(np.float32))
        regions = torch.from_numpy(cut(case.regions, start, self.settings.patch).astype(np.float32) / 255)
        variation = draw(rng, len(images), self.settings.augment, self.mirrors)
        images, regions = apply(images, regions, variation)
        present = case.present & variation.keep
        return images, torch.from_numpy(present if present.any() else case.present), regions


def _start(rng: np.random.Generator, case: CachedCase, settings: FinetuneSettings) -> np.ndarray:
    """Corner of a patch: around a voxel of a random region that is there, else anywhere."""
    patch, shape = np.array(settings.patch), np.array(case.grid.shape)
    there = [a for a in case.anchors if len(a)]
    if there and rng.random() < settings.foreground:
        anchors = there[rng.integers(len(there))]
        centre = anchors[rng.integers(len(anchors))] + rng.integers(-(patch // 4), patch // 4 + 1)
        start = centre - patch // 2
    else:
        start = rng.integers(np.minimum(0, shape - patch), np.maximum(0, shape - patch) + 1)
    return np.clip(start, np.minimum(0, shape - patch), np.maximum(0, shape - patch))
