"""What is kept of who saves a label: put together from the request, the model that the reader works with, and
what the reader has spent on the case.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from slem_app.errors import BadSetting
from slem_app.serving.auth.identity import client_of, reader_of, user_of
from slem_app.serving.labels.activity import Activity
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.last_result import LastResults
from slem_app.serving.models.segment import SegmentationTask
from slem_app.store.record import LabelRecord
from slem_app.volumes.report import Report

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

    def of(self, case: str, info: Mapping[str, Any], result: Mapping[str, Any] | None = None) -> LabelRecord:
        """Who saves a label of the case in this request, with what, and what it cost.

        Args:
            case: case id.
            info: what the client said; `seconds`, `clicks` and `client` are its own figures and count.
            result: the reply of the model whose result is saved as it is; None where a reader saves.

        Raises:
            BadSetting: figures that are none.
        """
        reader, task = reader_of(info.get("client_id")), self.tasks.get(str(info.get("model")))
        # what the model gave: the reader's work is not saved by it
        automatic = result is not None and not result.get("prompts")
        model = (str(info.get("model") or ""), "", "")
        if task:
            card = (task.served.now if automatic else task.served.begun_with(reader, case)).card
            model = (card.name, card.version, card.sha256)
        if automatic:
            done = result.get("preparation") if result else None
            return LabelRecord(
                time.time(),
                "",
                client_of(info),
                *model,
                automatic=True,
                user=user_of(),
                preparation=_some(done),
            )
        tools = [one for one in self.tasks.values() if isinstance(one, InteractiveTask)]
        own_seconds, own_clicks = (
            _figure("seconds", info.get("seconds")),
            _figure("clicks", info.get("clicks")),
        )
        seconds, clicks = self.activity.take(
            case, reader, max((tool.placed(reader, case) for tool in tools), default=0)
        )
        seconds, clicks = (
            seconds if own_seconds is None else own_seconds,
            clicks if own_clicks is None else int(own_clicks),
        )
        known = self.last_results.origin(reader, case) if model[0] else None
        done = known.preparation if known and known.model == model[0] else None
        return LabelRecord(
            time.time(), reader, client_of(info), *model, False, seconds, clicks, user_of(), _some(done)
        )


def _some(table: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A table of what was done to a study; nothing where nothing was."""
    return table if table and Report.of_table(table) else {}


def _figure(name: str, value: Any) -> float | None:
    """A client's own figure of what a label cost; None where it gives none."""
    if value is None:
        return None
    try:
        figure = float(value)
    except (TypeError, ValueError):
        figure = -1.0
    if not 0 <= figure < math.inf:
        raise BadSetting(
            f"{name} is {value!r}: a number from 0 on is expected, or nothing, then this server's own "
            f"count is kept"
        )
    return figure
