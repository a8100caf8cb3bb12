"""A source of studies: lists the ids of its cases without reading any image, and opens one case at a time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from slem_app.errors import NotFound
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.series import Study
from slem_app.studies.whose import Whose

__all__ = ["StudySource", "files_state", "folders_of"]


class StudySource(ABC):
    """The cases of one folder. Ids are looked up in the list, so that none can lead out of the folder.

    Args:
        root: the folder.
        layout: its naming scheme.
        coding: how its label values are coded, if declared.
        index: what was read of the folder before; None: it is read each time.
    """

    def __init__(
        self, root: Path, layout: str, coding: str | None = None, index: HeaderIndex | None = None
    ) -> None:
        self.root = root
        self.layout = layout
        self.coding = coding
        self.header_index = index
        self.rules: Path | None = None
        self.by_hand: Callable[[str], Mapping[str, str]] = lambda id: {}  # of a case, see `Study.by_hand`
        self.patients = ""  # the pattern in slem.yaml that tells patients from folders, see `patients`
        self._one: str | None = None
        self._entries: dict[str, Any] | None = None

    @abstractmethod
    def _list(self) -> Mapping[str, Any]:
        """Id -> whatever `_open` needs to open that case; reads names only."""

    @abstractmethod
    def _open(self, id: str, entry: Any) -> Study:
        """The case `id`."""

    def place(self, id: str) -> str:
        """Where a case lies below the root, its folders joined by '/'; its id where that says as much.

        Raises:
            NotFound: no such case.
        """
        return id

    def whose(self, id: str, patient: str = "") -> Mapping[str, Whose]:
        """Case -> whose it is, at least of all cases of one patient; empty where headers do not tell.

        Args:
            id: a case of the patient; empty: `patient` says who.
            patient: PatientID.
        """
        return {}

    def only(self, id: str) -> StudySource:
        """This source narrowed to one of its cases."""
        narrow = copy(self)
        narrow._one, narrow._entries = id, None
        return narrow

    def refresh(self) -> None:
        """Look at the folder again at the next question."""
        self._entries = None

    def _index(self) -> dict[str, Any]:
        entries = self._entries
        if entries is None:
            listed = self._list()
            self._entries = entries = {id: listed[id] for id in sorted(listed) if self._one in (None, id)}
        return entries

    def ids(self) -> tuple[str, ...]:
        """The ids of all cases, sorted."""
        return tuple(self._index())

    def study(self, id: str) -> Study:
        """The case called `id`.

        Raises:
            NotFound: no such case, or an id that is a path.
        """
        index = self._index()
        if id in index:
            return self._decided(self._open(id, index[id]), self.by_hand(id))
        if "/" in id or "\\" in id or id in (".", "..", ""):
            raise NotFound(
                f"case id {id!r} is a path: ids are plain names and never lead out of the studies folder"
            )
        some = ", ".join(list(index)[:5]) + (", ..." if len(index) > 5 else "")
        raise NotFound(f"no case {id!r} in {self.root}: it has {len(index)} cases ({some})")

    def _decided(self, study: Study, by_hand: Mapping[str, str]) -> Study:
        """A study with the rules and the choices by hand that hold for it and its parts."""
        if not (self.rules or by_hand):
            return study
        parts = tuple(self._decided(part, _within(by_hand, part)) for part in study.parts)
        return replace(
            study, rules=self.rules or study.rules, by_hand={**study.by_hand, **by_hand}, parts=parts
        )

    def __len__(self) -> int:
        return len(self._index())

    def __bool__(self) -> bool:
        """True: a source without a study, such as an empty PACS, is one all the same."""
        return True

    def __iter__(self) -> Iterator[Study]:
        return (self.study(id) for id in self.ids())


def _within(by_hand: Mapping[str, str], part: Study) -> dict[str, str]:
    """The choices by hand that a part of a study can follow: of its own series, and of none."""
    return {name: id for name, id in by_hand.items() if not id or part.find(id) is not None}


def folders_of(study: Study) -> list[Path]:
    """The folders in which files of a study lie."""
    return sorted({path.parent for series in study.series for path in series.paths} | {study.root})


def files_state(study: Study) -> Hashable:
    """Changes when a file of the study, or an entry of their folders, comes, goes or changes; () when one is
    gone.

    Of DICOM all files of the folders count: one that could not be read, because it was still being copied,
    may be whole by now.
    """
    try:
        folders = folders_of(study)
        dicom = any(series.format == "dicom" for series in study.series)
        files = (
            tuple(_files(folder) for folder in folders)
            if dicom
            else tuple(series.state for series in study.series)
        )
        return tuple(folder.stat().st_mtime_ns for folder in folders), files
    except (FileNotFoundError, NotFound):
        return ()


def _files(folder: Path) -> tuple[tuple[str, int, int], ...]:
    with os.scandir(folder) as entries:
        stats = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats))
