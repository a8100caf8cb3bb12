"""DICOM SEG: the right pixels on the right images, names that never move, and back without loss, from other
software too.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from slem_app.errors import BadGrid, BadLabel, BadSetting, BadStudy, BadVolume, NotFound
from slem_app.formats.provenance import Provenance
from slem_app.formats.seg import make_seg, write_seg
from slem_app.formats.seg_reader import read_seg, referenced_series
from slem_app.labels import LabelSet
from slem_app.studies import Series, open_source
from slem_app.types import Grid
from tests.formats.seg_cases import AUTOMATIC, Case, made, moved, planes_by_image

ORIENTATIONS = ("axial-oblique", "reversed", "sagittal", "coronal")


@pytest.fixture(scope="module", params=ORIENTATIONS)
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made(tmp_path_factory.mktemp(request.param), request.param)


def enhanced(case: Case, path: Path, twice: bool = False) -> Path:
    """The series as one multi-frame file, frames in the order of the files; `twice`: a second
    echo behind it.
    """
    parts = [dcmread(file) for file in case.files]
    whole = dcmread(case.files[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, word)
    groups = []
    for echo, part in [(echo, part) for echo in range(1 + twice) for part in parts]:
        group, place, plane, measures, times = (Dataset() for _ in range(5))
        place.ImagePositionPatient, plane.ImageOrientationPatient = (
            part.ImagePositionPatient,
            part.ImageOrientationPatient,
        )
        measures.PixelSpacing, measures.SliceThickness, times.EffectiveEchoTime = (
            part.PixelSpacing,
            part.SliceThickness,
            10.0 + 70 * echo,
        )
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [plane]
        group.PixelMeasuresSequence, group.MREchoSequence = [measures], [times]
        groups.append(group)
    whole.NumberOfFrames, whole.PerFrameFunctionalGroupsSequence = len(groups), groups
    whole.PixelData = b"".join(part.PixelData for part in parts) * (1 + twice)
    whole.save_as(path)
    return path


def test_every_label_is_on_the_pixels_of_its_image(each: Case, labels: LabelSet, tmp_path: Path) -> None:
    """Read by highdicom through the images that the frames refer to."""
    path = write_seg(each.array, each.grid, labels, each.series, AUTOMATIC, tmp_path / "a.dcm")
    expected = planes_by_image(each)
    seg = highdicom.seg.segread(path)
    pixels = seg.get_pixels_by_source_instance(
        list(expected), combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert set(np.unique(pixels)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(pixels, np.stack(list(expected.values())))


def test_it_is_read_back_without_loss(each: Case, labels: LabelSet, tmp_path: Path) -> None:
    """On the grid it was written from, and on the series' own, whose axes may run otherwise."""
    path = write_seg(each.array, each.grid, labels, each.files, AUTOMATIC, tmp_path / "a.dcm")
    back = read_seg(path, each.grid, labels)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, each.array)
    on_series = read_seg(path, each.series.grid, labels)
    again = make_seg(on_series, each.series.grid, labels, each.series, AUTOMATIC)
    np.testing.assert_array_equal(read_seg(again, each.grid, labels), each.array)


@pytest.mark.parametrize("kept", [(1, 3), (2,), ()], ids=["one absent", "only one there", "empty"])
def test_an_absent_label_shifts_no_name(
    one: Case, labels: LabelSet, tmp_path: Path, kept: tuple[int, ...]
) -> None:
    array = np.where(np.isin(one.array, kept), one.array, 0).astype(np.uint8)
    path = write_seg(array, one.grid, labels, one.series, AUTOMATIC, tmp_path / "a.dcm")
    seg = dcmread(path)
    assert [(int(item.SegmentNumber), item.SegmentLabel) for item in seg.SegmentSequence] == list(
        enumerate(labels.names, 1)
    )
    with_frames = {
        int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert with_frames == (set(kept) or {1, 2, 3})
    np.testing.assert_array_equal(read_seg(path, one.grid, labels), array)
    assert seg.NumberOfFrames == (sum(int((array == value).any(axis=(0, 1)).sum()) for value in kept) or 6)


def test_it_tells_what_it_is_and_whose(one: Case, labels: LabelSet, tmp_path: Path) -> None:
    source = dcmread(one.files[0])
    seg = dcmread(write_seg(one.array, one.grid, labels, one.series, AUTOMATIC, tmp_path / "a.dcm"))
    for key in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyID",
        "FrameOfReferenceUID",
    ):
        assert seg[key].value == source[key].value, key
    assert (seg.Modality, seg.SegmentationType, seg.SeriesDescription, seg.SeriesNumber) == (
        "SEG",
        "BINARY",
        "SLeM slem_brain v3",
        77,
    )
    assert str(seg.ContentCreatorName) == "Müller^"
    assert seg.SeriesInstanceUID not in ("", source.SeriesInstanceUID)
    assert referenced_series(seg) == (source.SeriesInstanceUID,)
    referred = {
        item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred == {dcmread(file).SOPInstanceUID for file in one.files}
    for item, label in zip(seg.SegmentSequence, labels.labels):
        coded = item.SegmentedPropertyTypeCodeSequence[0]
        assert (coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning) == (
            label.type.value,
            "SCT",
            label.type.meaning,
        )
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == label.category.value
        assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", "slem_brain")
        assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.2"
    in_red = LabelSet(
        (dataclasses.replace(labels.labels[0], color=(255, 0, 0)), *labels.labels[1:]), labels.regions
    )
    red = make_seg(one.array, one.grid, in_red, one.series, AUTOMATIC)
    # L 53.24, a 80.09, b 67.20
    assert red.SegmentSequence[0].RecommendedDisplayCIELabValue == pytest.approx(
        [34888, 53494, 50171], abs=40
    )


def test_a_manual_one_names_no_algorithm(one: Case, labels: LabelSet) -> None:
    seg = make_seg(one.array, one.grid, labels, one.series, Provenance("MANUAL", description="x" * 80))
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"MANUAL"}
    assert not any("SegmentAlgorithmName" in item for item in seg.SegmentSequence)
    assert seg.SeriesDescription == "x" * 63 + "…"


@pytest.mark.parametrize("twice", [False, True], ids=["one volume", "a second echo in the file"])
def test_it_refers_to_the_frames_of_a_multi_frame_file(
    one: Case, labels: LabelSet, tmp_path: Path, twice: bool
) -> None:
    (tmp_path / "case").mkdir()
    path = enhanced(one, tmp_path / "case" / "x.dcm", twice)
    series = open_source(tmp_path / "case").study("case").series[-1]
    assert len(series.frames) == one.grid.shape[2]
    seg = make_seg(one.array, one.grid, labels, series, AUTOMATIC)
    np.testing.assert_array_equal(read_seg(seg, one.grid, labels), one.array)
    source = dcmread(path)
    for n, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        place = (
            source.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
            .PlanePositionSequence[0]
            .ImagePositionPatient
        )
        assert place == frame.PlanePositionSequence[0].ImagePositionPatient, n
        assert (reference.ReferencedFrameNumber > one.grid.shape[2]) == twice
    if twice:
        with pytest.raises(BadStudy, match="two slices in one place"):
            make_seg(one.array, one.grid, labels, [path], AUTOMATIC)
    else:
        np.testing.assert_array_equal(
            read_seg(make_seg(one.array * 0, one.grid, labels, [path], AUTOMATIC), one.grid, labels), 0
        )


def test_headers_that_lack_fields_or_hold_other_alphabets_do(
    one: Case, labels: LabelSet, tmp_path: Path
) -> None:
    images = [dcmread(file, stop_before_pixels=True) for file in one.files]
    for image in images:
        del image.AccessionNumber, image.PatientBirthDate, image.SliceThickness, image.ReferringPhysicianName
        image.PatientSex, image.SpacingBetweenSlices = "U", "9"
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 144", "Люкceмбypг^Ф"
    seg = dcmread(write_seg(one.array, one.grid, labels, images, AUTOMATIC, tmp_path / "a.dcm"))
    assert str(seg.PatientName) == "Люкceмбypг^Ф"
    assert (seg.PatientSex, seg.AccessionNumber, seg.PatientBirthDate) == ("", "", "")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == pytest.approx(one.grid.spacing[2])
    assert (
        seg.PerFrameFunctionalGroupsSequence[0]
        .DerivationImageSequence[0]
        .SourceImageSequence[0]
        .SpatialLocationsPreserved
        == "YES"
    )
    np.testing.assert_array_equal(read_seg(seg, one.grid, labels), one.array)


WRONG: dict[str, tuple[Callable[[Case], tuple[np.ndarray, Grid, object]], type[Exception], str]] = {
    "half a voxel aside": (
        lambda c: (c.array, moved(c.grid, 0.5), c.files),
        BadGrid,
        "not the grid of the source series",
    ),
    "a whole voxel aside": (
        lambda c: (c.array, moved(c.grid, 1), c.files),
        BadGrid,
        "not the grid of the source series",
    ),
    "cropped": (
        lambda c: (c.array[1:], c.grid.crop((1, 0, 0), (31, 40, 28)), c.files),
        BadGrid,
        "not the grid of the source series",
    ),
    "a slice too many": (
        lambda c: (np.pad(c.array, ((0, 0), (0, 0), (0, 1))), c.grid.crop((0, 0, 0), (32, 40, 29)), c.files),
        BadGrid,
        "28 source images",
    ),
    "an image missing": (lambda c: (c.array, c.grid, c.files[1:]), BadGrid, "give every image"),
    "an image twice": (
        lambda c: (c.array, c.grid, [*c.files, c.files[0]]),
        BadStudy,
        "two slices in one place",
    ),
    "another value": (lambda c: (c.array * 2, c.grid, c.files), BadLabel, "label values must lie in 0..3"),
    "another shape": (lambda c: (c.array[1:], c.grid, c.files), BadGrid, "31, 40, 28"),
    "no images": (lambda c: (c.array, c.grid, []), BadStudy, "no DICOM images"),
    "a file that is gone": (lambda c: (c.array, c.grid, [Path("/nowhere/x.dcm")]), NotFound, "x.dcm"),
    "no DICOM": (
        lambda c: (c.array, c.grid, [Path(__file__)]),
        BadVolume,
        "test_seg.py is not a readable DICOM file",
    ),
    "NIfTI": (
        lambda c: (c.array, c.grid, Series("t1c", (Path("t1c.nii"),), "nifti", "t1c")),
        BadStudy,
        "is a nifti file",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_of_the_series_is_refused(one: Case, labels: LabelSet, tmp_path: Path, name: str) -> None:
    arguments, error, text = WRONG[name]
    array, grid, sources = arguments(one)
    with pytest.raises(error, match=text):
        write_seg(array, grid, labels, sources, AUTOMATIC, tmp_path / "a.dcm")
    assert not list(tmp_path.iterdir())


def test_images_of_two_series_or_without_a_frame_of_reference_are_refused(
    one: Case, labels: LabelSet
) -> None:
    images = [dcmread(file, stop_before_pixels=True) for file in one.files]
    images[3].SeriesInstanceUID = generate_uid()
    with pytest.raises(BadStudy, match="must share one SeriesInstanceUID, found 2"):
        make_seg(one.array, one.grid, labels, images, AUTOMATIC)
    images = [dcmread(file, stop_before_pixels=True) for file in one.files]
    for image in images:
        del image.FrameOfReferenceUID
    with pytest.raises(BadStudy, match="must share one FrameOfReferenceUID, found 0 and images without"):
        make_seg(one.array, one.grid, labels, images, AUTOMATIC)
    images[0].ImagePositionPatient = [1, 2]
    with pytest.raises(BadVolume, match="no readable ImagePositionPatient"):
        make_seg(one.array, one.grid, labels, images, AUTOMATIC)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "BY HAND"}, "unknown kind of segmentation 'BY HAND'"),
        ({"kind": "AUTOMATIC"}, "needs the name and the version of its algorithm"),
        ({"kind": "MANUAL", "creator": "a\\b"}, "leave out backslashes"),
        ({"kind": "MANUAL", "series_number": 0}, "begin with 1"),
        ({"kind": "MANUAL", "creator": "x" * 65}, "must not be longer than 64"),
    ],
)
def test_a_provenance_that_cannot_be_told_is_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(BadSetting, match=text):
        Provenance(**fields)
