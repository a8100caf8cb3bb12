"""From studies with truth to prepared cases in the training cache; what cannot be used is left out with its
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slem_app.errors import BadLabel, BadStudy, SlemError, StorageFailed
from slem_app.grouping import Grouping, group
from slem_app.labels import LabelSet, decide_coding
from slem_app.studies import Study, StudySource
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.volumes.geometry import overlap, resample
from slem_app.volumes.prepare import CONFORMED, Preparation, prepare
from slem_app.volumes.read import read, read_labels

__all__ = ["CachingReport", "cache_cases", "drawn_on", "truth"]


@dataclass(frozen=True)
class CachingReport:
    """What became of the studies."""

    ready: tuple[str, ...]
    """Cases in the cache."""
    skipped: Mapping[str, str]
    """Case -> why it was left out."""
    patients: Mapping[str, str]
    """Case in the cache -> study that it is, or is a part of: what a split must not tear apart."""


def cache_cases(
    studies: StudySource,
    cache: CaseCache,
    sequences: Sequence[str],
    preparation: Preparation,
    labels: LabelSet,
    seen: Callable[[str], object] | None = None,
) -> CachingReport:
    """Prepare every study that has truth, and each of its parts, if it is not yet in the cache in this form.

    Args:
        studies: from `open_source`.
        cache: where they go.
        sequences: the network's slots.
        preparation: the card's.
        labels: the model's labels.
        seen: called with each case's id, for a progress bar.

    Raises:
        StorageFailed: the disk refused the cache; every other fault of a case is its reason for being left
            out.
    """
    ready: list[str] = []
    skipped: dict[str, str] = {}
    patients: dict[str, str] = {}
    for case in studies.ids():
        for study in _with_parts(studies, case, skipped):
            try:
                _cache_case(study, cache, tuple(sequences), preparation, labels)
                ready.append(study.id)
                patients[study.id] = case
            except StorageFailed:
                raise
            except SlemError as error:
                skipped[study.id] = str(error)
        if seen is not None:
            seen(case)
    return CachingReport(tuple(ready), skipped, patients)


def _with_parts(studies: StudySource, case: str, skipped: dict[str, str]) -> tuple[Study, ...]:
    """A study and its parts; nothing, with the reason noted, where it cannot be opened."""
    try:
        study = studies.study(case)
    except SlemError as error:
        skipped[case] = str(error)
        return ()
    return (study, *study.parts)


def truth(study: Study, labels: LabelSet) -> tuple[np.ndarray, Grid]:
    """The study's own segmentation in the model's values: (I, J, K) uint8 and its grid.

    Raises:
        BadLabel: no truth, an undecidable coding, unknown values or names.
        BadVolume, BadGrid: a file that cannot be read.
    """
    if study.label is None:
        raise BadLabel(f"{study.id}: there is no segmentation in this study")
    array, grid = read_labels(study.label)
    coding = decide_coding(np.unique(array), study.layout, study.coding, labels.names)
    return labels.remap(array, coding.values), grid


def _cache_case(
    study: Study, cache: CaseCache, sequences: tuple[str, ...], preparation: Preparation, labels: LabelSet
) -> None:
    grouping = group(study)
    chosen = {name: series for name, series in grouping.sequences.items() if name in sequences}
    files = [
        (series.id, series.state) for series in (*chosen.values(), *([study.label] if study.label else []))
    ]
    if grouping.by_hand:  # the same files in other roles
        files.append(("by hand", tuple(sorted(grouping.by_hand.items()))))
    key = fingerprint(CONFORMED, sequences, preparation, labels, study.coding, files)
    if cache.has(study.id, key):
        return
    array, grid = truth(study, labels)
    volumes = {name: read(series) for name, series in chosen.items()}
    fixed = drawn_on(grouping, chosen, grid)
    prepared = prepare(volumes, sequences, preparation, grouping.sequences[fixed].grid, fixed)
    if overlap(grid, prepared.grid) < 0.02:
        raise BadLabel(f"{study.id}: its segmentation lies outside the images: is it of another study?")
    regions = np.stack(
        [
            resample(mask.astype(np.float32), grid, prepared.grid, order=1)
            for mask in labels.region_masks(array)
        ]
    )
    cache.add(study.id, prepared, regions, key)


def drawn_on(grouping: Grouping, chosen: Mapping[str, object], grid: Grid) -> str:
    """The sequence that the truth lies on: where others are moved this one stays.

    Args:
        grouping: the study.
        chosen: the sequences that a model knows, by name.
        grid: of the truth.

    Raises:
        BadStudy: none of the model's sequences is in this study.
    """
    if not chosen:
        raise BadStudy(f"{grouping.study.id}: none of the model's sequences is in this study")
    on_it = (name for name in chosen if grouping.sequences[name].grid.same_as(grid))
    return next(on_it, next(iter(chosen)))
