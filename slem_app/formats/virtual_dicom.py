"""An image that is no DICOM as a DICOM series that exists only as an answer: an MR image a slice (PS3.3 A.4).

UIDs follow from the case's name, the series' id, the grid and the size of its files: they are the same after
every start and on every server, and other voxels are another series. Nothing is said of a patient but the
case's name, and what a scanner would have said is left open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat, format_number_as_ds

from slem_app.formats.named_uid import named_uid
from slem_app.formats.provenance import LONGEST, dicom_bytes
from slem_app.formats.sixteen_bits import SixteenBits
from slem_app.formats.slice_layout import SliceLayout
from slem_app.studies import Series
from slem_app.studies.dicom_json import Attributes

__all__ = ["EXPLICIT", "VirtualSeries", "virtual_study_uid"]

EXPLICIT = str(ExplicitVRLittleEndian)

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
OWN = "slem virtual dicom"
LPS = np.diag([-1.0, -1.0, 1.0])
NO_PARTS = str.maketrans("^=", "  ")  # what takes a person's name apart
DERIVATION = "Not a scanner's file: SLeM Label shows an image of another format as DICOM"
# what the file beside an image may know of it (BIDS, dcm2niix); never who the patient is
KNOWN = (
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "EchoTrainLength",
)


def virtual_study_uid(case: str) -> str:
    """StudyInstanceUID of a case that is no DICOM; the same wherever a case of that name is served."""
    return named_uid(OWN, "study", case)


@dataclass(frozen=True, eq=False)
class VirtualSeries:
    """One image of a case, as DICOM."""

    case: str
    """Case id."""
    series: Series
    """The image."""
    number: int
    """SeriesNumber."""
    description: str
    """SeriesDescription."""

    @cached_property
    def layout(self) -> SliceLayout:
        """Its slices.

        Raises:
            BadVolume, BadGrid, NotFound: an image that cannot be laid out as slices.
        """
        return SliceLayout.of(self.series.grid, self.series.id)

    @cached_property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return virtual_study_uid(self.case)

    @cached_property
    def frame_uid(self) -> str:
        """FrameOfReferenceUID: one a case, whose images lie in one world."""
        return named_uid(OWN, "frame of reference", self.case)

    @cached_property
    def uid(self) -> str:
        """SeriesInstanceUID.

        Raises:
            BadVolume, NotFound: a file that is gone or unreadable.
        """
        grid, sizes = self.series.grid, [path.stat().st_size for path in self.series.paths]
        looks = repr((grid.shape, grid.affine.round(4).tolist(), len(sizes), sum(sizes)))
        digest = hashlib.sha256(looks.encode()).hexdigest()
        return named_uid(OWN, "series", self.case, self.series.id, str(self.series.channel), digest)

    @cached_property
    def instance_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID of each slice."""
        return tuple(named_uid(OWN, "instance", self.uid, str(k)) for k in range(self.layout.grid.shape[2]))

    @cached_property
    def patient_id(self) -> str:
        """PatientID: the case's name, made to fit."""
        name = " ".join(self.case.replace("\\", " ").split())
        if len(name) <= LONGEST:
            return name
        return f"{name[: LONGEST - 9]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    @cached_property
    def common(self) -> Dataset:
        """What all slices say, without what only the voxels tell."""
        image = Dataset()
        image.SpecificCharacterSet = "ISO_IR 192"
        image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        image.SOPClassUID = MR_IMAGE_STORAGE
        image.DerivationDescription = DERIVATION
        image.PatientID = self.patient_id
        # one group of a name, as a reader of names has it (PS3.5 6.2.1)
        image.PatientName = self.patient_id.translate(NO_PARTS) + "^"
        image.StudyID = ""
        for empty in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "Manufacturer"):
            setattr(image, empty, "")
        for empty in ("PatientBirthDate", "PatientSex", "PatientPosition", "PositionReferenceIndicator"):
            setattr(image, empty, "")
        # which of a pair of organs; nobody says what part of the body it is (PS3.3 C.7.3.1, type 2C)
        image.Laterality = ""
        image.Modality, image.SeriesNumber = "MR", self.number
        image.SeriesDescription = self.description[:LONGEST]
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_uid, self.uid
        image.FrameOfReferenceUID = self.frame_uid
        # research mode, none: what a file in another format does not tell (PS3.3 C.8.3.1)
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "RM", "NONE", ""
        image.MRAcquisitionType, image.RepetitionTime, image.EchoTime, image.EchoTrainLength = (
            "",
            None,
            None,
            None,
        )
        for key, value in _numbers(self.series).items():
            setattr(image, key, value)
        self._describe_grid(image)
        return image

    def _describe_grid(self, image: Dataset) -> None:
        grid = self.layout.grid
        left, _, right = np.linalg.svd(grid.axes)
        along = LPS @ (left @ right)
        image.Columns, image.Rows = grid.shape[:2]
        image.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[0])]
        image.SliceThickness = image.SpacingBetweenSlices = _decimal(grid.spacing[2])
        image.ImageOrientationPatient = [_decimal(part) for part in (*along[:, 0], *along[:, 1])]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15

    def headers(self) -> list[Dataset]:
        """Every slice in the order of the layout, without pixels and what tells of them."""
        return [self._slice(k, self.common) for k in range(len(self.instance_uids))]

    @cached_property
    def attributes(self) -> tuple[Attributes, ...]:
        """The same in the DICOM JSON model."""
        shared = self.common.to_json_dict()
        return tuple(shared | self._own(k).to_json_dict() for k in range(len(self.instance_uids)))

    def described(self, voxels: SixteenBits) -> list[Attributes]:
        """The same with what tells of the pixels."""
        told = _values(voxels).to_json_dict()
        return [{**one, **told} for one in self.attributes]

    def file(self, k: int, voxels: SixteenBits) -> bytes:
        """A slice as a DICOM file.

        Args:
            k: which.
            voxels: (slices, rows, columns).
        """
        image = self._slice(k, self.common)
        image.update(_values(voxels))
        image.PixelData = voxels.array[k].tobytes()
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            image.SOPClassUID,
            image.SOPInstanceUID,
        )
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return dicom_bytes(
            FileDataset(
                "", image, file_meta=meta, preamble=b"\0" * 128, is_little_endian=True, is_implicit_VR=False
            )
        )

    def _slice(self, k: int, common: Dataset) -> Dataset:
        image = Dataset()
        image.update(common)
        image.update(self._own(k))
        return image

    def _own(self, k: int) -> Dataset:
        """What is a slice's alone."""
        own = Dataset()
        own.SOPInstanceUID, own.InstanceNumber = self.instance_uids[k], k + 1
        grid = self.layout.grid
        origin = LPS @ grid.to_world(np.array([0, 0, k]))
        own.ImagePositionPatient = [_decimal(part) for part in origin]
        own.SliceLocation = _decimal(float(LPS @ grid.axes[:, 2] @ origin))
        return own


def _values(voxels: SixteenBits) -> Dataset:
    """What tells how pixels are values, and which of them are shown."""
    image = Dataset()
    image.PixelRepresentation = int(voxels.array.dtype.kind == "i")
    image.RescaleSlope, image.RescaleIntercept = _decimal(voxels.slope), _decimal(voxels.intercept)
    image.RescaleType = "US"  # unspecified
    image.WindowCenter, image.WindowWidth = (_decimal(part) for part in voxels.window)
    return image


def _numbers(series: Series) -> Mapping[str, Any]:
    """What the file beside an image, or its own header, tells of how it was taken."""
    told = {key: series.header.get(key) for key in KNOWN}
    return {
        key: _decimal(float(value))
        for key, value in told.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
    }


def _decimal(value: float) -> DSfloat:
    """The number that a decimal string of 16 characters can tell, as near as one gets (PS3.5 section 6.2)."""
    return DSfloat(format_number_as_ds(float(value)))
