"""Label files of readers and clients: read with names and geometry, or refused with the reason."""

import gzip
import re
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from slem_app import phantom
from slem_app.errors import BadGrid, BadLabel, BadVolume, NotFound
from slem_app.formats import place, read_label_file, write_nifti, write_nrrd
from slem_app.labels import LabelSet, codings
from slem_app.types import Grid

SPACES = [
    ("right-anterior-superior", (1, 1, 1)),
    ("RAS", (1, 1, 1)),
    ("left-anterior-superior", (-1, 1, 1)),
    ("LPS", (-1, -1, 1)),
]


def save_nrrd(path: Path, array: np.ndarray, **fields: object) -> Path:
    """As another program would write it; only `array` and the header's geometry are given."""
    lines = {
        "space": "left-posterior-superior",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        "space origin": "(0,0,0)",
        **fields,
    }
    head = [
        "NRRD0004",
        f"type: {array.dtype}",
        f"dimension: {array.ndim}",
        f"sizes: {' '.join(map(str, array.shape))}",
        "endian: little",
        "encoding: raw",
    ]
    head += [
        f"{key}{':=' if key.startswith('Segment') else ': '}{value}"
        for key, value in lines.items()
        if value is not None
    ]
    path.write_bytes("\n".join([*head, "", ""]).encode() + array.tobytes(order="F"))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd"])
def test_what_was_written_is_read_back(
    tmp_path: Path, case: tuple[np.ndarray, Grid], labels: LabelSet, name: str
) -> None:
    array, grid = case
    writer = write_nrrd if name.endswith("nrrd") else write_nifti
    read, where, names = read_label_file(writer(array, grid, labels, tmp_path / name))
    assert read.dtype == np.uint8
    assert (read == array).all()
    assert where.same_as(grid, 1e-3)
    assert names == ({1: "necrosis", 2: "edema", 3: "enhancing tumor"} if name.endswith("nrrd") else None)


def test_reads_what_itk_writes(tmp_path: Path, case: tuple[np.ndarray, Grid]) -> None:
    array, grid = case
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin((lps @ grid.affine[:3, 3]).tolist())
    image.SetDirection((lps @ grid.axes).ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"), True)
    read, where, names = read_label_file(tmp_path / "a.nrrd")
    assert (read == array).all()
    assert where.same_as(grid, 1e-3)
    assert names is None


@pytest.mark.parametrize(("space", "factors"), SPACES)
def test_every_patient_space_ends_in_ras(tmp_path: Path, space: str, factors: tuple[int, int, int]) -> None:
    _, grid, _ = read_label_file(
        save_nrrd(
            tmp_path / "a.nrrd", np.ones((2, 3, 4), np.uint8), space=space, **{"space origin": "(5,6,7)"}
        )
    )
    assert np.allclose(grid.affine[:3, 3], np.array([5, 6, 7]) * factors)
    assert np.allclose(np.diag(grid.affine)[:3], factors)


def test_names_come_with_the_values_that_slicer_gave_them(tmp_path: Path) -> None:
    fields = {
        "Segment0_Name": "enhancing tumor",
        "Segment0_LabelValue": 3,
        "Segment1_Name": "œdème",
        "Segment1_LabelValue": 1,
        "Segment1_Layer": 0,
    }
    _, _, names = read_label_file(save_nrrd(tmp_path / "a.seg.nrrd", np.ones((2, 3, 4), np.uint8), **fields))
    assert names == {3: "enhancing tumor", 1: "œdème"}


def test_one_layer_in_four_dimensions_is_a_label_map(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4) % 3
    fields = {"kinds": "list domain domain domain", "space directions": "none (1,0,0) (0,1,0) (0,0,2)"}
    read, grid, _ = read_label_file(save_nrrd(tmp_path / "a.seg.nrrd", array, **fields))
    assert (read == array[0]).all()
    assert grid.spacing.tolist() == [1, 1, 2]


def test_overlapping_layers_are_refused(tmp_path: Path) -> None:
    fields = {"kinds": "list domain domain domain", "space directions": "none (1,0,0) (0,1,0) (0,0,1)"}
    path = save_nrrd(tmp_path / "a.seg.nrrd", np.ones((2, 2, 3, 4), np.uint8), **fields)
    with pytest.raises(
        BadVolume,
        match=(
            "a.seg.nrrd: a segmentation in 2 layers, that is with overlapping segments, cannot be read: "
            "remove the overlap"
        ),
    ):
        read_label_file(path)


def test_a_trailing_axis_of_one_is_dropped_and_a_longer_one_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4, 1), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_label_file(tmp_path / "a.nii.gz")[0].shape == (2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4, 2), np.uint8), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(
        BadVolume, match=re.escape("b.nii.gz: a label map must have three dimensions, got (2, 3, 4, 2)")
    ):
        read_label_file(tmp_path / "b.nii.gz")


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((2, 3, 4), 2.0, np.float32), np.eye(4)), tmp_path / "a.nii")
    assert read_label_file(tmp_path / "a.nii")[0].dtype == np.uint8
    nibabel.save(nibabel.Nifti1Image(np.full((2, 3, 4), 300, np.int32), np.eye(4)), tmp_path / "b.nii")
    assert read_label_file(tmp_path / "b.nii")[0].dtype == np.int16


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "holds whole numbers only, got fractions or NaN"),
        (np.nan, "holds whole numbers only, got fractions or NaN"),
        (-1.0, "must lie in 0..4096, got -1..-1"),
        (5000.0, "must lie in 0..4096, got 5000..5000: is it an image?"),
    ],
)
def test_an_image_is_no_label_map(tmp_path: Path, value: float, message: str) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((2, 3, 4), value, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(BadLabel, match=re.escape(message)):
        read_label_file(tmp_path / "a.nii")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="a.nii: no such label file"):
        read_label_file(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.mha", "a.txt", "a.nhdr"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        BadVolume, match=re.escape(f"{name}: a label file must be .nii, .nii.gz, .nrrd or .seg.nrrd")
    ):
        read_label_file(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", gzip.compress(b"hello", mtime=0), b"NRRD0005\ntype: uint8\n", b"\0" * 400]
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadVolume, match=re.escape(f"{name}: ")):
        read_label_file(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "raw.nrrd"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, labels: LabelSet, name: str, share: float) -> None:
    array = np.random.default_rng(0).integers(0, 4, (20, 20, 20)).astype(np.uint8)
    grid = Grid(array.shape, np.eye(4))
    path = (
        write_nifti(array, grid, labels, tmp_path / name)
        if ".nii" in name
        else write_nrrd(array, grid, labels, tmp_path / name, name != "raw.nrrd")
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadVolume, match="truncated"):
        read_label_file(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"space": "scanner-xyz"},
            (
                "its space must be one of left-posterior-superior, right-anterior-superior, "
                "left-anterior-superior, got 'scanner-xyz'"
            ),
        ),
        ({"space": None, "space dimension": 3}, "got 'none'"),
        ({"space directions": None}, "holds no space directions or space origin"),
        ({"space directions": "(1,0,0) (0,1,0) (0,0,0)"}, "zero axis"),
        ({"space directions": "(1,0,0) (1,1,0) (0,0,1)"}, "axes are sheared"),
        ({"space directions": "(1,0,0) (0,1,0) none"}, "must hold three vectors of three numbers"),
    ],
)
def test_a_label_without_a_usable_place_is_refused(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(BadGrid, match=re.escape(message)):
        read_label_file(save_nrrd(tmp_path / "a.nrrd", np.ones((2, 3, 4), np.uint8), **fields))


def test_a_header_that_names_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(b"\1" * 24)
    path = save_nrrd(
        tmp_path / "a.nrrd", np.ones((2, 3, 4), np.uint8), **{"data file": str(tmp_path / "secret.raw")}
    )
    assert nrrd.read_header(str(path))["data file"] == str(tmp_path / "secret.raw")
    with pytest.raises(BadVolume, match="its voxels lie in another file: save it as one .nrrd file"):
        read_label_file(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"Segment0_Name": "a", "Segment0_LabelValue": 1, "Segment1_Name": "b", "Segment1_LabelValue": 1},
            "the segments 'a' and 'b' share the label value 1",
        ),
        (
            {"Segment0_Name": "a", "Segment0_LabelValue": "one"},
            "segment 'a' has the label value 'one', a whole number was expected",
        ),
    ],
)
def test_names_that_contradict_are_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadLabel, match=re.escape(message)):
        read_label_file(save_nrrd(tmp_path / "a.seg.nrrd", np.ones((2, 3, 4), np.uint8), **fields))


@pytest.mark.parametrize(
    ("line", "by", "message"),
    [
        ("space origin: (0,0,0)", "space origin: (0,0.0)", "space origin must hold three numbers"),
        ("S1:=", f"Segment0_Name:=a\nSegment0_LabelValue:={'9' * 5000}", "has the label value '9999"),
        ("S1:=", "Segment0_Name:=a\nSegment0_LabelValue:=\u00b2", "has the label value '\u00b2'"),
    ],
)
def test_headers_that_no_program_writes_are_refused(tmp_path: Path, line: str, by: str, message: str) -> None:
    text = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: RAS\nsizes: 2 3 4\nencoding: raw\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nS1:=\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(text.replace(line, by).encode() + bytes(24))
    with pytest.raises((BadGrid, BadLabel), match=message):
        read_label_file(tmp_path / "a.nrrd")


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "-1"])
def test_segments_of_strange_numbers_are_no_names(tmp_path: Path, number: str) -> None:
    path = save_nrrd(tmp_path / "a.nrrd", np.ones((2, 3, 4), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"\n\n", f"\nSegment{number}_Name:=a\n\n".encode(), 1))
    assert read_label_file(path)[2] is None


def test_a_cropped_or_reordered_label_is_placed_on_its_image(case: tuple[np.ndarray, Grid]) -> None:
    array, grid = case
    assert place(array, grid, grid, "a") is array
    low = np.argwhere(array).min(axis=0)
    high = np.argwhere(array).max(axis=0) + 1
    crop = array[tuple(slice(a, b) for a, b in zip(low, high))]
    assert (place(crop, grid.crop(tuple(low), crop.shape), grid, "a") == array).all()
    padded = np.pad(array, 2)
    assert (place(padded, grid.crop((-2, -2, -2), padded.shape), grid, "a") == array).all()
    moved, other = phantom.reorient(array, grid, "SAR")
    assert (place(moved, other, grid, "a") == array).all()


def test_a_label_of_other_voxels_is_refused() -> None:
    made, other = (phantom.make(seed=3, shape=(40, 48, 36), oblique=oblique) for oblique in (False, True))
    with pytest.raises(
        BadGrid,
        match=re.escape(
            "a.nii: the label lies on another grid (40x48x36 @ 1.00x1.00x1.00 mm LPS) than its image ("
        ),
    ):
        place(made.labels, made.grid, other.grid, "a.nii")
    shifted = made.grid.affine.copy()
    shifted[0, 3] += 0.4
    with pytest.raises(BadGrid, match="resample it to the image's grid first"):
        place(made.labels, Grid(made.grid.shape, shifted), made.grid, "a.nii")
    doubled = Grid((20, 24, 18), made.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(BadGrid, match="another grid"):
        place(made.labels[::2, ::2, ::2], doubled, made.grid, "a.nii")


def test_labels_outside_the_image_are_refused_not_lost() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    array = np.zeros((4, 4, 4), np.uint8)
    array[0, 0, 0] = array[3, 3, 3] = 1
    with pytest.raises(BadGrid, match="a.nii: 1 labelled voxels lie outside the image"):
        place(array, grid.crop((2, 2, 2), (4, 4, 4)), grid, "a.nii")


@pytest.mark.parametrize("name", ["Brats18_2013_3_1", "BraTS2021_01477"])
def test_a_real_label_goes_through_nrrd_unchanged(
    tmp_path: Path, real_data: Path, labels: LabelSet, name: str
) -> None:
    """The second case has no enhancing tumor: an absent class keeps its name."""
    array, grid, _ = read_label_file(real_data / "brats" / name / f"{name}_seg.nii.gz")
    named = labels.remap(array, codings()["brats2018"].values)
    read, where, names = read_label_file(write_nrrd(named, grid, labels, tmp_path / "a.seg.nrrd"))
    assert where.same_as(grid, 1e-3)
    assert names == {1: "necrosis", 2: "edema", 3: "enhancing tumor"}
    assert np.count_nonzero(array) > 10_000
    assert [(read == value).sum() for value in (1, 2, 3)] == [(array == value).sum() for value in (1, 2, 4)]
    assert (read == named).all()
