"""What a report says, whatever it is written as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slem_app.labels import LabelSet
from slem_app.measure import Measurements
from slem_app.result_warning import ResultWarning

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
    notes: tuple[str, ...] = ()
    """What was done to the study, in sentences."""
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
        return f"Confirmed by {self.confirmed_by}" + (f", {self.saved}" if self.saved else "")

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
            "notes": list(self.notes),
            "facts": dict(self.facts),
            "use": RESEARCH,
        }
