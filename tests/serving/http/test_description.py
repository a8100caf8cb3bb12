"""What the server says of its routes is what they answer."""

import pytest
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from slem_app.serving.http.application import complete
from slem_app.serving.http.description import describe


def routes() -> FastAPI:
    app, router, later = FastAPI(), APIRouter(prefix="/things"), APIRouter(prefix="/things")

    @router.get("/{name}", responses={404: {"description": "the framework's own"}})
    def look(name: str, size: int = Query(1)) -> dict[str, int]:
        return {name: size}

    @router.put("/{name}", include_in_schema=False)
    def refuse(name: str) -> None:
        raise NotImplementedError

    @later.put("/{name}")
    @later.delete("/{name}")
    def change(name: str) -> None:
        raise NotImplementedError

    @later.get("/{name}/text", response_class=PlainTextResponse)
    def text(name: str) -> str:
        return name

    app.include_router(router)
    app.include_router(later)
    complete(app)
    return app


def test_every_error_is_described_as_it_is_sent() -> None:
    app = routes()
    describe(app, login=False)
    web = TestClient(app)
    told = web.get("/openapi.json").json()
    replies = told["paths"]["/things/{name}"]["get"]["responses"]
    assert set(replies) == {"200", "default"}
    reference = replies["default"]["content"]["application/json"]["schema"]["$ref"]
    error = told["components"]["schemas"][reference.rpartition("/")[2]]
    answer = web.get("/things/a?size=many")
    assert answer.status_code == 422
    assert set(answer.json()) == set(error["required"])
    assert "HTTPValidationError" not in told["components"]["schemas"]


def test_a_route_that_an_earlier_one_answers_for_is_not_described() -> None:
    app = routes()
    describe(app, login=False)
    told = TestClient(app).get("/openapi.json").json()
    assert set(told["paths"]["/things/{name}"]) == {"get", "delete"}
    assert list(told["paths"]["/things/{name}/text"]["get"]["responses"]["200"]["content"]) == ["text/plain"]


@pytest.mark.parametrize("login", [True, False])
def test_a_log_in_is_described_where_there_is_one(login: bool) -> None:
    app = routes()

    @app.get("/healthz")
    def healthz() -> None: ...

    describe(app, login)
    told = TestClient(app).get("/openapi.json").json()
    assert ("security" in told["paths"]["/things/{name}"]["get"]) == login
    assert ("securitySchemes" in told["components"]) == login
    assert "security" not in told["paths"]["/healthz"]["get"]


def test_a_method_that_a_path_does_not_know_is_refused_with_all_that_it_knows() -> None:
    answer = TestClient(routes()).patch("/things/a")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, PUT"
