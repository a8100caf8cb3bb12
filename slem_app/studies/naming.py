"""File names of NIfTI cases: which files belong to one case, which naming scheme they follow, which of them
is the label map.

This is about files, not about sequences: which series is which sequence is for `grouping` to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slem_app.studies.nifti_header import stem
from slem_app.studies.series import Series, Study

__all__ = ["CaseFiles", "cases_in", "is_label", "plain_id", "scheme", "study_of", "unique"]

# CASE_SEQ: how files of many cases lie beside each other
ENDING = re.compile(
    r"^(?P<case>.+)[_\-.](?P<suffix>(?:t1|t2)[a-z]*|flair|fla|flr|pdw?|dwi|adc|swi|seg(?:mentation)?|labels?|mask|gt|\d{4})$",
    re.IGNORECASE,
)
# says nothing of a patient
NO_CASE = re.compile(
    r"(?:(?:pre|post|ax|axial|tra|sag|cor|2d|3d|mri?|raw|t1|t2|flair)\w?[_\-. ]*)+", re.IGNORECASE
)
BRATS = {
    "brats2018": re.compile(r"^(?P<case>.+)_(?P<suffix>t1|t1ce|t2|flair|seg)$", re.IGNORECASE),
    "brats2023": re.compile(r"^(?P<case>.+)-(?P<suffix>t1n|t1c|t2w|t2f|seg)$", re.IGNORECASE),
}
LABEL = re.compile(
    r"(?<![a-z0-9])(d?seg|segm|segmentations?|labels?|labelmap|gt|ground[ _-]?truth|truth|gold[ _-]?standard"
    r"|consensus|lesions?|tumou?r|annotations?|rois?|mask)(?![a-z0-9])",
    re.IGNORECASE,
)
NOT_LABEL = re.compile(
    r"(?<![a-z0-9])(brain[ _-]?mask|mask[ _-]?brain|brain|skull|head|deface\w*)(?![a-z0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class CaseFiles:
    """The NIfTI files of one case in one folder."""

    folder: Path
    """Where they lie."""
    names: tuple[str, ...]
    """File names, sorted."""
    prefix: str
    """What their names begin with and what says nothing about the sequence."""


def cases_in(folder: Path, names: Sequence[str]) -> dict[str, CaseFiles]:
    """The cases of a folder's own NIfTI files, by case name: the folder's name if all are one case, else the
    shared prefix of each case's files.

    Files are many cases beside each other if they end in sequence words and prefixes repeat (`A_t1 A_t2 B_t1
    B_t2`), or if all end in the same word (`A_t1 B_t1`). Anything else is one case: `MR_FLAIR_fla, MR_T2_t2`.
    """
    names = sorted(names)
    split = {name: match for name in names if (match := ENDING.match(stem(name)))}
    counts = Counter(match["case"] for match in split.values() if not NO_CASE.fullmatch(match["case"]))
    for case in [case for case, n in counts.items() if n == 1 and counts[_longest_start(case, counts)] > 1]:
        del counts[case]  # a_1_brain of a_1_brain_mask, beside a_1_t1 and a_1_t2
    suffixes = {match["suffix"].lower() for match in split.values()}
    repeated = (
        len(counts) > 1
        and (max(counts.values()) > 1 or len(suffixes) == 1)
        and 2 * sum(counts.values()) > len(names)
    )
    if not repeated:
        common = next(iter(counts)) if len(counts) == 1 and len(split) > 1 else folder.name
        return {folder.name: CaseFiles(folder, tuple(names), common)}
    cases: dict[str, list[str]] = {case: [] for case in counts}
    for name in names:
        match = split.get(name)
        case = match["case"] if match and match["case"] in counts else _longest_start(stem(name), counts)
        cases.setdefault(case, []).append(name)
    return {case: CaseFiles(folder, tuple(files), case) for case, files in cases.items()}


def _longest_start(name: str, cases: Counter[str]) -> str:
    """The case whose name `name` begins with, followed by a separator; `name` itself if there is none."""
    cuts = (name[:k] for k in range(len(name) - 1, 0, -1) if name[k] in "_-.")
    return next((cut for cut in cuts if cut in cases), name)


def scheme(stems: Sequence[str], default: str = "nifti") -> str:
    """The naming scheme of one case: 'brats2018', 'brats2023', or 'nifti' where the names only look alike.

    `_t1 _t2 _flair _seg` are common words and decide how label values are read, so they count as BraTS only
    with `_t1ce`, with a case name that says BraTS, or in a folder of BraTS cases (`default`).
    """
    for layout, pattern in BRATS.items():
        found = [pattern.match(name) for name in stems]
        if not stems or None in found or len({match["case"] for match in found if match}) != 1:
            continue
        suffixes = {match["suffix"].lower() for match in found if match}
        telling = suffixes & {"t1ce", "t1n", "t1c", "t2w", "t2f"}
        if telling or stems[0].lower().startswith("brats") or default == layout:
            return layout
    return "nifti" if default in BRATS else default


def is_label(name: str) -> bool:
    """True if a file name speaks of a segmentation, and not of a brain mask."""
    return bool(LABEL.search(name.replace("_", " "))) and not NOT_LABEL.search(name.replace("_", " "))


def plain_id(text: str) -> str:
    """`text` as an id that is safe in file names and addresses."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.") or "unnamed"


def unique(ids: Sequence[str]) -> list[str]:
    """The ids, the second and later ones of a name numbered.

    Example:
        >>> unique(["t1", "t2", "t1"])
        ['t1', 't2', 't1_2']
    """
    seen: Counter[str] = Counter()
    found = []
    for id in ids:
        seen[id] += 1
        found.append(id if seen[id] == 1 else f"{id}_{seen[id]}")
    return found


def study_of(id: str, files: CaseFiles, layout: str, coding: str | None) -> Study:
    """The study of one case's files; two label maps or more stay among the series, for nobody has said which
    one counts.
    """
    layout = scheme([stem(name) for name in files.names], layout)
    full = [stem(name) for name in files.names]
    short = [
        name[len(files.prefix) :].lstrip("_-. ") if name.lower().startswith(files.prefix.lower()) else name
        for name in full
    ]
    names = [cut or name for cut, name in zip(short, full)]
    ids = unique([plain_id(name) for name in names])
    series = [
        Series(id, (files.folder / file,), "nifti", name) for id, file, name in zip(ids, files.names, names)
    ]
    labels = [entry for entry in series if is_label(entry.name)]
    label = labels[0] if len(labels) == 1 and len(series) > 1 else None
    return Study(
        id, layout, files.folder, tuple(entry for entry in series if entry is not label), label, coding
    )
