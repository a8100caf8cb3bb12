"""Compressed pixels (JPEG, JPEG-LS, JPEG 2000, RLE; PS3.5 annex A.4), decoded in a process of their own.

Decoders are native code that somebody else's bytes can crash, and a codestream may announce another size than
the header of its file. So they run where a crash ends nothing else, with as much memory as the header's size
asks for and with a limit on the time. Without a compressed file no process is started.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_nr_fragments
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID

from slem_app.errors import BadVolume, TookTooLong, TooLarge
from slem_app.files import import_path
from slem_app.studies.dicom_header import BROKEN, reason
from slem_app.unpack import SECONDS, megabytes, times

__all__ = ["PixelDecoder", "check_announced"]

LARGEST = 4 * 2**30  # bytes that the pixels of one file may take
ROOM = 8  # times the pixels' size that a decoder may take: GDCM's, pydicom's and NumPy's copies
BASE = 256 * 2**20  # bytes beyond that
FIELDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
UNREADABLE = (*BROKEN, RuntimeError)


class PixelDecoder:
    """Decodes the pixels of files, one after the other; to be closed, as by a with block.

    Args:
        seconds: of computing that the pixels of one file may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PixelDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pixels(self, dataset: Dataset, what: str) -> np.ndarray:
        """The pixels of a dataset, in the shape that pydicom gives them.

        Args:
            dataset: with its pixels and its file meta information.
            what: names the file in errors.

        Raises:
            TooLarge: it announces more than can be taken.
            TookTooLong: of the decoder.
            BadVolume: fewer frames than it announces, or pixels that cannot be decoded.
            Exception: one of `dicom_header.BROKEN` or RuntimeError, of a header that says nothing usable.
        """
        size = check_announced(dataset, what)
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            return dataset.pixel_array
        fields = {name: _plain(dataset.get(name)) for name in FIELDS if name in dataset}
        words = {"syntax": str(dataset.file_meta.TransferSyntaxUID), "fields": fields, "size": size}
        words["seconds"] = self.seconds
        return self._asked(words, bytes(dataset.PixelData), what)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _asked(self, words: dict[str, Any], pixels: bytes, what: str) -> np.ndarray:
        process = self._process = self._process or _started()
        try:
            _send(_stream(process.stdin), words | {"bytes": len(pixels)}, pixels)
            answer = json.loads(_stream(process.stdout).readline())
            if "reason" in answer:
                raise _undecodable(what, answer["reason"])
            dtype, shape = np.dtype(answer["type"]), tuple(map(int, answer["shape"]))
            count = math.prod(shape) * dtype.itemsize
            if count > words["size"]:
                raise _undecodable(what, f"{times(shape)} values, more than its header announces")
            found = np.empty(count, dtype=np.uint8)
            if _filled(_stream(process.stdout), found.data) == count:
                return found.view(dtype).reshape(shape)
        except (BrokenPipeError, ValueError):  # it has ended: nothing, or half a line, came
            pass
        self._process = None
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGXCPU:
            raise TookTooLong(
                f"{what}: it takes more than {self.seconds:.0f} s to decode: export it again, uncompressed"
            )
        announced = megabytes(words["size"])
        raise _undecodable(what, f"damaged, or more than the {announced} that its header announces")


def check_announced(dataset: Dataset, what: str) -> int:
    """The bytes that the pixels of a file take, decoded, by its header.

    Raises:
        TooLarge: more than can be taken.
        BadVolume: a size that no image has, or fewer compressed frames than announced.
        Exception: one of `dicom_header.BROKEN`: values that are no numbers.
    """
    shape = [
        int(dataset.get("NumberOfFrames") or 1),
        *(int(dataset[name].value) for name in ("Rows", "Columns")),
        int(dataset.get("SamplesPerPixel") or 1),
    ]
    size = math.prod(shape) * max(1, int(dataset.BitsAllocated) // 8)
    if min(shape) < 1 or size < 1:
        raise BadVolume(f"{what}: its header announces {times(shape)} pixels, which no image has")
    if size > LARGEST:
        raise TooLarge(
            f"{what}: its header announces {megabytes(size)} of pixels, {megabytes(LARGEST)} are taken: "
            f"export it in parts"
        )
    if dataset.file_meta.TransferSyntaxUID.is_compressed and shape[0] > 1:
        fragments = get_nr_fragments(_encapsulated(dataset))
        if fragments - 1 < shape[0]:  # the first is the table of offsets
            raise BadVolume(f"{what}: it has fewer frames than the {shape[0]} that its header announces")
    return size


def _undecodable(what: str, why: str) -> BadVolume:
    return BadVolume(
        f"the pixels of {what} cannot be decoded ({why}): export it again, uncompressed if the transfer "
        f"syntax is unusual"
    )


def _encapsulated(dataset: Dataset) -> DicomBytesIO:
    file = DicomBytesIO(dataset.PixelData)
    file.is_little_endian = True
    return file


def _plain(value: Any) -> str | int:
    return value if isinstance(value, int | str) else str(value)


def _stream(pipe: Any) -> BinaryIO:
    return pipe


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders may quote what they read
        env=os.environ | {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _send(file: BinaryIO, words: dict[str, Any], content: bytes | memoryview) -> None:
    file.write(json.dumps(words).encode() + b"\n")
    file.write(content)
    file.flush()


def _filled(file: BinaryIO, into: memoryview) -> int:
    """How many bytes came before the end."""
    at = 0
    while at < len(into):
        piece = file.read(min(2**20, len(into) - at))
        if not piece:
            break
        into[at : at + len(piece)] = piece
        at += len(piece)
    return at


def _serve() -> None:
    """The process: a line of JSON and pixels come, a line of JSON and pixels go."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold patients' images
    asking, answering = sys.stdin.buffer, sys.stdout.buffer
    while line := asking.readline():
        words = json.loads(line)
        content = asking.read(words["bytes"])
        _limit(words["size"], words["seconds"])
        try:
            found = np.ascontiguousarray(_decoded(words, content))
        except UNREADABLE as error:
            told = isinstance(error, RuntimeError)  # which says what decoders there are
            _send(answering, {"reason": reason(error) if told else "they are damaged"}, b"")
            continue
        except MemoryError:
            _send(answering, {"reason": "they take more memory than the header announces"}, b"")
            continue
        with suppress(BrokenPipeError):
            _send(answering, {"type": found.dtype.str, "shape": found.shape}, found.tobytes())


def _limit(size: int, seconds: float) -> None:
    """What one file may take: memory, and seconds of computing."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM * size + BASE
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))


def _decoded(words: dict[str, Any], content: bytes) -> np.ndarray:
    dataset = Dataset()
    for name, value in words["fields"].items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(words["syntax"])
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.PixelData = content
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset.pixel_array


if __name__ == "__main__":
    _serve()
