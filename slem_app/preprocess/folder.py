"""Many studies, one after the other, into one folder.

Invariant: a case is done when its record, `cases/CASE.json`, is there; it is written last, and every file
takes its name only when it is whole. So a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slem_app import __version__
from slem_app.errors import BadSetting, BadStudy, SlemError, StorageFailed
from slem_app.files import atomic_file, sweep, take_lock
from slem_app.formats.image import write_image
from slem_app.formats.nifti import write_values
from slem_app.grouping import group
from slem_app.preprocess.case import PreprocessedCase, PreprocessSettings, preprocess
from slem_app.preprocess.layouts import PREPROCESSED, PreprocessedLayout
from slem_app.preprocess.pictures import mosaic
from slem_app.preprocess.report import write_report
from slem_app.preprocess.transforms import EXPLAINED, write_transform
from slem_app.store.export.layouts import made, write_text
from slem_app.studies import StudySource
from slem_app.volumes.prepare import Preparation
from slem_app.volumes.read import read_brain

__all__ = ["FolderOutcome", "Wanted", "preprocess_all"]

SETTINGS, LOCK = "prepare.json", ".lock"


@dataclass(frozen=True)
class Wanted:
    """What is made of the studies."""

    sequences: tuple[str, ...]
    """Sequences in order; others are left out."""
    order: tuple[str, ...]
    """The first of these that a case has stays where it is."""
    preparation: Preparation
    """Of the model, which says whether heads are cut to the brain."""
    settings: PreprocessSettings
    """Grid, face, registration."""
    layout: str
    """In `PREPROCESSED`."""
    chosen: Mapping[str, str]
    """Sequence -> series, the user's own choice."""
    brains: Path | None = None
    """Folder of the user's own brain masks, CASE.nii.gz; cases without one get the network's."""

    def table(self) -> dict[str, Any]:
        """What must be the same for all cases of a folder, of plain JSON types."""
        stripped = self.preparation.stripped
        return {
            "layout": self.layout,
            "sequences": list(self.sequences),
            "order": list(self.order),
            "brain": stripped,
            **({"brains": str(self.brains.resolve())} if self.brains else {}),
            **asdict(self.settings),
        }


@dataclass(frozen=True)
class FolderOutcome:
    """What became of the cases."""

    records: Mapping[str, Mapping[str, Any]]
    """Case -> its record, those made before among them."""
    before: tuple[str, ...]
    """Cases that were done before this run."""
    failed: Mapping[str, str]
    """Case -> why it was left out."""


def preprocess_all(
    source: StudySource,
    ids: Sequence[str],
    out: Path,
    wanted: Wanted,
    seen: Callable[[str, str], object] = lambda case, said: None,
) -> FolderOutcome:
    """Prepare cases; those that are done are left as they are, and a bad one does not stop the others.

    Args:
        source: the studies.
        ids: which of them.
        out: the folder; it may hold what an earlier call with the same settings made.
        wanted: what is made.
        seen: called with each case's id and what became of it.

    Raises:
        BadSetting: a folder with other content, or made with other settings, or in use.
        StorageFailed: the disk refused.
    """
    with _locked(out):
        _begin(out, wanted)
        layout = PREPROCESSED[wanted.layout](out, ids, wanted.sequences)
        records: dict[str, Mapping[str, Any]] = {}
        before, failed = [], {}
        for id in ids:
            known = _record(out, layout.file(id))
            if known is not None:
                records[id] = known
                before.append(id)
                seen(id, "done before")
                continue
            try:
                records[id] = _one(source, id, layout, wanted)
                seen(id, "done")
            except StorageFailed:
                raise
            except SlemError as error:
                failed[id] = str(error)
                seen(id, f"left out: {error}")
        layout.finish(list(records))
        write_report(out, records, failed)
        return FolderOutcome(records, tuple(before), failed)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder, which is made if need be, for this process alone."""
    if out.exists() and not (out / SETTINGS).exists() and any(one.name != LOCK for one in out.iterdir()):
        raise BadSetting(f"{out} is not empty: give another folder, or empty it")
    handle = take_lock(made(out / LOCK))
    if handle is None:
        raise BadSetting(
            f"another `slem prepare` writes to {out}: wait until it has ended, or give another folder"
        )
    try:
        yield
    finally:
        os.close(handle)


def _begin(out: Path, wanted: Wanted) -> None:
    """Write or compare the settings, and take away what a killed run left."""
    path = out / SETTINGS
    text = json.dumps(wanted.table() | {"slem": __version__}, indent=2)
    if not path.exists():
        write_text(path, text)
        write_text(out / "transforms" / "README.txt", EXPLAINED)
        return
    sweep(out)
    there, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    differs = sorted(key for key, value in now.items() if key != "slem" and there.get(key) != value)
    if differs:
        old = ", ".join(f"{key} {there.get(key)!r}" for key in differs)
        raise BadSetting(f"{out} was made with {old}: give the same options, or another folder")


def _record(out: Path, name: str) -> Mapping[str, Any] | None:
    """A case's record if it is done and its files are still there."""
    path = out / "cases" / f"{name}.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if all((out / file).is_file() for file in record["files"]) else None


def _one(source: StudySource, id: str, layout: PreprocessedLayout, wanted: Wanted) -> Mapping[str, Any]:
    """Prepare and write one case; its record."""
    start = time.perf_counter()
    grouping = group(source.study(id), chosen=dict(wanted.chosen) or None)
    if layout.demands_all and (lacks := [s for s in wanted.sequences if s not in grouping.sequences]):
        raise BadStudy(f"{id}: the layout requires {', '.join(lacks)}, which this case does not have")
    own = wanted.brains / f"{layout.file(id)}.nii.gz" if wanted.brains else None
    brain = read_brain(own) if own is not None and own.is_file() else None
    done = preprocess(grouping, wanted.sequences, wanted.order, wanted.preparation, wanted.settings, brain)
    if layout.demands_all and done.report.left_out:
        raise BadStudy(f"{id}: " + "; ".join(f"{name}: {why}" for name, why in done.report.left_out.items()))
    files = _write(done, layout)
    record = _table(done, files, time.perf_counter() - start, layout.out)
    write_text(layout.out / "cases" / f"{layout.file(id)}.json", json.dumps(record, indent=2))
    return record


def _write(done: PreprocessedCase, layout: PreprocessedLayout) -> list[Path]:
    """All files of a case but its record."""
    name, files = layout.file(done.id), []
    for sequence, image in done.images.items():
        files.append(write_image(image, done.grid, made(layout.image(done.id, sequence, done.defaced))))
    files.append(write_values(done.mask.astype(np.uint8), done.grid, made(layout.mask(done.id))))
    for path, text in layout.describe(done).items():
        write_text(path, text)
        files.append(path)
    for sequence, move in done.moves.items():
        if sequence != done.reference:
            files.append(made(layout.out / "transforms" / name / f"{sequence}_to_{done.reference}.tfm"))
            write_transform(move, files[-1])
    files.append(made(layout.out / "pictures" / f"{name}.png"))
    with atomic_file(files[-1]) as file:
        file.write(mosaic(done))
    return files


def _table(done: PreprocessedCase, files: list[Path], seconds: float, out: Path) -> Mapping[str, Any]:
    """The record of a case, of plain JSON types."""
    return {
        "case": done.id,
        "reference": done.reference,
        "series": dict(done.series),
        "grid": str(done.grid),
        "preparation": done.report.table(),
        "defaced": done.defaced,
        "mask_ml": round(done.mask_ml, 1),
        "outside_ml": round(done.outside_ml, 1),
        "warnings": [one.table() for one in done.warnings],
        "seconds": round(seconds, 1),
        "files": [path.relative_to(out).as_posix() for path in files],
    }
