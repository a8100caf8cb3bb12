"""From any studies, labelled or not, to prepared cases in the cache; what cannot be used is left out with its
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slem_app.errors import BadStudy, SlemError
from slem_app.grouping import group
from slem_app.studies import Study
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.volumes.prepare import CONFORMED, Preparation, prepare
from slem_app.volumes.read import read

__all__ = ["Gathered", "gather"]


@dataclass(frozen=True)
class Gathered:
    """What became of the studies."""

    ready: tuple[str, ...]
    """Cases in the cache."""
    skipped: Mapping[str, str]
    """Case -> why it was left out."""


def gather(
    studies: Iterable[Study],
    cache: CaseCache,
    sequences: Sequence[str],
    preparation: Preparation,
    least: int,
    taken: Sequence[str] = (),
    seen: Callable[[str], object] | None = None,
) -> Gathered:
    """Prepare every study that is not yet in the cache in this form. Segmentations are not looked at.

    Args:
        studies: e.g. a StudySource.
        cache: where they go.
        sequences: those of the recipe.
        preparation: the recipe's.
        least: how many of the sequences a study needs, the task's.
        taken: names that other folders' cases have already; a study of such a name gets its folder's name
            before its own.
        seen: called with each case's id, for a progress bar.
    """
    ready: list[str] = []
    skipped: dict[str, str] = {}
    for study in studies:
        name = study.id if study.id not in taken else f"{Path(study.root).name}.{study.id}"
        try:
            _cache_case(study, name, cache, tuple(sequences), preparation, least)
            ready.append(name)
        except SlemError as error:
            skipped[name] = str(error)
        if seen is not None:
            seen(name)
    return Gathered(tuple(ready), skipped)


def _cache_case(
    study: Study,
    name: str,
    cache: CaseCache,
    sequences: tuple[str, ...],
    preparation: Preparation,
    least: int,
) -> None:
    grouping = group(study)
    chosen = {one: series for one, series in grouping.sequences.items() if one in sequences}
    if len(chosen) < least:
        raise BadStudy(
            f"{study.id}: has {len(chosen)} of the sequences {', '.join(sequences)}, this pretext needs "
            f"at least {least}"
        )
    key = fingerprint(
        "unlabelled",
        CONFORMED,
        sequences,
        preparation,
        *sorted(grouping.by_hand.items()),  # the same files in other roles
        files=[path for series in chosen.values() for path in series.paths],
    )
    if not cache.has(name, key):
        cache.add(
            name,
            prepare({one: read(series) for one, series in chosen.items()}, sequences, preparation),
            None,
            key,
        )
