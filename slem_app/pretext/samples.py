"""Samples by number: sample `n` of seed `s` is always the same, so a resumed or distributed run sees what one
run would.

Cases stay on disk, memory-mapped, and are opened when their sample is made, so memory does not grow with
their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from slem_app.errors import BadStudy
from slem_app.files import atomic_file, replacing
from slem_app.pretext.task import Sample, Task
from slem_app.pretext.views import HeadViewSettings, make_view
from slem_app.volumes.cache import CachedCase, CaseCache, fingerprint

__all__ = ["Samples", "annotate", "unfit", "usable"]

HELD_OUT = 1_000_003  # keeps the random numbers of measurements apart from those of training
POOL = 1_000_033  # and those of kept samples from both


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
        pool: distinct samples of a case, kept on disk; 0: every sample is new. Measuring uses none.

    Raises:
        BadStudy: no case.
    """

    def __init__(
        self,
        cache: CaseCache,
        ids: Sequence[str],
        task: Task,
        view: HeadViewSettings,
        stride: int,
        count: int,
        seed: int = 0,
        measuring: bool = False,
        pool: int = 0,
    ) -> None:
        if not ids:
            raise BadStudy("there is no case to pre-train on")
        self.cache, self.ids, self.task, self.view = cache, tuple(ids), task, view
        self.stride, self.count, self.seed, self.measuring = stride, count, seed, measuring
        self.pool = 0 if measuring else pool

    def __len__(self) -> int:
        return self.count

    def case(self, number: int) -> str:
        """The case that sample `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> Sample:
        case_id = self.case(number)
        if self.pool:
            return self._pooled(case_id, (number // len(self.ids)) % self.pool)
        return self._made(
            case_id, np.random.default_rng([self.seed, number, *([HELD_OUT] if self.measuring else [])])
        )

    def _pooled(self, case_id: str, variant: int) -> Sample:
        """One of a case's kept samples, made if it is not there yet. It does not depend on the run's seed."""
        key = fingerprint(self.task, self.view, self.stride)
        path = self.cache.folder / case_id / f"sample-{self.task.name}-{key}-{variant}.npz"
        if not path.exists():
            sample = self._made(case_id, np.random.default_rng([POOL, zlib.crc32(case_id.encode()), variant]))
            _keep(path, sample)
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        parts: dict[str, dict[str, torch.Tensor]] = {"inputs": {}, "targets": {}}
        for name, array in arrays.items():
            part, _, stem = name.partition("/")
            parts[part][stem] = array.float() if array.dtype == torch.float16 else array
        return Sample(**parts)

    def _made(self, case_id: str, rng: np.random.Generator) -> Sample:
        case = self.cache.load(case_id)
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
        if reason := unfit(case, task):
            skipped[case_id] = reason
            continue
        good.append(case_id)
        seen = case.present if seen is None else seen | case.present
    if seen is None:
        some = "; ".join(f"{case}: {why}" for case, why in list(skipped.items())[:3])
        raise BadStudy(
            f"none of {len(skipped)} cases can be used for {task.name} ({some or 'the list is empty'})"
        )
    if not seen.all():
        absent = ", ".join(name for name, there in zip(sequences, seen, strict=True) if not there)
        raise BadStudy(
            f"no usable case has {absent}: classes that hold it would have no example; take it out of the "
            "recipe's sequences, or add such cases"
        )
    return tuple(good), skipped


def unfit(case: CachedCase, task: Task) -> str:
    """Why the task cannot use a case, or ''."""
    there = int(case.present.sum())
    if there < task.least:
        return f"has {there} of the recipe's sequences, {task.name} needs at least {task.least}"
    return task.refuse(case.images.shape[1:], case.present)


def annotate(
    cache: CaseCache, ids: Sequence[str], task: Task, seen: Callable[[str], object] | None = None
) -> None:
    """Make what the task keeps beside each case and lacks."""
    for case_id in ids if task.annotates else ():
        place = _place(cache, case_id, task)
        if not place.exists():
            made = task.annotate(cache.load(case_id))
            assert made is not None, f"{task.name} annotates"
            with replacing(place, durable=False) as file:
                np.save(file, made)
        if seen is not None:
            seen(case_id)


def _place(cache: CaseCache, case_id: str, task: Task) -> Path:
    return cache.folder / case_id / f"{task.name}-{fingerprint(task)}.npy"


def _keep(path: Path, sample: Sample) -> None:
    """Write a sample whole or not at all; volumes in half precision. Another process may do the same."""
    arrays = {}
    for part, tensors in sample._asdict().items():
        for name, tensor in tensors.items():
            large = tensor.is_floating_point() and tensor.ndim >= 3
            arrays[f"{part}/{name}"] = (tensor.half() if large else tensor).numpy()
    with atomic_file(path, durable=False) as file:
        np.savez(file, **arrays)
