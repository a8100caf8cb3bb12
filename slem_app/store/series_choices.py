"""Which series of a case is which sequence, where a person has chosen it by hand: by whom and when.

    <store>/series/<case>.json

The file holds every choice in the order in which they were made; the last one counts, and one without any
sequence gives the case back to the rules. It is replaced as a whole, so it is there completely or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from slem_app.errors import BadSetting, StorageFailed
from slem_app.files import atomic_file, exclusive
from slem_app.store.labels import file_name
from slem_app.strict_json import parse_object

__all__ = ["SeriesChoice", "SeriesChoices"]

FOLDER = "series"
LARGEST = 2**20  # bytes of a case's file
KEPT = 200  # choices of a case, the latest
LONGEST = 500  # characters of a sequence, an id or a name


@dataclass(frozen=True)
class SeriesChoice:
    """What one person has chosen of one case.

    Raises:
        BadSetting: a text that is too long, one series for two sequences, a time that is none.
    """

    sequences: Mapping[str, str] = field(default_factory=dict)
    """Sequence -> series id; empty id: no series is that sequence. What is not named the rules decide."""
    by: str = ""
    """Who, for people: the user who was logged in, else the reader as their client names them, else where."""
    ts: float = 0.0
    """When, seconds since 1970."""

    def __post_init__(self) -> None:
        texts = (*self.sequences, *self.sequences.values(), self.by)
        if not all(isinstance(text, str) and len(text) <= LONGEST for text in texts):
            raise BadSetting(f"sequences, series and names are texts of at most {LONGEST} characters")
        used = [id for id in self.sequences.values() if id]
        if twice := sorted({id for id in used if used.count(id) > 1}):
            names = " and ".join(name for name, id in self.sequences.items() if id == twice[0])
            raise BadSetting(
                f"series {twice[0]!r} is chosen for {names}: an image is one sequence; choose another "
                f"series for one of them, or none"
            )
        if not math.isfinite(self.ts):
            raise BadSetting(f"a choice is made at a time, got {self.ts}")


class SeriesChoices:
    """The choices of all cases of a store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER

    def of(self, case: str) -> Mapping[str, str]:
        """Sequence -> series id as it counts now, see `SeriesChoice.sequences`; empty: the rules decide all.

        Raises:
            BadSetting: what is kept cannot be read; a wrong series would be used without a word.
        """
        made = self.history(case)
        return dict(made[-1].sequences) if made else {}

    def all(self) -> dict[str, Mapping[str, str]]:
        """The same of every case that has any.

        Raises:
            BadSetting: as `of`.
        """
        cases = [unquote(path.stem) for path in sorted(self.folder.glob("[!.]*.json"))]
        return {case: chosen for case in cases if (chosen := self.of(case))}

    def history(self, case: str) -> tuple[SeriesChoice, ...]:
        """All choices of a case, oldest first.

        Raises:
            BadSetting: what is kept cannot be read.
        """
        path = self._file(case)
        try:
            return _read(path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BadSetting(f"{path} cannot be read: {error.strerror or error}") from error

    def state(self, case: str) -> Hashable:
        """Changes when a choice of the case is made."""
        try:
            seen = self._file(case).stat()
        except OSError:
            return ()
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def choose(self, case: str, choice: SeriesChoice) -> None:
        """Add a choice, which counts from now on.

        Raises:
            BadSetting: what is kept of before cannot be read, and is not written over.
            StorageFailed: the disk refused; the choice of before counts.
        """
        path = self._file(case)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder):
                rows = [asdict(one) for one in (*self.history(case), choice)[-KEPT:]]
                with atomic_file(path) as file:
                    file.write(json.dumps({"choices": rows}, indent=1).encode("utf-8"))
        except OSError as error:
            raise StorageFailed(
                f"the choice of series cannot be saved in {path}: {error.strerror or error}; free some "
                f"space, choose again"
            ) from error

    def _file(self, case: str) -> Path:
        return self.folder / f"{file_name(case)}.json"


def _read(path: Path) -> tuple[SeriesChoice, ...]:
    rows: Any = parse_object(path.read_bytes(), path.name, LARGEST).get("choices")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise BadSetting(f"{path} holds no list of choices: restore it from a backup, or remove it")
    try:
        return tuple(SeriesChoice(dict(row["sequences"]), str(row["by"]), float(row["ts"])) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise BadSetting(
            f"{path} holds a choice that cannot be read ({error}): restore it from a backup"
        ) from error
