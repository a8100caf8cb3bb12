"""DICOM files of strangers: deflated, with millions of elements, or leading in a circle."""

import io
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from slem_app.errors import BadVolume, TooLarge
from slem_app.studies import dicom_file
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import probe, read_slices
from slem_app.studies.dicom_json import read_instance

MR = "1.2.840.10008.5.1.4.1.1.4"
DIRECTORY = "1.2.840.10008.1.3.10"
ITEM = b"\xfe\xff\x00\xe0" + bytes(4)


def image(folder: Path, kind: str = MR, more: bytes = b"", packed: bool = False) -> Path:
    """A file with a study's UID, some pixels, and `more` between them."""
    one = pydicom.Dataset()
    one.is_little_endian, one.is_implicit_VR = True, False
    one.SOPClassUID, one.SOPInstanceUID, one.StudyInstanceUID = kind, generate_uid(), "1.2.3"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, one.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta = meta
    content = io.BytesIO()
    one.save_as(content, write_like_original=False)
    body = content.getvalue()
    begin = body.index(b"\x08\x00\x16\x00UI")  # the first element behind the file's own
    head, rest = body[:begin], body[begin:] + more + b"\xe0\x7f\x10\x00OW\0\0\x04\0\0\0" + bytes(4)
    if packed:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        rest = packer.compress(rest) + packer.flush()
        plain = b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.ljust(20, "\0").encode()
        told = b"\x02\x00\x10\x00UI\x16\x00" + DeflatedExplicitVRLittleEndian.encode()
        assert plain in head
        length = int.from_bytes(head[140:144], "little") + 2  # of the file's own elements
        head = head[:140] + length.to_bytes(4, "little") + head[144:].replace(plain, told)
    path = folder / "a.dcm"
    path.write_bytes(head + rest)
    return path


def element(number: int, content: bytes, kind: bytes = b"UN") -> bytes:
    return (
        b"\x09\x20"
        + number.to_bytes(2, "little")
        + kind
        + b"\0\0"
        + len(content).to_bytes(4, "little")
        + content
    )


def test_a_deflated_file_is_read_as_any_other(tmp_path: Path) -> None:
    dataset, _ = read_file(image(tmp_path, packed=True))
    assert (dataset.StudyInstanceUID, dataset.PixelData) == ("1.2.3", bytes(4))
    assert read_file((tmp_path / "a.dcm").read_bytes())[0] == dataset
    assert probe(tmp_path / "a.dcm") == "1.2.3"
    assert read_slices(tmp_path / "a.dcm")[0]["StudyInstanceUID"] == "1.2.3"
    assert "0020000D" in read_instance(tmp_path / "a.dcm").attributes


def test_a_deflated_file_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "INFLATED", 2**20)
    path = image(tmp_path, more=element(0x10, bytes(2**22)), packed=True)
    assert path.stat().st_size < 10_000
    for read in (read_file, read_slices, read_instance):
        with pytest.raises(TooLarge, match="a.dcm: it unpacks to more than 1.0 MiB"):
            read(path)
    assert probe(path) is None


def test_elements_items_and_sequences_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READS", "ITEMS"):
        monkeypatch.setattr(dicom_file, name, 1000)
    monkeypatch.setattr(dicom_file, "NESTED", 100_000)
    many = b"".join(element(number, b"") for number in range(0x10, 0x1000))
    with pytest.raises(TooLarge, match="too many elements"):
        read_file(image(tmp_path, more=many))
    with pytest.raises(TooLarge, match="too many items"):
        read_file(image(tmp_path, more=element(0x10, ITEM * 2000, b"SQ")))
    with pytest.raises(TooLarge, match="a sequence of its header has more than 0.1 MiB"):
        read_file(image(tmp_path, more=element(0x10, bytes(200_000), b"SQ")))
    assert read_file(image(tmp_path, more=element(0x10, ITEM * 20, b"SQ")))[0].StudyInstanceUID == "1.2.3"


def test_a_directory_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="a DICOMDIR, which holds no image"):
        read_slices(image(tmp_path, DIRECTORY))


def test_reading_ends_where_it_is_told_to(tmp_path: Path) -> None:
    dataset, end = read_file(image(tmp_path), pixels=False)
    assert "PixelData" not in dataset
    assert (tmp_path / "a.dcm").read_bytes()[end:].startswith(b"\xe0\x7f\x10\x00OW")
