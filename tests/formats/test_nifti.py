"""Label maps as NIfTI, read back by nibabel and by SimpleITK."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from slem_app.errors import BadGrid, BadLabel, BadSetting
from slem_app.formats import write_nifti
from slem_app.labels import LabelSet
from slem_app.types import Grid


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nibabel_finds_values_and_world_positions(
    tmp_path: Path, case: tuple[np.ndarray, Grid], labels: LabelSet, name: str
) -> None:
    array, grid = case
    image = nibabel.load(write_nifti(array, grid, labels, tmp_path / name))
    assert image.get_data_dtype() == np.uint8
    assert (np.asanyarray(image.dataobj) == array).all()
    assert np.abs(image.affine - grid.affine).max() < 1e-4
    assert np.abs(image.get_qform() - grid.affine).max() < 1e-3
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_itk_finds_the_same_world_positions(
    tmp_path: Path, case: tuple[np.ndarray, Grid], labels: LabelSet
) -> None:
    array, grid = case
    image = SimpleITK.ReadImage(str(write_nifti(array, grid, labels, tmp_path / "a.nii.gz")))
    assert (SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0) == array).all()
    for index in ((0, 0, 0), (5, 0, 30), tuple(n - 1 for n in grid.shape)):
        lps = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(np.array(lps) * (-1, -1, 1), grid.to_world(np.array(index)), atol=1e-3)


def test_the_same_result_gives_the_same_file(tmp_path: Path, labels: LabelSet) -> None:
    array, grid = np.ones((3, 4, 5), np.int64), Grid((3, 4, 5), np.eye(4))
    assert (
        write_nifti(array, grid, labels, tmp_path / "a.nii.gz").read_bytes()
        == write_nifti(array, grid, labels, tmp_path / "b.nii.gz").read_bytes()
    )


def test_refuses_another_ending(tmp_path: Path, labels: LabelSet) -> None:
    with pytest.raises(BadSetting, match=re.escape("a.mha: a NIfTI file must end in .nii or .nii.gz")):
        write_nifti(np.zeros((3, 4, 5), np.uint8), Grid((3, 4, 5), np.eye(4)), labels, tmp_path / "a.mha")


@pytest.mark.parametrize("value", [-1, 4, 300])
def test_refuses_a_value_without_a_label(tmp_path: Path, labels: LabelSet, value: int) -> None:
    array = np.zeros((3, 4, 5), np.int16)
    array[0, 0, 0] = value
    with pytest.raises(
        BadLabel, match=re.escape("label values must lie in 0..3 (necrosis, edema, enhancing tumor), got")
    ):
        write_nifti(array, Grid((3, 4, 5), np.eye(4)), labels, tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())


def test_refuses_a_label_map_of_another_grid(tmp_path: Path, labels: LabelSet) -> None:
    with pytest.raises(
        BadGrid, match=re.escape("a label map of (5, 4, 3) voxels came with a grid of (3, 4, 5)")
    ):
        write_nifti(np.zeros((5, 4, 3), np.uint8), Grid((3, 4, 5), np.eye(4)), labels, tmp_path / "a.nii")


def test_refuses_a_sheared_grid(tmp_path: Path, labels: LabelSet) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.5
    with pytest.raises(BadGrid, match="axes are sheared"):
        write_nifti(np.zeros((3, 4, 5), np.uint8), Grid((3, 4, 5), affine), labels, tmp_path / "a.nii")
