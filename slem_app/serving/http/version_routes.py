"""Routes that tell which versions of a model there are, and serve another one: what `slem models` does, for
whoever has no shell on the server.

- GET /slem/versions/{model}                    all versions and the refused candidates, with their figures
- POST /slem/versions/{model}/serve?number=N    serve version N; without a number the one before
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from slem_app.errors import NotFound
from slem_app.serving.models.versions import VersionWatcher
from slem_app.weights.version import ModelVersion

__all__ = ["version_router"]


def version_router(watchers: Mapping[str, VersionWatcher]) -> APIRouter:
    """The routes over a server's models. They work in threads, so other requests are answered meanwhile."""
    router = APIRouter(prefix="/slem/versions", tags=["SLeM Label"])

    @router.get("/{model}", summary="Versions of a model")
    def versions(model: str) -> dict[str, Any]:
        return _told(_follower(watchers, model))

    @router.post("/{model}/serve", summary="Serve another version of a model")
    def serve(model: str, number: int | None = None) -> dict[str, Any]:
        watcher = _follower(watchers, model)
        watcher.published.serve(watcher.published.served_before() if number is None else number)
        watcher.look()
        return _told(watcher)

    return router


def _follower(watchers: Mapping[str, VersionWatcher], model: str) -> VersionWatcher:
    if model not in watchers:
        raise NotFound(f"no model {model!r} has versions here; those that have: {', '.join(watchers)}")
    return watchers[model]


def _told(watcher: VersionWatcher) -> dict[str, Any]:
    published = watcher.published
    return {
        "model": published.name,
        "served": watcher.number,
        "note": watcher.note,
        "versions": [_row(one) for one in published.versions()],
        "refused": [_row(one) for one in published.refused()],
    }


def _row(one: ModelVersion) -> dict[str, Any]:
    record = one.record
    row: dict[str, Any] = {
        "number": one.number,
        "version": one.card.version if one.card else "",
        "served": one.served,
        "problem": one.problem,
    }
    if record is not None:
        row |= {
            "created": record.created,
            "parent": record.parent,
            "figures": dict(record.figures),
            "before": dict(record.before),
        }
        row |= {
            "trusted": record.trusted,
            "reason": record.reason,
            "labels": len(record.labels),
            "held_out": len(record.held_out),
        }
    return row
