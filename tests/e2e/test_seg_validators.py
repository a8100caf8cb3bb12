"""DICOM results under other people's eyes: dciodvfy (dicom3tools) finds no error, dcmqi reads the same
voxels, names and colours.

Needs `dciodvfy` (Debian and Ubuntu: dicom3tools) and `segimage2itkimage` (dcmqi in .venv-slicer, made by
`make e2e`).
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from slem_app import phantom
from slem_app.formats.labelfile import place
from slem_app.formats.provenance import Provenance
from slem_app.formats.rtstruct import write_rtstruct
from slem_app.formats.seg import write_seg
from slem_app.studies import Series, open_source
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

PROJECT = Path(__file__).parents[2]
DCIODVFY = shutil.which("dciodvfy")
PLACES = (str(PROJECT / ".venv-slicer" / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", ""))
DCMQI = shutil.which("segimage2itkimage", path=os.pathsep.join(PLACES))
AUTOMATIC = Provenance("AUTOMATIC", "slem_brain", "1.2", creator="Müller^Eva")
KINDS = {  # the labels that are there, and how they came about
    "all, automatic": ((1, 2, 3), AUTOMATIC),
    "one absent, corrected": ((2, 3), Provenance("SEMIAUTOMATIC", "slem_brain", "1.2")),
    "empty, manual": ((), Provenance("MANUAL", creator="reader")),
}

pytestmark = pytest.mark.e2e
validated = pytest.mark.skipif(DCIODVFY is None, reason="no dciodvfy: apt-get install dicom3tools")
converted = pytest.mark.skipif(
    DCMQI is None, reason="no segimage2itkimage of dcmqi: `make e2e` installs it into .venv-slicer"
)


@dataclasses.dataclass(frozen=True)
class Case:
    array: np.ndarray
    grid: Grid
    series: Series


@pytest.fixture(scope="module", params=["axial-oblique", "reversed", "sagittal", "coronal"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    # odd: frames end inside a byte
    whole = phantom.make(
        seed=5, shape=(37, 45, 30), spacing=(1.25, 1.0, 1.5), oblique=request.param == "axial-oblique"
    )
    code = {"reversed": "LPI", "sagittal": "PIL", "coronal": "LIP"}.get(request.param)
    made = phantom.reorient_phantom(whole, code) if code else whole
    folder = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(dataclasses.replace(made, images={"t2f": made.images["t2f"]}), folder, "case")
    return Case(made.labels, made.grid, open_source(folder).study("case").series[0])


def errors_of(path: Path) -> list[str]:
    told = subprocess.run([DCIODVFY, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert Path(path).is_file()
    assert any(iod in told.stderr for iod in ("Segmentation", "RTStructureSet")), (
        f"dciodvfy did not know what {path.name} is: {told.stderr}"
    )
    return [line for line in told.stderr.splitlines() if line.startswith("Error")]


@validated
@pytest.mark.parametrize(("kept", "provenance"), KINDS.values(), ids=KINDS)
def test_dciodvfy_finds_no_error_in_a_segmentation(
    case: Case, tmp_path: Path, kept: tuple[int, ...], provenance: Provenance
) -> None:
    array = np.where(np.isin(case.array, kept), case.array, 0).astype(np.uint8)
    assert (
        errors_of(write_seg(array, case.grid, BRAIN_LABELS, case.series, provenance, tmp_path / "a.dcm"))
        == []
    )


@validated
def test_dciodvfy_would_find_one(case: Case, tmp_path: Path) -> None:
    path = write_seg(case.array, case.grid, BRAIN_LABELS, case.series, AUTOMATIC, tmp_path / "a.dcm")
    broken = dcmread(path)
    del broken.SegmentSequence[1].SegmentLabel
    broken.save_as(path)
    assert any("SegmentLabel" in line for line in errors_of(path))


@validated
@pytest.mark.parametrize(("kept", "provenance"), KINDS.values(), ids=KINDS)
def test_dciodvfy_finds_no_error_in_a_structure_set(
    case: Case, tmp_path: Path, kept: tuple[int, ...], provenance: Provenance
) -> None:
    array = np.where(np.isin(case.array, kept), case.array, 0).astype(np.uint8)
    assert (
        errors_of(write_rtstruct(array, case.grid, BRAIN_LABELS, case.series, provenance, tmp_path / "a.dcm"))
        == []
    )


@converted
@pytest.mark.parametrize(("kept", "provenance"), KINDS.values(), ids=KINDS)
def test_dcmqi_reads_the_same_voxels_names_and_colours(
    case: Case, tmp_path: Path, kept: tuple[int, ...], provenance: Provenance
) -> None:
    array = np.where(np.isin(case.array, kept), case.array, 0).astype(np.uint8)
    path = write_seg(array, case.grid, BRAIN_LABELS, case.series, provenance, tmp_path / "a.dcm")
    command = [
        DCMQI,
        "--inputDICOM",
        path,
        "--outputDirectory",
        tmp_path,
        "--outputType",
        "nii",
        "--mergeSegments",
    ]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    image = nibabel.load(tmp_path / "1.nii.gz")
    values = np.asarray(image.dataobj).astype(np.uint8)
    np.testing.assert_array_equal(
        place(values, Grid(values.shape, image.affine), case.grid, "dcmqi's"), array
    )
    segments = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"][0]
    for one, label in zip(segments, BRAIN_LABELS.labels, strict=True):
        assert (one["labelID"], one["SegmentLabel"], tuple(one["recommendedDisplayRGBValue"])) == (
            label.value,
            label.name,
            label.color,
        )
        assert one["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == label.type.value
        assert one["SegmentAlgorithmType"] == provenance.kind
