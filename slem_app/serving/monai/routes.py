"""MONAI Label's own routes, as they are, in threads: its endpoints are coroutines around blocking code and
would stop the event loop.

Its routers are read and their endpoints put behind routes of the same path, method and description. Those
that this server answers itself come first in the table of routes, so they win.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from types import ModuleType
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute

__all__ = ["monai_router"]

FILES = ("/datastore/image", "/datastore/label", "/model/{model}")
"""Paths whose GET answers with a file, of a type that its name tells."""
KEPT = ("methods", "summary", "tags", "name", "deprecated", "responses")


def monai_router(module: ModuleType) -> APIRouter:
    """The routes of a module of `monailabel.endpoints`, which has a `router`."""
    router = APIRouter()
    for route in module.router.routes:
        if isinstance(route, APIRoute):
            kept = {name: getattr(route, name) for name in KEPT}
            kept["include_in_schema"] = route.include_in_schema or route.deprecated  # older clients ask them
            if route.path in FILES and "GET" in (route.methods or ()):
                kept |= {"response_class": FileResponse, "responses": {200: {"content": {"*/*": {}}}}}
            router.add_api_route(route.path, _in_thread(route.endpoint), response_model=None, **kept)
    return router


def _in_thread(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """An endpoint that never waits for anything in the event loop, as one whose work is done in the threads
    that all requests share.
    """

    @functools.wraps(endpoint)  # FastAPI reads the parameters from its signature
    async def threaded(**fields: Any) -> Any:
        return await to_thread.run_sync(lambda: _result(endpoint, fields))

    return threaded


def _result(endpoint: Callable[..., Coroutine[Any, Any, Any]], fields: Mapping[str, Any]) -> Any:
    """What an endpoint that never waits returns."""
    coroutine = endpoint(**fields)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError(f"{endpoint.__name__} waits in the event loop: it cannot be run in a thread")
