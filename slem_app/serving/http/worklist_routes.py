"""The worklist for programs: what the front page shows, as JSON, and taking a case from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from slem_app.serving.auth.identity import reader_of
from slem_app.serving.pages.worklist import Worklist, WorklistQuery, WorklistRow, holder_name
from slem_app.serving.server import Serving

__all__ = ["worklist_router"]

State = Literal["all", "new", "draft", "submitted", "rejected", "approved", "held"]
Sort = Literal["case", "-case", "saved", "doubt"]


def worklist_router(serving: Serving, worklist: Worklist) -> APIRouter:
    """The routes over a server's cases."""
    router = APIRouter(prefix="/slem/worklist", tags=["Worklist"])

    @router.get("", summary="Cases with their state and who has them in hand, filtered, sorted and paged")
    def cases(
        q: Annotated[str, Query(max_length=200)] = "",
        state: State = "all",
        sort: Sort = "case",
        page: Annotated[int, Query(ge=1, le=10**6)] = 1,
        client_id: str = "",
    ) -> dict[str, Any]:
        """`client_id` is the reader who asks: of their own cases the holder is 'you'."""
        shown = worklist.page(WorklistQuery(q.strip(), state, sort, page), reader_of(client_id))
        return {
            "rows": [_told(row) for row in shown.rows],
            "matched": shown.matched,
            "counts": dict(shown.counts),
            "page": shown.query.page,
            "pages": shown.pages,
            "pending": shown.pending,
        }

    @router.post("/take", summary="Take a case into one's hands, unless another reader has it")
    def take(image: str, client_id: str = "") -> dict[str, Any]:
        """Whoever opens a case that another has may work on it all the same; `holder` says who that is."""
        case, _ = serving.cases.split(image)
        reader, leases = reader_of(client_id), serving.chooser.leases
        with leases.guard:
            holder = leases.holder(case)
            if holder in (None, reader):
                leases.take(case, reader)
        return {"case": case, "holder": "you" if holder is None else holder_name(holder, reader)}

    return router


def _told(row: WorklistRow) -> dict[str, Any]:
    """A row as clients are told of it."""
    told = asdict(row)
    state = told.pop("state")
    return {**told, "state": state["name"], "saved": state["saved"], "confirmed": state["confirmed"]}
