"""Pixels from files: the same in NIfTI and DICOM, and every kind of bad file refused by name."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from slem_app.errors import BadGrid, BadVolume, NotFound
from slem_app.phantom import make, write_dicom, write_nifti
from slem_app.studies import Series, open_source
from slem_app.volumes.geometry import resample
from slem_app.volumes.read import read, read_all, read_labels

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def test_values_and_grid_come_as_stored(nifti):
    affine = np.array([[-2.0, 0, 0, 5], [0, 0, 3, -6], [0, -1.5, 0, 7], [0, 0, 0, 1]])
    volume = read(nifti(ARRAY, affine=affine))
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.grid.affine, affine)


def test_scaling_in_the_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(ARRAY, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(Series("a", (tmp_path / "a.nii",), "nifti", "a")).array, ARRAY * 0.5 - 3)


def test_the_array_does_not_stay_bound_to_the_file(nifti):
    series = nifti(ARRAY.astype(np.float32), "a.nii")
    volume = read(series)
    series.paths[0].write_bytes(b"")
    np.testing.assert_array_equal(volume.array, ARRAY)


def test_a_channel_of_a_4d_file(nifti):
    stacked = np.stack([ARRAY, 2 * ARRAY], axis=-1)
    np.testing.assert_array_equal(read(nifti(stacked, channel=1)).array, 2 * ARRAY)


def test_a_fourth_axis_of_one_is_no_harm(nifti):
    np.testing.assert_array_equal(read(nifti(ARRAY[..., None])).array, ARRAY)


def test_several_at_once(nifti):
    volumes = read_all({"t1n": nifti(ARRAY, "a.nii.gz"), "t2w": nifti(ARRAY * 3, "b.nii.gz")})
    np.testing.assert_array_equal(volumes["t2w"].array, ARRAY * 3)
    assert list(volumes) == ["t1n", "t2w"]


@pytest.mark.parametrize("kept", [0.97, 0.5, 0.01])
def test_a_truncated_archive_is_refused(nifti, kept):
    series = nifti(np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16))
    path = series.paths[0]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(BadVolume, match=r"t1\.nii\.gz.*(truncated|not a readable)"):
        read(series)


def test_a_truncated_plain_file_is_refused(nifti):
    series = nifti(ARRAY, "t1.nii")
    path = series.paths[0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadVolume, match="truncated.*Copy it again"):
        read(series)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii.gz", b"not an image"),
        ("b.nii", b"x" * 400),
        ("c.nii.gz", gzip.compress(b"text", mtime=0)),
        ("d.nii", b""),
    ],
)
def test_a_file_that_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadVolume, match=rf"{name}.*not a readable NIfTI image"):
        read(Series("t1", (tmp_path / name,), "nifti", "t1"))


def test_4d_without_a_channel_is_refused(nifti):
    with pytest.raises(BadVolume, match=r"t1\.nii\.gz is 4D, shape \(3, 4, 5, 2\).*dataset.json"):
        read(nifti(np.stack([ARRAY, ARRAY], axis=-1)))


def test_colour_and_complex_are_refused(nifti):
    rgb = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array in (rgb, ARRAY.astype(np.complex64)):
        with pytest.raises(BadVolume, match="a grey image"):
            read(nifti(array, "c.nii"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(nifti, bad):
    array = ARRAY.astype(np.float32)
    array[0, 0, :2] = bad
    with pytest.raises(BadVolume, match="t1: 2 of 60 voxels are NaN or infinite"):
        read(nifti(array))


def test_a_constant_image_is_refused(nifti):
    with pytest.raises(BadVolume, match="t1: every voxel has the value 4: the image is empty"):
        read(nifti(np.full((3, 4, 5), 4, np.int16)))


@pytest.mark.parametrize(("column", "text"), [([0.0, 0, 0, 0], "zero axis"), ([1.0, 2, 0, 0], "sheared")])
def test_impossible_affines_are_refused(tmp_path, column, text):
    affine = np.diag([2.0, 2, 2, 1])
    affine[:, 0] = column
    nibabel.save(nibabel.Nifti1Image(ARRAY, np.eye(4)), tmp_path / "t1.nii")
    header = bytearray((tmp_path / "t1.nii").read_bytes())
    header[252:254], header[254:256] = b"\0\0", b"\1\0"  # qform_code, sform_code
    header[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    (tmp_path / "t1.nii").write_bytes(header)
    with pytest.raises(BadGrid, match=f"t1: its a.*{text}"):
        read(Series("t1", (tmp_path / "t1.nii",), "nifti", "t1"))


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(NotFound, match=r"t1: the file a\.nii is gone"):
        read(Series("t1", (tmp_path / "a.nii",), "nifti", "t1"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_label_maps_of_any_number_type(nifti, dtype):
    labels, grid = read_labels(nifti((ARRAY % 5).astype(dtype)))
    np.testing.assert_array_equal(labels, ARRAY % 5)
    assert labels.dtype == np.int16
    assert grid.shape == labels.shape


def test_an_empty_label_map_is_one(nifti):
    assert not read_labels(nifti(np.zeros((3, 4, 5), np.uint8)))[0].any()


@pytest.mark.parametrize("bad", [0.5, -1, 256, 70000, np.nan, np.inf])
def test_values_that_are_no_labels_are_refused(nifti, bad):
    array = (ARRAY % 3).astype(np.float32)
    array[1, 1, 1] = bad
    with pytest.raises(BadVolume, match="t1: a label map holds whole numbers from 0 to 255"):
        read_labels(nifti(array))


@pytest.mark.parametrize("own_grids", [False, True])
def test_dicom_and_nifti_agree_in_world_space(tmp_path, own_grids):
    """Slices stored out of order, RescaleSlope unlike 1 and intercept unlike 0 in some, sagittal and oblique
    stacks.
    """
    case = make(2, (40, 46, 34), (4.0, 4.0, 4.0), oblique=True, own_grids=own_grids)
    write_dicom(case, tmp_path / "dicom", "p")
    write_nifti(case, tmp_path / "nifti", "p", layout="nifti", labels=False)
    source = open_source(tmp_path / "dicom")
    series = {s.paths[0].parent.name.split("_")[1]: s for s in source.study(source.ids()[0]).series}
    for name in case.images:
        dicom = read(series[name])
        plain = read(Series(name, (tmp_path / "nifti" / "p" / f"{name}.nii.gz",), "nifti", name))
        there = resample(plain.array, plain.grid, dicom.grid, 1, fill=np.nan)
        assert np.isfinite(there).all()
        # both rounded to whole numbers of unlike slope
        np.testing.assert_allclose(dicom.array, there, atol=1.01, err_msg=name)
        assert dicom.grid.voxel_volume == pytest.approx(plain.grid.voxel_volume, rel=1e-4)


def one_dicom(tmp_path: Path) -> list[Path]:
    write_dicom(make(2, (24, 28, 20), (7.0, 7.0, 7.0)), tmp_path, "p")
    return sorted((tmp_path / "p").glob("*_t1c/*.dcm"))


def test_a_slice_with_damaged_pixels_is_named(tmp_path):
    paths = one_dicom(tmp_path)
    dataset = dcmread(paths[3])
    dataset.PixelData = dataset.PixelData[:100]
    dataset.ImageComments = "x" * 5000  # the file stays long enough
    dataset.save_as(paths[3])
    with pytest.raises(
        BadVolume, match=rf"{paths[3].name} (cannot be decoded|is truncated).*[Ee]xport it again"
    ):
        read(Series("t1c", tuple(paths), "dicom", "t1c"))


def multi_frame(paths: list[Path], target: Path) -> Path:
    """The slices as one enhanced file, its rescaling in functional groups, frames in file order."""
    parts = [dcmread(path) for path in paths]
    whole = dcmread(paths[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for word in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
    ):
        delattr(whole, word)
    whole.NumberOfFrames = len(parts)
    whole.PixelData = b"".join(part.PixelData for part in parts)
    whole.PerFrameFunctionalGroupsSequence = [Dataset() for _ in parts]
    for n, (part, group) in enumerate(zip(parts, whole.PerFrameFunctionalGroupsSequence)):
        place, plane, measures, scale = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = part.ImagePositionPatient
        plane.ImageOrientationPatient = part.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = part.PixelSpacing, part.SliceThickness
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1 + n, -n, "US"
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [plane]
        group.PixelMeasuresSequence, group.PixelValueTransformationSequence = [measures], [scale]
    whole.save_as(target)
    return target


def test_an_enhanced_file_is_read_frame_by_frame(tmp_path):
    paths = one_dicom(tmp_path)
    single = Series("t1c", tuple(paths), "dicom", "t1c")
    volume = read(Series("t1c", (multi_frame(paths, tmp_path / "enhanced.dcm"),), "dicom", "t1c"))
    assert volume.grid.same_as(single.grid)
    for k, (path, _) in enumerate(single.frames):
        n = paths.index(path)
        np.testing.assert_allclose(volume.array[:, :, k], dcmread(path).pixel_array.T * (1.0 + n) - n)


def test_a_colour_series_is_refused(tmp_path):
    paths = one_dicom(tmp_path)
    for path in paths:
        dataset = dcmread(path)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.PixelData = dataset.PixelData * 3
        dataset.save_as(path)
    with pytest.raises(BadVolume, match="colour image"):
        read(Series("t1c", tuple(paths), "dicom", "t1c"))
