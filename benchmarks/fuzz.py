"""Files and texts that nobody would send, for every parser of what clients send.

Only the project's own errors may come of them, in bounded time and memory.

    python benchmarks/fuzz.py nifti --seconds 600

Inputs are changed sound ones, drawn at random from a seed, or with `--atheris` (`pip install atheris`) by
the coverage of the parsers. An input that brings another error, takes more than `SLOW`
seconds of computing or raises the memory by more than `RISE` is written to the current folder and named.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from slem_app import phantom
from slem_app.errors import SlemError

SLOW = 20.0  # seconds
RISE = 2**30  # bytes, from the first input on
SMALL = {"shape": (10, 12, 8), "spacing": (18.0, 18.0, 18.0)}
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
WORDS = (
    b"NaN",
    b"inf",
    b"-1",
    b"9" * 30,
    b"line skip: 9\n",
    b"\xfe\xff\x00\xe0",
    b"\\ud800",
    b"\n\n",
    b"PK\x05\x06",
)


class Parser:
    """One parser, with sound inputs to begin from.

    Args:
        folder: for the file that it reads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def seeds(self) -> list[bytes]:
        raise NotImplementedError

    def parse(self, content: bytes) -> None:
        raise NotImplementedError


class Nifti(Parser):
    """Label maps and images; the last byte says whether the file is compressed."""

    def seeds(self) -> list[bytes]:
        found = []
        for dtype in (np.uint8, np.int16, np.float64):
            for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
                image = kind(np.arange(960).reshape(10, 12, 8).astype(dtype), np.eye(4))
                found += [image.to_bytes() + b"\0", image.to_bytes() + b"\1"]
        return found

    def parse(self, content: bytes) -> None:
        from slem_app.formats import read_label_file
        from slem_app.studies import Series
        from slem_app.types import Grid
        from slem_app.volumes.read import read
        from slem_app.volumes.size import check_sizes

        packed = bool(content[-1:] and content[-1] & 1)
        body = igzip.compress(content[:-1], 1) if packed else content[:-1]
        path = self.file("a.nii.gz" if packed else "a.nii", body)
        for work in (
            lambda: read_label_file(path, Grid((10, 12, 8), np.eye(4))),
            lambda: (check_sizes([path], 2**26), read(Series("a", (path,), "nifti", "a"))),
        ):
            allowed(work)


class Nrrd(Parser):
    """Label maps of 3D Slicer."""

    def seeds(self) -> list[bytes]:
        head = (
            b"NRRD0004\ntype: %s\ndimension: 3\nspace: left-posterior-superior\nsizes: 10 12 8\n"
            b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\n"
            b"endian: little\nencoding: %s\n"
            b"space origin: (0,0,0)\nSegment0_Name:=edema\nSegment0_LabelValue:=1\n\n"
        )
        voxels = bytes(960)
        return [
            head % (b"uint8", b"raw") + voxels,
            head % (b"uint8", b"gzip") + igzip.compress(voxels, 1),
            head % (b"double", b"raw") + voxels * 8,
            head % (b"short", b"gz") + igzip.compress(voxels * 2, 1),
        ]

    def parse(self, content: bytes) -> None:
        from slem_app.formats import read_label_file
        from slem_app.types import Grid

        path = self.file("a.seg.nrrd", content)
        allowed(lambda: read_label_file(path, Grid((10, 12, 8), np.eye(4))))


class Dicom(Parser):
    """Images and results."""

    def seeds(self) -> list[bytes]:
        head = phantom.make(seed=1, **SMALL)
        phantom.write_dicom(head, self.folder / "studies", "ann")
        images = sorted((self.folder / "studies").rglob("*.dcm"))
        return [path.read_bytes() for path in images[:2]]

    def parse(self, content: bytes) -> None:
        from slem_app.formats.planes import frame_plane, open_dicom
        from slem_app.store.dicom_results import parse_result
        from slem_app.studies.dicom_header import probe, read_slices
        from slem_app.studies.dicom_json import read_frames, read_instance
        from slem_app.volumes.dicom import _frames
        from slem_app.volumes.size import check_sizes

        path = self.file("a.dcm", content)
        for work in (
            lambda: probe(path),
            lambda: read_slices(path),
            lambda: read_instance(path).json,
            lambda: read_frames(path, [1]),
            lambda: frame_plane(open_dicom(path)),
            lambda: parse_result(content),
            lambda: (check_sizes([path], 2**26), _frames(path, "a")),
        ):
            allowed(work)


class Json(Parser):
    """Fields and bodies of requests, and records on the disk."""

    def seeds(self) -> list[bytes]:
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
        from slem_app.store.record import Record, check_meta
        from slem_app.strict_json import parse, parse_object

        def again() -> None:
            json.dumps(parse(content, "it"), allow_nan=False, ensure_ascii=False).encode("utf-8")

        def record() -> None:
            meta = parse_object(content, "it")
            check_meta(meta)
            Record.of(meta)

        allowed(again)
        allowed(record)


class Zip(Parser):
    """Archives of sessions."""

    def seeds(self) -> list[bytes]:
        found = []
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            body = io.BytesIO()
            with zipfile.ZipFile(body, "w", method) as archive:
                archive.writestr("a/1.dcm", bytes(500))
                archive.writestr("../b.nii", b"voxels" * 50)
            found.append(body.getvalue())
        return found

    def parse(self, content: bytes) -> None:
        from slem_app.serving.http.received_files import unpack

        path = self.file("a.zip", content)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            allowed(lambda: unpack(path, Path(folder), 2**24))


PARSERS = {"nifti": Nifti, "nrrd": Nrrd, "dicom": Dicom, "json": Json, "zip": Zip}
OUTCOMES: Counter[str] = Counter()


def allowed(work: Callable[[], object]) -> None:
    """Do something that may end well or with one of the project's own errors."""
    try:
        work()
        OUTCOMES["read"] += 1
    except SlemError as error:
        OUTCOMES[type(error).__name__] += 1
        if len(str(error)) > 5000:
            raise AssertionError(f"an error text of {len(str(error))} characters") from error


def changed(content: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """A content with some of it changed."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at, what = draw.randrange(len(made) + 1), draw.randrange(7)
        if what == 0 and made:
            made[at % len(made)] ^= 1 << draw.randrange(8)
        elif what == 1:
            size = draw.choice((1, 2, 4, 8))
            made[at : at + size] = draw.choice(NUMBERS).to_bytes(8, draw.choice(("little", "big")))[:size]
        elif what == 2:
            del made[at : at + draw.randrange(1, 64)]
        elif what == 3:
            made[at:at] = draw.choice(WORDS)
        elif what == 4:
            made[at:at] = made[at : at + draw.randrange(64)] * draw.randrange(1, 20)
        elif what == 5:
            other = draw.choice(others)
            begin = draw.randrange(len(other))
            made[at : at + 32] = other[begin : begin + 32]
        else:
            made[at : at + 1] = bytes([draw.randrange(256)])
    return bytes(made)


def at_random(parser: Parser, seconds: float, seed: int) -> int:
    """Change inputs at random; how many brought what may not be."""
    draw, seeds, bad, number = random.Random(seed), parser.seeds(), 0, 0
    begin, first = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    slowest = 0.0
    while time.monotonic() - begin < seconds:
        content = changed(draw.choice(seeds), seeds, draw)
        number += 1
        start, why = time.process_time(), ""
        try:
            parser.parse(content)
        except Exception:  # noqa: BLE001 whatever it is, it is what is looked for
            why = traceback.format_exc(limit=-4)
        took = time.process_time() - start
        slowest = max(slowest, took)
        rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - first
        if not why and (took > SLOW or rise > RISE):
            why = f"{took:.1f} s, memory up by {rise / 2**20:.0f} MiB\n"
            first += max(0, rise)
        if why:
            bad += 1
            path = Path(f"found-{type(parser).__name__.lower()}-{seed}-{number}")
            path.write_bytes(content)
            print(f"{path}: {why}", flush=True)
        elif draw.random() < 0.02 and len(seeds) < 500:
            seeds.append(content)  # changes of changes
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - first
    print(
        f"{type(parser).__name__}: {number} inputs in {time.monotonic() - begin:.0f} s, {bad} bad; slowest "
        f"{slowest:.2f} s, memory up by {rise / 2**20:.0f} MiB; {dict(OUTCOMES.most_common())}"
    )
    return bad


def by_coverage(parser: Parser, seconds: float, folder: Path) -> None:
    """Let atheris find inputs; it ends the process at the first bad one, which it writes down."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(parser.seeds()):
        (corpus / str(number)).write_bytes(content)
    atheris.instrument_all()
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-timeout={SLOW:.0f}",
        f"-rss_limit_mb={(RISE >> 20) + 1024}",
    ]
    atheris.Setup([sys.argv[0], *options, "-max_len=65536", str(corpus)], parser.parse)
    atheris.Fuzz()


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parser", choices=PARSERS)
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--atheris", action="store_true", help="by coverage")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parser = PARSERS[asked.parser](Path(folder))
        if asked.atheris:
            by_coverage(parser, asked.seconds, Path(folder))
            return 0
        return int(at_random(parser, asked.seconds, asked.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
