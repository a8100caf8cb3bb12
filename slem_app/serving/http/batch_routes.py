"""Routes of batches, in the words of MONAI Label's own, which hold a process of it and load the whole app for
it.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException

from slem_app.serving.http.learning_requests import parse_batch
from slem_app.serving.learning.batch import Batches

__all__ = ["batch_router"]


def batch_router(batches: Batches) -> APIRouter:
    """The routes over a server's batches. Waiting is done in threads, so other requests are answered
    meanwhile.
    """
    router = APIRouter(prefix="/batch", tags=["Infer"])

    @router.get("/infer", summary="Get Status of Batch Inference Task")
    def status(all: bool = False, check_if_running: bool = False) -> Any:
        running = batches.running()
        if check_if_running:
            if running is None:
                raise HTTPException(404, "No Batch_infer Tasks are currently Running")
            return batches.task(running)
        tasks = [batches.task(run) for run in batches.runs()]
        if not tasks:
            raise HTTPException(404, "No Batch_infer Tasks Found")
        return tasks if all else tasks[-1]

    @router.post("/infer/{model}", summary="Run Batch Inference Task")
    def run(model: str, images: str = "all", params: dict | None = None, run_sync: bool = False) -> Any:
        request = parse_batch({"images": images, **(params or {})})
        return batches.result(model, request) if run_sync else batches.start(model, request)

    @router.delete("/infer", summary="Stop Batch Inference Task")
    def stop() -> Any:
        return batches.stop()

    return router
