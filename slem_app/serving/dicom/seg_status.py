"""What is known of the DICOM segmentation of a label version: kept in its meta, and told to clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

__all__ = ["DICOM", "SegStatus"]

DICOM = "dicom"
"""Its key in a version's meta."""


@dataclass(frozen=True)
class SegStatus:
    """What became of a version's segmentation."""

    kind: str
    """How the version came about: AUTOMATIC, SEMIAUTOMATIC or MANUAL."""
    stored: bool
    """Whether it arrived where the results are."""
    at: float
    """When that was last tried, seconds since 1970."""
    instance: str | None = None
    """SOP Instance UID; None: none could be made."""
    series: str | None = None
    """Series Instance UID."""
    description: str | None = None
    """Series Description."""
    reason: str | None = None
    """Why it is not stored; empty: it is."""

    @property
    def unsent(self) -> bool:
        """Whether it is made, and not stored."""
        return bool(self.instance) and not self.stored

    @classmethod
    def of(cls, meta: Mapping[str, object]) -> SegStatus | None:
        """From a version's meta; None where it has no segmentation."""
        told = meta.get(DICOM)
        if not isinstance(told, Mapping) or not told:
            return None
        known = {field.name for field in fields(cls)}
        unsaid = {"kind": "", "stored": False, "at": 0.0}
        return cls(**(unsaid | {name: value for name, value in told.items() if name in known}))

    def to_json(self) -> dict[str, object]:
        """As it is kept and told, without what there is not."""
        return {name: value for name, value in asdict(self).items() if value is not None}
