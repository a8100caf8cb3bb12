"""Labelled cases of a learning round as studies with truth; which of them it trains on, and how often: old
ones beside new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slem_app.errors import BadGrid, NotFound
from slem_app.grouping import group
from slem_app.prompts import CORRECTIONS_FILE, Corrections
from slem_app.rounds.job import Job, Labelled
from slem_app.studies import Series, Study, StudySource, open_source
from slem_app.studies.places import is_address

if TYPE_CHECKING:
    from slem_app.studies.dicomweb import DicomWebSource

__all__ = ["LabelledStudies", "Mixture", "mix", "open_studies"]


def open_studies(job: Job) -> StudySource:
    """All studies of a job's folder or PACS, labelled or not."""
    source = _pacs(job) if is_address(job.studies) else open_source(Path(job.studies), job.coding or None)
    return _decided(source, job)


def _decided(source: StudySource, job: Job) -> StudySource:
    """Studies in which the series are used that people have chosen."""
    source.by_hand = lambda case: job.by_hand.get(case, {})
    return source


def _pacs(job: Job) -> DicomWebSource:
    # only here: a machine that trains from folders has no DICOMweb client
    from slem_app.studies.dicomweb import PACS_FOLDER, DicomWebSource
    from slem_app.studies.file_cache import FileCache
    from slem_app.studies.pacs import Pacs

    kept = FileCache(Path(job.root) / PACS_FOLDER, job.pacs_cache_mb * 2**20)
    return DicomWebSource(Pacs.from_environment(job.studies), kept)


class LabelledStudies(StudySource):
    """The studies of a job, each with its reader's label in place of what the folder holds.

    Args:
        job: of the round.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(Path(job.studies), "labelled", "own")
        self.job = job

    @cached_property
    def source(self) -> StudySource:
        """The studies folder or PACS, opened when the first case of it is asked for."""
        if is_address(self.job.studies):
            listed = _pacs(self.job).of(one.case for one in self.job.cases)
            return _decided(listed, self.job)
        return open_studies(self.job)

    @cached_property
    def labels(self) -> Mapping[str, Path]:
        """Case -> its reader's label."""
        return {one.case: Path(one.label) for one in self.job.cases}

    def corrections_file(self, case: str) -> Path:
        """Where that lies which the reader did before they saved the label of a case, if it is known."""
        return self.labels[case].with_name(CORRECTIONS_FILE)

    def corrections(self, case: str) -> Corrections | None:
        """What the reader did before they saved the label of a case; None where it is not known.

        Raises:
            BadVolume: the file is damaged.
        """
        path = self.corrections_file(case)
        return Corrections.read(path) if path.is_file() else None

    def _list(self) -> Mapping[str, Labelled]:
        return {one.case: one for one in self.job.cases}

    def _open(self, id: str, entry: Labelled) -> Study:
        """The case with its label.

        Raises:
            NotFound: the case or its label is gone.
            BadGrid: a label that does not lie on the grid of the sequence that it is of.
        """
        path = Path(entry.label)
        if not path.is_file():
            raise NotFound(f"{id}: its label {path.parent.name}/{path.name} is gone")
        label = Series("label", (path,), "nifti", "label")
        study = replace(self._study(entry), label=label, coding="own", parts=())
        named = group(study).sequences.get(entry.sequence)
        image = study.find(entry.series) or named or study.find(entry.sequence)
        if image is None:
            raise NotFound(
                f"{id}: its label was drawn on the sequence {entry.sequence}, which the case no longer has"
            )
        if not label.grid.same_as(image.grid):
            raise BadGrid(
                f"{id}: its label lies on {label.grid}, the image {entry.sequence} on {image.grid}: label it "
                "again"
            )
        return study

    def _study(self, entry: Labelled) -> Study:
        if not entry.upload:
            return self.source.study(entry.case)
        path = Path(entry.upload)
        if not path.is_file():
            raise NotFound(f"{entry.case}: its image {path.name} is gone")
        # its name may say nothing: it is what a person chose, else what the label was made on
        chosen = next((name for name, id in self.job.by_hand.get(entry.case, {}).items() if id), "")
        sequence = chosen or entry.sequence
        return Study(entry.case, "nifti", path.parent, (Series(sequence, (path,), "nifti", sequence),))


@dataclass(frozen=True)
class Mixture:
    """What a round trains on."""

    new: tuple[str, ...]
    """Cases whose label no earlier round has learnt."""
    old: tuple[str, ...]
    """Cases that are learnt again, so that nothing is forgotten."""
    turns: tuple[str, ...]
    """Both, each as often as it has its turn before all begin anew."""


def mix(
    cases: Sequence[str],
    learnt: Sequence[str],
    new_share: float,
    most: int,
    seed: int = 0,
    confirmed: Sequence[str] = (),
    confirmed_weight: float = 1.0,
) -> Mixture:
    """Choose the cases of a round and how often each is seen.

    Args:
        cases: all that may be trained on.
        learnt: those of them that an earlier round has learnt as they are now.
        new_share: share of the turns that new cases get, where there are old ones too; none of either gets
            less than one turn.
        most: cases at most; all new ones first, then a draw of the old ones.
        seed: of the draw, e.g. the number of the round.
        confirmed: those of them whose label is a model's result that a reader saved without a change.
        confirmed_weight: turns of one of these for one turn of another, above 0 to 1, in tenths.

    Example:
        >>> mix(["a", "b", "c", "d"], ["b", "c", "d"], 0.5, 64).turns
        ('a', 'a', 'a', 'b', 'c', 'd')
    """
    rng = np.random.default_rng(seed)
    new = sorted(set(cases) - set(learnt))
    old = sorted(set(cases) & set(learnt))
    new = sorted(rng.permutation(new)[:most].tolist()) if len(new) > most else new
    room = most - len(new)
    old = sorted(rng.permutation(old)[:room].tolist()) if len(old) > room else old
    often_new = often_old = 1
    if new and old and 0 < new_share < 1:
        # turns of a new case for one turn of an old one
        wanted = new_share / (1 - new_share) * len(old) / len(new)
        often_new, often_old = (max(1, round(wanted)), 1) if wanted >= 1 else (1, max(1, round(1 / wanted)))
    weight = Fraction(confirmed_weight).limit_denominator(10)
    weak = set(confirmed) & {*new, *old}
    rest = {*new, *old} - weak
    seldom, often = (max(1, weight.numerator), weight.denominator) if weak and rest else (1, 1)
    turns = [*new * often_new, *old * often_old]
    weighed = [case for case in turns for _ in range(seldom if case in weak else often)]
    return Mixture(tuple(new), tuple(old), tuple(sorted(weighed)))
