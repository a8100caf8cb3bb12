"""The weights behind a model: a client may fetch them, but neither replace nor remove them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from slem_app.errors import NotOffered
from slem_app.serving.http.file_replies import FILE, digest, file_reply
from slem_app.serving.server import Serving

__all__ = ["model_router"]

NO_WEIGHTS = (
    "weights come to this server as a folder with a card, named in its settings; a client can "
    "neither replace nor remove them"
)
NO_FILE = "Model File NOT Found for {}"


def model_router(serving: Serving) -> APIRouter:
    """The routes over a server's models."""
    router = APIRouter(prefix="/model", tags=["Model"])

    @router.put("/{model}", summary="Not offered")
    @router.delete("/{model}", summary="Not offered")
    async def change(model: str) -> None:
        raise NotOffered(NO_WEIGHTS)

    @router.get("/{model}", summary="Download Latest Model Weights", **FILE)
    def download(model: str) -> FileResponse:
        return file_reply(_weights(serving, model), NO_FILE.format(model), name=model)

    @router.get("/info/{model}", summary="Get CheckSum/Details for the Latest Model File")
    def info(model: str) -> dict[str, Any]:
        path = _weights(serving, model)
        told = {"checksum": f"SHA256:{digest(path, 'sha256')}", "modified_time": int(path.stat().st_mtime)}
        trainer = serving.trainers.get(model)
        return {**told, "train_stats": trainer.stats()} if trainer else told

    return router


def _weights(serving: Serving, model: str) -> Path:
    """The file that a model is served from.

    Raises:
        HTTPException: 404, there is no such model or its file is gone.
    """
    path = Path(serving.tasks[model].weights) if model in serving.tasks else None
    if path is None or not path.exists():
        raise HTTPException(404, NO_FILE.format(model))
    return path
