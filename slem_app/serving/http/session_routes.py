"""Volumes that a client has uploaded for itself: asked for, and taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from slem_app.errors import NotFound
from slem_app.serving.cases.sessions import UploadSessions

__all__ = ["session_router"]


def session_router(sessions: UploadSessions) -> APIRouter:
    """The routes over a server's sessions; `upload_routes` has the one that begins a session."""
    router = APIRouter(prefix="/session", tags=["Session"])

    @router.get(
        "/{session_id}",
        summary="What is known of a session, or its image",
        response_model=None,
        responses={200: {"content": {"*/*": {}}}},
    )
    def session(
        session_id: str, update_ts: bool = False, image: bool = False
    ) -> dict[str, Any] | FileResponse:
        found = sessions.get_session(session_id, update_ts)
        if found is None:
            raise NotFound(f"no session {session_id!r}: it has expired or was removed; send the volume again")
        if not image:
            return found.to_json()
        path = Path(found.image)
        if not path.is_file():
            raise NotFound(f"session {session_id!r} has several files: its image cannot be sent as one")
        return FileResponse(path, filename=path.name)

    @router.delete("/{session_id}", summary="Delete Session")
    def remove(session_id: str) -> dict[str, Any]:
        session = sessions.get_session(session_id)
        if session is None:
            raise HTTPException(404, "Session Not Found")
        sessions.remove_session(session_id)
        return session.to_json()

    return router
