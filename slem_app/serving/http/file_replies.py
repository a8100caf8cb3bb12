"""Files of the server as replies, and what tells one file from another."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import FileResponse

__all__ = ["FILE", "digest", "file_reply"]

FILE: dict[str, Any] = {
    "response_class": FileResponse,
    "responses": {200: {"content": {"*/*": {}}}},
}
"""How a route says that it answers with a file, of a type that the file's name tells."""


def file_reply(path: str | Path, missing: str, name: str = "") -> FileResponse:
    """A file under its own name, its kind guessed from that.

    Args:
        path: the file.
        missing: what the client is told where it is gone.
        name: under which the client gets it; default: its own.

    Raises:
        HTTPException: 404, there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise HTTPException(404, missing)
    kind = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=name or path.name)


def digest(path: Path, algorithm: str) -> str:
    """A file's digest in hexadecimal digits, by an algorithm that `hashlib` knows."""
    made = hashlib.new(algorithm.lower())
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            made.update(chunk)
    return made.hexdigest()
