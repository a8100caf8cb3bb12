"""For whoever watches the server: is it alive, can it work, and what does it do.

`/healthz` says that the process answers, `/readyz` that it can segment and save; both without a log-in, and
neither tells more than that. `/metrics` is for Prometheus, see `slem_app.serving.http.metrics`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slem_app.errors import SlemError
from slem_app.files import atomic_file
from slem_app.serving.http.metrics import Metrics
from slem_app.serving.server import Serving

__all__ = ["Readiness", "checks_of", "health_router"]

FRESH = 5.0  # seconds for which a look at everything counts: strangers may ask


class Readiness:
    """What must work for the server to be of use; looked at every few seconds, however often it is asked.

    Args:
        checks: name -> raises an error of ours, or of the disk, where it does not work.
        clock: seconds.
    """

    def __init__(
        self, checks: Mapping[str, Callable[[], None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.checks, self.clock = dict(checks), clock
        self.guard = threading.Lock()
        self.looked, self.works = -FRESH, dict.fromkeys(checks, False)

    def now(self) -> dict[str, bool]:
        """Name -> whether it works."""
        with self.guard:
            if self.clock() - self.looked >= FRESH:
                self.works = {name: _works(check) for name, check in self.checks.items()}
                self.looked = self.clock()
            return dict(self.works)


def checks_of(serving: Serving) -> dict[str, Callable[[], None]]:
    """What a server needs: its models, its store, and its PACS where it has one."""
    checks: dict[str, Callable[[], None]] = {
        "models": lambda: _check_models(serving),
        "store": lambda: _check_store(serving),
    }
    if serving.cases.pacs is not None:
        checks["pacs"] = serving.cases.pacs.pacs.check
    return checks


def health_router(readiness: Readiness, metrics: Metrics) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", summary="Is the process alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz", summary="Can it segment and save?")
    def readyz() -> JSONResponse:
        works = readiness.now()
        ready = all(works.values())
        told = {name: "ok" if one else "failed" for name, one in works.items()}
        return JSONResponse({"ready": ready, "checks": told}, status_code=200 if ready else 503)

    @router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    def figures() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except (SlemError, OSError):  # which of them failed is told, why stands in the log where it is used
        return False
    return True


def _check_models(serving: Serving) -> None:
    if not serving.tasks:
        raise SlemError("no model is loaded")


def _check_store(serving: Serving) -> None:
    root = serving.datastore.root
    root.mkdir(parents=True, exist_ok=True)
    with atomic_file(root / "writable") as file:
        file.write(b"a server has written this to see whether it can\n")
