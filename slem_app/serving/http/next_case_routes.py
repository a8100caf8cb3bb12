"""The route by which a reader gets the next case."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from slem_app.errors import SlemError
from slem_app.serving.http.form_fields import UserName
from slem_app.serving.http.learning_requests import parse_next_case
from slem_app.serving.learning.next_case import NextCase
from slem_app.serving.server import Serving

__all__ = ["next_case_router", "to_json"]

logger = logging.getLogger(__name__)


def next_case_router(serving: Serving) -> APIRouter:
    """The route over a server's cases."""
    router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"])

    @router.post(
        "/{strategy}", summary="Run Active Learning strategy to get next sample", response_model=None
    )
    def next_case(user: UserName, strategy: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        asked = params or {}
        chosen = serving.chooser.next(parse_next_case({"strategy": strategy, **asked}), serving.datastore)
        return _told(serving, chosen, strategy, asked.get("client_id", user)) if chosen else {}

    return router


def to_json(chosen: NextCase) -> dict[str, Any]:
    """A chosen case as clients are told of it."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(chosen).items()
    }


def _told(serving: Serving, chosen: NextCase, strategy: str, reader: object) -> dict[str, Any]:
    """A chosen case with its image; the datastore notes who was given it."""
    told = {**to_json(chosen), "path": serving.datastore.get_image_uri(chosen.id)}
    info: dict[str, Any] = serving.datastore.get_image_info(chosen.id)
    given = {**info.get("strategy", {}), strategy: {"ts": int(time.time()), "client_id": reader}}
    try:
        serving.datastore.update_image_info(chosen.id, {"strategy": given})
    except SlemError as error:
        logger.warning("case %s: that it was given out cannot be noted: %s", chosen.id, error)
    if "strategy" in info:
        info = {**info, "strategy": given}
    return {**told, **info}
