"""Unpacking what somebody else packed: never more than was promised, and not for ever.

A file of some megabytes can unpack to terabytes, or to nothing in millions of steps. So whoever unpacks says
how many bytes are wanted, memory is taken piece by piece, and each piece looks at the clock.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import numpy as np
from isal import isal_zlib

from slem_app.errors import BadVolume, TookTooLong, TooLarge

__all__ = ["PIECE", "Clock", "filled", "gunzip", "inflate", "megabytes", "times"]

# what damaged data make the unpackers raise; isal's types call its error an instance
DAMAGED = (cast(type[Exception], isal_zlib.error), zlib.error, EOFError, ValueError)
PIECE = 1 << 20  # bytes that are unpacked at once
GZIP, DEFLATE = 31, -15  # zlib's words for a stream with gzip's header, and for one without any
READ = 1 << 16  # packed bytes that are read at once
SECONDS = 60.0


class Clock:
    """How long one file may take.

    Args:
        what: names the file in errors.
        seconds: that its thread may compute; waiting, for the disk or for other threads, does not count.
    """

    def __init__(self, what: str, seconds: float = SECONDS) -> None:
        self.what, self.seconds = what, seconds
        self.end = time.thread_time() + seconds

    def check(self) -> None:
        """Go on, or not.

        Raises:
            TookTooLong: the time is over.
        """
        if time.thread_time() > self.end:
            raise TookTooLong(
                f"{self.what}: it takes more than {self.seconds:.0f} s to read: export it again, "
                f"without compression"
            )


def gunzip(file: BinaryIO, clock: Clock) -> Iterator[bytes]:
    """The content of a gzip file (RFC 1952), of all its members, in pieces of at most `PIECE` bytes.

    Raises:
        BadVolume: damaged, or it ends too early.
        TookTooLong: the clock says so.
    """
    return _unpacked(file, clock, GZIP)


def inflate(content: bytes, limit: int, clock: Clock) -> bytes:
    """A deflated text (RFC 1951), whole.

    Raises:
        TooLarge: it has more than `limit` bytes.
        BadVolume: damaged, or it ends too early.
        TookTooLong: the clock says so.
    """
    found = bytearray()
    for piece in _unpacked(io.BytesIO(content), clock, DEFLATE):
        found += piece
        if len(found) > limit:
            raise TooLarge(
                f"{clock.what}: it unpacks to more than {megabytes(limit)}, which is the limit: "
                f"export it uncompressed"
            )
    return bytes(found)


def filled(pieces: Iterator[bytes], skip: int, count: int, what: str) -> np.ndarray:
    """`count` bytes after the first `skip`, as (count,) uint8; what follows them is not unpacked.

    Memory is taken as the bytes come: a promise that is not kept costs nothing.

    Raises:
        BadVolume: there are not as many.
    """
    found, at = np.empty(count, dtype=np.uint8), 0
    for piece in pieces:
        use = piece[skip : skip + count - at]
        skip = max(0, skip - len(piece))
        found[at : at + len(use)] = np.frombuffer(use, dtype=np.uint8)
        at += len(use)
        if at == count:
            return found
    if at == count:
        return found
    raise BadVolume(
        f"{what}: truncated: {megabytes(at)} unpacked where its header promises {megabytes(count)}: "
        f"copy or export it again"
    )


def megabytes(size: int) -> str:
    """A number of bytes as texts say it."""
    return f"{size / 2**20:,.1f} MiB" if size < 2**40 else f"{size / 2**40:,.1f} TiB"


def times(shape: Sequence[int]) -> str:
    """A shape as texts say it: '240 x 240 x 155'."""
    return " x ".join(map(str, shape))


def _unpacked(file: BinaryIO, clock: Clock, kind: int) -> Iterator[bytes]:
    engine, packed, fresh = isal_zlib.decompressobj(wbits=kind), b"", True
    while True:
        clock.check()
        packed = packed or file.read(READ)
        if not packed and fresh:  # nothing, or the end after a whole member
            return
        try:
            piece = engine.decompress(packed, PIECE)
        except DAMAGED as error:
            raise BadVolume(
                f"{clock.what}: truncated or damaged ({error}): copy or export it again"
            ) from error
        if piece:
            yield piece
        elif not packed and not engine.eof:
            raise BadVolume(f"{clock.what}: truncated (it ends too early): copy or export it again")
        packed, fresh = engine.unconsumed_tail, False
        if engine.eof and kind == DEFLATE:
            return
        if engine.eof:
            packed = (engine.unused_data or file.read(READ)).lstrip(b"\0")  # some writers pad with zeros
            engine, fresh = isal_zlib.decompressobj(wbits=kind), True
