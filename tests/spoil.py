"""DICOM files as broken exports, networks and disks leave them: cut, of wrong value representations, with
lengths and counts that are not true.
"""

import random
from io import BytesIO

import pydicom

__all__ = ["KINDS", "spoil"]

COUNTS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PixelRepresentation",
    "HighBit",
)
NUMBERS = (0, 1, 3, 7, 65535)
TEXTS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "InstanceNumber",
    "WindowCenter",
)
WRONG = (
    b"",
    b"x",
    b"1e999",
    b"nan\\nan\\nan",
    b"1\\2",
    b"-0",
    b"1" * 64,
    b"\xff\xfe",
    b"1\\2\\3\\4\\5\\6\\7",
)
GONE = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PixelData",
    "Rows",
    "Modality",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SOPClassUID",
)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    spoiled = bytearray(data)
    for _ in range(chance.choice((1, 4, 64))):
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


def _wrong_vr(data: bytes, chance: random.Random) -> bytes:
    """Another value representation in the head of an element."""
    places = [
        k
        for k in range(132, min(len(data) - 8, 4000))
        if data[k : k + 2] in (b"UI", b"US", b"DS", b"IS", b"CS", b"LO", b"PN", b"DA", b"OW", b"SH")
    ]
    spoiled = bytearray(data)
    for place in chance.sample(places, min(len(places), chance.choice((1, 3, 12)))):
        spoiled[place : place + 2] = chance.choice(
            (b"SQ", b"US", b"FD", b"OB", b"UN", b"AT", b"zz", b"UI", b"OW")
        )
    return bytes(spoiled)


def _huge_length(data: bytes, chance: random.Random) -> bytes:
    """A length that the file cannot have."""
    spoiled = bytearray(data)
    places = [
        k
        for k in range(132, min(len(data) - 12, 4000))
        if data[k : k + 2] in (b"UI", b"US", b"DS", b"IS", b"CS", b"OW", b"LO")
    ]
    place = chance.choice(places)
    if data[place : place + 2] == b"OW":
        spoiled[place + 4 : place + 8] = chance.choice(
            (b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\xff\xff\xff\x00")
        )
    else:
        spoiled[place + 2 : place + 4] = chance.choice((b"\xff\xff", b"\xfe\xff", b"\x01\x00"))
    return bytes(spoiled)


def _wrong_count(data: bytes, chance: random.Random) -> bytes:
    """Numbers about the pixels that the pixels do not have."""
    image = pydicom.dcmread(BytesIO(data))
    setattr(image, chance.choice(COUNTS), chance.choice(NUMBERS))
    return _written(image)


def _wrong_text(data: bytes, chance: random.Random) -> bytes:
    """Numbers as text that are none: put in byte by byte, for no library would write them."""
    spoiled, tag = bytearray(data), pydicom.tag.Tag(chance.choice(TEXTS))
    place = data.find(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"), 132)
    if place < 0:
        return _flipped(data, chance)
    length, text = int.from_bytes(data[place + 6 : place + 8], "little"), chance.choice(WRONG)
    text += b" " * (len(text) % 2)
    spoiled[place + 6 : place + 8 + length] = len(text).to_bytes(2, "little") + text
    return bytes(spoiled)


def _pixels(data: bytes, chance: random.Random) -> bytes:
    """Fewer or more pixels than told."""
    image = pydicom.dcmread(BytesIO(data))
    size = len(image.PixelData)
    image.PixelData = (
        image.PixelData[: 2 * chance.randrange(size // 2)] if chance.random() < 0.7 else image.PixelData * 2
    )
    return _written(image)


def _without(data: bytes, chance: random.Random) -> bytes:
    image = pydicom.dcmread(BytesIO(data))
    for name in chance.sample(GONE, chance.choice((1, 3))):
        if name in image:
            delattr(image, name)
    return _written(image)


def _no_dicom(data: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        (
            b"",
            b"DICM",
            data[132:],
            bytes(128) + b"DICM",
            chance.randbytes(2000),
            bytes(128) + b"DICM" + chance.randbytes(2000),
            data + data,
        )
    )


def _written(image: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    image.save_as(buffer, write_like_original=True)
    return buffer.getvalue()


KINDS = (_cut, _flipped, _wrong_vr, _huge_length, _wrong_count, _wrong_text, _pixels, _without, _no_dicom)


def spoil(data: bytes, seed: int) -> bytes:
    """A file, spoiled in a way that the number decides.

    Args:
        data: a DICOM file in explicit VR little endian.
        seed: which of many ways.
    """
    return KINDS[seed % len(KINDS)](data, random.Random(seed))
