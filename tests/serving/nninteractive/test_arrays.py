"""Arrays of nnInteractive's client, as it writes and reads them, and as nobody should."""

import struct

import numpy as np
import pytest

pytest.importorskip("blosc2", reason="the package blosc2 is not installed")

from slem_app.errors import BadVolume, TooLarge
from slem_app.serving.nninteractive.arrays import pack, unpack

MOST = 2**20
ONES = np.ones((2, 3, 4), dtype=np.int16)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32", "float64"])
def test_an_array_comes_back_as_it_went(dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    back = unpack(pack(array), MOST, "the image")
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_the_unmodified_client_reads_and_writes_the_same() -> None:
    wire = pytest.importorskip(
        "nnInteractive.inference.remote.serialization", reason="nninteractive-client is not installed"
    )
    array = np.random.default_rng(0).normal(size=(1, 9, 8, 7)).astype(np.float32)
    assert np.array_equal(unpack(wire.pack_array(array), MOST, "the image"), array)
    assert np.array_equal(wire.unpack_array(pack(ONES)), ONES)


def test_zeros_that_promise_too_much_are_refused_with_both_sizes() -> None:
    packed = pack(np.zeros((64, 64, 128), dtype=np.uint8))
    assert len(packed) < 1000
    with pytest.raises(TooLarge, match=r"64 x 64 x 128 voxels take 2\.0 MiB once .*, the limit is 1\.0 MiB"):
        unpack(packed, MOST, "the image")


def head(shape: tuple[int, ...], dtype: bytes = b"int16", codec: int = 1) -> bytes:
    start = struct.pack("<4s4B", b"NNIA", 1, codec, len(shape), len(dtype)) + dtype
    return start + struct.pack(f"<{len(shape)}q", *shape)


WHOLE = pack(ONES)
PIECE = WHOLE[len(head((2, 3, 4))) + 4 + 16 :]
BAD = {
    "nothing": b"",
    "another kind": b"\x89PNG" + bytes(60),
    "an unknown codec": head((2, 3, 4), codec=9) + struct.pack("<I", 0),
    "objects": head((2, 3, 4), b"object") + struct.pack("<I", 0),
    "five axes": head((1, 1, 2, 3, 4)) + struct.pack("<I", 0),
    "a negative length": head((-2, -3, 4)) + struct.pack("<I", 0),
    "a header that ends": head((2, 3, 4))[:-3],
    "no pieces": head((2, 3, 4)) + struct.pack("<I", 0),
    "an empty piece": head((2, 3, 4)) + struct.pack("<IQQ", 2**32 - 1, 0, 0),
    "half an element": head((2, 3, 4)) + struct.pack("<IQQ", 1, 47, len(PIECE)) + PIECE,
    "a piece of more than promised": head((2, 3, 3)) + struct.pack("<IQQ", 1, 48, len(PIECE)) + PIECE,
    "a frame of more than the piece says": head((2, 3, 4)) + struct.pack("<IQQ", 1, 24, len(PIECE)) + PIECE,
    "no frame": head((2, 3, 4)) + struct.pack("<IQQ", 1, 48, 64) + bytes(64),
    "a frame that ends": WHOLE[:-5],
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_array_is_refused(what: str) -> None:
    with pytest.raises(BadVolume, match="the image"):
        unpack(BAD[what], MOST, "the image")
