"""NIfTI files in folders: one folder a case (BraTS, plain), or the files of many cases beside each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Any

from slem_app.studies.header_index import FolderPass, settles
from slem_app.studies.naming import CaseFiles, cases_in, scheme, study_of
from slem_app.studies.nifti_header import is_nifti, stem
from slem_app.studies.series import Study
from slem_app.studies.source import StudySource

__all__ = ["FolderSource", "visible_folders"]

DEPTH = 3  # root/HGG/patient/nifti
FIRST = 20  # cases that tell the naming scheme
# results and truths, some of them written by servers
NO_CASES = frozenset({"labels", "labelsTr", "labelsTs", "derivatives"})
# of a case: its folder, its file names, what they begin with; a Path is made when the case is opened, for it
# takes more time than all else
Entry = tuple[str, Sequence[str], str]


def visible_folders(folder: Path) -> tuple[list[str], list[str]]:
    """(names of the subfolders, names of the files) of a folder, without hidden ones; ([], []) where there is
    none or it may not be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return [], []
    return sorted(folders), sorted(files)


class FolderSource(StudySource):
    """Cases that are folders of NIfTI files, or NIfTI files that share the beginning of their names, up to
    three folders down.
    """

    def _list(self) -> Mapping[str, Entry]:
        found = [(where, name, entry) for where, cases in self._walk() for name, entry in cases.items()]
        names = Counter(name for _, name, _ in found)
        index = {}
        for where, name, entry in found:
            path = where if where and where[-1] == name else (*where, name)
            index[name if names[name] == 1 else "_".join(path)] = entry
        if self.layout == "nifti" and index:  # what the first cases are called holds for their neighbours
            schemes = (scheme([stem(name) for name in index[id][1]]) for id in nsmallest(FIRST, index))
            self.layout = next((layout for layout in schemes if layout != "nifti"), "nifti")
        return index

    def _walk(self) -> Iterator[tuple[tuple[str, ...], dict[str, Entry]]]:
        """(folder names below the root, its cases) of every folder that holds NIfTI files itself."""
        todo: list[tuple[str, ...]] = [()]
        with (
            self.header_index.listing(self.root)
            if self.header_index is not None
            else nullcontext(FolderPass({})) as seen
        ):
            while todo:
                where = todo.pop()
                place = "/".join(where)
                folder = f"{self.root}/{place}"
                held = seen.content(place, folder, partial(_read, folder))
                kept, images = held["cases"], held["images"]
                if not where and len(kept) == 1:  # the root is one case, or one case's files lie in it
                    kept = {(prefix or name): [names, prefix] for name, (names, prefix) in kept.items()}
                if kept:
                    yield where, {name: (folder, names, prefix) for name, (names, prefix) in kept.items()}
                is_case = images > 1 and len(kept) == 1 if not where else bool(kept)
                if not is_case and len(where) < DEPTH:
                    todo += [(*where, name) for name in held["folders"] if name not in NO_CASES]

    def place(self, id: str) -> str:
        folder, _, prefix = self._index()[id]
        path = os.path.relpath(folder, self.root)
        return (
            id if path == "." else path if not prefix or prefix == Path(folder).name else f"{path}/{prefix}"
        )

    def _open(self, id: str, entry: Entry) -> Study:
        folder, names, prefix = entry
        return study_of(id, CaseFiles(Path(folder), tuple(names), prefix), self.layout, self.coding)


def _read(folder: str, _: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """A folder's own names, in a form that the index keeps, and for how long it must have been left alone."""
    folders, files = visible_folders(Path(folder))
    images = [name for name in files if is_nifti(name)]
    cases = cases_in(Path(folder), images) if images else {}
    kept = {name: [list(one.names), one.prefix] for name, one in cases.items()}
    return {"folders": folders, "images": len(images), "cases": kept}, settles(folders or files)
