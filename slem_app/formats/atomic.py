"""Writing a file whole or not at all.

Invariant: at every moment, kill -9 and power failure included, the path holds either what was there before or all of the new content.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from slem_app.errors import StorageFailed

__all__ = ["atomic_file"]


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write; it takes its name only when the block ends without an error.

    The content goes to a hidden file in the same folder (a rename is atomic only within one file system), is flushed to the disk, then renamed.

    Args:
        path: the file to make or to replace; its folder must exist.
        durable: wait until it is on the disk; a file that is sent and removed need not last through a power failure.

    Raises:
        StorageFailed: the disk refused (full, read-only, no such folder); what `path` held before is still there.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}. Nothing that was there before is lost; free space or fix the permissions, then save again"
        ) from error
    finally:
        with suppress(OSError):  # gone after the rename; if it cannot be removed, the first error tells more
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
