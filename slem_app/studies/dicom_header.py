"""What the headers of DICOM files say: the fields that the rules and the geometry of slices read.

Pixel data is never read. Enhanced multi-frame files count as one slice a frame.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import Dataset, config
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from slem_app.errors import BadVolume, SlemError
from slem_app.studies.dicom_file import read_file

# Of values that break the standard pydicom quotes what they are, a patient's name perhaps, in warnings and in
# its log: what counts is told here.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

__all__ = [
    "BROKEN",
    "Header",
    "json_slices",
    "probe",
    "read_slices",
    "reason",
]

Header = Mapping[str, Any]
"""Fields of one slice by DICOM keyword, plus 'path', 'frame' (index in the file) and 'pixels_at' (where in
the file the pixels begin).
"""

GEOMETRY = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
)
TAGS = (
    *GEOMETRY,
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
        "StudyDate",
    ),
    *(
        "Modality",
        "Manufacturer",
        "BodyPartExamined",
        "SeriesDescription",
        "ProtocolName",
        "SequenceName",
        "SeriesNumber",
    ),
    *(
        "ScanningSequence",
        "SequenceVariant",
        "ScanOptions",
        "MRAcquisitionType",
        "ImageType",
        "ContrastBolusAgent",
    ),
    *(
        "EchoTime",
        "RepetitionTime",
        "InversionTime",
        "FlipAngle",
        "EchoNumbers",
        "DiffusionBValue",
        "TriggerTime",
        "MagneticFieldStrength",
    ),
    *("InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime"),
    *("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames"),
)
LENGTHS = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
WHOLE = frozenset(
    {"SeriesNumber", "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", *TAGS[-5:]}
)
REAL = frozenset(
    {
        *GEOMETRY,
        "EchoTime",
        "RepetitionTime",
        "InversionTime",
        "FlipAngle",
        "DiffusionBValue",
        "TriggerTime",
        "MagneticFieldStrength",
    }
)
FUNCTIONAL_GROUPS = (Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence"))
WANTED = {Tag(key): key for key in TAGS}
WHOSE = ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "StudyTime")
STUDY_UID = Tag("StudyInstanceUID")
PATIENT_ID = Tag("PatientID")
# explicit or implicit VR, length
STUDY_UID_BYTES = re.compile(rb"\x20\x00\x0d\x00(?:UI(.)\x00|(.)\x00\x00\x00)(?=[0-9.]{5})", re.DOTALL)
OTHER_STUDIES = b"\x08\x00\x00\x12"  # a sequence before it that may hold other studies' UIDs
PROBED = 8192
BROKEN = (
    *(
        InvalidDicomError,
        BytesLengthException,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OverflowError,
    ),
    *(NotImplementedError, RecursionError, struct.error),
)
"""What pydicom raises for files that are damaged or break the standard."""
# their texts hold nothing of the header
TELLING = (InvalidDicomError, EOFError, NotImplementedError, RuntimeError)


def reason(error: BaseException) -> str:
    """Why a file cannot be read, without a value of its header: those of others may quote a
    patient's name.
    """
    if isinstance(error, TELLING) and str(error):
        return str(error).splitlines()[0][:300]  # pydicom puts whole tracebacks into some
    return getattr(error, "strerror", None) or f"a value of its header is none ({type(error).__name__})"


def probe(path: Path) -> str | None:
    """The file's StudyInstanceUID, reading no further than that; None if it is not a DICOM image of a study.

    Looks for the element's bytes first, ten times quicker than parsing what comes before it, which is what
    makes a folder of 10,000 studies list in seconds; a file in which they are not there exactly once, or
    could lie in a sequence, is parsed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(PROBED)
            if start[128:132] != b"DICM":
                return None
            found = list(STUDY_UID_BYTES.finditer(start))
            if len(found) == 1 and OTHER_STUDIES not in start:
                length = (found[0][1] or found[0][2])[0]
                return start[found[0].end() :][:length].rstrip(b"\0 ").decode()
        dataset, _ = read_file(path, pixels=False, tags=[STUDY_UID], until=STUDY_UID)
        return str(dataset.StudyInstanceUID) or None
    except (*BROKEN, SlemError):  # any other file may lie in the folder
        return None


def read_slices(path: Path) -> list[Header]:
    """The fields of the file's slice, or of each frame of an enhanced multi-frame file.

    Raises:
        BadVolume: not a readable DICOM file.
    """
    try:
        dataset, pixels_at = read_file(path, pixels=False, tags=[*WANTED, *FUNCTIONAL_GROUPS])
        meta = getattr(dataset, "file_meta", Dataset())
        return _slices(
            dataset,
            {
                "path": path,
                "pixels_at": pixels_at,
                "TransferSyntaxUID": str(meta.get("TransferSyntaxUID", "")),
            },
        )
    except BROKEN as error:
        raise BadVolume(
            f"{path} is not a readable DICOM file: {reason(error)}. Copy or export it again"
        ) from error


def patient_fields(path: Path) -> dict[str, str]:
    """Whose study a file is of, and when it was taken: StudyInstanceUID, PatientID, PatientName, StudyDate,
    StudyTime; empty where it does not say, nothing of a file that is not readable DICOM.
    """
    try:
        dataset, _ = read_file(path, pixels=False, tags=[Tag(key) for key in WHOSE])
        return {key: str(dataset.get(key, "") or "").strip() for key in WHOSE}
    except BROKEN:
        return {}


def patient_id(path: Path) -> str:
    """PatientID of a file; empty where it has none.

    Raises:
        LookupError: not a readable DICOM file.
    """
    try:
        dataset, _ = read_file(path, pixels=False, tags=[PATIENT_ID])
        return str(dataset.get("PatientID", "") or "")
    except BROKEN as error:
        raise LookupError(f"{path} is not a readable DICOM file: {reason(error)}") from error


def json_slices(attributes: Mapping[str, Mapping[str, Any]], path: Path) -> list[Header]:
    """As `read_slices`, from a header in the DICOM JSON model (PS3.18 annex F), as a PACS hands it out.

    Args:
        attributes: tag -> {'vr', 'Value'}.
        path: where the file will lie once it is fetched.

    Raises:
        BadVolume: values that are none of their kind.
    """
    wanted = {f"{tag:08X}" for tag in (*WANTED, *FUNCTIONAL_GROUPS)}
    try:
        kept = {tag: _without_bulk(element) for tag, element in attributes.items() if tag.upper() in wanted}
        return _slices(Dataset.from_json(kept), {"path": path})
    except BROKEN as error:
        raise BadVolume(
            f"the header of image {path.stem} is not readable: {reason(error)}. Send it to the PACS again"
        ) from error


def _without_bulk(element: Mapping[str, Any]) -> Mapping[str, Any]:
    """An element without what lies elsewhere or is binary, in sequences too: no field that is wanted is."""
    values = element.get("Value")
    if element.get("vr") != "SQ" or not isinstance(values, list):
        return {"vr": element["vr"]} if {"BulkDataURI", "InlineBinary"} & set(element) else element
    return {
        "vr": "SQ",
        "Value": [{tag: _without_bulk(inner) for tag, inner in item.items()} for item in values if item],
    }


def _slices(dataset: Dataset, about: Mapping[str, Any]) -> list[Header]:
    """The fields of a header's slice, or of each of its frames, with those `about` its file."""
    base = _fields(dataset) | dict(about) | {"frame": 0}
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = (dataset.get("SharedFunctionalGroupsSequence") or (Dataset(),))[0]
    return [base | _nested(shared) | _nested(frame) | {"frame": k} for k, frame in enumerate(frames)] or [
        base
    ]


def _fields(dataset: Dataset) -> dict[str, Any]:
    """The wanted fields that are there and not empty; a number that is none counts as not there."""
    values = ((WANTED[tag], dataset[tag].value) for tag in dataset.keys() & WANTED.keys())
    found = {key: plain(value) for key, value in values if value not in (None, "")}
    return {
        key: value
        for key, value in ((key, _number(key, value)) for key, value in found.items())
        if value is not None
    }


def _number(key: str, value: Any) -> Any:
    """The value as it is, where the field is a number as one; None if it is none, or not as many as the field
    has.
    """
    if key not in WHOLE and key not in REAL:
        return value
    several = isinstance(value, tuple)
    if several and key in WHOLE:
        return None
    if key in LENGTHS and (not several or len(value) != LENGTHS[key]):
        return None
    try:
        numbers = [float(part) for part in (value if several else (value,))]
    except (TypeError, ValueError):
        return None
    if not all(math.isfinite(number) for number in numbers) or (
        key in WHOLE and any(number != int(number) for number in numbers)
    ):
        return None
    return tuple(numbers) if several else int(numbers[0]) if key in WHOLE else numbers[0]


def _nested(group: Dataset) -> dict[str, Any]:
    """The wanted fields of one functional group, whichever macro they are in."""
    fields: dict[str, Any] = {}
    for element in group:
        for item in element.value if element.VR == "SQ" else ():
            fields |= _fields(item)
            if "EffectiveEchoTime" in item:
                fields["EchoTime"] = float(item.EffectiveEchoTime)
    return fields


def plain(value: object) -> object:
    """A pydicom value as str, int, float or a tuple of them."""
    if isinstance(value, (MultiValue, list, tuple)):
        return tuple(plain(part) for part in value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)
