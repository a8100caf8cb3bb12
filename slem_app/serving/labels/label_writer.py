"""How a client's label, or a model's result, becomes a version: on which image it lies, in the model's
values, with the record of who made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slem_app.errors import BadSetting, NotFound
from slem_app.formats import read_label_file, write_nifti
from slem_app.grouping import Grouping
from slem_app.labels import LabelSet
from slem_app.prompts import CORRECTIONS_FILE, Corrections
from slem_app.result_warning import ResultWarning, read_warnings
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.label_names import value_names
from slem_app.serving.labels.placement import largest_grid, placed
from slem_app.serving.labels.reviewing import without_verdict
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.labels.unchanged import is_a_draft
from slem_app.store.labels import LabelStore, LabelVersion
from slem_app.store.record import FINAL, NOTES, LabelRecord
from slem_app.trust import Trust

__all__ = ["LabelWriter", "SavedLabel", "unrecorded", "without_corrections"]


@dataclass(frozen=True)
class SavedLabel:
    """A label that has just become a version."""

    case: str
    """Case id."""
    version: LabelVersion
    """The version."""


@dataclass
class LabelWriter:
    """Writes versions of the labels of a server's cases."""

    cases: Cases
    """From ids to cases."""
    store: LabelStore
    """Where versions are kept."""
    labels: Mapping[str, LabelSet]
    """Label sets by model name."""
    offered: Callable[[Grouping], Sequence[str]]
    """Names of the models that a case is for, the best first."""
    orders: Mapping[str, Sequence[str]]
    """Model -> its sequences, the first being what an uploaded image without a telling name is taken for."""
    record: Callable[..., LabelRecord]
    """Who saves a label of a case, as `CaseDatastore` is told."""
    given: Callable[[Case, np.ndarray, str], bool]
    """Whether a label map on an image of a case is an unchanged result that a model gave a reader."""
    corrections: Callable[[Case, LabelSet, str], Corrections | None]
    """What a reader did to a segmentation of these labels on an image of a case; None: not known."""

    def submit(self, image_id: str, path: Path, tag: str, said: LabelSubmission) -> SavedLabel:
        """Keep a label as a new version, in the model's values.

        Args:
            image_id: any id of the case.
            path: NIfTI or NRRD on the grid of one of the case's sequences.
            tag: e.g. 'final'.
            said: what the client says of it.

        Raises:
            NotFound: no such case or model.
            BadVolume: not a readable label file.
            BadGrid: a label on none of the grids of this case.
            BadLabel: names that the model does not have.
            TooLarge: more voxels than any image of this case can have.
            StorageFailed: the disk refused; earlier versions are as they were.
        """
        return self._save(image_id, path, tag, said)

    def save_result(
        self, image_id: str, path: Path, tag: str, said: LabelSubmission, params: Mapping[str, object]
    ) -> SavedLabel:
        """Keep what a model has made, as a draft.

        Args:
            image_id: any id of the case.
            path: the label map.
            tag: any but 'final'.
            said: who asked for it, and which model.
            params: the reply that it came with.

        Raises:
            BadSetting: the tag 'final'.
            NotFound, BadVolume, BadGrid, BadLabel, StorageFailed: as `submit`.
        """
        if tag == FINAL:
            raise BadSetting(
                "a model's result is kept as a draft, never as final: look at it and save it with PUT "
                "/datastore/label, or give another label_tag"
            )
        said = replace(said, notes={**said.notes, "params": dict(params)})
        return self._save(image_id, path, tag, said, params)

    def _save(
        self,
        image_id: str,
        path: Path,
        tag: str,
        said: LabelSubmission,
        result: Mapping[str, object] | None = None,
    ) -> SavedLabel:
        case = self.cases.find(image_id, self.orders.get(said.model, ()))
        labels = self._label_set(said.model, case.grouping)
        array, grid, names = read_label_file(path, largest_grid(case))
        image, array = placed(case, array, grid)
        array = labels.remap(array, value_names(said.segments, names, labels))
        automatic = result is not None and not result.get("prompts")
        given = result or {}
        warnings = read_warnings(given.get("warnings", ()))
        record = self.record(case.id, said, automatic, given.get("preparation"), warnings)
        if automatic:
            record = replace(record, trust=Trust.of_table(given.get("trust")))
        elif record.reader and self._as_made(image, array, said.client_id):
            record = replace(record, automatic=True)
        info = {**said.said, NOTES: without_verdict(said.notes), **record.to_meta()}
        corrections = None if automatic else self.corrections(image, labels, said.client_id)
        return SavedLabel(case.id, self.keep(image, tag, array, labels, info, corrections))

    def _as_made(self, image: Case, array: np.ndarray, client_id: str) -> bool:
        """Whether a label map is a model's result as it is: what this reader was given, or a draft."""
        grid = image.series.grid
        return self.given(image, array, client_id) or is_a_draft(self.store, image.id, array, grid)

    def keep(
        self,
        case: Case,
        tag: str,
        array: np.ndarray,
        labels: LabelSet,
        info: Mapping[str, object],
        corrections: Corrections | None = None,
    ) -> LabelVersion:
        """Keep a label map as a new version.

        Args:
            case: the image on whose grid it lies.
            tag: e.g. 'final'.
            array: (I, J, K) values of `labels`.
            labels: what they mean.
            info: what is kept with it.
            corrections: the prompts behind it, as far as they are known.

        Raises:
            StorageFailed: the disk refused; earlier versions are as they were.
        """
        about = {
            "sequence": case.image,
            "series": case.series.id,
            "label_names": {name: value for value, name in enumerate(labels.names, 1)},
            "present": [labels.names[value - 1] for value in np.unique(array) if value],
            "ts": int(time.time()),
        }

        def write(path: Path) -> None:
            write_nifti(array, case.series.grid, labels, path)
            if corrections is not None:
                corrections.save(path.with_name(CORRECTIONS_FILE))

        return self.store.save(case.id, tag, write, {**info, **about})

    def _label_set(self, model: str, grouping: Grouping) -> LabelSet:
        if model and model not in self.labels:
            raise NotFound(f"no model {model!r}; this server has {', '.join(self.labels)}")
        return self.labels[model or next(iter(self.offered(grouping)), next(iter(self.labels)))]


def without_corrections(case: Case, labels: LabelSet, client_id: str) -> Corrections | None:
    """Nothing is known of prompts where no server hears them."""
    return None


def unrecorded(
    case: str,
    said: LabelSubmission,
    automatic: bool,
    preparation: object,
    warnings: tuple[ResultWarning, ...],
) -> LabelRecord:
    """What is known of a label where no server keeps count."""
    return LabelRecord(time.time(), said.client_id, model=said.model)
