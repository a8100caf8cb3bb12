"""The pages that come from MONAI Label's side: the list of routes, and the log.

Everything that they load comes from this server, so they work in a hospital without internet, and nobody else
learns that they are used. Swagger UI comes from the package `fastapi-offline`.
"""

from __future__ import annotations

import os
from collections import deque
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from slem_app.errors import NotFound
from slem_app.serving.http.security_headers import PAGE_POLICY
from slem_app.serving.http.viewer import static_folder

__all__ = ["install", "log_router"]

ASSETS = Path(__file__).parent / "assets"
SWAGGER = Path(str(files("fastapi_offline"))) / "static"
VENDORED = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
MOST_LINES = 10_000  # of a log that is shown
LEAST = 3  # seconds between two looks at it
ROUTES = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="/favicon.ico"><link rel="stylesheet" href="/pages/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/pages/swagger-ui-bundle.js"></script>
<script src="/pages/routes.js"></script></body></html>"""
LOG = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log</title>{refresh}
<link rel="icon" href="/favicon.ico"><style>body{{margin:1rem;font:13px/1.4 monospace}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}}</style></head>
<body><pre>{text}</pre><p id="end"></p></body></html>"""


def install(app: FastAPI) -> None:
    """Add the pages and what they load to an application."""
    headers, static = {"Content-Security-Policy": PAGE_POLICY}, static_folder()

    @app.get("/docs", include_in_schema=False)
    async def overview() -> HTMLResponse:
        return HTMLResponse(ROUTES.format(title=escape(f"{app.title}: routes")), headers=headers)

    @app.get("/pages/{name}", include_in_schema=False)
    def asset(name: Literal["swagger-ui.css", "swagger-ui-bundle.js", "routes.js"]) -> FileResponse:
        if name in VENDORED:
            return FileResponse(SWAGGER / name, media_type=VENDORED[name])
        return FileResponse(ASSETS / name, media_type="text/javascript")

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> FileResponse:
        if not (static / "favicon.ico").is_file():
            raise NotFound("this server has no icon: it comes with the package `monailabel`")
        return FileResponse(static / "favicon.ico", media_type="image/x-icon")

    if static.is_dir():
        app.mount("/static", StaticFiles(directory=static), name="static")


def log_router(file: Path) -> APIRouter:
    """The server's log as a page.

    Args:
        file: where it is written.
    """
    router = APIRouter(tags=["Others"])

    @router.get(
        "/logs/",
        summary="Get Logs",
        response_class=HTMLResponse,
        responses={200: {"content": {"text/plain": {}}}},
    )
    def log(lines: int = 300, html: bool = True, text: bool = False, refresh: int = 0) -> Response:
        shown = _last(file, max(1, min(lines, MOST_LINES)))
        if text or not html:
            return PlainTextResponse(shown)
        again = f'<meta http-equiv="refresh" content="{max(refresh, LEAST)}">' if refresh > 0 else ""
        return HTMLResponse(
            LOG.format(text=escape(shown), refresh=again), headers={"Content-Security-Policy": PAGE_POLICY}
        )

    return router


def _last(file: Path, lines: int) -> str:
    """The last lines of a log; of a long one the last 4 MiB are looked at.

    Raises:
        NotFound: there is no log.
    """
    try:
        with file.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4 * 2**20))
            return b"".join(deque(log, lines)).decode("utf-8", errors="replace")
    except FileNotFoundError as error:
        raise NotFound(f"there is no log {file.name}: the server writes it where it was told to") from error
