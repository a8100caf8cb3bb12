"""NIfTI files in folders: one folder a case (BraTS, plain), or the files of many cases beside each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from slem_app.studies.naming import CaseFiles, cases_in, scheme, study_of
from slem_app.studies.nifti_header import is_nifti, stem
from slem_app.studies.series import Study
from slem_app.studies.source import StudySource

__all__ = ["FolderSource", "visible_folders"]

DEPTH = 3  # root/HGG/patient/nifti
# results and truths, some of them written by servers
NO_CASES = frozenset({"labels", "labelsTr", "labelsTs", "derivatives"})


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

    def _list(self) -> Mapping[str, CaseFiles]:
        found = [(where, name, files) for where, cases in self._walk() for name, files in cases.items()]
        names = Counter(name for _, name, _ in found)
        index = {}
        for where, name, files in found:
            path = where if where and where[-1] == name else (*where, name)
            index[name if names[name] == 1 else "_".join(path)] = files
        if self.layout == "nifti" and index:  # what the first cases are called holds for their neighbours
            schemes = (scheme([stem(name) for name in index[id].names]) for id in sorted(index)[:20])
            self.layout = next((layout for layout in schemes if layout != "nifti"), "nifti")
        return index

    def _walk(self) -> Iterator[tuple[tuple[str, ...], dict[str, CaseFiles]]]:
        """(folder names below the root, its cases) of every folder that holds NIfTI files itself."""
        todo: list[tuple[str, ...]] = [()]
        while todo:
            where = todo.pop()
            folder = self.root.joinpath(*where)
            folders, files = visible_folders(folder)
            images = [name for name in files if is_nifti(name)]
            cases = cases_in(folder, images) if images else {}
            if cases:
                if not where and len(cases) == 1:  # the root is one case, or one case's files lie in it
                    cases = {(files.prefix or name): files for name, files in cases.items()}
                yield where, cases
            is_case = len(images) > 1 and len(cases) == 1 if not where else bool(cases)
            if not is_case and len(where) < DEPTH:
                todo += [(*where, name) for name in folders if name not in NO_CASES]

    def _open(self, id: str, entry: CaseFiles) -> Study:
        return study_of(id, entry, self.layout, self.coding)
