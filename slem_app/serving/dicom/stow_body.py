"""The body of a request that stores DICOM (STOW-RS, PS3.18 section 10.5), on the disk and not in memory.

Of a file that has no name: a killed server leaves nothing behind. Its instances are read one at a time.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from typing import BinaryIO, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from slem_app.errors import BadSetting, StorageFailed, TooLarge

__all__ = ["LARGEST", "StowBody", "received"]

LARGEST = 512 * 2**20  # bytes of one request; a segmentation has some megabytes
MOST = 4096  # instances in one request
PIECE = 2**20  # bytes that are sent on at once
ONE_FILE, SEVERAL = "application/dicom", "multipart/related"


class StowBody:
    """A body that has come whole.

    Args:
        file: with a file descriptor.
        kind: the Content-Type of the request.
    """

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self.file, self.kind = file, kind
        self.size = os.fstat(file.fileno()).st_size

    def instances(self) -> list[BinaryIO]:
        """The files in it, each to be read from its beginning.

        Raises:
            BadSetting: neither one file nor several as multipart/related.
            TooLarge: more than `MOST`.
        """
        header = Message()
        header["content-type"] = self.kind
        if header.get_content_type() == ONE_FILE:
            return [_opened(self.file, 0, self.size)]
        boundary = str(header.get_param("boundary") or "")
        if header.get_content_type() != SEVERAL or not boundary or not self.size:
            raise self._malformed()
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as body:
            places = self._places(body, b"--" + boundary.encode("latin-1", "replace"))
        return [_opened(self.file, begin, end) for begin, end in places]

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, piece by piece."""
        for at in range(0, self.size, PIECE):
            yield await run_in_threadpool(os.pread, self.file.fileno(), PIECE, at)

    def _places(self, body: mmap.mmap, mark: bytes) -> list[tuple[int, int]]:
        """First byte of each part's content, and the one behind its last (RFC 2046 section 5.1.1)."""
        places: list[tuple[int, int]] = []
        at = 0 if body[: len(mark)] == mark else body.find(b"\r\n" + mark) + 2
        while body[at : at + len(mark)] == mark:
            begin = at + len(mark)
            if body[begin : begin + 2] == b"--":
                return places
            begin = body.find(b"\r\n\r\n", begin) + 4
            at = body.find(b"\r\n" + mark, begin - 2) + 2
            if begin < 4 or at < 2:
                break
            places.append((begin, max(begin, at - 2)))
            if len(places) > MOST:
                raise TooLarge(f"more than {MOST} instances in one request: store fewer at a time")
        raise self._malformed()

    def _malformed(self) -> BadSetting:
        return BadSetting(
            f"expected multipart/related with parts of type application/dicom (PS3.18 section 8.6.1), got "
            f"{self.kind[:200] or 'nothing'!r}"
        )


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[StowBody]:
    """A request's body, until the block ends.

    Raises:
        TooLarge: more than `LARGEST` bytes.
        StorageFailed: the disk refused.
    """
    with tempfile.TemporaryFile(prefix="stow") as file:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST:
                raise TooLarge(
                    f"more than {LARGEST // 2**20} MiB in one request: store fewer instances at a time"
                )
            try:
                await run_in_threadpool(file.write, chunk)
            except OSError as error:
                raise _full(error) from error
        try:
            file.flush()
        except OSError as error:
            raise _full(error) from error
        yield StowBody(cast(BinaryIO, file), request.headers.get("content-type", ""))


def _full(error: OSError) -> StorageFailed:
    return StorageFailed(
        f"what came could not be kept while it was checked: {error.strerror or error}. Free space, then send "
        f"it again"
    )


def _opened(file: BinaryIO, begin: int, end: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Part(file.fileno(), begin, end)))


class _Part(io.RawIOBase):
    """Some bytes of an open file, as a file of its own."""

    def __init__(self, handle: int, begin: int, end: int) -> None:
        super().__init__()
        self.handle, self.begin, self.end, self.at = handle, begin, end, begin

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        found = os.pread(self.handle, min(len(into), max(0, self.end - self.at)), self.at)
        into[: len(found)] = found
        self.at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: self.begin, os.SEEK_CUR: self.at, os.SEEK_END: self.end}[whence]
        self.at = max(self.begin, start + offset)
        return self.at - self.begin

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
