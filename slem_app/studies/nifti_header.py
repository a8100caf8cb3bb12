"""What the header of a NIfTI file says: its grid, whether the file is whole, and the fields of the JSON file
beside it.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import nibabel
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from slem_app.errors import BadVolume, NotFound
from slem_app.types import Grid

__all__ = ["ENDINGS", "grid", "is_nifti", "sidecar", "stem"]

ENDINGS = (".nii.gz", ".nii")
# what a damaged file makes nibabel raise
BROKEN = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error, struct.error)
# BIDS and dcm2niix write seconds where DICOM has milliseconds
SECONDS = ("EchoTime", "RepetitionTime", "InversionTime")


def is_nifti(name: str) -> bool:
    """True for a file name that ends like a NIfTI file."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def stem(name: str) -> str:
    """The file name without .nii or .nii.gz."""
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)


def grid(path: Path, channel: int | None = None) -> Grid:
    """The grid of a 3D file, or of one channel of a 4D file.

    Args:
        path: the file.
        channel: index on the fourth axis; None for a 3D file (a fourth axis of length 1 is no harm).

    Raises:
        NotFound: no such file.
        BadVolume: truncated, not an image, colour, or not of three axes.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}: it was moved or deleted after the folder was listed")
    try:
        image = nibabel.load(path)
        shape, dtype, affine = image.shape, image.get_data_dtype(), image.affine
    except BROKEN as error:
        raise BadVolume(f"{path} is not a readable NIfTI image: {error}. Copy or convert it again") from error
    if dtype.fields or dtype.kind not in "iuf":
        raise BadVolume(f"{path} holds {dtype} values: a grey image of integers or real numbers is needed")
    extra = [n for n in shape[3:] if n != 1]
    if len(shape) < 3 or len(extra) > 1 or min(shape) < 1:
        raise BadVolume(f"{path} has shape {shape}: a 3D image is needed")
    if extra and channel is None:
        raise BadVolume(
            f"{path} is 4D, shape {shape}, where one 3D image is needed: split it into one file a sequence, "
            "or put a dataset.json with the names of its channels beside it (Medical Segmentation Decathlon)"
        )
    if channel is not None and channel >= (extra[0] if extra else 1):
        raise BadVolume(f"{path} has shape {shape}: channel {channel}, named in dataset.json, does not exist")
    _check_size(path, int(image.dataobj.offset) + math.prod(shape) * dtype.itemsize)
    return Grid(tuple(shape[:3]), affine)


def _check_size(path: Path, expected: int) -> None:
    """Refuse a file that holds less than `expected` bytes; a compressed one is unpacked only if its last
    bytes look wrong.
    """
    size = path.stat().st_size
    if not path.name.lower().endswith(".gz"):
        if size < expected:
            raise BadVolume(
                f"{path} is truncated: {size} bytes where its header promises {expected}. Copy it again"
            )
        return
    with path.open("rb") as file:
        file.seek(-4, 2)
        claimed = struct.unpack("<I", file.read())[0]  # gzip trailer: size modulo 2**32 of the last member
    if expected % 2**32 == claimed:
        return
    try:
        with gzip.open(path) as file:
            found = sum(iter(lambda: len(file.read(1 << 22)), 0))
    except (EOFError, OSError, zlib.error) as error:
        raise BadVolume(f"{path} is truncated or damaged: {error}. Copy it again") from error
    if found < expected:
        raise BadVolume(
            f"{path} is truncated: {found} bytes unpacked where its header promises {expected}. Copy it again"
        )


def sidecar(path: Path) -> Mapping[str, object]:
    """Fields of the JSON file of the same name, as dcm2niix and BIDS write it, by DICOM keyword and with
    times in ms; {} without one.
    """
    beside = path.with_name(f"{stem(path.name)}.json")
    if not beside.is_file():
        return {}
    try:
        fields = json.loads(beside.read_text())
    except ValueError as error:
        raise BadVolume(
            f"{beside}, beside the image of that name, is not JSON: {error}. Mend or remove it"
        ) from error
    if not isinstance(fields, dict):
        return {}
    return {
        key: value * 1000 if key in SECONDS and isinstance(value, (int, float)) else value
        for key, value in fields.items()
    }
