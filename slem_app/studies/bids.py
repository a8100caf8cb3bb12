"""BIDS: sub-*/[ses-*/]anat/*.nii.gz, one case a session; labels among them or in derivatives/*/sub-*/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from slem_app.studies.folders import visible_folders
from slem_app.studies.naming import is_label
from slem_app.studies.nifti_header import is_nifti, stem
from slem_app.studies.series import Series, Study
from slem_app.studies.source import StudySource

__all__ = ["BidsSource", "is_bids"]

WHO = re.compile(r"^(sub-[^_]+_)?(ses-[^_]+_)?")


def is_bids(root: Path) -> bool:
    """True if `root` is a BIDS data set, or one subject or session of one."""
    folders = [name for name in visible_folders(root)[0] if name.startswith("sub-")]
    if root.name.startswith(("sub-", "ses-")):
        return bool(_sessions(root))
    return any(_sessions(root / name) for name in folders[:50])


def _sessions(subject: Path) -> list[tuple[str, ...]]:
    """Folder names from the subject to the parent of each `anat`: () or ('ses-1',)."""
    folders = visible_folders(subject)[0]
    with_anat: list[tuple[str, ...]] = [
        (name,) for name in folders if name.startswith("ses-") and (subject / name / "anat").is_dir()
    ]
    return [(), *with_anat] if "anat" in folders else with_anat


class BidsSource(StudySource):
    """Cases are 'sub-1', or 'sub-1_ses-2' where a subject has sessions."""

    def _list(self) -> Mapping[str, tuple[str, ...]]:
        if self.root.name.startswith("sub-"):
            return {"_".join((self.root.name, *session)): session for session in _sessions(self.root)}
        if self.root.name.startswith("ses-"):
            return {f"{self.root.parent.name}_{self.root.name}": ()}
        subjects = [name for name in visible_folders(self.root)[0] if name.startswith("sub-")]
        return {
            "_".join((name, *session)): (name, *session)
            for name in subjects
            for session in _sessions(self.root / name)
        }

    def _open(self, id: str, entry: tuple[str, ...]) -> Study:
        folder = self.root.joinpath(*entry)
        images = [folder / "anat" / name for name in visible_folders(folder / "anat")[1] if is_nifti(name)]
        series = [Series(stem(path.name), (path,), "nifti", WHO.sub("", stem(path.name))) for path in images]
        labels = [entry for entry in series if is_label(entry.name)] or self._derived(entry)
        label = labels[0] if len(labels) == 1 else None
        return Study(
            id, self.layout, folder, tuple(one for one in series if one is not label), label, self.coding
        )

    def _derived(self, entry: tuple[str, ...]) -> list[Series]:
        """Label maps of the case in derivatives/PIPELINE/sub-*/[ses-*/]anat."""
        top = self.root / "derivatives"
        found = []
        for pipeline in visible_folders(top)[0]:
            folder = top.joinpath(pipeline, *entry, "anat")
            found += [
                folder / name
                for name in visible_folders(folder)[1]
                if is_nifti(name) and is_label(stem(name))
            ]
        return [Series(stem(path.name), (path,), "nifti", WHO.sub("", stem(path.name))) for path in found]
