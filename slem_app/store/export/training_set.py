"""Labelled cases as a training set in a layout that other programs read: BraTS, nnU-Net v2, BIDS with
derivatives.

Images are copied as they are wherever the layout allows it. BraTS and nnU-Net demand one grid for all files
of a case, so there an image on another grid than the label is resampled to the label's (linearly); the label
itself never is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slem_app.errors import BadLabel, BadSetting, BadStudy, SlemError, StorageFailed
from slem_app.files import atomic_file
from slem_app.formats.image import write_image
from slem_app.formats.nifti import write_values
from slem_app.store.case_labels import LabelledCase
from slem_app.store.export.layouts import LAYOUTS, Layout, made
from slem_app.studies import Series
from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.read import read

__all__ = ["ExportReport", "export"]


@dataclass(frozen=True)
class ExportReport:
    """What became of the cases."""

    folder: Path
    """The training set."""
    written: tuple[str, ...]
    """Cases in it."""
    skipped: Mapping[str, str]
    """Case -> why it was left out."""
    resampled: Mapping[str, tuple[str, ...]]
    """Case -> sequences that were resampled to the label's grid."""


def export(
    cases: Sequence[LabelledCase],
    layout: str,
    folder: Path,
    coding: str = "",
    seen: Callable[[str], object] | None = None,
) -> ExportReport:
    """Write a training set.

    Args:
        cases: with the labels that count.
        layout: name in LAYOUTS.
        folder: to be made; it must not be there, or be empty.
        coding: of the label values, for BraTS: 'brats2023' (default) or 'brats2018'.
        seen: called with each case's id, for a progress bar.

    Raises:
        BadStudy: no case.
        BadSetting: an unknown layout or coding, or a folder that holds something.
        BadLabel: labels that the layout has no values for.
        StorageFailed: the disk refused; every other fault of a case is its reason for being left out.
    """
    if layout not in LAYOUTS:
        raise BadSetting(f"unknown layout {layout!r}: use {', '.join(LAYOUTS)}")
    if not cases:
        raise BadStudy(
            "there is no final label to export: submit one first (`slem labels list` shows what there is)"
        )
    if folder.exists() and any(folder.iterdir()):
        raise BadSetting(
            f"{folder} holds something already: give another folder, or empty it; nothing was written"
        )
    target = LAYOUTS[layout](folder, cases, coding)
    values = target.values()
    written, skipped, resampled = [], {}, {}
    for case in cases:
        try:
            resampled[case.id] = _write(case, target, values)
            written.append(case)
        except StorageFailed:
            raise
        except SlemError as error:
            skipped[case.id] = str(error)
            _forget(case, target)
        if seen is not None:
            seen(case.id)
    if written:
        target.finish(written)
    return ExportReport(
        folder,
        tuple(case.id for case in written),
        skipped,
        {id: names for id, names in resampled.items() if names},
    )


def _write(case: LabelledCase, layout: Layout, values: Mapping[str, int]) -> tuple[str, ...]:
    """One case; returns the sequences that were resampled."""
    if missing := [name for name in layout.sequences if name not in case.images]:
        raise BadStudy(f"{case.id}: the layout demands {', '.join(missing)}, which this case does not have")
    if case.names != layout.labels:
        raise BadLabel(
            f"{case.id}: its labels are {', '.join(case.names)}, most cases' are {', '.join(layout.labels)}"
        )
    array, grid = case.label()
    table = np.zeros(256, dtype=np.uint8)
    for value, name in enumerate(case.names, 1):
        table[value] = values[name]
    moved = []
    for name in layout.sequences or tuple(case.images):
        if _image(case.images[name], grid if layout.one_grid else None, made(layout.image(case.id, name))):
            moved.append(name)
    write_values(table[array], grid, made(layout.label(case)))  # last: a case with a label is whole
    return tuple(moved)


def _image(series: Series, grid: Grid | None, path: Path) -> bool:
    """Write an image, as it is where that can be; True if it had to be resampled."""
    same = grid is None or series.grid.same_as(grid)
    if (
        same
        and series.format == "nifti"
        and series.channel is None
        and series.paths[0].name.endswith(".nii.gz")
    ):
        with series.paths[0].open("rb") as source, atomic_file(path) as file:
            shutil.copyfileobj(source, file)
        return False
    volume = read(series)
    if same or grid is None:
        write_image(volume.array, volume.grid, path)
        return False
    write_image(
        resample(volume.array, volume.grid, grid, order=1, fill=float(volume.array.min())), grid, path
    )
    return True


def _forget(case: LabelledCase, layout: Layout) -> None:
    """Take away what was written of a case that cannot be exported."""
    for name in layout.sequences or tuple(case.images):
        try:
            layout.image(case.id, name).unlink(missing_ok=True)
        except SlemError:  # a sequence without a name in this layout has no file either
            continue
