"""Every parser of what clients send, for `fuzz.py`, with sound inputs to begin from.

The inputs are small, so that thousands of changes are tried in a minute. Headers of real scans are among them
where there are any (`SLEM_DATA`): a header as the scanner's software wrote it, before a few voxels.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import gdcm
import nibabel
import numpy as np
import pydicom
from isal import igzip
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from slem_app import phantom
from slem_app.errors import SlemError
from slem_app.formats import read_label_file
from slem_app.formats.planes import frame_plane, open_dicom
from slem_app.formats.provenance import Provenance
from slem_app.formats.rtstruct import write_rtstruct
from slem_app.formats.seg import write_seg
from slem_app.formats.seg_reader import read_seg
from slem_app.serving.http.received_files import unpack
from slem_app.serving.nninteractive import arrays
from slem_app.serving.nninteractive.interactions import read_image, read_mask
from slem_app.store.dicom_results import parse_result
from slem_app.store.record import LabelRecord, check_meta
from slem_app.strict_json import parse, parse_object
from slem_app.studies import Series, open_source
from slem_app.studies.dicom_header import probe, read_slices
from slem_app.studies.dicom_json import read_frames, read_instance
from slem_app.types import Grid
from slem_app.volumes.decoder import PixelDecoder
from slem_app.volumes.dicom import read_frames as read_pixels
from slem_app.volumes.read import read
from slem_app.volumes.size import check_sizes
from slem_app.weights import BRAIN_LABELS

DATA = Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data"))
SHAPE = (10, 12, 8)
SMALL = {"shape": SHAPE, "spacing": (18.0, 18.0, 18.0)}
DECODING = 5.0  # seconds for the pixels of one file; the server gives them more
PACKED = ("RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


OUTCOMES: Counter[str] = Counter()
"""How often a reading ended well ('read'), or by which error."""


def allowed(work: Callable[[], object]) -> None:
    """Do something that may end well or with one of the project's own errors."""
    try:
        work()
        OUTCOMES["read"] += 1
    except SlemError as error:
        OUTCOMES[type(error).__name__] += 1
        if len(str(error)) > 5000:
            raise AssertionError(f"an error text of {len(str(error))} characters") from error


class Parser:
    """One parser, with sound inputs to begin from.

    Args:
        folder: for the file that it reads.
    """

    head = 2**16
    """Bytes at the beginning that are changed most often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, content: bytes) -> Path:
        """The input as a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def seeds(self) -> list[bytes]:
        """Sound inputs."""
        raise NotImplementedError

    def parse(self, content: bytes) -> None:
        """Read one input in every way in which the server does."""
        raise NotImplementedError


class Nifti(Parser):
    """Label maps and images; the last byte says whether the file is compressed."""

    head = 560

    def seeds(self) -> list[bytes]:
        """Of three types, in both versions, and after headers of real scans."""
        found = []
        for dtype in (np.uint8, np.int16, np.float64):
            for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
                found.append(kind(np.arange(960).reshape(SHAPE).astype(dtype), np.eye(4)).to_bytes())
        for folder in sorted(DATA.glob("*/")):
            found += [_shrunk(path) for path in sorted(folder.rglob("*.nii*"))[:4]]
        return [content + packed for content in found for packed in (b"\0", b"\1")]

    def parse(self, content: bytes) -> None:
        """As a label map and as an image."""
        packed = bool(content[-1:] and content[-1] & 1)
        body = igzip.compress(content[:-1], 1) if packed else content[:-1]
        path = self.file("a.nii.gz" if packed else "a.nii", body)
        allowed(lambda: read_label_file(path, Grid(SHAPE, np.eye(4))))
        allowed(lambda: (check_sizes([path], 2**26), read(Series("a", (path,), "nifti", "a"))))


def _shrunk(path: Path) -> bytes:
    """The header of a scan, before a few voxels."""
    header = nibabel.load(path).header.copy()
    header.set_data_shape(SHAPE)
    if header.get_data_offset() == 0:
        header.set_data_offset(352)
    return header.binaryblock + bytes(4) + bytes(range(240)) * (4 * header.get_data_dtype().itemsize)


class Nrrd(Parser):
    """Label maps of 3D Slicer."""

    head = 400

    def seeds(self) -> list[bytes]:
        """Raw and gzip, of one layer and of two."""
        head = (
            b"NRRD0004\ntype: %s\ndimension: 3\nspace: left-posterior-superior\nsizes: 10 12 8\n"
            b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\n"
            b"endian: little\nencoding: %s\n"
            b"space origin: (0,0,0)\nSegment0_Name:=edema\nSegment0_LabelValue:=1\n"
            b"Segment0_Layer:=0\nSegment0_Extent:=0 9 0 11 0 7\n\n"
        )
        layers = head.replace(b"dimension: 3", b"dimension: 4").replace(b"sizes: ", b"sizes: 2 ")
        layers = layers.replace(b"directions: ", b"directions: none ").replace(b"kinds: ", b"kinds: list ")
        voxels = bytes(960)
        return [
            head % (b"uint8", b"raw") + voxels,
            head % (b"uint8", b"gzip") + igzip.compress(voxels, 1),
            head % (b"double", b"raw") + voxels * 8,
            head % (b"short", b"gz") + igzip.compress(voxels * 2, 1),
            layers % (b"unsigned char", b"gzip") + igzip.compress(voxels * 2, 1),
        ]

    def parse(self, content: bytes) -> None:
        """As the label of an image."""
        path = self.file("a.seg.nrrd", content)
        allowed(lambda: read_label_file(path, Grid(SHAPE, np.eye(4))))


class Dicom(Parser):
    """Images and results."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.decoder = PixelDecoder(DECODING)

    def seeds(self) -> list[bytes]:
        """An image in every transfer syntax, one of several frames, a segmentation, contours."""
        head = phantom.make(seed=1, **SMALL)
        phantom.write_dicom(head, self.folder / "studies", "ann")
        series = open_source(self.folder / "studies").study("ann").series[0]
        made = Provenance("AUTOMATIC", "x", "1")
        results = [
            write(head.labels, head.grid, BRAIN_LABELS, series, made, self.folder / "result.dcm").read_bytes()
            for write in (write_seg, write_rtstruct)
        ]
        path = series.paths[3]
        plain = [path.read_bytes(), series.paths[4].read_bytes(), _in_frames(series.paths[:2])]
        others = [_written(path, uid) for uid in UNCOMPRESSED]
        return plain + results + others + [_compressed(path, name) for name in PACKED]

    def parse(self, content: bytes) -> None:
        """As an image, as frames that are handed out, and as a result that comes."""
        path = self.file("a.dcm", content)
        for work in (
            lambda: probe(path),
            lambda: read_slices(path),
            lambda: read_instance(path).json,
            lambda: read_frames(path, [1]),
            lambda: frame_plane(open_dicom(path)),
            lambda: parse_result(content),
            lambda: (check_sizes([path], 2**26), read_pixels(path, "a", self.decoder)),
            lambda: read_seg(path, Grid(SHAPE, np.eye(4)), BRAIN_LABELS),
        ):
            allowed(work)


UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def _written(path: Path, syntax: str) -> bytes:
    """An uncompressed image in another transfer syntax."""
    image, file = pydicom.dcmread(path), io.BytesIO()
    image.file_meta.TransferSyntaxUID = syntax
    image.is_little_endian = syntax != ExplicitVRBigEndian
    image.is_implicit_VR = syntax == ImplicitVRLittleEndian
    image.save_as(file)
    return file.getvalue()


def _in_frames(paths: Sequence[Path]) -> bytes:
    """Slices as one file of several frames."""
    parts, file = [pydicom.dcmread(path) for path in paths], io.BytesIO()
    image, groups = parts[0], []
    for part in parts:
        group, place, plane, measures = (pydicom.Dataset() for _ in range(4))
        place.ImagePositionPatient, measures.PixelSpacing = part.ImagePositionPatient, part.PixelSpacing
        plane.ImageOrientationPatient = part.ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [plane]
        group.PixelMeasuresSequence = [measures]
        groups.append(group)
    image.PixelData = b"".join(part.PixelData for part in parts)
    image.NumberOfFrames, image.PerFrameFunctionalGroupsSequence = len(parts), groups
    image.save_as(file)
    return file.getvalue()


def _compressed(path: Path, syntax: str) -> bytes:
    """An image in a compressed transfer syntax, by GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    target = path.with_suffix(".packed")
    reader.SetFileName(str(path))
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    writer.SetFileName(str(target))
    if not reader.Read():
        raise SystemExit(f"GDCM cannot read {path}")
    change.SetInput(reader.GetImage())
    change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.Write()
    return target.read_bytes()


class Json(Parser):
    """Fields and bodies of requests, and records on the disk."""

    def seeds(self) -> list[bytes]:
        """A record, a request, and values of every kind."""
        meta = {
            "label_names": {"edema": 1},
            "present": ["edema"],
            "ts": 5,
            "record": {"ts": 1.5, "reader": "a@b"},
        }
        asked = {
            "foreground": [[1, 2, 3]],
            "label_info": [{"name": "edema", "idx": 1}],
            "client_id": "ä😀",
            "x": None,
        }
        return [json.dumps(one).encode() for one in (meta, asked, [[], {}, 1e30, -0.0, True], "\ud83d\ude00")]

    def parse(self, content: bytes) -> None:
        """As any JSON, which must be writable again, and as a label's record."""

        def again() -> None:
            json.dumps(parse(content, "it"), allow_nan=False, ensure_ascii=False).encode("utf-8")

        def record() -> None:
            meta = parse_object(content, "it")
            check_meta(meta)
            LabelRecord.of(meta)

        allowed(again)
        allowed(record)


class Zip(Parser):
    """Archives of sessions."""

    def seeds(self) -> list[bytes]:
        """Stored and deflated, with a name that leads out of the folder."""
        found = []
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            body = io.BytesIO()
            with zipfile.ZipFile(body, "w", method) as archive:
                archive.writestr("a/1.dcm", bytes(500))
                archive.writestr("../b.nii", b"voxels" * 50)
            found.append(body.getvalue())
        return found

    def parse(self, content: bytes) -> None:
        """Its files must come to lie in the folder."""
        path = self.file("a.zip", content)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            allowed(lambda: unpack(path, Path(folder), 2**24))
        if strange := set(self.folder.iterdir()) - {path, self.folder / "corpus"}:
            raise AssertionError(f"files outside the folder: {strange}")


class Blosc(Parser):
    """Arrays of nnInteractive's clients (`pip install blosc2`)."""

    head = 120

    def seeds(self) -> list[bytes]:
        """Images and masks, of one piece and of two."""
        found = [arrays.pack(np.arange(960).reshape(1, *SHAPE).astype(one)) for one in ("int16", "float32")]
        found += [arrays.pack(np.ones(SHAPE, one)) for one in ("bool", "uint8")]
        first, second = (arrays.pack(np.full(480, value, np.uint8)) for value in (0, 7))
        at = 8 + len("uint8") + 8  # where the pieces of an array of one axis begin
        head = first[: at - 8] + (960).to_bytes(8, "little") + (2).to_bytes(4, "little")
        return [*found, head + first[at + 4 :] + second[at + 4 :]]

    def parse(self, content: bytes) -> None:
        """As an image, and as a mask on one."""
        allowed(lambda: read_image(content, 2**24))
        allowed(lambda: read_mask(content, {}, SHAPE, 2**24))


PARSERS = {"nifti": Nifti, "nrrd": Nrrd, "dicom": Dicom, "json": Json, "zip": Zip, "blosc": Blosc}
