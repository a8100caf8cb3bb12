"""Errors as HTTP answers, and routes that answer before MONAI Label's own, on an application that has already begun to start."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import requests
import uvicorn
from fastapi import FastAPI, Form
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from slem_app.errors import BadGrid, BadSetting, NotFound, StorageFailed
from slem_app.serving.routes import install

RAISED = {
    "gone": NotFound("no case 'x'"),
    "grid": BadGrid("zero axes"),
    "setting": BadSetting("what?"),
    "full": StorageFailed("disk"),
    "theirs": MONAILabelException(MONAILabelError.INVALID_INPUT, "Model is not provided"),
    "bug": ZeroDivisionError("a secret"),
}


@asynccontextmanager
async def lifespan(app: FastAPI):
    install(app)  # during the start-up event, as MONAI Label calls on_init_complete
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/fails/{how}")
async def fails(how: str) -> None:
    raise RAISED[how]


@app.put("/parse")
async def parse(params: str = Form("{}")) -> dict:
    return json.loads(params)


@app.post("/train/{model}")
async def train(model: str) -> dict:
    return {"status": "SUBMITTED"}


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[..., requests.Response]]:
    """`ask(method, path, ...)` against the application, served by uvicorn as MONAI Label does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield lambda method, path, **fields: requests.request(method, url + path, timeout=30, headers={"Connection": "close"}, **fields)
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("how", "status", "kind", "text"),
    [
        ("gone", 404, "NotFound", "no case 'x'"),
        ("grid", 422, "BadGrid", "zero axes"),
        ("setting", 400, "BadSetting", "what?"),
        ("full", 507, "StorageFailed", "disk"),
        ("theirs", 400, "INVALID_INPUT", "Model is not provided"),
    ],
)
def test_an_error_keeps_its_status_and_text(ask: Callable[..., requests.Response], how: str, status: int, kind: str, text: str) -> None:
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


def test_weights_cannot_be_replaced_or_removed_by_a_client(ask: Callable[..., requests.Response]) -> None:
    for method in ("PUT", "DELETE"):
        answer = ask(method, "/model/slem_brain")
        assert answer.status_code == 501
        assert "can neither replace nor remove them" in answer.json()["detail"]
