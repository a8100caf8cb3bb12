"""CHAOS, abdominal MR as the challenge hands it out: MR/<patient>/{T1DUAL,T2SPIR}/DICOM_anon/... with
Ground/*.png beside it.

A series is a folder: the files' UIDs do not tell the images apart (in- and out-phase share theirs, and some
copies of the set have others in every file). T1-DUAL and T2-SPIR were taken in breath-holds of their own and
have a truth each, so a patient is one case with the truth of T1-DUAL, and the other sequences that have a
truth are its `Study.parts`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from slem_app.errors import BadVolume
from slem_app.studies.dicom_header import Header, read_slices
from slem_app.studies.dicom_series import split
from slem_app.studies.dicom_slices import in_order, summary
from slem_app.studies.folders import visible_folders
from slem_app.studies.naming import plain_id, unique
from slem_app.studies.series import Series, Study
from slem_app.studies.source import StudySource

__all__ = ["ChaosSource", "is_chaos"]

IMAGES, TRUTH = "DICOM_anon", "Ground"
KNOWN = frozenset({"T1DUAL", "T2SPIR"})
AROUND = frozenset({"MR", "CT", "Train_Sets", "Test_Sets"})
DEPTH = 3  # root/Train_Sets/MR/patient
PEEKED = 50


def is_chaos(root: Path) -> bool:
    """True if `root` holds patients of CHAOS's MR part, or is one, and nothing beside them that would be
    overlooked.
    """
    if _is_patient(root):
        return True
    folders = visible_folders(root)[0][:PEEKED]
    return (
        bool(folders)
        and all(name in AROUND or _is_patient(root / name) for name in folders)
        and next(_patients(root), None) is not None
    )


def _is_patient(folder: Path) -> bool:
    return any((folder / name / IMAGES).is_dir() for name in KNOWN)


def _patients(root: Path) -> Iterator[tuple[str, ...]]:
    """Folder names from the root to each patient."""
    todo: list[tuple[str, ...]] = [()]
    while todo:
        where = todo.pop(0)
        if _is_patient(root.joinpath(*where)):
            yield where
        elif len(where) < DEPTH:
            todo += [(*where, name) for name in visible_folders(root.joinpath(*where))[0]]


class ChaosSource(StudySource):
    """Cases are patients: '1', '2', ..."""

    def _list(self) -> Mapping[str, tuple[str, ...]]:
        found = list(_patients(self.root))
        names = [where[-1] if where else self.root.name for where in found]
        doubled = {name for name, count in Counter(names).items() if count > 1}
        return {
            plain_id("_".join(where) if name in doubled else name): where
            for name, where in zip(names, found, strict=True)
        }

    def _open(self, id: str, entry: tuple[str, ...]) -> Study:
        folder = self.root.joinpath(*entry)
        tops = [name for name in visible_folders(folder)[0] if (folder / name / IMAGES).is_dir()]
        series = {top: _named(_images(folder / top, top)) for top in tops}
        everything = tuple(one for top in tops for one in series[top])
        labels = {
            top: label
            for top in tops
            if series[top] and (label := _truth(folder / top, top, series[top])) is not None
        }
        first = next((top for top in tops if series[top]), None)
        parts = tuple(
            Study(f"{id}_{plain_id(top)}", self.layout, folder / top, series[top], label, self.coding)
            for top, label in labels.items()
            if top != first
        )
        return Study(id, self.layout, folder, everything, labels.get(first or ""), self.coding, parts=parts)


def _images(top: Path, name: str) -> list[Series]:
    """The series of T1DUAL, T2SPIR or any other sequence's folder: one a folder of files, or several where
    slices lie twice in one place.
    """
    found = []
    for folder in (top / IMAGES, *(top / IMAGES / below for below in visible_folders(top / IMAGES)[0])):
        slices = [part for file in visible_folders(folder)[1] for part in _slices(folder / file)]
        words = [name] if folder.name == IMAGES else [name, folder.name]
        for more, group in split(slices) if slices else ():
            found.append(_series([*words, *more], group))
    return found


def _slices(path: Path) -> list[Header]:
    try:
        return read_slices(path)
    except BadVolume:  # another kind of file, or a damaged one, which leaves a gap that the grid reports
        return []


def _series(words: list[str], slices: Sequence[Header]) -> Series:
    ordered = in_order(slices)
    paths = tuple(dict.fromkeys(part["path"] for part in ordered))
    return Series.described(plain_id("_".join(words)), " ".join(words), summary(ordered), paths, ordered)


def _named(series: list[Series]) -> tuple[Series, ...]:
    ids = unique([one.id for one in series])
    if len(set(ids)) == len(series) and ids == [one.id for one in series]:
        return tuple(series)
    return tuple(
        Series.described(id, one.name, one.header, one.paths) for id, one in zip(ids, series, strict=True)
    )


def _truth(top: Path, name: str, series: tuple[Series, ...]) -> Series | None:
    """The stack of PNG files drawn on the series: on the in-phase of T1-DUAL, with which the out-phase is in
    register.
    """
    files = [file for file in visible_folders(top / TRUTH)[1] if re.search(r"\.png$", file, re.IGNORECASE)]
    if not files:
        return None
    image = next((one for one in series if "inphase" in one.name.lower()), series[0])
    return Series(
        f"{plain_id(name)}_{TRUTH}",
        tuple(top / TRUTH / file for file in files),
        "png",
        f"{name} {TRUTH}",
        on=image,
    )
