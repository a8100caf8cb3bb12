"""What follows when a label is saved: the reader's further clicks change that label, the case may be done,
and the label becomes a DICOM segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slem_app.errors import BadGrid, NotFound
from slem_app.formats import read_label_file
from slem_app.result_warning import lasting
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.export import ResultExchange
from slem_app.serving.dicom.seg_status import SegStatus
from slem_app.serving.labels.datastore import FINAL, CaseDatastore
from slem_app.serving.labels.label_writer import SavedLabel
from slem_app.serving.labels.records import Records
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.learning.next_case import Chooser
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.last_result import AUTOMATIC, SEMIAUTOMATIC, LastResults, ResultOrigin
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.models.versions import VersionWatcher
from slem_app.store.labels import LabelVersion

__all__ = ["LabelSaving", "SavedResult"]


@dataclass(frozen=True)
class SavedResult:
    """What was saved of what a reader was shown."""

    label: SavedLabel
    """The label."""
    segmentation: SegStatus | None
    """What became of its DICOM segmentation; None where no DICOM viewer can see the image."""

    @property
    def message(self) -> str:
        """What the reader is told."""
        number, status = self.label.version.number, self.segmentation
        saved = "Confirmed unchanged and saved" if self.label.version.record.confirmed else "Saved"
        if status is None:
            return f"{saved} as version {number}."
        if status.stored:
            return f"{saved} as version {number}, in the study as {status.description!r}."
        again = "it is sent again by itself" if status.instance else "it is kept here only"
        return f"{saved} as version {number} on this server, but not as DICOM yet: {again}. {status.reason}"


class LabelSaving:
    """Saves labels for all readers.

    Args:
        datastore: where labels are kept.
        records: who saves, and what it cost.
        tasks: the served models and tools by name.
        models: the models behind them, by name.
        watchers: of the models' versions, by name.
        last_results: what each reader was last given.
        results: the way to DICOM.
        chooser: who has which case in hand.
    """

    def __init__(
        self,
        datastore: CaseDatastore,
        records: Records,
        tasks: Mapping[str, SegmentationTask | InteractiveTask],
        models: Mapping[str, SegmentationTask],
        watchers: Mapping[str, VersionWatcher],
        last_results: LastResults,
        results: ResultExchange,
        chooser: Chooser,
    ) -> None:
        self.datastore, self.records = datastore, records
        self.tasks, self.models, self.watchers = tasks, models, watchers
        self.last_results, self.results, self.chooser = last_results, results, chooser

    @property
    def cases(self) -> Cases:
        """The server's cases."""
        return self.datastore.cases

    def saved(self, label: SavedLabel) -> SegStatus | None:
        """A client submitted a label.

        Returns:
            What became of its DICOM segmentation; None where there is none to be.
        """
        case_id, version = label.case, label.version
        self.chooser.saved(case_id, self.datastore)
        client = str(version.meta.get("client_id") or "")
        case = self.cases.of_label(case_id, version)
        array = read_label_file(version.label)[0]
        for task in self.tasks.values():
            if isinstance(task, InteractiveTask) and version.names == task.predictor.card.labels.names:
                task.edited(case, array, client)
        if version.tag != FINAL:
            return None
        for watcher in self.watchers.values():
            watcher.served.submitted(reader_of(client), case_id)
        if case.view.sources(case.series) is None:
            return None
        before = self._before(label)
        making = self.last_results.making(reader_of(client), case.id, array, case.series.grid, before)
        return self.results.export(version, case, making)

    def save_shown(self, image: str, client_id: str = "") -> SavedResult:
        """Save what this server last gave the reader of this request of a case, as a final label.

        Args:
            image: any id of the case.
            client_id: as in the requests that it came from.

        Raises:
            NotFound: no such case, or nothing of it was given to this reader.
            BadGrid: the image has changed since, or the choice of series.
            StorageFailed: the disk refused.
        """
        case = self.cases.find(image)
        shown = self.last_results.last(reader_of(client_id), case.id)
        if shown is None:
            raise NotFound(
                "there is nothing to save: this server has not sent you a segmentation of this study (since "
                "it was started); run one first"
            )
        if shown.by_hand != case.grouping.by_hand:
            raise BadGrid(
                "another series was chosen for a sequence since the segmentation was made: run it again"
            )
        lying = self.cases.find(f"{case.id}/{shown.image}")
        if not lying.series.grid.same_as(shown.grid):
            raise BadGrid(
                f"the image {shown.image} has changed since the segmentation was made: run it again"
            )
        labels = self.models[shown.making.model].predictor.card.labels
        said = LabelSubmission({"client_id": client_id, "model": shown.making.model})
        # a reader has looked at it, and so it is theirs
        record = replace(
            self.records.of(case.id, said),
            automatic=shown.making.kind == AUTOMATIC,
            warnings=shown.making.warnings,
            trust=shown.making.trust,
        )
        info = {**said.said, **record.to_meta()}
        label = SavedLabel(case.id, self.datastore.writer.keep(lying, FINAL, shown.array, labels, info))
        return SavedResult(label, self.saved(label))

    def _before(self, label: SavedLabel) -> ResultOrigin | None:
        """What the newest version before that a model had a hand in came from."""
        for one in self.datastore.store.history(label.case)[::-1]:
            if not _precedes(one, label.version) or not one.record.model:
                continue
            record = one.record
            version = record.model_version or "?"
            told = lasting(record.warnings)
            return ResultOrigin(SEMIAUTOMATIC, record.model, version, record.preparation, told)
        return None


def _precedes(one: LabelVersion, version: LabelVersion) -> bool:
    return one.folder != version.folder and one.record.ts <= version.record.ts
