"""Queries as DICOMweb asks them (QIDO-RS, PS3.18 section 8.3.4), and which attributes fit them (PS3.4 section
C.2.2.2).

A filter that is not understood is an error: passed over, it would show one patient's viewer the studies of
others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from slem_app.errors import BadSetting
from slem_app.studies.dicom_json import Attributes, keyword, texts, value_kind

__all__ = ["LEVELS", "Query"]

OPTIONS = frozenset({"includefield", "limit", "offset", "fuzzymatching"})
LEVELS = {
    "study": (
        *(
            "StudyInstanceUID",
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyDescription",
        ),
        *(
            "AccessionNumber",
            "ReferringPhysicianName",
            "StudyID",
            "SpecificCharacterSet",
            "ModalitiesInStudy",
        ),
        *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
    ),
    "series": (
        *(
            "SeriesInstanceUID",
            "Modality",
            "SeriesNumber",
            "SeriesDescription",
            "SeriesDate",
            "SeriesTime",
            "BodyPartExamined",
            "ProtocolName",
        ),
        *("FrameOfReferenceUID", "NumberOfSeriesRelatedInstances"),
    ),
    "instance": (
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
    ),
}
"""What a query of each level answers, and with the levels above it what it may ask for."""


@dataclass(frozen=True)
class Query:
    """What a QIDO request asks for."""

    filters: Mapping[str, str]
    """Keyword -> what its value must match."""
    limit: int | None = None
    """How many at most."""
    offset: int = 0
    """How many of the first are left out."""
    fuzzy: bool = False
    """Parts of names match too."""

    @classmethod
    def parse(cls, pairs: Sequence[tuple[str, str]], level: str) -> Query:
        """Read a query string.

        Raises:
            BadSetting: an attribute that cannot be asked for at this level, or a number that is none.
        """
        levels = list(LEVELS)
        known = [name for one in levels[: levels.index(level) + 1] for name in LEVELS[one]]
        filters = {keyword(name): value for name, value in pairs if name not in OPTIONS}
        if unknown := sorted(set(filters) - set(known)):
            raise BadSetting(f"cannot look for a {level} by {', '.join(unknown)}: use {', '.join(known)}")
        options = dict(pairs)
        try:
            limit, offset = (int(options[name]) if name in options else None for name in ("limit", "offset"))
        except ValueError as error:
            raise BadSetting(f"limit and offset must be whole numbers: {error}") from error
        return cls(filters, limit, max(offset or 0, 0), options.get("fuzzymatching") == "true")

    def matches(self, attributes: Attributes, only: Sequence[str]) -> bool:
        """True where the filters on the attributes `only` fit."""
        return all(
            _fits(wanted, texts(attributes, name), name, self.fuzzy)
            for name, wanted in self.filters.items()
            if name in only
        )

    def page(self, found: Iterator[Attributes]) -> list[Attributes]:
        """The part of what was found that was asked for."""
        chosen: list[Attributes] = []
        for index, one in enumerate(found):
            if self.limit is not None and len(chosen) >= self.limit:
                break
            if index >= self.offset:
                chosen.append(one)
        return chosen


def _fits(wanted: str, values: Sequence[str], name: str, fuzzy: bool) -> bool:
    """Attribute matching, PS3.4 C.2.2.2: nothing asked, lists of UIDs, ranges of dates and times, wildcards,
    names in any case.
    """
    kind = value_kind(name)
    if wanted in ("", "*"):
        return True
    if kind == "UI":
        return bool(set(re.split(r"[,\\]", wanted)) & set(values))
    if kind in ("DA", "TM") and "-" in wanted:
        first, _, last = wanted.partition("-")
        return any(
            (not first or value >= first) and (not last or value <= last + "9" * (14 - len(last)))
            for value in values
        )
    flags = re.IGNORECASE if kind == "PN" else 0
    pattern = f"*{wanted}*" if fuzzy and kind == "PN" else wanted
    # brackets are no wildcards in DICOM
    return any(re.match(translate(pattern.replace("[", "[[]")), value, flags) for value in values)
