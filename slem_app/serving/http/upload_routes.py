"""The routes that take files which stay: images, labels, and sessions. They answer as MONAI
Label's own do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile

from slem_app.serving.http.form_fields import Fields, UserName, parse_fields
from slem_app.serving.http.received_files import IMAGES, LABELS, VOLUMES, keep, keep_all, unpack
from slem_app.serving.labels.datastore import FINAL
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.server import Serving

__all__ = ["upload_router"]


def upload_router(serving: Serving) -> APIRouter:
    """The routes over a server; handlers are functions, so FastAPI runs them in threads."""
    router = APIRouter()

    @router.put("/datastore/", summary="Upload new Image", tags=["Datastore"], deprecated=True)
    @router.put("/datastore/image", summary="Upload new Image", tags=["Datastore"])
    def add_image(
        user: UserName,
        image: str | None = None,
        params: Fields = "{}",
        *,
        file: Annotated[UploadFile, File()],
    ) -> dict[str, Any]:
        fields = parse_fields(params) | {"user": user}
        path = keep(file, IMAGES)
        try:
            name = (file.filename or "").replace("\\", "/").rpartition("/")[2]
            own = next((name[: -len(end)] for end in IMAGES if name.lower().endswith(end)), name)
            with serving.quota.room(user, image or own, path.stat().st_size):
                return {"image": serving.datastore.add_image(image or own, str(path), fields)}
        finally:
            path.unlink(missing_ok=True)

    @router.put("/datastore/label", summary="Save Finished Label", tags=["Datastore"])
    def save_label(
        user: UserName,
        image: str,
        params: Fields = "{}",
        tag: str = FINAL,
        *,
        label: Annotated[UploadFile, File()],
    ) -> dict[str, Any]:
        fields = parse_fields(params) | {"user": user}
        said = LabelSubmission.of(fields)
        path = keep(label, LABELS)
        try:
            saved = serving.datastore.submit(image, path, tag or FINAL, said)
        finally:
            path.unlink(missing_ok=True)
        status = serving.saving.saved(saved)
        told = {} if status is None else {"dicom": status.to_json()}
        return {**told, "image": image, "label": saved.case}

    @router.put("/session/", summary="Create new session with Image", tags=["Session"])
    def create_session(
        files: Annotated[list[UploadFile], File(min_length=1)], uncompress: bool = False, expiry: int = 0
    ) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "volume")
            folder.mkdir()
            paths = keep_all(files, VOLUMES, folder)
            if uncompress and len(paths) == 1:
                folder = Path(temporary, "unpacked")
                unpack(paths[0], folder, serving.settings.upload_mb * 2**20)
            whole = folder if uncompress or len(paths) > 1 else paths[0]
            session = serving.sessions.add_session(whole, max(0, expiry))
        return {"session_id": session.name, "session_info": session.to_json()}

    return router
