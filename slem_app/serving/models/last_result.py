"""What each reader was last given of a case: to save it without sending it back (OHIF cannot), and to tell
truly how a saved label came about.

The label maps are kept in memory up to a size; that something was given, and by which model, is kept on disk,
so that a label that is submitted after a restart is not taken for drawn by hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from slem_app.errors import BadSetting, StorageFailed
from slem_app.result_warning import ResultWarning, lasting, read_warnings
from slem_app.serving.cases.case import Case
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.store.labels import file_name, replace_file
from slem_app.trust import NOTHING, Trust
from slem_app.types import Grid

__all__ = ["AUTOMATIC", "MANUAL", "SEMIAUTOMATIC", "LastResult", "LastResults", "ResultOrigin"]

logger = logging.getLogger(__name__)

READERS = 500  # of a case, the latest to come or to begin to click: a client may call itself anything
AUTOMATIC, SEMIAUTOMATIC, MANUAL = "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"


@dataclass(frozen=True)
class ResultOrigin:
    """How a segmentation came about, in DICOM's words (PS3.3 C.8.20.2)."""

    kind: str
    """'AUTOMATIC', 'SEMIAUTOMATIC' or 'MANUAL'."""
    model: str = ""
    """Name of the model; '' for MANUAL."""
    version: str = ""
    """Its version."""
    preparation: Mapping[str, Any] = field(default_factory=dict)
    """What was done to the study before the model saw it (`PreparationReport.table`); empty: nothing."""
    warnings: tuple[ResultWarning, ...] = ()
    """What the reader was warned of."""
    trust: Trust = NOTHING
    """What the model says of its result; of one that a reader had no hand in."""
    digest: str = ""
    """Of the label map, while it is a model's alone; empty: a reader had a hand in it, or it is not known."""

    prior: str = ""
    """The label of an earlier visit that the reader began with, 'CASE/final/2'; empty: none."""

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> ResultOrigin:
        """From what `table` gave.

        Raises:
            TypeError, BadSetting: it is another one.
        """
        told = {
            "warnings": read_warnings(table.get("warnings", ())),
            "trust": Trust.of_table(table.get("trust")),
        }
        return cls(**{**table, **told})

    def table(self) -> dict[str, Any]:
        """Of plain JSON types; `of_table` reads it."""
        return {**asdict(self), "trust": self.trust.table()}


@dataclass(frozen=True, eq=False)
class LastResult:
    """What a reader sees."""

    making: ResultOrigin
    """How it came about."""
    image: str
    """Which image of the case it lies on: a sequence, or a series' id."""
    by_hand: Mapping[str, str]
    """Which series people had chosen by hand when it was made (`Grouping.by_hand`)."""
    array: np.ndarray
    """(I, J, K) label values."""
    grid: Grid
    """Of the array."""


class LastResults:
    """The last result of each reader and case.

    Args:
        folder: for one small file a case.
        limit: bytes of label maps in memory.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.guard = threading.Lock()
        self.unwritten: dict[str, dict[str, dict[str, Any]]] = {}  # case -> what its file would hold
        self.shown: ByteCache[LastResult] = ByteCache(limit, lambda shown: shown.array.nbytes)

    def note(self, reader: str, case: Case, making: ResultOrigin, array: np.ndarray) -> None:
        """A reader was given a label map on the grid of the image that the case stands for.

        Where the disk refuses, it is known until the server stops only: the reader gets the result
        all the same.
        """
        if making.kind == AUTOMATIC:
            making = replace(making, digest=_digest(array, case.series.grid))
        with self.guard:
            before = self._known(case.id).get(reader, {})
            if making.kind == SEMIAUTOMATIC and before.get("kind") == SEMIAUTOMATIC:
                making = replace(making, prior=before.get("prior", ""))  # its clicks go on from there
            self._keep(reader, case.id, making)
        shown = replace(making, digest="")  # only of what is on disk, where the label map is not
        last = LastResult(shown, case.image, case.grouping.by_hand, array, case.series.grid)
        self.shown.put((reader, case.id), None, last)

    def began_with(self, reader: str, case: str, prior: str) -> None:
        """What a reader was last given began with the label of an earlier visit.

        Args:
            reader: who.
            case: case id.
            prior: which label; empty: none, the reader has started over.
        """
        with self.guard:
            origin, shown = self._known(case).get(reader), self.last(reader, case)
            if origin is not None and origin.get("prior", "") != prior:
                self._keep(reader, case, replace(ResultOrigin.of_table(origin), prior=prior))
        if shown is not None:
            self.shown.put((reader, case), None, replace(shown, making=replace(shown.making, prior=prior)))

    def _keep(self, reader: str, case: str, making: ResultOrigin) -> None:
        """Keep how it came about; where the disk refuses, in memory alone."""
        known = self._known(case)
        if known.get(reader) == making.table() and case not in self.unwritten:
            return
        known.pop(reader, None)
        known |= {reader: making.table()}
        known = dict(list(known.items())[-READERS:])
        try:
            replace_file(self._file(case), json.dumps(known, indent=1))
            self.unwritten.pop(case, None)
        except StorageFailed as error:
            self.unwritten[case] = known
            logger.warning("by which model a reader was given a case is not kept: %s", error)

    def last(self, reader: str, case: str) -> LastResult | None:
        """What the reader sees of a case; None when that is not known any more."""
        return self.shown.get((reader, case), None)

    def making(
        self, reader: str, case: str, array: np.ndarray, grid: Grid, before: ResultOrigin | None = None
    ) -> ResultOrigin:
        """How a label that the reader saves came about.

        As it was given: the model's doing, with or without clicks. Otherwise, where the reader was ever given
        a segmentation of the case, it is that one, edited; else drawn by hand.

        Args:
            reader: who saves.
            case: case id.
            array: (I, J, K) label values.
            grid: their grid.
            before: how an earlier label of the case came about, which may have been the start.
        """
        shown = self.last(reader, case)
        if shown is not None and shown.grid.same_as(grid) and np.array_equal(shown.array, array):
            return shown.making
        start = self.origin(reader, case) or before
        if start is None or not start.model:
            return ResultOrigin(MANUAL)
        return replace(start, kind=SEMIAUTOMATIC, warnings=lasting(start.warnings), digest="", trust=Trust())

    def is_as_given(self, reader: str, case: str, array: np.ndarray, grid: Grid) -> bool:
        """Whether a label map is what a model alone made and this reader was last given, also by a server
        before
        this one.

        Args:
            reader: who saves.
            case: case id.
            array: (I, J, K) label values.
            grid: their grid.
        """
        origin = self.origin(reader, case)
        return origin is not None and bool(origin.digest) and origin.digest == _digest(array, grid)

    def origin(self, reader: str, case: str) -> ResultOrigin | None:
        """How what the reader was last given of a case came about; None where nothing was."""
        with self.guard:
            known = self._known(case).get(reader)
        return ResultOrigin.of_table(known) if known else None

    def _known(self, case: str) -> dict[str, dict[str, Any]]:
        if case in self.unwritten:
            return dict(self.unwritten[case])
        try:
            known = json.loads(self._file(case).read_text(encoding="utf-8"))
            return {reader: ResultOrigin.of_table(making).table() for reader, making in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, BadSetting) as error:
            logger.warning(
                "%s cannot be read (%s): by which model readers were given the case is forgotten",
                self._file(case),
                error,
            )
            return {}

    def _file(self, case: str) -> Path:
        return self.folder / f"{file_name(case)}.json"


def _digest(array: np.ndarray, grid: Grid) -> str:
    """What tells a label map on its grid from others."""
    place = repr((grid.shape, grid.affine.round(3).tolist()))
    digest = hashlib.blake2b(place.encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array, dtype=np.uint8).tobytes())
    return digest.hexdigest()
