"""Unpacking: whole where it is whole, and never more than is wanted."""

import io
import zlib

import numpy as np
import pytest
from isal import igzip

from slem_app.errors import BadVolume, TookTooLong, TooLarge
from slem_app.unpack import PIECE, Clock, filled, gunzip, inflate

CONTENT = np.random.default_rng(0).integers(0, 4, 3 * PIECE + 17, dtype=np.uint8).tobytes()


def pieces(packed: bytes):
    return gunzip(io.BytesIO(packed), Clock("it"))


@pytest.mark.parametrize("content", [b"", b"a", CONTENT, bytes(5 * PIECE), bytes(PIECE)])
def test_gzip_comes_back_whole(content: bytes) -> None:
    found = list(pieces(igzip.compress(content)))
    assert b"".join(found) == content
    assert all(len(piece) <= PIECE for piece in found)


def test_members_follow_each_other_and_zeros_may_follow_them() -> None:
    packed = igzip.compress(b"a") + igzip.compress(b"") + igzip.compress(CONTENT) + bytes(1000)
    assert b"".join(pieces(packed)) == b"a" + CONTENT


@pytest.mark.parametrize("cut", [1, 8, 9, 1000, 100_000])
def test_a_truncated_file_is_refused(cut: int) -> None:
    with pytest.raises(BadVolume, match="it: truncated"):
        list(pieces(igzip.compress(CONTENT)[:-cut]))


def test_a_damaged_file_is_refused() -> None:
    packed = bytearray(igzip.compress(CONTENT))
    packed[-8] ^= 1
    with pytest.raises(BadVolume, match="damaged"):
        list(pieces(bytes(packed)))
    with pytest.raises(BadVolume, match="damaged"):
        list(pieces(igzip.compress(b"a") + b"garbage" * 10))


def test_no_more_is_unpacked_than_is_wanted() -> None:
    stream = pieces(igzip.compress(bytes(100 * PIECE)))
    assert filled(stream, 100, 2 * PIECE, "it").tobytes() == bytes(2 * PIECE)
    assert sum(map(len, stream)) >= 97 * PIECE  # the rest was still packed


@pytest.mark.parametrize(("skip", "count"), [(0, 10), (352, PIECE), (PIECE, PIECE + 5), (len(CONTENT), 0)])
def test_the_wanted_bytes_are_found(skip: int, count: int) -> None:
    assert (
        filled(pieces(igzip.compress(CONTENT)), skip, count, "it").tobytes() == CONTENT[skip : skip + count]
    )


def test_a_promise_that_is_not_kept_is_refused() -> None:
    # 1 GiB of address space, of which 3 MiB are touched
    with pytest.raises(
        BadVolume, match="it: truncated: 3.0 MiB unpacked where its header promises 1,024.0 MiB"
    ):
        filled(pieces(igzip.compress(CONTENT)), 0, 2**30, "it")


def test_a_deflated_text_has_a_limit() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(5 * PIECE)) + packer.flush()
    assert inflate(packed, 5 * PIECE, Clock("it")) == bytes(5 * PIECE)
    with pytest.raises(TooLarge, match="it: it unpacks to more than 4.0 MiB"):
        inflate(packed, 4 * PIECE, Clock("it"))
    with pytest.raises(BadVolume, match="truncated"):
        inflate(packed[:-10], 5 * PIECE, Clock("it"))


def test_millions_of_empty_members_end_with_the_time() -> None:
    clock = Clock("it", seconds=0.2)
    with pytest.raises(TookTooLong, match="it: it takes more than 0 s to read"):
        list(gunzip(io.BytesIO(igzip.compress(b"") * 1_000_000), clock))
