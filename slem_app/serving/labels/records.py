"""What is kept of who saves a label: put together from the request, the model that the reader works with, and
what the reader has spent on the case.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from slem_app.labels import LabelSet
from slem_app.prompts import Corrections
from slem_app.result_warning import ResultWarning, lasting
from slem_app.serving.auth.identity import client_of, reader_of, user_of
from slem_app.serving.cases.case import Case
from slem_app.serving.labels.activity import Activity
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.last_result import MANUAL, LastResults, ResultOrigin
from slem_app.serving.models.segment import SegmentationTask
from slem_app.store.record import LabelRecord
from slem_app.volumes.report import PreparationReport

__all__ = ["Records"]


class Records:
    """Makes the record of each label.

    Args:
        activity: of all readers.
        tasks: the served models and tools by name.
        last_results: what each reader was last given.
    """

    def __init__(
        self,
        activity: Activity,
        tasks: Mapping[str, SegmentationTask | InteractiveTask],
        last_results: LastResults,
    ) -> None:
        self.activity, self.tasks, self.last_results = activity, tasks, last_results

    def is_as_given(self, case: Case, array: np.ndarray, client_id: str) -> bool:
        """Whether a label map on an image of a case is what a model alone made and this reader was last
        given.
        """
        return self.last_results.is_as_given(reader_of(client_id), case.id, array, case.series.grid)

    def corrections(self, case: Case, labels: LabelSet, client_id: str) -> Corrections | None:
        """What a reader did to a segmentation of an image, as far as it is remembered; the most that any
        model of these labels has heard.
        """
        tools = [one for one in self.tasks.values() if isinstance(one, InteractiveTask)]
        reader = reader_of(client_id)
        known = [tool.corrections(reader, case) for tool in tools if tool.card.labels == labels]
        return max((one for one in known if one is not None), key=_prompts, default=None)

    def of(
        self,
        case: str,
        said: LabelSubmission,
        automatic: bool = False,
        preparation: object = None,
        warnings: tuple[ResultWarning, ...] = (),
    ) -> LabelRecord:
        """Who saves a label of the case in this request, with what, and what it cost.

        Args:
            case: case id.
            said: what the client says; its own figures count.
            automatic: it is what a model gave, as it is; the reader's work is not saved by it.
            preparation: what was done to the study then (`PreparationReport.table`); None: nothing.
            warnings: what the model's result came with then.
        """
        reader, task = reader_of(said.client_id), self.tasks.get(said.model)
        client, model = client_of(said.client, said.client_id), (said.model, "", "")
        if task:
            card = (task.served.now if automatic else task.served.begun_with(reader, case)).card
            model = (card.name, card.version, card.sha256)
        if automatic:
            return LabelRecord(
                time.time(),
                "",
                client,
                *model,
                automatic=True,
                user=user_of(),
                preparation=_some(preparation),
                warnings=warnings,
            )
        tools = [one for one in self.tasks.values() if isinstance(one, InteractiveTask)]
        placed = max((tool.placed(reader, case) for tool in tools), default=0)
        seconds, clicks = self.activity.take(case, reader, placed)
        seconds = seconds if said.seconds is None else said.seconds
        clicks = clicks if said.clicks is None else said.clicks
        known = self.last_results.origin(reader, case) if model[0] else None
        if known is None or known.model != model[0]:
            known = ResultOrigin(MANUAL)
        return LabelRecord(
            time.time(),
            reader,
            client,
            *model,
            False,
            seconds,
            clicks,
            user_of(),
            _some(known.preparation),
            lasting(known.warnings),
            prior=known.prior,
        )


def _prompts(corrections: Corrections) -> int:
    return len(corrections.entries)


def _some(table: object) -> Mapping[str, Any]:
    """A table of what was done to a study; nothing where nothing was."""
    return table if isinstance(table, Mapping) and PreparationReport.of_table(table) else {}
