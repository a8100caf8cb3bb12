"""Which series of a case is which sequence, for programs: told, chosen by hand, given back to the rules."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from slem_app.grouping import Grouping
from slem_app.serving.auth.audit import about
from slem_app.serving.cases.series_by_hand import choose_series
from slem_app.serving.pages.series_form import series_form_of
from slem_app.serving.server import Serving

__all__ = ["ChosenSeries", "series_router"]

Text = Annotated[str, Field(max_length=500)]
MOST = 50  # sequences of a request


class ChosenSeries(BaseModel):
    """A reader's choice."""

    model_config = ConfigDict(extra="forbid")

    chosen: Annotated[dict[Text, Text], Field(max_length=MOST)]
    """Sequence -> series id; empty id: no series is that sequence. What is not named the rules decide."""


def series_router(serving: Serving) -> APIRouter:
    """The routes over a server's cases."""
    router = APIRouter(prefix="/slem/series", tags=["Datastore"])

    @router.get("", summary="Which series of a case is which sequence, why, and who has chosen it")
    def series(image: str) -> dict[str, Any]:
        case, _ = serving.cases.split(image)
        about(case)
        return _told(serving, case, serving.cases.grouping(case))

    @router.post("", summary="Choose by hand which series of a case are which sequences")
    def choose(image: str, said: ChosenSeries, client_id: str = "") -> dict[str, Any]:
        """`chosen` replaces what was chosen before; an empty one gives the case back to the rules."""
        case, _ = serving.cases.split(image)
        about(case)
        grouping = choose_series(serving.cases, case, said.chosen, client_id)
        serving.scores.wake()
        return _told(serving, case, grouping)

    return router


def _told(serving: Serving, case: str, grouping: Grouping) -> dict[str, Any]:
    used = [
        {"sequence": one.sequence, "series": one.series.id, "by_hand": one.by_hand, "why": one.reason}
        for one in grouping.choices
    ]
    form = series_form_of(serving, case, grouping)
    fields = [
        {"sequence": one.sequence, "options": one.options, "value": one.value}
        for one in form.fields
        if not one.other
    ]
    rest = [{"series": one.series.id, "kind": one.kind, "why": one.reason} for one in grouping.leftovers]
    return {
        "case": case,
        "used": used,
        "unused": rest,
        "chosen": dict(grouping.by_hand),
        "fields": fields,
        "warnings": [one.table() for one in grouping.warnings],
        "history": [asdict(one) for one in serving.cases.choices.history(case)],
    }
