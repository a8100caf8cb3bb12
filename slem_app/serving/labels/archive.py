"""All cases with their final labels as one zip, for whoever takes the data elsewhere."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, cast

from slem_app.errors import StorageFailed
from slem_app.serving.cases.images import image_file, image_name
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.store.labels import file_name
from slem_app.unpack import PIECE

__all__ = ["dataset_archive", "pieces"]


def dataset_archive(datastore: CaseDatastore, limit: int | None = None) -> BinaryIO:
    """A zip of every sequence of every case with its final label, opened at its beginning.

    A file without a name: each request has its own, and it is gone once it is closed, or its process ends.

    Args:
        datastore: the cases and labels.
        limit: how many cases; default: all.

    Raises:
        StorageFailed: the disk refused.
    """
    folder = datastore.root / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as failed:
            file = failed.enter_context(tempfile.TemporaryFile(dir=folder))
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for case in datastore.cases.ids()[:limit]:
                    _pack(archive, datastore, case)
            file.seek(0)
            failed.pop_all()  # from here on its reader closes it
            return cast(BinaryIO, file)
    except OSError as error:
        raise StorageFailed(
            f"cannot write in {folder}: {error.strerror or error}: free some space"
        ) from error


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file's content piece by piece; closed at its end, or where its reader stops."""
    with file:
        while piece := file.read(PIECE):
            yield piece


def _pack(archive: zipfile.ZipFile, datastore: CaseDatastore, case: str) -> None:
    found = datastore.cases.find(case)
    folder = file_name(found.id)
    for sequence in found.grouping.sequences:
        one = datastore.cases.find(f"{found.id}/{sequence}")
        archive.write(image_file(one, datastore.root), f"{folder}/{image_name(one)}")
    if datastore.store.has_final(found.id):
        archive.write(datastore.store.counting(found.id, datastore.experts).label, f"{folder}/label.nii.gz")
