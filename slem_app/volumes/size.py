"""What images will take once they are unpacked, from their headers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from slem_app.errors import TooLarge
from slem_app.studies.dicom_header import probe, read_slices
from slem_app.studies.nifti_header import NiftiHeader, is_nifti
from slem_app.unpack import megabytes, times

__all__ = ["check_sizes"]

EXTENTS = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")
FLOAT = 4  # bytes of a voxel in memory, at least


def check_sizes(paths: Iterable[Path], most: int) -> None:
    """Refuse images that somebody else made and that would take too much memory; nothing is unpacked.

    Args:
        paths: NIfTI files, DICOM files, or folders of them; anything else is passed over.
        most: bytes that one volume may take.

    Raises:
        TooLarge: a NIfTI file, or the files of one DICOM series, would take more.
        BadVolume: a header that cannot be read.
    """
    series: Counter[str] = Counter()
    for path in (file for one in paths for file in (one.rglob("*") if one.is_dir() else [one])):
        if is_nifti(path.name):
            header = NiftiHeader.read(path)
            size = header.nbytes // header.dtype.itemsize * max(header.dtype.itemsize, FLOAT)
            _check(path.name, f"{times(header.shape)} voxels", size, most)
        elif path.is_file() and probe(path) is not None:
            first = read_slices(path)[0]
            shape = [max(1, int(first.get(key, 1))) for key in EXTENTS]
            uid = str(first.get("SeriesInstanceUID", ""))
            series[uid] += math.prod(shape) * FLOAT
            _check(f"series {uid}", f"slices of {times(shape[:2])} pixels", series[uid], most)


def _check(what: str, voxels: str, size: int, most: int) -> None:
    if size > most:
        raise TooLarge(
            f"{what}: {voxels} take {megabytes(size)} once they are unpacked, the limit is "
            f"{megabytes(most)} (setting `volume_mb`): send a smaller image"
        )
