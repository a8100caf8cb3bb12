"""Errors as HTTP answers, and routes that are not offered on purpose."""

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import requests
from fastapi import FastAPI, Form

from slem_app.errors import BadGrid, BadSetting, BadVolume, NotFound, StorageFailed
from slem_app.serving import error_replies
from slem_app.serving.http.application import complete, router
from slem_app.serving.http.model_routes import model_router

RAISED = {
    "gone": NotFound("no case 'x'"),
    "grid": BadGrid("zero axes"),
    "setting": BadSetting("what?"),
    "full": StorageFailed("disk"),
    "bug": ZeroDivisionError("a secret"),
}


app = FastAPI()
app.include_router(router)
app.include_router(model_router(SimpleNamespace(tasks={}, trainers={})))


@app.get("/fails/{how}")
async def fails(how: str) -> None:
    raise RAISED[how]


@app.put("/parse")
async def parse(params: str = Form("{}")) -> dict:
    return json.loads(params)


@app.get("/count")
async def count(number: int) -> int:
    return number


@pytest.fixture(scope="module")
def ask(serve: Callable) -> Iterator[Callable[..., requests.Response]]:
    """`ask(method, path, ...)` against the application."""
    complete(app)
    with serve(app) as url:
        yield lambda method, path, **fields: requests.request(
            method, url + path, timeout=30, headers={"Connection": "close"}, **fields
        )


@pytest.mark.parametrize(
    ("how", "status", "kind", "text"),
    [
        ("gone", 404, "NotFound", "no case 'x'"),
        ("grid", 422, "BadGrid", "zero axes"),
        ("setting", 400, "BadSetting", "what?"),
        ("full", 507, "StorageFailed", "disk"),
    ],
)
def test_an_error_keeps_its_status_and_text(
    ask: Callable[..., requests.Response], how: str, status: int, kind: str, text: str
) -> None:
    answer = ask("GET", f"/fails/{how}")
    assert (answer.status_code, answer.json()) == (status, {"error": kind, "detail": text})


def test_a_bug_is_told_without_internals(ask: Callable[..., requests.Response]) -> None:
    answer = ask("GET", "/fails/bug")
    assert answer.status_code == 500
    assert "failed inside the server (ZeroDivisionError)" in answer.json()["detail"]
    assert "secret" not in answer.text


def test_fields_that_are_not_json_are_told(ask: Callable[..., requests.Response]) -> None:
    answer = ask("PUT", "/parse", data={"params": "{oops"})
    assert answer.status_code == 400
    assert "must be JSON" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nowhere", 404, "no route GET /nowhere"),
        ("DELETE", "/count", 405, "/count does not know the method DELETE"),
        ("GET", "/count?number=many", 422, "query.number: Input should be a valid integer"),
        ("POST", "/reload", 501, "start it again"),
    ],
)
def test_what_a_route_does_not_take_is_told_as_text(
    ask: Callable[..., requests.Response], method: str, path: str, status: int, text: str
) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    assert text in answer.json()["detail"]


def test_weights_cannot_be_replaced_or_removed_by_a_client(ask: Callable[..., requests.Response]) -> None:
    for method in ("PUT", "DELETE"):
        answer = ask(method, "/model/slem_brain")
        assert answer.status_code == 501
        assert "can neither replace nor remove them" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot write /srv/store/labels/A/meta.json: full", "cannot write meta.json: full"),
        ("'/tmp/slem-label-1/tmpab.nii.gz' is truncated", "'tmpab.nii.gz' is truncated"),
        ("/home/ann/studies/A: gone", "A: gone"),
        (
            "GET /slem/labels?image=A and PUT /datastore/label",
            "GET /slem/labels?image=A and PUT /datastore/label",
        ),
        ("ask http://pacs/data/x and sub-1/run/2", "ask http://pacs/data/x and sub-1/run/2"),
    ],
)
def test_texts_do_not_tell_where_the_servers_files_are(text: str, told: str) -> None:
    assert json.loads(error_replies.answer(BadVolume(text)).body)["detail"] == told


def test_texts_are_not_longer_than_a_person_reads() -> None:
    detail = json.loads(error_replies.answer(BadVolume("x" * 900_000)).body)["detail"]
    assert len(detail) < 2000
