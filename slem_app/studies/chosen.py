"""Which cases a command is to work on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slem_app.errors import BadStudy
from slem_app.studies.open import open_source
from slem_app.studies.source import StudySource

__all__ = ["ALL", "chosen"]

ALL = ("all",)
"""In place of ids: every case."""


def chosen(path: Path, ids: Sequence[str] = ()) -> tuple[StudySource, tuple[str, ...]]:
    """The cases that a path and ids name.

    Args:
        path: a case's folder, a folder of cases, or FOLDER/ID where a case is no folder of its own.
        ids: cases of that folder, or `ALL`.

    Raises:
        BadStudy: several cases and none named.
        NotFound: no such folder.
    """
    if not path.exists() and path.parent.is_dir() and not ids:
        return open_source(path.parent), (path.name,)
    source = open_source(path)
    known = source.ids()
    if tuple(ids) == ALL:
        return source, known
    if not ids and len(known) != 1:
        raise BadStudy(
            f"{path} holds {len(known)} cases ({', '.join(known[:3])}{', ...' if len(known) > 3 else ''}): "
            f"name the cases that you want, or `all`"
        )
    return source, tuple(ids) or known
