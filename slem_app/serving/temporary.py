"""Temporary files of the server in a folder of its own: those of a killed server can be taken away."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from pathlib import Path

from slem_app.files import is_leftover, writer

__all__ = ["own_folder"]

NAME = "slem-label"


def own_folder() -> Path:
    """Let all temporary files of this process lie in one new folder; those of servers that are gone are taken
    away.
    """
    common = Path(tempfile.gettempdir())
    for old in common.glob(f"{NAME}-*"):
        if is_leftover(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = common / f"{NAME}-{writer()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    tempfile.tempdir = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
