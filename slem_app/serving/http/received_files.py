"""Files that clients send: limited in size before they are read, in kind by their name, and kept under names
that are not the client's.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from fastapi import UploadFile
from fastapi.datastructures import Headers
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from slem_app.errors import BadVolume, TooLarge
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send
from slem_app.unpack import megabytes

__all__ = [
    "IMAGES",
    "LABELS",
    "SENT_FILE",
    "VOLUMES",
    "LimitMiddleware",
    "is_sent",
    "keep",
    "keep_all",
    "unpack",
]

IMAGES = (".nii.gz", ".nii")
LABELS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
VOLUMES = (".nii.gz", ".nii", ".dcm", ".zip", "")
"""What a session may hold; files of DICOM often have no ending."""
AUTH = 64 * 1024  # bytes of a request of somebody who has not logged in yet
WORDS = 4 * 2**20  # bytes of a request that is no upload: fields, JSON
BROKEN_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, OverflowError),
)
"""What zipfile raises for damaged archives; LookupError for one with an empty name."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take memory as their header likes
DIRECTORY = 8 * 2**20  # bytes of a zip's list of files, some 100,000 of them
KINDS = ("multipart/", "application/dicom", "application/octet-stream")  # of requests that are uploads


# the names that tempfile gives
SENT_FILE = re.compile(r"tmp[a-z0-9_]{8}(\.[^/]*)?")


def is_sent(path: Path) -> bool:
    """Whether a path of this machine is that of a file that `keep` made."""
    return path.parent == Path(tempfile.gettempdir()) and bool(SENT_FILE.fullmatch(path.name))


def keep(upload: UploadFile, endings: Sequence[str]) -> Path:
    """A file that was sent, as a temporary file of this process's user alone; the caller removes it.

    Args:
        upload: as it came; of its name only the ending counts.
        endings: what it may be; the first one is meant where it has no name.

    Raises:
        BadVolume: another kind of file.
    """
    handle, name = tempfile.mkstemp(prefix="tmp", suffix=_ending(upload.filename or endings[0], endings))
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(upload.file, file)
    return Path(name)


def keep_all(uploads: Sequence[UploadFile], endings: Sequence[str], folder: Path) -> list[Path]:
    """Several files in a folder, each under the last part of its name.

    Raises:
        BadVolume: another kind of file, or a name that no file can have.
    """
    kept = []
    for number, upload in enumerate(uploads, 1):
        name = (upload.filename or "").replace("\\", "/").rpartition("/")[2]
        if name.startswith(".") or not name.isprintable() or len(os.fsencode(name)) > 200:
            raise BadVolume(
                f"file {number} is called {name[:60]!r}: send it under a plain name of at most 200 bytes"
            )
        _ending(name, endings)
        path = folder / (name or f"image{number}.nii.gz")
        if path.exists():
            raise BadVolume(f"two files are called {path.name}: give them different names")
        with path.open("xb") as file:
            shutil.copyfileobj(upload.file, file)
        kept.append(path)
    return kept


def unpack(path: Path, folder: Path, limit: int) -> None:
    """Take the files of a zip out into a folder, none of them outside it.

    Raises:
        BadVolume: not a zip.
        TooLarge: more than `limit` bytes, or more files than a study has.
    """
    try:
        with path.open("rb") as file:
            _check_directory(file)
        with zipfile.ZipFile(path) as archive:
            if odd := [part for part in archive.infolist() if part.compress_type not in METHODS]:
                raise BadVolume(f"the archive is packed by method {odd[0].compress_type}: send a plain .zip")
            size = sum(part.file_size for part in archive.infolist())
            if size > limit:
                raise TooLarge(
                    f"the archive holds {size // 2**20} MiB, the limit is {limit // 2**20} (setting "
                    f"`upload_mb`)"
                )
            archive.extractall(folder)  # it strips roots and '..' from names
    except BROKEN_ZIP as error:
        raise BadVolume(f"the archive cannot be unpacked: {error}; send a plain .zip") from error


def _check_directory(file: BinaryIO) -> None:
    """Refuse a zip that lists millions of files: each becomes an object before anything is unpacked."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # what ZipFile itself reads first
    size = 0 if end is None else end[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if size > DIRECTORY:
        raise TooLarge(
            f"the archive's list of files has {megabytes(size)}, the limit is {megabytes(DIRECTORY)}: send "
            f"fewer files"
        )


def _ending(name: str, endings: Sequence[str]) -> str:
    found = next((end for end in endings if end and name.lower().endswith(end)), None)
    if found is None and ("" not in endings or Path(name).suffix.lower().lstrip(".").isalpha()):
        known = ", ".join(end for end in endings if end)
        raise BadVolume(
            f"a file came as {Path(name).suffix[:20] or 'one without ending'!r}: this route takes {known}"
        )
    return found or ""


class LimitMiddleware:
    """Refuses requests that are longer than they may be, as soon as that is known."""

    def __init__(self, app: ASGIApp, uploads: int) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        upload = headers.get("content-type", "").lower().startswith(KINDS)
        limit = AUTH if scope["path"].startswith("/auth/") else self.uploads if upload else WORDS
        told = headers.get("content-length", "")
        if told.isdigit() and int(told) > limit:
            await _refusal(limit)(scope, receive, send)
            return
        read, answered = 0, False

        async def counted() -> Scope:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return message if read <= limit else {"type": "http.disconnect"}

        async def answer(message: Scope) -> None:
            nonlocal answered
            if read <= limit:
                await send(message)
            elif not answered:
                answered = True
                await _refusal(limit)(scope, receive, send)

        try:
            await self.app(scope, counted, answer)
        except ClientDisconnect:  # of the client itself, to whom nothing can be said any more, or ours
            if read > limit and not answered:
                await _refusal(limit)(scope, receive, send)


def _refusal(limit: int) -> JSONResponse:
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 1024} KiB"
    more = "" if limit in (AUTH, WORDS) else ": the setting `upload_mb` allows more"
    detail = f"the request is longer than {size}{more}"
    return JSONResponse(
        {"error": TooLarge.__name__, "detail": detail},
        status_code=TooLarge.status,
        headers={"Connection": "close"},
    )
