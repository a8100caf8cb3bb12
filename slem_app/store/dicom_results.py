"""DICOM results in a folder of the server's own, where there is no PACS: each a file, by its UIDs; nothing is
written among the studies.

The place of a file is `<store>/dicom/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from slem_app.errors import BadSetting, BadVolume, NotFound, StorageFailed
from slem_app.formats.planes import BROKEN, open_dicom
from slem_app.formats.provenance import save_dicom
from slem_app.formats.seg_reader import LABEL_MAP, SEGMENTATION
from slem_app.studies import Series
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import reason
from slem_app.unpack import Clock

__all__ = ["DicomResults", "parse_result"]

UID = re.compile(r"[0-9.]{1,64}")


class DicomResults:
    """Segmentations that were stored here.

    Args:
        root: made when the first one comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, dataset: Dataset) -> None:
        """Keep an instance; the same one again changes nothing.

        Raises:
            BadSetting: UIDs that are none.
            StorageFailed: the disk refused.
        """
        names = [
            str(dataset.get(key, "")) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        ]
        if not all(_uid(name) for name in names):
            raise BadSetting("a result without valid UIDs cannot be stored: export it again")
        study, series, instance = names
        path = self.root / study / series / f"{instance}.dcm"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageFailed(
                f"cannot make {path.parent}: {error.strerror or error}; set another folder with `--conf "
                f"store DIR`"
            ) from error
        save_dicom(dataset, path)

    def results(self, study: str) -> list[tuple[str, str]]:
        """(series, instance) of every result of a study."""
        if not _uid(study):
            return []
        return sorted(
            (path.parent.name, path.stem)
            for path in (self.root / study).glob("*/*.dcm")
            if not path.name.startswith(".")
        )

    def studies(self) -> list[str]:
        """StudyInstanceUIDs that have results."""
        return (
            sorted(path.name for path in self.root.iterdir() if _uid(path.name)) if self.root.is_dir() else []
        )

    def get(self, study: str, series: str, instance: str) -> Dataset:
        """A result.

        Raises:
            NotFound: there is none of these UIDs.
        """
        if (series, instance) not in self.results(study):
            raise NotFound(f"no result {instance} of study {study} is stored here")
        return open_dicom(self.root / study / series / f"{instance}.dcm", pixels=True)

    def series(self, study: str) -> list[Series]:
        """The results of a study as series."""
        found: dict[str, list[Path]] = {}
        for series, instance in self.results(study):
            found.setdefault(series, []).append(self.root / study / series / f"{instance}.dcm")
        return [Series(uid, tuple(paths), "dicom", "segmentation") for uid, paths in found.items()]


def parse_result(content: bytes | BinaryIO) -> Dataset:
    """A segmentation from the bytes of its file, or from the open file.

    Raises:
        BadVolume: not a DICOM file, or not a segmentation.
        TooLarge, TookTooLong: as `read_file`.
    """
    try:
        dataset, _ = read_file(content)
        kind = str(dataset.get("SOPClassUID", ""))
        clock = Clock("what came")
        dataset.walk(lambda *_: clock.check())  # what cannot be read is an error now, not when it is shown
    except BROKEN as error:
        raise BadVolume(f"this is not a readable DICOM file ({reason(error)}): send it again") from error
    if kind not in (SEGMENTATION, LABEL_MAP) or "PixelData" not in dataset:
        raise BadVolume(
            f"only segmentations (modality SEG) are stored here, but this has the SOP class "
            f"{kind[:64] or 'none'}: send images to the folder or the PACS"
        )
    return dataset


def _uid(name: str) -> bool:
    return bool(UID.fullmatch(name)) and name[0] != "."
