"""Open a folder as studies: the naming scheme is recognised from names, or declared in `slem.yaml` in that
folder.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from slem_app.errors import BadLabel, BadSetting, BadStudy, NotFound
from slem_app.labels import codings
from slem_app.studies import datasets
from slem_app.studies.bids import BidsSource, is_bids
from slem_app.studies.chaos import ChaosSource, is_chaos
from slem_app.studies.dicom import DicomSource
from slem_app.studies.dicom_header import probe
from slem_app.studies.folders import FolderSource, visible_folders
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.naming import is_label
from slem_app.studies.nifti_header import is_nifti
from slem_app.studies.patients import check_rule
from slem_app.studies.source import StudySource
from slem_app.yaml_tables import load_yaml

__all__ = ["LAYOUTS", "open_source"]

LAYOUTS: dict[str, type[StudySource]] = {
    "brats2018": FolderSource,
    "brats2023": FolderSource,
    "nifti": FolderSource,
    "msd": datasets.DatasetSource,
    "msd-other": datasets.DatasetSource,
    "nnunet": datasets.DatasetSource,
    "bids": BidsSource,
    "chaos": ChaosSource,
    "dicom": DicomSource,
}
"""Naming schemes that `slem.yaml` may declare."""
EXPECTED = """expected one of
  one folder a case with NIfTI files (CASE/CASE_t1.nii.gz, ...), or such files of many cases beside each other
  imagesTr/ and dataset.json (Medical Segmentation Decathlon, nnU-Net)
  sub-*/anat/ (BIDS)
  MR/*/T1DUAL/DICOM_anon/ (CHAOS)
  DICOM files in any folders"""
LOOKED_AT = 2000  # folders and files that are tried before giving up


def open_source(path: Path | str, coding: str | None = None, index: HeaderIndex | None = None) -> StudySource:
    """The studies in a folder; a folder (or NIfTI file) that is itself one case opens as a source of that one
    case.

    Args:
        path: the folder.
        coding: how the label values are coded, e.g. 'brats2023'; wins over `coding:` in slem.yaml.
        index: what was read of the folder before, for quick listings of very many studies; kept up to date.

    Raises:
        NotFound: no such folder.
        BadStudy: nothing in it that is known as a study.
        BadSetting: an unknown key or layout in slem.yaml.
        BadLabel: an unknown coding.
    """
    root = Path(path).expanduser().resolve()
    if not root.exists():
        raise NotFound(f"no folder {root}: give the folder that holds the studies")
    if root.is_file():
        return _open_file(root, coding)
    if root.name in datasets.IMAGES and (root.parent / "dataset.json").is_file():
        root = root.parent
    declared = _declared(root)
    coding = coding or declared.get("coding")
    if coding is not None and coding not in codings() and coding != "own":
        raise BadLabel(f"unknown label coding {coding!r}: known are {', '.join(sorted(codings()))}, own")
    layout = declared.get("layout") or _detect(root)
    source = LAYOUTS[layout](root, layout, coding, index)
    source.patients = check_rule(str(declared["patients"]), "slem.yaml") if "patients" in declared else ""
    source.rules = (root / declared["rules"]).resolve() if "rules" in declared else None
    if not source.ids():
        raise BadStudy(f"no case in {root}, looked for as layout {layout!r}; {EXPECTED}")
    return source


def _declared(root: Path) -> dict[str, str]:
    """The content of slem.yaml, checked."""
    path = root / "slem.yaml"
    if not path.is_file():
        return {}
    try:
        content = load_yaml(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise BadSetting(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or (unknown := set(content) - {"coding", "layout", "rules", "patients"}):
        raise BadSetting(
            f"{path}: unknown keys {sorted(map(str, unknown)) if isinstance(content, dict) else content!r}; "
            "known are coding, layout, rules, patients"
        )
    if content.get("layout", "nifti") not in LAYOUTS:
        raise BadSetting(f"{path}: unknown layout {content['layout']!r}; known are {', '.join(LAYOUTS)}")
    return content


def _detect(root: Path) -> str:
    """The layout that the names in `root` show.

    Raises:
        BadStudy: none does.
    """
    if (root / "dataset.json").is_file():
        return datasets.layout_of(root)
    if is_bids(root):
        return "bids"
    if is_chaos(root):
        return "chaos"
    todo, seen, dicom, examples = [root], 0, False, []
    while todo and seen < LOOKED_AT:
        folder = todo.pop(0)
        folders, files = visible_folders(folder)
        seen += 1 + min(len(files), 10)
        if any(is_nifti(name) and not is_label(name) for name in files):
            return "nifti"
        dicom = dicom or any(probe(folder / name) for name in files[:3])
        examples += [str((folder / name).relative_to(root)) for name in (*files[:3], *folders[:3])]
        todo += [folder / name for name in folders[:50]]
    if dicom:
        return "dicom"
    raise BadStudy(
        f"no studies found in {root}: seen {', '.join(examples[:6]) or 'an empty folder'}; {EXPECTED}"
    )


def _open_file(path: Path, coding: str | None) -> StudySource:
    """The one case that a NIfTI file is, or belongs to in a data set with dataset.json."""
    if not is_nifti(path.name):
        raise BadStudy(
            f"{path} is a file without the ending of NIfTI (.nii, .nii.gz): give the folder of the case"
        )
    source = open_source(path.parent, coding)
    holding = [study.id for study in source if any(path in series.paths for series in study.series)]
    if not holding:
        raise BadStudy(f"{path} is a label map, or not an image of a case: give the folder of the case")
    return source.only(holding[0])
