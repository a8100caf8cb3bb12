"""What the headers of DICOM files say: the fields the rules read, the order of the slices and their grid
(PS3.3 C.7.6.2).

pydicom speaks LPS; only here it becomes RAS. Pixel data is never read. Enhanced multi-frame files count as
one slice a frame.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, config
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID

from slem_app.errors import BadVolume, SlemError
from slem_app.studies.dicom_file import read_file
from slem_app.types import Grid

# Of values that break the standard pydicom quotes what they are, a patient's name perhaps, in warnings and in
# its log: what counts is told here.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

__all__ = [
    "BROKEN",
    "Header",
    "grid",
    "in_order",
    "json_slices",
    "position",
    "probe",
    "read_slices",
    "reason",
    "summary",
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
STUDY_UID = Tag("StudyInstanceUID")
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
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


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


def position(header: Header) -> tuple[float, ...] | None:
    """ImageOrientationPatient and ImagePositionPatient, rounded so that equal slices compare equal; None
    without them.
    """
    orientation, origin = header.get("ImageOrientationPatient"), header.get("ImagePositionPatient")
    if (
        not isinstance(orientation, tuple)
        or not isinstance(origin, tuple)
        or len(orientation) != 6
        or len(origin) != 3
    ):
        return None
    return tuple(round(float(n), 3) for n in (*orientation, *origin))


def normal(header: Header) -> np.ndarray:
    """(3,) unit vector across the slice, LPS."""
    orientation = np.array(header["ImageOrientationPatient"], dtype=np.float64)
    across = np.cross(orientation[:3], orientation[3:])
    return across / max(float(np.linalg.norm(across)), 1e-9)


def in_order(slices: Sequence[Header]) -> tuple[Header, ...]:
    """The slices along their common normal; by InstanceNumber where a slice has no position."""
    if not slices or any(position(part) is None for part in slices):
        return tuple(sorted(slices, key=lambda part: (int(part.get("InstanceNumber", 0)), part["frame"])))
    across = normal(slices[0])
    return tuple(
        sorted(
            slices, key=lambda part: float(across @ np.array(part["ImagePositionPatient"], dtype=np.float64))
        )
    )


def summary(slices: Sequence[Header]) -> Header:
    """The fields of the first slice, with NumberOfSlices and NumberOfOrientations counted."""
    places = [position(part) for part in slices]
    directions = {tuple(round(n, 1) for n in place[:6]) for place in places if place}
    first = {key: value for key, value in slices[0].items() if key not in ("path", "frame", "pixels_at")}
    return first | {"NumberOfSlices": len(slices), "NumberOfOrientations": len(directions)}


def grid(slices: Sequence[Header], what: str) -> Grid:
    """The grid of slices that are already in order: I along a row, J down a column, K from slice to slice,
    RAS mm.

    Args:
        slices: headers, see `in_order`.
        what: name of the series, for messages.

    Raises:
        BadVolume: no geometry, several orientations or sizes, two slices in one place, a missing slice, a
            truncated file.
    """
    found = [position(part) for part in slices]
    places = [place for place in found if place is not None]
    if len(places) < len(found) or any(len(part.get("PixelSpacing", ())) != 2 for part in slices):
        raise BadVolume(
            f"{what} is not a volume: a file without ImagePositionPatient, ImageOrientationPatient or "
            f"PixelSpacing (a screenshot?)"
        )
    if any(not part.get(key) for part in slices for key in ("Rows", "Columns")):
        raise BadVolume(
            f"{what} is not a volume: a file does not say how many rows and columns it has. Export it again"
        )
    for key in ("Rows", "Columns", "PixelSpacing"):
        if len(values := {part.get(key) for part in slices}) > 1:
            raise BadVolume(
                f"{what} is not one volume: its slices differ in {key}, {sorted(map(str, values))}"
            )
    orientations = np.array([place[:6] for place in places])
    if np.abs(orientations - orientations[0]).max() > 0.01:
        raise BadVolume(f"{what} is not one volume: its slices have several orientations (a localiser?)")
    for part in slices:
        _check_file_size(part)
    step = _step(slices, what)
    first = slices[0]
    spacing = np.array(first["PixelSpacing"], dtype=np.float64)
    direction = np.array(first["ImageOrientationPatient"], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = LPS_TO_RAS @ direction[:3] * spacing[1]  # PixelSpacing is (row distance, column distance)
    affine[:3, 1] = LPS_TO_RAS @ direction[3:] * spacing[0]
    affine[:3, 2] = LPS_TO_RAS @ step
    affine[:3, 3] = LPS_TO_RAS @ np.array(first["ImagePositionPatient"], dtype=np.float64)
    return Grid((int(first["Columns"]), int(first["Rows"]), len(slices)), affine)


def _step(slices: Sequence[Header], what: str) -> np.ndarray:
    """(3,) LPS mm from one slice to the next; refuses uneven steps."""
    origins = np.array([part["ImagePositionPatient"] for part in slices], dtype=np.float64)
    if len(slices) == 1:
        thickness = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness") or 1.0
        return normal(slices[0]) * abs(float(thickness))
    gaps = np.diff(origins @ normal(slices[0]))
    usual = float(np.median(gaps))
    if gaps.min() < 0.01:
        twice = int((gaps < 0.01).sum())
        raise BadVolume(
            f"{what} holds {twice} slices twice in one place: several images under one SeriesInstanceUID "
            f"(echoes, phases, times)"
        )
    if (odd := np.abs(gaps - usual) > max(0.1 * usual, 0.02)).any():
        k = int(np.flatnonzero(odd)[0])
        raise BadVolume(
            f"{what} misses slices: {gaps[k]:.2f} mm from slice {k + 1} to {k + 2} of "
            f"{len(slices)} where "
            f"{usual:.2f} mm is usual. Export it again"
        )
    return (origins[-1] - origins[0]) / (len(slices) - 1)


def _check_file_size(part: Header) -> None:
    """Refuse an uncompressed file that is too short for its pixels; one that is not here yet is checked when
    it comes.
    """
    if "pixels_at" not in part:
        return
    if (syntax := str(part.get("TransferSyntaxUID", ""))) and (
        UID(syntax).is_private or (UID(syntax).is_transfer_syntax and UID(syntax).is_compressed)
    ):
        return
    needed = int(part.get("Rows", 0)) * int(part.get("Columns", 0)) * int(part.get("BitsAllocated", 16)) // 8
    needed *= int(part.get("SamplesPerPixel", 1)) * int(part.get("NumberOfFrames", 1))
    size = part["path"].stat().st_size - int(part["pixels_at"]) - 8  # tag, VR and length
    if size < needed:
        raise BadVolume(
            f"{part['path']} is truncated: {max(size, 0)} bytes of pixels where {needed} are promised. "
            f"Export it again"
        )
