"""Sessions over the web: what is known of one, and its image."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slem_app.serving.cases.sessions import UploadSessions
from slem_app.serving.http.application import complete
from slem_app.serving.http.session_routes import session_router
from slem_app.serving.http.upload_routes import upload_router

FILES = {name: name.encode() * 100 for name in ("a.dcm", "b.dcm")}


@pytest.fixture
def web(tmp_path: Path) -> TestClient:
    app = FastAPI()
    settings = SimpleNamespace(upload_mb=1)
    sessions = UploadSessions(tmp_path, 600)
    app.include_router(upload_router(SimpleNamespace(sessions=sessions, settings=settings)))
    app.include_router(session_router(sessions))
    complete(app)
    return TestClient(app)


def begun(web: TestClient, *names: str) -> str:
    sent = [("files", (name, FILES[name])) for name in names]
    return web.put("/session/", files=sent).json()["session_id"]


def test_a_session_tells_of_itself_and_sends_its_image(web: TestClient) -> None:
    place = f"/session/{begun(web, 'a.dcm')}"
    assert web.get(place).json()["image"].endswith("a.dcm")
    assert web.get(place, params={"image": True}).content == FILES["a.dcm"]


def test_an_image_of_several_files_is_refused_as_one(web: TestClient) -> None:
    place = f"/session/{begun(web, *FILES)}"
    assert web.get(place).status_code == 200
    answer = web.get(place, params={"image": True})
    assert answer.status_code == 404
    assert "several files" in answer.json()["detail"]


def test_a_session_that_is_not_there_is_told(web: TestClient) -> None:
    assert web.get("/session/abc").status_code == 404


def test_a_session_without_files_is_refused(web: TestClient) -> None:
    assert web.put("/session/", files=[("other", ("a.dcm", b"x"))]).status_code == 422
