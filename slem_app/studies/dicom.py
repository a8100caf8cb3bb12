"""Folders of DICOM files: any number of patients, studies and series, in any arrangement of folders.

Listing reads only the StudyInstanceUID, and of a folder with many files only a few of them, evenly spread; a
folder in which these differ is read file by file. Opening a case reads all headers of its folders. Should a
file of an unknown study turn up there, its folder is read in full when ids are next asked for, so that
nothing stays hidden.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from slem_app.errors import BadVolume, NotFound
from slem_app.studies.dicom_header import Header, patient_id, probe, read_slices
from slem_app.studies.dicom_series import assemble
from slem_app.studies.folders import visible_folders
from slem_app.studies.header_index import SETTLED, FolderPass, HeaderIndex, settles
from slem_app.studies.naming import plain_id
from slem_app.studies.series import Study
from slem_app.studies.source import StudySource
from slem_app.studies.study_headers import study_from_table, to_table
from slem_app.studies.whose import Whose, whose_in

__all__ = ["DicomSource"]

PROBES = 8
# seconds for which a folder with a file that tells no study must have been left alone: it may be whole yet
UNREADABLE = 3600.0
OTHER_ENDINGS = re.compile(
    r"\.(nii|gz|json|ya?ml|txt|csv|tsv|xml|html?|pdf|png|jpe?g|bmp|tiff?|zip|tar|nrrd|mha|bval|bvec|md|py|exe|inf|mp4|db)$",
    re.IGNORECASE,
)
Places = Mapping[str, tuple[str, ...]]  # StudyInstanceUID -> folders below the root


class DicomSource(StudySource):
    """One case a StudyInstanceUID; its id is the name of its folder where that is unambiguous, else its path,
    else the UID.
    """

    def __init__(
        self, root: Path, layout: str, coding: str | None = None, index: HeaderIndex | None = None
    ) -> None:
        super().__init__(root, layout, coding, index)
        self._whose: dict[str, Whose] = {}  # StudyInstanceUID -> of those that were asked for
        self._mixed: set[str] = set()  # folders where probing missed a study

    def _list(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        places = self._places()
        names = _names(places, self.root.name)
        return {names[uid]: (uid, folders) for uid, folders in places.items()}

    def _places(self) -> Places:
        found: dict[str, list[str]] = defaultdict(list)
        todo = [""]
        with (
            self.header_index.listing(self.root)
            if self.header_index is not None
            else nullcontext(FolderPass({})) as seen
        ):
            while todo:
                folder = todo.pop()
                place = f"{self.root}/{folder}"
                kept = seen.content(folder, place, partial(self._folder, folder))
                for uid in kept["studies"]:
                    found[uid].append(folder or ".")
                below = f"{folder}/" if folder else ""
                todo += [below + name for name in reversed(kept["folders"])]
        return {uid: tuple(folders) for uid, folders in found.items()}

    def _folder(self, folder: str, before: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """What a folder holds, and after how many seconds left alone that may be kept; see `settles`."""
        folders, files = _entries(Path(self.root, folder))
        names = _candidates(files)
        whole = (folder or ".") in self._mixed or bool(before.get("whole"))
        uids = self._studies_in(folder, names, whole) if names else set()
        content = {"folders": folders, "studies": sorted(uid for uid in uids if uid)}
        kept: dict[str, Any] = {**content, "whole": True} if whole else content
        return kept, settles(folders or files, UNREADABLE if None in uids else SETTLED)

    def _studies_in(self, folder: str, files: list[str], whole: bool) -> set[str | None]:
        """StudyInstanceUIDs of a folder's own files; None among them: a file has none."""
        here = Path(self.root, folder)
        picked = (
            files
            if whole or len(files) <= PROBES
            else [files[k * (len(files) - 1) // (PROBES - 1)] for k in range(PROBES)]
        )
        found = {probe(here / name) for name in picked}
        if len(found) > 1 and len(picked) < len(files):
            found = {probe(here / name) for name in files}
        return found

    def uids(self) -> dict[str, str]:
        """StudyInstanceUID -> id of every case."""
        return {uid: name for name, (uid, _) in self._index().items()}

    def place(self, id: str) -> str:
        _, folders = self._index()[id]
        return "/".join(_shared(folders)) or id

    def whose(self, id: str, patient: str = "") -> Mapping[str, Whose]:
        """Of all studies: one file of each is read, the first time."""
        index = self._index()
        folders: dict[Path, set[str]] = defaultdict(set)
        for uid, places in index.values():
            if uid not in self._whose:
                folders[Path(self.root, places[0])].add(uid)
        wanted = {
            folder: (frozenset(uids), tuple(_candidates(visible_folders(folder)[1])))
            for folder, uids in folders.items()
        }
        self._whose |= whose_in(wanted)
        return {name: self._whose[uid] for name, (uid, _) in index.items() if uid in self._whose}

    def study(self, id: str) -> Study:
        """The case of that id, or of that StudyInstanceUID.

        Raises:
            NotFound: no such case.
        """
        index = self._index()
        return super().study(
            next((name for name, (uid, _) in index.items() if uid == id), id) if id not in index else id
        )

    def _open(self, id: str, entry: tuple[str, tuple[str, ...]]) -> Study:
        uid, folders = entry
        bare = Study(id, self.layout, Path(self.root, os.path.commonpath(folders)), (), None, self.coding)
        if self.header_index is None:
            return self._read_study(bare, uid, folders)
        state = _state(self.root, folders)
        kept = self.header_index.headers(str(self.root), uid, state)
        if kept is not None:
            with suppress(LookupError, TypeError, ValueError):  # of a damaged file
                return study_from_table(kept, bare, patient_id)
        study = self._read_study(bare, uid, folders)
        self.header_index.keep(str(self.root), uid, state, to_table(study))
        return study

    def _read_study(self, bare: Study, uid: str, folders: tuple[str, ...]) -> Study:
        """The study with its series.

        Raises:
            NotFound: no file of it is left.
        """
        slices: list[Header] = []
        for folder in folders:
            for part in self._read(folder, uid):
                if part.get("StudyInstanceUID") == uid:
                    slices.append(part)
        if not slices:
            raise NotFound(
                f"no readable DICOM file of case {bare.id!r} is left in {self.root}: it was moved or deleted "
                f"after listing"
            )
        return replace(bare, series=assemble(slices))

    def _read(self, folder: str, wanted: str) -> Iterator[Header]:
        """The slices of a folder's own files; other files are passed over, damaged ones leave a gap that the
        grid reports.
        """
        for name in _candidates(visible_folders(Path(self.root, folder))[1]):
            try:
                slices = read_slices(Path(self.root, folder, name))
            except BadVolume:
                continue
            for part in slices:
                uid = str(part.get("StudyInstanceUID", ""))
                if uid not in ("", wanted) and all(uid != one for one, _ in self._index().values()):
                    self._mixed.add(folder)
                    if self.header_index is not None:
                        self.header_index.forget(self.root, "" if folder == "." else folder)
                    self.refresh()
                yield part


def _candidates(files: list[str]) -> list[str]:
    return [name for name in files if not OTHER_ENDINGS.search(name) and name.upper() != "DICOMDIR"]


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """(subfolders, files) of a folder; links to folders are not followed, for they may lead in a circle."""
    folders, files = visible_folders(folder)
    return [name for name in folders if not (folder / name).is_symlink()], files


def _state(root: Path, folders: tuple[str, ...]) -> str:
    """Changes when a file of the folders comes, goes or changes."""
    found = hashlib.sha256()
    for folder in folders:
        with suppress(FileNotFoundError), os.scandir(Path(root, folder)) as entries:
            for entry in sorted(entries, key=attrgetter("name")):
                stat = entry.stat()
                found.update(f"{folder}/{entry.name} {stat.st_mtime_ns} {stat.st_size}\n".encode())
    return found.hexdigest()


def _shared(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Names on the way to what all folders lie in."""
    shared = folders[0] if len(folders) == 1 else os.path.commonpath(folders)
    return tuple(shared.split("/")) if shared not in ("", ".") else ()


def _names(places: Places, root_name: str) -> dict[str, str]:
    """StudyInstanceUID -> id."""
    common = {uid: _shared(folders) for uid, folders in places.items()}
    if len(places) == 1 and not next(iter(common.values())):
        return {uid: plain_id(root_name) for uid in places}
    # studies in or below each folder
    inside = Counter(parts[:k] for parts in common.values() for k in range(1, len(parts) + 1))
    names = {}
    for uid, parts in common.items():
        if parts and inside[parts[:1]] == 1:
            names[uid] = plain_id(parts[0])
        elif parts and inside[parts] == 1:
            names[uid] = plain_id("_".join(parts))
        else:
            names[uid] = uid
    doubled = {name for name, n in Counter(names.values()).items() if n > 1}
    return {uid: uid if name in doubled else name for uid, name in names.items()}
