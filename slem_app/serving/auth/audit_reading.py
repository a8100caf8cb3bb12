"""What the audit log says, newest first, a page at a time.

The files of months may be large, so they are read from their ends, and one look reads no more than `MOST`
bytes: where nothing fits in them, it says how far it has come, and the next look goes on from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slem_app.errors import BadSetting, StorageFailed

__all__ = ["AuditLine", "AuditPage", "AuditQuery", "read_audit"]

PAGE = 50  # lines
MOST = 32 * 2**20  # bytes that one look reads
PIECE = 2**18
LONGEST = 64 * 2**10  # bytes of a line that is read
KEYS = ("time", "user", "role", "from", "do", "case")
MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
CURSOR = re.compile(r"([0-9]{4}-[0-9]{2}):([0-9]{1,15})")


@dataclass(frozen=True)
class AuditQuery:
    """Which lines are wanted.

    Raises:
        BadSetting: a place to go on from that is none.
    """

    user: str = ""
    """Part of the user's name; empty: all."""
    case: str = ""
    """Part of the case's id."""
    do: str = ""
    """Part of method and route, e.g. 'PUT /datastore'."""
    before: str = ""
    """Where to go on, as a page said; empty: at the newest line."""

    def __post_init__(self) -> None:
        if self.before and not CURSOR.fullmatch(self.before):
            raise BadSetting(
                f"{self.before[:40]!r} is not a position in the audit log: begin at the newest line"
            )

    def fits(self, line: AuditLine) -> bool:
        """Whether a line is wanted."""
        pairs = ((self.user, line.user), (self.case, line.case), (self.do, line.do))
        return all(wanted.casefold() in text.casefold() for wanted, text in pairs)


@dataclass(frozen=True)
class AuditLine:
    """One line of the log."""

    time: str
    """UTC, e.g. '2026-11-25T20:15:03Z'."""
    user: str
    """Who; empty: nobody had to log in, or nobody had."""
    role: str
    """Theirs."""
    place: str
    """The address that the request came from."""
    do: str
    """Method and route."""
    case: str
    """Id; empty: about none."""
    status: int
    """Of the answer."""


@dataclass(frozen=True)
class AuditPage:
    """Lines, the newest first."""

    lines: tuple[AuditLine, ...]
    """`PAGE` at most."""
    older: str
    """`AuditQuery.before` of what follows; empty: that was all."""
    until: str
    """Time of the oldest line that was looked at, where no more were read though there are; else empty."""


def read_audit(folder: Path, query: AuditQuery) -> AuditPage:
    """The newest lines that are wanted.

    Args:
        folder: of the log.
        query: which ones.

    Raises:
        StorageFailed: the log cannot be read.
    """
    lines: list[AuditLine] = []
    place, looked, time, seen = query.before, 0, "", False
    try:
        for place, raw in _backwards(folder, query.before):
            line = _line(raw)
            looked += len(raw) + 1
            if line is not None:
                seen, time = True, line.time
                if query.fits(line):
                    lines.append(line)
            if len(lines) == PAGE:
                return AuditPage(tuple(lines), place, "")
            if looked > MOST:
                return AuditPage(tuple(lines), place, time if seen else "")
    except OSError as error:
        raise StorageFailed(f"the audit log cannot be read: {error.strerror or error}") from error
    return AuditPage(tuple(lines), "", "")


def _backwards(folder: Path, before: str) -> Iterator[tuple[str, bytes]]:
    """Lines from the newest on, each with the place before which to go on."""
    month, _, end = before.partition(":")
    files = [path for path in sorted(folder.glob("*.jsonl"), reverse=True) if MONTH.fullmatch(path.stem)]
    for path in files:
        if before and path.stem > month:
            continue
        size = path.stat().st_size
        stop = min(size, int(end)) if before and path.stem == month else size
        for start, raw in _lines_before(path, stop):
            yield f"{path.stem}:{start}", raw


def _lines_before(path: Path, stop: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of a file's lines that end at `stop` at the latest, the last one first."""
    with path.open("rb") as file:
        rest, begin = b"", stop
        while begin > 0:
            size = min(PIECE, begin)
            begin -= size
            file.seek(begin)
            text = file.read(size) + rest
            if begin > 0 and len(text) > LONGEST + PIECE and b"\n" not in text:
                rest = b""  # no line of ours is so long
                continue
            first, *whole = text.split(b"\n")
            offset = begin + len(text)
            for raw in reversed(whole):
                offset -= len(raw)
                if raw:
                    yield offset, raw
                offset -= 1
            rest = first
        if rest:
            yield 0, rest


def _line(raw: bytes) -> AuditLine | None:
    """A line; None where a crash has torn it."""
    try:
        table = json.loads(raw)
        time, user, role, place, do, case = (str(table[name]) for name in KEYS)
        return AuditLine(time, user, role, place, do, case, int(table["status"]))
    except (ValueError, KeyError, TypeError):
        return None
