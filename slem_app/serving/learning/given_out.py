"""When each case was last given out by a strategy, from the notes on the cases; of very many cases in a
moment, because a note is read again only when its file has changed.
"""

from __future__ import annotations

import os
from urllib.parse import unquote

from slem_app.serving.labels.datastore import CaseDatastore

__all__ = ["GivenOut"]


class GivenOut:
    """The times, for one datastore."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, float]] = {}  # file -> its time and what it said then

    def times(self, datastore: CaseDatastore) -> dict[str, float]:
        """Case -> when it was last given out, seconds since 1970; of those that were."""
        try:
            with os.scandir(datastore.root / "notes") as entries:
                files = [
                    (entry.name, entry.stat().st_mtime_ns)
                    for entry in entries
                    if entry.name.endswith(".json")
                ]
        except FileNotFoundError:
            return {}
        found = {}
        for gone in set(self.seen) - {name for name, _ in files}:
            self.seen.pop(gone, None)
        for name, state in files:
            case = unquote(name.removesuffix(".json"))
            known = self.seen.get(name)
            if known is None or known[0] != state:
                self.seen[name] = known = (state, _latest(datastore, case))
            if known[1]:
                found[case] = known[1]
        return found


def _latest(datastore: CaseDatastore, case: str) -> float:
    """When any strategy gave the case out last; 0 if none did."""
    given = datastore.image_notes(case).get("strategy", {})
    return max((float(note.get("ts", 0)) for note in given.values()), default=0.0)
