"""Folders of DICOM files: any number of patients, studies and series, in any arrangement of folders.

Listing reads only the StudyInstanceUID, and of a folder with many files only a few of them, evenly spread; a
folder in which these differ is read file by file. Opening a case reads all headers of its folders. Should a
file of an unknown study turn up there, its folder is read in full when ids are next asked for, so that
nothing stays hidden.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from slem_app.errors import BadVolume, NotFound
from slem_app.studies.dicom_header import Header, probe, read_slices
from slem_app.studies.dicom_series import assemble
from slem_app.studies.folders import visible_folders
from slem_app.studies.naming import plain_id
from slem_app.studies.series import Study
from slem_app.studies.source import StudySource

__all__ = ["DicomSource"]

PROBES = 8
OTHER_ENDINGS = re.compile(
    r"\.(nii|gz|json|ya?ml|txt|csv|tsv|xml|html?|pdf|png|jpe?g|bmp|tiff?|zip|tar|nrrd|mha|bval|bvec|md|py|exe|inf|mp4|db)$",
    re.IGNORECASE,
)
Places = Mapping[str, tuple[str, ...]]  # StudyInstanceUID -> folders below the root


class DicomSource(StudySource):
    """One case a StudyInstanceUID; its id is the name of its folder where that is unambiguous, else its path,
    else the UID.
    """

    def __init__(self, root: Path, layout: str, coding: str | None = None) -> None:
        super().__init__(root, layout, coding)
        self._mixed: set[str] = set()  # folders where probing missed a study

    def _list(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        places = self._places()
        names = _names(places, self.root.name)
        return {names[uid]: (uid, folders) for uid, folders in places.items()}

    def _places(self) -> Places:
        found: dict[str, list[str]] = defaultdict(list)
        for folder, files in _walk(self.root):
            for uid in self._studies_in(folder, files):
                found[uid].append(folder)
        return {uid: tuple(folders) for uid, folders in found.items()}

    def _studies_in(self, folder: str, files: list[str]) -> set[str]:
        """StudyInstanceUIDs of a folder's own files."""
        here = Path(self.root, folder)
        picked = (
            files
            if folder in self._mixed or len(files) <= PROBES
            else [files[k * (len(files) - 1) // (PROBES - 1)] for k in range(PROBES)]
        )
        found = {probe(here / name) for name in picked}
        if len(found) > 1 and len(picked) < len(files):
            found = {probe(here / name) for name in files}
        return {uid for uid in found if uid}

    def uids(self) -> dict[str, str]:
        """StudyInstanceUID -> id of every case."""
        return {uid: name for name, (uid, _) in self._index().items()}

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
        slices: list[Header] = []
        for folder in folders:
            for part in self._read(folder):
                if part.get("StudyInstanceUID") == uid:
                    slices.append(part)
        if not slices:
            raise NotFound(
                f"no readable DICOM file of case {id!r} is left in {self.root}: it was moved or deleted "
                f"after listing"
            )
        return Study(
            id, self.layout, Path(self.root, os.path.commonpath(folders)), assemble(slices), None, self.coding
        )

    def _read(self, folder: str) -> Iterator[Header]:
        """The slices of a folder's own files; other files are passed over, damaged ones leave a gap that the
        grid reports.
        """
        known = {uid for uid, _ in self._index().values()}
        for name in _candidates(visible_folders(Path(self.root, folder))[1]):
            try:
                slices = read_slices(Path(self.root, folder, name))
            except BadVolume:
                continue
            for part in slices:
                if (uid := str(part.get("StudyInstanceUID", ""))) and uid not in known:
                    self._mixed.add(folder)
                    self.refresh()
                yield part


def _candidates(files: list[str]) -> list[str]:
    return [name for name in files if not OTHER_ENDINGS.search(name) and name.upper() != "DICOMDIR"]


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder below the root, files that may be DICOM) of every folder."""
    for here, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = _candidates(sorted(name for name in files if not name.startswith(".")))
        if names:
            yield os.path.relpath(here, root), names


def _names(places: Places, root_name: str) -> dict[str, str]:
    """StudyInstanceUID -> id."""
    common = {uid: Path(os.path.commonpath(folders)).parts for uid, folders in places.items()}
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
