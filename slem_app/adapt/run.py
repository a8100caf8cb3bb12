"""One whole adaptation: from cached studies to a saved model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from slem_app.adapt.losses import Adapted, AdaptLosses
from slem_app.adapt.samples import Views
from slem_app.adapt.settings import AdaptSettings
from slem_app.network import Segmenter, build
from slem_app.training import Outcome, State, fit
from slem_app.volumes.cache import CachedCase, CaseCache
from slem_app.weights import Card, Model

__all__ = ["AdaptReport", "adapt", "adapted_card", "agreement"]

MOST_MEASURED = 6  # cases on which the agreement is measured
LEAST_FOUND = 50  # voxels of a region under which a case tells nothing of it


@dataclass(frozen=True, eq=False)
class AdaptReport:
    """What came of it."""

    network: Segmenter
    """The adapted one, in evaluation mode."""
    card: Card
    """The model's, with how it was made; not saved yet."""
    used: tuple[str, ...]
    """Cases learnt from."""
    before: Mapping[str, float]
    """Figures of the model as it was, see `agreement`; empty where no case was held out."""
    after: Mapping[str, float]
    """Those of the adapted one."""
    outcome: Outcome
    """Throughput."""


def adapt(
    model: Model,
    cache: CaseCache,
    ids: Sequence[str],
    settings: AdaptSettings,
    folder: Path,
    held_out: Sequence[str] = (),
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    on_checkpoint: Callable[[int], None] | None = None,
) -> AdaptReport:
    """Go on training a model on studies without labels; an unfinished run in `folder` is continued.

    Args:
        model: to begin from; its weights stay as they are.
        cache: prepared cases, as the model's card says.
        ids: those to learn from, of two or more sequences each.
        settings: of the run.
        folder: for checkpoint.pt, settings.json and TensorBoard.
        held_out: cases on which the agreement is measured.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar.
        on_checkpoint: called by the first process with the step.

    Raises:
        BadStudy: no case.
        See also `training.fit`.
    """
    torch.manual_seed(settings.seed)
    network = build(model.card.network)
    network.load_state_dict(model.network.state_dict())
    student = Adapted(network)
    views = Views(cache, sorted(ids), settings, model.card.network.multiple)
    state = State(
        folder,
        {**dataclasses.asdict(settings), "cases": sorted(ids), "parent": model.card.sha256},
        dataclasses.asdict(AdaptSettings()),
    )
    kept = list(student.segmenter.parameters())

    def head_alone(step: int) -> None:
        if step < settings.head_first * settings.steps:
            for parameter in kept:
                parameter.grad = None

    def checkpointed(step: int, _: nn.Module) -> None:
        if on_checkpoint is not None:
            on_checkpoint(step)

    outcome = fit(
        student,
        AdaptLosses(student, copy.deepcopy(model.network), settings),
        views,
        settings,
        state,
        device,
        workers,
        progress,
        on_gradients=head_alone,
        on_checkpoint=checkpointed,
        unused=True,
    )
    network = cast(Adapted, outcome.network).segmenter
    measured = list(held_out)[:MOST_MEASURED]
    before = agreement(model.network, model.network, model.card, cache, measured, device)
    after = agreement(network, model.network, model.card, cache, measured, device)
    card = adapted_card(model.card, len(set(ids)), settings)
    return AdaptReport(network, card, tuple(sorted(ids)), before, after, outcome)


def adapted_card(card: Card, studies: int, settings: AdaptSettings) -> Card:
    """The card of the adapted model, to be saved with its weights."""
    made = (
        f"then adapted without labels to {studies} studies, {settings.steps} steps of {settings.batch} "
        f"views, seed {settings.seed}, torch {torch.__version__}"
    )
    return replace(
        card,
        training=f"{card.training}; {made}" if card.training else made,
        parent=f"{card.name} {card.version}",
        figures={},
        confidence=replace(card.confidence, logits={}, dice={}),  # its parent's, not measured of its own
        file="",
        sha256="",
    )


def agreement(
    network: Segmenter, teacher: Segmenter, card: Card, cache: CaseCache, ids: Sequence[str], device: str
) -> dict[str, float]:
    """How much of what the teacher finds with all sequences a network finds with fewer: mean Dice over the
    regions, cases and sets. No label is asked.

    Args:
        network: to be measured.
        teacher: gives the reference.
        card: of both.
        cache: prepared cases.
        ids: those to measure on.
        device: where.

    Returns:
        'all': with all sequences; 'one missing'; 'one alone'. A name without a value of its own, because
        nothing was found anywhere, is left out.
    """
    found: dict[str, list[float]] = {"all": [], "one missing": [], "one alone": []}
    threshold = card.postprocess.threshold
    for case_id in ids:
        case = cache.load(case_id)
        expected = _found(teacher, case, case.present, threshold, device)
        for name, present in _sets(case.present):
            answer = _found(network, case, present, threshold, device)
            found[name] += _dice(answer, expected)
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def _sets(present: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The sets of sequences that are measured, and what each is called."""
    sets, there = [("all", present)], np.flatnonzero(present)
    for slot in there:
        alone = np.zeros_like(present)
        alone[slot] = True
        sets.append(("one alone", alone))
        if len(there) > 2:
            sets.append(("one missing", present & ~alone))
    return sets


def _found(
    network: Segmenter, case: CachedCase, present: np.ndarray, threshold: float, device: str
) -> np.ndarray:
    """(R, I, J, K) bool."""
    network = network.to(device).eval()
    images = torch.from_numpy(np.array(case.images, dtype=np.float32))[None].to(device)
    with torch.inference_mode():
        logits = network(images, torch.from_numpy(np.array(present))[None].to(device))
    return (logits[0].float().sigmoid() >= threshold).cpu().numpy()


def _dice(answer: np.ndarray, expected: np.ndarray) -> list[float]:
    """Of each region of which there is enough."""
    return [
        2 * np.count_nonzero(a & e) / (np.count_nonzero(a) + np.count_nonzero(e))
        for a, e in zip(answer, expected, strict=True)
        if np.count_nonzero(e) >= LEAST_FOUND
    ]
