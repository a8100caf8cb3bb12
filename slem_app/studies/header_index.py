"""What listing and opening have read of studies, kept in one SQLite file: so that 100,000 studies are listed
in a second or two, and a study is opened without its headers being read again, after a restart too.

Nothing in it is believed without a look: a folder's record holds for the folder's modification time, a
study's headers for a state that their owner makes of all its files or of what the PACS says. The file is a
cache, for its owner alone; it does not say who a patient is. One that is damaged, or of another version, is
made anew; where the disk refuses, everything is read each time, as without an index.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

__all__ = ["INDEX_FILE", "INDEX_FOLDER", "SETTLED", "FolderPass", "HeaderIndex", "settles"]

logger = logging.getLogger(__name__)

INDEX_FOLDER = "index"  # below the folder in which a server keeps its things
INDEX_FILE = "headers.sqlite"
VERSION = 2  # of the tables
# seconds for which a folder must have been left alone: files may be coming yet, and times of files are coarse
SETTLED = 60.0
WAIT = 30.0  # seconds for which another process may hold the file
TABLES = """
CREATE TABLE folders
    (root TEXT, path TEXT, mtime INTEGER, content TEXT, PRIMARY KEY (root, path)) WITHOUT ROWID;
CREATE TABLE studies
    (source TEXT, uid TEXT, state TEXT, headers BLOB, PRIMARY KEY (source, uid));
CREATE TABLE lists (source TEXT PRIMARY KEY, ids BLOB);
"""


class HeaderIndex:
    """The index of one server, for all its threads; other processes may have the same file open.

    Args:
        path: the file; made when something is first kept, with its folder.
        smallest: folders from which on a listing is kept; of fewer it takes longer to keep than to read.
    """

    def __init__(self, path: Path, smallest: int = 0) -> None:
        self.path, self.smallest = path, smallest
        self.guard = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.folders: dict[str, dict[str, tuple[int, Any]]] = {}  # root -> path -> its time, what it held

    @contextmanager
    def listing(self, root: Path) -> Iterator[FolderPass]:
        """One look at all folders below a root: what was read anew is kept, what was not looked at is
        forgotten.
        """
        one = FolderPass(self._records(str(root)))
        yield one
        gone = one.before.keys() - one.now.keys()
        with self.guard:
            self.folders[str(root)] = one.now
        if (one.read or gone) and len(one.now) >= self.smallest:
            rows = [(str(root), path, *_packed(one.now[path])) for path in one.read if path in one.now]
            with self._writing() as base:
                base.executemany(
                    "DELETE FROM folders WHERE root = ? AND path = ?", [(str(root), p) for p in gone]
                )
                base.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", rows)

    def forget(self, root: Path, folder: str) -> None:
        """Read a folder anew at the next look; its record is kept, so that it says what was found amiss."""
        records = self._records(str(root))
        if folder in records:
            with self.guard:
                records[folder] = (0, {**records[folder][1], "whole": True})
            with self._writing() as base:
                row = (str(root), folder, *_packed(records[folder]))
                base.execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", row)

    def _records(self, root: str) -> dict[str, tuple[int, Any]]:
        with self.guard:
            if root not in self.folders:
                rows = self._read("SELECT path, mtime, content FROM folders WHERE root = ?", root)
                self.folders[root] = {path: (mtime, json.loads(content)) for path, mtime, content in rows}
            return self.folders[root]

    def headers(self, source: str, uid: str, state: str) -> dict[str, Any] | None:
        """The headers of a study as they were kept; None where there are none, or of another state."""
        rows = self._read("SELECT state, headers FROM studies WHERE source = ? AND uid = ?", source, uid)
        if not rows or rows[0][0] != state:
            return None
        try:
            return json.loads(zlib.decompress(rows[0][1]))
        except (zlib.error, ValueError):  # a damaged row: the headers are read
            return None

    def keep(self, source: str, uid: str, state: str, headers: Mapping[str, Any]) -> None:
        """Keep the headers of a study.

        Args:
            source: folder or address.
            uid: StudyInstanceUID.
            state: what holds as long as the study does not change.
            headers: JSON can hold them; nothing in them names a patient.
        """
        packed = zlib.compress(json.dumps(headers).encode(), 1)
        with self._writing() as base:
            base.execute("INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?)", (source, uid, state, packed))

    def ids(self, source: str) -> tuple[str, ...] | None:
        """The ids that a source has listed last; None: none are kept."""
        rows = self._read("SELECT ids FROM lists WHERE source = ?", source)
        try:
            return tuple(json.loads(zlib.decompress(rows[0][0]))) if rows else None
        except (zlib.error, ValueError):
            return None

    def keep_ids(self, source: str, ids: Sequence[str]) -> None:
        """Keep what a source lists."""
        packed = zlib.compress(json.dumps(list(ids)).encode(), 1)
        with self._writing() as base:
            base.execute("INSERT OR REPLACE INTO lists VALUES (?, ?)", (source, packed))

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self.guard:
            if self.connection is not None:
                self.connection.close()
                self.connection = None

    def _read(self, question: str, *values: str) -> list[tuple]:
        with self.guard:
            try:
                return self._open().execute(question, values).fetchall() if self.path.exists() else []
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
                return []

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A change of the file, whole or not at all; without one where the disk refuses."""
        with self.guard, ExitStack() as stack:
            try:
                base = self._open()
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
                base = stack.enter_context(closing(sqlite3.connect(":memory:")))
                base.executescript(TABLES)
            try:
                with base:
                    yield base
            except sqlite3.Error as error:
                self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        if self.connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.connection = sqlite3.connect(self.path, timeout=WAIT, check_same_thread=False)
            weakref.finalize(self, self.connection.close)  # where nobody calls `close`
            self.connection.execute("PRAGMA synchronous = NORMAL")
            with self.connection:
                self.connection.execute("BEGIN IMMEDIATE")  # two processes may come at once
                if self.connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    for name in ("folders", "studies", "lists"):
                        self.connection.execute(f"DROP TABLE IF EXISTS {name}")
                    for statement in filter(str.strip, TABLES.split(";")):
                        self.connection.execute(statement)
                    self.connection.execute(f"PRAGMA user_version = {VERSION}")
        return self.connection

    def _give_up(self, error: Exception) -> None:
        """Say what is wrong, and begin a damaged file anew."""
        logger.warning("the index of headers in %s cannot be used: %s", self.path, error)
        with suppress(sqlite3.Error):
            self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


class FolderPass:
    """One look at the folders below a root.

    Args:
        before: path below the root -> its modification time in ns and what it held then.
    """

    def __init__(self, before: dict[str, tuple[int, Any]]) -> None:
        self.before = before
        self.now: dict[str, tuple[int, Any]] = {}
        self.read: list[str] = []  # those that had to be read
        self.begun = time.time()

    def content(
        self, path: str, place: str, read: Callable[[Mapping[str, Any]], tuple[dict[str, Any], float]]
    ) -> Any:
        """What a folder holds: as it is kept, or read.

        Args:
            path: below the root.
            place: the whole path.
            read: reads it, given what was kept before; the content, and for how many seconds the folder must
                have been left alone for it to be kept.
        """
        try:
            mtime = os.stat(place).st_mtime_ns  # noqa: PTH116 twice as quick, and there are 100,000
        except OSError:  # gone, or behind a folder that may not be entered
            return read({})[0]
        kept = self.before.get(path)
        if kept is not None and kept[0] == mtime:
            self.now[path] = kept
            return kept[1]
        content, seconds = read(kept[1] if kept is not None else {})
        if self.begun - mtime / 1e9 > seconds:
            self.now[path] = (mtime, content)
            self.read.append(path)
        elif content.get("whole"):
            self.now[path] = (0, content)
        return content


def settles(entries: Sequence[str], seconds: float = SETTLED) -> float:
    """For how long a folder must have been left alone, so that what was read of it holds; for ever where it
    looks empty: it may be one that could not be read, and permissions change no time.
    """
    return seconds if entries else inf


def _packed(record: tuple[int, Any]) -> tuple[int, str]:
    return record[0], json.dumps(record[1], separators=(",", ":"))
