"""Samples by number: sample `n` of seed `s` is always the same, so a resumed or distributed run sees what one
run would.

Cases stay on disk, memory-mapped, and are opened when their sample is made, so memory does not grow with
their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from slem_app.errors import BadStudy
from slem_app.pretext.task import Sample, Task
from slem_app.pretext.views import ViewSettings, make_view
from slem_app.volumes.cache import CaseCache, fingerprint

__all__ = ["Samples", "annotate", "usable"]

HELD_OUT = 1_000_003  # keeps the random numbers of measurements apart from those of training


class Samples(Dataset):
    """`count` samples; each case is visited once per round, in an order shuffled by the seed.

    Args:
        cache: prepared cases.
        ids: those to use.
        task: what makes the samples.
        view: how heads are looked at.
        stride: voxels of the input per voxel of the bottleneck.
        count: how many samples.
        seed: of order, views and samples.
        measuring: plain views, and other random numbers than training's.

    Raises:
        BadStudy: no case.
    """

    def __init__(
        self,
        cache: CaseCache,
        ids: Sequence[str],
        task: Task,
        view: ViewSettings,
        stride: int,
        count: int,
        seed: int = 0,
        measuring: bool = False,
    ) -> None:
        if not ids:
            raise BadStudy("there is no case to pre-train on")
        self.cache, self.ids, self.task, self.view = cache, tuple(ids), task, view
        self.stride, self.count, self.seed, self.measuring = stride, count, seed, measuring

    def __len__(self) -> int:
        return self.count

    def case(self, number: int) -> str:
        """The case that sample `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> Sample:
        case = self.cache.load(self.case(number))
        rng = np.random.default_rng([self.seed, number, *([HELD_OUT] if self.measuring else [])])
        notes = (
            np.load(_place(self.cache, case.id, self.task), mmap_mode="r") if self.task.annotates else None
        )
        return self.task.sample(
            make_view(case, notes, rng, self.view, plain=self.measuring), rng, self.stride
        )


def usable(
    cache: CaseCache, ids: Sequence[str], task: Task, sequences: Sequence[str]
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The cases that the task can use, and for each other one why not.

    Raises:
        BadStudy: none is left, a cache of other sequences, or a sequence that no case has: its classes would
            have no example.
    """
    good, skipped = [], {}
    seen = None
    for case_id in ids:
        case = cache.load(case_id)
        if len(case.present) != len(sequences):
            raise BadStudy(
                f"{case_id} was prepared for {len(case.present)} sequences, the recipe has "
                f"{len(sequences)}: use another cache folder"
            )
        reason = task.refuse(case.images.shape[1:], case.present)
        if case.present.sum() < task.least:
            reason = (
                f"has {int(case.present.sum())} of the recipe's sequences, {task.name} needs at least "
                f"{task.least}"
            )
        if reason:
            skipped[case_id] = reason
            continue
        good.append(case_id)
        seen = case.present if seen is None else seen | case.present
    if not good:
        some = "; ".join(f"{case}: {why}" for case, why in list(skipped.items())[:3])
        raise BadStudy(
            f"none of {len(skipped)} cases can be used for {task.name} ({some or 'the list is empty'})"
        )
    if not seen.all():
        absent = ", ".join(name for name, there in zip(sequences, seen, strict=True) if not there)
        raise BadStudy(
            f"no usable case has {absent}: classes that hold it would have no example; take it "
            f"out of the "
            f"recipe's sequences, or add such cases"
        )
    return tuple(good), skipped


def annotate(
    cache: CaseCache, ids: Sequence[str], task: Task, seen: Callable[[str], None] | None = None
) -> None:
    """Make what the task keeps beside each case and lacks."""
    for case_id in ids if task.annotates else ():
        place = _place(cache, case_id, task)
        if not place.exists():
            new = place.with_name(f".{place.name}.{os.getpid()}.npy")
            np.save(new, task.annotate(cache.load(case_id)))
            os.replace(new, place)
        if seen is not None:
            seen(case_id)


def _place(cache: CaseCache, case_id: str, task: Task) -> Path:
    return cache.folder / case_id / f"{task.name}-{fingerprint(task)}.npy"
