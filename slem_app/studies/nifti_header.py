"""What the header of a NIfTI file says: its grid, whether the file is whole, and the fields of the JSON file
beside it.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from slem_app.errors import BadVolume, NotFound
from slem_app.types import Grid, triple
from slem_app.unpack import PIECE, Clock, gunzip, times

__all__ = ["ENDINGS", "NiftiHeader", "grid", "is_nifti", "sidecar", "stem"]

ENDINGS = (".nii.gz", ".nii")
# what a damaged file makes nibabel raise
BROKEN = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error, struct.error)
# BIDS and dcm2niix write seconds where DICOM has milliseconds
SECONDS = ("EchoTime", "RepetitionTime", "InversionTime")
LONGEST_HEADER = 540  # bytes of NIfTI-2's
FARTHEST = 16 * 2**20  # bytes before the voxels: the header and its extensions


def is_nifti(name: str) -> bool:
    """True for a file name that ends like a NIfTI file."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def stem(name: str) -> str:
    """The file name without .nii or .nii.gz."""
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)


@dataclass(frozen=True)
class NiftiHeader:
    """What a file says of its voxels."""

    path: Path
    """The file."""
    shape: tuple[int, ...]
    """Of the voxels, all axes."""
    dtype: np.dtype
    """In which they are stored, byte order included."""
    affine: np.ndarray
    """(4, 4) voxel index to RAS mm."""
    offset: int
    """Bytes before the voxels, unpacked."""
    slope: float
    """A value is stored * slope + inter."""
    inter: float
    """See `slope`."""

    @classmethod
    def read(cls, path: Path) -> NiftiHeader:
        """The header of a file, and nothing else of it: extensions are skipped, voxels stay packed.

        Raises:
            NotFound: no such file.
            BadVolume: not a NIfTI image (NIfTI-1 or NIfTI-2 in one file), or one in colour.
        """
        if not path.is_file():
            raise NotFound(f"no file {path}: it was moved or deleted after the folder was listed")
        try:
            with path.open("rb") as file:
                start = _beginning(_content(file, path))
            kind = next((one for one in (Nifti1Header, Nifti2Header) if one.may_contain_header(start)), None)
            if kind is None:
                raise ImageFileError("it does not begin like one")
            header = kind(start[: kind.sizeof_hdr])
            shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
            slope, inter = header.get_slope_inter()
            offset, affine = int(header.get_data_offset()), header.get_best_affine()
        except (*BROKEN, OverflowError, BadVolume) as error:
            raise BadVolume(
                f"{path} is not a readable NIfTI image: {error}. Copy or convert it again"
            ) from error
        if dtype.fields or dtype.kind not in "iuf":
            raise BadVolume(
                f"{path} holds {dtype} values: a grey image of integers or real numbers is needed"
            )
        if not shape or min(shape) < 1:  # a negative length would pass every limit on the product
            raise BadVolume(
                f"{path} is not a readable NIfTI image: its header promises {times(shape) or 'no'} voxels. "
                f"Copy or convert it again"
            )
        if not kind.sizeof_hdr <= offset <= FARTHEST:
            raise BadVolume(
                f"{path} is not a readable NIfTI image: its voxels begin at byte {offset}. "
                f"Copy or convert it again"
            )
        scaling = (1.0 if slope is None else slope, 0.0 if inter is None else inter)
        return cls(path, shape, dtype, affine, offset, *scaling)

    @property
    def packed(self) -> bool:
        """Whether it is compressed."""
        return self.path.name.lower().endswith(".gz")

    @property
    def nbytes(self) -> int:
        """What the voxels take, as they are stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    def content(self, file: BinaryIO) -> Iterator[bytes]:
        """The bytes of the open file, unpacked, in pieces.

        Raises:
            BadVolume, TookTooLong: as `unpack.gunzip`, while it is read.
        """
        return _content(file, self.path)

    def grid(self, channel: int | None = None) -> Grid:
        """The grid of a 3D file, or of one channel of a 4D file; arguments and errors as those of `grid`."""
        extra = [n for n in self.shape[3:] if n != 1]
        if len(self.shape) < 3 or len(extra) > 1 or min(self.shape) < 1:
            raise BadVolume(f"{self.path} has shape {self.shape}: a 3D image is needed")
        if extra and channel is None:
            raise BadVolume(
                f"{self.path} is 4D, shape {self.shape}, where one 3D image is needed: split it into one "
                "file for each sequence, or put a dataset.json with the names of its channels beside it "
                "(Medical Segmentation Decathlon)"
            )
        if channel is not None and channel >= (extra[0] if extra else 1):
            raise BadVolume(
                f"{self.path} has shape {self.shape}: channel {channel}, named in dataset.json, does not "
                f"exist"
            )
        return Grid(triple(self.shape[:3]), self.affine)


def grid(path: Path, channel: int | None = None) -> Grid:
    """The grid of a 3D file, or of one channel of a 4D file.

    Args:
        path: the file.
        channel: index on the fourth axis; None for a 3D file (a fourth axis of length 1 is no harm).

    Raises:
        NotFound: no such file.
        BadVolume: truncated, not an image, colour, or not of three axes.
    """
    header = NiftiHeader.read(path)
    found = header.grid(channel)
    _check_size(header)
    return found


def _beginning(pieces: Iterator[bytes]) -> bytes:
    start = b""
    for piece in pieces:
        start += piece[:LONGEST_HEADER]
        if len(start) >= LONGEST_HEADER:
            break
    return start[:LONGEST_HEADER]


def _content(file: BinaryIO, path: Path) -> Iterator[bytes]:
    if path.name.lower().endswith(".gz"):
        return gunzip(file, Clock(path.name))
    return iter(partial(file.read, PIECE), b"")


def _check_size(header: NiftiHeader) -> None:
    """Refuse a file that holds less than its header promises; a compressed one is unpacked only if its last
    bytes look wrong, and never further than was promised.
    """
    path, expected = header.path, header.offset + header.nbytes
    size = path.stat().st_size
    if not header.packed:
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
    found = 0
    with path.open("rb") as file:
        try:
            for piece in header.content(file):
                found += len(piece)
                if found >= expected:
                    return
        except BadVolume as error:
            raise BadVolume(f"{path} is truncated or damaged: {error}. Copy it again") from error
    raise BadVolume(
        f"{path} is truncated: {found} bytes unpacked where its header promises {expected}. Copy it again"
    )


def sidecar(path: Path) -> Mapping[str, Any]:
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
            f"{beside}, beside the image of that name, is not JSON: {error}. Correct or remove it"
        ) from error
    if not isinstance(fields, dict):
        return {}
    return {
        key: value * 1000 if key in SECONDS and isinstance(value, (int, float)) else value
        for key, value in fields.items()
    }
