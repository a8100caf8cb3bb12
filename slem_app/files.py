"""Writing a file whole or not at all, and locks that the kernel keeps.

Invariant: at every moment, kill -9 and power failure included, the path holds either what was there before or
all of the new content. A killed process leaves a hidden part behind, whose name says who wrote it, so that
`sweep` can take it away.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import slem_app
from slem_app.errors import StorageFailed

__all__ = [
    "atomic_file",
    "exclusive",
    "import_path",
    "is_leftover",
    "is_locked",
    "make_folder",
    "replacing",
    "runs",
    "sweep",
    "sync",
    "take_lock",
    "write_json",
    "writer",
]

STALE = 24 * 3600  # seconds after which what a process of another machine has begun counts as left behind
WRITER = re.compile(r"[.-]([0-9a-f]{8})-([0-9]+)-[0-9a-f]+(\.part)?$")

FLOCK = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, process
WHOLE = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # for writing, the whole file


def import_path() -> str:
    """PYTHONPATH for a process of ours, with which it imports this same package, installed or not."""
    here = str(Path(slem_app.__file__).parent.parent)
    return os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write; it takes its name only when the block ends without an error.

    The content goes to a hidden file in the same folder (a rename is atomic only within one file system), is
    flushed to the disk, then renamed.

    Args:
        path: the file to make or to replace; its folder must exist.
        durable: wait until it is on the disk; a file that is sent and removed need not last through a power
            failure.

    Raises:
        StorageFailed: the disk refused (full, read-only, no such folder); what `path` held before is still
            there.
    """
    try:
        with replacing(path, durable) as file:
            yield file
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}. Nothing that was there before is "
            f"lost; free space or fix the permissions, then save again"
        ) from error


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """The same as `atomic_file`, for callers that have words of their own for what the disk says.

    Raises:
        OSError: the disk refused; what `path` held before is still there.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{writer()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            sync(path.parent)
    finally:
        with suppress(OSError):  # gone after the rename; if it cannot be removed, the first error tells more
            part.unlink()


def make_folder(folder: Path, option: str) -> None:
    """Make a folder, and those around it, that a person named with an option of the command line.

    Raises:
        StorageFailed: the disk refused; tells to choose another with that option.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"cannot make the folder {folder}: {error.strerror}; choose another with {option}"
        ) from error


def write_json(table: Mapping[str, object], path: Path) -> Path:
    """Write a table for people and programs, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    with atomic_file(path) as file:
        file.write((json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk: else a power cut may lose a
    rename.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until nobody else is in this block with the same folder or file; a file is made if need be. The
    lock is the kernel's and ends with its holder, so none is ever stale.

    Raises:
        OSError: it cannot be opened or made.
    """
    folder = path.is_dir()
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def writer() -> str:
    """This process, as it stands in the names of files that are not finished: machine and process."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}-{os.getpid()}"


def is_leftover(path: Path) -> bool:
    """True for an unfinished file or folder whose writer is gone: no such process on this machine, or begun a
    day ago.
    """
    found = WRITER.search(path.name)
    if found is None:
        return False
    if found[1] == writer().partition("-")[0] and not runs(int(found[2])):
        return True
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > STALE
    return False


def sweep(folder: Path, deep: bool = True) -> int:
    """Take away the parts that killed processes left in a folder and, if `deep`, below it; how many there
    were.
    """
    gone = [
        path for path in (folder.rglob(".*.part") if deep else folder.glob(".*.part")) if is_leftover(path)
    ]
    for path in gone:
        with suppress(OSError):
            path.unlink()
    return len(gone)


def take_lock(path: Path) -> int | None:
    """Lock a file, which is made if need be; None where somebody holds it.

    The lock belongs to the open file (`fcntl(2)`, "open file description locks"): a child process that
    inherits it holds it too, and it ends with the last of them, so none is ever stale.

    Returns:
        The open file; closing it in every process gives the lock back.

    Raises:
        OSError: the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, WHOLE)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of `take_lock`. Only asks: nobody who wants to take it meanwhile is
    turned away.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, WHOLE)
    finally:
        os.close(handle)
    return struct.unpack(FLOCK, found)[0] != fcntl.F_UNLCK


def runs(process: int) -> bool:
    """Whether there is a process of that id on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
