"""Codes (PS3.3 section 8.8) of labels as pydicom has them."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sr.coding import Code as DicomCode

from slem_app.labels import Code

__all__ = ["dicom_code", "read_code"]


def dicom_code(code: Code) -> DicomCode:
    """A code as pydicom and highdicom take it; old SNOMED codes compare equal to their new ones."""
    return DicomCode(code.value, code.scheme, code.meaning)


def read_code(item: Dataset) -> DicomCode:
    """The code in an item of a code sequence, whichever of the three fields holds its value."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return DicomCode(
        str(value), str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
    )
