"""Routes of the datastore: lists of cases and labels, their files, and notes on them. What clients send is
taken by `upload_routes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from slem_app.errors import BadSetting, NotFound
from slem_app.serving.few_at_once import FewAtOnce
from slem_app.serving.http.file_replies import FILE, digest, file_reply
from slem_app.serving.http.form_fields import Fields, ReviewerCheck, UserName, json_object
from slem_app.serving.labels.archive import dataset_archive, pieces
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.reviewing import REVIEWER_FIELD
from slem_app.serving.streams import Stream
from slem_app.store.labels import file_name

__all__ = ["datastore_router"]

ALGORITHMS = ("SHA256", "SHA512", "MD5")
ARCHIVES = 8  # requests for the whole data set at once
NO_LABEL = "Label NOT Found"


def datastore_router(datastore: CaseDatastore) -> APIRouter:
    """The routes over a server's images and labels."""
    router, archives = APIRouter(tags=["Datastore"]), FewAtOnce(2, ARCHIVES, "the data set")
    _images(router, datastore)
    _labels(router, datastore)

    @router.get("/datastore/", summary="Get All Images/Labels from datastore", response_model=None)
    def listed(output: Literal["train", "stats", "all"] | None = None) -> Any:
        if output == "all":
            return datastore.json()
        return datastore.datalist() if output == "train" else datastore.status()

    @router.get(
        "/datastore/dataset",
        summary="All cases with their final labels, as a zip",
        response_class=Stream,
        responses={200: {"content": {"application/zip": {}}}},
    )
    async def dataset(limit_cases: Annotated[int | None, Query(ge=1)] = None) -> Stream:
        name = f"{file_name(datastore.name())}.zip"
        file = await archives.run(lambda: dataset_archive(datastore, limit_cases))
        return Stream(
            pieces(file),
            file,
            media_type="application/zip",
            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
        )

    return router


def _images(router: APIRouter, datastore: CaseDatastore) -> None:

    @router.head("/datastore/image", summary="Check If Image Exists")
    def check(image: str, check_sum: str = "") -> dict[str, str]:
        """`check_sum` is ALGORITHM:DIGEST in hexadecimal digits, or the digest alone, by SHA256: 404 if the
        image's is another.
        """
        path = datastore.get_image_uri(image)
        if check_sum:
            algorithm, _, digits = check_sum.rpartition(":")
            algorithm = algorithm.upper() or ALGORITHMS[0]
            if algorithm not in ALGORITHMS:
                raise BadSetting(
                    f"check_sum {check_sum!r}: unknown algorithm {algorithm!r}; use one of "
                    f"{', '.join(ALGORITHMS)}, as in SHA256:DIGEST"
                )
            if digits.lower() != digest(Path(path), algorithm):
                raise NotFound(
                    f"the {algorithm} of image {image!r} is not {digits!r}: it is not the same file"
                )
        return {}

    @router.get("/datastore/image", summary="Download Image", **FILE)
    def image_file(image: str) -> FileResponse:
        return file_reply(datastore.get_image_uri(image), "Image NOT Found")

    @router.delete("/datastore/", summary="Remove Image and corresponding labels", deprecated=True)
    @router.delete("/datastore/image", summary="Remove Image and corresponding labels")
    def remove_image(id: str) -> dict[str, str]:
        datastore.remove_image(id)
        return {}

    @router.get("/datastore/image/info", summary="Get Image Info", response_model=None)
    def image_info(image: str) -> dict[str, Any]:
        return datastore.get_image_info(image)

    @router.put("/datastore/image/info", summary="Update Image Info")
    def note_image(user: UserName, image: str, info: Fields = "{}") -> None:
        datastore.update_image_info(image, json_object(info, "info") | {"user": user})


def _labels(router: APIRouter, datastore: CaseDatastore) -> None:
    def note(label: str, tag: str, info: dict[str, object], check_reviewer: Callable[[], None]) -> None:
        if REVIEWER_FIELD in info:
            check_reviewer()
        datastore.update_label_info(label, tag, info)

    @router.head("/datastore/label", summary="Check If Label Exists")
    def check_label(image: str, tag: str) -> dict[str, str]:
        file_reply(datastore.get_label_uri(image, tag), NO_LABEL)
        return {}

    @router.get("/datastore/label", summary="Download Label", **FILE)
    def label_file(label: str, tag: str) -> FileResponse:
        return file_reply(datastore.get_label_uri(label, tag), NO_LABEL)

    @router.delete("/datastore/label", summary="Remove Label")
    def remove_label(id: str, tag: str) -> dict[str, str]:
        datastore.remove_label(id, tag)
        return {}

    @router.get("/datastore/label/info", summary="Get Label Info", response_model=None)
    def label_info(label: str, tag: str) -> dict[str, Any]:
        return datastore.get_label_info(label, tag)

    @router.put("/datastore/label/info", summary="Update Label Info")
    def note_label(
        user: UserName, reviewer: ReviewerCheck, label: str, tag: str, info: Fields = "{}"
    ) -> None:
        note(label, tag, json_object(info, "info") | {"user": user}, reviewer)

    @router.put("/datastore/updatelabelinfo", tags=["Datastore"], deprecated=True)
    def note_label_as_before(
        user: UserName, reviewer: ReviewerCheck, label: str, tag: str, params: Fields = "{}"
    ) -> None:
        note(label, tag, json_object(params, "params") | {"user": user}, reviewer)
