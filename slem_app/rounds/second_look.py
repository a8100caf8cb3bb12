"""The second look of a model learns from the same labels as its first network, at finer voxels: else what a
round has learnt would be a part of the result alone, which is the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slem_app.finetune.cases import cache_cases
from slem_app.finetune.loop import train
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter, build
from slem_app.rounds.labelled import LabelledStudies
from slem_app.training import first_process_first
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Model

__all__ = ["learnt_again"]


def learnt_again(
    detail: Model,
    studies: LabelledStudies,
    cache: CaseCache,
    turns: Sequence[str],
    settings: FinetuneSettings,
    folder: Path,
    device: str,
) -> Segmenter:
    """The network of the second look after as many steps as the first one has made.

    Args:
        detail: what looks again so far; its weights stay as they are.
        studies: with the readers' labels.
        cache: of cases at its voxels.
        turns: cases to train on, each as often as it has its turn.
        settings: of the first network's training, with the steps that it took; without a reader, since the
            second look takes no prompts.
        folder: for the checkpoint; a run that was cut off goes on.
        device: torch device of this process.

    Raises:
        As `finetune.loop.train`.
    """
    card = detail.card
    with first_process_first():
        report = cache_cases(studies, cache, card.sequences, card.preparation, card.labels)
    usable = set(report.ready)
    network = build(card.network)
    network.load_state_dict(detail.network.state_dict())
    return train(
        network,
        cache,
        [case for case in turns if case in usable],
        replace(settings, interact=replace(settings.interact, share=0.0)),
        folder,
        device,
        labels=card.labels,
        mirrors=card.mirrors,
    )
