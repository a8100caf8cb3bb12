"""Who or what made a DICOM result, and whose it is: the fields that SEG and RTSTRUCT share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid

from slem_app import __version__
from slem_app.errors import BadSetting
from slem_app.files import atomic_file
from slem_app.result_warning import ResultWarning

__all__ = [
    "LONGEST",
    "MANUFACTURER",
    "MODEL_NAME",
    "Made",
    "Provenance",
    "dicom_bytes",
    "dicom_text",
    "made_by",
    "remarks",
    "save_dicom",
    "study_fields",
]

MANUFACTURER = MODEL_NAME = "SLeM Label"
KINDS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
LONGEST = 64  # characters of a DICOM text of type LO, PS3.5 section 6.2
LONGEST_TEXT = 1024  # characters of one of type ST
# may be empty but must be there (type 2), with StudyInstanceUID and FrameOfReferenceUID, which are checked
# before
REQUIRED = (
    *(
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
    ),
    *("AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator"),
)
OPTIONAL = (
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "BodyPartExamined",
)
SEXES = ("M", "F", "O")


@dataclass(frozen=True)
class Provenance:
    """How a segmentation came about, told as it is.

    Raises:
        BadSetting: an unknown kind, an algorithm without a name, or a text that DICOM cannot hold.
    """

    kind: str
    """'AUTOMATIC': as the network gave it; 'SEMIAUTOMATIC': with clicks, or edited by a reader; 'MANUAL':
    drawn by a reader alone.
    """
    algorithm: str = ""
    """Name of the model; '' for MANUAL alone."""
    version: str = ""
    """Version of the model."""
    description: str = "Segmentation"
    """SeriesDescription: what a reader sees in the list of series; cut after 64 characters."""
    series_number: int = 1000
    """SeriesNumber, 1 or more; far behind the scanner's, so that a viewer lists it last."""
    instance_number: int = 1
    """InstanceNumber, 1 or more."""
    remarks: str = ""
    """What a reader was warned of and what was done to the images before they were segmented, in sentences,
    see `remarks`; cut after 1024 characters (SegmentDescription)."""
    creator: str = ""
    """Who saved it, as a DICOM person name (FAMILY^GIVEN) or one word; '' where nobody did."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadSetting(f"unknown kind of segmentation {self.kind!r}: use {', '.join(KINDS)}")
        if self.kind != "MANUAL" and not (self.algorithm and self.version):
            raise BadSetting(
                f"a segmentation that is {self.kind} needs the name and the version of its algorithm, got "
                f"{self.algorithm!r} {self.version!r}"
            )
        if self.series_number < 1 or self.instance_number < 1:
            raise BadSetting(
                f"series and instance numbers begin with 1, got {self.series_number} and "
                f"{self.instance_number}"
            )
        for text in (self.algorithm, self.version, self.description, self.remarks, self.creator):
            if "\\" in text or not text.isprintable():
                raise BadSetting(
                    f"{text!r} cannot be written to DICOM: leave out backslashes and unprintable characters"
                )
        if max(len(self.algorithm), len(self.version), len(self.creator)) > LONGEST:
            raise BadSetting(
                f"name and version of an algorithm, and the reader's name, must not be longer than "
                f"{LONGEST} characters"
            )
        if len(self.description) > LONGEST:
            object.__setattr__(self, "description", self.description[: LONGEST - 1] + "…")
        if len(self.remarks) > LONGEST_TEXT:
            object.__setattr__(self, "remarks", self.remarks[: LONGEST_TEXT - 1] + "…")

    @property
    def creator_name(self) -> str:
        """The creator as a person name with its components marked."""
        return f"{self.creator}^" if self.creator and "^" not in self.creator else self.creator

    @property
    def software(self) -> str:
        """SoftwareVersions."""
        return f"{MODEL_NAME} {__version__}"

    def new_instance(self) -> dict[str, Any]:
        """What highdicom's constructors take of any new instance in a series of its own."""
        return {
            "series_instance_uid": generate_uid(prefix=None),
            "series_number": self.series_number,
            "series_description": self.description,
            "sop_instance_uid": generate_uid(prefix=None),
            "instance_number": self.instance_number,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": self.software,
        }


@dataclass(frozen=True)
class Made:
    """How a segmentation of any software says that it came about."""

    kind: str
    """'AUTOMATIC', 'SEMIAUTOMATIC' or 'MANUAL'; 'SEMIAUTOMATIC' where its segments differ."""
    algorithm: str
    """Name of the algorithm; '' where none is named."""
    version: str
    """Of the algorithm."""
    software: str
    """Manufacturer and model of the software that wrote it."""
    creator: str
    """Who made it; '' where nobody is named."""
    description: str
    """SeriesDescription."""


def remarks(warnings: Iterable[ResultWarning], notes: Iterable[str] = ()) -> str:
    """Warnings, then what was done, as one text that DICOM can hold."""
    return dicom_text("; ".join((*(f"WARNING: {one.text}" for one in warnings), *notes)))


def dicom_text(text: str) -> str:
    """A text without what DICOM cannot hold: backslashes and line breaks become spaces."""
    return " ".join("".join(" " if c == "\\" or not c.isprintable() else c for c in text).split())


def made_by(dataset: Dataset) -> Made:
    """Read how a segmentation came about."""
    segments = dataset.get("SegmentSequence") or ()
    kinds = {str(segment.get("SegmentAlgorithmType") or "MANUAL") for segment in segments} or {"MANUAL"}
    kind = kinds.pop() if len(kinds) == 1 else "SEMIAUTOMATIC"
    named = next((segment for segment in segments if segment.get("SegmentAlgorithmName")), Dataset())
    identified = (named.get("SegmentationAlgorithmIdentificationSequence") or (Dataset(),))[0]
    names = [str(dataset.get(key) or "") for key in ("Manufacturer", "ManufacturerModelName")]
    software = " ".join(
        dict.fromkeys(name for name in names if name != "Unspecified")
    ).strip()  # as OHIF calls itself
    creator = str(dataset.get("ContentCreatorName") or "").strip("^")
    name, version = str(named.get("SegmentAlgorithmName", "")), str(identified.get("AlgorithmVersion", ""))
    return Made(
        kind if kind in KINDS else "SEMIAUTOMATIC",
        name,
        version,
        software,
        creator,
        str(dataset.get("SeriesDescription") or ""),
    )


def study_fields(image: Dataset) -> Dataset:
    """Patient, study and frame of reference of a source image, as UTF-8; what must be there and is missing
    becomes empty.
    """
    fields = Dataset()
    fields.SpecificCharacterSet = "ISO_IR 192"
    for key in (*REQUIRED, *OPTIONAL):
        value = image.get(key)
        if key in REQUIRED or value not in (None, ""):
            setattr(fields, key, "" if value is None else str(value))
    if fields.PatientSex not in SEXES:
        fields.PatientSex = ""
    return fields


def save_dicom(dataset: Dataset, path: Path) -> Path:
    """Write a dataset as a DICOM file, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    content = dicom_bytes(dataset)
    with atomic_file(path) as file:
        file.write(content)
    return Path(path)


def dicom_bytes(dataset: Dataset) -> bytes:
    """A dataset as a DICOM file in memory."""
    content = BytesIO()
    dataset.save_as(content, write_like_original=False)
    return content.getvalue()
