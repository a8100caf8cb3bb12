"""Settings of a round's training, from what was ordered and how large the cases are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slem_app.finetune.settings import FinetuneSettings
from slem_app.rounds.job import Job
from slem_app.weights import Card
from slem_app.weights.fields import from_table, merge, to_table

__all__ = ["no_larger", "plan"]

RATE = 5e-4  # peak learning rate: a quarter of what training from nothing takes


def plan(job: Job, card: Card, seed: int = 0, shapes: Sequence[Sequence[int]] = ()) -> FinetuneSettings:
    """Settings of the training that a job asks for, its patches and views no larger than the cases, which are
    of these `shapes`.

    Raises:
        BadCard: a setting that there is not.
        BadSetting: a value out of range.
    """
    own = {
        "rate": RATE,
        "batch": max(2, job.processes),
        "save_every": job.epoch_steps,
        "steps": job.max_epochs * job.epoch_steps,
    }
    table = merge(to_table(FinetuneSettings()), {**own, "seed": seed, **job.settings}, "a round's settings")
    settings, multiple = from_table(FinetuneSettings, table, "a round's settings"), card.network.multiple
    if not shapes or "patch" in job.settings:
        return settings
    i, j, k = no_larger(settings.patch, shapes, multiple)
    patch = (i, j, k) if max(i, j, k) > multiple else (2 * multiple, j, k)  # the least that a network takes
    views = tuple(v for v in settings.interact.views if v <= min(patch)) or (min(patch),)
    return replace(settings, patch=patch, interact=replace(settings.interact, views=views))


def no_larger(wanted: Sequence[int], shapes: Sequence[Sequence[int]], multiple: int) -> tuple[int, int, int]:
    """The size of a patch or view, but no larger than the largest of these shapes, rounded up.

    Args:
        wanted: voxels along each axis.
        shapes: of all cases, at least one.
        multiple: what the network's sizes must be multiples of.
    """
    most = [-(-max(shape[axis] for shape in shapes) // multiple) * multiple for axis in range(3)]
    i, j, k = (min(n, m) for n, m in zip(wanted, most, strict=True))
    return i, j, k
