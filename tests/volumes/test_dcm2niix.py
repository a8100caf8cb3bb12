"""NIfTI files that dcm2niix makes of a study are, to a network, what the DICOM files are."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.grouping import group
from slem_app.studies import open_source
from slem_app.volumes.prepare import Preparation, Prepared, prepare
from slem_app.volumes.read import read_all

DCM2NIIX = shutil.which("dcm2niix")
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")

pytestmark = pytest.mark.skipif(DCM2NIIX is None, reason="no dcm2niix: pip install dcm2niix")


def seen(folder: Path) -> tuple[Prepared, dict[str, str]]:
    """The only case of a folder as a network sees it, and why its other series were left out."""
    source = open_source(folder)
    grouping = group(source.study(source.ids()[0]))
    left_out = {one.series.name.rpartition("_")[0] or one.series.name: one.kind for one in grouping.leftovers}
    return prepare(read_all(grouping.sequences), SEQUENCES, Preparation(), None, "t1c"), left_out


def test_converted_files_give_what_the_dicom_files_give(tmp_path: Path) -> None:
    head = phantom.make(seed=3, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5), oblique=True, own_grids=True)
    case = phantom.write_dicom(head, tmp_path / "dicom", "ann", extras=True)
    converted = tmp_path / "nifti" / "ann"
    converted.mkdir(parents=True)
    words = [str(DCM2NIIX), "-z", "y", "-f", "%d_%s", "-o", str(converted), str(case)]
    subprocess.run(words, check=True, capture_output=True)
    (dicom, _), (nifti, left_out) = seen(tmp_path / "dicom"), seen(tmp_path / "nifti")
    assert left_out == {"3-plane_localizer": "derived", "ep2d_diff_ADC": "derived"}
    assert nifti.used == dicom.used == SEQUENCES
    assert nifti.grid.same_as(dicom.grid)
    assert (nifti.warnings, nifti.notes) == (dicom.warnings, dicom.notes)
    # positions are decimal strings in the one and single precision in the other: at the border of the
    # foreground a voxel in a million falls on the other side
    far = np.abs(nifti.images - dicom.images) > 1e-3
    assert far.mean() < 1e-5
