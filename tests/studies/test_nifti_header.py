import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.errors import BadVolume, NotFound
from slem_app.studies import Series
from slem_app.studies.nifti_header import NiftiHeader

Image = Callable[..., Path]


def series(path: Path, channel: int | None = None) -> Series:
    return Series("x", (path,), "nifti", "x", channel)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_reads_the_grid_from_the_header(tmp_path: Path, image: Image, ending: str) -> None:
    grid = series(image(tmp_path / f"a{ending}", (4, 5, 6))).grid
    assert str(grid) == "4x5x6 @ 1.00x1.00x2.00 mm LPS"


def test_a_fourth_axis_of_one_is_no_harm(tmp_path: Path, image: Image) -> None:
    assert series(image(tmp_path / "a.nii", (4, 5, 6, 1))).grid.shape == (4, 5, 6)


def test_a_channel_of_a_4d_file_has_its_grid(tmp_path: Path, image: Image) -> None:
    path = image(tmp_path / "a.nii.gz", (4, 5, 6, 3))
    assert series(path, 2).grid.shape == (4, 5, 6)
    with pytest.raises(BadVolume, match="channel 3, named in dataset.json, does not exist"):
        _ = series(path, 3).grid


def test_refuses_4d_where_3d_is_needed(tmp_path: Path, image: Image) -> None:
    with pytest.raises(
        BadVolume,
        match=(
            "is 4D, shape \\(4, 5, 6, 3\\), where one 3D image is needed: split it .* or put a dataset.json"
        ),
    ):
        _ = series(image(tmp_path / "a.nii.gz", (4, 5, 6, 3))).grid


def test_refuses_2d(tmp_path: Path, image: Image) -> None:
    with pytest.raises(BadVolume, match="has shape \\(4, 5\\): a 3D image is needed"):
        _ = series(image(tmp_path / "a.nii", (4, 5))).grid


def test_refuses_colours(tmp_path: Path, image: Image) -> None:
    with pytest.raises(BadVolume, match="a grey image of integers or real numbers is needed"):
        _ = series(image(tmp_path / "a.nii", dtype=np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))).grid


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\0" * 400])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_refuses_what_is_no_image(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(BadVolume, match="a.nii.* is not a readable NIfTI image: .*Copy or convert it again"):
        _ = series(path).grid


@pytest.mark.parametrize(
    "extents", [(10, -(2**62) + 12, 8), (-10, -12, 8), (10, 0, 8), (-(2**63) + 10, 12, 8)]
)
def test_refuses_lengths_below_one(tmp_path: Path, extents: tuple[int, ...]) -> None:
    """Their product is below any limit."""
    content = bytearray(nibabel.Nifti2Image(np.zeros((10, 12, 8), np.uint8), np.eye(4)).to_bytes())
    content[24:48] = struct.pack("<3q", *extents)  # dim[1..3]
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(BadVolume, match="its header promises .* voxels. Copy or convert it again"):
        NiftiHeader.read(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.98])
def test_refuses_a_truncated_file(tmp_path: Path, image: Image, ending: str, part: float) -> None:
    rng = np.random.default_rng(0)
    path = image(tmp_path / f"a{ending}", (30, 30, 30))
    if ending == ".nii.gz":  # noise, so that the file has some length
        raw = gzip.decompress(path.read_bytes())[:352] + rng.bytes(2 * 30**3)
        path.write_bytes(gzip.compress(raw))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(BadVolume, match="is truncated.*Copy it again"):
        _ = series(path).grid


def test_accepts_gzip_in_several_members(tmp_path: Path, image: Image) -> None:
    raw = image(tmp_path / "a.nii", (30, 30, 30)).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(raw[:20000]) + gzip.compress(raw[20000:]) + gzip.compress(b""))
    assert series(path).grid.shape == (30, 30, 30)


def test_a_vanished_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="was moved or deleted after the folder was listed"):
        _ = series(tmp_path / "gone.nii").grid
