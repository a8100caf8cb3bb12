"""Series in the compressed transfer syntaxes that PACS hand out: the same voxels as uncompressed, classic and
multi-frame.
"""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from slem_app.errors import BadVolume
from slem_app.phantom import make, write_dicom
from slem_app.studies import Series
from slem_app.volumes.read import read

gdcm = pytest.importorskip("gdcm", reason="no GDCM: pip install -e '.[compressed]'")
SYNTAXES = {
    "RLELossless": "1.2.840.10008.1.2.5",
    "JPEGLosslessProcess14_1": "1.2.840.10008.1.2.4.70",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom(make(2, (24, 28, 8), (7.0, 7.0, 9.0)), folder, "p")
    return sorted((folder / "p").glob("*_t2f/*.dcm"))


def compress(source: Path, target: Path, syntax: str) -> Path:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_compressed_slices_are_read_without_loss(paths: list[Path], tmp_path: Path, syntax: str) -> None:
    packed = tuple(compress(path, tmp_path / path.name, syntax) for path in paths)
    assert dcmread(packed[0]).file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    plain, found = (
        read(Series("t2f", tuple(paths), "dicom", "t2f")),
        read(Series("t2f", packed, "dicom", "t2f")),
    )
    assert found.grid.same_as(plain.grid)
    np.testing.assert_array_equal(found.array, plain.array)


def test_a_cut_compressed_file_is_named(paths: list[Path], tmp_path: Path) -> None:
    packed = [compress(path, tmp_path / path.name, "JPEG2000Lossless") for path in paths]
    packed[2].write_bytes(packed[2].read_bytes()[:-400])
    with pytest.raises(BadVolume, match=f"{packed[2].name} cannot be decoded"):
        read(Series("t2f", tuple(packed), "dicom", "t2f"))


def test_a_syntax_that_nothing_here_decodes_is_told(paths: list[Path], tmp_path: Path) -> None:
    copies = []
    for path in paths:
        image = dcmread(path)
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.107"  # HEVC, as endoscopes send it
        table, end = b"\xfe\xff\x00\xe0\x00\x00\x00\x00", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
        image.PixelData = table + b"\xfe\xff\x00\xe0\x04\x00\x00\x00abcd" + end
        image["PixelData"].is_undefined_length = True
        image["PixelData"].VR = "OB"
        image.save_as(tmp_path / path.name)
        copies.append(tmp_path / path.name)
    with pytest.raises(
        BadVolume,
        match="cannot be decoded .*: export it again, uncompressed if the transfer syntax is unusual",
    ):
        read(Series("t2f", tuple(copies), "dicom", "t2f"))
