"""Who saved a label, when, with what, and what it cost: kept with every version, beside what the client said
of it.

Tags are MONAI Label's: a label tagged `final` is done, any other tag is a draft. Only final labels are
learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["DRAFT", "FINAL", "RECORD", "Record"]

FINAL, DRAFT = "final", "original"
RECORD = "record"
"""Its key in a version's meta.json; nothing that a client sends can replace it."""
NOBODY = frozenset({"", "user-xyz"})  # 3D Slicer's client id until somebody changes it


@dataclass(frozen=True)
class Record:
    """How one version of a label came about."""

    ts: float = 0.0
    """When it was saved, seconds since 1970."""
    reader: str = ""
    """Who saved it, 'id@place'; empty: nobody, a model made it alone."""
    client: str = ""
    """With what, e.g. '3D Slicer', 'OHIF', 'slem predict'; empty: not known."""
    model: str = ""
    """The model whose result was corrected, or which made it; empty: not known."""
    model_version: str = ""
    """Its version."""
    model_sha256: str = ""
    """Of its weights."""
    automatic: bool = False
    """A model's result as it is; with a reader, one that he has accepted."""
    seconds: float | None = None
    """Spent by this reader on the case since its first request about it, or since this reader's version
    before; None: not known.
    """
    clicks: int | None = None
    """Clicks and scribbles that this reader placed meanwhile; None: not known."""
    user: str = ""
    """Who was logged in; empty: the server asks nobody to."""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Record:
        """From a version's meta; what an older one does not hold stays unknown."""
        known = {field.name for field in fields(cls)}
        told = {name: value for name, value in meta.get(RECORD, {}).items() if name in known}
        return cls(
            **(
                {
                    "ts": float(meta.get("ts", 0.0)),
                    "reader": str(meta.get("client_id", "")),
                    "model": str(meta.get("model") or ""),
                }
                | told
            )
        )

    def to_meta(self) -> dict[str, Any]:
        """As it is kept."""
        return {RECORD: asdict(self)}

    @property
    def who(self) -> str:
        """The user who was logged in, else the reader's own id where it tells readers apart, else with its
        place; a model where no reader took part.
        """
        if not (self.reader or self.user):
            return f"{self.model} {self.model_version}".strip() or "unknown"
        if self.user:
            return self.user
        name = self.reader.partition("@")[0]
        return self.reader if name in NOBODY else name
