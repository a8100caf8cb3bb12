"""Bodies in JSON are refused before a route sees them, and all others pass as they are."""

from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from slem_app.serving.http.application import complete


@pytest.fixture(scope="module")
def web() -> TestClient:
    app = FastAPI()

    @app.post("/fields")
    def fields(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    complete(app)
    return TestClient(app)


@pytest.mark.parametrize(
    "body",
    [
        '{"a": NaN}',
        '{"a": "\\ud800"}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 9999,
        "{",
        b"\xff",
    ],
)
@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", ""]
)
def test_a_body_that_could_not_be_written_out_again_is_refused(
    web: TestClient, body: str | bytes, kind: str
) -> None:
    answer = web.post("/fields", content=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 400
    assert answer.json()["error"] == "BadSetting"
    assert answer.json()["detail"].startswith("the body of the request ")
    assert len(answer.text) < 1000


def test_a_body_that_is_json_arrives_as_it_was_sent(web: TestClient) -> None:
    body = {"a": [1, 2.5, "ä", None, {"b": True}]}
    assert web.post("/fields", json=body).json() == body


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/dicom", "multipart/x; boundary=x"])
def test_other_bodies_pass(web: TestClient, kind: str) -> None:
    body = b"{NaN" * 500_000
    assert web.post("/raw", content=body, headers={"Content-Type": kind}).json() == len(body)


def test_an_empty_body_passes(web: TestClient) -> None:
    assert web.post("/raw").json() == 0
