"""Drafts for the cases that await one, made by any number of processes at once: which are left, who makes
which, and how they are kept.

Who makes which case is a matter of leases (`work_queue`). A result is written by whoever holds the case's
lock, which is the kernel's and ends with its process, after another look whether it is needed. So no draft is
there twice, whoever else is at work on the store, and what was interrupted goes on where it was: what is
there is not made again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slem_app.errors import BadSetting, StorageFailed
from slem_app.formats.nifti import encoded
from slem_app.grouping import Grouping
from slem_app.result_warning import ResultWarning
from slem_app.store.case_labels import CaseLabels
from slem_app.store.labels import LabelVersion, file_name
from slem_app.store.provenance import PROVENANCE
from slem_app.store.record import DRAFT, FINAL, LabelRecord
from slem_app.trust import NOTHING, Trust

if TYPE_CHECKING:
    from slem_app.predict import Prediction

__all__ = ["WHICH", "Draft", "Drafts"]

WHICH = ("unlabeled", "labeled", "all")
"""Cases that may be meant, in MONAI Label's words: those without a final label, those with one, or both."""


@dataclass(frozen=True)
class Draft:
    """A model's result as it is kept: small, since it may come from another machine."""

    content: bytes
    """The label map as .nii.gz."""
    sequence: str
    """On whose grid it lies."""
    series: str
    """That sequence's series."""
    label_names: Mapping[str, int]
    """What the values mean."""
    present: tuple[str, ...]
    """Labels that are in it."""
    preparation: Mapping[str, Any]
    """What was done to the study before the model saw it (`Report.table`)."""
    warnings: tuple[ResultWarning, ...]
    """What the result came with."""
    provenance: Mapping[str, Any]
    """What it was made from, see `provenance`."""
    trust: Trust = NOTHING
    """What the model says of it."""

    @classmethod
    def of(
        cls, result: Prediction, grouping: Grouping, sequence: str, provenance: Mapping[str, Any]
    ) -> Draft:
        """A result that lies on the grid of a sequence.

        Args:
            result: what the model has made.
            grouping: the case's series.
            sequence: on whose grid it lies.
            provenance: what it was made from.
        """
        names = result.labels.names
        counts = np.bincount(result.array.ravel(order="K"), minlength=len(names) + 1)
        return cls(
            encoded(result.array, result.grid, result.labels),
            sequence,
            grouping.sequences[sequence].id,
            {name: value for value, name in enumerate(names, 1)},
            tuple(name for name, count in zip(names, counts[1:], strict=True) if count),
            result.report.table() if result.report else {},
            result.warnings,
            provenance,
            result.trust,
        )


@dataclass(frozen=True)
class Drafts:
    """One model's drafts.

    Raises:
        BadSetting: a tag under which no draft may be kept, or an unknown choice of cases.
    """

    labels: CaseLabels
    """Where they go."""
    model: str
    """Name of the model."""
    version: str
    """Its version."""
    sha256: str
    """Of its weights."""
    tag: str = DRAFT
    """Under which they are kept."""
    which: str = "unlabeled"
    """One of WHICH."""
    cases: tuple[str, ...] = ()
    """Only these of them; empty: all."""

    def __post_init__(self) -> None:
        if self.tag == FINAL:
            raise BadSetting(
                "a model's result is a draft and is never kept as a final label: omit the tag, or "
                "name another"
            )
        if self.which not in WHICH:
            raise BadSetting(f"images must be one of {', '.join(WHICH)}, got {self.which!r}")

    def left(self) -> tuple[str, ...]:
        """Cases that still need one."""
        return tuple(case for case in self.cases or self.labels.ids() if self.needs(case))

    def needs(self, case: str) -> bool:
        """Whether a case needs one: no draft by this model of the series that count now, and none that a
        reader saved as a draft.
        """
        store = self.labels.store
        if self.which != "all" and store.has_final(case) != (self.which == "labeled"):
            return False
        there = store.versions(case, self.tag)
        if not there:
            return True
        newest = there[-1].record
        if not newest.automatic:
            return False
        chosen = self.labels.choices.of(case)
        return newest.model_sha256 != self.sha256 or newest.chosen_by_hand != chosen

    @contextmanager
    def claimed(self, case: str) -> Iterator[bool]:
        """True if the case is ours alone now and still needs a draft; it is given back in the end, however
        that comes.

        Raises:
            StorageFailed: the disk refused.
        """
        folder = self.labels.root / "labels" / file_name(case)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise StorageFailed(
                f"{folder} cannot be made: {error.strerror or error}: free some space, then call again to go "
                "on"
            ) from error
        try:
            yield _locked(handle) and self.needs(case)
        finally:
            os.close(handle)

    def save(self, case: str, draft: Draft, client: str) -> LabelVersion:
        """Keep a draft.

        Args:
            case: case id.
            draft: what to keep.
            client: what made it.

        Raises:
            StorageFailed: the disk refused; earlier versions are as they were.
        """
        meta = {
            "model": self.model,
            "sequence": draft.sequence,
            "series": draft.series,
            "label_names": dict(draft.label_names),
            "present": list(draft.present),
            "ts": int(time.time()),
            PROVENANCE: dict(draft.provenance),
            **LabelRecord(
                time.time(),
                "",
                client,
                self.model,
                self.version,
                self.sha256,
                automatic=True,
                preparation=draft.preparation,
                warnings=draft.warnings,
                trust=draft.trust,
            ).to_meta(),
        }
        return self.labels.store.save(case, self.tag, lambda path: path.write_bytes(draft.content), meta)


def _locked(handle: int) -> bool:
    """Take the lock of an open folder, if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
