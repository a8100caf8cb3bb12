"""Whose a DICOM study is and when it was taken, as one of its files says: held in memory, not on disk."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slem_app.studies.dicom_header import patient_fields

__all__ = ["Whose", "whose_in"]

THREADS = 8  # files that are read at one time: a disk far away answers slowly


@dataclass(frozen=True)
class Whose:
    """Of one study; empty where it does not say."""

    patient: str = ""
    """PatientID."""
    name: str = ""
    """PatientName."""
    date: str = ""
    """StudyDate."""
    time: str = ""
    """StudyTime."""


def whose_in(folders: Mapping[Path, tuple[frozenset[str], tuple[str, ...]]]) -> dict[str, Whose]:
    """Whose studies are, from as few files as tell it.

    Args:
        folders: folder -> the studies of which something is wanted (StudyInstanceUID) and the names of its
            files.

    Returns:
        StudyInstanceUID -> whose, of those that could be read.
    """
    found: dict[str, Whose] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        uids, names = [wanted for wanted, _ in folders.values()], [files for _, files in folders.values()]
        for one in pool.map(_in_folder, folders, uids, names):
            found |= one
    return found


def _in_folder(folder: Path, wanted: frozenset[str], names: tuple[str, ...]) -> dict[str, Whose]:
    found: dict[str, Whose] = {}
    for name in names:
        if wanted <= found.keys():
            break
        fields = patient_fields(folder / name)
        uid = fields.get("StudyInstanceUID", "")
        if uid in wanted and uid not in found:
            found[uid] = Whose(
                fields["PatientID"], fields["PatientName"], fields["StudyDate"], fields["StudyTime"]
            )
    return found
