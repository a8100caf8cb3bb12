"""A raw study as DICOM, with the habits of several vendors, and with the series that lie beside the four: a
localiser, an ADC map, a subtraction; in a whole examination of twelve series also diffusion, susceptibility,
angiography, proton density and a reformat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from slem_app.errors import BadSetting
from slem_app.phantom.files import EXTRAS, SERIES, study_of, write_series
from slem_app.phantom.raw.study import RawStudy
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Volume

__all__ = ["VENDORS", "Vendor", "write_raw_dicom"]

LOCALISER = (128, 2.0, 3)  # pixels and their mm, slices in each plane
ADC_SHRINK = 2  # pixels of the T2 that are one of the ADC map


@dataclass(frozen=True)
class Vendor:
    """How a vendor's scanners write."""

    manufacturer: str
    """As the header has it."""
    names: Mapping[str, str]
    """Sequence -> description of the series."""
    adc: str
    """Description of the ADC map."""
    subtraction: str
    """Description of T1 after contrast less before."""
    others: tuple[str, str, str, str, str]
    """Descriptions of what else a whole examination has: of `OTHERS`, in their order."""
    slope: float
    """RescaleSlope of all series; 1: there is no rescaling."""
    backwards: bool
    """Instance numbers run against the slices."""


VENDORS: Mapping[str, Vendor] = {
    "siemens": Vendor(
        "SIEMENS",
        {"t1n": "t1_se_tra", "t1c": "t1_se_tra_KM", "t2w": "t2_tse_tra", "t2f": "t2_tirm_tra_dark-fluid"},
        "ep2d_diff_3scan_trace_ADC",
        "t1_se_tra_SUB",
        ("ep2d_diff_3scan_trace_TRACEW", "SWI_Images", "TOF_3D_multi-slab", "pd_tse_tra", "t1_se_KM_MPR_sag"),
        1.0,
        False,
    ),
    "ge": Vendor(
        "GE MEDICAL SYSTEMS",
        {"t1n": "AX T1 SE", "t1c": "AX T1 SE POST GAD", "t2w": "AX T2 FSE", "t2f": "AX T2 FLAIR"},
        "Apparent Diffusion Coefficient (mm2/s)",
        "AX T1 SUBTRACTION",
        ("AX DWI B1000", "AX SWAN", "3D TOF MRA", "AX PD FSE", "SAG T1 POST REFORMAT"),
        1.0,
        True,
    ),
    "philips": Vendor(
        "Philips Medical Systems",
        {"t1n": "T1W_SE_TRA", "t1c": "T1W_SE_TRA_Gd", "t2w": "T2W_TSE_TRA", "t2f": "FLAIR_longTR_TRA"},
        "dADC",
        "sT1W_SE_TRA_subtracted",
        ("DWI_SSh", "SWIp", "s3DI_MC_HR", "PDW_TSE_TRA", "T1W_Gd MPR SAG"),
        1.75,
        False,
    ),
}
"""By name."""

OTHERS: Mapping[str, tuple[str, float, dict[str, Any]]] = {
    "dwi": ("t2f", 0.4, {**SERIES["dwi"], "DiffusionBValue": 1000.0}),
    "swi": (
        "t2w",
        -0.3,
        {"ScanningSequence": "GR", "SequenceVariant": "SP", "RepetitionTime": 28, "EchoTime": 20},
    ),
    "tof": (
        "t1c",
        0.3,
        {"ScanningSequence": "GR", "SequenceVariant": "SP", "RepetitionTime": 22, "EchoTime": 3.5},
    ),
    "pd": ("t2w", 0.3, {"ScanningSequence": "SE", "RepetitionTime": 2600, "EchoTime": 15}),
    "reformat": ("t1c", 1.0, {**SERIES["t1c"], "ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
}
"""What else a whole examination has: of which sequence's image it is made, the exponent of its intensities
(under 0: dark becomes bright), and its header. They only look as if: no model reads them.
"""


def write_raw_dicom(
    study: RawStudy, folder: Path, case: str, vendor: str = "siemens", whole: bool = False
) -> Path:
    """Write FOLDER/CASE/<number>/IM*.dcm: the sequences, and beside them series that no model should read.

    Args:
        study: the study.
        folder: of the cases; made if missing.
        case: folder, patient and study id.
        vendor: in `VENDORS`.
        whole: add what else an examination has: of all four sequences twelve series are made.

    Returns:
        The case's folder.

    Raises:
        BadSetting: an unknown vendor.
    """
    if vendor not in VENDORS:
        raise BadSetting(f"no vendor {vendor!r} is known here: use {', '.join(VENDORS)}")
    habits, place = VENDORS[vendor], Path(folder) / case
    shared = study_of(study, case)
    shared.Manufacturer, shared.ManufacturerModelName = habits.manufacturer, "simulated"
    number = 1
    _localiser(study, place / f"{number}", shared, habits)
    for name, image in study.images.items():
        number += 1
        fields = {**SERIES[name], "SeriesDescription": habits.names[name], "ProtocolName": habits.names[name]}
        _series(place / f"{number}", shared, (number, name), fields, image, habits)
    if "t2w" in study.images:
        number += 1
        fields = {**EXTRAS["adc"], "SeriesDescription": habits.adc, "ProtocolName": habits.adc}
        _series(place / f"{number}", shared, (number, "adc"), fields, _adc(study.images["t2w"]), habits)
    if {"t1n", "t1c"} <= set(study.images):
        number += 1
        fields = {
            **SERIES["t1c"],
            "SeriesDescription": habits.subtraction,
            "ProtocolName": habits.subtraction,
            "ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"],
        }
        _series(place / f"{number}", shared, (number, "subtraction"), fields, _difference(study), habits)
    if whole:
        for (word, (source, power, fields)), name in zip(OTHERS.items(), habits.others, strict=True):
            if source not in study.images:
                continue
            number += 1
            image = _other(study.images[source], power, sideways=word == "reformat")
            named = {**fields, "SeriesDescription": name, "ProtocolName": name}
            _series(place / f"{number}", shared, (number, word), named, image, habits)
    return place


def _other(image: Volume, power: float, sideways: bool) -> Volume:
    """An image with other contrast, or cut along another plane."""
    if sideways:
        affine = image.grid.affine[:, [2, 1, 0, 3]]  # the same voxels, slices across the first axis
        array = image.array.transpose(2, 1, 0)
        return Volume(array, Grid(triple(array.shape), affine))
    high = max(float(np.percentile(image.array, 99)), 1.0)
    share = np.clip(image.array / high, 0.02, 1.0)
    return Volume((high * share**power).clip(0, 4 * high).astype(np.float32), image.grid)


def _series(
    folder: Path,
    shared: Dataset,
    series: tuple[int, str],
    fields: Mapping[str, Any],
    image: Volume,
    habits: Vendor,
) -> None:
    """One series, slices along K."""
    stored = np.clip(np.rint(image.array / habits.slope), 0, 65535).astype(np.uint16)
    scaled = {"RescaleSlope": habits.slope, "RescaleIntercept": 0.0, "RescaleType": "normalized"}
    more = {**fields, **(scaled if habits.slope != 1 else {})}
    write_series(folder, shared, series, more, stored, image.grid, backwards=habits.backwards)


def _localiser(study: RawStudy, folder: Path, shared: Dataset, habits: Vendor) -> None:
    """Few coarse slices in each of three planes, in one series."""
    image = next(iter(study.images.values()))
    pixels, step, count = LOCALISER
    middle = image.grid.to_world((np.array(image.grid.shape) - 1) / 2)
    for plane, (first, second, across) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        affine = np.zeros((4, 4))
        for column, (axis, mm) in enumerate(((first, step), (second, step), (across, 15.0))):
            affine[axis, column] = mm
        affine[3, 3] = 1.0
        half = (np.array([pixels, pixels, count]) - 1) / 2
        affine[:3, 3] = middle - affine[:3, :3] @ half
        grid = Grid((pixels, pixels, count), affine)
        cut = Volume(resample(image.array, image.grid, grid, order=1), grid)
        stored = np.clip(np.rint(cut.array), 0, 65535).astype(np.uint16)
        write_series(
            folder,
            shared,
            (1, "localiser"),
            EXTRAS["localizer"],
            stored,
            grid,
            partial("IM{}{:03d}.dcm".format, plane),
        )


def _adc(image: Volume) -> Volume:
    """Something that looks like an ADC map: bright where T2 is, on coarse pixels."""
    grid, few = image.grid, ADC_SHRINK
    shape = triple((grid.shape[0] // few, grid.shape[1] // few, grid.shape[2]))
    affine = grid.affine @ np.diag([few, few, 1.0, 1.0])
    affine[:3, 3] += grid.affine[:3, :3] @ [(few - 1) / 2, (few - 1) / 2, 0]
    target = Grid(shape, affine)
    return Volume(resample(image.array, grid, target, order=1), target)


def _difference(study: RawStudy) -> Volume:
    """T1 after contrast less T1 before, as the console does it: by the headers, without registration."""
    after, before = study.images["t1c"], study.images["t1n"]
    there = resample(before.array, before.grid, after.grid, order=1)
    level = np.median(after.array[after.array > 0]) / max(float(np.median(there[there > 0])), 1e-3)
    return Volume(np.maximum(after.array - np.float32(level) * there, 0), after.grid)
