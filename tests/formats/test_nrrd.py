"""Label maps as NRRD, read back by SimpleITK (which 3D Slicer's plugin uses) and by pynrrd."""

import re
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK

from slem_app.errors import BadGrid, BadLabel, BadSetting
from slem_app.formats import write_nrrd
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.types import Grid

OHIF_LINE = re.compile(r"^([^:]*)(:[ =])(.*)$")  # how OHIF's reader splits a header line


@pytest.mark.parametrize("compress", [True, False])
def test_itk_finds_values_and_world_positions(
    tmp_path: Path, case: tuple[np.ndarray, Grid], labels: LabelSet, compress: bool
) -> None:
    array, grid = case
    image = SimpleITK.ReadImage(str(write_nrrd(array, grid, labels, tmp_path / "a.nrrd", compress)))
    assert image.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert (SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0) == array).all()
    for index in ((0, 0, 0), (5, 0, 30), tuple(n - 1 for n in grid.shape)):
        lps = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(np.array(lps) * (-1, -1, 1), grid.to_world(np.array(index)), atol=1e-9)


def test_space_directions_are_the_affines_columns(
    tmp_path: Path, case: tuple[np.ndarray, Grid], labels: LabelSet
) -> None:
    array, grid = case
    read, header = nrrd.read(str(write_nrrd(array, grid, labels, tmp_path / "a.nrrd")))
    assert (read == array).all()
    assert header["space"] == "left-posterior-superior"
    assert np.allclose(header["space directions"], (np.diag([-1, -1, 1]) @ grid.affine[:3, :3]).T)
    assert np.allclose(header["space origin"], grid.affine[:3, 3] * (-1, -1, 1))


def test_names_values_and_colours_are_slicers_segments(tmp_path: Path, labels: LabelSet) -> None:
    array = np.zeros((10, 20, 30), np.uint8)
    array[2:4, 5:9, 7:20] = 1
    array[6, 7, 8] = 3
    header = nrrd.read_header(
        str(write_nrrd(array, Grid(array.shape, np.eye(4)), labels, tmp_path / "a.seg.nrrd"))
    )
    assert [header[f"Segment{n}_Name"] for n in range(3)] == ["necrosis", "edema", "enhancing tumor"]
    assert [header[f"Segment{n}_LabelValue"] for n in range(3)] == ["1", "2", "3"]
    assert [header[f"Segment{n}_Layer"] for n in range(3)] == ["0"] * 3
    assert len({header[f"Segment{n}_ID"] for n in range(3)}) == 3
    assert [header[f"Segment{n}_Extent"] for n in range(3)] == [
        "2 3 5 8 7 19",
        "0 -1 0 -1 0 -1",
        "6 6 7 7 8 8",
    ]
    assert np.allclose(
        [float(c) for c in header["Segment2_Color"].split()], np.array([230, 97, 0]) / 255, atol=1e-5
    )
    assert "~SCT^49755003^Morphologically Altered Structure~SCT^79654002^Edema~^^~" in header["Segment1_Tags"]
    assert (
        header["Segmentation_SourceRepresentation"]
        == header["Segmentation_MasterRepresentation"]
        == "Binary labelmap"
    )


def test_every_header_line_can_be_read_by_ohif(tmp_path: Path, labels: LabelSet) -> None:
    path = write_nrrd(
        np.ones((2, 3, 4), np.uint8), Grid((2, 3, 4), np.eye(4)), labels, tmp_path / "a.nrrd", compress=False
    )
    head, _, voxels = path.read_bytes().partition(b"\n\n")
    magic, *lines = head.decode().splitlines()
    assert magic == "NRRD0005"
    assert all(OHIF_LINE.match(line) for line in lines)
    assert "encoding: raw" in lines
    assert voxels == b"\1" * 24


def test_no_minus_zero_and_the_same_file_for_the_same_result(tmp_path: Path, labels: LabelSet) -> None:
    array, grid = np.ones((3, 4, 5), np.uint8), Grid((3, 4, 5), np.eye(4))
    first = write_nrrd(array, grid, labels, tmp_path / "a.nrrd").read_bytes()
    assert b"space directions: (-1,0,0) (0,-1,0) (0,0,1)\n" in first
    assert b"space origin: (0,0,0)\n" in first
    assert first == write_nrrd(np.asfortranarray(array), grid, labels, tmp_path / "b.nrrd").read_bytes()


def test_names_may_hold_any_letter(tmp_path: Path) -> None:
    labels = LabelSet(
        (Label("œdème: 50 %", 1, Code("79654002", "Edema")),), (Region("WT", ("œdème: 50 %",)),)
    )
    image = SimpleITK.ReadImage(
        str(write_nrrd(np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)), labels, tmp_path / "a.nrrd"))
    )
    assert image.GetMetaData("Segment0_Name") == "œdème: 50 %"


def test_refuses_another_ending(tmp_path: Path, labels: LabelSet) -> None:
    with pytest.raises(BadSetting, match=re.escape("a.nhdr: an NRRD file must end in .nrrd or .seg.nrrd")):
        write_nrrd(np.zeros((3, 4, 5), np.uint8), Grid((3, 4, 5), np.eye(4)), labels, tmp_path / "a.nhdr")


def test_refuses_values_and_grids_that_do_not_fit(tmp_path: Path, labels: LabelSet) -> None:
    with pytest.raises(BadLabel, match=re.escape("got 0..9")):
        write_nrrd(np.diag([9, 9, 0])[:, :, None], Grid((3, 3, 1), np.eye(4)), labels, tmp_path / "a.nrrd")
    with pytest.raises(BadGrid, match="zero axis"):
        write_nrrd(
            np.zeros((3, 3, 1), np.uint8),
            Grid((3, 3, 1), np.diag([1.0, 1, 0, 1])),
            labels,
            tmp_path / "a.nrrd",
        )
    assert not list(tmp_path.iterdir())
