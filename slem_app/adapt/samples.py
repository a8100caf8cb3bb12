"""Views by number: sample `n` of seed `s` is always the same, so a resumed run sees what one run would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from slem_app.adapt.losses import Batch
from slem_app.adapt.settings import AdaptSettings
from slem_app.errors import BadStudy
from slem_app.finetune.pairs import draw_subset
from slem_app.pretext.views import make_view
from slem_app.volumes.cache import CaseCache

__all__ = ["Views"]


class Views(Dataset):
    """`len` views of some cases; each case is visited once per round, in an order shuffled by the seed.

    Args:
        cache: prepared cases.
        ids: those to use.
        settings: of the run.
        stride: voxels of the input per voxel of the bottleneck.

    Raises:
        BadStudy: no case.
    """

    def __init__(self, cache: CaseCache, ids: Sequence[str], settings: AdaptSettings, stride: int) -> None:
        if not ids:
            raise BadStudy("there is no study with two or more sequences to train on")
        self.cache, self.ids, self.settings, self.stride = cache, tuple(ids), settings, stride

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch

    def case(self, number: int) -> str:
        """The case that sample `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.settings.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> Batch:
        """One view, without the first axis of a batch."""
        rng = np.random.default_rng([self.settings.seed, number])
        view = make_view(self.cache.load(self.case(number)), None, rng, self.settings.view)
        made = self.settings.task.sample(view, rng, self.stride)
        subset = draw_subset(rng, tuple(view.present.tolist()))
        return Batch(
            made.inputs,
            made.targets,
            torch.from_numpy(view.images),
            torch.from_numpy(view.present),
            torch.tensor(subset),
        )
