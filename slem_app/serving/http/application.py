"""All routes of the server in one FastAPI application. They are those of MONAI Label's protocol, whole, and a
few more.

Nothing here waits in the event loop: handlers are functions, which FastAPI runs in threads, or coroutines
that only await. What the network has to do waits in a queue (`models.queue`). Status polls have threads of
their own, so that nobody's files are in their way.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import PlainTextResponse
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import BaseRoute, Match

from slem_app.errors import NotFound, NotOffered
from slem_app.serving import error_replies
from slem_app.serving.auth.access import Access, AccessMiddleware, listening_at, open_access
from slem_app.serving.auth.audit import AuditLog, AuditMiddleware
from slem_app.serving.auth.identity import ASGIApp, ReaderMiddleware, Receive, Scope, Send
from slem_app.serving.auth.login_routes import auth_router
from slem_app.serving.auth.tokens import Logins
from slem_app.serving.dicom import qido_wado as dicomweb
from slem_app.serving.dicom.proxy import proxy_router
from slem_app.serving.dicom.served import ServedStudies
from slem_app.serving.http import pages
from slem_app.serving.http.batch_routes import batch_router
from slem_app.serving.http.check_here_routes import check_here_router
from slem_app.serving.http.datastore_routes import datastore_router
from slem_app.serving.http.description import describe
from slem_app.serving.http.health import Readiness, checks_of, health_router
from slem_app.serving.http.infer_routes import infer_router
from slem_app.serving.http.info_routes import PROTOCOL, info_router
from slem_app.serving.http.json_bodies import StrictJsonMiddleware
from slem_app.serving.http.label_routes import label_router
from slem_app.serving.http.learning_status_routes import learning_status_router
from slem_app.serving.http.metrics import Metrics, MetricsMiddleware
from slem_app.serving.http.model_routes import model_router
from slem_app.serving.http.next_case_routes import next_case_router
from slem_app.serving.http.prior_routes import prior_router
from slem_app.serving.http.received_files import LimitMiddleware
from slem_app.serving.http.result_routes import result_router
from slem_app.serving.http.scoring_routes import scoring_router
from slem_app.serving.http.security_headers import SecurityHeadersMiddleware
from slem_app.serving.http.series_routes import series_router
from slem_app.serving.http.session_routes import session_router
from slem_app.serving.http.train_routes import adapt_router, train_router
from slem_app.serving.http.upload_routes import upload_router
from slem_app.serving.http.version_routes import version_router
from slem_app.serving.http.viewer import viewer_router
from slem_app.serving.http.viewer_case import viewer_case_router
from slem_app.serving.http.worklist_routes import worklist_router
from slem_app.serving.models.queue import ConcurrencyMiddleware, RequestQueue
from slem_app.serving.nninteractive.routes import nninteractive_router
from slem_app.serving.pages.admin_routes import admin_router
from slem_app.serving.pages.routes import pages_router
from slem_app.serving.pages.thumbnails import Thumbnails
from slem_app.serving.pages.worklist import Worklist
from slem_app.serving.server import NAME, Serving
from slem_app.serving.settings import Settings
from slem_app.users import UserFile, default_place

if TYPE_CHECKING:
    from slem_app.serving.auth.oidc import Provider

__all__ = ["Everything", "build", "complete"]

POLLS = 8  # threads for status polls
READING = 3  # requests that read headers at once
NO_SLIDES = "whole-slide images are not offered: this server segments MRI, by POST /infer/MODEL"
NO_RELOAD = "this server cannot be loaded anew while it runs: start it again"

router = APIRouter()


@router.post("/reload", include_in_schema=False)
async def reload() -> None:
    """MONAI Label would make a second app beside the one that holds the readers' work."""
    raise NotOffered(NO_RELOAD)


@router.post("/infer/wsi/{model}", include_in_schema=False)
@router.post("/infer/wsi_v2/{model}", include_in_schema=False)
async def slides(model: str) -> None:
    """MONAI Label's routes for pathology, for which no model here is made."""
    raise NotOffered(NO_SLIDES)


@router.get("/logs/gpu", summary="What nvidia-smi says", tags=["Others"], response_class=PlainTextResponse)
def gpu() -> PlainTextResponse:
    """What `nvidia-smi` says; MONAI Label's own route fails where there is none."""
    if shutil.which("nvidia-smi") is None:
        raise NotFound("no GPU: there is no nvidia-smi on this machine")
    return PlainTextResponse(
        subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
    )


def build(
    serving: Serving, host: str = "", origins: Sequence[str] = (), log: Path = Path("app.log")
) -> FastAPI:
    """The application that answers for a server.

    Args:
        serving: its state.
        host: where it listens; default: what this process's command line says.
        origins: sites whose pages may use this server beside its own.
        log: the file that the server's log goes to.

    Raises:
        BadSetting: readers must log in here, and none can; a viewer that is built for another place.
    """
    settings = serving.settings
    provider = _provider(settings)
    logins = Logins(UserFile(settings.users or default_place()), settings.login_hours, settings.idle_minutes)
    access = open_access(
        logins, settings.login, host or listening_at(sys.argv[1:]), tuple(origins), provider is not None
    )
    app = FastAPI(
        title=NAME,
        version=PROTOCOL,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    queue = RequestQueue(
        settings.queue, settings.queue_seconds, settings.infer_seconds, serving.computing.threads
    )
    polls = partial(to_thread.run_sync, limiter=CapacityLimiter(POLLS))
    metrics = Metrics(serving, queue)
    app.include_router(auth_router(access, provider))
    readiness = Readiness(checks_of(serving))
    app.include_router(health_router(readiness, metrics))
    worklist = Worklist(serving, Thumbnails(serving.cases, serving.datastore))
    app.include_router(pages_router(serving, worklist, metrics.registry, readiness.now))
    log_book = AuditLog(serving.datastore.root / "audit")
    app.include_router(admin_router(access, log_book, provider is not None))
    app.include_router(worklist_router(serving, worklist))
    app.include_router(result_router(serving))
    app.include_router(infer_router(serving, queue))
    app.include_router(check_here_router(serving, queue))
    app.include_router(nninteractive_router(serving, queue))
    app.include_router(upload_router(serving))
    app.include_router(datastore_router(serving.datastore))
    app.include_router(session_router(serving.sessions))
    app.include_router(model_router(serving))
    app.include_router(next_case_router(serving))
    app.include_router(scoring_router())
    app.include_router(train_router(serving.trainings, serving.trainers))
    app.include_router(adapt_router(serving.trainings, serving.trainers))
    app.include_router(batch_router(serving.batches))
    app.include_router(label_router(serving.datastore))
    app.include_router(prior_router(serving))
    app.include_router(series_router(serving))
    app.include_router(version_router(serving.watchers))
    app.include_router(router)
    if serving.cases.pacs is not None:
        pacs = serving.cases.pacs.pacs
        app.include_router(proxy_router(pacs, ServedStudies(serving.cases, pacs)))
    else:
        dicomweb.install(app, serving.cases, serving.dicom_results, serving.stored)
    app.include_router(info_router(serving, polls))
    app.include_router(viewer_router(settings.ohif))
    app.include_router(viewer_case_router(serving))
    app.include_router(learning_status_router(serving))
    app.include_router(pages.log_router(log))
    pages.install(app)
    complete(app, settings.upload_mb * 2**20)
    app.add_middleware(
        ConcurrencyMiddleware,
        paths=("/dicom-web/",) if serving.cases.pacs is not None else dicomweb.PREFIXES,
        most=READING,
    )
    _guard(app, access, provider is not None, log_book)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    describe(app, access.required)
    return app


def _provider(settings: Settings) -> Provider | None:
    """The service of another institution that checks passwords; None: this server has its own users."""
    if not settings.oidc_issuer:
        return None
    from slem_app.serving.auth.oidc import Provider  # slow to import, and seldom needed

    return Provider(
        settings.oidc_issuer, settings.oidc_client_id, settings.oidc_claim, settings.oidc_passwords
    )


def _guard(app: FastAPI, access: Access, provider: bool, log: AuditLog) -> None:
    """Put the gate before all routes, and the audit log before the gate; what is added last is
    asked first.
    """
    if provider:  # remembers, in the browser, what was sent to the service
        app.add_middleware(
            SessionMiddleware,
            secret_key=secrets.token_urlsafe(32),
            session_cookie="slem_oidc",
            max_age=600,
            same_site="lax",
        )
    app.add_middleware(AccessMiddleware, access=access)
    app.add_middleware(AuditMiddleware, log=log)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
        )
    app.add_middleware(SecurityHeadersMiddleware)


def complete(app: FastAPI, uploads: int = 2**31) -> None:
    """Give an application that has not started yet the error answers of this server, its limits, and what
    tells readers apart.

    Args:
        app: the application.
        uploads: bytes that a file may have.
    """
    error_replies.install(app)
    app.add_middleware(PackMiddleware)
    app.add_middleware(StrictJsonMiddleware)
    app.add_middleware(LimitMiddleware, uploads=uploads)
    app.add_middleware(ReaderMiddleware)


class Everything(BaseRoute):
    """The route that hands all requests on as they are; a mount would not take paths with a line break."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] in ("http", "websocket") else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class PackMiddleware:
    """Compresses label maps on their way to clients that say they can read that: OHIF's are raw in
    themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.packed = app, GZipMiddleware(app, minimum_size=1024, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = (
            scope["type"] == "http"
            and scope["path"].startswith(("/infer/", "/slem/"))
            and b"output=image" in scope.get("query_string", b"")
        )
        await (self.packed if raw else self.app)(scope, receive, send)
