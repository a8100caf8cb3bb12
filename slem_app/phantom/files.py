"""A phantom on disk: as NIfTI in the naming schemes of the public data sets, and as DICOM series as a scanner
sends them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from slem_app.errors import BadSetting
from slem_app.phantom.body import BodyPhantom
from slem_app.phantom.head import SEQUENCES, Phantom
from slem_app.types import Grid

__all__ = ["stored_as", "study_of", "write_dicom", "write_nifti", "write_series"]

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
# slope and intercept, unlike on purpose; the others' are 1 and 0
RESCALE = {"t1c": (0.5, -10.0), "t2f": (0.25, 0.0), "t2": (0.5, 0.0)}

NIFTI_NAMES = {  # layout -> file name of each sequence and of the labels, values of the labels
    "brats2018": (
        dict(zip(SEQUENCES, ("{id}_t1", "{id}_t1ce", "{id}_t2", "{id}_flair"))),
        "{id}_seg",
        (0, 1, 2, 4),
    ),
    "brats2023": ({name: "{id}-" + name for name in SEQUENCES}, "{id}-seg", (0, 1, 2, 3)),
    "nifti": (
        {name: name for name in (*SEQUENCES, "t1_in", "t1_out", "adc", "dwi")} | {"t2": "t2_spir"},
        "seg",
        tuple(range(256)),
    ),
}

SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SP", "RepetitionTime": 550, "EchoTime": 9}
TURBO = {"ScanningSequence": "SE", "SequenceVariant": "SK", "RepetitionTime": 5200, "EchoTime": 98}
GRADIENT = {"ScanningSequence": "GR", "SequenceVariant": "SS", "RepetitionTime": 120}
PLANAR = {"ScanningSequence": "EP", "SequenceVariant": "SK", "RepetitionTime": 4000, "EchoTime": 65}
CONTRAST_AGENT = {"ContrastBolusAgent": "Gadobutrol", "ContrastBolusRoute": "INTRAVENOUS"}
# what a scanner would write, the plane before the description; times in ms
SERIES: dict[str, dict[str, Any]] = {
    "t1n": {"SeriesDescription": "T1 SE", "ProtocolName": "T1 SE", **SPIN_ECHO},
    "t1c": {"SeriesDescription": "T1 SE POST GAD", "ProtocolName": "T1 SE", **SPIN_ECHO, **CONTRAST_AGENT},
    "t2w": {"SeriesDescription": "T2 TSE", "ProtocolName": "T2 TSE", **TURBO},
    "t2f": {
        "SeriesDescription": "T2 FLAIR",
        "ProtocolName": "FLAIR",
        **TURBO,
        "ScanningSequence": ["SE", "IR"],
        "RepetitionTime": 9000,
        "EchoTime": 120,
        "InversionTime": 2500,
    },
    "t1_in": {
        "SeriesDescription": "T1 DUAL IN PHASE",
        "ProtocolName": "T1 DUAL",
        **GRADIENT,
        "EchoTime": 4.6,
    },
    "t1_out": {
        "SeriesDescription": "T1 DUAL OUT PHASE",
        "ProtocolName": "T1 DUAL",
        **GRADIENT,
        "EchoTime": 2.3,
    },
    "t2": {
        "SeriesDescription": "T2 SPIR",
        "ProtocolName": "T2 SPIR",
        **TURBO,
        "ScanOptions": "FS",
        "EchoTime": 70,
        "RepetitionTime": 1600,
    },
    "adc": {
        "SeriesDescription": "ADC",
        "ProtocolName": "DWI",
        **PLANAR,
        "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
    },
    "dwi": {
        "SeriesDescription": "DWI b1400",
        "ProtocolName": "DWI",
        **PLANAR,
        "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW"],
    },
}
# side that the slices run to -> plane
PLANE = {"S": "AX", "I": "AX", "A": "COR", "P": "COR", "R": "SAG", "L": "SAG"}
EXTRAS = {  # series of the same examination that no model should read
    "localizer": {
        "SeriesDescription": "3-plane localizer",
        "ProtocolName": "localizer",
        **SPIN_ECHO,
        "ScanningSequence": "GR",
        "EchoTime": 3,
        "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    },
    "adc": {
        "SeriesDescription": "ep2d_diff_ADC",
        "ProtocolName": "ep2d_diff",
        **TURBO,
        "ScanningSequence": "EP",
        "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
    },
}


def write_nifti(
    phantom: Phantom | BodyPhantom, folder: Path, case_id: str, layout: str = "brats2023", labels: bool = True
) -> Path:
    """Write one case as FOLDER/CASE_ID/*.nii.gz, int16 images and uint8 labels.

    Args:
        phantom: the case.
        folder: of the cases; made if missing.
        case_id: name of the case's folder.
        layout: 'brats2018' (labels 1 2 4), 'brats2023' (1 2 3) or 'nifti' (t1n.nii.gz ..., seg.nii.gz), the
            only one for bodies.
        labels: write the truth too.

    Returns:
        The case's folder.

    Raises:
        BadSetting: unknown layout.
    """
    if layout not in NIFTI_NAMES:
        raise BadSetting(f"unknown phantom layout {layout!r}: choose one of {', '.join(NIFTI_NAMES)}")
    names, truth, values = NIFTI_NAMES[layout]
    if unknown := set(phantom.images) - set(names):
        raise BadSetting(
            f"layout {layout!r} has no names for {', '.join(sorted(unknown))}: use layout 'nifti'"
        )
    case = Path(folder) / case_id
    case.mkdir(parents=True, exist_ok=True)
    for sequence, image in phantom.images.items():
        _save(
            np.round(image).astype(np.int16),
            phantom.grids[sequence],
            case / f"{names[sequence].format(id=case_id)}.nii.gz",
        )
    if labels:
        _save(
            np.array(values, np.uint8)[phantom.labels],
            phantom.grid,
            case / f"{truth.format(id=case_id)}.nii.gz",
        )
    return case


def _save(array: np.ndarray, grid: Grid, path: Path) -> None:
    image = nibabel.Nifti1Image(array, grid.affine)
    image.set_qform(grid.affine, 1)
    image.set_sform(grid.affine, 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_dicom(phantom: Phantom | BodyPhantom, folder: Path, case_id: str, extras: bool = False) -> Path:
    """Write one case as DICOM: FOLDER/CASE_ID/<number>_<sequence>/IM*.dcm, one MR image a slice.

    Neither file names nor instance numbers of t2f and t1n run along the slice normal: readers must go by
    position.

    Args:
        phantom: the case.
        folder: of the cases; made if missing.
        case_id: folder, patient and study id.
        extras: add a localizer and an ADC map, which are no sequence of a model.

    Returns:
        The case's folder.
    """
    case = Path(folder) / case_id
    study = study_of(phantom, case_id)
    for number, sequence in enumerate(phantom.images, 1):
        stored, fields = stored_as(phantom.images[sequence], sequence)
        grid = phantom.grids[sequence]
        fields["SeriesDescription"] = f"{PLANE[grid.orientation[2]]} {fields['SeriesDescription']}"
        backwards = sequence in ("t2f", "t1n")
        write_series(
            case / f"{number}_{sequence}",
            study,
            (number, sequence),
            fields,
            stored,
            grid,
            backwards=backwards,
        )
    if extras:
        grid = phantom.grid
        image = next(
            phantom.images[name]
            for name in ("t2w", *phantom.images)
            if phantom.grids.get(name) is phantom.grid
        )
        thin, middle = np.round(image).astype(np.uint16), grid.shape[2] // 2
        few = grid.crop((0, 0, middle), (*grid.shape[:2], 3))
        write_series(
            case / "8_localizer",
            study,
            (8, "localizer"),
            EXTRAS["localizer"],
            thin[:, :, middle : middle + 3],
            few,
        )
        write_series(case / "9_adc", study, (9, "adc"), EXTRAS["adc"], thin, grid)
    return case


class Examined(Protocol):
    """What the header of a study tells of the examination."""

    @property
    def seed(self) -> int:
        """What the patient was drawn from."""

    @property
    def examination(self) -> str:
        """Description of the study."""

    @property
    def part(self) -> str:
        """Of the body, as DICOM calls it."""


def study_of(phantom: Examined, case_id: str) -> Dataset:
    """What all images of the examination share."""
    study = Dataset()
    study.SpecificCharacterSet = "ISO_IR 192"
    study.PatientName, study.PatientID = f"Phantom^{case_id}", case_id
    study.PatientBirthDate, study.PatientSex = "19700101", "O"
    study.StudyDate, study.StudyTime, study.StudyID = "20240102", "101500", str(phantom.seed)
    study.StudyDescription, study.AccessionNumber, study.ReferringPhysicianName = phantom.examination, "", ""
    study.StudyInstanceUID = _uid(case_id, "study")
    study.FrameOfReferenceUID, study.PositionReferenceIndicator = _uid(case_id, "frame"), ""
    study.Modality = "MR"
    study.Manufacturer = "SLeM Label"
    study.ManufacturerModelName = "Phantom"
    study.BodyPartExamined = phantom.part
    study.MagneticFieldStrength, study.PatientPosition, study.Laterality = 3, "HFS", ""
    return study


def _uid(*parts: object) -> str:
    return generate_uid(entropy_srcs=["slem phantom", *map(str, parts)])


def stored_as(image: np.ndarray, sequence: str) -> tuple[np.ndarray, dict[str, Any]]:
    """An image as uint16 with the header fields of its series, the rescaling among them."""
    slope, intercept = RESCALE.get(sequence, (1.0, 0.0))
    stored = np.clip(np.round((image - intercept) / slope), 0, 65535).astype(np.uint16)
    return stored, {
        **SERIES[sequence],
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "RescaleType": "US",
    }


def write_series(
    folder: Path,
    study: Dataset,
    series: tuple[int, str],
    fields: dict[str, object],
    stored: np.ndarray,
    grid: Grid,
    file_name: Callable[[int], str] = lambda k: f"IM{(k * 7919) % 10007:05d}.dcm",
    backwards: bool = False,
) -> None:
    """Write (I, J, K) uint16 as one file a K slice; I runs along the columns, J along the rows of each image.

    Args:
        folder: of the files; made if missing.
        study: what all images share.
        series: its number, and the word from which its UIDs are made.
        fields: more header fields.
        stored: the pixels.
        grid: theirs.
        file_name: name of the file of slice k.
        backwards: instance numbers run against the slice axis.
    """
    number, word = series
    folder.mkdir(parents=True, exist_ok=True)
    count = grid.shape[2]
    to_lps = np.diag([-1.0, -1.0, 1.0])
    along = (to_lps @ grid.axes).round(9)
    for k in range(count):
        image = Dataset()
        image.update(study)
        image.ImageType, image.ScanOptions = ["ORIGINAL", "PRIMARY", "M", "ND"], ""
        for key, value in fields.items():
            setattr(image, key, value)
        image.SeriesNumber, image.AcquisitionNumber = number, 1
        image.SeriesInstanceUID = _uid(study.PatientID, "series", word)
        image.SOPClassUID, image.SOPInstanceUID = MR_IMAGE_STORAGE, _uid(study.PatientID, word, k)
        image.InstanceNumber = count - k if backwards else k + 1
        image.MRAcquisitionType, image.EchoTrainLength = "2D", 1
        image.PixelSpacing = [_ds(grid.spacing[1]), _ds(grid.spacing[0])]
        image.SliceThickness = image.SpacingBetweenSlices = _ds(grid.spacing[2])
        image.ImageOrientationPatient = [_ds(v) for v in (*along[:, 0], *along[:, 1])]
        image.ImagePositionPatient = [_ds(v) for v in to_lps @ grid.to_world(np.array([0, 0, k]))]
        _pixels(image, stored[:, :, k].T)
        _save_dicom(image, folder / file_name(k))


def _ds(value: float) -> str:
    """Decimal string of at most 16 characters, PS3.5 section 6.2."""
    return f"{float(value):.10f}"[:16].rstrip("0").rstrip(".")


def _pixels(image: Dataset, plane: np.ndarray) -> None:
    image.Rows, image.Columns = plane.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.WindowCenter, image.WindowWidth = 500, 1000
    image.PixelData = np.ascontiguousarray(plane, "<u2").tobytes()


def _save_dicom(image: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(
        str(path), image, file_meta=meta, preamble=b"\0" * 128, is_little_endian=True, is_implicit_VR=False
    )
    file.save_as(path, write_like_original=False)
