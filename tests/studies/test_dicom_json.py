"""Headers as JSON and frames as stored, of files that are not as tidy as the phantom's."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from slem_app import phantom
from slem_app.errors import BadSetting, BadVolume, NotFound
from slem_app.studies.dicom_json import keyword, read_frames, read_instance, texts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    phantom.write_dicom(phantom.make(seed=1, shape=(24, 28, 20), spacing=(8.0, 8.0, 8.0)), tmp_path, "ann")
    return sorted((tmp_path / "ann/2_t1c").glob("*.dcm"))[10]


def test_what_json_cannot_hold_is_left_out(path: Path) -> None:
    image = pydicom.dcmread(path)
    image.add_new(0x00291010, "OB", b"x" * 4096)  # a scanner's private header
    image.add_new(0x00291011, "OB", b"xy")
    image.add_new(0x00189073, "FD", float("nan"))
    image.save_as(path)
    instance = read_instance(path)
    assert {"00291010", "00189073", "7FE00010"}.isdisjoint(instance.attributes)
    assert "00291011" in instance.attributes
    assert "NaN" not in instance.json
    assert texts(instance.attributes, "PatientName") == ["Phantom^ann"]
    assert texts(instance.attributes, "PatientWeight") == []


def test_reading_one_file_does_not_make_others_be_read_strictly(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = set()
    convert = DataElement.to_json_dict

    def seen(element: DataElement, *args: object) -> object:
        modes.add(pydicom.config.settings.reading_validation_mode)
        return convert(element, *args)

    monkeypatch.setattr(DataElement, "to_json_dict", seen)
    read_instance(path)
    assert modes == {pydicom.config.IGNORE}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncompressed_pixels_come_in_one_order(path: Path, syntax: pydicom.uid.UID) -> None:
    image = pydicom.dcmread(path)
    pixels = image.pixel_array
    image.file_meta.TransferSyntaxUID = syntax
    image.is_little_endian, image.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    image.PixelData = pixels.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()
    image.save_as(path)
    [frame], told = read_frames(path, [1])
    assert told == "1.2.840.10008.1.2.1"
    np.testing.assert_array_equal(np.frombuffer(frame, "<u2").reshape(pixels.shape), pixels)


def test_compressed_frames_stay_as_they_are(path: Path) -> None:
    image = pydicom.dcmread(path)
    image.NumberOfFrames, image.file_meta.TransferSyntaxUID = 2, RLELossless
    image.PixelData = encapsulate([b"first ", b"second"])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.save_as(path)
    assert read_frames(path, [2, 1]) == ([b"second", b"first "], str(RLELossless))


@pytest.mark.parametrize("number", [0, 2])
def test_frames_that_are_not_there_are_not_found(path: Path, number: int) -> None:
    with pytest.raises(NotFound, match="has 1 frames"):
        read_frames(path, [number])


def test_damaged_files_are_told(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    for read in (read_instance, lambda file: read_frames(file, [1])):
        with pytest.raises(BadVolume, match="text.dcm"):
            read(tmp_path / "text.dcm")
    image = pydicom.dcmread(path)
    image.PixelData = image.PixelData[:100]
    image.save_as(path)
    with pytest.raises(BadVolume, match="truncated"):
        read_frames(path, [1])


@pytest.mark.parametrize("name", ["Patient", "0010", "zz100020", "999999999"])
def test_unknown_attributes_are_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="has no attribute"):
        keyword(name)
