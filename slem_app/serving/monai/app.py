"""The server inside MONAI Label's own command line; `apps/slem/main.py` asks these."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from slem_app.errors import NotFound
from slem_app.serving.http.application import Everything, build
from slem_app.serving.labels.label_writer import SavedLabel
from slem_app.serving.server import Serving
from slem_app.serving.settings import read_environment

__all__ = ["install", "saved"]


def install(serving: Serving, app: str) -> None:
    """Begin to serve: from now on, this server answers in MONAI Label's application.

    Args:
        serving: the server.
        app: the app's folder, in which MONAI Label writes its log.
    """
    if (plain := sys.modules.get("monailabel.app")) is not None:
        log = Path(app) / "logs/app.log"
        plain.app.router.routes[:] = [Everything(build(serving, "", read_environment().origins, log))]
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
