"""Labelled cases as a training set in a layout that other programs read: BraTS, nnU-Net v2, BIDS with
derivatives.

Images are copied as they are wherever the layout allows it. BraTS and nnU-Net demand one grid for all files
of a case, so there an image on another grid than the label is resampled to the label's (linearly), and lies
where it lay before the model that made the label, registered or not; the label itself never is resampled.
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
from slem_app.volumes.levels import Levels
from slem_app.volumes.read import read, read_all
from slem_app.volumes.report import PreparationReport

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
        raise BadSetting(f"{folder} is not empty: give another folder, or empty it; nothing was written")
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
        raise BadStudy(f"{case.id}: the layout requires {', '.join(missing)}, which this case does not have")
    if case.names != layout.labels:
        raise BadLabel(
            f"{case.id}: its labels are {', '.join(case.names)}, most cases' are {', '.join(layout.labels)}"
        )
    array, grid = case.label()
    table = np.zeros(256, dtype=np.uint8)
    for value, name in enumerate(case.names, 1):
        table[value] = values[name]
    places = _places(case) if layout.one_grid else {}
    resampled = []
    for name in layout.sequences or tuple(case.images):
        target = grid if layout.one_grid else None
        if _image(case.images[name], target, places.get(name), made(layout.image(case.id, name))):
            resampled.append(name)
    write_values(table[array], grid, made(layout.label(case)))  # last: a case with a label is whole
    return tuple(resampled)


def _places(case: LabelledCase) -> dict[str, np.ndarray]:
    """Sequence -> (4, 4) RAS from the world of its header to that of the label's, where the model that made
    the label saw sequences that had been moved; registered again here, since a record keeps no matrices.

    Raises:
        BadStudy: a sequence cannot be registered.
    """
    done = PreparationReport.of_table(case.version.record.preparation)
    if not done.moved or done.onto not in case.images:
        return {}
    # takes a second to import, and most label stores hold studies in register
    from slem_app.volumes.conform import conform

    volumes = read_all(case.images)
    levels = {name: Levels.of(volume.array, f"sequence {name}") for name, volume in volumes.items()}
    found = conform(volumes, levels, done.onto, frozenset(done.moved), bool(done.mask))
    if found.report.left_out:
        whys = "; ".join(f"{name}: {why}" for name, why in found.report.left_out.items())
        raise BadStudy(f"{case.id}: {whys}")
    still = np.eye(4)
    label = found.moves.get(case.sequence, still)
    return {name: label @ np.linalg.inv(found.moves.get(name, still)) for name in volumes}


def _image(series: Series, grid: Grid | None, place: np.ndarray | None, path: Path) -> bool:
    """Write an image, as it is where that can be; True if it had to be resampled.

    Args:
        series: the image.
        grid: of the file; None: its own.
        place: (4, 4) RAS from the world of its header to that of `grid`; None: they are one.
        path: the file.
    """
    own = series.grid if place is None else Grid(series.grid.shape, place @ series.grid.affine)
    same = grid is None or own.same_as(grid)
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
        write_image(volume.array, volume.grid if grid is None else grid, path)
        return False
    write_image(resample(volume.array, own, grid, order=1, fill=float(volume.array.min())), grid, path)
    return True


def _forget(case: LabelledCase, layout: Layout) -> None:
    """Take away what was written of a case that cannot be exported."""
    for name in layout.sequences or tuple(case.images):
        try:
            layout.image(case.id, name).unlink(missing_ok=True)
        except SlemError:  # a sequence without a name in this layout has no file either
            continue
