"""Routes of the pages. Reading writes nothing but caches; what changes something is a form of its own.

- GET  /                           worklist: ?q=TEXT&state=new&sort=-case&page=2
- POST /next                       the next case, by a strategy; leads to its page
- GET  /case/CASE                  one case; /thumbnail.png, /place/1.png, /report.pdf, /followup.pdf below it
- POST /case/CASE/series           which series is which sequence, chosen by hand; leads back
- POST /case/CASE/decide           a reviewer approves or rejects a version of its label; leads back
- GET  /models, /models/NAME       cards and versions
- GET  /learning, /operations      rounds; how the server does
- GET  /learning/events            the rounds whenever they change, while one runs (server-sent events)
- POST /learning/start             a round of a model; leads back
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from prometheus_client import CollectorRegistry
from pydantic import Field

from slem_app.errors import NotFound
from slem_app.selection import DEFAULT, STRATEGIES
from slem_app.serving.auth.audit import about
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.auth.roles import REVIEWER, role_of
from slem_app.serving.cases.series_by_hand import choose_series
from slem_app.serving.few_at_once import FewAtOnce
from slem_app.serving.labels.reviewing import Verdict
from slem_app.serving.learning.request_types import NextCaseRequest, TrainRequest
from slem_app.serving.pages import status
from slem_app.serving.pages.case import CasePages
from slem_app.serving.pages.learning_feed import LearningFeed
from slem_app.serving.pages.places import PlacePictures
from slem_app.serving.pages.render import FOLLOWING, FOLLOWS, POLICY, STYLE, PageRoute, page
from slem_app.serving.pages.series_form import chosen_series
from slem_app.serving.pages.thumbnails import Thumbnails
from slem_app.serving.pages.worklist import SORTS, STATES, Worklist, WorklistQuery
from slem_app.serving.server import Serving
from slem_app.store.labels import file_name

__all__ = ["pages_router"]

REPORTS = 32  # that may be asked for at once
PICTURES, DRAWN = 1000, 4  # asked for, and looked for or drawn, at once
State = Literal["all", "new", "draft", "submitted", "rejected", "approved", "held"]
Sort = Literal["case", "-case", "saved", "doubt"]
Text = Annotated[str, Query(max_length=200)]
Name = Annotated[str, Field(max_length=510)]


def pages_router(
    serving: Serving,
    worklist: Worklist,
    registry: CollectorRegistry,
    checks: Callable[[], Mapping[str, bool]],
) -> APIRouter:
    """The pages of a server.

    Args:
        serving: its state.
        worklist: its cases as a list.
        registry: its figures for Prometheus.
        checks: what `/readyz` tells.
    """
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _worklist_routes(router, serving, worklist)
    _case_routes(router, CasePages(serving), worklist.thumbnails, PlacePictures(serving.datastore))
    _review_routes(router, serving)
    _series_routes(router, serving)
    _learning_routes(router, serving)

    @router.get("/pages/pages.css")
    def style() -> FileResponse:
        return FileResponse(STYLE, media_type="text/css")

    @router.get("/models")
    def models(request: Request) -> Response:
        return page(request, "models", models=status.models(serving))

    @router.get("/models/{name}")
    def model(request: Request, name: str) -> Response:
        return page(request, "model", model=status.model(serving, name))

    @router.get("/operations")
    def operations(request: Request) -> Response:
        return page(request, "operations", now=status.operations(serving, registry, checks))

    return router


def _worklist_routes(router: APIRouter, serving: Serving, worklist: Worklist) -> None:
    @router.get("/")
    def front(
        request: Request,
        q: Text = "",
        state: State = "all",
        sort: Sort = "case",
        page_number: Annotated[int, Query(alias="page", ge=1, le=10**6)] = 1,
    ) -> Response:
        shown = worklist.page(WorklistQuery(q.strip(), state, sort, page_number))
        return page(
            request,
            "worklist",
            list=shown,
            states=STATES,
            sorts=SORTS,
            strategies=STRATEGIES,
            strategy=DEFAULT,
            server=str(request.base_url),
        )

    @router.post("/next")
    def next_case(strategy: Annotated[str, Form(max_length=100)] = DEFAULT) -> Response:
        if strategy not in STRATEGIES:
            raise NotFound(f"no strategy {strategy!r}; this server has {', '.join(STRATEGIES)}")
        found = serving.chooser.next(NextCaseRequest(strategy), serving.datastore)
        if found is None:
            raise NotFound("there is no further case: each one has a final label, or somebody has it in hand")
        case = found.id
        about(case)
        given = serving.datastore.image_notes(case).get("strategy", {})
        note = {"ts": int(time.time()), "client_id": None}
        serving.datastore.update_image_info(case, {"strategy": {**given, strategy: note}})
        return RedirectResponse(f"/case/{quote(case, safe='')}", status_code=303)


def _review_routes(router: APIRouter, serving: Serving) -> None:
    @router.post("/case/{case}/decide")
    def decide(
        case: str,
        tag: Annotated[str, Form(max_length=64)],
        version: Annotated[int, Form(ge=1)],
        state: Annotated[str, Form(max_length=20)] = "",
        why: Annotated[str, Form(max_length=2000)] = "",
    ) -> Response:
        about(case)
        serving.datastore.decide(case, tag, version, Verdict(state, why))
        return RedirectResponse(f"/case/{quote(case, safe='')}#labels", status_code=303)


def _learning_routes(router: APIRouter, serving: Serving) -> None:
    feed = LearningFeed(serving)

    @router.get("/learning")
    def learning(request: Request) -> Response:
        login = request.scope.get("slem.login")
        trains = login is None or login.user.may(role_of("POST", "/learning/start"))
        shown = status.learning(serving)
        policy = FOLLOWS if shown.running else POLICY
        return page(request, "learning", policy=policy, learning=shown, curve=status.CURVE, trains=trains)

    @router.get("/learning/events")
    async def events() -> Response:
        return feed.stream(reader_of(""))

    @router.get("/pages/learning.js")
    def following() -> FileResponse:
        return FileResponse(FOLLOWING, media_type="text/javascript")

    @router.post("/learning/start")
    def start(model: Annotated[str, Form(max_length=100)]) -> Response:
        if model not in serving.trainers:
            raise NotFound(f"no model {model!r} can be trained here")
        serving.trainers[model].start(TrainRequest())
        return RedirectResponse("/learning", status_code=303)


def _series_routes(router: APIRouter, serving: Serving) -> None:
    @router.post("/case/{case}/series")
    def choose(
        case: str,
        sequence: Annotated[list[Name], Form(max_length=50)],
        series: Annotated[list[Name], Form(max_length=50)],
        do: Annotated[Literal["choose", "automatic"], Form()] = "choose",
    ) -> Response:
        """`series` tells for each `sequence` in turn 'rules', 'none' or 'id:SERIES'."""
        name, _ = serving.cases.split(case)
        about(name)
        wanted = {} if do == "automatic" else chosen_series(sequence, series)
        choose_series(serving.cases, name, wanted)
        serving.scores.wake()
        return RedirectResponse(f"/case/{quote(name, safe='')}#series", status_code=303)


def _case_routes(router: APIRouter, cases: CasePages, thumbnails: Thumbnails, places: PlacePictures) -> None:
    reports = FewAtOnce(1, REPORTS, "reports")  # each reads a study whole
    pictures = FewAtOnce(DRAWN, PICTURES, "pictures")

    @router.get("/case/{case}")
    def case_page(request: Request, case: str) -> Response:
        shown = cases.page(case)
        about(shown.id)
        login = request.scope.get("slem.login")
        reviews = login is None or login.user.may(REVIEWER)
        return page(request, "case", case=shown, server=str(request.base_url), reviews=reviews)

    @router.get("/case/{case}/thumbnail.png")
    async def thumbnail(case: str) -> FileResponse:
        return FileResponse(await pictures.run(lambda: thumbnails.file(case)), media_type="image/png")

    @router.get("/case/{case}/place/{number}.png")
    async def place(case: str, number: int) -> FileResponse:
        return FileResponse(await pictures.run(lambda: places.file(case, number)), media_type="image/png")

    @router.get("/case/{case}/report.pdf")
    async def report(case: str) -> Response:
        return await reports.run(lambda: _report(cases, case))

    @router.get("/case/{case}/followup.pdf")
    async def followup(case: str) -> Response:
        return await reports.run(lambda: _followup(cases, case))


def _report(cases: CasePages, case: str) -> Response:
    from slem_app.report.page import pdf  # slow to import; a server starts without it

    about(case)
    contents = cases.report(case).contents
    return _pdf(pdf(contents), f"{file_name(contents.case)}.report.pdf")


def _followup(cases: CasePages, case: str) -> Response:
    from slem_app.report.followup_page import followup_pdf  # slow to import, as above

    about(case)
    found = cases.followup(case)
    return _pdf(followup_pdf(found), f"{file_name(found.case)}.followup.pdf")


def _pdf(made: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}"}
    return Response(made, media_type="application/pdf", headers=headers)
