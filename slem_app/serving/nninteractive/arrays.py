"""Arrays as nnInteractive's client and server send them, read as what somebody else made.

    'NNIA' | version 1 | codec | axes | length of the type's name     (4 + 4 bytes)
    type's name, e.g. 'int16' | length of each axis, int64            (little-endian, as all numbers here)
    pieces, uint32 | for each: bytes unpacked, uint64; bytes packed, uint64; a frame of Blosc2

(nnInteractive 2.6, `inference/remote/serialization.py`; the frames: Blosc2's chunk format.) Nothing is
unpacked, and no memory taken, before the header's promise was compared with what may come.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from slem_app.errors import BadVolume, NotOffered, TooLarge
from slem_app.unpack import megabytes, times

__all__ = ["pack", "unpack"]

MAGIC, VERSION, ZSTD = b"NNIA", 1, 1
CODECS = (1, 2)  # Blosc2's ZSTD and LZ4; each frame says so itself
TYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
TYPES |= {"bool", "float16", "float32", "float64"}
AXES = 4
IN_MEMORY = 4  # bytes of a voxel in memory, at least
MISSING = (
    "this server cannot speak to nnInteractive's clients: the package blosc2 is not installed "
    "(pip install 'slem-label[nninteractive]')"
)


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError as error:
        raise NotOffered(MISSING) from error
    return blosc2


def unpack(body: bytes | bytearray, most: int, what: str) -> np.ndarray:
    """The array in a request.

    Args:
        body: the whole body.
        most: bytes that it may take in memory.
        what: names it in errors, e.g. 'the image'.

    Returns:
        Any shape of 1 to 4 axes; bool, whole or real numbers of the machine's byte order.

    Raises:
        BadVolume: not such an array, or a damaged one.
        TooLarge: it would take more memory.
        NotOffered: Blosc2 is not installed.
    """
    blosc2 = _blosc2()
    try:
        dtype, shape, offset = _header(body, what)
        size = math.prod(shape)
        if size * max(dtype.itemsize, IN_MEMORY) > most:
            raise TooLarge(
                f"{what}: {times(shape)} voxels take {megabytes(size * max(dtype.itemsize, IN_MEMORY))} once "
                f"they are unpacked, the limit is {megabytes(most)} (setting `volume_mb`)"
            )
        return _voxels(blosc2, body, offset, size, dtype, what).reshape(shape)
    except (struct.error, UnicodeDecodeError) as error:
        raise BadVolume(f"{what} is cut off in its header: send it again") from error


def pack(array: np.ndarray) -> bytes:
    """A segmentation for the client.

    Args:
        array: of less than 1 GiB.

    Raises:
        NotOffered: Blosc2 is not installed.
    """
    blosc2 = _blosc2()
    content, name = np.ascontiguousarray(array), array.dtype.name.encode()
    size = content.dtype.itemsize
    frame = blosc2.compress2(
        content.reshape(-1).view(np.uint8),
        typesize=size,
        codec=blosc2.Codec.ZSTD,
        clevel=3,
        filters=[blosc2.Filter.NOFILTER],
    )
    head = struct.pack("<4s4B", MAGIC, VERSION, ZSTD, content.ndim, len(name)) + name
    axes = struct.pack(f"<{content.ndim}q", *content.shape)
    return head + axes + struct.pack("<IQQ", 1, content.nbytes, len(frame)) + frame


def _header(body: bytes | bytearray, what: str) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and where the pieces begin."""
    magic, version, codec, axes, length = struct.unpack_from("<4s4B", body)
    if magic != MAGIC or version != VERSION or codec not in CODECS:
        raise BadVolume(
            f"{what} is not an array of nnInteractive's client: it begins with {magic[:4]!r}, version "
            f"{version}, codec {codec}; expected {MAGIC!r}, {VERSION}, 1 or 2"
        )
    name = body[8 : 8 + length].decode("ascii")
    if name not in TYPES or not 1 <= axes <= AXES:
        raise BadVolume(
            f"{what} has {axes} axes of type {name[:20]!r}: 1 to {AXES} axes of {', '.join(sorted(TYPES))} "
            f"can be read"
        )
    shape = struct.unpack_from(f"<{axes}q", body, 8 + length)
    if min(shape) < 1:
        raise BadVolume(f"{what} has the shape {list(shape)}: every axis needs a length of at least 1")
    return np.dtype(name), shape, 8 + length + 8 * axes


def _voxels(
    blosc2: Any, body: bytes | bytearray, offset: int, size: int, dtype: np.dtype, what: str
) -> np.ndarray:
    """(size,) what the pieces hold; a piece whose frame does not keep its word is refused unread."""
    (count,) = struct.unpack_from("<I", body, offset)
    offset, at, wanted = offset + 4, 0, size * dtype.itemsize
    found, view = np.empty(size, dtype=dtype), memoryview(body)
    for _ in range(count):
        unpacked, packed = struct.unpack_from("<QQ", body, offset)
        piece = view[offset + 16 : offset + 16 + packed]
        if len(piece) < packed or not 0 < unpacked <= wanted - at or unpacked % dtype.itemsize:
            raise BadVolume(f"{what} is cut off, or its pieces do not fit its shape: send it again")
        place = found[at // dtype.itemsize : (at + unpacked) // dtype.itemsize]
        try:
            promised, frame, _ = blosc2.get_cbuffer_sizes(piece)
            if promised != unpacked or frame != packed:
                raise ValueError("its frame does not have the size that it declares")
            blosc2.decompress2(piece, dst=place)
        except (ValueError, RuntimeError, TypeError) as error:
            raise BadVolume(f"{what} is damaged: {error}; send it again") from error
        at, offset = at + unpacked, offset + 16 + packed
    if at != wanted:
        raise BadVolume(
            f"{what} holds {megabytes(at)} where its header promises {megabytes(wanted)}: send it again"
        )
    return found
