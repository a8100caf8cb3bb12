"""A DICOM file as DICOMweb hands it out: its header in the DICOM JSON model (PS3.18 annex F) and the bytes of
its frames.

Nothing is decoded: frames keep the transfer syntax of the file, which is told with them. Pixels are never
part of a header here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.encaps import generate_pixel_data_frame
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from slem_app.errors import BadSetting, BadVolume, NotFound
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import BROKEN, reason

__all__ = [
    "Attributes",
    "Instance",
    "elements",
    "keyword",
    "read_frames",
    "read_instance",
    "selected",
    "texts",
    "value_kind",
]

Attributes = Mapping[str, Mapping[str, Any]]
"""DICOM JSON: eight hexadecimal digits of a tag -> {'vr': ..., 'Value': [...]}."""
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
DIGITS = re.compile(r"[0-9A-Fa-f]{8}")
# bytes of a binary element that still goes into JSON; scanners' private ones have hundreds of kilobytes
LONGEST = 1024


@dataclass(frozen=True)
class Instance:
    """One file."""

    path: Path
    """Where it lies."""
    uid: str
    """SOPInstanceUID."""
    attributes: Attributes
    """Its header, without pixels and long binary elements."""

    @property
    def json(self) -> str:
        """The header as text."""
        return json.dumps(self.attributes, allow_nan=False, separators=(",", ":"))

    def frames(self, numbers: Sequence[int]) -> tuple[list[bytes | memoryview], str]:
        """As `read_frames`."""
        return read_frames(self.path, numbers)

    def content(self) -> bytes:
        """The file as it is."""
        return self.path.read_bytes()


def read_instance(path: Path) -> Instance:
    """The header of a file.

    Raises:
        BadVolume: not a readable DICOM file.
    """
    try:
        dataset, _ = read_file(path, pixels=False)
        dataset.walk(_without_long_ones)
        return Instance(path, str(dataset.SOPInstanceUID), dict(_written(dataset)))
    except BROKEN as error:
        raise BadVolume(
            f"{path.name} is not a readable DICOM file: {reason(error)}. Copy or export it again"
        ) from error


def _written(dataset: Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
    """The elements that JSON can hold.

    pydicom's `suppress_invalid_tags` does the same, but makes reading strict in the whole process meanwhile,
    and of two threads at once one leaves it so for good.
    """
    tags = dataset.keys()  # going through the dataset itself converts every value
    for tag in tags:
        with suppress(*BROKEN):
            element = dataset[tag].to_json_dict(None, LONGEST)
            if _finite(element):
                yield f"{tag:08X}", element


def _without_long_ones(dataset: Dataset, element: DataElement) -> None:
    if element.VR in BINARY and element.value is not None and len(element.value) > LONGEST:
        del dataset[element.tag]


def _finite(value: object) -> bool:
    """False where JSON has no number for it."""
    if isinstance(value, Mapping):
        return all(_finite(part) for part in value.values())
    if isinstance(value, list):
        return all(_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def read_frames(path: Path, numbers: Sequence[int]) -> tuple[list[bytes | memoryview], str]:
    """Frames of a file as they are stored, and their transfer syntax.

    Args:
        path: the file.
        numbers: frames, counted from 1.

    Raises:
        NotFound: no such frame.
        BadVolume: no pixels, or a damaged file.
    """
    try:
        dataset, _ = read_file(path)
        count = int(dataset.get("NumberOfFrames") or 1)
        if not numbers or min(numbers) < 1 or max(numbers) > count:
            raise NotFound(
                f"{path.name} has {count} frames, counted from 1; asked for "
                f"{', '.join(map(str, numbers))[:100]}"
            )
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated:
            every = list(generate_pixel_data_frame(dataset.PixelData, count))
            return [every[number - 1] for number in numbers], str(syntax)
        size = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        pixels = memoryview(dataset.PixelData)
        frames = [pixels[(number - 1) * size : number * size] for number in numbers]
    except BROKEN as error:
        raise BadVolume(
            f"{path.name} has no readable pixels: {reason(error)}. Copy or export it again"
        ) from error
    if any(len(frame) < size for frame in frames):
        raise BadVolume(f"{path.name} is truncated: a frame of {size} bytes is not whole. Export it again")
    if not syntax.is_little_endian and dataset.BitsAllocated == 16:
        swapped = [np.frombuffer(frame, ">u2").astype("<u2").tobytes() for frame in frames]
        return [*swapped], str(ExplicitVRLittleEndian)
    return [*frames], str(ExplicitVRLittleEndian)


def keyword(name: str) -> str:
    """The keyword of an attribute that is named by it or by its eight hexadecimal digits.

    Raises:
        BadSetting: DICOM has no such attribute.

    Example:
        >>> keyword("00100020")
        'PatientID'
    """
    if tag_for_keyword(name) is not None:
        return name
    if DIGITS.fullmatch(name):
        with suppress(KeyError):
            return dictionary_keyword(Tag(int(name, 16)))
    raise BadSetting(
        f"DICOM has no attribute {name!r}: name it by its keyword (PatientID) or eight digits (00100020)"
    )


def value_kind(name: str) -> str:
    """The value representation of an attribute, by keyword."""
    return dictionary_VR(Tag(name))


def selected(attributes: Attributes, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Those of the attributes that are named, by keyword."""
    return {tag: attributes[tag] for tag in map(_digits, names) if tag in attributes}


def elements(values: Mapping[str, Sequence[str | int]]) -> dict[str, Mapping[str, Any]]:
    """Attributes from keywords and values."""
    return {_digits(name): {"vr": value_kind(name), "Value": list(value)} for name, value in values.items()}


def texts(attributes: Attributes, name: str) -> list[str]:
    """The values of an attribute, by keyword, as texts; of a name its alphabetic group."""
    values = attributes.get(_digits(name), {}).get("Value") or []
    return [
        str(value.get("Alphabetic", "")) if isinstance(value, Mapping) else str(value)
        for value in values
        if value is not None
    ]


def _digits(name: str) -> str:
    return f"{tag_for_keyword(name):08X}"
