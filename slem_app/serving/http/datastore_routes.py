"""Routes of the datastore that MONAI Label's own answer wrongly: whether a client's copy of an image is the
same, and notes on images and labels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from slem_app.errors import BadSetting, NotFound
from slem_app.serving.http.form_fields import Fields, UserName, json_object
from slem_app.serving.labels.archive import dataset_archive, pieces
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.store.labels import file_name

__all__ = ["datastore_router"]

ALGORITHMS = ("SHA256", "SHA512", "MD5")


def datastore_router(datastore: CaseDatastore) -> APIRouter:
    """The routes over a server's images and labels."""
    router = APIRouter(tags=["Datastore"])

    @router.head("/datastore/image", summary="Check If Image Exists")
    def check(image: str, check_sum: str = "") -> dict[str, str]:
        """`check_sum` is ALGORITHM:DIGEST in hexadecimal digits, or the digest alone, by SHA256: 404 if the
        image's is another.
        """
        path = datastore.get_image_uri(image)
        if check_sum:
            algorithm, _, digest = check_sum.rpartition(":")
            algorithm = algorithm.upper() or ALGORITHMS[0]
            if algorithm not in ALGORITHMS:
                raise BadSetting(
                    f"check_sum {check_sum!r}: unknown algorithm {algorithm!r}; use one of "
                    f"{', '.join(ALGORITHMS)}, as in SHA256:DIGEST"
                )
            if digest.lower() != _digest(Path(path), algorithm):
                raise NotFound(
                    f"image {image!r} has another {algorithm} than {digest!r}: it is not the same file"
                )
        return {}

    @router.get(
        "/datastore/dataset",
        summary="All cases with their final labels, as a zip",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    def dataset(limit_cases: Annotated[int | None, Query(ge=1)] = None) -> StreamingResponse:
        name = f"{file_name(datastore.name())}.zip"
        return StreamingResponse(
            pieces(dataset_archive(datastore, limit_cases)),
            media_type="application/zip",
            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
        )

    @router.put("/datastore/image/info", summary="Update Image Info")
    def note_image(user: UserName, image: str, info: Fields = "{}") -> None:
        datastore.update_image_info(image, json_object(info, "info") | {"user": user})

    @router.put("/datastore/label/info", summary="Update Label Info")
    def note_label(user: UserName, label: str, tag: str, info: Fields = "{}") -> None:
        datastore.update_label_info(label, tag, json_object(info, "info") | {"user": user})

    @router.put("/datastore/updatelabelinfo", tags=["Datastore"], deprecated=True)
    def note_label_as_before(user: UserName, label: str, tag: str, params: Fields = "{}") -> None:
        datastore.update_label_info(label, tag, json_object(params, "params") | {"user": user})

    return router


def _digest(path: Path, algorithm: str) -> str:
    """A file's digest in hexadecimal digits."""
    digest = hashlib.new(algorithm.lower())
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
