"""Some routes of the server, served by themselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
from fastapi import APIRouter, FastAPI

from slem_app.serving import error_replies
from tests.serving import conftest


@contextmanager
def served(router: APIRouter) -> Iterator[Callable[..., requests.Response]]:
    """`ask(method, path, ...)` against the routes."""
    app = FastAPI()
    app.include_router(router)
    error_replies.install(app)
    with conftest.served(app) as url:
        yield lambda method, path, **fields: requests.request(
            method, url + path, timeout=60, headers={"Connection": "close"}, **fields
        )
