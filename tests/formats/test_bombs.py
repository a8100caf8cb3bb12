"""Files that unpack to far more than they are: refused by their header, or unpacked no further than allowed.

Each attack runs in a process of its own, which says how far its memory rose.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from isal import igzip

from tests.studies.test_dicom_file import element, image

MIB = 2**20
IMAGE = (64, 64, 64)  # voxels of the image that the label should belong to
MEASURE = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from slem_app.errors import SlemError
from slem_app.formats import read_label_file
from slem_app.store.dicom_results import parse_result
from slem_app.studies import Series
from slem_app.studies.dicom_header import probe, read_slices
from slem_app.studies.dicom_json import read_frames, read_instance
from slem_app.types import Grid
from slem_app.volumes.read import read
from slem_app.volumes.size import check_sizes

path, image = Path(sys.argv[1]), Grid(tuple(json.loads(sys.argv[2])), np.eye(4))
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # the machine itself is not at stake

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before, said = peak(), ""
try:
    {work}
except SlemError as error:
    said = f"{{type(error).__name__}}: {{error}}"
print(json.dumps([peak() - before, said, time.process_time()]))
"""
LABEL = "read_label_file(path, image)"


def attack(work: str, path: Path) -> tuple[int, str]:
    """How many bytes the memory rose by, and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(work=work), str(path), json.dumps(IMAGE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rise, said, seconds = json.loads(done.stdout)
    assert seconds < 70
    return rise, said


def nifti(path: Path, shape: tuple[int, ...], dtype: type, content: bytes, offset: int = 352) -> Path:
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    header.set_sform(np.eye(4), 1)
    path.write_bytes(igzip.compress(header.binaryblock + bytes(4) + content, 1))
    return path


def nrrd(path: Path, sizes: str, encoding: str, content: bytes, more: str = "") -> Path:
    head = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: RAS\nsizes: {sizes}\nspace directions: (1,0,0) (0,1,0) "
        f"(0,0,1)\nspace origin: (0,0,0)\nencoding: {encoding}\n{more}\n"
    )
    path.write_bytes(head.encode() + content)
    return path


def packed(mib: int) -> bytes:
    """That many MiB of zeros, packed."""
    return igzip.compress(bytes(mib * MIB), 1)


ATTACKS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "a label far larger than its image": (
        lambda folder: nifti(folder / "a.nii.gz", (1024, 1024, 256), np.int16, bytes(512 * MIB)),
        LABEL,
        "TooLarge: a.nii.gz: a label map of 1024 x 1024 x 256 voxels (512.0 MiB unpacked) came for an image "
        "of 64 x 64 x 64 voxels (0.5 MiB)",
    ),
    "a label of 32767 cubed": (
        lambda folder: nifti(folder / "a.nii.gz", (32767, 32767, 32767), np.float64, bytes(1000)),
        LABEL,
        "TooLarge: a.nii.gz: a label map of 32767 x 32767 x 32767 voxels (256.0 TiB unpacked)",
    ),
    "more behind the voxels than is promised": (
        lambda folder: nifti(folder / "a.nii.gz", IMAGE, np.uint8, bytes(512 * MIB)),
        LABEL,
        "",
    ),
    "more before the voxels than any header has": (
        lambda folder: nifti(folder / "a.nii.gz", IMAGE, np.uint8, bytes(512 * MIB), 400 * MIB),
        LABEL,
        "its voxels begin at byte 419430400",
    ),
    "a gzip NRRD far larger than its image": (
        lambda folder: nrrd(folder / "a.nrrd", "1024 1024 512", "gzip", packed(512)),
        LABEL,
        "TooLarge: a.nrrd: a label map of 1024 x 1024 x 512 voxels",
    ),
    "a gzip NRRD with more than it promises": (
        lambda folder: nrrd(folder / "a.nrrd", "64 64 64", "gzip", packed(512)),
        LABEL,
        "",
    ),
    "a bzip2 NRRD": (
        lambda folder: nrrd(folder / "a.nrrd", "64 64 64", "bzip2", b"BZh9"),
        LABEL,
        "its voxels are encoded as 'bzip2': save it as raw or gzip",
    ),
    "lines to be skipped for ever": (
        lambda folder: nrrd(folder / "a.nrrd", "64 64 64", "raw", bytes(64**3), "line skip: 99999999999\n"),
        LABEL,
        "its header has the field 'line skip'",
    ),
    "bytes to be skipped": (
        lambda folder: nrrd(folder / "a.nrrd", "64 64 64", "gzip", packed(512), "byteskip: 500000000\n"),
        LABEL,
        "its header has the field 'byteskip'",
    ),
    "an image that unpacks to 4 GiB": (
        lambda folder: nifti(folder / "a.nii.gz", (1024, 1024, 2048), np.int16, bytes(MIB)),
        "check_sizes([path], 64 << 20)",
        "TooLarge: a.nii.gz: 1024 x 1024 x 2048 voxels take 8,192.0 MiB once they are unpacked, the limit is "
        "64.0 MiB (setting `volume_mb`)",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_memory_does_not_rise(tmp_path: Path, name: str) -> None:
    make, work, said = ATTACKS[name]
    rise, answer = attack(work, make(tmp_path))
    assert said in answer
    assert bool(said) == bool(answer)
    assert rise < 24 * MIB  # the file itself in pieces of 1 MiB, and Python's own


def test_a_label_as_large_as_it_may_be_takes_at_most_twice_that(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", (128, 128, 320), np.float64, bytes(40 * MIB))
    rise, answer = attack(LABEL.replace("image", "Grid((128, 128, 160), np.eye(4))"), path)
    assert answer == ""
    assert rise < 2 * 40 * MIB


def test_a_deflated_file_takes_at_most_twice_what_it_may(tmp_path: Path) -> None:
    path = image(tmp_path, more=element(0x10, bytes(256 * MIB)), packed=True)
    limit = "from slem_app.studies import dicom_file; dicom_file.INFLATED = 64 << 20; "
    for work in ("parse_result(path.read_bytes())", "read_slices(path)", "read_frames(path, [1])"):
        rise, answer = attack(limit + work, path)
        assert "it unpacks to more than 64.0 MiB" in answer
        assert rise < 2 * 64 * MIB


@pytest.mark.parametrize(("dtype", "slope"), [(np.int16, 1.0), (np.int16, 0.5), (np.float64, 1.0)])
def test_an_image_takes_at_most_twice_what_it_may(tmp_path: Path, dtype: type, slope: float) -> None:
    array = np.zeros((256, 256, 160), dtype)
    array[0, 0, 0] = 1
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(slope, 0.0)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(igzip.compress(image.to_bytes(), 1))
    allowed = array.size * max(4, array.itemsize)
    rise, answer = attack(
        f"check_sizes([path], {allowed}); read(Series(id='a', paths=(path,), format='nifti', name='a'))", path
    )
    assert answer == ""
    assert rise < 2 * allowed
