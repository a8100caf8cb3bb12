"""Slices of several planes in one series: told apart, left out, or refused with the reason."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from slem_app.grouping import group
from slem_app.phantom import make, write_dicom
from slem_app.studies import open_source
from tests.studies.dicom_files import SEQUENCES, files_of, folder_of


def planes(folder: Path, sources: list[Path], rows: str, uid: str) -> None:
    """Copies of slices that lie in another plane, under the UID of a series."""
    for number, source in enumerate(sources):
        image = dcmread(source)
        image.ImageOrientationPatient, image.SeriesInstanceUID = rows.split(), uid
        image.ImagePositionPatient = [5 * number, -80, 60] if rows.startswith("0") else [-80, 5 * number, 60]
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SeriesDescription, image.InstanceNumber = (
            dcmread(next(folder.iterdir())).SeriesDescription,
            200 + number,
        )
        image.save_as(folder / f"more_{rows[0]}{number:03d}.dcm")


@pytest.fixture
def thick(tmp_path: Path) -> Path:
    return write_dicom(
        make(seed=1, shape=(12, 14, 14), spacing=(12.0, 12.0, 10.0)), tmp_path / "thick", "patient1"
    )


def test_a_localiser_inside_a_series_is_left_out(thick: Path) -> None:
    before = group(open_source(thick).study("patient1")).sequences["t2w"]
    files = files_of(thick, "t2w")
    planes(folder_of(thick, "t2w"), files[:3], "0 1 0 0 0 -1", str(before.id))
    grouping = group(open_source(thick).study("patient1"))
    assert list(grouping.sequences) == SEQUENCES
    assert grouping.sequences["t2w"].grid.same_as(before.grid)
    [stray] = grouping.leftovers
    assert stray.series.name.endswith("other planes")
    assert len(stray.series.paths) == 3


def test_volumes_of_several_planes_under_one_uid_are_told_apart(thick: Path) -> None:
    folder = folder_of(thick, "t2w")
    files, uid = files_of(thick, "t2w"), str(dcmread(files_of(thick, "t2w")[0]).SeriesInstanceUID)
    planes(folder, files, "1 0 0 0 0 -1", uid)
    parts = [series for series in open_source(thick).study("patient1").series if "T2 TSE" in series.name]
    assert sorted(series.name.rsplit(" ", 1)[1] for series in parts) == ["ax", "cor"]
    assert {series.grid.orientation[2] for series in parts} == {"S", "A"} or {
        series.grid.orientation[2] for series in parts
    } == {"S", "P"}
