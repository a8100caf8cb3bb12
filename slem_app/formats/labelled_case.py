"""A case with the label that counts: found from a label store and the studies it belongs to, for commands that need no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from slem_app.errors import BadGrid, NotFound
from slem_app.formats.label_store import LabelStore, Version, file_name
from slem_app.formats.labelfile import read_label_file
from slem_app.grouping import group
from slem_app.studies import Series, Study, StudySource, open_source
from slem_app.types import Grid

__all__ = ["CaseLabels", "LabelledCase"]

NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class LabelledCase:
    """One case as it may be exported."""

    id: str
    """Case id."""
    images: Mapping[str, Series]
    """Its sequences by name."""
    sequence: str
    """The one on whose grid the label lies."""
    version: Version
    """The label."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the label's values, from 1 on."""
        return tuple(self.version.meta["label_names"])

    def label(self) -> tuple[np.ndarray, Grid]:
        """(I, J, K) uint8 values and the grid.

        Raises:
            BadGrid: the image is another one by now.
        """
        array, grid, _ = read_label_file(self.version.label)
        if not grid.same_as(self.images[self.sequence].grid):
            raise BadGrid(f"{self.id}: its label lies on {grid}, the image {self.sequence} on {self.images[self.sequence].grid}: label it again")
        return array, grid


class CaseLabels:
    """The labels of a studies folder or PACS, with the cases that they are of.

    Args:
        studies: a folder or an address.
        root: the label store.
        coding: of the studies, where it must be declared.
        experts: readers whose final label counts before the newest one.
    """

    def __init__(self, studies: str, root: Path, coding: str | None = None, experts: Sequence[str] = ()) -> None:
        self.studies, self.root, self.coding, self.experts = studies, root, coding, tuple(experts)
        self.store = LabelStore(root)

    @cached_property
    def source(self) -> StudySource:
        """The studies, opened when the first of them is asked for."""
        return open_source(self.studies, self.coding)

    def study(self, case: str) -> Study:
        """The case as it lies in the studies, or as a client has uploaded it.

        Raises:
            NotFound: it is gone.
        """
        if case in self.source.ids():
            return self.source.study(case)
        folder = self.root / "uploads" / file_name(case)
        files = sorted(path for path in folder.glob("[!.]*") if path.name.endswith(NIFTI))
        if not files:
            raise NotFound(f"case {case!r} is neither in {self.studies} nor among the uploads in {folder.parent}: was it moved?")
        return Study(case, "nifti", folder, (Series(file_name(case), (files[0],), "nifti", file_name(case)),))

    def labelled(self, case: str) -> LabelledCase:
        """The case with its final label that counts.

        Raises:
            NotFound: no final label, or what it was made on is gone.
            BadStudy: no sequence of the case is known.
        """
        version = self.store.counting(case, self.experts)
        study, sequence = self.study(case), str(version.meta["sequence"])
        images = dict(group(study).sequences)
        if not images and len(study.series) == 1:  # an uploaded volume whose name says nothing was labelled as this sequence
            images = {sequence: study.series[0]}
        if sequence not in images:
            raise NotFound(f"{case}: its label lies on the sequence {sequence}, which the case no longer has")
        return LabelledCase(case, images, sequence, version)
