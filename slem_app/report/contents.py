"""What a report says, whatever it is written as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slem_app.labels import LabelSet, Region
from slem_app.measure import Measurements
from slem_app.result_warning import ResultWarning
from slem_app.trust import NOTHING, Trust

__all__ = ["RESEARCH", "Contents"]

RESEARCH = "Research use only, not for diagnostic use."


@dataclass(frozen=True, eq=False)
class Contents:
    """One case's report."""

    case: str
    """Case id."""
    found: Measurements
    """The numbers."""
    labels: LabelSet
    """What was segmented, with its colours."""
    confirmed_by: str
    """The reader whose final label this is; '' makes the report a draft."""
    saved: str = ""
    """When the label was saved, ISO 8601; '' where it was not."""
    made_by: str = ""
    """Model and version; '' where a reader drew alone."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Patient, study date ... by their names, in the order in which they are shown."""
    warnings: tuple[ResultWarning, ...] = ()
    """What a reader must see."""
    trust: Trust = NOTHING
    """What a model says of its result as it is; nothing of a label that a reader has changed."""
    decision: str = ""
    """What a reviewer decided of the label, in words; empty: nothing."""
    notes: tuple[str, ...] = ()
    """What was done to the study, in sentences."""
    limits: tuple[str, ...] = ()
    """What cannot be told, or not exactly, in sentences."""
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(H, W, 3) uint8 by title."""

    @property
    def draft(self) -> bool:
        """Nobody has confirmed it."""
        return not self.confirmed_by

    @property
    def status(self) -> str:
        """In words."""
        if self.draft:
            return "DRAFT: not confirmed by a reader"
        saved = f", {self.saved}" if self.saved else ""
        return f"Confirmed by {self.confirmed_by}{saved}" + (f"; {self.decision}" if self.decision else "")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the model says of its own result, in sentences."""
        quality = self.trust.quality
        expected = (f"The model expects of its result: {quality.text}.",) if quality else ()
        places = tuple(f"Check {n}: {one.text}" for n, one in enumerate(self.trust.places, 1))
        return (*expected, *places)

    @property
    def places(self) -> tuple[str, ...]:
        """Where each lesion of the whole finding lies, in sentences; empty: not known."""
        whole = max(self.labels.regions, key=_size, default=None)
        name = whole.name if whole and len(whole.labels) > 1 else ""
        told = []
        for one in self.found.structures:
            if one.name == name or not name:
                told += [
                    f"{one.name}, lesion {n} ({lesion.volume_ml:.2f} ml): {lesion.location.text}"
                    for n, lesion in enumerate(one.lesions, 1)
                    if lesion.location.text
                ]
        return tuple(told)

    def table(self) -> dict[str, object]:
        """For JSON."""
        return {
            "case": self.case,
            "status": "draft" if self.draft else "confirmed",
            "confirmed_by": self.confirmed_by,
            "saved": self.saved,
            "made_by": self.made_by,
            **self.found.table(),
            "warnings": [one.table() for one in self.warnings],
            "trust": self.trust.table(),
            "decision": self.decision,
            "notes": list(self.notes),
            "limits": list(self.limits),
            "facts": dict(self.facts),
            "use": RESEARCH,
        }


def _size(region: Region) -> int:
    return len(region.labels)
