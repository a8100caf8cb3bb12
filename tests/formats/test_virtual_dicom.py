"""An image as a DICOM series that nobody has written: what readers make of it, what its UIDs follow from."""

import io
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from slem_app.errors import BadGrid, BadVolume
from slem_app.formats.provenance import Provenance
from slem_app.formats.seg import make_seg
from slem_app.formats.seg_reader import read_seg
from slem_app.formats.sixteen_bits import SixteenBits
from slem_app.formats.virtual_dicom import VirtualSeries, virtual_study_uid
from slem_app.studies import Series, open_source
from slem_app.types import Grid
from slem_app.volumes.read import read
from slem_app.weights import BRAIN_LABELS

SHAPE = (9, 8, 7)
ANGLES = np.deg2rad([12.0, -25.0, 33.0])


def turned() -> np.ndarray:
    """(3, 3) rotation about all axes."""
    result = np.eye(3)
    for axis, angle in enumerate(ANGLES):
        one = np.eye(3)
        others = [n for n in range(3) if n != axis]
        one[np.ix_(others, others)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        result = one @ result
    return result


def affine_of(signs: tuple[int, int, int], order: tuple[int, int, int], oblique: bool) -> np.ndarray:
    """Voxels of 0.9 x 1.1 x 3 mm whose axes run along the world axes of `order`, with signs."""
    affine = np.eye(4)
    matrix = np.zeros((3, 3))
    for axis, (world, sign, size) in enumerate(zip(order, signs, (0.9, 1.1, 3.0))):
        matrix[world, axis] = sign * size
    affine[:3, :3] = (turned() if oblique else np.eye(3)) @ matrix
    affine[:3, 3] = (-80.123456, 33.3, 12.0)
    return affine


def series_in(folder: Path, array: np.ndarray, affine: np.ndarray, name: str = "t1c.nii.gz") -> Series:
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / name)
    return Series(name.partition(".")[0], (folder / name,), "nifti", name.partition(".")[0])


def written(virtual: VirtualSeries, folder: Path) -> Path:
    """All its slices as files."""
    folder.mkdir()
    volume = read(virtual.series)
    stored = SixteenBits.of(volume.array)
    stored = SixteenBits(
        np.ascontiguousarray(virtual.layout.arrange(stored.array)),
        stored.slope,
        stored.intercept,
        stored.window,
    )
    for k in range(virtual.layout.grid.shape[2]):
        (folder / f"{(k * 5) % 7}-{k}.dcm").write_bytes(virtual.file(k, stored))
    return folder


@pytest.mark.parametrize(
    ("signs", "order", "oblique"),
    [
        ((1, 1, 1), (0, 1, 2), False),
        ((-1, -1, 1), (0, 1, 2), True),
        ((-1, 1, 1), (0, 1, 2), True),  # left-handed
        ((1, 1, 1), (1, 2, 0), True),  # sagittal
        ((-1, 1, -1), (1, 2, 0), False),
        ((1, -1, -1), (0, 2, 1), True),  # coronal
    ],
)
def test_files_of_it_are_read_as_the_same_image(
    tmp_path: Path, signs: tuple[int, int, int], order: tuple[int, int, int], oblique: bool
) -> None:
    array = np.random.default_rng(1).integers(0, 3000, SHAPE).astype(np.int16)
    series = series_in(tmp_path / "nifti", array, affine_of(signs, order, oblique))
    virtual = VirtualSeries("ann", series, 1, "t1c")
    [study] = open_source(written(virtual, tmp_path / "dicom"))
    [back] = study.series

    assert (study.series[0].header["PatientID"], back.id) == ("ann", virtual.uid)
    np.testing.assert_allclose(back.grid.affine, virtual.layout.grid.affine, atol=1e-6)
    volume = read(back)
    for index in np.ndindex(SHAPE):
        there = volume.grid.to_index(series.grid.to_world(np.array(index)))
        np.testing.assert_allclose(there, np.rint(there), atol=1e-4)
        assert volume.array[tuple(np.rint(there).astype(int))] == array[index]


def test_a_segmentation_of_it_comes_back_to_the_voxels_of_the_file(tmp_path: Path) -> None:
    series = series_in(tmp_path, np.ones(SHAPE, np.float32), affine_of((-1, 1, 1), (0, 1, 2), True))
    virtual = VirtualSeries("ann", series, 1, "t1c")
    labels = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8)
    how = Provenance("MANUAL", description="drawn")
    for grid, array in (
        (series.grid, labels),
        (virtual.layout.grid, virtual.layout.arrange(labels).transpose(2, 1, 0)),
    ):
        seg = make_seg(array, grid, BRAIN_LABELS, virtual.headers(), how)
        np.testing.assert_array_equal(read_seg(seg, series.grid, BRAIN_LABELS, virtual.frame_uid), labels)
        assert (seg.PatientID, seg.StudyInstanceUID) == ("ann", virtual_study_uid("ann"))


def test_it_says_what_is_known_and_invents_nobody(tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    series = series_in(tmp_path, array, affine_of((1, 1, 1), (0, 1, 2), False))
    (tmp_path / "t1c.json").write_text('{"EchoTime": 0.0042, "PatientName": "Doe^Jane", "FlipAngle": "odd"}')
    virtual = VirtualSeries("Ärztin^9=x", series, 3, "t1c (T1 post)")
    stored = SixteenBits.of(array)
    image = pydicom.dcmread(
        io.BytesIO(
            virtual.file(
                2,
                SixteenBits(
                    virtual.layout.arrange(stored.array), stored.slope, stored.intercept, stored.window
                ),
            )
        )
    )
    assert (image.PatientID, str(image.PatientName), image.Modality) == ("Ärztin^9=x", "Ärztin 9 x^", "MR")
    assert (image.SeriesDescription, image.SeriesNumber, image.InstanceNumber) == ("t1c (T1 post)", 3, 3)
    assert (image.EchoTime, image.RepetitionTime) == (4.2, None)
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber", "ReferringPhysicianName"):
        assert not image[empty].value
    assert "FlipAngle" not in image
    assert image.StudyInstanceUID == virtual_study_uid("Ärztin^9=x")


def test_numbers_of_its_json_are_decimal_strings_of_sixteen_characters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(1000, 300, SHAPE)
    virtual = VirtualSeries(
        "ann", series_in(tmp_path, array, affine_of((1, -1, 1), (0, 1, 2), True)), 1, "t1c"
    )
    for attributes in virtual.described(SixteenBits.of(array)):
        told = [element for element in attributes.values() if element["vr"] == "DS"]
        numbers = [number for element in told for number in element.get("Value", [])]
        assert len(numbers) > 10
        assert max(len(repr(number)) for number in numbers) <= 16


def test_a_long_name_is_cut_and_stays_its_own(tmp_path: Path) -> None:
    series = series_in(tmp_path, np.ones(SHAPE, np.uint8), np.eye(4))
    one, two = (VirtualSeries("x" * 80 + end, series, 1, "t1c").patient_id for end in "ab")
    assert len(one) == len(two) == 64
    assert one != two


def test_uids_follow_from_the_case_and_the_file_and_not_from_where_it_lies(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 3000, SHAPE).astype(np.int16)
    here = VirtualSeries("ann", series_in(tmp_path / "a", array, np.eye(4)), 1, "t1c")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copied = Series("t1c", (tmp_path / "b/t1c.nii.gz",), "nifti", "t1c")
    there = VirtualSeries("ann", copied, 2, "other words")
    assert (there.study_uid, there.uid, there.instance_uids) == (here.study_uid, here.uid, here.instance_uids)
    assert len({here.study_uid, here.uid, here.frame_uid, *here.instance_uids}) == 3 + SHAPE[2]
    assert all(pydicom.uid.UID(uid).is_valid for uid in (here.study_uid, here.uid, *here.instance_uids))

    other = VirtualSeries("ben", here.series, 1, "t1c")
    moved = np.eye(4)
    moved[0, 3] = 1
    replaced = VirtualSeries("ann", series_in(tmp_path / "c", array, moved), 1, "t1c")
    assert other.study_uid != here.study_uid
    assert len({here.uid, other.uid, replaced.uid}) == 3


def test_what_makes_no_slices_is_refused_with_the_reason(tmp_path: Path) -> None:
    four = series_in(tmp_path, np.ones((*SHAPE, 3), np.uint8), np.eye(4), "four.nii.gz")
    with pytest.raises(BadVolume, match="is 4D"):
        _ = VirtualSeries("ann", four, 1, "four").uid
    sheared = np.eye(4)
    sheared[0, 1] = 0.015
    with pytest.raises(BadGrid, match="not at right angles"):
        _ = VirtualSeries("ann", series_in(tmp_path, np.ones((90, 90, 5)), sheared), 1, "t1c").layout


def test_a_channel_of_a_4d_file_is_a_series(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 300, (*SHAPE, 2)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "both.nii.gz")
    both = [Series(f"c{n}", (tmp_path / "both.nii.gz",), "nifti", f"c{n}", n) for n in range(2)]
    first, second = (VirtualSeries("ann", one, 1, one.name) for one in both)
    assert first.uid != second.uid
    assert first.layout.grid.same_as(Grid(SHAPE, second.layout.grid.affine))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy: apt-get install dicom3tools")
@pytest.mark.parametrize("oblique", [False, True])
def test_an_independent_validator_finds_no_error_in_a_slice(tmp_path: Path, oblique: bool) -> None:
    array = np.arange(6 * 7 * 5, dtype=np.float32).reshape(6, 7, 5) / 3
    series = series_in(tmp_path / "a", array, affine_of((-1, -1, 1), (0, 1, 2), oblique))
    virtual = VirtualSeries("case 1", series, 1, "t1c")
    for path in sorted(written(virtual, tmp_path / "slices").iterdir()):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        assert "MRImage" in said, said  # it knew what to hold it against
        assert [line for line in said if line.startswith("Error")] == []
