"""A phantom on disk: as NIfTI in the naming schemes of the public data sets, and as DICOM series as a scanner sends them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from slem_app.errors import BadSetting
from slem_app.phantom.head import SEQUENCES, Phantom
from slem_app.types import Grid

__all__ = ["write_dicom", "write_nifti"]

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
RESCALE = {"t1n": (1.0, 0.0), "t1c": (0.5, -10.0), "t2w": (1.0, 0.0), "t2f": (0.25, 0.0)}  # slope and intercept, unlike on purpose

NIFTI_NAMES = {  # layout -> file name of each sequence and of the labels, values of the labels
    "brats2018": (dict(zip(SEQUENCES, ("{id}_t1", "{id}_t1ce", "{id}_t2", "{id}_flair"))), "{id}_seg", (0, 1, 2, 4)),
    "brats2023": ({name: "{id}-" + name for name in SEQUENCES}, "{id}-seg", (0, 1, 2, 3)),
    "nifti": ({name: name for name in SEQUENCES}, "seg", (0, 1, 2, 3)),
}

SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SP", "RepetitionTime": 550, "EchoTime": 9}
TURBO = {"ScanningSequence": "SE", "SequenceVariant": "SK", "RepetitionTime": 5200, "EchoTime": 98}
CONTRAST_AGENT = {"ContrastBolusAgent": "Gadobutrol", "ContrastBolusRoute": "INTRAVENOUS"}
SERIES = {  # what a scanner would write, the plane before the description; times in ms
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
}
PLANE = {"S": "AX", "I": "AX", "A": "COR", "P": "COR", "R": "SAG", "L": "SAG"}  # side that the slices run to -> plane
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


def write_nifti(phantom: Phantom, folder: Path, case_id: str, layout: str = "brats2023", labels: bool = True) -> Path:
    """Write one case as FOLDER/CASE_ID/*.nii.gz, int16 images and uint8 labels.

    Args:
        phantom: the case.
        folder: of the cases; made if missing.
        case_id: name of the case's folder.
        layout: 'brats2018' (labels 1 2 4), 'brats2023' (1 2 3) or 'nifti' (t1n.nii.gz ..., seg.nii.gz).
        labels: write the truth too.

    Returns:
        The case's folder.

    Raises:
        BadSetting: unknown layout.
    """
    if layout not in NIFTI_NAMES:
        raise BadSetting(f"unknown phantom layout {layout!r}: choose one of {', '.join(NIFTI_NAMES)}")
    names, truth, values = NIFTI_NAMES[layout]
    case = Path(folder) / case_id
    case.mkdir(parents=True, exist_ok=True)
    for sequence, image in phantom.images.items():
        _save(np.round(image).astype(np.int16), phantom.grids[sequence], case / f"{names[sequence].format(id=case_id)}.nii.gz")
    if labels:
        _save(np.array(values, np.uint8)[phantom.labels], phantom.grid, case / f"{truth.format(id=case_id)}.nii.gz")
    return case


def _save(array: np.ndarray, grid: Grid, path: Path) -> None:
    image = nibabel.Nifti1Image(array, grid.affine)
    image.set_qform(grid.affine, 1)
    image.set_sform(grid.affine, 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_dicom(phantom: Phantom, folder: Path, case_id: str, extras: bool = False) -> Path:
    """Write one case as DICOM: FOLDER/CASE_ID/<number>_<sequence>/IM*.dcm, one MR image a slice.

    Neither file names nor instance numbers of t2f and t1n run along the slice normal: readers must go by position.

    Args:
        phantom: the case.
        folder: of the cases; made if missing.
        case_id: folder, patient and study id.
        extras: add a localizer and an ADC map, which are no sequence of a model.

    Returns:
        The case's folder.
    """
    case = Path(folder) / case_id
    study = _study(phantom, case_id)
    for number, sequence in enumerate(phantom.images, 1):
        slope, intercept = RESCALE[sequence]
        stored = np.clip(np.round((phantom.images[sequence] - intercept) / slope), 0, 65535).astype(np.uint16)
        grid = phantom.grids[sequence]
        fields = {**SERIES[sequence], "RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
        fields["SeriesDescription"] = f"{PLANE[grid.orientation[2]]} {fields['SeriesDescription']}"
        _write_series(case, study, (number, sequence), fields, stored, grid)
    if extras:
        grid, image = phantom.grid, phantom.images["t2w"] if phantom.grids["t2w"] is phantom.grid else phantom.images["t1c"]
        thin, middle = np.round(image).astype(np.uint16), grid.shape[2] // 2
        few = grid.crop((0, 0, middle), (*grid.shape[:2], 3))
        _write_series(case, study, (8, "localizer"), EXTRAS["localizer"], thin[:, :, middle : middle + 3], few)
        _write_series(case, study, (9, "adc"), EXTRAS["adc"], thin, grid)
    return case


def _study(phantom: Phantom, case_id: str) -> Dataset:
    """What all images of the examination share."""
    study = Dataset()
    study.SpecificCharacterSet = "ISO_IR 192"
    study.PatientName, study.PatientID = f"Phantom^{case_id}", case_id
    study.PatientBirthDate, study.PatientSex = "19700101", "O"
    study.StudyDate, study.StudyTime, study.StudyID = "20240102", "101500", str(phantom.head.seed)
    study.StudyDescription, study.AccessionNumber, study.ReferringPhysicianName = "MR BRAIN WITH AND WITHOUT CONTRAST", "", ""
    study.StudyInstanceUID = _uid(case_id, "study")
    study.FrameOfReferenceUID, study.PositionReferenceIndicator = _uid(case_id, "frame"), ""
    study.Modality, study.Manufacturer, study.ManufacturerModelName, study.BodyPartExamined = "MR", "SLeM Label", "Phantom", "BRAIN"
    study.MagneticFieldStrength, study.PatientPosition, study.Laterality = 3, "HFS", ""
    return study


def _uid(*parts: object) -> str:
    return generate_uid(entropy_srcs=["slem phantom", *map(str, parts)])


def _write_series(case: Path, study: Dataset, name: tuple[int, str], fields: dict[str, object], stored: np.ndarray, grid: Grid) -> None:
    """Write (I, J, K) uint16 as one file a K slice; I runs along the columns, J along the rows of each image."""
    number, word = name
    folder = case / f"{number}_{word}"
    folder.mkdir(parents=True, exist_ok=True)
    count = grid.shape[2]
    to_lps = np.diag([-1.0, -1.0, 1.0])
    along = (to_lps @ grid.axes).round(9)
    for k in range(count):
        image = Dataset()
        image.update(study)
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        for key, value in fields.items():
            setattr(image, key, value)
        image.SeriesNumber, image.AcquisitionNumber = number, 1
        image.SeriesInstanceUID = _uid(study.PatientID, "series", word)
        image.SOPClassUID, image.SOPInstanceUID = MR_IMAGE_STORAGE, _uid(study.PatientID, word, k)
        image.InstanceNumber = count - k if word in ("t2f", "t1n") else k + 1
        image.MRAcquisitionType, image.ScanOptions, image.EchoTrainLength = "2D", "", 1
        image.PixelSpacing = [_ds(grid.spacing[1]), _ds(grid.spacing[0])]
        image.SliceThickness = image.SpacingBetweenSlices = _ds(grid.spacing[2])
        image.ImageOrientationPatient = [_ds(v) for v in (*along[:, 0], *along[:, 1])]
        image.ImagePositionPatient = [_ds(v) for v in to_lps @ grid.to_world(np.array([0, 0, k]))]
        _pixels(image, stored[:, :, k].T)
        _save_dicom(image, folder / f"IM{(k * 7919) % 10007:05d}.dcm")


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
    file = FileDataset(str(path), image, file_meta=meta, preamble=b"\0" * 128, is_little_endian=True, is_implicit_VR=False)
    file.save_as(path, write_like_original=False)
