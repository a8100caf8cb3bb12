"""MONAI Label's scoring: clients may ask for it, and this server has no methods of it. What orders the cases
is measured by `learning.case_scores`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException

from slem_app.errors import BadSetting

__all__ = ["scoring_router"]


def scoring_router() -> APIRouter:
    """The routes, whose answers are those of a server without a method."""
    router = APIRouter(prefix="/scoring", tags=["Scoring"])

    @router.get("/", summary="Get Status of Scoring Task")
    async def status(all: bool = False, check_if_running: bool = False) -> None:
        found = "are currently Running" if check_if_running else "Found"
        raise HTTPException(404, f"No Scoring Tasks {found}")

    @router.post("/", summary="Run All Scoring Tasks", deprecated=True)
    async def run_all(params: dict[str, Any] | None = None, run_sync: bool = False) -> dict[str, Any]:
        return {}

    @router.post("/{method}", summary="Run Scoring Task for specific method")
    async def run(method: str, params: dict[str, Any] | None = None, run_sync: bool = False) -> None:
        raise BadSetting(f"no scoring method {method!r}: this server has none")

    @router.delete("/", summary="Stop Scoring Task")
    async def stop() -> None:
        return None

    return router
