"""A case with the label that counts: found from a label store and the studies it belongs to, for commands
that need no server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from pydicom import Dataset

from slem_app.errors import BadGrid, BadSetting, NotFound, SlemError
from slem_app.formats.labelfile import read_label_file
from slem_app.grouping import Grouping, group
from slem_app.store.labels import LabelStore, LabelVersion, file_name
from slem_app.store.series_choices import SeriesChoices
from slem_app.studies import Series, Study, StudySource, open_source
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.places import is_address
from slem_app.types import Grid

__all__ = ["CaseLabels", "LabelledCase", "drawn_on"]

NIFTI = (".nii.gz", ".nii")
CACHE = 2 * 2**30  # bytes of a PACS's images that are kept


@dataclass(frozen=True)
class LabelledCase:
    """One case as it may be exported."""

    id: str
    """Case id."""
    images: Mapping[str, Series]
    """Its sequences by name."""
    sequence: str
    """The one on whose grid the label lies."""
    version: LabelVersion
    """The label."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the label's values, from 1 on."""
        return self.version.names

    def label(self) -> tuple[np.ndarray, Grid]:
        """(I, J, K) uint8 values and the grid.

        Raises:
            BadGrid: the image is another one by now.
        """
        array, grid, _ = read_label_file(self.version.label)
        if not grid.same_as(self.images[self.sequence].grid):
            raise BadGrid(
                f"{self.id}: its label lies on {grid}, the image {self.sequence} on "
                f"{self.images[self.sequence].grid}: label it again"
            )
        return array, grid


class CaseLabels:
    """The labels of a studies folder or PACS, with the cases that they are of.

    Args:
        studies: a folder or an address.
        root: the label store.
        coding: of the studies, where it must be declared.
        experts: readers whose final label counts before the newest one.
        source: the studies, where they are open already.
        index: what was read of a studies folder before.
    """

    def __init__(
        self,
        studies: str,
        root: Path,
        coding: str | None = None,
        experts: Sequence[str] = (),
        source: StudySource | None = None,
        index: HeaderIndex | None = None,
    ) -> None:
        self.studies, self.root, self.coding, self.experts = studies, root, coding, tuple(experts)
        self.opened, self.index = source, index
        self.store = LabelStore(root)
        self.choices = SeriesChoices(root)

    @cached_property
    def source(self) -> StudySource:
        """The studies, opened when the first of them is asked for; a series that a person has chosen for a
        sequence is that sequence.
        """
        source = self.opened if self.opened is not None else self._open()
        source.by_hand = self.choices.of
        return source

    def _open(self) -> StudySource:
        if not is_address(self.studies):
            return open_source(self.studies, self.coding, self.index)
        # only here: folders need no DICOMweb client
        from slem_app.studies.dicomweb import PACS_FOLDER, DicomWebSource
        from slem_app.studies.file_cache import FileCache
        from slem_app.studies.pacs import Pacs

        return DicomWebSource(
            Pacs.from_environment(self.studies), FileCache(self.root / "batch" / PACS_FOLDER, CACHE)
        )

    def send(self, instance: Dataset) -> None:
        """Store a DICOM instance in the PACS that the studies are in.

        Raises:
            BadSetting: they are in a folder.
            PacsFailed: it is not known to be stored.
        """
        from slem_app.studies.dicomweb import DicomWebSource  # folders need no DICOMweb client

        if not isinstance(self.source, DicomWebSource):
            raise BadSetting(f"{self.studies} is not a PACS: nothing can be sent there")
        self.source.pacs.store(instance)

    def ids(self) -> tuple[str, ...]:
        """All cases, labelled or not: those of the studies, and what clients have uploaded."""
        own = set(self.source.ids())
        uploads = self.root / "uploads"
        names = {unquote(path.name) for path in uploads.glob("[!.]*")} if uploads.is_dir() else set()
        return tuple(sorted(own | {name for name in names if self.uploaded(name)}))

    def uploaded(self, case: str) -> Path | None:
        """The file that a client has uploaded as this case."""
        folder = self.root / "uploads" / file_name(case)
        return next((path for path in sorted(folder.glob("[!.]*")) if path.name.endswith(NIFTI)), None)

    def study(self, case: str) -> Study:
        """The case as it lies in the studies, or as a client has uploaded it.

        Raises:
            NotFound: it is gone.
        """
        if case in self.source.ids():
            return self.source.study(case)
        path = self.uploaded(case)
        if path is None:
            raise NotFound(
                f"case {case!r} is neither in {self.studies} nor among the uploads in "
                f"{self.root / 'uploads'}: was it moved?"
            )
        series = Series(file_name(case), (path,), "nifti", file_name(case))
        return Study(case, "nifti", path.parent, (series,), by_hand=self.choices.of(case))

    def images(self, case: str, sequence: str = "") -> Grouping:
        """The case's series, named.

        Args:
            case: case id.
            sequence: what an uploaded volume is whose name says nothing; empty: the case must be known by its
                names.

        Raises:
            NotFound: it is gone.
        """
        study = self.study(case)
        grouping = group(study)
        unknown = sequence and not grouping.choices and case not in self.source.ids()
        return group(study, chosen={sequence: study.series[0].id}) if unknown else grouping

    def labelled(self, case: str) -> LabelledCase:
        """The case with its final label that counts.

        Raises:
            NotFound: no final label, or what it was made on is gone.
        """
        return self._of(case, self.store.counting(case, self.experts))

    def newest(self, case: str) -> LabelledCase:
        """The case with its final label that counts, else with its newest draft.

        Raises:
            NotFound: it has no label, or what it was made on is gone.
        """
        version = self.store.shown(case, self.experts)
        if version is None:
            raise NotFound(f"{case} has no label, final or draft, in {self.root}")
        return self._of(case, version)

    def _of(self, case: str, version: LabelVersion) -> LabelledCase:
        grouping = self.images(case, version.sequence)
        sequence = drawn_on(grouping, version)
        if sequence not in grouping.sequences:
            raise NotFound(
                f"{case}: its label lies on {_named(version)}, which the case no longer has, or no longer "
                f"uses: label it again, or choose that series by hand"
            )
        return LabelledCase(case, dict(grouping.sequences), sequence, version)


def drawn_on(grouping: Grouping, version: LabelVersion) -> str:
    """The image that a label lies on, as its case's series are named now.

    Returns:
        The sequence that its series is used as. Where that series is not used any more: a sequence on the
        very same grid, else the series' id. Where it is not there: the sequence that it was.
    """
    if used := grouping.used_as(version.series):
        return used
    series = grouping.study.find(version.series)
    if series is None:
        return version.sequence
    for name, other in grouping.sequences.items():
        with suppress(SlemError):  # an image that cannot be read has no grid
            if other.grid.same_as(series.grid):
                return name
    return series.id


def _named(version: LabelVersion) -> str:
    """The image of a label, for people."""
    other = version.series not in ("", version.sequence)
    return f"the sequence {version.sequence}{f' (series {version.series})' if other else ''}"
