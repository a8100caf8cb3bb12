"""What the volumes are that a client has uploaded: their names tell, else the reader, else a guess with a
warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slem_app.errors import BadStudy
from slem_app.grouping import Grouping, group, load_rules
from slem_app.result_warning import ResultWarning
from slem_app.studies import Series, Study, open_source

__all__ = ["NIFTI", "group_upload"]

NIFTI = (".nii.gz", ".nii")


def group_upload(
    case: str,
    files: Sequence[Path],
    sequence: str | None = None,
    likely: Sequence[str] = (),
    by_hand: Mapping[str, str] | None = None,
) -> tuple[Grouping, tuple[ResultWarning, ...]]:
    """The grouping of what a client uploaded, with warnings.

    A viewer often gives a volume a name that says nothing. Then the reader's choice counts, and without one
    the volume is taken for the sequence that is most asked for, and a warning says so.

    Args:
        case: id for messages.
        files: NIfTI files, or one folder of DICOM files.
        sequence: what the only volume is, where the reader said so.
        likely: what it is taken for where nobody says, the first choice first; default: the rules' order.
        by_hand: what was chosen of it before, see `Study.by_hand`.

    Raises:
        BadStudy: several volumes of which no sequence is known, or more than one study.
    """
    study = replace(_upload_study(case, files), by_hand=by_hand or {})
    lone = len(study.series) == 1
    if sequence is not None and not lone:
        raise BadStudy(
            f"{case}: the option 'sequence' is for a single volume, but {len(study.series)} came: their "
            "names must say which is which"
        )
    if sequence is not None:
        return group(study, chosen={sequence: study.series[0].id}), ()
    grouping = group(study)
    if grouping.choices or by_hand or not lone:
        return grouping, ()
    assumed, series = (*likely, *load_rules().reference)[0], study.series[0]
    text = (
        f"the name {series.name!r} does not tell which sequence this is: taken for {assumed}; say it "
        f"with the option 'sequence'"
    )
    made = group(study, chosen={assumed: series.id})
    choice = replace(made.choices[0], reason="assumed: its name does not tell", by_hand=False)
    return replace(made, choices=(choice,)), (ResultWarning("sequence-assumed", text),)


def _upload_study(case: str, files: Sequence[Path]) -> Study:
    if all(path.name.endswith(NIFTI) for path in files):
        series = tuple(
            Series(id=_stem(path), paths=(path,), format="nifti", name=_stem(path)) for path in files
        )
        return Study(id=case, layout="nifti", root=files[0].parent, series=series)
    if len(files) != 1 or not files[0].is_dir():
        raise BadStudy(
            f"{case}: the upload holds {', '.join(path.name for path in files)}: send volumes as .nii or "
            f".nii.gz, or a folder of DICOM files"
        )
    source = open_source(files[0])
    if len(source) != 1:
        raise BadStudy(
            f"{case}: the upload holds {len(source)} studies ({', '.join(source.ids()[:4])}): send one"
        )
    return source.study(source.ids()[0])


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(end) for end in NIFTI if path.name.endswith(end))
