"""RTSTRUCT: filled again, its contours are the voxels of the label."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from slem_app import phantom
from slem_app.errors import BadGrid, BadStudy
from slem_app.formats.provenance import Provenance
from slem_app.formats.rtstruct import make_rtstruct, rings, write_rtstruct
from slem_app.labels import LabelSet
from slem_app.studies import Series, open_source
from slem_app.types import Grid

AUTOMATIC = Provenance("AUTOMATIC", "slem_brain", "1.2", "SLeM slem_brain v3", series_number=77)


@dataclasses.dataclass(frozen=True)
class Case:
    """A label map and the DICOM series it belongs to."""

    array: np.ndarray
    grid: Grid
    series: Series


@pytest.fixture(scope="module", params=["axial-oblique", "reversed", "sagittal"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """With unlike pixel spacings, so that rows and columns cannot be taken for each other."""
    whole = phantom.make(
        seed=3, shape=(32, 40, 28), spacing=(1.25, 1.0, 1.5), oblique=request.param == "axial-oblique"
    )
    code = {"reversed": "LPI", "sagittal": "PIL"}.get(request.param)
    made = phantom.reorient_phantom(whole, code) if code else whole
    folder = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(dataclasses.replace(made, images={"t1c": made.images["t1c"]}), folder, "case")
    return Case(made.labels, made.grid, open_source(folder).study("case").series[0])


def filled(rois: Dataset, case: Case) -> np.ndarray:
    """The voxels whose centres lie in the contours, found from the images alone as PS3.3
    C.7.6.2.1.1 tells.
    """
    images = {image.SOPInstanceUID: image for image in (dcmread(path) for path in case.series.paths)}
    result = np.zeros(case.grid.shape, np.uint8)
    for roi in rois.ROIContourSequence:
        for contour in roi.get("ContourSequence", []):
            image = images[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            assert contour.NumberOfContourPoints == len(points)
            row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
            origin = np.array(image.ImagePositionPatient, dtype=float)
            assert np.abs((points - origin) @ np.cross(row, column)).max() < 0.01
            between_rows, between_columns = map(float, image.PixelSpacing)
            corners = np.stack(
                [(points - origin) @ column / between_rows, (points - origin) @ row / between_columns], axis=1
            )
            inside = grid_points_in_poly((image.Rows, image.Columns), corners)
            r, c = np.nonzero(inside)
            lps = origin + c[:, None] * between_columns * row + r[:, None] * between_rows * column
            index = np.round(case.grid.to_index(lps * [-1, -1, 1])).astype(int)
            assert not result[tuple(index.T)].any(), "a voxel lies in two contours"
            result[tuple(index.T)] = roi.ReferencedROINumber
    return result


def test_its_contours_filled_are_the_label_map(case: Case, labels: LabelSet, tmp_path: Path) -> None:
    path = write_rtstruct(case.array, case.grid, labels, case.series, AUTOMATIC, tmp_path / "a.dcm")
    np.testing.assert_array_equal(filled(dcmread(path), case), case.array)


def test_it_tells_what_it_is_and_whose(case: Case, labels: LabelSet, tmp_path: Path) -> None:
    source = dcmread(case.series.paths[0])
    array = np.where(case.array == 2, 0, case.array)
    rois = dcmread(write_rtstruct(array, case.grid, labels, case.series, AUTOMATIC, tmp_path / "a.dcm"))
    for key in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert rois[key].value == source[key].value
    assert (rois.Modality, rois.SeriesDescription, rois.SeriesNumber) == (
        "RTSTRUCT",
        "SLeM slem_brain v3",
        77,
    )
    assert [
        (item.ROINumber, item.ROIName, item.ROIGenerationAlgorithm) for item in rois.StructureSetROISequence
    ] == [(label.value, label.name, "AUTOMATIC") for label in labels.labels]
    assert [tuple(item.ROIDisplayColor) for item in rois.ROIContourSequence] == [
        label.color for label in labels.labels
    ]
    assert ["ContourSequence" in item for item in rois.ROIContourSequence] == [True, False, True]
    codes = [item.RTROIIdentificationCodeSequence[0].CodeValue for item in rois.RTROIObservationsSequence]
    assert codes == [label.type.value for label in labels.labels]
    series = (
        rois.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    )
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(series.ContourImageSequence) == case.grid.shape[2]


def test_an_empty_label_map_names_every_label(case: Case, labels: LabelSet) -> None:
    rois = make_rtstruct(case.array * 0, case.grid, labels, case.series, AUTOMATIC)
    assert [item.ROIName for item in rois.StructureSetROISequence] == list(labels.names)
    assert not filled(rois, case).any()


def test_another_grid_or_source_is_refused(case: Case, labels: LabelSet) -> None:
    with pytest.raises(BadGrid, match="not the grid of the source series"):
        make_rtstruct(
            case.array[1:], case.grid.crop((1, 0, 0), case.array[1:].shape), labels, case.series, AUTOMATIC
        )
    with pytest.raises(BadStudy, match="no DICOM images"):
        make_rtstruct(case.array, case.grid, labels, [], AUTOMATIC)


@pytest.mark.parametrize("seed", range(40))
def test_holes_islands_and_corners_are_filled_alike_by_every_rule(seed: int) -> None:
    """By union and by exclusive or, which readers differ in: so no contour may lie in another."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((30, 24)), rng.choice([0.3, 1.0, 1.5]))
    mask = noise > np.quantile(noise, rng.choice([0.1, 0.4, 0.8]))
    layers = [grid_points_in_poly(mask.shape, ring[:, ::-1]) for ring in rings(mask)]
    np.testing.assert_array_equal(np.sum(layers, axis=0), mask)


def test_a_contour_has_only_its_corners() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:17, 5:25] = True
    mask[8:12, 10:15] = False
    (ring,) = rings(mask)
    assert (
        len(ring) == 8 + 8 + 3
        # an octagon, a hole of the same kind, and both ends of the channel (one end is a corner of the hole
        # already)
    )
    assert not rings(np.zeros((4, 4), bool))
