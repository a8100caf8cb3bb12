"""MONAI Label's view of a studies folder: one entry a case, any layout, nothing written among the sources.

MONAI Label's own local datastore knows flat files only and rewrites its index as a whole. This one has no
index: cases are listed from the studies folder, labels from the label store, each time they are asked for.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slem_app.errors import BadSetting, NotFound, NotOffered, SlemError, StorageFailed
from slem_app.grouping import Grouping
from slem_app.labels import LabelSet
from slem_app.prompts import Corrections
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.images import image_file, image_name, keep_upload
from slem_app.serving.labels.image_notes import ImageNotes
from slem_app.serving.labels.label_writer import LabelWriter, SavedLabel, unrecorded, without_corrections
from slem_app.serving.labels.placement import label_on
from slem_app.serving.labels.reviewing import (
    REVIEWER_FIELD,
    Verdict,
    decided_in_slicer,
    review_fields,
    version_fields,
)
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.store.case_labels import drawn_on
from slem_app.store.labels import LabelStore, LabelVersion, file_name
from slem_app.store.overview import LabelOverview
from slem_app.store.record import FINAL, LabelRecord

__all__ = ["CaseDatastore", "SavedLabel"]

logger = logging.getLogger(__name__)


class CaseDatastore:
    """Cases, their reference images and the reader's labels.

    Args:
        cases: from ids to cases.
        root: folder for labels, uploads and notes, beside the sources.
        labels: label sets by model name; where a client names no model, that of the first one that the case
            is for.
        record: who saves a label of a case, from the case's id, what the client said of it, and the reply of
            the model whose result it is.
        experts: readers whose final label counts before the newest one.
        offered: names of the models that a case is for, the best first; default: all.
        orders: model -> its sequences, the first being what an uploaded image without a telling name is taken
            for.
        moves: how a case's sequences are moved onto each other before a model, by name, sees them
            (`Prepared.moves`); default: not at all.
        given: whether a label map on an image of a case is what a model gave a reader (by client id), as it
            is;
            default: not known.
        corrections: what a reader (by client id) did to a segmentation of these labels on an image of a case;
            default: not known.
    """

    def __init__(
        self,
        cases: Cases,
        root: Path,
        labels: Mapping[str, LabelSet],
        record: Callable[..., LabelRecord] | None = None,
        experts: Sequence[str] = (),
        offered: Callable[[Grouping], Sequence[str]] | None = None,
        orders: Mapping[str, Sequence[str]] | None = None,
        moves: Callable[[Case, str], Mapping[str, np.ndarray]] | None = None,
        given: Callable[[Case, np.ndarray, str], bool] | None = None,
        corrections: Callable[[Case, LabelSet, str], Corrections | None] | None = None,
    ) -> None:
        self.cases = cases
        self.root = root
        self.labels = dict(labels)
        self.store = LabelStore(root)
        self.notes = ImageNotes(root)
        self.overview = LabelOverview(self.store, experts)
        self.experts = tuple(experts)
        self.moves: Callable[[Case, str], Mapping[str, np.ndarray]] = moves or (lambda case, model: {})
        self.offered = offered or (lambda grouping: tuple(self.labels))
        self.writer = LabelWriter(
            cases,
            self.store,
            self.labels,
            self.offered,
            dict(orders or {}),
            record or unrecorded,
            given or (lambda case, array, client_id: False),
            corrections or without_corrections,
        )
        self.title, self.about = cases.name, "Cases of several sequences"

    def name(self) -> str:
        return self.title

    def set_name(self, name: str) -> None:
        self.title = name

    def description(self) -> str:
        return self.about

    def set_description(self, description: str) -> None:
        self.about = description

    # images

    def list_images(self) -> list[str]:
        return list(self.cases.ids())

    def get_image_uri(self, image_id: str) -> str:
        return str(image_file(self.cases.find(image_id), self.root))

    def get_image(self, image_id: str, params: Any = None) -> bytes:
        return Path(self.get_image_uri(image_id)).read_bytes()

    def get_image_info(self, image_id: str) -> dict[str, object]:
        case = self.cases.find(image_id)
        chosen = {
            choice.sequence: {"series": choice.series.id, "reason": choice.reason}
            for choice in case.grouping.choices
        }
        models = list(self.offered(case.grouping))
        facts: dict[str, object] = {
            "name": image_name(case),
            "sequence": case.sequence,
            "sequences": chosen,
            "warnings": [one.table() for one in case.warnings],
            "models": models,
            **({"chosen_by_hand": dict(case.grouping.by_hand)} if case.grouping.by_hand else {}),
        }
        if series := case.view.series_uid(case.series):  # OHIF opens the next case by them
            facts |= {"StudyInstanceUID": case.view.study, "SeriesInstanceUID": series}
        return self.image_notes(case.id) | facts

    def models_for(self, image_id: str) -> tuple[str, ...]:
        """Names of the models that a case is for, the best first.

        Raises:
            NotFound, BadStudy: as `Cases.find`.
        """
        return tuple(self.offered(self.cases.find(image_id).grouping))

    def image_notes(self, case: str) -> dict[str, Any]:
        """What clients and strategies have noted about a case, without opening it."""
        return self.notes.read(case)

    def update_image_info(self, image_id: str, info: Mapping[str, object]) -> None:
        """Add notes to an image.

        Raises:
            NotFound: no such case.
            TooLarge: more notes than are kept.
            StorageFailed: the disk refused.
        """
        case, _ = self.cases.split(image_id)
        self.notes.update(case, info)

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, object]) -> str:
        keep_upload(self.cases, image_id, Path(image_filename))
        self.update_image_info(image_id, dict(image_info or {}) | {"ts": int(time.time())})
        return image_id

    def remove_image(self, image_id: str) -> None:
        case, _ = self.cases.split(image_id)
        if case in self.cases.own:
            raise BadSetting(
                f"case {case!r} lies in the studies folder, where this server removes nothing: remove its "
                "files there"
            )
        grave = self.root / "removed" / f"{file_name(case)}-image-{uuid.uuid4().hex[:8]}"
        try:
            grave.parent.mkdir(parents=True, exist_ok=True)
            (self.cases.uploads / file_name(case)).rename(grave)
        except OSError as error:
            raise StorageFailed(
                f"cannot remove {case!r}: {error.strerror or error}; it is still there"
            ) from error
        self.cases.refresh()

    # labels

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, object]
    ) -> str:
        """As `submit`, in MONAI Label's words; returns the case id, which is also the label's."""
        said = LabelSubmission.of(label_info or {})
        return self.submit(image_id, Path(label_filename), label_tag or FINAL, said).case

    def submit(self, image_id: str, path: Path, tag: str, said: LabelSubmission) -> SavedLabel:
        """As `LabelWriter.submit`."""
        return self.writer.submit(image_id, path, tag, said)

    def save_result(
        self, image_id: str, path: Path, tag: str, said: LabelSubmission, params: Mapping[str, object]
    ) -> SavedLabel:
        """As `LabelWriter.save_result`."""
        return self.writer.save_result(image_id, path, tag, said, params)

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        case, _ = self.cases.split(image_id)
        return dict.fromkeys(self.store.tags(case), case)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        case, _ = self.cases.split(image_id)
        self.store.latest(case, tag)
        return case

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The label's file: as it was saved, or, where the id names an image that lies elsewhere in the world
        (one of the two was moved before the network saw them), laid on that image.
        """
        version = self._latest(label_id, label_tag)
        case = self._asked(label_id)
        if case is None or "sequence" not in version.meta:
            return str(version.label)
        image = drawn_on(case.grouping, version)
        if case.image == image:
            return str(version.label)
        try:
            moves = self.moves(case, str(version.meta.get("model") or ""))
        except SlemError as error:  # the images cannot be used, and so nothing was moved
            logger.info("the label of %s is given as it was saved: %s", case.id, error)
            return str(version.label)
        return str(label_on(case, image, moves, version, self.root))

    def _asked(self, label_id: str) -> Case | None:
        """The image that a label's id names; None where the images are gone and the label alone is left."""
        try:
            return self.cases.find(label_id)
        except SlemError:
            return None

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> bytes:
        return Path(self.get_label_uri(label_id, label_tag)).read_bytes()

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, object]:
        version = self._latest(label_id, label_tag)
        return {**version.notes, **version.meta, **review_fields(version), "version": version.number}

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, object]) -> None:
        """Keep notes on a label; what the reviewer module says of it is a decision.

        Raises:
            NotFound: no such label.
            BadSetting: a decision that cannot be.
            StorageFailed: the disk refused.
        """
        version, notes = self._latest(label_id, label_tag), dict(info)
        if REVIEWER_FIELD in notes:
            self.store.decide(version, decided_in_slicer(notes.pop(REVIEWER_FIELD)).decision(version))
        self.store.note(version, notes)

    def version(self, label_id: str, tag: str, number: int) -> LabelVersion:
        """One version of a case's label.

        Raises:
            NotFound: there is none of that number.
        """
        case, _ = self.cases.split(label_id)
        found = [one for one in self.store.versions(case, tag) if one.number == number]
        if not found:
            raise NotFound(
                f"case {case!r} has no version {number} of a label with tag {tag!r}: GET "
                f"/slem/labels?image={label_id} lists the existing ones"
            )
        return found[0]

    def decide(self, label_id: str, tag: str, number: int, verdict: Verdict) -> dict[str, object]:
        """Keep what whoever sends this request decides of a version; the version as it is told of then.

        Raises:
            NotFound: there is no such version.
            BadSetting: a decision that cannot be.
            StorageFailed: the disk refused.
        """
        version = self.version(label_id, tag, number)
        self.store.decide(version, verdict.decision(version))
        told = self.history(label_id)
        return next(one for one in told if (one["tag"], one["version"]) == (tag, number))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        case, _ = self.cases.split(label_id)
        self.store.remove(case, label_tag)

    def _latest(self, label_id: str, tag: str) -> LabelVersion:
        """What is meant by the label of a case: the final one that counts, a draft's newest version; the
        newest
        rejected one where no other is left.
        """
        case, _ = self.cases.split(label_id)
        if tag == FINAL and self.store.has_final(case):
            return self.store.counting(case, self.experts)
        return self.store.latest(case, tag)

    # what is done and what is not

    def get_labeled_images(
        self, label_tag: str | None = None, labels: Sequence[str] | None = None
    ) -> list[str]:
        there, tag = set(self.cases.ids()), label_tag or FINAL
        return [case for case in self.store.cases() if case in there and self._has(case, tag, labels)]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: Sequence[str] | None = None
    ) -> list[str]:
        done = set(self.get_labeled_images(label_tag, labels))
        return [case for case in self.cases.ids() if case not in done]

    def _has(self, case: str, tag: str, labels: Sequence[str] | None) -> bool:
        if tag not in self.store.tags(case) or (tag == FINAL and not self.store.has_final(case)):
            return False  # what a reviewer has rejected is still to be done
        return not labels or bool(set(labels) & set(self._latest(case, tag).present))

    def history(self, case: str) -> list[dict[str, object]]:
        """Every version of the case's labels, drafts and those of all readers, as they were saved; `counts`:
        the one that is learnt.
        """
        case, _ = self.cases.split(case)
        counting = self.store.counting(case, self.experts).folder if self.store.has_final(case) else None
        return [version_fields(case, one, one.folder == counting) for one in self.store.history(case)]

    def datalist(self) -> list[dict[str, str]]:
        return [
            {"image": self.get_image_uri(case), "label": self.get_label_uri(case, FINAL)}
            for case in self.get_labeled_images()
        ]

    def status(self) -> dict[str, object]:
        there = set(self.cases.known())
        states = [state for case, state in self.overview.states().items() if case in there]
        tags = [tag for state in states for tag in state.tags]
        done = [state for state in states if state.done]
        return {
            "total": len(there),
            "completed": len(done),
            "label_tags": {tag: tags.count(tag) for tag in sorted(set(tags))},
            "states": dict(Counter(state.name for state in states)),
            "confirmed": sum(state.confirmed for state in done),
        }

    def json(self) -> dict[str, object]:
        return {
            "name": self.title,
            "description": self.about,
            "objects": {case: self._entry(case) for case in self.cases.ids()},
        }

    def _entry(self, case: str) -> dict[str, object]:
        labels = {
            tag: {"ext": ".nii.gz", "info": self.get_label_info(case, tag)} for tag in self.store.tags(case)
        }
        return {"image": {"ext": ".nii.gz", "info": self.image_notes(case)}, "labels": labels}

    def refresh(self) -> None:
        self.cases.refresh()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """MONAI Label's way, which leaves a file behind: `archive` makes it."""
        raise NotOffered("the archive of all cases is streamed: GET /datastore/dataset")
