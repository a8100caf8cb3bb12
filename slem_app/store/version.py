"""One saved label of a case: where its files lie and what was saved with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slem_app.store.record import NOTES, LabelRecord
from slem_app.store.review import ReviewDecision, latest_decision, state_of

__all__ = ["LABEL_FILE", "META_FILE", "LabelVersion"]

LABEL_FILE = "label.nii.gz"
META_FILE = "meta.json"


@dataclass(frozen=True)
class LabelVersion:
    """One saved label."""

    number: int
    """1, 2, 3 ... within case and tag."""
    folder: Path
    """Where it lies."""

    @property
    def tag(self) -> str:
        """'final', or a draft's."""
        return self.folder.parent.name

    @property
    def label(self) -> Path:
        """The label map, NIfTI."""
        return self.folder / LABEL_FILE

    @property
    def meta(self) -> dict[str, object]:
        """What was saved with it."""
        return json.loads((self.folder / META_FILE).read_text(encoding="utf-8"))

    @property
    def sequence(self) -> str:
        """The sequence, or the series, on whose grid it lies."""
        return str(self.meta["sequence"])

    @property
    def series(self) -> str:
        """The id of the series on whose grid it lies; empty: not known."""
        return str(self.meta.get("series") or "")

    @property
    def names(self) -> tuple[str, ...]:
        """What its values mean, value 1 first; empty where that is not known."""
        names = self.meta.get("label_names", {})
        return tuple(str(name) for name in names) if isinstance(names, Mapping) else ()

    @property
    def values(self) -> dict[str, int]:
        """Name of each label that the file may hold -> its value; empty where that is not known."""
        values = self.meta.get("label_names", {})
        return {str(k): int(v) for k, v in values.items()} if isinstance(values, Mapping) else {}

    @property
    def present(self) -> tuple[str, ...]:
        """Labels that it holds."""
        names = self.meta.get("present", ())
        return tuple(str(name) for name in names) if isinstance(names, Sequence) else ()

    @property
    def notes(self) -> dict[str, object]:
        """What clients say of it; the server goes by nothing of it."""
        notes = self.meta.get(NOTES, {})
        return dict(notes) if isinstance(notes, Mapping) else {}

    @property
    def record(self) -> LabelRecord:
        """Who, when, with what."""
        return LabelRecord.of(self.meta)

    @property
    def decision(self) -> ReviewDecision | None:
        """What a reviewer decided of it; None: nobody has."""
        return latest_decision(self.folder.parent, self.number)

    @property
    def state(self) -> str:
        """'draft', 'submitted', 'approved' or 'rejected'."""
        return state_of(self.folder.parent, self.number)
