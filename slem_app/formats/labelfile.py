"""Reading label maps that a client or a reader made: NIfTI, and the NRRD and .seg.nrrd of 3D Slicer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np

from slem_app.errors import BadGrid, BadLabel, BadVolume, NotFound, TooLarge
from slem_app.studies.nifti_header import NiftiHeader
from slem_app.types import Grid, triple
from slem_app.unpack import PIECE, Clock, filled, gunzip, megabytes, times
from slem_app.volumes import geometry
from slem_app.volumes.nifti import scaled, stored_voxels

__all__ = ["place", "read_label_file"]

TO_RAS = {  # NRRD space -> factors to RAS; the short forms are as valid as the long ones
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
NRRD_TYPES = {  # https://teem.sourceforge.net/nrrd/format.html#type
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        *("longlong", "long long", "long long int", "signed long long", "signed long long int"),
        *("int64", "int64_t"),
    ),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
WHOLE = re.compile("[0-9]{1,9}")  # str.isdigit takes more than int() reads
SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")
ROOM = 2  # a label map may be padded, but has at most this many times its image's voxels
QUOTED = 60  # characters of a value that an error text shows
LARGEST = 4096  # a label value above this is no label
HEADER_LIMIT = 1 << 20  # bytes
SAME_LATTICE = 0.02  # voxels by which a label's lattice may be off the image's


def read_label_file(path: Path, image: Grid | None = None) -> tuple[np.ndarray, Grid, dict[int, str] | None]:
    """Read a label map: .nii, .nii.gz, .nrrd or .seg.nrrd.

    Args:
        path: the file.
        image: the grid on which it should lie, where somebody else made the file: one that promises more than
            `ROOM` times its voxels is refused before it is unpacked. None for files of this program.

    Returns:
        (I, J, K) uint8 or int16 values, the grid, and the names of the values, or None where the file holds
        none (NIfTI, plain NRRD).

    Raises:
        NotFound: no such file.
        BadVolume: another kind of file, truncated, or not 3D (overlapping segments).
        BadGrid: no geometry, or one that no image can have.
        BadLabel: values that are not whole numbers from 0 on.
        TooLarge: more voxels than its image can have.
        TookTooLong: it takes too long to unpack.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"{path.name}: no such label file")
    if path.name.endswith((".nii", ".nii.gz")):
        array, affine, names = _read_nifti(path, image)
    elif path.name.endswith(".nrrd"):
        array, affine, names = _read_nrrd(path, image)
    else:
        raise BadVolume(f"{path.name}: a label file must be .nii, .nii.gz, .nrrd or .seg.nrrd")
    if array.ndim != 3 or 0 in array.shape:
        raise BadVolume(
            f"{path.name}: a label map must have three dimensions, got {array.shape}: export one 3D label map"
        )
    grid = Grid(triple(array.shape), affine)
    geometry.check_grid(grid, path.name)
    return _whole(array, path.name), grid, names


def place(array: np.ndarray, grid: Grid, reference: Grid, what: str) -> np.ndarray:
    """The label map on the grid of its image.

    A label map may be cropped, padded or stored in another order of axes (Slicer crops .seg.nrrd to the
    segments), but its voxels must be the image's: nothing is interpolated.

    Args:
        array: (I, J, K) values on `grid`.
        grid: the label file's.
        reference: the image's.
        what: name of the file in errors.

    Returns:
        (I', J', K') on `reference`, of the input's type.

    Raises:
        BadGrid: other voxels than the image's, or labels outside the image.
    """
    if grid.same_as(reference):
        return array
    matrix = reference.inverse @ grid.affine  # label index -> image index
    nearest = np.round(matrix)
    drift = np.abs(matrix[:3, :3] - nearest[:3, :3]) @ (np.array(grid.shape) - 1) + np.abs(
        matrix[:3, 3] - nearest[:3, 3]
    )
    if (
        drift.max() > SAME_LATTICE
        or not np.allclose(np.abs(nearest[:3, :3]).sum(axis=0), 1)
        or abs(np.linalg.det(nearest[:3, :3])) != 1
    ):
        raise BadGrid(
            f"{what}: the label lies on another grid ({grid}) than its image ({reference}): resample it "
            f"to the image's grid first"
        )
    moved = geometry.resample(array, grid, reference, order=0)
    if lost := int(np.count_nonzero(array)) - int(np.count_nonzero(moved)):
        raise BadGrid(
            f"{what}: {lost} labelled voxels lie outside the image ({reference}): it is probably the "
            f"label of another image"
        )
    return moved


def _whole(array: np.ndarray, what: str) -> np.ndarray:
    """Label values as uint8, or as int16 if they are larger; slice by slice, which saves memory."""
    if array.dtype.kind not in "fiub":
        raise BadLabel(f"{what}: a label map holds whole numbers only, got values of type {array.dtype}")
    slices = [array[..., k] for k in range(array.shape[2])]
    whole = all((np.isfinite(one) & (one == np.round(one))).all() for one in slices)
    if not whole:
        raise BadLabel(f"{what}: a label map holds whole numbers only, got fractions or NaN: is it an image?")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > LARGEST:
        raise BadLabel(f"{what}: label values must lie in 0..{LARGEST}, got {low}..{high}: is it an image?")
    return array.astype(np.uint8 if high < 256 else np.int16)


def _check_promise(shape: Sequence[int], dtype: np.dtype, image: Grid | None, what: str) -> None:
    """Refuse a label map that cannot belong to its image, by its header alone."""
    if image is None or math.prod(shape) <= ROOM * math.prod(image.shape):
        return
    came, most = (megabytes(math.prod(size) * dtype.itemsize) for size in (shape, image.shape))
    raise TooLarge(
        f"{what}: a label map of {times(shape)} voxels ({came} unpacked) came for an image of "
        f"{times(image.shape)} voxels ({most}): export it on the grid of its image"
    )


def _read_nifti(path: Path, image: Grid | None) -> tuple[np.ndarray, np.ndarray, None]:
    try:
        header = NiftiHeader.read(path)
        _check_promise(header.shape, header.dtype, image, path.name)
        stored = _squeezed(stored_voxels(header), path.name)
    except BadVolume as error:
        raise BadVolume(
            f"{path.name}: cannot be read as NIfTI ({error}): the file is truncated or not a label map, "
            f"send it again"
        ) from error
    return scaled(stored, header), header.affine, None


def _squeezed(array: np.ndarray, what: str) -> np.ndarray:
    """Without trailing axes of length one, which some writers add."""
    if array.ndim > 3 and np.prod(array.shape[3:]) == 1:
        array = array.reshape(array.shape[:3])
    if array.ndim != 3:
        raise BadVolume(
            f"{what}: a label map must have three dimensions, got {array.shape}: export one 3D label map"
        )
    return array


def _read_nrrd(path: Path, image: Grid | None) -> tuple[np.ndarray, np.ndarray, dict[int, str] | None]:
    with path.open("rb") as file:
        lines = _header_lines(file, path.name)
        try:
            header = nrrd.read_header(iter(lines))
        except (nrrd.NRRDError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise BadVolume(
                f"{path.name}: cannot be read as NRRD ({str(error)[:QUOTED]}): the file is damaged or not an "
                f"image, send it again"
            ) from error
        if {"data file", "datafile"} & set(header):  # it could name any file of this machine
            raise BadVolume(f"{path.name}: its voxels lie in another file: save it as one .nrrd file")
        _check_layers(header, path.name)
        array = _nrrd_voxels(header, file, path.name, image)
    spatial = [axis for axis, kind in enumerate(_directions(header, path.name)) if np.isfinite(kind).all()]
    array = array.reshape([array.shape[axis] for axis in spatial], order="F")
    return array, _affine(header, spatial, path.name), _names(header, path.name)


def _nrrd_voxels(header: Mapping[str, Any], file: BinaryIO, what: str, image: Grid | None) -> np.ndarray:
    """The voxels behind the header, raw or gzip; nothing else, and nothing before them, is read."""
    if skipped := [key for key in SKIPS if int(header.get(key, 0)) != 0]:
        raise BadVolume(f"{what}: its header has the field {skipped[0]!r}: save it without that field")
    encoding = str(header.get("encoding", "")).lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise BadVolume(
            f"{what}: its voxels are encoded as {encoding[:QUOTED] or 'nothing'!r}: save it as raw or gzip"
        )
    shape = [int(size) for size in header.get("sizes", ())]
    if not shape or min(shape) < 1 or len(shape) != header.get("dimension"):
        raise BadVolume(f"{what}: a label map must have three dimensions, got sizes {shape[:8]}")
    dtype = _nrrd_type(header, what)
    _check_promise(shape, dtype, image, what)
    pieces = iter(partial(file.read, PIECE), b"") if encoding == "raw" else gunzip(file, Clock(what))
    try:
        content = filled(pieces, 0, math.prod(shape) * dtype.itemsize, what)
    except BadVolume as error:
        raise BadVolume(
            f"{what}: its voxels cannot be read ({error}): the file is truncated, send it again"
        ) from error
    return content.view(dtype).reshape(shape, order="F")


def _nrrd_type(header: Mapping[str, Any], what: str) -> np.dtype:
    word = " ".join(str(header.get("type", "")).lower().split())
    code = next((code for code, words in NRRD_TYPES.items() if word in words), None)
    if code is None:
        raise BadVolume(f"{what}: a label map holds whole numbers, got values of type {word[:QUOTED]!r}")
    little = str(header.get("endian", "little")).lower() == "little"
    return np.dtype(code).newbyteorder("<" if little else ">")


def _header_lines(file: BinaryIO, what: str) -> list[str]:
    """Lines up to the blank one, decoded as UTF-8 as Slicer writes them (pynrrd would drop all but ASCII)."""
    if file.read(4) != b"NRRD":
        raise BadVolume(f"{what}: not an NRRD file (it does not begin with 'NRRD')")
    file.seek(0)
    lines, size = [], 0
    while size < HEADER_LIMIT:
        line = file.readline(HEADER_LIMIT)
        size += len(line)
        if not line:
            break
        lines.append(line.decode("utf-8", "replace"))
        if not line.strip():
            return lines
    raise BadVolume(f"{what}: its NRRD header has no end: the file is truncated, send it again")


def _check_layers(header: Mapping[str, Any], what: str) -> None:
    """Refuse several layers; a list axis of length one is harmless."""
    kinds = header.get("kinds", [])
    layers = [int(n) for n, kind in zip(header.get("sizes", []), kinds) if kind not in ("domain", "space")]
    if int(header.get("dimension", 0)) > 3 and (
        len(layers) != int(header["dimension"]) - 3 or np.prod(layers) != 1
    ):
        raise BadVolume(
            f"{what}: a segmentation in {int(np.prod(layers)) if layers else 'several'} layers, that is "
            f"with overlapping segments, cannot be read: "
            "remove the overlap (Segment Editor, Logical operators) or export it as one label map"
        )


def _directions(header: Mapping[str, Any], what: str) -> np.ndarray:
    """(D, 3) vector of each axis, NaN for one that is not of space."""
    if "space directions" not in header or "space origin" not in header:
        raise BadGrid(
            f"{what}: its header holds no space directions or space origin: save it with its geometry"
        )
    rows = [
        np.full(3, np.nan) if row is None else np.asarray(row, dtype=float)
        for row in header["space directions"]
    ]
    if sum(np.isfinite(row).all() and len(row) == 3 for row in rows) != 3 or any(
        len(row) != 3 for row in rows
    ):
        raise BadGrid(
            f"{what}: space directions must hold three vectors of three numbers, got "
            f"{header['space directions']}"
        )
    return np.array(rows)


def _affine(header: Mapping[str, Any], spatial: list[int], what: str) -> np.ndarray:
    space = str(header.get("space", "")).lower()
    if space not in TO_RAS:
        raise BadGrid(
            f"{what}: its space must be one of {', '.join(list(TO_RAS)[::2])}, got {space or 'none'!r}: "
            f"save it with patient coordinates"
        )
    affine = np.eye(4)
    affine[:3, :3] = _directions(header, what)[spatial].T
    if len(header["space origin"]) != 3:
        raise BadGrid(
            f"{what}: space origin must hold three numbers, got {header['space origin']}: save it again"
        )
    affine[:3, 3] = header["space origin"]
    return np.diag([*TO_RAS[space], 1.0]) @ affine


def _names(header: Mapping[str, Any], what: str) -> dict[int, str] | None:
    """Value -> name from Slicer's `SegmentN_*` keys; a segment without a value has N + 1, as Slicer before 5
    numbered them.
    """
    numbers = [
        key[len("Segment") : -len("_Name")]
        for key in header
        if key.startswith("Segment") and key.endswith("_Name")
    ]
    names: dict[int, str] = {}
    for number in sorted(int(n) for n in numbers if WHOLE.fullmatch(n)):
        value = header.get(f"Segment{number}_LabelValue", str(number + 1))
        if not WHOLE.fullmatch(str(value).strip()):
            raise BadLabel(
                f"{what}: segment {header[f'Segment{number}_Name']!r} has the label value "
                f"{str(value)[:QUOTED]!r}, a whole number was expected"
            )
        if int(value) in names:
            raise BadLabel(
                f"{what}: the segments {names[int(value)]!r} and {header[f'Segment{number}_Name']!r} share "
                f"the label value {int(value)}"
            )
        names[int(value)] = str(header[f"Segment{number}_Name"])
    return names or None
