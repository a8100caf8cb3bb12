"""The phantom looks like a glioma, is the same head on every grid, and its files hold what its
arrays hold.
"""

import re
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from slem_app import phantom
from slem_app.errors import BadSetting
from slem_app.phantom import Phantom
from slem_app.types import Grid
from slem_app.volumes import geometry

SMALL = (40, 48, 36)


@pytest.fixture(scope="module")
def case() -> Phantom:
    return phantom.make(seed=1, shape=(80, 96, 72), spacing=(2.0, 2.0, 2.0))


def mean(case: Phantom, sequence: str, where: np.ndarray) -> float:
    return float(case.images[sequence][where].mean())


@pytest.mark.parametrize("seed", range(6))
def test_has_all_three_parts_inside_the_brain(seed: int) -> None:
    case = phantom.make(seed=seed, shape=(48, 48, 48))
    counts = np.bincount(case.labels.ravel(), minlength=4)
    assert (counts[1:] > 30).all()
    assert case.labels.dtype == np.uint8
    for image in case.images.values():
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert (image[case.labels > 0] > 0).all()
        assert (image == 0).mean() > 0.3  # no skull


def test_the_rim_surrounds_the_necrosis_and_the_edema_the_rim(case: Phantom) -> None:
    neighbours = {value: set() for value in (1, 2, 3)}
    for axis in range(3):
        for step in (-1, 1):
            beside = np.roll(case.labels, step, axis)
            for value, found in neighbours.items():
                found |= set(np.unique(beside[case.labels == value]).tolist())
    assert neighbours[1] == {1, 3}
    assert 2 in neighbours[3]


@pytest.mark.parametrize("seed", range(4))
def test_contrast_is_that_of_a_glioma(seed: int) -> None:
    case = phantom.make(seed=seed, shape=(64, 64, 64))
    necrosis, edema, rim = (case.labels == value for value in (1, 2, 3))
    white = (case.labels == 0) & (
        case.images["t1n"] > np.percentile(case.images["t1n"][case.images["t1n"] > 0], 70)
    )
    for sequence in ("t2w", "t2f"):
        assert mean(case, sequence, edema) > 1.5 * mean(case, sequence, white), (
            f"edema is bright on {sequence}"
        )
    assert mean(case, "t1n", edema) < 0.8 * mean(case, "t1n", white)
    assert mean(case, "t1c", rim) > 1.3 * mean(case, "t1c", white)
    assert mean(case, "t1n", rim) < mean(case, "t1n", white), "the rim is bright on t1c alone"
    assert mean(case, "t1c", necrosis) < 0.6 * mean(case, "t1c", white)
    assert mean(case, "t2w", necrosis) > 2 * mean(case, "t2w", white)


def test_the_same_seed_gives_the_same_case_and_another_seed_another() -> None:
    first, again, other = (phantom.make(seed=seed, shape=SMALL) for seed in (3, 3, 4))
    assert all((first.images[name] == again.images[name]).all() for name in first.images)
    assert (first.labels == again.labels).all()
    assert (first.labels != other.labels).any()
    assert abs(first.images["t1c"].max() - other.images["t1c"].max()) > 1


def test_the_head_is_a_function_of_the_world_not_of_the_grid(case: Phantom) -> None:
    turned = phantom.make(seed=1, shape=(80, 96, 72), spacing=(2.0, 2.0, 2.0), oblique=True)
    assert not turned.grid.same_as(case.grid)
    assert np.abs(turned.grid.axes - case.grid.axes).max() > 0.1
    assert (phantom.truth(case.head, turned.grid) == turned.labels).all()
    moved = geometry.resample(turned.labels, turned.grid, case.grid, order=0)
    overlap = 2 * ((moved > 0) & (case.labels > 0)).sum() / ((moved > 0).sum() + (case.labels > 0).sum())
    assert overlap > 0.95


def test_anisotropic_has_thick_slices_over_the_same_field_of_view(case: Phantom) -> None:
    thick = phantom.make(seed=1, shape=(80, 96, 72), spacing=(2.0, 2.0, 2.0), anisotropic=True)
    assert thick.grid.shape == (80, 96, 18)
    assert np.allclose(thick.grid.spacing, (2, 2, 8))
    assert geometry.overlap(case.grid, thick.grid) > 0.99


def test_own_grids_differ_by_sequence_and_show_the_same_head(case: Phantom) -> None:
    own = phantom.make(seed=1, shape=(80, 96, 72), spacing=(2.0, 2.0, 2.0), own_grids=True)
    assert len({str(grid) for grid in own.grids.values()}) == 4
    assert own.grids["t1n"].orientation == "PIL"
    assert own.grid.same_as(case.grid)
    for name, image in own.images.items():
        assert image.shape == own.grids[name].shape
        here = geometry.resample(image, own.grids[name], case.grid, order=1)
        brain = (case.images[name] > 0) & (here > 0)
        assert np.corrcoef(here[brain], case.images[name][brain])[0, 1] > 0.7
    assert geometry.overlap(own.grids["t2f"], own.grids["t2w"]) > 0.85


@pytest.mark.parametrize("code", ["RAS", "LPS", "PIL", "SRA", "ILP"])
def test_reorienting_moves_no_voxel_in_the_world(code: str) -> None:
    case = phantom.make(seed=2, shape=SMALL, oblique=True)
    array, grid = phantom.reorient(case.labels, case.grid, code)
    assert grid.orientation == code
    index = np.argwhere(array == 3)
    there = np.round(case.grid.to_index(grid.to_world(index))).astype(int)
    assert (case.labels[tuple(there.T)] == 3).all()
    assert len(index) == (case.labels == 3).sum()
    assert np.abs(case.grid.to_world(there) - grid.to_world(index)).max() < 1e-9
    back, same = phantom.reorient(array, grid, "LPS")
    assert (back == case.labels).all()
    assert same.same_as(case.grid)


def test_a_reoriented_case_keeps_every_sequence_beside_its_labels() -> None:
    case = phantom.make(seed=2, shape=SMALL)
    moved = phantom.reorient_phantom(case, "PIL")
    assert all(grid.same_as(moved.grid) for grid in moved.grids.values())
    for name, image in moved.images.items():
        assert image[moved.labels == 3].mean() == pytest.approx(case.images[name][case.labels == 3].mean())


def test_the_default_size_takes_seconds_at_most() -> None:
    start = time.process_time()
    case = phantom.make()
    assert time.process_time() - start < 5
    assert case.grid.shape == (160, 192, 144)


@pytest.mark.parametrize(
    ("layout", "names", "values"),
    [
        ("brats2018", ["_flair", "_seg", "_t1", "_t1ce", "_t2"], [0, 1, 2, 4]),
        ("brats2023", ["-seg", "-t1c", "-t1n", "-t2f", "-t2w"], [0, 1, 2, 3]),
    ],
)
def test_nifti_layouts_are_those_of_the_public_data_sets(
    tmp_path: Path, layout: str, names: list[str], values: list[int]
) -> None:
    case = phantom.make(seed=5, shape=SMALL, oblique=True)
    folder = phantom.write_nifti(case, tmp_path, "Case_7", layout)
    assert folder == tmp_path / "Case_7"
    assert sorted(path.name for path in folder.iterdir()) == [f"Case_7{name}.nii.gz" for name in names]
    labels = nibabel.load(next(folder.glob("*seg*")))
    assert np.unique(labels.dataobj).tolist() == values
    assert Grid(labels.shape, labels.affine).same_as(case.grid)
    image = nibabel.load(folder / ("Case_7_t1ce.nii.gz" if layout == "brats2018" else "Case_7-t1c.nii.gz"))
    assert np.abs(image.get_fdata() - case.images["t1c"]).max() <= 0.5
    assert np.allclose(image.affine, case.grid.affine, atol=1e-4)


def test_plain_nifti_has_one_file_a_sequence(tmp_path: Path) -> None:
    folder = phantom.write_nifti(phantom.make(shape=SMALL), tmp_path, "a", "nifti", labels=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "t1c.nii.gz",
        "t1n.nii.gz",
        "t2f.nii.gz",
        "t2w.nii.gz",
    ]


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadSetting,
        match=re.escape("unknown phantom layout 'bids': choose one of brats2018, brats2023, nifti"),
    ):
        phantom.write_nifti(phantom.make(shape=SMALL), tmp_path, "a", "bids")


@pytest.mark.parametrize("own_grids", [False, True])
def test_dicom_series_hold_the_images_where_they_belong(tmp_path: Path, own_grids: bool) -> None:
    """Read back by ITK's own sorting and geometry, not by ours."""
    case = phantom.make(seed=6, shape=SMALL, spacing=(1.5, 1.0, 2.0), oblique=True, own_grids=own_grids)
    folder = phantom.write_dicom(case, tmp_path, "C1")
    for number, (name, image) in enumerate(case.images.items(), 1):
        files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / f"{number}_{name}"))
        read = SimpleITK.ReadImage(files)
        array = SimpleITK.GetArrayFromImage(read).transpose(2, 1, 0)
        assert np.allclose(sorted(read.GetSpacing()), sorted(case.grids[name].spacing), atol=1e-4)
        points = np.argwhere(image > np.percentile(image, 99))[::50]
        for point in points:
            world = case.grids[name].to_world(point)
            index = read.TransformPhysicalPointToIndex((world * (-1, -1, 1)).tolist())
            assert abs(array[index] - image[tuple(point)]) <= 0.51


def test_dicom_headers_tell_the_sequences_apart(tmp_path: Path) -> None:
    case = phantom.make(seed=6, shape=SMALL)
    folder = phantom.write_dicom(case, tmp_path, "C1", extras=True)
    heads = {path.name.split("_")[1]: pydicom.dcmread(next(path.glob("*.dcm"))) for path in folder.iterdir()}
    assert set(heads) == {"t1n", "t1c", "t2w", "t2f", "localizer", "adc"}
    assert len({head.SeriesInstanceUID for head in heads.values()}) == 6
    assert (
        len({(head.StudyInstanceUID, head.FrameOfReferenceUID, head.PatientID) for head in heads.values()})
        == 1
    )
    assert [name for name, head in heads.items() if "ContrastBolusAgent" in head] == ["t1c"]
    assert [name for name, head in heads.items() if "InversionTime" in head] == ["t2f"]
    assert heads["t2w"].EchoTime > 80 > heads["t1n"].EchoTime
    assert heads["adc"].ImageType[0] == "DERIVED"
    assert heads["t1c"].SeriesDescription == "AX T1 SE POST GAD"
    assert len(list((folder / "8_localizer").iterdir())) == 3
    assert all(head.SOPClassUID.name == "MR Image Storage" for head in heads.values())


def test_the_series_description_names_the_plane(tmp_path: Path) -> None:
    folder = phantom.write_dicom(phantom.make(seed=6, shape=SMALL, own_grids=True), tmp_path, "C1")
    assert pydicom.dcmread(next((folder / "1_t1n").iterdir())).SeriesDescription == "SAG T1 SE"


def test_dicom_files_run_along_no_order_of_names_or_numbers(tmp_path: Path) -> None:
    folder = phantom.write_dicom(phantom.make(seed=6, shape=SMALL), tmp_path, "C1")
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((folder / "4_t2f").iterdir())]
    heights = [float(head.ImagePositionPatient[2]) for head in heads]
    assert heights not in (sorted(heights), sorted(heights, reverse=True))
    by_number = [
        float(head.ImagePositionPatient[2]) for head in sorted(heads, key=lambda head: head.InstanceNumber)
    ]
    assert by_number == sorted(heights, reverse=True)
    assert len({head.SOPInstanceUID for head in heads}) == len(heads)
