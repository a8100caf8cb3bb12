"""Compressed pixels of somebody else end no process but the decoder's, and take no more than announced."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from slem_app.errors import BadVolume, TookTooLong, TooLarge
from slem_app.phantom import make, write_dicom
from slem_app.volumes.decoder import BASE, PixelDecoder
from tests.volumes.test_compressed import compress

MIB = 2**20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom(make(2, (24, 28, 8), (7.0, 7.0, 9.0)), folder, "p")
    return sorted((folder / "p").glob("*_t2f/*.dcm"))[3]


@pytest.fixture
def decoder():
    with PixelDecoder() as one:
        yield one


def packed(path: Path, folder: Path, syntax: str) -> FileDataset:
    return dcmread(compress(path, folder / "packed.dcm", syntax))


def with_pixels(path: Path, frame: bytes, syntax: str) -> FileDataset:
    image = dcmread(path)
    image.PixelData, image.file_meta.TransferSyntaxUID = encapsulate([frame]), syntax
    image["PixelData"].is_undefined_length = True
    return image


def test_pixels_that_crash_the_decoder_are_refused_and_the_next_are_decoded(
    path: Path, tmp_path: Path, decoder: PixelDecoder
) -> None:
    """Of a JPEG without its first marker GDCM ends the process (std::terminate)."""
    whole = packed(path, tmp_path, "JPEGLosslessProcess14_1")
    content = bytearray(whole.PixelData)
    at = content.index(b"\xff\xd8") + 15
    assert content[at] == 0xFF
    spoilt, content[at] = dcmread(tmp_path / "packed.dcm"), 0xFE
    spoilt.PixelData = bytes(content)
    with pytest.raises(
        BadVolume, match="the pixels of a.dcm cannot be decoded .damaged, or more than .*: export it"
    ):
        decoder.pixels(spoilt, "a.dcm")
    np.testing.assert_array_equal(decoder.pixels(whole, "a.dcm"), dcmread(path).pixel_array)


@pytest.mark.parametrize("side", [3000, 60000])
def test_a_codestream_larger_than_its_header_is_refused(
    path: Path, tmp_path: Path, decoder: PixelDecoder, side: int
) -> None:
    image = packed(path, tmp_path, "JPEG2000Lossless")
    content = bytearray(image.PixelData)
    at = content.index(b"\xff\x51") + 6  # Xsiz, Ysiz; the tile's size 16 bytes on (ISO 15444-1 A.5.1)
    for place in (at, at + 4, at + 16, at + 20):
        content[place : place + 4] = side.to_bytes(4, "big")
    image.PixelData = bytes(content)
    assert image.file_meta.TransferSyntaxUID == JPEG2000Lossless
    with pytest.raises(BadVolume, match="cannot be decoded"):
        decoder.pixels(image, "a.dcm")


def test_runs_that_unpack_to_more_than_the_header_are_refused(path: Path, decoder: PixelDecoder) -> None:
    runs = b"\x81\x00" * (16 * MIB)  # 128 zeros each: 2 GiB
    head = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    begin = time.monotonic()
    with pytest.raises(BadVolume, match="cannot be decoded"):
        decoder.pixels(with_pixels(path, head + runs, RLELossless), "a.dcm")
    assert time.monotonic() - begin < 60


def test_the_decoder_may_take_no_more_memory_than_the_header_asks_for(
    path: Path, tmp_path: Path, decoder: PixelDecoder
) -> None:
    decoder.pixels(packed(path, tmp_path, "RLELossless"), "a.dcm")
    [line] = [
        line
        for line in Path(f"/proc/{decoder._process.pid}/limits").read_text().splitlines()
        if line.startswith("Max address space")
    ]
    used = int(Path(f"/proc/{decoder._process.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    assert int(line.split()[3]) < used + BASE + MIB


def test_more_frames_than_there_are_or_than_can_be_taken_are_refused_before_decoding(
    path: Path, tmp_path: Path, decoder: PixelDecoder
) -> None:
    image = packed(path, tmp_path, "RLELossless")
    image.NumberOfFrames = 1000
    with pytest.raises(BadVolume, match="fewer frames than the 1000 that its header announces"):
        decoder.pixels(image, "a.dcm")
    image.NumberOfFrames, image.Rows, image.Columns = 10, 65535, 65535
    with pytest.raises(TooLarge, match="its header announces 81,91.* MiB of pixels, 4,096.0 MiB are taken"):
        decoder.pixels(image, "a.dcm")
    image.Rows = 0
    with pytest.raises(BadVolume, match="which no image has"):
        decoder.pixels(image, "a.dcm")
    assert decoder._process is None


def test_a_decoder_that_takes_too_long_is_ended(path: Path, tmp_path: Path, decoder: PixelDecoder) -> None:
    image = packed(path, tmp_path, "RLELossless")
    decoder.pixels(image, "a.dcm")
    os.kill(decoder._process.pid, signal.SIGXCPU)  # as the kernel sends it
    with pytest.raises(TookTooLong, match="a.dcm: it takes more than 60 s to decode"):
        decoder.pixels(image, "a.dcm")
