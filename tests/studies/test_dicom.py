import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from slem_app.errors import BadGrid, BadVolume, NotFound
from slem_app.grouping import group
from slem_app.phantom import Phantom, make, write_dicom
from slem_app.studies import Series, dicom_slices, open_source
from slem_app.studies.dicom import _names
from slem_app.studies.dicom_header import probe
from slem_app.types import Grid
from slem_app.volumes.read import read
from tests.studies.dicom_files import SEQUENCES, files_of, folder_of


def edit(paths: list[Path], change: Callable[[Dataset, int], object]) -> None:
    """Rewrite DICOM files; `change` gets each data set and its number."""
    for number, path in enumerate(
        sorted(paths, key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    ):
        dataset = dcmread(path)
        change(dataset, number)
        dcmwrite(path, dataset)


def corners(grid: Grid) -> np.ndarray:
    """World positions of the corners, sorted."""
    found = grid.corners().round(3) + 0.0
    return found[np.lexsort(found.T)]


@pytest.fixture
def case(phantom: Phantom, tmp_path: Path) -> Path:
    return write_dicom(phantom, tmp_path / "studies", "patient1")


def test_groups_a_study_and_leaves_out_what_is_no_sequence(phantom: Phantom, tmp_path: Path) -> None:
    write_dicom(phantom, tmp_path, "patient1", extras=True)
    source = open_source(tmp_path)
    assert source.layout == "dicom"
    assert source.ids() == ("patient1",)
    grouping = group(source.study("patient1"))
    assert list(grouping.sequences) == SEQUENCES
    assert sorted(one.reason.split(":")[0] for one in grouping.leftovers) == ["a localiser", "an ADC map"]
    assert {series.header["Modality"] for series in grouping.sequences.values()} == {"MR"}


@pytest.mark.parametrize("oblique", [False, True])
def test_the_grid_is_that_of_the_volume_that_was_written(tmp_path: Path, oblique: bool) -> None:
    phantom = make(seed=2, shape=(16, 18, 12), spacing=(9.0, 9.0, 12.0), oblique=oblique, own_grids=True)
    write_dicom(phantom, tmp_path, "p")
    sequences = group(open_source(tmp_path).study("p")).sequences
    for name, series in sequences.items():
        # K may run the other way
        np.testing.assert_allclose(corners(series.grid), corners(phantom.grids[name]), atol=1e-3)
        assert [path for path, _ in series.frames] == list(series.paths)
        # as from a list of files in any order
        fresh = Series(series.id, series.paths[::-1], "dicom", series.name)
        assert fresh.grid.same_as(series.grid)


def test_files_of_all_studies_may_lie_in_one_folder(phantom: Phantom, tmp_path: Path) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for name in ("p1", "p2"):
        for path in write_dicom(phantom, tmp_path / "source", name).rglob("*.dcm"):
            shutil.copy(
                path, heap / f"{name}{path.parent.name}{path.name}".replace(".dcm", "").replace("_", "")
            )
    (heap / "notes.txt").write_text("no image")
    (heap / "viewer").write_bytes(b"\0" * 500)
    source = open_source(heap)
    assert len(source) == 2
    # nothing but the UID tells them apart
    assert all(id.startswith("2.25.") or id[0].isdigit() for id in source.ids())
    for study in source:
        assert list(group(study).sequences) == SEQUENCES


def test_a_study_that_probing_missed_appears_once_its_neighbour_was_opened(
    phantom: Phantom, tmp_path: Path
) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for k, path in enumerate(sorted(write_dicom(phantom, tmp_path / "a", "a").rglob("*.dcm"))):
        shutil.copy(path, heap / f"{k:04d}")
    strays = sorted(folder_of(write_dicom(phantom, tmp_path / "b", "b"), "t2w").iterdir())
    shutil.copy(strays[0], heap / "0001b")
    source = open_source(heap)
    assert len(source) == 1
    assert list(group(source.study(source.ids()[0])).sequences) == SEQUENCES
    assert len(source) == 2


def test_two_studies_of_one_patient_are_two_cases(phantom: Phantom, tmp_path: Path) -> None:
    write_dicom(phantom, tmp_path / "anna", "before")
    write_dicom(phantom, tmp_path / "anna", "after")
    write_dicom(phantom, tmp_path, "bert")
    source = open_source(tmp_path)
    assert source.ids() == ("anna_after", "anna_before", "bert")
    uid = str(source.study("bert").series[0].header["StudyInstanceUID"])
    assert source.study(uid).id == "bert"
    with pytest.raises(NotFound, match="no case 'anna'"):
        source.study("anna")


def test_the_folder_of_one_study_opens_as_one_case(case: Path) -> None:
    assert open_source(case).ids() == ("patient1",)
    assert open_source(case.parent).ids() == ("patient1",)


def test_slices_of_one_series_spread_over_folders_stay_together(case: Path) -> None:
    files = files_of(case, "t2w")
    for k, path in enumerate(files):
        target = case / f"disc{k // 4}" / f"{k:03d}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    series = group(open_source(case).study("patient1")).sequences["t2w"]
    assert series.grid.shape[2] == len(files)


def test_second_copies_of_files_are_passed_over(case: Path) -> None:
    shutil.copytree(folder_of(case, "t2w"), case / "copy of t2w")
    grouping = group(open_source(case).study("patient1"))
    assert list(grouping.sequences) == SEQUENCES
    assert not grouping.leftovers


def test_images_that_share_a_uid_are_split_by_folder(case: Path) -> None:
    # as CHAOS does: in- and out-phase have the same series and instance UIDs
    (case / "T1DUAL").mkdir()
    for name, brightness in (("InPhase", 1), ("OutPhase", 2)):
        shutil.copytree(folder_of(case, "t1n"), case / "T1DUAL" / name)

        def change(dataset: Dataset, number: int, brightness: int = brightness) -> None:
            dataset.SeriesDescription = dataset.ProtocolName = "T1-DUAL"
            dataset.PixelData = (dataset.pixel_array * brightness).astype("<u2").tobytes()

        edit(list((case / "T1DUAL" / name).iterdir()), change)
    shutil.rmtree(folder_of(case, "t1n"))
    sequences = group(open_source(case).study("patient1")).sequences
    assert list(sequences) == ["t1c", "t2w", "t2f", "t1_in", "t1_out"]
    assert sequences["t1_in"].id.endswith("_InPhase")
    assert sequences["t1_in"].grid.same_as(sequences["t1_out"].grid)


@pytest.mark.parametrize(
    ("field", "values"),
    [("EchoTime", (2.3, 4.6)), ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]))],
)
def test_images_that_share_a_uid_are_split_by_what_differs(case: Path, field: str, values: tuple) -> None:
    folder = folder_of(case, "t1n")
    shutil.copytree(folder, case / "second")
    for where, value in zip((folder, case / "second"), values):

        def change(dataset: Dataset, number: int, value: object = value) -> None:
            setattr(dataset, field, value)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()

        edit(list(where.iterdir()), change)
    for path in (case / "second").iterdir():
        path.rename(folder / f"second_{path.name}")
    (case / "second").rmdir()
    study = open_source(case).study("patient1")
    parts = [
        series for series in study.series if series.name.startswith("AX T1 SE") and "POST" not in series.name
    ]
    assert len(parts) == 2
    assert len({series.id for series in parts}) == 2
    assert {len(series.paths) for series in parts} == {10}
    assert all(series.grid.shape[2] == 10 for series in parts)


def test_reports_a_missing_slice(case: Path) -> None:
    by_place = sorted(files_of(case, "t2w"), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    by_place[5].unlink()
    series = group(open_source(case).study("patient1")).sequences["t2w"]
    with pytest.raises(
        BadVolume,
        match=(
            r"'AX T2 TSE' .* misses slices: 28.00 mm from slice 5 to 6 of 9 where 14.00 mm is usual. "
            r"Export it again"
        ),
    ):
        _ = series.grid


def test_reports_a_truncated_file(case: Path) -> None:
    path = files_of(case, "t2w")[3]
    path.write_bytes(path.read_bytes()[:-100])
    series = group(open_source(case).study("patient1")).sequences["t2w"]
    with pytest.raises(
        BadVolume,
        match=f"{path.name} is truncated: 240 bytes of pixels where 336 are promised. Export it again",
    ):
        _ = series.grid


def test_a_file_cut_in_its_header_leaves_a_gap_that_is_reported(case: Path) -> None:
    path = sorted(files_of(case, "t2w"), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))[7]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadVolume, match="misses slices"):
        _ = group(open_source(case).study("patient1")).sequences["t2w"].grid


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda dataset, number: delattr(dataset, "ImagePositionPatient"),
            "a file without ImagePositionPatient, .*a screenshot",
        ),
        (
            lambda dataset, number: setattr(dataset, "PixelSpacing", [1 + number % 2, 1]),
            "is not one volume: its slices differ in PixelSpacing",
        ),
        (
            lambda dataset, number: setattr(dataset, "ImagePositionPatient", [0, 0, number // 2]),
            "holds 5 slices twice in one place",
        ),
    ],
)
def test_refuses_slices_that_make_no_volume(
    case: Path, change: Callable[[Dataset, int], object], message: str
) -> None:
    edit(files_of(case, "t2w"), change)
    series = next(
        series for series in open_source(case).study("patient1").series if series.name.startswith("AX T2 TSE")
    )
    with pytest.raises(BadVolume, match=message):
        _ = series.grid


def test_a_tilted_gantry_is_refused_with_its_reason(case: Path) -> None:
    edit(
        files_of(case, "t2w"),
        lambda dataset, number: setattr(dataset, "ImagePositionPatient", [0, 4 * number, 14 * number]),
    )
    series = group(open_source(case).study("patient1")).sequences["t2w"]
    with pytest.raises(BadGrid, match="its axes are sheared .*gantry tilt"):
        read(series)


def test_a_single_slice_takes_its_thickness(case: Path) -> None:
    for path in files_of(case, "t2w")[1:]:
        path.unlink()
    series = next(
        series for series in open_source(case).study("patient1").series if series.name == "AX T2 TSE"
    )
    np.testing.assert_allclose(series.grid.spacing, (12, 12, 14))


def test_refuses_a_file_that_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"nonsense")
    with pytest.raises(BadVolume, match="x.dcm is not a readable DICOM file: .*Copy or export it again"):
        _ = Series("1.2", (tmp_path / "x.dcm",), "dicom", "x").grid


def test_reads_an_enhanced_multi_frame_file(case: Path) -> None:
    classic = group(open_source(case).study("patient1")).sequences["t2w"]
    grid = classic.grid
    slices = [dcmread(path) for path in classic.paths]
    enhanced = dcmread(classic.paths[0])
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    enhanced.NumberOfFrames = len(slices)
    enhanced.PixelData = b"".join(one.PixelData for one in slices[::-1])
    shared, measures, frames = Dataset(), Dataset(), []
    measures.PixelSpacing, measures.SliceThickness = enhanced.PixelSpacing, enhanced.SliceThickness
    shared.PixelMeasuresSequence = Sequence([measures])
    for one in slices[::-1]:
        frame, place, plane = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, plane.ImageOrientationPatient = (
            one.ImagePositionPatient,
            one.ImageOrientationPatient,
        )
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = Sequence([place]), Sequence([plane])
        frames.append(frame)
    enhanced.SharedFunctionalGroupsSequence, enhanced.PerFrameFunctionalGroupsSequence = (
        Sequence([shared]),
        Sequence(frames),
    )
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(enhanced, key)
    shutil.rmtree(folder_of(case, "t2w"))
    dcmwrite(case / "enhanced.dcm", enhanced)
    series = group(open_source(case).study("patient1")).sequences["t2w"]
    assert series.grid.same_as(grid)
    assert series.paths == (case / "enhanced.dcm",)
    assert [frame for _, frame in series.frames] == list(range(len(slices)))[::-1]


def test_a_case_whose_files_are_gone_is_not_found(case: Path) -> None:
    source = open_source(case.parent)
    shutil.rmtree(case)
    with pytest.raises(NotFound, match="no readable DICOM file of case 'patient1' is left"):
        source.study("patient1")


@pytest.mark.parametrize("implicit", [False, True])
def test_probing_finds_the_study_as_parsing_does(case: Path, implicit: bool) -> None:
    path = files_of(case, "t2w")[0]
    dataset = dcmread(path)
    uid = dataset.StudyInstanceUID
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.is_implicit_VR = True
    dcmwrite(path, dataset)
    assert probe(path) == uid
    other = Dataset()
    other.StudyInstanceUID = "1.2.3.4.5.6"
    # lies before the image's own UID
    dataset.StudiesContainingOtherReferencedInstancesSequence = Sequence([other])
    dcmwrite(path, dataset)
    assert probe(path) == uid
    (case / "notes").write_text("no image")
    assert probe(case / "notes") is None


def test_ten_thousand_studies_are_named_in_seconds() -> None:
    places = {
        f"1.2.{k}": (f"ward{k % 7}/patient{k:05d}/s1", f"ward{k % 7}/patient{k:05d}/s2")
        for k in range(10_000)
    }
    start = time.process_time()
    found = _names(places, "root")
    assert time.process_time() - start < 5
    assert found["1.2.8"] == "ward1_patient00008"
    assert len(set(found.values())) == 10_000


@pytest.mark.parametrize("key", ["Rows", "Columns"])
def test_slices_that_do_not_say_their_size_are_no_volume(key: str) -> None:
    part = {
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "ImagePositionPatient": (0.0, 0.0, 0.0),
        "PixelSpacing": (1.0, 1.0),
    }
    part |= {"path": Path("a.dcm"), "frame": 0, "Rows": 4, "Columns": 4}
    del part[key]
    with pytest.raises(BadVolume, match="does not say how many rows and columns it has"):
        dicom_slices.grid([part], "series 'x'")
