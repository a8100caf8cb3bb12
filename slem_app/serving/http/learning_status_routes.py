"""How learning stands, for viewers that show it in a corner; the page `/learning` shows all of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from slem_app.serving.pages.status import LearningPage, RoundRow, learning
from slem_app.serving.server import Serving

__all__ = ["learning_status_router"]


def learning_status_router(serving: Serving) -> APIRouter:
    """The route over a server's learning rounds."""
    router = APIRouter(prefix="/slem", tags=["Train"])

    @router.get("/learning", summary="How learning stands")
    def status() -> dict[str, Any]:
        """`round` is the one that runs, else the last one; null: none has run yet."""
        return _told(learning(serving))

    return router


def _told(now: LearningPage) -> dict[str, Any]:
    shown = next((one for one in now.rounds if one.id == now.running), None)
    shown = shown or (now.rounds[0] if now.rounds else None)
    return {
        "running": bool(now.running),
        "waiting": now.waiting,
        "labelled": now.labelled,
        "trainable": list(now.trainable),
        "round": None if shown is None else _round(shown),
    }


def _round(row: RoundRow) -> dict[str, Any]:
    status = row.status
    return {
        "model": row.model,
        "status": status.status.lower(),
        "stage": status.stage,
        "epoch": status.epoch,
        "epochs": status.total_epochs,
        "seconds_left": status.seconds_left,
        "reason": status.reason,
        "published": status.published,
        "ended": status.ended,
    }
