"""The server as MONAI Label's protocol has it: its routes and pages around ours, and the app that it loads.

`apps/slem/main.py` asks `open_serving`, the adapters, and `install`; `serving.asgi` asks `start`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from monailabel.config import settings
from monailabel.endpoints import activelearning, datastore, logs, model, scoring, session
from monailabel.endpoints.user.auth import DEFAULT_USER, User, get_current_user
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.config import TaskConfig
from monailabel.interfaces.utils.app import app_instance

from slem_app.errors import NotFound
from slem_app.serving.cases.sessions import UploadSessions
from slem_app.serving.http import application
from slem_app.serving.http.application import ClientProtocol, Everything
from slem_app.serving.http.form_fields import NOBODY
from slem_app.serving.labels.datastore import SavedLabel
from slem_app.serving.monai import exceptions, pages, viewer
from slem_app.serving.monai.routes import monai_router
from slem_app.serving.server import Serving

__all__ = ["build", "install", "open_serving", "saved", "start"]

KEPT = (model, activelearning, scoring, datastore, logs, session)  # whose routes are answered as they are


def open_serving(studies: str, conf: Mapping[str, str], configs: Sequence[str]) -> Serving:
    """A server's state, as MONAI Label's command line describes it.

    Args:
        studies: the studies folder, or the address of a PACS.
        conf: the `--conf` table.
        configs: paths of the app's TaskConfig classes, 'lib.configs.MODEL.Class'.

    Raises:
        SlemError: as `Serving`.
    """
    sessions = UploadSessions(
        Path(settings.MONAI_LABEL_SESSION_PATH.strip() or Path.home() / ".cache/monailabel/sessions"),
        settings.MONAI_LABEL_SESSION_EXPIRY,
    )
    named = {path.split(".")[-2]: partial(_config, path, dict(conf)) for path in configs}
    return Serving(studies, conf, named, sessions)


def start() -> FastAPI:
    """Load the app that MONAI Label's command line names, and begin to serve it."""
    instance = app_instance()
    instance.server_mode(True)
    instance.on_init_complete()
    return build(instance.serving, instance)


def install(serving: Serving, instance: MONAILabelApp) -> None:
    """Begin to serve, as `instance`. Where MONAI Label was started without `--uvicorn_app`, this server
    answers in its application.
    """
    if (plain := sys.modules.get("monailabel.app")) is not None:
        plain.app.router.routes[:] = [Everything(build(serving, instance))]
        plain.app.user_middleware.clear()
        # built before the start-up event; now it is built again, at the first request
        plain.app.middleware_stack = None
    serving.start()


def saved(serving: Serving, label_id: str) -> dict[str, Any]:
    """MONAI Label itself has saved a label: what becomes of the newest version of the case.

    Raises:
        NotFound: the case has no labels.
    """
    history = serving.datastore.store.history(label_id)
    if not history:
        raise NotFound(f"case {label_id!r} has no labels")
    status = serving.saving.saved(SavedLabel(label_id, history[-1]))
    return {} if status is None else {"dicom": status.to_json()}


def build(serving: Serving, instance: MONAILabelApp, host: str = "") -> FastAPI:
    """The application that answers for a server.

    Args:
        serving: its state.
        instance: the same as MONAI Label knows it.
        host: where it listens; default: what this process's command line says.

    Raises:
        BadSetting: readers must log in here, and none can.
    """
    origins = tuple(str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS)
    routers = (viewer.router, pages.log_router(), *(monai_router(module) for module in KEPT))
    protocol = ClientProtocol(instance.name, instance.version, instance.info, routers, origins, _complete)
    return application.build(serving, protocol, host)


def _config(path: str, conf: dict[str, str], serving: Serving, name: str) -> TaskConfig:
    """One of the app's configurations."""
    module, _, kind = path.rpartition(".")
    config: TaskConfig = getattr(importlib.import_module(module), kind)()
    config.init(name, "", conf, None, serving=serving)
    return config


def _complete(app: FastAPI) -> None:
    """Add MONAI Label's error answers and pages."""
    exceptions.install(app)
    app.dependency_overrides[get_current_user] = _current_user
    pages.install(app)


def _current_user(request: Request) -> User:
    """Who asks, in MONAI Label's words; what they may do was decided by the access check."""
    login = request.scope.get("slem.login")
    return User(username=login.user.name if login else NOBODY, roles=DEFAULT_USER.roles)
