"""Whether an image is there, and the same as a client's copy of it. MONAI Label's own route fails on an unknown algorithm and never finds a copy equal."""

from __future__ import annotations

from fastapi import APIRouter
from monailabel.utils.others.generic import file_checksum

from slem_app.errors import BadSetting, NotFound
from slem_app.serving.datastore import CaseDatastore

__all__ = ["image_router"]

ALGORITHMS = ("SHA256", "SHA512", "MD5")


def image_router(datastore: CaseDatastore) -> APIRouter:
    """The route over a server's images."""
    router = APIRouter(tags=["Datastore"])

    @router.head("/datastore/image", summary="Check If Image Exists")
    def check(image: str, check_sum: str = "") -> dict[str, str]:
        """`check_sum` is ALGORITHM:DIGEST in hexadecimal digits, or the digest alone, by SHA256: 404 if the image's is another."""
        path = datastore.get_image_uri(image)
        if check_sum:
            algorithm, _, digest = check_sum.rpartition(":")
            algorithm = algorithm.upper() or ALGORITHMS[0]
            if algorithm not in ALGORITHMS:
                raise BadSetting(f"check_sum {check_sum!r}: unknown algorithm {algorithm!r}; use one of {', '.join(ALGORITHMS)}, as in SHA256:DIGEST")
            if digest.lower() != file_checksum(path, algorithm).partition(":")[2]:
                raise NotFound(f"image {image!r} has another {algorithm} than {digest!r}: it is not the same file")
        return {}

    return router
