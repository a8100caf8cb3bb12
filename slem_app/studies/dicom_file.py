"""Reading a DICOM file (PS3.10): the one place where pydicom opens what somebody else may have made.

pydicom inflates the deflated transfer syntax (PS3.5 annex A.5) whole, makes kilobytes of objects of every
eight bytes of header, and never looks at the clock. So a deflated file is inflated up to a limit, elements
and items of sequences are counted while they are read, and the time is limited.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from slem_app.errors import TooLarge
from slem_app.unpack import Clock, inflate, megabytes

__all__ = ["read_file"]

LAST_BEFORE_PIXELS = 0x7FE00007
INFLATED = 512 * 2**20  # bytes to which a deflated file may unpack
READS = 4_000_000  # from a file: an element takes two or three
ITEMS = 200_000  # of sequences, and fragments of packed pixels
NESTED = 16 * 2**20  # bytes of one sequence, which is taken apart only when it is asked for
ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # the tag of an item in either byte order
SEQUENCES = (None, "SQ", "UN")  # value representations behind which items may lie


def read_file(
    source: Path | bytes | BinaryIO,
    pixels: bool = True,
    tags: Sequence[BaseTag] = (),
    until: int = 0xFFFFFFFF,
) -> tuple[FileDataset, int]:
    """A file's content, up to its pixels or with them.

    Args:
        source: the file, its bytes, or an open file at its beginning, which is closed.
        pixels: whether to read on to the end.
        tags: the elements that are wanted; default: all.
        until: the tag after which nothing is read.

    Returns:
        The dataset, and where its reading ended: without pixels, the byte at which they begin (in the
        inflated file where it was deflated).

    Raises:
        FileNotFoundError: no such file.
        BadVolume, TooLarge, TookTooLong: beyond what is said above.
        Exception: one of `dicom_header.BROKEN`, where it is no readable DICOM file.
    """
    name = source.name if isinstance(source, Path) else "the file"
    clock = Clock(name)
    with _opened(source) as file:
        stream = cast(BinaryIO, _Elements(_inflated(file, clock), clock))
        last = until if pixels else min(until, LAST_BEFORE_PIXELS)
        dataset = read_partial(stream, lambda tag, *_: tag > last, specific_tags=list(tags) or None)
        end = stream.tell()
    # copies of it would warn of any other value
    dataset.filename = str(source) if isinstance(source, Path) else None  # type: ignore[assignment]
    for raw in dataset.values():
        if getattr(raw, "VR", None) in SEQUENCES and _length(raw.value) > NESTED:
            raise TooLarge(
                f"{name}: a sequence of its header has more than {megabytes(NESTED)}: export it again"
            )
    return dataset, end


def _opened(source: Path | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, Path):
        return source.open("rb")
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _length(value: object) -> int:
    return len(value) if isinstance(value, bytes) else 0


def _inflated(file: BinaryIO, clock: Clock) -> BinaryIO:
    """The file as it is, or a deflated one as if it had been written without (explicit VR, little endian)."""
    read_preamble(file, False)
    meta = _read_file_meta_info(file)
    begin = file.tell()
    file.seek(0)
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        # pydicom would follow the offsets in it, which may lead in a circle
        raise InvalidDicomError("a DICOMDIR, which holds no image")
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return file
    head = file.read(begin).replace(
        DeflatedExplicitVRLittleEndian.encode(),
        ExplicitVRLittleEndian.ljust(len(DeflatedExplicitVRLittleEndian), "\0").encode(),
    )
    return io.BytesIO(head + inflate(file.read(), INFLATED, clock))


class _Elements(io.RawIOBase):
    """A file from which pydicom may read for so long, and so many elements and items."""

    def __init__(self, file: BinaryIO, clock: Clock) -> None:
        super().__init__()
        self.file, self.clock, self.reads, self.items = file, clock, 0, 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads % 256 == 0:
            self.clock.check()
        found = self.file.read(size)
        self.items += sum(found.count(tag) for tag in ITEM)
        if self.reads > READS or self.items > ITEMS:
            raise TooLarge(
                f"{self.clock.what}: its header has too many elements, or its sequences too many items: "
                f"export it again"
            )
        return found

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()
