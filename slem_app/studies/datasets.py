"""Data sets described by a dataset.json: Medical Segmentation Decathlon (one 4D file a case) and nnU-Net raw
(CASE_0000.nii.gz).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slem_app.errors import BadStudy
from slem_app.studies.folders import visible_folders
from slem_app.studies.naming import plain_id
from slem_app.studies.nifti_header import is_nifti, stem
from slem_app.studies.series import Series, Study
from slem_app.studies.source import StudySource

__all__ = ["DatasetSource", "layout_of"]

IMAGES = ("imagesTr", "imagesTs", "imagesVal")
NUMBERED = re.compile(r"^(?P<case>.+)_(?P<number>\d{4})$")


def description(root: Path) -> Mapping[str, Any]:
    """The content of dataset.json.

    Raises:
        BadStudy: it is not a JSON object, or names no channels.
    """
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadStudy(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(
        content.get("channel_names", content.get("modality")), dict
    ):
        raise BadStudy(
            f"{path} must be an object with 'channel_names' (nnU-Net) or 'modality' (Decathlon): a table "
            f"from number to name"
        )
    return content


def layout_of(root: Path) -> str:
    """'nnunet' if files are numbered by channel, else 'msd', or 'msd-other' where the labels are not named as
    in Task01_BrainTumour.

    The last matters because the coding of labels follows from the layout: other tasks use the same values for
    other things.
    """
    content = description(root)
    names = [name for folder in IMAGES for name in visible_folders(root / folder)[1] if is_nifti(name)]
    if "channel_names" in content or (names and all(NUMBERED.match(stem(name)) for name in names)):
        return "nnunet"
    labels = content.get("labels")
    first = str(labels.get("1", "")) if isinstance(labels, dict) else ""
    return "msd" if not first or re.search("o?edema", first, re.IGNORECASE) else "msd-other"


class DatasetSource(StudySource):
    """Cases of imagesTr, imagesTs and imagesVal with their labels; sequences are known by the names in
    dataset.json, never by number.
    """

    def _list(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        index: dict[str, tuple[str, tuple[str, ...]]] = {}
        for folder in IMAGES:
            cases: dict[str, list[str]] = {}
            for name in filter(is_nifti, visible_folders(self.root / folder)[1]):
                match = NUMBERED.match(stem(name)) if self.layout == "nnunet" else None
                cases.setdefault(match["case"] if match else stem(name), []).append(name)
            for case, names in cases.items():
                index[case if case not in index else f"{folder}_{case}"] = (folder, tuple(names))
        return index

    def _open(self, id: str, entry: tuple[str, tuple[str, ...]]) -> Study:
        folder, names = entry
        content = description(self.root)
        channels = {
            int(number): str(name)
            for number, name in content.get("channel_names", content.get("modality")).items()
        }
        build = self._numbered if self.layout == "nnunet" else self._stacked
        series = build(self.root / folder, names, channels)
        case = id.removeprefix(f"{folder}_")
        labels = self.root / folder.replace("images", "labels")
        truths = [path for ending in (".nii.gz", ".nii") if (path := labels / f"{case}{ending}").is_file()]
        label = Series("label", (truths[0],), "nifti", "label") if truths else None
        return Study(id, self.layout, self.root / folder, series, label, self.coding)

    @staticmethod
    def _numbered(folder: Path, names: tuple[str, ...], channels: Mapping[int, str]) -> tuple[Series, ...]:
        """One file a channel: CASE_0000.nii.gz."""
        series = []
        for name in names:
            match = NUMBERED.match(stem(name))
            number = match["number"] if match else "0000"
            series.append(Series(number, (folder / name,), "nifti", channels.get(int(number), stem(name))))
        return tuple(series)

    @staticmethod
    def _stacked(folder: Path, names: tuple[str, ...], channels: Mapping[int, str]) -> tuple[Series, ...]:
        """One file a case, its channels on the fourth axis."""
        ids = [plain_id(name) for name in channels.values()]
        return tuple(
            Series(
                id if ids.count(id) == 1 else f"{id}_{channel}", (folder / names[0],), "nifti", name, channel
            )
            for id, (channel, name) in zip(ids, sorted(channels.items()), strict=True)
        )
